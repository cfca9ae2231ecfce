#!/bin/bash
# usage: tests/system/test_bench.sh BUILD_DIR
# The programs of the benchmark do what bench/run relies on: every workload of
# every library ends, with one line of JSON that has its numbers in it, and what
# cannot be is refused with words.
set -euo pipefail

programs=$1/bench
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

die() {
	echo "$1"
	cat "$tmp/err"
	exit 1
}

# $1: what has to be there and more than 0; then program and arguments. One
# processor is enough: nothing is measured here.
check() {
	local what=$1 name=$2 ms=20
	shift 2
	# on a busy machine 20 ms can pass without a turn, or an answer
	[[ $1 != request ]] || ms=300
	timeout 60 "$programs/bench-$name" "$@" --ms "$ms" --bytes 2M --cpu 0 \
		--peer-cpu 0 >"$tmp/out" 2>"$tmp/err" ||
		die "bench-$name $*: failed"
	python3 - "$tmp/out" "$what" <<-'END' || die "bench-$name $*: wrong result"
		import json, sys
		result = json.load(open(sys.argv[1]))
		assert result[sys.argv[2]] > 0, result
	END
	echo "ok: bench-$name $*"
}

refused() {
	local words=$1 name=$2
	shift 2
	if timeout 60 "$programs/bench-$name" "$@" >"$tmp/out" 2>"$tmp/err"; then
		die "bench-$name $*: was not refused"
	fi
	grep -q -- "$words" "$tmp/err" || die "bench-$name $*: said nothing of it"
	echo "ok: bench-$name $* is refused"
}

if "$programs/bench-asynctls" send --ms 1 --cpu 0 --peer-cpu 0 2>&1 |
	grep 'no CPU engine'; then
	exit 77
fi
for name in plain openssl gnutls asynctls; do
	[[ -x $programs/bench-$name ]] || continue
	for size in 64 16K 256K; do
		check gb_per_s "$name" send --size "$size"
	done
	check gb_per_s "$name" receive
	check gb_per_s "$name" both
	check requests_per_s "$name" request --size 16K --conns 20 --nodelay
	[[ $name = plain ]] || check active_bytes "$name" memory --conns 20
done
check gb_per_s asynctls both --context worker
check gb_per_s asynctls send --cipher chacha20-poly1305
check gb_per_s openssl send --version 1.2 --epoll

# With --wait a client says when it is ready, and goes on when told to.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
	-keyout "$tmp/key" -out "$tmp/cert" -subj /CN=localhost 2>"$tmp/err"
mkdir "$tmp/files"
head -c 65536 /dev/zero >"$tmp/files/64K"
"$1/examples/https-files" --root "$tmp/files" --cert "$tmp/cert" \
	--key "$tmp/key" --port 0 >"$tmp/server" 2>"$tmp/err" &
server=$!
trap 'kill $server; rm -rf "$tmp"' EXIT
for ((i = 0; i < 200; i++)); do
	grep -q '^listening' "$tmp/server" && break
	sleep 0.1
done
fetch=("$programs/bench-openssl" fetch --wait --conns 2 --path /64K --ms 300
	--cpu 0 --port "$(sed -n 's/^listening on .*://p' "$tmp/server")")
mkfifo "$tmp/go"
timeout 60 "${fetch[@]}" <"$tmp/go" >"$tmp/out" 2>"$tmp/err" &
client=$!
exec 8>"$tmp/go"
for ((i = 0; i < 200; i++)); do
	grep -q '^ready' "$tmp/out" && break
	sleep 0.1
done
sleep 0.5
[[ $(cat "$tmp/out") == ready ]] || die 'fetch --wait did not wait'
echo >&8
wait $client || die 'fetch --wait: failed'
sed 1d "$tmp/out" | python3 -c 'import json, sys
result = json.load(sys.stdin)
assert result["bytes"] >= 65536 and result["requests_per_s"] > 0, result' ||
	die 'fetch --wait: wrong result'
echo 'ok: fetch --wait'

refused 'no workload' plain everything
refused 'which workload' plain
refused '--size wants' plain send --size 0
refused '--cipher wants' openssl send --cipher des
refused '--version wants' openssl send --version 1.1
refused 'congestion control' plain send --cc none-such
refused '--port and --path' openssl fetch
