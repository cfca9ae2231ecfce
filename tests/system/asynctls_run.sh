#!/bin/bash
# usage: tests/system/asynctls_run.sh BUILD_DIR
# asynctls-run runs what it can do something for, as if it had been run by itself,
# refuses the rest with words, and explains. Prints TAP.
# shellcheck disable=SC2086 # as_nobody is several words
set -u
export LC_ALL=C
unset LD_PRELOAD ASYNCTLS_STATS ASYNCTLS_LOG ASYNCTLS_DROPIN ASYNCTLS_GATHER

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$(cd "$1" && pwd)
. "$root/tests/system/tap.sh"

if [ ! -e "$build/preload/libasynctls-openssl.so" ]; then
	echo '1..0 # SKIP no shared library was built'
	exit 0
fi
# where other users can read it
chmod 711 "$tmp"
run=$build/preload/asynctls-run
library=$build/preload/libasynctls-openssl.so
mkdir "$tmp/bin"
cp "$run" "$library" "$tmp/bin"
cc=${CC:-cc}

# compile NAME FLAGS...: a program from standard input
compile() {
	local name=$1

	shift
	$cc -o "$tmp/$name" -x c - -x none "$@" || exit 99
}

# exits STATUS COMMAND...
exits() {
	local status=$1 got

	shift
	timeout 60 "$@" </dev/null
	got=$?
	echo "exit status $got, expected $status"
	[ $got = "$status" ]
}

# prints LINE COMMAND...: on standard output, among others
prints() {
	local line=$1

	shift
	timeout 60 "$@" >"$tmp/prints.out" 2>"$tmp/prints.err" </dev/null
	cat "$tmp/prints.out" "$tmp/prints.err"
	grep -qxF -e "$line" "$tmp/prints.out"
}

script() {
	printf '%s\n' "${@:2}" >"$tmp/$1"
	chmod 755 "$tmp/$1"
}

# ---- Running -----------------------------------------------------------------

compile hello <<'END'
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	printf("%s, %d: %s\n", argv[0], (int)getpid(), argc > 1 ? argv[1] : "");
	return argc > 2 ? atoi(argv[2]) : 0;
}
END
same_process() {
	local pid

	"$run" "$tmp/hello" "a b" >"$tmp/hello.out" &
	pid=$!
	wait $pid || return
	cat "$tmp/hello.out"
	[ "$(cat "$tmp/hello.out")" = "$tmp/hello, $pid: a b" ]
}
preloads() { prints "LD_PRELOAD=$library" "$run" env; }
adds_to_preload() {
	LD_PRELOAD="libc.so.6 libm.so.6" prints \
		"LD_PRELOAD=libc.so.6 libm.so.6:$library" "$run" env
}
in_path() { PATH=$tmp:$PATH exits 5 "$run" hello x 5; }
in_directory() { (cd "$tmp" && PATH=/usr/bin: exits 5 "$run" hello x 5); }
prefers_later_that_runs() {
	mkdir -p "$tmp/dir/hello" "$tmp/not"
	: >"$tmp/not/hello"
	PATH=$tmp/dir:$tmp/not:$tmp:$PATH exits 5 "$run" hello x 5
}
sees_what_the_path_hides() {
	PATH=$tmp/not:$PATH fails 126 'Permission denied' "$run" hello
}
says_where_from() {
	cd "$tmp" || return
	prints "ASYNCTLS_STATS=$tmp/s.%p" "$run" --stats s.%p env
}
library_must_be_there() {
	mkdir -p "$tmp/lonely"
	cp "$run" "$tmp/lonely"
	fails 125 'libasynctls-openssl.so is neither in' \
		"$tmp/lonely/asynctls-run" true
}
library_may_not_have_blanks() {
	mkdir -p "$tmp/a blank"
	cp "$run" "$library" "$tmp/a blank"
	fails 125 'no file with a blank' "$tmp/a blank/asynctls-run" true
}

check 'the program takes its place' same_process
check 'and its exit status is the program'\''s' \
	exits 7 "$run" "$tmp/hello" x 7
check 'the library is preloaded' preloads
check 'behind what is to be preloaded already' adds_to_preload
check 'once, in one that is within another' \
	prints "LD_PRELOAD=$library" "$run" "$run" env
check 'it is found beside the program' \
	prints "LD_PRELOAD=$tmp/bin/libasynctls-openssl.so" \
	"$tmp/bin/asynctls-run" env
