#!/bin/bash
# SPDX-License-Identifier: MIT
#
# interop.sh BUILD_DIR: this library against others, as server and as client. In
# each case 2 MiB go in both directions at once, 2 to the server alone and 2 to
# the client alone, in writes of random sizes, and every byte is compared: see
# peers/pump.h. Prints TAP.
#
#	INTEROP='gnutls 1.3' interop.sh BUILD_DIR	rows that begin so

set -u

build=${1:?usage: interop.sh BUILD_DIR}
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
peers=$build/tests/peers
bytes=$((2 << 20))
# shellcheck source=tests/system/tap.sh
. "$source_dir/tests/system/tap.sh"

# peer, version, ciphers | flags of ours | flags of the peer
#
# GnuTLS takes 8 KeyUpdates a second, and none that crosses its own (RFC 8446
# 4.6.3 allows that): one end asks at a time. Node forgets its close_notify, now
# and then, when it owes KeyUpdates: it is asked for none. Java asks for one with
# every record once it has read its limit under one key, which is lowered.
matrix()
{
	cat <<-'END'
	openssl 1.3 AES-128-GCM AES-256-GCM CHACHA20-POLY1305 AES-128-CCM
	openssl 1.2 AES-128-GCM AES-256-GCM CHACHA20-POLY1305 AES-128-CCM AES-256-CCM
	openssl 1.3 AES-128-GCM CHACHA20-POLY1305 | --update 30K | --update 30K
	openssl 1.3 AES-256-GCM | --padding 1000 | --padding 512
	gnutls 1.3 AES-128-GCM AES-256-GCM CHACHA20-POLY1305 AES-128-CCM
	gnutls 1.2 AES-128-GCM AES-256-GCM CHACHA20-POLY1305 AES-128-CCM AES-256-CCM
	gnutls 1.3 AES-128-GCM | --update 800K |
	gnutls 1.3 AES-128-GCM | | --update 800K
	gnutls 1.3 AES-128-GCM | --padding 16384 | --padding 4000
	wolfssl 1.3 AES-128-GCM AES-256-GCM CHACHA20-POLY1305 AES-128-CCM
	wolfssl 1.2 AES-128-GCM AES-256-GCM CHACHA20-POLY1305 AES-128-CCM
	wolfssl 1.3 AES-128-GCM | --update 30K | --update 30K
	wolfssl 1.3 AES-128-GCM | --padding 1000 |
	mbedtls 1.2 AES-128-GCM AES-256-GCM CHACHA20-POLY1305 AES-128-CCM AES-256-CCM
	node 1.3 AES-128-GCM AES-256-GCM CHACHA20-POLY1305 AES-128-CCM
	node 1.2 AES-128-GCM AES-256-GCM CHACHA20-POLY1305 AES-128-CCM AES-256-CCM
	node 1.3 AES-128-GCM | --update 30K --unanswered |
	java 1.3 AES-128-GCM AES-256-GCM CHACHA20-POLY1305
	java 1.2 AES-128-GCM AES-256-GCM CHACHA20-POLY1305
	java 1.3 AES-128-GCM | | --limit 17
	java 1.3 AES-128-GCM | | --limit 20
	END
}

# Sets theirs to the command of a peer, or to nothing if it is not there.
peer_command()
{
	local program

	theirs=()
	case $1 in
	node)
		program=$(command -v node || command -v nodejs) &&
			theirs=("$program" "$source_dir/tests/peers/peer_node.js")
		;;
	java)
		command -v javac >/dev/null || return
		[ -e "$tmp/PeerJava.class" ] ||
			javac -d "$tmp" "$source_dir/tests/peers/PeerJava.java"
		# compiled in haste: most of the work is to start it
		theirs=(java -XX:+UseSerialGC -XX:TieredStopAtLevel=1
			-cp "$tmp" PeerJava)
		;;
	*)
		program=$peers/peer_$1
		if [ -x "$program" ]; then theirs=("$program"); fi
		;;
	esac
}

# As the library itself says, in its last line.
both_say()
{
	local name

	for name in server client; do
		tail -n 1 "$tmp/$name.out"
		tail -n 1 "$tmp/$name.out" |
			grep -q "^[^:]*: TLS.*$1.* $((2 * bytes)) bytes each way" ||
			return 1
	done
}

# exchange VERSION CIPHER SERVER CLIENT: their commands, in variables so named
exchange()
{
	local version=$1 cipher=$2 wait_for status
	local -n server=$3 client=$4
	local common=(--version "$version" --cipher "$cipher" --bytes "$bytes")

	start server "${server[@]}" server --cert "$tmp/cert" \
		--key "$tmp/key" --seed $((tests * 2)) "${common[@]}"
	wait_for=$pid
	if [ -n "$port" ]; then
		"${client[@]}" client --port "$port" --seed $((tests * 2 + 1)) \
			"${common[@]}" >"$tmp/client.out" 2>"$tmp/client.err"
		status=$?
	else
		status=99
	fi
	[ $status -eq 0 ] || kill "$wait_for" 2>/dev/null
	wait "$wait_for"
	status="server: status $?; client: $status"
	echo "$status"
	cat "$tmp/server.err" "$tmp/client.err" "$tmp/client.out"
	[ "$status" = "server: status 0; client: 0" ] && both_say "$version"
}

# case_of PEER VERSION CIPHER OUR_FLAGS PEER_FLAGS
case_of()
{
	local peer=$1 version=$2 cipher=$3 role kind
	local what="TLS $version $cipher${4:+, ours $4}${5:+, the peer $5}"
	local ours theirs our_own flags

	peer_command "$peer"
	read -ra our_own <<<"$4"
	read -ra flags <<<"$5"
	theirs+=("${flags[@]}")
	for role in client server; do
		if [ ${#theirs[@]} -eq ${#flags[@]} ]; then
			skip "$peer as $role, $what" "no $peer here"
			continue
		fi
		# In either role both kinds of context take turns.
		kind=(); (((tests + tests / 2) % 2)) || kind=(--worker)
		# shellcheck disable=SC2034	# exchange() names it
		ours=("$peers/peer_ours" "${kind[@]}" "${our_own[@]}")
		if [ $role = client ]; then
			check "$peer as client, $what" exchange "$version" \
				"$cipher" ours theirs
		else
			check "$peer as server, $what" exchange "$version" \
				"$cipher" theirs ours
		fi
	done
}

while IFS='|' read -r suites our_flags peer_flags; do
	[[ $suites = "${INTEROP-}"* ]] || continue
	read -r peer version ciphers <<<"$suites"
	for cipher in $ciphers; do
		case_of "$peer" "$version" "$cipher" "$(xargs <<<"$our_flags")" \
			"$(xargs <<<"$peer_flags")"
	done
done < <(matrix)

finish
