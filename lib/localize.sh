#!/bin/sh
# usage: lib/localize.sh IN.a OUT.a OBJCOPY AR CC...
# Make one object of an archive, with the public symbols global and no others.
set -eu

in=$1 out=$2 objcopy=$3 ar=$4
shift 4
object=${out%.a}.o
"$@" -r -nostdlib -o "$object" -Wl,--whole-archive "$in"
"$objcopy" --wildcard --keep-global-symbol='asynctls_*' "$object"
rm -f "$out"
"$ar" rcs "$out" "$object"
rm -f "$object"
