#!/bin/bash
# The parts of lib/ are on levels, and a file includes headers of lower levels
# only (a .c file its own header too). Checked from the #include lines.
set -euo pipefail

lib=$(cd "$(dirname "${BASH_SOURCE[0]}")/../lib" && pwd)

declare -A level=(
	[asynctls]=-1 [util]=0 [error]=0 [thread]=0 [cipher]=0 [engine]=1
	[record]=1 [pool]=1 [ring]=1 [sized]=1 [source]=1 [secret]=1 [keylog]=1
	[stats]=2 [descriptor]=1 [alarm]=2
	[known_answer]=1 [keys]=2 [own]=0 [engine_ipsec_mb]=2
	[engine_gcrypt]=2 [engine_cpu]=3
	[afalg_socket]=2 [engine_afalg]=3 [afalg_probe]=4
	[queue]=3 [feed]=3 [hybrid]=0 [dispatch]=4 [core]=5
	[ticket]=3
	[tx]=6 [rx]=6 [conn]=7 [follow]=2 [handoff]=3 [choice]=4
	[wake]=8 [ctx]=9 [ctx_life]=10 [worker]=8 [takeover]=10
	[call]=10 [call_read]=11 [call_write]=11
)
# What joins two parts that know each other: the header of the one is for the
# source of the other.
declare -A also=(
	[feed.c:rx]=1 [ctx.c:worker]=1 [worker.c:ctx]=1 [engine_afalg.c:afalg_probe]=1
)

checked=0 wrong=0
for file in "$lib"/*.[ch]; do
	name=${file##*/}
	module=${name%.*}
	[[ $name == asynctls.c ]] && continue # the public calls see everything
	if [[ ! ${level[$module]:-} ]]; then
		echo "not ok - $name is on no level: add it to tests/levels.sh"
		wrong=$((wrong + 1))
		continue
	fi
	while read -r used; do
		checked=$((checked + 1))
		[[ $used == "$module" || ${also[$name:$used]:-} ]] && continue
		if ((${level[$used]:-99} >= ${level[$module]})); then
			echo "not ok - $name includes $used.h, which is no lower"
			wrong=$((wrong + 1))
		fi
	done < <(sed -n 's/^#include "\(.*\)\.h"$/\1/p' "$file")
done

# Libraries that one part alone may know.
only() {
	local header=$1 owner=$2 found
	found=$(grep -lE "#include <$header>" "$lib"/*.[ch] | grep -v "/$owner" ||
		true)
	if [[ $found ]]; then
		echo "not ok - <$header> is for $owner alone, not $found"
		wrong=$((wrong + 1))
	fi
}
only liburing.h ring.c
only openssl/ssl.h '\(follow\|handoff\|ticket\).[ch]'
only intel-ipsec-mb.h engine_ipsec_mb.c
only gcrypt.h engine_gcrypt.c
only kcapi.h afalg_probe.c

echo "$checked includes checked, $wrong wrong"
((wrong == 0 && checked > 50))
