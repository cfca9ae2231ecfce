/* SPDX-License-Identifier: MIT */
/* The public hand-over, with OpenSSL at the other end. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/provider.h>

#include "asynctls.h"
#include "handed.h"
#include "handoff_check.h"
#include "tls_pair.h"
#include "wire.h"

static struct tls_context *ctx;

static int setup(void **state)
{
	(void)state;
	return tls_context_new(&ctx, NULL);
}

static int teardown(void **state)
{
	(void)state;
	tls_context_free(ctx);
	return 0;
}

/* A few bytes and a few records, each way. */
static void converse(struct tls_conn *conn, SSL *peer)
{
	uint8_t out[40000], in[40000];
	size_t got = 0;
	ssize_t n;

	pattern_fill(out, 0, sizeof(out));
	assert_int_equal(tls_write(conn, out, sizeof(out)), sizeof(out));
	assert_int_equal(tls_flush(conn), 0);
	while (got < sizeof(in)) {
		n = SSL_read(peer, in + got, (int)(sizeof(in) - got));
		assert_true(n > 0);
		got += (size_t)n;
	}
	pattern_check(in, 0, sizeof(in));
	assert_int_equal(SSL_write(peer, out, sizeof(out)), sizeof(out));
	for (got = 0; got < sizeof(in); got += (size_t)n) {
		n = tls_read(conn, in + got, sizeof(in) - got);
		if (n <= 0)
			fail_msg("%zd: %s", n, tls_conn_error(conn));
	}
	pattern_check(in, 0, sizeof(in));
}

static void each_end_in_each_suite_goes_on_after_the_ssl_is_freed(void **state)
{
	static const struct {
		const char *suite, *words;
	} suites[] = {
		{ "TLS_AES_128_GCM_SHA256",
		  "TLSv1.3 TLS_AES_128_GCM_SHA256, cpu" },
		{ "TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384" },
		{ "TLS_CHACHA20_POLY1305_SHA256",
		  "TLS_CHACHA20_POLY1305_SHA256" },
		{ "TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_SHA256" },
		{ "ECDHE-ECDSA-AES128-GCM-SHA256",
		  "TLSv1.2 TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, cpu" },
		{ "ECDHE-ECDSA-AES256-GCM-SHA384",
		  "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" },
		{ "ECDHE-ECDSA-CHACHA20-POLY1305",
		  "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256" },
		{ "ECDHE-ECDSA-AES128-CCM",
		  "TLS_ECDHE_ECDSA_WITH_AES_128_CCM" },
		{ "ECDHE-ECDSA-AES256-CCM",
		  "TLS_ECDHE_ECDSA_WITH_AES_256_CCM" },
	};
	size_t i;
	int client;

	(void)state;
	for (i = 0; i < 18; i++) {
		struct tls_pair pair;
		struct tls_conn *conn;
		char words[200];
		SSL **end;

		client = i % 2;
		open_pair(&pair, (struct tls_pair_options){
					 .suite = suites[i / 2].suite,
					 .version = i < 8 ? TLS1_3_VERSION :
							    TLS1_2_VERSION,
					 PREPARED });
		end = client ? &pair.client : &pair.server;
		conn = handed_over(ctx, *end);
		SSL_free(*end);
		*end = NULL;
		tls_conn_describe(conn, words, sizeof(words));
		assert_non_null(strstr(words, suites[i / 2].words));
		converse(conn, client ? pair.server : pair.client);
		assert_int_equal(tls_close(conn, 1000), 0);
		assert_int_equal(SSL_read(client ? pair.server : pair.client,
					  words, 1), 0);
		assert_int_equal(
			SSL_get_shutdown(client ? pair.server : pair.client),
			SSL_RECEIVED_SHUTDOWN);
		tls_pair_free(&pair);
	}
}

static void both_ends_can_be_ours(void **state)
{
	struct tls_conn *server, *client;
	struct tls_pair pair;
	char buf[10];

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	server = handed_over(ctx, pair.server);
	client = handed_over(ctx, pair.client);
	assert_int_equal(tls_write(client, "ping", 4), 4);
	assert_int_equal(tls_flush(client), 0);
	assert_int_equal(tls_read(server, buf, sizeof(buf)), 4);
	assert_int_equal(tls_write(server, "pong!", 5), 5);
	assert_int_equal(tls_flush(server), 0);
	/* two tickets come before it */
	assert_int_equal(tls_read(client, buf, sizeof(buf)), 5);
	assert_memory_equal(buf, "pong!", 5);
	assert_int_equal(tls_close(server, 1000), 0);
	assert_int_equal(tls_read(client, buf, sizeof(buf)), 0);
	assert_int_equal(tls_close(client, 1000), 0);
	tls_pair_free(&pair);
}

