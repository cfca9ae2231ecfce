#!/bin/bash
# tests/unit/test_gate.c makes every call that the library exports.
set -euo pipefail

build=$1
exported=$(nm -D --defined-only "$build/lib/libasynctls.so" |
	sed -n 's/.* T asynctls_\([a-z0-9_]*\).*/\1/p' | sort)
made=$("$build/tests/test_gate" --names | sort)

if [[ $exported != "$made" ]]; then
	echo "not ok - exported (<) is not what tests/unit/test_gate.c calls (>):"
	diff <(echo "$exported") <(echo "$made") || true
	exit 1
fi
count=$(wc -l <<<"$made")
echo "$count calls compared"
((count > 30))
