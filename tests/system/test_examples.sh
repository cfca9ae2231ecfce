#!/bin/bash
# SPDX-License-Identifier: MIT
#
# test_examples.sh BUILD_DIR: the examples as users run them, against each
# other and against OpenSSL. Prints TAP.

set -u

build=${1:?usage: test_examples.sh BUILD_DIR}
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
server=$build/examples/echo-server
client=$build/examples/echo-client
openssl_echo=$build/tests/openssl_echo
# shellcheck source=tests/system/tap.sh
. "$source_dir/tests/system/tap.sh"

start_server()
{
	local name=$1

	shift
	start "$name" "$server" --cert "$tmp/cert" --key "$tmp/key" --port 0 \
		--engine cpu --stats "$@"
}

talk()
{
	timeout 120 "$client" --engine cpu --timeout 10 --port "$@"
}

talk_of()
{
	local bytes=$1

	shift
	talk "$@" | tee "$tmp/talk" && grep -q "all $bytes bytes identical" \
		"$tmp/talk"
}

resumes()
{
	talk "$@" --resume | tee "$tmp/talk"
	[ "$(grep -c '^new session$' "$tmp/talk")" -eq 1 ] &&
		[ "$(grep -c '^session resumed$' "$tmp/talk")" -eq 1 ] &&
		[ "$(grep -c ' bytes identical$' "$tmp/talk")" -eq 2 ]
}

many_clients()
{
	local i bad=0 jobs=()

	for i in $(seq "$2"); do
		talk "$1" --bytes $((1000000 + i)) >"$tmp/many.$i" 2>&1 &
		jobs+=($!)
	done
	for i in "${jobs[@]}"; do
		wait "$i" || bad=1
	done
	grep -L identical "$tmp"/many.* | while read -r i; do
		echo "${i##*.}: $(tail -n 1 "$i")"
	done
	[ $bad -eq 0 ]
}

# -quiet implies -ign_eof: s_client stays until it is killed, so that all of
# the answer arrives.
s_client()
{
	local pid size

	size=$(stat -c %s "$tmp/file")
	openssl s_client -quiet -connect "127.0.0.1:$1" >"$tmp/s_client.out" \
		2>"$tmp/s_client.err" < <(cat "$tmp/file"; sleep 30) &
	pid=$!
	pids+=("$pid")
	until_true 20 eval \
		"[ \$(stat -c %s '$tmp/s_client.out') -ge $size ]"
	cmp "$tmp/file" "$tmp/s_client.out"
	local same=$?
	kill "$pid"
	wait "$pid" 2>/dev/null
	return $same
}

# Sends what the network takes, reads nothing for 3 s, then does both.
read_late()
{
	/usr/bin/python3 - "$1" <<-'PYTHON'
	import os, select, socket, ssl, sys, time
	ctx = ssl.create_default_context()
	ctx.check_hostname = False
	ctx.verify_mode = ssl.CERT_NONE
	sock = ctx.wrap_socket(
	    socket.create_connection(("127.0.0.1", int(sys.argv[1]))))
	sock.setblocking(False)
	data, answer, sent = os.urandom(50000000), bytearray(), 0
	start = time.monotonic()
	while len(answer) < len(data):
	    late = time.monotonic() > start + 3
	    select.select([sock] if late else [], [sock], [], 0.1)
	    try:
	        if sent < len(data):
	            sent += sock.send(data[sent:sent + 65536])
	    except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
	        time.sleep(0 if late else 0.05)
	    try:
	        while late:
	            answer += sock.recv(65536)
	    except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
	        pass
	assert data == answer
	PYTHON
}

# It must not hold up others, nor make the server spin.
late_reader()
{
	local job

	read_late "$port" &
	job=$!
	pids+=("$job")
	sleep 1.5
	idle "$main" || return 1
	talk "$port" --bytes 100K || return 1
	wait $job
}