static void what_openssl_had_decrypted_comes_first(void **state)
{
	struct tls_conn *conn;
	struct tls_pair pair;
	char buf[30];

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	assert_int_equal(SSL_write(pair.client, "one two three", 13), 13);
	assert_int_equal(SSL_read(pair.server, buf, 4), 4);
	assert_int_equal(SSL_write(pair.client, " four", 5), 5);
	conn = handed_over(ctx, pair.server);
	assert_int_equal(tls_read(conn, buf, 5), 5);
	assert_memory_equal(buf, "two t", 5);
	assert_int_equal(tls_read(conn, buf, 4), 4);
	assert_memory_equal(buf, "hree", 4);
	assert_int_equal(tls_read(conn, buf, sizeof(buf)), 5);
	assert_memory_equal(buf, " four", 5);
	converse(conn, pair.client);
	tls_close(conn, 1000);
	tls_pair_free(&pair);
}

/* Sealed by OpenSSL under its own key schedule, at its own pace. */
static void a_key_update_before_the_hand_over_is_survived_or_declined(
	void **state)
{
	struct tls_conn *conn;
	struct tls_pair pair;
	char buf[10];
	int ret;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	assert_int_equal(SSL_key_update(pair.server,
					SSL_KEY_UPDATE_NOT_REQUESTED), 1);
	assert_int_equal(SSL_write(pair.server, "new key", 7), 7);
	assert_int_equal(SSL_read(pair.client, buf, sizeof(buf)), 7);
	ret = tls_handoff(&conn, ctx, pair.server);
	if (ret == 0) {
		converse(conn, pair.client);
		tls_close(conn, 1000);
	} else {
		assert_int_equal(ret, -EPROTO);
		say(pair.server, "still usable");
		hear(pair.client, "still usable");
	}
	tls_pair_free(&pair);
}

/* OpenSSL ends a connection whose records are longer. */
static void records_are_as_short_as_was_negotiated(void **state)
{
	static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };
	struct tls_pair pair;
	struct tls_conn *conn;
	int i;

	(void)state;
	for (i = 0; i < 4; i++) {
		open_pair(&pair, (struct tls_pair_options){
					 PREPARED,
					 .version = versions[i / 2],
					 .prepare = limit_fragments });
		conn = handed_over(ctx, i % 2 ? pair.client : pair.server);
		converse(conn, i % 2 ? pair.server : pair.client);
		assert_int_equal(tls_close(conn, 1000), 0);
		tls_pair_free(&pair);
	}
}

/* ---- What else the application does with OpenSSL ----------------------- */

static OSSL_LIB_CTX *nothing; /* has no algorithm */

/* From here to there nothing can be had of the default library context. */
static OSSL_LIB_CTX *without_algorithms(void)
{
	if (!nothing) {
		nothing = OSSL_LIB_CTX_new();
		assert_non_null(OSSL_PROVIDER_load(nothing, "null"));
	}
	return OSSL_LIB_CTX_set0_default(nothing);
}

static void the_default_library_context_does_not_matter(void **state)
{
	static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };
	OSSL_LIB_CTX *before;
	struct tls_conn *conn;
	struct tls_pair pair;
	char buf[8];

	(void)state;
	for (int i = 0; i < 2; i++) {
		open_pair(&pair, (struct tls_pair_options){
					 PREPARED, .version = versions[i] });
		if (i)
			SSL_key_update(pair.client,
				       SSL_KEY_UPDATE_NOT_REQUESTED);
		say(pair.client, "received");
		before = without_algorithms();
		conn = handed_over(ctx, pair.server);
		if (i)
			assert_int_equal(tls_conn_update_keys(conn, 0), 0);
		assert_int_equal(tls_write(conn, "sent", 4), 4);
		assert_int_equal(tls_flush(conn), 0);
		if (tls_read(conn, buf, 8) != 8)
			fail_msg("%s", tls_conn_error(conn));
		assert_int_equal(ERR_peek_error(), 0);
		OSSL_LIB_CTX_set0_default(before);
		hear(pair.client, "sent");
		tls_close(conn, 1000);
		tls_pair_free(&pair);
	}
}

