/* SPDX-License-Identifier: MIT */
/*
 * What a connection leaves in memory: every writable mapping of the process is
 * searched for its secrets and keys. The test knows them in disguise only, so
 * that it does not find itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

#include <malloc.h>
#include <openssl/crypto.h>

#include "asynctls.h"
#include "conn/conn.h"
#include "handoff_check.h"
#include "keys/keys.h"
#include "wire.h"

/* ---- Needles ----------------------------------------------------------- */

enum { NEEDLE = 12, DISGUISE = 0xa5, MAX_NEEDLES = 64 };

static struct {
	uint8_t bytes[NEEDLE];
	const char *what;
	int found;
} needle[MAX_NEEDLES];
static int needles;
/* Where they may be while they are in use: the memory for keys. */
static uintptr_t home;
enum { HOME = 64 << 10 };
static int strays;

/* The first bytes of something, which must not begin with a repetition. */
static void add_needle(const char *what, const uint8_t *bytes)
{
	assert_true(needles < MAX_NEEDLES);
	needle[needles].what = what;
	for (int i = 0; i < NEEDLE; i++)
		needle[needles].bytes[i] = bytes[i] ^ DISGUISE;
	needles++;
}

/* All of it that could be recognised: its ends, for a long one the middle. */
static void add_needles(const char *what, const uint8_t *bytes, size_t len)
{
	for (size_t at = 0; at + NEEDLE <= len; at += 16)
		add_needle(what, bytes + at);
}

/* The kernel has it, or libgcrypt while it is about a record. */
static bool expands_keys(const struct engine *e, const struct cipher *cipher)
{
	return strcmp(e->ops->driver(e, cipher), "intel-ipsec-mb") == 0;
}

static void add_generation(const struct keygen *gen)
{
	const struct cipher *c = gen->cipher;
	uint8_t expanded[256];

	if (gen->suite->version == CIPHER_TLS13) {
		add_needles("a traffic secret", gen->secret, 32);
		add_needle("an IV", gen->iv);
	}
	add_needles("a key", gen->key, c->key_len);
	if (!gen->bound[0].key || !expands_keys(gen->bound[0].engine, c))
		return;
	/* the expanded key, behind the key itself, as the engine keeps it */
	memcpy(expanded, gen->bound[0].key, sizeof(expanded));
	if (c->id != CIPHER_CHACHA20_POLY1305)
		add_needles("an expanded key", expanded + 32, 96);
	explicit_bzero(expanded, sizeof(expanded));
}

/* ---- Searching --------------------------------------------------------- */

enum { ROOM = 1 << 20 };
static uint8_t *haystack; /* which is not searched */

/* bytes are a copy of what is at address */
static void look(uintptr_t address, const uint8_t *bytes, size_t len)
{
	for (int i = 0; i < needles; i++) {
		const uint8_t *n = needle[i].bytes;
		const uint8_t first = n[0] ^ DISGUISE, *p = bytes;
		const uint8_t *end = bytes + len - NEEDLE + 1;
		int k;

		for (; p < end && (p = memchr(p, first, (size_t)(end - p)));
		     p++) {
			for (k = 1; k < NEEDLE; k++)
				if ((p[k] ^ DISGUISE) != n[k])
					break;
			if (k < NEEDLE)
				continue;
			needle[i].found++;
			strays +=
				address + (uintptr_t)(p - bytes) - home >= HOME;
		}
	}
}

static void look_from(uintptr_t from, uintptr_t to)
{
	while (to - from >= NEEDLE) {
		size_t len = to - from < ROOM ? to - from : ROOM;
		struct iovec local = { haystack, len };
		struct iovec remote = { (void *)from, len };
		ssize_t n =
			process_vm_readv(getpid(), &local, 1, &remote, 1, 0);

		if (n < NEEDLE)
			return; /* a device's, or beyond the end of a file */
		look(from, haystack, (size_t)n);
		from += (size_t)n - NEEDLE + 1;
	}
}