# A ClientHello, and all else of the handshake, one byte per packet.
trickle()
{
	/usr/bin/python3 - "$1" <<-'PYTHON'
	import socket, ssl, sys
	ctx = ssl.create_default_context()
	ctx.check_hostname = False
	ctx.verify_mode = ssl.CERT_NONE
	rx, tx = ssl.MemoryBIO(), ssl.MemoryBIO()
	tls = ctx.wrap_bio(rx, tx)
	sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
	sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
	def drip():
	    for byte in tx.read():
	        sock.sendall(bytes([byte]))
	def call(what, *args):
	    while True:
	        try:
	            result = what(*args)
	            drip()
	            return result
	        except ssl.SSLWantReadError:
	            drip()
	            rx.write(sock.recv(65536))
	call(tls.do_handshake)
	call(tls.write, b"drop by drop")
	answer = b""
	while len(answer) < 12:
	    answer += call(tls.read, 100)
	assert answer == b"drop by drop", answer
	PYTHON
}

# Idle connections take all descriptors; the server must wait, not spin or die.
out_of_descriptors()
{
	local fds=() fd i

	for i in $(seq 60); do
		exec {fd}<>"/dev/tcp/127.0.0.1/$port" || return 1
		fds+=("$fd")
	done
	until_true 10 grep -q 'accept: ' "$tmp/few.err" || return 1
	idle "$pid"
	local quiet=$?
	for fd in "${fds[@]}"; do
		exec {fd}>&-
	done
	[ $quiet -eq 0 ] || return 1
	[ "$(grep -c 'accept: ' "$tmp/few.err")" -eq 1 ] || return 1
	talk "$port" --bytes 100K
}

drain_under_load()
{
	local job status

	talk "$port" --bytes 900G >"$tmp/drain.client" 2>&1 &
	job=$!
	pids+=("$job")
	sleep 1
	stop "$pid" 8
	status=$?
	cat "$tmp/drain.err"
	[ $status -eq 0 ] || return 1
	! grep -q 'bytes unsent' "$tmp/drain.err" || return 1
	wait "$job"
	cat "$tmp/drain.client"
	grep -q 'the server closed after [1-9][0-9]* of' "$tmp/drain.client"
}

stats_are_json()
{
	local line

	line=$(tail -n 1 "$tmp/main.out")
	echo "$line"
	if [ -x /usr/bin/python3 ]; then
		/usr/bin/python3 -m json.tool <<<"$line" >/dev/null || return 1
	fi
	grep -q '^{.*"connections":.*}$' <<<"$line"
}

handshake_failures()
{
	local before

	before=$(grep -c 'handshake: ' "$tmp/main.err")
	openssl s_client -tls1_1 -cipher ALL:@SECLEVEL=0 -connect "127.0.0.1:$port" </dev/null
	printf 'GET / HTTP/1.0\r\n\r\n' >"/dev/tcp/127.0.0.1/$port"
	: >"/dev/tcp/127.0.0.1/$port"
	talk "$port" --bytes 100K || return 1
	cat "$tmp/main.err"
	[ "$(grep -c 'handshake: ' "$tmp/main.err")" -eq $((before + 3)) ]
}

edge_peer()
{
	timeout 60 /usr/bin/python3 "$source_dir/tests/system/edge_peer.py" "$@"
}

# It is no fault of OpenSSL's or of anybody's: the words must not send one
# looking for it.
vanishing_client()
{
	edge_peer vanishes "$port" "$main" || return 1
	until_true 10 grep -q 'went away at once' "$tmp/main.err"
	cat "$tmp/main.err"
	grep -q 'went away at once' "$tmp/main.err" &&
		! grep -q 'write is not finished' "$tmp/main.err"
}

# ---- Preparations ------------------------------------------------------------

make_certificate other-
make_certificate rsa- rsa:2048
head -c 3333333 /dev/urandom >"$tmp/file"
: >"$tmp/empty"
if [ ! -x "$openssl_echo" ]; then
	openssl_echo=$tmp/openssl_echo
	${CC:-cc} -O2 -o "$openssl_echo" "$source_dir/tests/system/openssl_echo.c" \
		-lssl -lcrypto || exit 99
