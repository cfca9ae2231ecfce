#!/bin/bash
# The tests that docs/protocol.md names are there: words between backquotes, in
# the last column of its tables.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
checked=0 wrong=0

# shellcheck disable=SC2016	# backquotes as such
while read -r name; do
	checked=$((checked + 1))
	if [[ $name == *.sh ]]; then
		[[ -x $root/tests/system/$name ]] && continue
	elif grep -qE "[^a-z0-9_]$name\(void" "$root"/tests/{unit,vm}/*.c; then
		continue
	fi
	echo "not ok - docs/protocol.md names $name, which is no test"
	wrong=$((wrong + 1))
done < <(sed -n 's/^|.*|\(.*\)|$/\1/p' "$root/docs/protocol.md" |
	grep -oE '`([a-z0-9_]+|[a-z0-9_]+\.sh)`' | tr -d '`' | sort -u)

echo "$checked names checked, $wrong wrong"
((wrong == 0 && checked > 50))
