#!/bin/bash
# usage: tests/no_ipsec_mb.sh BUILD_DIR
# Where intel-ipsec-mb does not exist the library builds with libgcrypt alone,
# and it carries what an echo server is sent; with neither it does not configure.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tmp=$(mktemp -d)
server=
trap '[[ ! $server ]] || kill "$server"; rm -rf "$tmp"' EXIT

fail() {
	echo "$1"
	cat "${@:2}"
	exit 1
}

if ! pkg-config --exists libgcrypt; then
	echo "skipped: no libgcrypt to build with"
	exit 77
fi
if meson setup "$tmp/none" "$root" -Dipsec-mb=disabled -Dgcrypt=disabled \
	-Dtests=disabled >"$tmp/none.setup" 2>&1; then
	fail "a build without any CPU engine configured"
fi
grep -q 'no CPU engine: install libgcrypt' "$tmp/none.setup" ||
	fail "a build without any CPU engine is refused without the reason" \
		"$tmp/none.setup"

meson setup "$tmp/build" "$root" -Dipsec-mb=disabled -Dgcrypt=enabled \
	-Dtests=disabled >"$tmp/setup" 2>&1 || fail "setup" "$tmp/setup"
meson compile -C "$tmp/build" >"$tmp/compile" 2>&1 ||
	fail "compile" "$tmp/compile"
if grep 'warning:' "$tmp/compile"; then
	exit 1
fi

# A name that is asked for all the same is refused with the reason.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
	-keyout "$tmp/key" -out "$tmp/cert" -subj /CN=localhost 2>/dev/null
serve() {
	"$tmp/build/examples/echo-server" --cert "$tmp/cert" --key "$tmp/key" \
		--port 0 --engine cpu
}
if ASYNCTLS_CPU=ipsec-mb serve >"$tmp/out" 2>&1; then
	fail "the server ran on an engine that is not there"
fi
grep 'ASYNCTLS_CPU=ipsec-mb: .*configured without' "$tmp/out" ||
	fail "the reason is missing" "$tmp/out"