/* How many needles are found at least once. */
static int search(bool tell)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned long from, to;
	char line[512], mode[5];
	int found = 0;

	strays = 0;
	assert_non_null(maps);
	for (int i = 0; i < needles; i++)
		needle[i].found = 0;
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx %4s", &from, &to, mode) == 3 &&
		    mode[0] == 'r' && mode[1] == 'w' &&
		    (uintptr_t)haystack - from >= to - from)
			look_from(from, to);
	fclose(maps);
	explicit_bzero(haystack, ROOM);
	for (int i = 0; i < needles; i++) {
		found += needle[i].found > 0;
		if (tell && needle[i].found)
			print_message("%s, %d times\n", needle[i].what,
				      needle[i].found);
	}
	return found;
}

static int begin(void **state)
{
	(void)state;
	needles = 0;
	haystack = mmap(NULL, ROOM, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return haystack == MAP_FAILED;
}

static int end(void **state)
{
	(void)state;
	return munmap(haystack, ROOM);
}

/* All can be found but those that are not kept; where they are safe alone. */
static void assert_found_at_home(const struct keygen *gen, int not_kept)
{
	home = (uintptr_t)gen & ~(uintptr_t)(HOME - 1);
	assert_int_equal(search(false), needles - not_kept);
	assert_int_equal(strays, 0);
}

/* ---- Connections from secrets ------------------------------------------ */

static void converse(struct tls_conn *conn, struct tls_conn *peer)
{
	char buf[2000] = "";

	assert_int_equal(tls_write(conn, buf, sizeof(buf)), sizeof(buf));
	assert_int_equal(tls_flush(conn), 0);
	assert_int_equal(tls_read(peer, buf, sizeof(buf)), sizeof(buf));
	assert_int_equal(tls_write(peer, buf, sizeof(buf)), sizeof(buf));
	assert_int_equal(tls_flush(peer), 0);
	assert_int_equal(tls_read(conn, buf, sizeof(buf)), sizeof(buf));
}

/* Records that an engine still has keep their keys: until it has none. */
static void close_both(struct tls_context *ctx, struct tls_conn *conn[2])
{
	struct tls_stats s;

	assert_int_equal(tls_close(conn[0], 1000), 0);
	assert_int_equal(tls_close(conn[1], 1000), 0);
	do {
		tls_context_process(ctx);
		tls_context_stats(ctx, &s, sizeof(s));
	} while (s.tx_in_flight_now + s.rx_in_flight_now);
}

static void take_ends(struct tls_conn *conn[2], struct tls_context *ctx,
		      const int fd[2], uint16_t suite)
{
	uint8_t secret[2][CIPHER_SECRET_MAX];
	static const uint8_t randoms[2][32] = { "the client's",
						"the server's" };
	bool tls13 = suite_by_number(suite)->version == CIPHER_TLS13;
	struct tls_secrets s = {
		.size = sizeof(struct tls_secrets),
		.cipher_suite = suite,
		.secret_len = tls13 ? suite_by_number(suite)->digest_len : 48,
		.client_random = randoms[0],
		.server_random = randoms[1],
	};
	int i;

	assert_int_equal(getrandom(secret, sizeof(secret), 0), sizeof(secret));
	if (!tls13) {
		add_needles("the master secret", secret[0], 48);
		s.master_secret = secret[0];
	}
	for (i = 0; i < 2; i++) {
		s.tx_secret = secret[i];
		s.rx_secret = secret[!i];
		s.is_server = i;
		if (tls_handoff_secrets(&conn[i], ctx, fd[i], &s))
			fail_msg("%s", tls_last_error());
	}
	explicit_bzero(secret, sizeof(secret));
}

static void nothing_is_left_of(uint16_t suite, enum tls_context_kind kind)
{
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *ctx;
	struct tls_conn *conn[2];
	int fd[2], not_kept;

	needles = 0;
	config.kind = kind;
	config.engine = TLS_ENGINE_CPU;
	assert_int_equal(tls_context_new(&ctx, &config), 0);
	socket_pair(fd, false);
	take_ends(conn, ctx, fd, suite);
	not_kept = needles; /* a master secret */
	converse(conn[0], conn[1]);
	add_generation(conn[0]->tx.gen);
	add_generation(conn[0]->rx.gen);
	assert_found_at_home(conn[0]->tx.gen, not_kept);
	close_both(ctx, conn);
	assert_int_equal(search(true), 0);
	tls_context_free(ctx);
	close(fd[0]);
	close(fd[1]);
}

static void closing_leaves_no_secret_in_memory(void **state)
{
	static const uint16_t suites[] = {
		TLS_AES_128_GCM,
		TLS_AES_256_GCM,
		TLS_CHACHA20_POLY1305,
		TLS_AES_128_CCM,
		/* TLS 1.2: ECDHE_RSA with AES_256_GCM and with ChaCha20,
		 * ECDHE_ECDSA with AES_128_CCM */
		0xc030,
		0xcca8,
		0xc0ac,
	};

	(void)state;
	for (int i = 0; i < 7; i++) {
		nothing_is_left_of(suites[i], TLS_CONTEXT_LOOP);
		nothing_is_left_of(suites[i], TLS_CONTEXT_WORKER);
	}
}

static void a_key_update_leaves_no_secret_in_memory(void **state)
{
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *ctx;
	struct tls_conn *conn[2];
	int fd[2];

	(void)state;
	config.engine = TLS_ENGINE_CPU;
	assert_int_equal(tls_context_new(&ctx, &config), 0);
	socket_pair(fd, false);
	take_ends(conn, ctx, fd, TLS_AES_128_GCM);
	converse(conn[0], conn[1]);
	for (int i = 0; i < 5; i++) {
		needles = 0;
		add_generation(conn[0]->tx.gen);
		add_generation(conn[0]->rx.gen);
		assert_found_at_home(conn[0]->tx.gen, 0);
		assert_int_equal(
			tls_conn_update_keys(conn[i % 2], TLS_UPDATE_REQUESTED),
			0);
		converse(conn[0], conn[1]);
		assert_int_equal(search(true), 0);
	}
	close_both(ctx, conn);
	tls_context_free(ctx);
	close(fd[0]);
	close(fd[1]);
}

/* ---- Connections from OpenSSL ------------------------------------------ */

/* OpenSSL does not wipe all that it frees; that is not the question here. */
static void wiping_free(void *ptr, const char *file, int line)
{
	(void)file, (void)line;
	if (ptr)
		explicit_bzero(ptr, malloc_usable_size(ptr));
	free(ptr);
}

static void *plain_malloc(size_t size, const char *file, int line)
{
	(void)file, (void)line;
	return malloc(size);
}

static void *wiping_realloc(void *ptr, size_t size, const char *file, int line)
{
	void *new = size ? malloc(size) : NULL;
	size_t old = ptr ? malloc_usable_size(ptr) : 0;

	if (size && !new)
		return NULL;
	if (new &&ptr)
		memcpy(new, ptr, old < size ? old : size);
	wiping_free(ptr, file, line);
	return new;
}

/* What OpenSSL's handshake has left on the stack. */
__attribute__((noinline)) static void clear_stack(void)
{
	char room[256 << 10];

	explicit_bzero(room, sizeof(room));
}

static void nothing_is_left_of_version(int version)
{
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *ctx;
	struct tls_conn *conn[2];
	struct tls_pair pair;

	needles = 0;
	config.kind = TLS_CONTEXT_LOOP;
	config.engine = TLS_ENGINE_CPU;
	assert_int_equal(tls_context_new(&ctx, &config), 0);
	open_pair(&pair,
		  (struct tls_pair_options){ PREPARED, .version = version });
	assert_still_usable(pair.server, pair.client);
	clear_stack();
	assert_int_equal(tls_handoff(&conn[0], ctx, pair.server), 0);
	assert_int_equal(tls_handoff(&conn[1], ctx, pair.client), 0);
	SSL_free(pair.server);
	SSL_free(pair.client);
	pair.server = pair.client = NULL;
	converse(conn[0], conn[1]);
	add_generation(conn[0]->tx.gen);
	add_generation(conn[0]->rx.gen);
	assert_found_at_home(conn[0]->tx.gen, 0);
	close_both(ctx, conn);
	assert_int_equal(search(true), 0);
	tls_context_free(ctx);
	tls_pair_free(&pair);
}

static void a_hand_over_leaves_no_secret_in_memory(void **state)
{
	(void)state;
	nothing_is_left_of_version(TLS1_3_VERSION);
	nothing_is_left_of_version(TLS1_2_VERSION);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(closing_leaves_no_secret_in_memory),
		TEST(a_key_update_leaves_no_secret_in_memory),
		TEST(a_hand_over_leaves_no_secret_in_memory),
	};

	/* before OpenSSL allocates anything */
	CRYPTO_set_mem_functions(plain_malloc, wiping_realloc, wiping_free);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
