#!/bin/bash
# usage: tests/system/install.sh BUILD_DIR
# Install into an empty prefix, look at what is there, and build and run the
# program in README.md against it, with the shared and with the static library.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$(cd "$1" && pwd)
tmp=$(mktemp -d)
server=
trap '[[ $server ]] && kill "$server" 2>/dev/null; rm -rf "$tmp"' EXIT

count=0 failed=0
check() {
	count=$((count + 1))
	if "${@:2}" >"$tmp/log" 2>&1; then
		echo "ok $count - $1"
	else
		echo "not ok $count - $1"
		sed 's/^/# /' "$tmp/log"
		failed=$((failed + 1))
	fi
}

DESTDIR=$tmp/dest meson install -C "$build" --no-rebuild >"$tmp/log" 2>&1 ||
	{ cat "$tmp/log"; exit 1; }
prefix=$(dirname "$(dirname "$(find "$tmp/dest" -name asynctls.h)")")
pc=$(find "$tmp/dest" -name libasynctls.pc)
libdir=$(dirname "$(dirname "$pc")")

export PKG_CONFIG_PATH=${pc%/*}
flags=(--define-variable=prefix="$prefix")
so=$(readlink -f "$libdir/libasynctls.so")

exports_only_its_prefix() {
	! nm -D --defined-only "$so" | awk '{print $3}' |
		grep -vE '^asynctls_|^ASYNCTLS_0$'
}
has_soname() { readelf -d "$so" | grep -q 'SONAME.*libasynctls\.so\.0'; }
has_static_library() { [[ -s $libdir/libasynctls.a ]]; }
man_page_is_clean() {
	local page
	page=$(find "$prefix" -name "$1*" -path '*/man/*')
	[[ $page ]] && ! MANROFFSEQ='' man --warnings -l "$page" 2>&1 \
		>/dev/null | grep .
}
# ... which is where it was put, and not where the prefix is to be
drop_in_is_found() {
	local found=$libdir/libasynctls-openssl.so
	"$prefix/bin/asynctls-run" env | grep -xF "LD_PRELOAD=$found" &&
		! find "$prefix" -name 'libasynctls-openssl.*' |
			grep -vxF "$found"
}
header_is_cxx() {
	local compiler std
	for compiler in g++ clang++; do
		command -v "$compiler" >/dev/null || continue
		for std in 11 14 17 20; do
			echo "$compiler -std=c++$std"
			"$compiler" -std=c++$std -pedantic -Wall -Wextra \
				-Werror -x c++ - -o "$tmp/cxx" \
				"-I$prefix/include" <<-'END' || return
			#include <asynctls.h>
			int main()
			{
				struct tls_config c = TLS_CONFIG_INIT;
				struct tls_options o = TLS_OPTIONS_INIT;
				struct tls_secrets s = TLS_SECRETS_INIT;

				return c.size != sizeof(c) || c.depth ||
				       o.size != sizeof(o) ||
				       s.size != sizeof(s) || s.secret_len;
			}
			END
			"$tmp/cxx" || return
		done
	done
}

sed -n '/^```c$/,/^```$/p' "$root/README.md" | sed '1d;$d' >"$tmp/client.c"
program_is_short() { (($(wc -l <"$tmp/client.c") <= 56)); }
build_shared() {
	# shellcheck disable=SC2046 # words are what is wanted
	cc -Wall -Wextra -Werror -o "$tmp/shared" "$tmp/client.c" \
		$(pkg-config "${flags[@]}" --cflags --libs libasynctls openssl)
}
build_static() {
	# shellcheck disable=SC2046
	cc -o "$tmp/static" "$tmp/client.c" "$libdir/libasynctls.a" \
		$(pkg-config "${flags[@]}" --static --cflags --libs libasynctls |
			sed 's/-lasynctls//')
}
only_its_prefix_is_global() {
	! nm -g --defined-only "$libdir/libasynctls.a" |
		awk 'NF == 3 && $3 !~ /^asynctls_/' | grep .
}
# A program may have functions of any name; ours go on to be ours.
build_with_its_own_names() {
	local name
	for name in secret_alloc secret_free queue_push queue_init pool_init \
		pool_take ring_new ring_free ring_submit conn_flush ctx_new \
		tx_write rx_read keygen_new error_set now_ns record_nonce; do
		echo "void $name(void); void $name(void) { __builtin_trap(); }"
	done >"$tmp/names.c"
	cc -c -o "$tmp/names.o" "$tmp/names.c"
	# shellcheck disable=SC2046
	cc -o "$tmp/named" "$tmp/client.c" "$tmp/names.o" \
		"$libdir/libasynctls.a" \
		$(pkg-config "${flags[@]}" --static --cflags --libs libasynctls |
			sed 's/-lasynctls//')
}
asks_for_no_more_than_it_needs() {
	! pkg-config "${flags[@]}" --static --libs libasynctls |
		grep -E -- '-lz($| )|-lzstd'
}
echoes() {
	local port
	port=$(sed -n 's/^listening on .*://p' "$tmp/server")
	LD_LIBRARY_PATH=$libdir "$tmp/$1" 127.0.0.1 "$port" >"$tmp/out" &&
		[[ $(cat "$tmp/out") == 'hello, many records at once' ]]
}

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
	-keyout "$tmp/key" -out "$tmp/cert" -subj /CN=localhost 2>"$tmp/log"
"$build/examples/echo-server" --cert "$tmp/cert" --key "$tmp/key" --port 0 \
	>"$tmp/server" 2>&1 &
server=$!
for ((i = 0; i < 100; i++)); do
	grep -q '^listening' "$tmp/server" && break
	sleep 0.1
done

check 'only asynctls_ symbols are exported' exports_only_its_prefix
check 'the shared library has a soname' has_soname
check 'the static library is there' has_static_library
check 'the man page is there and without warnings' \
	man_page_is_clean asynctls.3
if [[ -e $build/preload/libasynctls-openssl.so ]]; then
	check 'so is that of asynctls-run' man_page_is_clean asynctls-run.1
	check 'which finds the library that it preloads' drop_in_is_found
fi
check 'the header is C++, too' header_is_cxx
check "README's program is about 40 lines" program_is_short
check "README's program builds with pkg-config" build_shared
check "README's program runs against the echo server" echoes shared
check "README's program builds with the static library" build_static
check "README's program runs, linked statically" echoes static
check 'only asynctls_ symbols are global in the static library' \
	only_its_prefix_is_global
check 'it links with a program that has functions of the same names' \
	build_with_its_own_names
check 'and uses its own' echoes named
check 'a static link asks for no library that a shared OpenSSL has' \
	asks_for_no_more_than_it_needs
echo "1..$count"
((failed == 0))