fi

start_server main --threads 2 || skip_all_without_io_uring main
main=$pid
main_port=$port

# ---- Server and client -------------------------------------------------------

for suite in TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 \
	TLS_CHACHA20_POLY1305_SHA256 TLS_AES_128_CCM_SHA256; do
	check "16 MiB with $suite" talk_of 16777216 "$port" --bytes 16M \
		--cipher $suite
	check "the report names $suite" grep -q "$suite" "$tmp/talk"
done
for suite in AES128-GCM-SHA256 AES256-GCM-SHA384 CHACHA20-POLY1305 AES128-CCM \
	AES256-CCM; do
	check "16 MiB with $suite in TLS 1.2" talk_of 16777216 "$port" \
		--bytes 16M --cipher ECDHE-ECDSA-$suite
	check "the report names TLS 1.2" grep -q "TLSv1.2 TLS_ECDHE" "$tmp/talk"
done
check "TLS 1.2" talk_of 1024 "$port" --bytes 1K --tls 1.2
check "a file" talk_of 3333333 "$port" --file "$tmp/file"
check "an empty file" talk_of 0 "$port" --file "$tmp/empty"
check "one byte" talk_of 1 "$port" --bytes 1
check "a depth of 1" talk_of 1048576 "$port" --bytes 1M --depth 1
check "a verified server" talk_of 1024 "$port" --bytes 1K --ca "$tmp/cert"
check "no note when verified" eval "! grep -q note '$tmp/log'"
check "a server that cannot be verified" fails 1 'handshake: ' "$client" \
	--port "$port" --ca "$tmp/other-cert"
check "a second connection resumes" resumes "$port" --bytes 1M
check "50 clients at once" many_clients "$port" 50

# ---- Against OpenSSL ---------------------------------------------------------

check "openssl s_client" s_client "$port"
check "OpenSSL's client" timeout 60 "$openssl_echo" client 127.0.0.1 "$port" \
	5000000
check "OpenSSL's client with 50 KeyUpdates" timeout 60 "$openssl_echo" -k 100000 client 127.0.0.1 "$port" 5000000
for suite in TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 \
	TLS_CHACHA20_POLY1305_SHA256 TLS_AES_128_CCM_SHA256 \
	ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-ECDSA-CHACHA20-POLY1305 \
	ECDHE-ECDSA-AES256-CCM; do
	check "OpenSSL's client with $suite" timeout 60 "$openssl_echo" \
		-c $suite client 127.0.0.1 "$main_port" 2000000
	start openssl "$openssl_echo" -c $suite server "$tmp/cert" "$tmp/key"
	check "OpenSSL's server with $suite" talk_of 4194304 "$port" --bytes 4M
	kill "$pid"
done
start openssl "$openssl_echo" -k 100000 server "$tmp/cert" "$tmp/key"
check "OpenSSL's server with 40 KeyUpdates" talk_of 4194304 "$port" --bytes 4M
kill "$pid"
start rsa "$server" --cert "$tmp/rsa-cert" --key "$tmp/rsa-key" --port 0 \
	--engine cpu
check "OpenSSL's client with a suite of DHE" timeout 60 "$openssl_echo" \
	-c DHE-RSA-AES128-GCM-SHA256 client 127.0.0.1 "$port" 2000000
kill "$pid"
start openssl "$openssl_echo" server "$tmp/rsa-cert" "$tmp/rsa-key"
check "OpenSSL's server with a suite of DHE" talk_of 4194304 "$port" \
	--bytes 4M --cipher DHE-RSA-CHACHA20-POLY1305
kill "$pid"
start openssl "$openssl_echo" server "$tmp/cert" "$tmp/key"
check "a second connection to OpenSSL resumes" resumes "$port" --bytes 1M
kill "$pid"
start s_server openssl s_server -cert "$tmp/cert" -key "$tmp/key" \
	-accept 127.0.0.1:0
