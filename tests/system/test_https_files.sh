#!/bin/bash
# SPDX-License-Identifier: MIT
#
# test_https_files.sh BUILD_DIR: examples/https-files as curl and less friendly
# clients (https_client.py) see it. Prints TAP.

set -u

build=${1:?usage: test_https_files.sh BUILD_DIR}
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
server=$build/examples/https-files
# shellcheck source=tests/system/tap.sh
. "$source_dir/tests/system/tap.sh"

if ! command -v curl >/dev/null; then
	echo "1..0 # SKIP no curl"
	exit 0
fi

# ---- Tools -------------------------------------------------------------------

start_server()
{
	local name=$1

	shift
	start "$name" "$server" --root "$tmp/root" --cert "$tmp/cert" \
		--key "$tmp/key" --port 0 --engine cpu --stats "$@"
}

# get PATH OPTION...: the body to $tmp/body, the head to $tmp/head; prints and
# sets the status
get()
{
	local path=$1

	shift
	rm -f "$tmp/body"
	status=$(curl -sS --cacert "$tmp/cert" --path-as-is --max-time 60 \
		-D "$tmp/head" -o "$tmp/body" -w '%{http_code}' "$@" \
		"https://127.0.0.1:$port$path") || return 1
	cat "$tmp/head"
	touch "$tmp/body" # curl makes none for nothing
}

# gets STATUS FILE PATH OPTION...: FILE is what the body must be
gets()
{
	local want=$1 file=$2

	shift 2
	get "$@" && [ "$status" = "$want" ] && cmp "$file" "$tmp/body"
}

# answers STATUS PATH OPTION...
answers()
{
	local want=$1

	shift
	get "$@" && [ "$status" = "$want" ]
}

# field NAME VALUE: the last head has it
field()
{
	local got

	got=$(tr -d '\r' <"$tmp/head" | sed -n "s/^$1: //ip")
	echo "$1: '$got', expected '$2'"
	[ "$got" = "$2" ]
}

# value_of NAME: of that field
value_of()
{
	tr -d '\r' <"$tmp/head" | sed -n "s/^$1: //ip"
}

client()
{
	timeout 60 /usr/bin/python3 "$source_dir/tests/system/https_client.py" "$port" \
		"$@"
}

open_descriptors()
{
	find "/proc/$1/fd" -mindepth 1 | wc -l
}

# ---- What they check ---------------------------------------------------------

range()
{
	local want=$1 skip=$2 count=$3 shown=$4

	tail -c "+$((skip + 1))" "$tmp/root/file" | head -c "$count" \
		>"$tmp/part"
	gets 206 "$tmp/part" /file -r "$want" &&
		field Content-Range "bytes $shown/3333333" &&
		field Content-Length "$count"
}

# Beyond what 32 bits can count: a sparse file.
beyond_4_gib()
{
	printf 'at the end' >"$tmp/part"
	gets 206 "$tmp/part" /sparse -r 5368709120- &&
		field Content-Range "bytes 5368709120-5368709129/5368709130"
}

not_modified()
{
	local etag modified

	get /file && etag=$(value_of ETag) &&
		modified=$(value_of Last-Modified) &&
		gets 304 /dev/null /file -H "If-None-Match: $etag" &&
		gets 304 /dev/null /file -H "If-Modified-Since: $modified" &&
		gets 304 /dev/null /file \
			-H 'If-Modified-Since: Friday, 01-Jan-38 00:00:00 GMT' &&
		gets 304 /dev/null /file \
			-H 'If-Modified-Since: Fri Jan  1 00:00:00 2038' &&
		gets 200 "$tmp/root/file" /file -H 'If-None-Match: "x"' &&
		gets 200 "$tmp/root/file" /file -H 'If-None-Match: "x"' \
			-H "If-Modified-Since: $modified" &&
		gets 200 "$tmp/root/file" /file -H \
			'If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT' &&
		gets 200 "$tmp/root/file" /file -H 'If-Modified-Since: never'
}

