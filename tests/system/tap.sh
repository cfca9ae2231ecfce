# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# What test scripts share; to be sourced. Prints TAP. Defines tmp, a directory
# for the script's files with a certificate in it (cert, key), and counts.

tmp=$(mktemp -d)
tests=0
failed=0
pids=() # of what runs in the background, to be killed at the end

cleanup()
{
	local pid

	for pid in "${pids[@]}"; do
		kill -9 "$pid" 2>/dev/null
	done
	rm -rf "$tmp"
}
trap cleanup EXIT

# check NAME COMMAND...: one test; what the command printed explains a failure
check()
{
	local name=$1

	shift
	tests=$((tests + 1))
	if "$@" >"$tmp/log" 2>&1; then
		echo "ok $tests - $name"
	else
		echo "not ok $tests - $name"
		sed 's/^/# /' "$tmp/log"
		failed=$((failed + 1))
	fi
}

skip()
{
	tests=$((tests + 1))
	echo "ok $tests - $1 # SKIP $2"
}

# The plan, and the exit status.
finish()
{
	echo "1..$tests"
	[ $failed -eq 0 ]
}

# until_true SECONDS COMMAND...
until_true()
{
	local end=$((SECONDS + $1))

	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.05
	done
}

# start NAME COMMAND...: in the background; sets pid and port
start()
{
	local name=$1

	shift
	: >"$tmp/$name.out" # of another server of that name
	"$@" >>"$tmp/$name.out" 2>"$tmp/$name.err" <"$tmp/open" &
	pid=$!
	pids+=("$pid")
	until_true 20 said_or_gone "$tmp/$name.out"
	port=$(sed -nE 's/^(listening on|ACCEPT) .*:([0-9]+)$/\2/p' \
		"$tmp/$name.out")
	[ -n "$port" ]
}

said_or_gone()
{
	grep -qE '^(listening on|ACCEPT) ' "$1" || ! kill -0 "$pid" 2>/dev/null
}

# The whole script is skipped where server NAME cannot start for want of
# io_uring.
skip_all_without_io_uring()
{
	if grep -q io_uring "$tmp/$1.err"; then
		echo "1..0 # SKIP no io_uring: $(cat "$tmp/$1.err")"
		exit 0
	fi
	cat "$tmp/$1.err" >&2
	exit 99
}

# stop PID SECONDS: returns the exit status after SIGTERM
stop()
{
	kill -TERM "$1" || return 1
	until_true "$2" eval "! kill -0 $1 2>/dev/null" || {
		echo "still running after $2 s"
		return 1
	}
	wait "$1"
}

# fails STATUS WORDS COMMAND...: exits so and says so on stderr
fails()
{
	local status=$1 words=$2 got

	shift 2
	timeout 60 "$@" >"$tmp/fails.out" 2>"$tmp/fails.err" </dev/null
	got=$?
	cat "$tmp/fails.out" "$tmp/fails.err"
	echo "exit status $got, expected $status with '$words'"
	[ $got -eq "$status" ] && grep -qe "$words" "$tmp/fails.err"
}

ticks()
{
	awk '{ print $14 + $15 }' "/proc/$1/stat"
}

# idle PID: uses next to no CPU time for a second
idle()
{
	local before after

	before=$(ticks "$1")
	sleep 1
	after=$(ticks "$1")
	echo "$((after - before)) ticks of CPU time in a second"
	[ $((after - before)) -lt 20 ]
}

# make_certificate PREFIX [KIND]: PREFIXcert and PREFIXkey, for localhost
make_certificate()
{
	local kind=(ec -pkeyopt ec_paramgen_curve:prime256v1)

	if [ $# -gt 1 ]; then kind=("$2"); fi
	openssl req -x509 -newkey "${kind[@]}" -nodes -keyout "$tmp/$1key" -out "$tmp/$1cert" \
		-days 2 -subj /CN=localhost \
		-addext subjectAltName=DNS:localhost,IP:127.0.0.1 2>/dev/null ||
		exit 99
}

mkfifo "$tmp/open"
exec 9<>"$tmp/open" # a standard input that never ends
make_certificate ""
