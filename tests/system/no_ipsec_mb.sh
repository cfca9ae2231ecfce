#!/bin/bash
# usage: tests/system/no_ipsec_mb.sh BUILD_DIR
# Where intel-ipsec-mb does not exist the library builds with libgcrypt alone,
# and it carries what an echo server is sent; with neither it does not configure.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
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
	-Dtests=disabled --optimization=1 -Ddebug=false \
	>"$tmp/setup" 2>&1 || fail "setup" "$tmp/setup"
nice ninja -C "$tmp/build" >"$tmp/compile" 2>&1 ||
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

# In FIPS mode libgcrypt seals with no nonce of one's own, and has no ChaCha20.
if LIBGCRYPT_FORCE_FIPS_MODE=1 serve >"$tmp/out" 2>&1; then
	fail "the server ran on libgcrypt in FIPS mode"
fi
grep 'gcrypt: .*FIPS mode' "$tmp/out" || fail "the reason is missing" "$tmp/out"

mkfifo "$tmp/in"
serve >"$tmp/out" 2>&1 <"$tmp/in" &
server=$!
exec 9>"$tmp/in"
port=
for _ in $(seq 100); do
	port=$(sed -nE 's/^listening on .*:([0-9]+)$/\1/p' "$tmp/out")
	[[ $port ]] && break
	sleep 0.1
done
[[ $port ]] || fail "the server does not listen" "$tmp/out"
for cipher in TLS_AES_128_GCM_SHA256 TLS_CHACHA20_POLY1305_SHA256 \
	TLS_AES_128_CCM_SHA256 ECDHE-ECDSA-AES256-GCM-SHA384; do
	timeout 60 "$tmp/build/examples/echo-client" --engine cpu --port "$port" \
		--cipher "$cipher" --bytes 2M \
		>"$tmp/client" 2>&1 || fail "$cipher" "$tmp/client" "$tmp/out"
	grep -q 'identical' "$tmp/client" || fail "$cipher" "$tmp/client"
	echo "$cipher: $(grep identical "$tmp/client")"
done
grep -q 'cpu, libgcrypt' "$tmp/out" ||
	fail "the server does not say what it runs on" "$tmp/out"