if_range()
{
	local etag

	get /file && etag=$(value_of ETag) &&
		answers 206 /file -r 0-9 -H "If-Range: $etag" &&
		answers 206 /file -r 0-9 \
			-H "If-Range: $(value_of Last-Modified)" &&
		answers 200 /file -r 0-9 -H 'If-Range: "older"'
}

ignored_ranges()
{
	local r

	for r in 'bytes=0-1,5-6' 'bytes=9-1' 'lines=1-2' 'bytes=-' 'bytes=x-' \
		'bytes=99999999999999999999-'; do
		gets 200 "$tmp/root/file" /file -H "Range: $r" || return 1
	done
}

# Nothing outside of the root, whatever the way.
inside()
{
	local path

	for path in /../secret /../../../../../etc/passwd /%2e%2e/secret \
		/sub/../../secret /sub%2f..%2f..%2fsecret //etc/passwd \
		/out /outdir/secret /fifo /none /file/ /sub/none; do
		answers 404 "$path" || return 1
	done
	grep -q secret "$tmp/body" && return 1
	answers 400 /file%00.html && answers 400 /%zz && answers 400 /%4
}

keep_alive()
{
	local made

	made=$(curl -sS --cacert "$tmp/cert" -w '%{num_connects} ' \
		-o "$tmp/body" "https://127.0.0.1:$port/file" \
		-o "$tmp/body" "https://127.0.0.1:$port/none" \
		-o "$tmp/body" "https://127.0.0.1:$port/sub/" \
		-o "$tmp/body.1" "https://127.0.0.1:$port/file")
	echo "connections made: $made"
	[ "$made" = "1 0 0 0 " ] && cmp "$tmp/root/file" "$tmp/body.1"
}

# 60 clients, 4 files each.
many_clients()
{
	local i jobs=() bad=0

	for i in $(seq 60); do
		curl -sS --cacert "$tmp/cert" --max-time 60 \
			"https://127.0.0.1:$port/"{file,sub/,file,page.html} \
			>"$tmp/many.$i" 2>&1 &
		jobs+=($!)
	done
	for i in "${jobs[@]}"; do
		wait "$i" || bad=1
	done
	cat "$tmp/root/"{file,sub/index.html,file,page.html} >"$tmp/part"
	for i in $(seq 60); do
		cmp "$tmp/part" "$tmp/many.$i" || bad=1
	done
	rm -f "$tmp"/many.*
	return $bad
}

# One that takes nothing must not hold up others, nor make the server spin.
slow_client()
{
	local job

	client sleepy /big 4 &
	job=$!
	pids+=("$job")
	sleep 1
	idle "$main" && gets 200 "$tmp/root/file" /file && wait $job
}

# Clients that reset the connection while an answer is on its way.
abrupt_clients()
{
	local before

	before=$(open_descriptors "$main")
	client abrupt /big 40 || return 1
	until_true 20 eval \
		"[ \$(open_descriptors $main) -le $before ]" || {
		echo "descriptors: $before, then $(open_descriptors "$main")"
		return 1
	}
	gets 200 "$tmp/root/file" /file
}

# A file of which a part has gone: the client must not take it for complete.
shrinking_file()
{
	local job status

	cp "$tmp/root/big" "$tmp/root/shrinking"
	curl -sS --cacert "$tmp/cert" --limit-rate 4M --max-time 60 \
		-o "$tmp/body" "https://127.0.0.1:$port/shrinking" 2>&1 &
	job=$!
	sleep 0.5
	: >"$tmp/root/shrinking"
	wait $job
	status=$?
	echo "curl's status: $status (18: partial)"
	[ $status -eq 18 ] && grep -q 'has become shorter' "$tmp/main.err"
}

