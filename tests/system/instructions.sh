#!/bin/bash
# usage: tests/system/instructions.sh BUILD_DIR
# A sealed record of 16 KiB costs at most 3,000 instructions outside the AEAD:
# bulk data through tls_write() under callgrind, less what libIPSec_MB or
# libgcrypt executes. (With that alone 3,500: it has no handle between records.)
set -euo pipefail

program=$1/bench/bench-asynctls
most=3000
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# Counting begins and ends with each tls_write(); the peer has none. What the
# loader resolves, once, is no record's.
LD_BIND_NOW=1 valgrind --tool=callgrind --toggle-collect=asynctls_write \
	--callgrind-out-file="$tmp/%p" \
	"$program" send --ms 700 --cpu 0 --peer-cpu 0 \
	>"$tmp/result" 2>"$tmp/err" || {
	cat "$tmp/err"
	if grep -q 'no CPU engine' "$tmp/err"; then
		exit 77
	fi
	exit 1
}
records=$(grep -o '"tx_records":{"cpu":[0-9]*' "$tmp/result" | grep -o '[0-9]*$')
counted=
for counted in "$tmp"/[0-9]*; do
	grep -q '^summary: 0$' "$counted" || break
done
callgrind_annotate --auto=no --threshold=100 "$counted" 2>/dev/null |
	tr -d ',' | awk -v records="$records" -v most="$most" '
	/PROGRAM TOTALS/ { all = $1 }
	/libIPSec_MB|libgcrypt/ { aead += $1 }
	/libgcrypt/ { most = 3500 }
	END {
		if (!all || !aead || !records) {
			print "nothing was counted"
			exit 1
		}
		each = (all - aead) / records
		printf "%d records: %d instructions each outside the AEAD, " \
			"at most %d\n", records, each, most
		exit each > most
	}'