check 'nothing is run without it' library_must_be_there
check 'nor with one that the loader would not take' library_may_not_have_blanks
check 'PATH is searched' in_path
check 'an empty part of PATH is this directory' in_directory
check 'what is no program is passed over in PATH' prefers_later_that_runs
check 'but said if nothing else is found' sees_what_the_path_hides
check 'what is nowhere is said' fails 127 'not found in PATH' "$run" no-such-program
check 'and a file that is not there' fails 127 'not found$' "$run" /no/such
check 'a file that cannot be executed is said' \
	fails 126 'Permission denied' "$run" "$tmp/cert"
check '--stats has the whole name' says_where_from
check '--log' prints ASYNCTLS_LOG=/a/log "$run" --log /a/log env
check '--log stderr' prints ASYNCTLS_LOG=stderr "$run" --log stderr env
check '--no-gather' prints ASYNCTLS_GATHER=off "$run" --no-gather env
check '--engine' prints ASYNCTLS_CPU=gcrypt "$run" --engine=gcrypt env
check '--off' prints ASYNCTLS_DROPIN=off "$run" --off env
check 'options of the program are its own' prints --off "$run" echo --off
check '-- ends the options' fails 127 '--off: not found' "$run" -- --off
check 'an engine that is not known is refused' \
	fails 2 'there is ipsec-mb and gcrypt' "$run" --engine rot13 true
check 'and an option' fails 2 'unrecognized option' "$run" --fast true
check 'and none but options' fails 2 'which program' "$run" --off
check '--explain wants one file' \
	fails 2 'without %p' "$run" --explain --stats %p true
check '--help' prints 'usage: asynctls-run [OPTION]... [--] PROGRAM [ARGUMENT]...' \
	"$run" --help

# ---- Programs for which nothing can be done ----------------------------------

static() {
	echo 'int main(void) { return 0; }' |
		$cc -x c -static -o "$tmp/static" - || return
	fails 2 'is linked statically' "$run" "$tmp/static"
}
compile inside -rdynamic <<'END'
int SSL_read(void) { return 0; }
int main(void) { return 0; }
END
compile libssl.so.1.1 -shared -fPIC -Wl,-soname,libssl.so.1.1 <<'END'
int SSL_read(void) { return 0; }
END
compile libuses.so -shared -fPIC "$tmp/libssl.so.1.1" -Wl,-rpath,"$tmp" <<'END'
int SSL_read(void);
int use(void) { return SSL_read(); }
END
compile old "$tmp/libssl.so.1.1" -Wl,-rpath,"$tmp" <<'END'
int SSL_read(void);
int main(void) { return SSL_read(); }
END
compile indirect "$tmp/libuses.so" -Wl,-rpath,"$tmp" -Wl,-rpath-link,"$tmp" <<'END'
int use(void);
int main(void) { return use(); }
END
compile both -Wl,--no-as-needed "$tmp/libuses.so" -lssl -Wl,-rpath,"$tmp" \
	-Wl,-rpath-link,"$tmp" 2>"$tmp/log" <<'END'
int main(void) { return 0; }
END
compile wrapper -rdynamic -Wl,--no-as-needed -lssl <<'END'
int SSL_read(void) { return 0; }
int main(void) { return 0; }
END
compile musl -Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1 <<'END'
int main(void) { return 0; }
END
# byte NAME OFFSET HEX: a copy of hello that has it there
byte() {
	cp "$tmp/hello" "$tmp/$1"
	# shellcheck disable=SC2059
	printf "\\x$3" | dd of="$tmp/$1" bs=1 seek="$2" conv=notrunc status=none
}
byte narrow 4 01
byte foreign 18 2b
byte damaged 40 77 # where its sections are
script to-static "#!$tmp/static" 'true'
script to-script "#!$tmp/to-static"
script to-env "#!/usr/bin/env -S VARIABLE=1 inside -x"
script plain 'exit 6'
script loop "#!$tmp/loop"
script python '#!/usr/bin/env python3' 'import sys' 'print(sys.argv[1])'
in_env() { PATH=$tmp:$PATH fails 2 'inside has an OpenSSL inside' "$run" "$tmp/to-env"; }

check 'a static program is refused' static
check 'one with OpenSSL inside' \
	fails 2 'has an OpenSSL inside' "$run" "$tmp/inside"