# What is under way ends, with every byte; nothing new begins.
sigterm_during_download()
{
	local job server=$pid name

	for name in 1 2; do
		curl -sS --cacert "$tmp/cert" --limit-rate 12M --max-time 60 \
			-o "$tmp/body.$name" "https://127.0.0.1:$port/big" &
		job+=("$!")
	done
	client sleepy /big 3 &
	job+=("$!")
	sleep 1
	kill -TERM "$server"
	sleep 0.5
	kill -0 "$server" || return 1
	if get /file; then return 1; fi
	for name in "${job[@]}"; do
		wait "$name" || return 1
	done
	cmp "$tmp/root/big" "$tmp/body.1" &&
		cmp "$tmp/root/big" "$tmp/body.2" &&
		until_true 10 eval "! kill -0 $server 2>/dev/null" &&
		wait "$server" && cat "$tmp/drain.err" && [ ! -s "$tmp/drain.err" ]
}

# --grace is over: an end all the same, and a word about what was lost.
sigterm_without_grace()
{
	local server=$pid job

	client sleepy /big 6 >"$tmp/grace.client" 2>&1 &
	job=$!
	sleep 1
	stop "$server" 6 || return 1
	if wait $job; then return 1; fi
	cat "$tmp/grace.err"
	grep -q 'SIGTERM, with [1-9][0-9]* bytes of a file to go' \
		"$tmp/grace.err"
}

# Neither an idle client nor half a request nor one that takes nothing stays.
idle_clients()
{
	client idle && client half && client stuck /big "$tmp/idle.err" &&
		grep -q 'takes no more, with [1-9]' "$tmp/idle.err"
}

no_copies()
{
	local stats copied bytes

	stats=$(tail -n 1 "$tmp/main.out")
	copied=$(sed 's/.*"tx_copied_bytes":\([0-9]*\).*/\1/' <<<"$stats")
	bytes=$(sed 's/.*"tx_bytes":{"cpu":\([0-9]*\).*/\1/' <<<"$stats")
	echo "$copied of $bytes bytes copied: heads alone"
	[ "$bytes" -gt 100000000 ] && [ $((copied * 500)) -lt "$bytes" ]
}

tls12()
{
	gets 200 "$tmp/root/file" /file -v --tls-max 1.2 2>"$tmp/verbose" &&
		grep 'using TLSv1.2 / ECDHE-' "$tmp/verbose"
}

protocols()
{
	echo | openssl s_client -connect "127.0.0.1:$port" -alpn h2,http/1.1 |
		grep -q 'ALPN protocol: http/1.1' || return 1
	if echo | openssl s_client -connect "127.0.0.1:$port" -alpn h2; then
		return 1
	fi
}

# ---- Preparations ------------------------------------------------------------

mkdir -p "$tmp/root/sub" "$tmp/root/empty"
head -c 3333333 /dev/urandom >"$tmp/root/file"
head -c 50000000 /dev/urandom >"$tmp/root/big"
: >"$tmp/root/nothing"
echo '<p>index' >"$tmp/root/sub/index.html"
echo '<p>page' >"$tmp/root/page.html"
echo 'a name' >"$tmp/root/with space & 100%.txt"
truncate -s 5368709120 "$tmp/root/sparse"
printf 'at the end' >>"$tmp/root/sparse"
echo 'secret' >"$tmp/secret"
ln -s ../secret "$tmp/root/out"
ln -s .. "$tmp/root/outdir"
ln -s sub/../file "$tmp/root/in"
mkfifo "$tmp/root/fifo"

start_server main --threads 2 || skip_all_without_io_uring main
main=$pid

# ---- Files -------------------------------------------------------------------

check "a file" gets 200 "$tmp/root/file" /file
check "its length" field Content-Length 3333333
check "its date" field Last-Modified \
	"$(LC_ALL=C TZ=GMT date -r "$tmp/root/file" '+%a, %d %b %Y %T GMT')"
check "a file of 50 MB" gets 200 "$tmp/root/big" /big
for suite in AES256-GCM-SHA384 CHACHA20-POLY1305 AES128-CCM; do
	check "a file with TLS 1.2, $suite" gets 200 "$tmp/root/file" /file \
		--tls-max 1.2 --ciphers ECDHE-ECDSA-$suite
