#!/bin/bash
# SPDX-License-Identifier: MIT
#
# test_keylog.sh BUILD_DIR: Wireshark follows a captured connection of the echo
# server across KeyUpdates, with the key log that SSLKEYLOGFILE asks for.
# Prints TAP.

set -u

build=${1:?usage: test_keylog.sh BUILD_DIR}
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
bytes=1000000

# shellcheck source=tests/system/tap.sh
. "$source_dir/tests/system/tap.sh"
chmod 755 "$tmp" # dumpcap may drop its rights

skip_all()
{
	echo "1..0 # SKIP $1"
	exit 0
}

# ---- Capture -----------------------------------------------------------------

start_capture()
{
	dumpcap -q -i lo -f "tcp port $port" -B 64 -w "$tmp/pcap" \
		2>"$tmp/capture.err" &
	capture=$!
	pids+=("$capture")
	until_true 20 eval "grep -qs 'File: ' '$tmp/capture.err' ||
		! kill -0 $capture 2>/dev/null"
	kill -0 $capture 2>/dev/null
}

size_grew()
{
	local before=$size

	sleep 0.3
	size=$(stat -c %s "$tmp/pcap")
	[ "$size" -ne "$before" ]
}

# What is in the kernel's buffer yet is not in the file.
stop_capture()
{
	local size=0

	while size_grew; do :; done
	kill -INT $capture
	wait $capture
}

# ---- What Wireshark makes of it ----------------------------------------------

shark()
{
	tshark -r "$tmp/pcap" -o tls.keylog_file:"$1" "${@:2}" 2>"$tmp/shark.err"
}

# The plaintext of both directions as hex, into $tmp/up and $tmp/down.
follow()
{
	shark "$1" -q -z follow,tls,raw,0 >"$tmp/follow"
	sed -n 's/^\([0-9a-f]\+\)$/\1/p' "$tmp/follow" | tr -d '\n' >"$tmp/up"
	sed -n 's/^\t\([0-9a-f]\+\)$/\1/p' "$tmp/follow" | tr -d '\n' \
		>"$tmp/down"
	wc -c "$tmp/up" "$tmp/down"
}

decrypted()
{
	follow "$tmp/keys"
	[ "$(stat -c %s "$tmp/up")" -eq $((2 * bytes)) ] &&
		cmp "$tmp/up" "$tmp/down"
}

sealed_without_keys()
{
	follow /dev/null
	[ ! -s "$tmp/up" ] && [ ! -s "$tmp/down" ]
}

# key_updates FIELD N: at least N go to (tcp.dstport) or from (tcp.srcport) us
key_updates()
{
	local n

	n=$(shark "$tmp/keys" -Y "tls.handshake.type == 24 && $1 == $port" \
		-T fields -e tls.handshake.type | tr ',' '\n' | grep -c '^24$')
	echo "$n KeyUpdates"
	[ "$n" -ge "$2" ]
}

# The library's own lines, numbered from 1. One answer of ours may be to several
# of the client's.
logged()
{
	local label

	cut -d' ' -f1 "$tmp/keys" | sort | uniq -c
	for label in CLIENT_TRAFFIC_SECRET_{0,1,2,3} \
		SERVER_TRAFFIC_SECRET_{0,1}; do
		[ "$(grep -c "^$label " "$tmp/keys")" -eq 1 ] || return 1
	done
}

# ---- Run ---------------------------------------------------------------------

if ! command -v tshark >/dev/null || ! command -v dumpcap >/dev/null; then
	skip_all "no tshark: apt-get install tshark"
fi
export SSLKEYLOGFILE=$tmp/keys
start server "$build/examples/echo-server" --cert "$tmp/cert" \
	--key "$tmp/key" --port 0 --engine cpu ||
	skip_all_without_io_uring server
unset SSLKEYLOGFILE
start_capture || skip_all "nothing can be captured: $(tail -n 1 \
	"$tmp/capture.err")"

check "a client that updates its keys" timeout 60 \
	"$build/tests/openssl_echo" -k 200000 client 127.0.0.1 "$port" $bytes
stop_capture
check "KeyUpdates of the client were captured" key_updates tcp.dstport 3
check "KeyUpdates of ours were captured" key_updates tcp.srcport 1
check "both directions are decrypted to the end" decrypted
check "nothing is without the key log" sealed_without_keys
check "the key log goes on across KeyUpdates" logged

finish
