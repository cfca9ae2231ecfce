/* SPDX-License-Identifier: MIT */
/*
 * A kernel that restricts AF_ALG (crypto.af_alg_restrict, from 7.3 on): left to
 * itself the library seals and opens everything on the CPU, and says why.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "ends.h"
#include "wire.h"

enum { CONNECTIONS = 8, LEN = 100000, STALL_MS = 20000, SKIPPED = 77 };

static const char path[] = "/proc/sys/crypto/af_alg_restrict";
static const uint16_t suites[] = { TLS_AES_128_GCM, TLS_AES_256_GCM,
				   TLS_CHACHA20_POLY1305 };
static const char *const names[] = { "AES-128-GCM", "AES-256-GCM",
				     "ChaCha20-Poly1305" };

static struct tls_context *new_context(void)
{
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *ctx;

	config.kind = TLS_CONTEXT_LOOP;
	config.engine = TLS_ENGINE_AUTO;
	if (tls_context_new(&ctx, &config))
		fail_msg("%s", tls_last_error());
	return ctx;
}

static void the_reason_names_the_restriction(void **state)
{
	struct tls_context *ctx = new_context();
	char words[2000], line[500];
	unsigned i;

	(void)state;
	tls_context_describe(ctx, words, sizeof(words));
	for (i = 0; i < 3; i++) {
		const char *at = strstr(words, names[i]);

		assert_non_null(at);
		snprintf(line, sizeof(line), "%.*s", (int)strcspn(at, "\n"),
			 at);
		print_message("%s\n", line);
		assert_non_null(strstr(line, ": cpu, "));
		assert_non_null(strstr(line, "crypto.af_alg_restrict="));
	}
	tls_context_free(ctx);
}

/* Through the connection, both ends of which are in ctx. */
static void transfer(struct tls_context *ctx, struct tls_conn *conn[2])
{
	static uint8_t data[LEN], back[LEN];
	size_t put = 0, got = 0;
	struct tls_event event;

	pattern_fill(data, 0, LEN);
	while (got < LEN) {
		ssize_t n = tls_write(conn[0], data + put, LEN - put);
		ssize_t m = tls_read(conn[1], back + got, LEN - got);

		assert_true(n >= 0 || n == -EAGAIN);
		assert_true(m > 0 || m == -EAGAIN);
		put += n > 0 ? (size_t)n : 0;
		got += m > 0 ? (size_t)m : 0;
		if (n <= 0 && m <= 0)
			assert_int_equal(tls_context_wait(ctx, &event, 1,
							  STALL_MS), 1);
	}
	assert_memory_equal(data, back, LEN);
}

static void connect_and_transfer(struct tls_context *ctx, uint16_t suite)
{
	struct tls_conn *conn[2];
	char words[200];
	int fd[2], side;

	socket_pair(fd, true);
	for (side = 0; side < 2; side++) {
		const char *why;

		set_blocking(fd[side], false);
		why = end_take(&conn[side], ctx, fd[side], side, suite);
		if (why)
			fail_msg("%s", why);
		tls_conn_describe(conn[side], words, sizeof(words));
		assert_non_null(strstr(words, ", cpu "));
	}
	transfer(ctx, conn);
	for (side = 0; side < 2; side++) {
		tls_close(conn[side], 0);
		close(fd[side]);
	}
}

static void every_connection_is_on_the_cpu(void **state)
{
	struct tls_context *ctx = new_context();
	struct tls_stats s;
	unsigned i;

	(void)state;
	for (i = 0; i < 3 * CONNECTIONS; i++)
		connect_and_transfer(ctx, suites[i % 3]);
	tls_context_stats(ctx, &s, sizeof(s));
	assert_int_equal(s.connections, 6 * CONNECTIONS);
	assert_int_equal(s.connections_failed, 0);
	assert_int_equal(s.tx_records[TLS_BY_KERNEL], 0);
	assert_int_equal(s.rx_records[TLS_BY_KERNEL], 0);
	assert_true(s.tx_records[TLS_BY_CPU] > 0);
	assert_int_equal(s.failovers, 0);
	assert_int_equal(s.op_sockets_peak, 0);
	tls_context_free(ctx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_reason_names_the_restriction),
		cmocka_unit_test(every_connection_is_on_the_cpu),
	};
	FILE *file = fopen(path, "re");
	char value = '0';

	if (file) {
		value = (char)fgetc(file);
		fclose(file);
	}
	if (value == '0') {
		print_message("this kernel does not restrict AF_ALG\n");
		return SKIPPED;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
