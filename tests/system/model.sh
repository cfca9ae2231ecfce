#!/bin/bash
# Verify tests/model/wake.pml, the model of who wakes whom (lib/context/wake.c), in every
# order there is; and that the same model of each known fault fails, so that a
# verification that finds nothing means something. Needs spin and gcc.
set -euo pipefail

model=$(cd "$(dirname "${BASH_SOURCE[0]}")/../model" && pwd)/wake.pml
command -v spin >/dev/null || {
	echo "no spin: scripts/deps test"
	exit 77
}
tmp=$(mktemp -d "${TMPDIR:-/tmp}/asynctls-model.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"

# Go through the model, with -D as given; the verifier's report on stdout.
verify() {
	spin -a "$@" "$model"
	gcc -w -DSAFETY -DMEMLIM=1024 -o pan pan.c # optimizing takes longer
	./pan -m100000
}

errors() {
	sed -n 's/.*errors: \([0-9]*\)$/\1/p' "$1"
}

verify >report
cat report
grep -q 'max search depth too small\|out of memory' report && exit 1
[[ $(errors report) == 0 ]] || {
	echo "not ok - somebody sleeps for ever"
	exit 1
}
states=$(sed -n 's/ *\([0-9]*\) states, stored.*/\1/p' report)
((states > 100000)) || {
	echo "not ok - only $states states: what does the model still do?"
	exit 1
}
for fault in OLD_MARK OLD_WATCH OLD_SENT OLD_REAP; do
	verify "-D$fault" >report
	[[ $(errors report) == 1 ]] || {
		echo "not ok - $fault is not found"
		exit 1
	}
	echo "$fault is found"
done
