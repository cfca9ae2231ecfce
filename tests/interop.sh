#!/bin/bash
# SPDX-License-Identifier: MIT
#
# interop.sh BUILD_DIR: this library against others, as server and as client. In
# each case 8 MiB go in both directions at once, 8 to the server alone and 8 to
# the client alone, in writes of random sizes, and every byte is compared: see
# peers/pump.h. Prints TAP.
#
#	INTEROP='gnutls 1.3' interop.sh BUILD_DIR	rows that begin so

set -u

build=${1:?usage: interop.sh BUILD_DIR}
source_dir=$(cd "$(dirname "$0")/.." && pwd)
peers=$build/tests/peers
# shellcheck source=tests/tap.sh
. "$source_dir/tests/tap.sh"

# peer, version, ciphers | flags of ours | flags of the peer
#
# GnuTLS takes 8 KeyUpdates a second, and none that crosses its own (RFC 8446
# 4.6.3 allows that): one end asks at a time. Node forgets its close_notify, now
# and then, when it owes KeyUpdates: it is asked for none.
matrix()
{
	cat <<-'END'
	openssl 1.3 AES-128-GCM AES-256-GCM CHACHA20-POLY1305 AES-128-CCM
	openssl 1.2 AES-128-GCM AES-256-GCM CHACHA20-POLY1305 AES-128-CCM AES-256-CCM
	openssl 1.3 AES-128-GCM CHACHA20-POLY1305 | --update 30K | --update 30K
	openssl 1.3 AES-256-GCM | --padding 1000 | --padding 512
	gnutls 1.3 AES-128-GCM AES-256-GCM CHACHA20-POLY1305 AES-128-CCM
	gnutls 1.2 AES-128-GCM AES-256-GCM CHACHA20-POLY1305 AES-128-CCM AES-256-CCM
	gnutls 1.3 AES-128-GCM | --update 3M |
	gnutls 1.3 AES-128-GCM | | --update 3M
	gnutls 1.3 AES-128-GCM | --padding 16384 | --padding 4000
	wolfssl 1.3 AES-128-GCM AES-256-GCM CHACHA20-POLY1305 AES-128-CCM
	wolfssl 1.2 AES-128-GCM AES-256-GCM CHACHA20-POLY1305 AES-128-CCM
	wolfssl 1.3 AES-128-GCM | --update 30K | --update 30K
	wolfssl 1.3 AES-128-GCM | --padding 1000 |
	mbedtls 1.2 AES-128-GCM AES-256-GCM CHACHA20-POLY1305 AES-128-CCM AES-256-CCM
	node 1.3 AES-128-GCM AES-256-GCM CHACHA20-POLY1305 AES-128-CCM
	node 1.2 AES-128-GCM AES-256-GCM CHACHA20-POLY1305 AES-128-CCM AES-256-CCM
	node 1.3 AES-128-GCM | --update 30K --unanswered |
	END
}

# The command of a peer, or nothing if it is not there.
peer_command()
{
	if [ "$1" = node ]; then
		command -v node || command -v nodejs
		return
	fi
	if [ -x "$peers/peer_$1" ]; then echo "$peers/peer_$1"; fi
}

# As the library itself says, in its last line.
both_say()
{
	local name

	for name in server client; do
		tail -n 1 "$tmp/$name.out"
		tail -n 1 "$tmp/$name.out" |
			grep -q "^[^:]*: TLS.*$1.* 16777216 bytes each way" ||
			return 1
	done
}

# exchange VERSION CIPHER SERVER CLIENT: their commands, in variables so named
exchange()
{
	local version=$1 cipher=$2 wait_for status
	local -n server=$3 client=$4
	local common=(--version "$version" --cipher "$cipher")

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
	local command ours theirs

	command=$(peer_command "$peer")
	for role in client server; do
		# Both kinds of context take turns.
		kind=(); ((tests % 2)) || kind=(--worker)
		if [ -z "$command" ]; then
			skip "$peer as $role, $what" "no $peer here"
			continue
		fi
		read -ra ours <<<"$4"
		read -ra theirs <<<"$5"
		ours=("$peers/peer_ours" "${kind[@]}" "${ours[@]}")
		theirs=("$command" "${theirs[@]}")
		if [ "$peer" = node ]; then
			theirs=("$command" "$source_dir/tests/peers/peer_node.js")
		fi
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
