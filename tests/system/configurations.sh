#!/bin/bash
# usage: tests/system/configurations.sh
# What packagers set: one kind of library only, optimization at link time, all of
# Debian's hardening. Each configures with tests, and builds the library without a
# warning, and a program that uses it.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

count=0 failed=0
check() {
	count=$((count + 1))
	if "${@:2}" >"$tmp/log" 2>&1; then
		echo "ok $count - $1"
	else
		echo "not ok $count - $1"
		tail -30 "$tmp/log" | sed 's/^/# /'
		failed=$((failed + 1))
	fi
}

configures() {
	meson setup "$tmp/$1" "$root" -Dtests=enabled --werror "${@:2}" \
		>"$tmp/$1.setup" 2>&1 || { cat "$tmp/$1.setup"; return 1; }
}
builds() {
	ninja -C "$tmp/$1" "${@:2}" examples/echo-client tests/test_secret &&
		"$tmp/$1/examples/echo-client" --help &&
		"$tmp/$1/tests/test_secret"
}
has() { [[ -e $tmp/$1 ]]; }
has_not() { [[ ! -e $tmp/$1 ]]; }
leaves_out_wrapped_tests() {
	grep -q 'no test_limits: .*--wrap' "$tmp/lto/meson-logs/meson-log.txt"
}

# Not optimized: it is half the time, and what is built is the same.
check 'a shared library alone configures' \
	configures shared --buildtype plain -Ddefault_library=shared
check '... and builds' builds shared
check '... without an archive' has_not shared/lib/libasynctls.a
check 'an archive alone configures' \
	configures static --buildtype plain -Ddefault_library=static
check '... and builds' builds static lib/libasynctls.a
check '... without a shared library' has_not static/lib/libasynctls.so
hardened=$(DEB_BUILD_MAINT_OPTIONS=hardening=+all \
	dpkg-buildflags --get CFLAGS 2>/dev/null) || hardened=-fstack-protector-strong
check '-O3, -flto and hardening in c_args configure' \
	configures lto --buildtype plain \
	-Dc_args="$hardened -D_FORTIFY_SOURCE=2 -O3 -flto=auto" \
	-Dc_link_args='-flto=auto -Wl,-z,relro -Wl,-z,now'
check '... says that tests with --wrap are left out' leaves_out_wrapped_tests
check '... and builds' builds lto lib/libasynctls.a
check '... both kinds' has lto/lib/libasynctls.so
echo "1..$count"
((failed == 0))
