#!/bin/bash
# usage: tests/system/manual.sh BUILD_DIR
# Every call that the shared library exports is in the header and in the manual,
# with the same prototype, and nothing else is; and asynctls-run has the options
# that its manual has. Prints TAP.
set -euo pipefail
export LC_ALL=C

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$(cd "$1" && pwd)
library=$build/lib/libasynctls.so
page=$root/man/asynctls.3
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

count=0 failed=0
check() {
	count=$((count + 1))
	if "${@:2}" >"$tmp/log" 2>&1; then
		echo "ok $count - $1"
	else
		echo "not ok $count - $1"
		sed 's/^/# /' "$tmp/log"
		failed=$((failed + 1))
	fi
}

# White space as in "int tls_name(struct a **b, int c)", a line each, sorted.
normal() {
	sed -E 's/[[:space:]]+/ /g; s/ ?\* ?/*/g; s/([^*( ])\*/\1 */g
		s/ ?([(),]) ?/\1/g; s/,/, /g; s/^ //; s/ $//' | sort
}

exported() {
	nm -D --defined-only "$library" |
		sed -nE 's/.* asynctls_([a-z_]+).*/tls_\1/p' | sort
}

# What the compiler sees; the symbol is the call's name with another prefix. The
# manual has the names of OpenSSL's types that people know.
in_header() {
	"${CC:-cc}" -E -P -x c "$root/include/asynctls.h" | tr '\n' ' ' |
		tr ';' '\n' | sed -nE \
		's/^(.* \**tls_([a-z_]+)\(.*\)) *__asm__\("asynctls_" "\2"\).*/\1/p' |
		sed 's/struct ssl_st/SSL/; s/struct ssl_ctx_st/SSL_CTX/' |
		normal
}

# .Ft TYPE, then .Fn NAME "ARGUMENT" ..., in the synopsis.
in_synopsis() {
	sed -n '/^\.Sh SYNOPSIS/,/^\.Sh DESCRIPTION/p' "$page" | awk '
		/^\.Ft / { type = substr($0, 5); gsub(/"/, "", type) }
		/^\.Fn / {
			name = $2
			sub(/^\.Fn [a-z_]+ */, "")
			gsub(/" +"/, ", "); gsub(/"/, "")
			print type " " name "(" $0 ")"
		}' | normal
}

names() { sed -E 's/.*[ *](tls_[a-z_]+)\(.*/\1/' | sort; }

in_name() {
	sed -n '/^\.Sh NAME/,/^\.Nd/s/^\.Nm \([a-z_]*\).*/\1/p' "$page" | sort
}

# Explained, that is: named behind the synopsis.
explained() {
	sed '1,/^\.Sh DESCRIPTION/d' "$page" |
		sed -nE 's/^\.Fn (tls_[a-z_]+).*/\1/p' | sort -u
}

# The lines < and > of diff say which side lacks what.
same() { diff "$tmp/$1" "$tmp/$2"; }
none_missing() { ! comm -23 "$tmp/$1" "$tmp/$2" | grep .; }
some() { (($(wc -l <"$tmp/exported") > 30)); }

# What stands behind each option, too, in lower case.
run_has() {
	"$build/preload/asynctls-run" --help | sed 's/, /\n  /' |
		tr '[:upper:]' '[:lower:]' |
		sed -nE 's/^  (--[a-z-]+)( ([a-z]+) | |$).*/\1 \3/p' |
		sed 's/ $//' | sort
}
run_explains() {
	sed -nE 's/^\.It Fl -([a-z-]+)( Ar ([a-z]+))?/--\1 \3/p' \
		"$root/man/asynctls-run.1" | sed 's/ $//'
	printf -- '%s\n' --help --version
}

if [[ ! -e $library ]]; then
	echo '1..0 # SKIP no shared library was built'
	exit 0
fi
exported >"$tmp/exported"
in_header >"$tmp/header"
in_synopsis >"$tmp/synopsis"
names <"$tmp/header" >"$tmp/header.names"
in_name >"$tmp/name"
explained >"$tmp/explained"

check 'there are calls to look at' some
check 'the header has what is exported' same exported header.names
check 'the manual has the prototypes of the header' same header synopsis
check 'its first lines name every call' same exported name
check 'its text explains every call' none_missing exported explained
if [[ -e $build/preload/asynctls-run ]]; then
	run_has >"$tmp/run.has"
	run_explains | sort >"$tmp/run.explained"
	check 'asynctls-run has the options of its manual' \
		same run.has run.explained
fi
echo "1..$count"
((failed == 0))
