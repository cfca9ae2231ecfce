#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What a program sees of OpenSSL with the drop-in must be what it sees without:
# twin.c says all of it. twin.sh BUILD_DIRECTORY
set -u

build=$1
# shellcheck source=tests/system/tap.sh
. "$(dirname "$0")/../system/tap.sh"
twin=$build/tests/dropin/twin
dropin=$build/preload/libasynctls-openssl.so

# each line with the case that it belongs to, so that a difference says where
run()
{
	local name=$1

	shift
	env "$@" "$twin" >"$tmp/$name.out" 2>"$tmp/$name.err" || {
		cat "$tmp/$name.err"
		return 1
	}
	awk '/^[^\t]/ { where = $0 } { print where ": " $0 }' \
		"$tmp/$name.out" >"$tmp/$name"
}

same()
{
	local name=$1

	shift
	run "$name" LD_PRELOAD="$dropin" ASYNCTLS_STATS="$tmp/$name.json" \
		"$@" || return 1
	diff "$tmp/without" "$tmp/$name" | head -n 60
	diff -q "$tmp/without" "$tmp/$name" >/dev/null
}

# but for the suite with CBC, of which each connection is left to OpenSSL
taken()
{
	cat "$tmp/gathered.json"
	[[ $(<"$tmp/gathered.json") =~ \"taken\":([0-9]+) ]] &&
		((BASH_REMATCH[1] > 200)) || return 1
	[[ $(<"$tmp/gathered.json") =~ \"declined\":\{\"a\ cipher\ suite ]]
}

check 'without the drop-in' run without _=
check 'with it' same gathered _=
check 'with it, ungathered' same ungathered ASYNCTLS_GATHER=off
check 'with it, by libgcrypt' same gcrypt ASYNCTLS_CPU=gcrypt
check 'connections were taken over' taken
finish