check 'not one that stands in front of it' "$run" "$tmp/wrapper"
check 'one with OpenSSL 1.1' fails 2 'uses libssl.so.1.1' "$run" "$tmp/old"
check 'one with a library that has it' \
	fails 2 'uses libssl.so.1.1' "$run" "$tmp/indirect"
check 'even if it has OpenSSL 3, too' fails 2 'uses libssl.so.1.1' "$run" "$tmp/both"
check 'one with musl' fails 2 'is linked with musl' "$run" "$tmp/musl"
check 'one of 32 bits' fails 2 'of 32 bits' "$run" "$tmp/narrow"
check 'one for another machine' \
	fails 2 'for another machine (number 43 ' "$run" "$tmp/foreign"
check 'a script, by its interpreter' \
	fails 2 "static is linked statically" "$run" "$tmp/to-script"
check 'a script, by what env finds' in_env
check 'a script that has no first line is for the shell' \
	exits 6 "$run" "$tmp/plain"
check 'a script that is its own interpreter ends' exits 126 "$run" "$tmp/loop"
check 'a script is run' prints hello "$run" "$tmp/python" hello
check 'the loader is run, as a program' exits 5 "$run" \
	"$(readelf -l "$tmp/hello" | sed -n 's/.*interpreter: \(.*\)\]/\1/p')" \
	"$tmp/hello" x 5
check 'a damaged file is left to the kernel' "$run" "$tmp/damaged" </dev/null

# ---- Privileges --------------------------------------------------------------

as_nobody="setpriv --reuid 65534 --regid 65534 --clear-groups"
bits() {
	cp "$tmp/hello" "$tmp/$1"
	chown "$2" "$tmp/$1"
	chmod "$3" "$tmp/$1"
}
setuid='would run as user'
setgid='would run as group'
privileges() {
	local copy=$tmp/bin/asynctls-run

	bits root 0:0 4755
	bits nobody 65534:65534 4755
	bits group 0:0 2755
	bits nogroup 0:0 2745
	check 'setuid root, by another user' \
		fails 2 "$setuid 0, not 65534" $as_nobody "$copy" "$tmp/root"
	check 'not by root' "$copy" "$tmp/root"
	check 'setuid nobody, by root' \
		fails 2 "$setuid 65534, not 0" "$copy" "$tmp/nobody"
	check 'not by that user' $as_nobody "$copy" "$tmp/nobody"
	check 'setgid' fails 2 "$setgid 0, not 65534" $as_nobody "$copy" "$tmp/group"
	check 'not without the bit for execution' \
		$as_nobody "$copy" "$tmp/nogroup"
	check 'not where privileges are never given' \
		$as_nobody --no-new-privs "$copy" "$tmp/root"
	check 'a privileged interpreter' privileged_script
	check 'a caller who is another one already' other_already
	if bits caps 0:0 755 && setcap cap_net_raw+ep "$tmp/caps" 2>"$tmp/log"; then
		check 'capabilities, by another user' \
			fails 2 'has capabilities' $as_nobody "$copy" "$tmp/caps"
		check 'not by root' "$copy" "$tmp/caps"
	else
		skip 'capabilities' "$(head -1 "$tmp/log")"
	fi
}
privileged_script() {
	script to-root "#!$tmp/root"
	fails 2 "$setuid 0" $as_nobody "$tmp/bin/asynctls-run" "$tmp/to-root"
}
other_already() {
	cp "$tmp/bin/asynctls-run" "$tmp/bin/as-root"
	chmod 4755 "$tmp/bin/as-root"
	fails 2 "$setuid 0, not 65534" $as_nobody "$tmp/bin/as-root" "$tmp/hello"
}
if [ "$(id -u)" != 0 ] || ! command -v setpriv >/dev/null; then
	skip 'privileges' 'only root can make such programs'
elif findmnt -no OPTIONS -T "$tmp" | grep -qw nosuid; then
	skip 'privileges' "$tmp is on a file system without them"
else
	privileges
fi

# ---- Explaining --------------------------------------------------------------

compile leave <<'END'
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static void got(int signal)
{
	printf("left got %d\n", signal);
	fflush(stdout);
	if (signal == SIGTERM)
		_exit(0);
}
int main(int argc, char **argv)
{
	signal(SIGTERM, got);
	signal(SIGUSR1, got);
	if (fork())
		return 3;
	setsid();
	printf("left %d\n", (int)getpid());
	fflush(stdout);
	sleep(argc > 1 ? atoi(argv[1]) : 1000);
	for (;;)
		sleep(1000);
}
END
# shellcheck disable=SC2016
script talk '#!/bin/bash' 'trap "echo got TERM; exit 4" TERM' \
	'trap "echo got USR2" USR2' 'echo ready; while :; do sleep 0.1; done'