done
check "an empty file" gets 200 "$tmp/root/nothing" /nothing
check "a query is not part of the name" gets 200 "$tmp/root/page.html" \
	'/page.html?v=2'
check "the type of a page" field Content-Type text/html
check "a name with spaces" gets 200 "$tmp/root/with space & 100%.txt" \
	/with%20space%20%26%20100%25.txt
check "a link inside of the root" gets 200 "$tmp/root/file" /in
check "the index of a directory" gets 200 "$tmp/root/sub/index.html" /sub/
check "a directory without its slash" answers 301 /sub
check "is found with one" field Location ./sub/
check "curl follows there" gets 200 "$tmp/root/sub/index.html" /sub -L
check "a directory without an index" answers 404 /empty/
check "HEAD of what is not there" answers 404 /none --head
check "nothing outside of the root" inside

# ---- Ranges and conditions ---------------------------------------------------

check "a range" range 1000000-1999999 1000000 1000000 1000000-1999999
check "a range of one byte" range 0-0 0 1 0-0
check "a range to the end" range 3333000- 3333000 333 3333000-3333332
check "a range beyond the end" range 3333000-9999999 3333000 333 \
	3333000-3333332
check "the last bytes" range -16385 3316948 16385 3316948-3333332
check "more last bytes than there are" range -9999999 0 3333333 0-3333332
check "a range behind 4 GiB" beyond_4_gib
check "a range that is not there" answers 416 /file -r 3333333-
check "and the length to know better" field Content-Range 'bytes */3333333'
check "a range of an empty file" answers 416 /nothing -r 0-
check "other ranges get all" ignored_ranges
check "HEAD has no ranges" answers 200 /file --head -r 0-9
check "if modified, if none match" not_modified
check "if a range is still of the same file" if_range

# ---- Connections and requests ------------------------------------------------

check "one connection for several requests" keep_alive
check "another method" answers 405 /file -X DELETE
check "and which there are" field Allow 'GET, HEAD'
check "a body" answers 413 /file -X GET -d body
check "HTTP/1.0" gets 200 "$tmp/root/file" /file --http1.0
check "whose connection ends" field Connection close
check "application protocols" protocols
check "TLS 1.2" tls12
if /usr/bin/python3 -c 'import ssl' 2>/dev/null; then
	check "HEAD" client head /file
	check "100 requests at once" client pipeline /page.html 100 \
		"$tmp/root/page.html"
	check "a request byte by byte" client trickle /page.html \
		"$tmp/root/page.html"
	check "a request, and close_notify with it" client half_close /big \
		"$tmp/root/big"
	check "requests that are wrong" client wrong
	check "a client that takes nothing for 4 s" slow_client
	check "40 clients that reset the connection" abrupt_clients
fi
check "a file that becomes shorter" shrinking_file
check "60 clients at once" many_clients
check "SIGTERM ends an idle server" stop "$main" 8
check "files were not copied" no_copies
check "nothing is left open" grep -q '"connections_now":0' "$tmp/main.out"

start_server drain
check "SIGTERM during downloads loses nothing" sigterm_during_download
start_server grace --grace 2
check "but not for ever" sigterm_without_grace
start_server idle --idle 1
check "clients that do nothing are left" idle_clients
check "and SIGTERM ends that server" stop "$pid" 8

# ---- Wrong usage -------------------------------------------------------------

flags=(--cert "$tmp/cert" --key "$tmp/key" --port 0)
check "no root" fails 2 'root' "$server" "${flags[@]}"
check "a root that is not there" fails 1 "$tmp/none" "$server" "${flags[@]}" \
	--root "$tmp/none"
check "a root that is a file" fails 1 'Not a directory' "$server" \
	"${flags[@]}" --root "$tmp/root/file"
check "no port" fails 2 'port' "$server" "${flags[@]:0:4}" --root "$tmp/root"
check "no such time-out" fails 2 'idle.*0' "$server" --idle 0
check "an unknown flag" fails 2 'frob' "$server" --frob
check "--help" eval "'$server' --help | grep -q -- --root"

finish