/* SSL_get_error() reads it, whichever connection it is about. */
static void the_error_queue_stays_as_it_was(void **state)
{
	struct tls_pair pair, unprepared;
	struct tls_conn *conn;
	unsigned long error;

	(void)state;
	for (int queued = 0; queued < 2; queued++) {
		OSSL_LIB_CTX *before;

		open_pair(&unprepared, (struct tls_pair_options){ 0 });
		open_pair(&pair, (struct tls_pair_options){ PREPARED });
		ERR_clear_error();
		if (queued)
			ERR_raise(ERR_LIB_USER, 1);
		error = ERR_peek_error();
		before = without_algorithms();
		handed_declined(ctx, unprepared.server, -EINVAL, "prepare");
		assert_int_equal(ERR_peek_last_error(), error);
		conn = handed_over(ctx, pair.client);
		assert_int_equal(ERR_peek_last_error(), error);
		assert_int_equal(tls_conn_update_keys(conn, 0), 0);
		tls_close(conn, 1000);
		assert_int_equal(ERR_peek_last_error(), error);
		assert_int_equal(ERR_get_error(), error);
		assert_int_equal(ERR_peek_error(), 0);
		OSSL_LIB_CTX_set0_default(before);
		tls_pair_free(&pair);
		tls_pair_free(&unprepared);
	}
}

static void tls_1_1_is_declined_and_the_ssl_stays_usable(void **state)
{
	struct tls_pair pair;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ .version = TLS1_1_VERSION,
						    .suite = "ALL:@SECLEVEL=0",
						    PREPARED });
	handed_declined(ctx, pair.server, -EOPNOTSUPP, "TLS 1.2 and 1.3");
	assert_still_usable(pair.server, pair.client);
	tls_pair_free(&pair);
}

static void another_suite_is_declined_and_the_ssl_stays_usable(void **state)
{
	struct tls_pair pair;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){
				 .suite = "TLS_AES_128_CCM_8_SHA256",
				 .prepare_ctx =
					 prepare_without_security_level });
	handed_declined(ctx, pair.server, -EOPNOTSUPP, "tag of 8 bytes");
	assert_still_usable(pair.server, pair.client);
	tls_pair_free(&pair);
}

static void an_unprepared_context_is_declined(void **state)
{
	struct tls_pair pair;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ 0 });
	handed_declined(ctx, pair.server, -EINVAL, "tls_handoff_prepare");
	assert_still_usable(pair.server, pair.client);
	tls_pair_free(&pair);
}

static void a_handshake_that_failed_is_declined(void **state)
{
	struct tls_pair pair;
	char buf[10];

	(void)state;
	assert_int_equal(tls_pair_open(&pair, &(struct tls_pair_options){
						      PREPARED }), 0);
	assert_int_equal(write(pair.fd[1], "GET / HTTP/1.0\r\n\r\n", 18), 18);
	assert_true(SSL_accept(pair.server) < 0);
	handed_declined(ctx, pair.server, -EINVAL, "handshake");
	assert_true(SSL_read(pair.server, buf, sizeof(buf)) <= 0);
	tls_pair_free(&pair);
}

static void a_peer_that_ends_at_once_is_truncation(void **state)
{
	struct tls_conn *conn;
	struct tls_pair pair;
	char buf[10];

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	conn = handed_over(ctx, pair.server);
	SSL_set_quiet_shutdown(pair.client, 1);
	SSL_free(pair.client);
	pair.client = NULL;
	shutdown(pair.fd[1], SHUT_RDWR);
	assert_int_equal(tls_read(conn, buf, sizeof(buf)), -ENODATA);
	tls_close(conn, 100);
	tls_pair_free(&pair);
}

/* The connection must not keep the socket from closing. */
static void closing_the_descriptor_after_tls_close_ends_the_stream(
	void **state)
{
	struct tls_conn *conn;
	struct tls_pair pair;
	char buf[10];

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	conn = handed_over(ctx, pair.server);
	assert_int_equal(tls_close(conn, 1000), 0);
	close(pair.fd[0]);
	pair.fd[0] = -1;
	assert_int_equal(SSL_read(pair.client, buf, sizeof(buf)), 0);
	assert_int_equal(read(pair.fd[1], buf, sizeof(buf)), 0);
	tls_pair_free(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			each_end_in_each_suite_goes_on_after_the_ssl_is_freed),
		cmocka_unit_test(both_ends_can_be_ours),
		cmocka_unit_test(what_openssl_had_decrypted_comes_first),
		cmocka_unit_test(
			a_key_update_before_the_hand_over_is_survived_or_declined),
		cmocka_unit_test(records_are_as_short_as_was_negotiated),
		cmocka_unit_test(the_default_library_context_does_not_matter),
		cmocka_unit_test(the_error_queue_stays_as_it_was),
		cmocka_unit_test(tls_1_1_is_declined_and_the_ssl_stays_usable),
		cmocka_unit_test(another_suite_is_declined_and_the_ssl_stays_usable),
		cmocka_unit_test(an_unprepared_context_is_declined),
		cmocka_unit_test(a_handshake_that_failed_is_declined),
		cmocka_unit_test(a_peer_that_ends_at_once_is_truncation),
		cmocka_unit_test(
			closing_the_descriptor_after_tls_close_ends_the_stream),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