check "a server that does not echo" fails 1 'does it echo?' "$client" \
	--port "$port" --bytes 10K --engine cpu
kill "$pid"
check "nobody there" fails 1 'cannot connect' "$client" --port "$port"

# ---- A server under stress ---------------------------------------------------

port=$main_port
check "failed handshakes do no harm" handshake_failures
if /usr/bin/python3 -c 'import ssl' 2>/dev/null; then
	check "a handshake byte by byte" timeout 60 bash -c \
		"$(declare -f trickle); trickle $port"
	check "a client that reads late" late_reader
	check "a forged record, and much behind it: the client hears why" \
		edge_peer forged_record "$port"
	check "a forged ClientHello: the same" edge_peer forged_hello "$port"
	check "a client that stays all the same is left" edge_peer stays "$port"
	check "a client that vanishes is not called unfinished" vanishing_client
	check "a client that does not trust the server says why" edge_peer \
		unknown "$tmp/cert" "$tmp/key" "$client" --ca "$tmp/other-cert"
	check "a client that gets a forged record says so" edge_peer \
		forged_answer "$tmp/cert" "$tmp/key" "$client" --engine cpu
else
	skip "peers that only Python can be" "needs python3"
fi
check "SIGTERM ends an idle server" stop "$main" 8
check "the statistics are JSON" stats_are_json

start_server drain
check "SIGTERM during a transfer" drain_under_load
few() { ulimit -n 40 && exec "$@"; }
start few few "$server" --cert "$tmp/cert" --key "$tmp/key" --port 0 \
	--engine cpu
check "a server out of descriptors" out_of_descriptors
kill "$pid"

# ---- Wrong usage -------------------------------------------------------------

flags=(--cert "$tmp/cert" --key "$tmp/key" --port 0)
check "server: no port" fails 2 'port' "$server" "${flags[@]:0:4}"
check "server: no certificate" fails 2 'cert' "$server" --port 0
check "server: unknown flag" fails 2 'frob' "$server" "${flags[@]}" --frob
check "server: stray word" fails 2 'stray' "$server" "${flags[@]}" stray
check "server: port not a number" fails 2 'port.*8x' "$server" --port 8x
check "server: port too high" fails 2 'port.*65536' "$server" --port 65536
check "server: negative port" fails 2 'port.*-1' "$server" --port -1
check "server: no threads" fails 2 'threads' "$server" --threads 0
check "server: unknown engine" fails 2 'engine.*gpu' "$server" --engine gpu
check "server: certificate file missing" fails 1 "$tmp/none" "$server" \
	--cert "$tmp/none" --key "$tmp/key" --port 0
check "server: key of another certificate" fails 1 'other-key' "$server" \
	--cert "$tmp/cert" --key "$tmp/other-key" --port 0
check "client: no port" fails 2 'port' "$client"
check "client: wrong size" fails 2 'bytes.*5X' "$client" --port 1 --bytes 5X
check "client: size too large" fails 2 'bytes' "$client" --port 1 \
	--bytes 99999999999G
check "client: file and bytes" fails 2 'exclude' "$client" --port 1 \
	--bytes 5 --file "$tmp/file"
check "client: unknown version" fails 2 'tls.*1.4' "$client" --port 1 --tls 1.4
check "client: suite of another version" fails 2 'not of TLS 1.3' "$client" \
	--port 1 --tls 1.3 --cipher ECDHE-ECDSA-AES128-GCM-SHA256
check "client: unknown suite" fails 2 'cipher.*NOPE' "$client" --port 1 \
	--cipher NOPE
check "client: file missing" fails 1 "$tmp/none" "$client" --port 1 \
	--file "$tmp/none"
check "client: --help" eval "'$client' --help | grep -q usage:"
check "server: --help" eval "'$server' --help | grep -q usage:"

finish