# in_background COMMAND...: sets pid, when it has said something
in_background() {
	: >"$tmp/back.out"
	"$run" --explain "$@" >"$tmp/back.out" 2>"$tmp/back.err" &
	pid=$!
	pids+=("$pid")
	until_true 20 test -s "$tmp/back.out"
}
said() { until_true 20 grep -qe "$1" "$tmp/back.$2"; }
ended() { ! kill -0 "$pid" 2>/dev/null; }
gone() { ! kill -0 "$1" 2>/dev/null; }

passes_signals_on() {
	in_background "$tmp/talk" || return
	kill -USR2 "$pid"
	said 'got USR2' out || return
	kill -TERM "$pid"
	wait "$pid"
	[ $? = 4 ] && said 'got TERM' out && said 'no TLS connection' err
}
ends_by_the_same_signal() {
	# shellcheck disable=SC2016
	"$run" --explain sh -c 'kill -KILL $$'
	[ $? = 137 ] || return
	perl -e 'system(@ARGV); exit(($? & 127) == 10 ? 0 : 1)' \
		"$run" --explain sh -c 'kill -USR1 $$'
}
waits_for_daemons() {
	local left

	in_background "$tmp/leave" || return
	left=$(sed -n 's/^left //p' "$tmp/back.out")
	said 'leave has left processes behind' err || return
	kill -0 "$left" && kill -0 "$pid" || return
	kill -TERM "$pid"
	said 'left got 15' out || return
	wait "$pid"
	[ $? = 3 ] && said 'no TLS connection' err
}
may_be_interrupted() {
	local left

	in_background "$tmp/leave" || return
	left=$(sed -n 's/^left //p' "$tmp/back.out")
	pids+=("$left")
	said 'has left processes behind' err || return
	kill -USR1 "$pid"
	said 'left got 10' out || return
	kill -0 "$pid" || return
	kill -USR1 "$pid"
	wait "$pid"
	[ $? = 3 ] && said 'no TLS connection' err && kill -0 "$left"
}
says_nothing_of_what_ends_soon() {
	fails 5 'no TLS connection' "$run" --explain sh -c 'sleep 0.2 & exit 5' ||
		return
	! grep 'left processes behind' "$tmp/fails.err"
}
cleans_up() {
	mkdir -p "$tmp/empty"
	# shellcheck disable=SC2016
	TMPDIR=$tmp/empty "$run" --explain sh -c \
		'test -f "$ASYNCTLS_STATS" && ls "$TMPDIR"' >"$tmp/there" &&
		[ -s "$tmp/there" ] && [ -z "$(ls -A "$tmp/empty")" ]
}
other_users_may_write() {
	$as_nobody "$tmp/bin/asynctls-run" true || return
	# shellcheck disable=SC2016
	"$tmp/bin/asynctls-run" --explain setpriv --reuid 65534 --regid 65534 \
		--clear-groups sh -c \
		'echo >>"$ASYNCTLS_STATS" && ! cat "$ASYNCTLS_STATS"'
}

check '--explain: the exit status is the program'\''s' \
	fails 7 'no TLS connection of OpenSSL 3 was seen' \
	"$run" --explain "$tmp/hello" x 7
check 'refuses as without' fails 2 'has an OpenSSL inside' \
	"$run" --explain "$tmp/inside"
check 'ends by the signal that ends the program' ends_by_the_same_signal
check 'passes signals on' passes_signals_on
check 'waits for daemons, and passes signals on to them' waits_for_daemons
check 'no longer than to the second signal' may_be_interrupted
check 'does not speak of what ends soon' says_nothing_of_what_ends_soon
check 'leaves no file' cleans_up
if [ "$(id -u)" = 0 ]; then
	check 'the file is for other users to write' other_users_may_write
fi

