#!/bin/bash
# The folders of lib/ are on levels: a file includes headers of its own folder and
# of lower ones, and within a folder nobody includes in a circle. Checked from the
# #include lines.
set -euo pipefail

lib=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../lib" && pwd)

declare -A level=(
	[base]=0 [io]=1 [record]=1 [engine]=2 [keys]=3 [line]=4 [openssl]=5
	[conn]=6 [context]=7 [api]=8
)
# What joins two parts that know each other: the header of the one is for the
# source of the other.
declare -A also=(
	[conn/feed.c:conn/rx]=1 [io/ring.c:io/ring_ops]=1
)

checked=0 wrong=0
complain() {
	echo "not ok - $1"
	wrong=$((wrong + 1))
}

edges=$(mktemp)
trap 'rm -f "$edges"' EXIT
for file in "$lib"/*/*.[ch]; do
	name=${file#"$lib"/}
	folder=${name%%/*} module=${name%.*}
	if [[ ! ${level[$folder]:-} ]]; then
		complain "$folder/ is on no level: add it to tests/system/levels.sh"
		continue
	fi
	while read -r used; do
		checked=$((checked + 1))
		if [[ ! -e $lib/$used.h ]]; then
			[[ $used == asynctls ]] ||
				complain "$name includes $used.h, not by its folder"
		elif [[ ${used%%/*} != "$folder" ]]; then
			((${level[${used%%/*}]:-99} < ${level[$folder]})) ||
				complain "$name includes $used.h, which is no lower"
		elif [[ $used != "$module" && ! ${also[$name:$used]:-} ]]; then
			echo "$module $used" >>"$edges"
		fi
	done < <(sed -n 's/^#include "\(.*\)\.h"$/\1/p' "$file")
done
if ! circle=$(tsort "$edges" 2>&1 >/dev/null); then
	complain "these include each other in a circle: $circle"
fi

# Libraries that one part alone may know.
only() {
	local header=$1 owner=$2 found
	found=$(grep -lE "#include <$header>" "$lib"/*/*.[ch] |
		grep -v "/$owner" || true)
	if [[ $found ]]; then
		complain "<$header> is for $owner alone, not $found"
	fi
}
only liburing.h io/ring_uring.c
only libaio.h io/aio.h
only sys/epoll.h 'io/\|context/ctx'
only openssl/ssl.h openssl/
only intel-ipsec-mb.h engine/engine_ipsec_mb.c
only gcrypt.h engine/engine_gcrypt.c
only kcapi.h engine/afalg_probe.c

echo "$checked includes checked, $wrong wrong"
((wrong == 0 && checked > 50))
