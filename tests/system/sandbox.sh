#!/bin/bash
# SPDX-License-Identifier: MIT
#
# sandbox.sh BUILD_DIR: the examples where system calls are refused, as in
# containers (sandbox.c): they serve every byte, and say which way they took,
# and why. The servers' contexts are loops, the client's has a worker. Prints TAP.

set -u

build=${1:?usage: sandbox.sh BUILD_DIR}
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
examples=$build/examples
# shellcheck source=tests/system/tap.sh
. "$source_dir/tests/system/tap.sh"
unset ASYNCTLS_IO ASYNCTLS_CPU

if [ ! -x "$build/tests/sandbox" ]; then
	echo "1..0 # SKIP built without libseccomp (libseccomp-dev)"
	exit 0
fi

# inside RULE...: what start() is to run a command behind from now on
sandbox=()
inside()
{
	sandbox=("$build/tests/sandbox" "$source_dir/tests/system/moby.profile"
		"$@" --)
}

# io_uring WHAT: rules for its three system calls
io_uring()
{
	printf 'io_uring_%s ' "setup=$1" "enter=$1" "register=$1"
}

says()
{
	cat "$tmp/server.out" "$tmp/server.err"
	grep -q "$1" "$tmp/server.out"
}

echoes()
{
	timeout 60 "${sandbox[@]}" "$examples/echo-client" --timeout 20 \
		--port "$port" --bytes 5M | tee "$tmp/talk"
	grep -q 'all 5242880 bytes identical' "$tmp/talk"
}

gets()
{
	curl -sS --cacert "$tmp/cert" --max-time 60 -o "$tmp/body" \
		"https://127.0.0.1:$port/file" && cmp "$tmp/root/file" "$tmp/body"
}

many_get()
{
	local i jobs=() bad=0

	for i in $(seq 20); do
		curl -sS --cacert "$tmp/cert" --max-time 60 \
			-o "$tmp/many.$i" "https://127.0.0.1:$port/file" &
		jobs+=($!)
	done
	for i in "${jobs[@]}"; do wait "$i" || bad=1; done
	for i in $(seq 20); do
		cmp "$tmp/root/file" "$tmp/many.$i" || bad=1
	done
	return $bad
}

# serve NAME WORDS FLAG...: both examples, inside of the sandbox
serve()
{
	local name=$1 words=$2

	shift 2
	check "$name: echo-server starts" start server "${sandbox[@]}" \
		"$examples/echo-server" --cert "$tmp/cert" --key "$tmp/key" \
		--port 0 "$@"
	check "... and says its way, and why" says "$words"
	check "... it echoes every byte" echoes
	check "... and ends" stop "$pid" 8
	check "$name: https-files starts" start server "${sandbox[@]}" \
		"$examples/https-files" --cert "$tmp/cert" --key "$tmp/key" \
		--port 0 --root "$tmp/root" "$@"
	check "... and says its way, and why" says "$words"
	if command -v curl >/dev/null; then
		check "... it serves a file" gets
		check "... and 20 at a time" many_get
	else
		skip "... it serves a file" "no curl"
	fi
	check "... and ends" stop "$pid" 8
}

without_a_profile_it_is_io_uring()
{
	start server "$examples/echo-server" --cert "$tmp/cert" \
		--key "$tmp/key" --port 0 && says '^sockets: io_uring' &&
		stop "$pid" 8
}

mkdir "$tmp/root"
head -c 3333333 /dev/urandom >"$tmp/root/file"

inside
if ! "${sandbox[@]}" true; then
	echo "1..0 # SKIP no seccomp filters here"
	exit 0
fi
check 'the profile allows what is harmless' "${sandbox[@]}" \
	mkdir "$tmp/root/harmless"
check '... and no namespace' fails 1 'Operation not permitted' \
	"${sandbox[@]}" unshare --user true
why='poll; not io_uring: '
serve 'as moby does from 29.4 on' "$why.*seccomp"
inside AF_ALG=allow
serve 'as moby 25 does' "$why.*seccomp"
inside AF_ALG=EAFNOSUPPORT
serve 'with a kernel without AF_ALG' "$why.*seccomp"
# shellcheck disable=SC2046	# one word a rule
inside $(io_uring ENOSYS)
serve 'as if there were none' "$why.*CONFIG_IO_URING"
# shellcheck disable=SC2046
inside $(io_uring EOPNOTSUPP) AF_ALG=allow
serve 'with another error' "$why"
inside io_uring_setup=allow io_uring_enter=allow AF_ALG=allow
serve 'without io_uring_register alone' "$why"
inside io_uring_setup=allow io_uring_register=allow AF_ALG=allow
serve 'without io_uring_enter alone' "$why"
# who asks for io_uring, and cannot have it, hears why
inside
export ASYNCTLS_IO=uring
check 'ASYNCTLS_IO=uring is refused with words' fails 1 'io_uring.*seccomp' \
	"${sandbox[@]}" "$examples/echo-server" --cert "$tmp/cert" \
	--key "$tmp/key" --port 0
unset ASYNCTLS_IO
# ... and has it where the profile is told to allow it
if without_a_profile_it_is_io_uring >/dev/null; then
	# shellcheck disable=SC2046
	inside $(io_uring allow)
	serve 'with a profile that allows io_uring' '^sockets: io_uring'
else
	skip 'with a profile that allows io_uring' 'no io_uring here'
fi
finish