# What the library would have written.
cat >"$tmp/lines" <<'END'
{"pid":10,"started":1,"program":"a","at":"now","taken":1,"declined":{"x":1}}
{"pid":10,"started":1,"program":"a","at":"exit","taken":3,"returned":1,"failed":0,"tx_records":5,"tx_bytes":1234567,"rx_records":1,"rx_bytes":7,"receives":2,"refused_fork":0,"declined":{"the SSL has no descriptor of its own: use SSL_set_fd()":1,"say \"why\" \u001b[1m,\"taken\\\":9":2},"held":{"sends":4,"bytes":9}}
{"pid":10,"started":2,"program":"a","at":"exit","taken":2,"tx_records":1,"tx_bytes":33,"declined":{},"held":{"sends":1}}
{"pid":1,"started":1,"program":"b","at":"exit","taken":0,"declined":{"the SSL has no descriptor of its own: use SSL_set_fd()":4}}
no JSON
{"pid":2,"started"
END
cat >"$tmp/wanted" <<'END'
asynctls-run: 5 connections taken over by 2 processes, 7 not:
  5: the SSL has no descriptor of its own: use SSL_set_fd()
     (the program moves the bytes itself, as HAProxy, Apache, curl and asyncio do: nothing to set)
  2: say "why" ?[1m,"taken\":9
  sent 1.2 MB in 6 records, with 5 sends
  received 7 B in 1 record, with 2 receives
  1 of them went back to OpenSSL later
END
adds_up() {
	# shellcheck disable=SC2016
	"$run" --explain sh -c 'cat "$1" >>"$ASYNCTLS_STATS"' sh "$tmp/lines" \
		2>"$tmp/got" && diff "$tmp/wanted" "$tmp/got"
}
from_now_on() {
	cat "$tmp/lines" >"$tmp/old-stats"
	# shellcheck disable=SC2016
	"$run" --explain --stats "$tmp/old-stats" sh -c \
		'cat "$1" >>"$ASYNCTLS_STATS"' sh "$tmp/lines" 2>"$tmp/got" &&
		diff "$tmp/wanted" "$tmp/got" &&
		[ "$(wc -l <"$tmp/old-stats")" = 12 ]
}
check 'adds up the last line of each process' adds_up
check 'and with --stats what is new' from_now_on


# ---- With the library --------------------------------------------------------

# echo server NAME OPTIONS...: sets pid and port
echo_server() { start "$1" "$echo" "${@:2}" server "$tmp/cert" "$tmp/key"; }
client() { timeout 60 "$@" "$echo" client 127.0.0.1 "$port" 1000000; }
tells() {
	cat "$tmp/tells" "$tmp/said"
	grep -qe "$1" "$tmp/tells"
}
counts() {
	client "$run" --explain --log "$tmp/counts.log" >"$tmp/said" \
		2>"$tmp/tells" || return
	tells '^asynctls-run: 1 connection taken over by 1 process, 0 not$' &&
		tells '^  sent 1.0 MB in [0-9]* records, with [0-9]* sends$' &&
		tells '^  received 1.0 MB in ' && [ ! -s "$tmp/counts.log" ]
}
says_why_not() {
	client "$run" --explain --log "$tmp/why.log" >"$tmp/said" \
		2>"$tmp/tells" || return
	tells '^asynctls-run: 0 connections taken over by 0 processes, 1 not:' &&
		tells '^  1: a cipher suite with CBC' &&
		tells 'have it choose AES-GCM' || return
	cat "$tmp/why.log"
	grep -qE '^asynctls: openssl_echo\[[0-9]+\]: a connection stays with '\
'OpenSSL: a cipher suite with CBC' "$tmp/why.log"
}
says_that_it_is_off() {
	client "$run" --explain --off >"$tmp/said" 2>"$tmp/tells" &&
		tells 'ASYNCTLS_DROPIN is off'
}
# It answers when it has something to do.
asked() {
	client env >"$tmp/log2" 2>&1
	cat "$tmp/log2" "$tmp/live.stats"
	grep -q '"at":"now","taken":[1-9]' "$tmp/live.stats"
}
answers() {
	start live "$run" --stats "$tmp/live.stats" "$echo" server "$tmp/cert" \
		"$tmp/key" || return
	client env || return
	touch "$tmp/live.stats.now"
	until_true 20 asked
}
echo=$build/tests/openssl_echo
if [ -x "$echo" ] && nm -D --defined-only "$library" | grep -q ' SSL_read'; then
	echo_server plain
	check 'explains a connection that was taken over' counts
	check 'or that all were to be left alone' says_that_it_is_off
	echo_server cbc -c ECDHE-ECDSA-AES128-SHA
	check 'explains one that was not, and logs the reason' says_why_not
	check 'a server tells while it runs' answers
fi

finish
