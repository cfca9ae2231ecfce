#!/bin/bash
# usage: tests/no_ipsec_mb.sh BUILD_DIR
# Where intel-ipsec-mb does not exist the library builds without the CPU engine,
# says so when configured, and a program is told so at run time.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

meson setup "$tmp/build" "$root" -Dipsec-mb=disabled -Dtests=disabled \
	>"$tmp/setup" 2>&1
grep -q 'building without the CPU engine' "$tmp/setup"
meson compile -C "$tmp/build" >"$tmp/compile" 2>&1 ||
	{ cat "$tmp/compile"; exit 1; }
if grep -q 'warning:' "$tmp/compile"; then
	grep 'warning:' "$tmp/compile"
	exit 1
fi

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
	-keyout "$tmp/key" -out "$tmp/cert" -subj /CN=localhost 2>/dev/null
if "$tmp/build/examples/echo-server" --cert "$tmp/cert" --key "$tmp/key" \
	--port 0 --engine cpu >"$tmp/out" 2>&1; then
	echo "the server ran on an engine that is not there"
	exit 1
fi
cat "$tmp/out"
grep -q 'this build has no CPU engine' "$tmp/out"
