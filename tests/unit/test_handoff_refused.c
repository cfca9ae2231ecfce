/* SPDX-License-Identifier: MIT */
/*
 * Connections that cannot be handed over: the reason is given, and OpenSSL
 * goes on with them as if nobody had asked. Linked with calloc and realloc
 * wrapped (-Wl,--wrap=calloc,--wrap=realloc).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/opensslv.h>
#if OPENSSL_VERSION_NUMBER >= 0x30200000L
#include <openssl/quic.h>
#endif

#include "asynctls.h"
#include "handoff_check.h"

/* One sort of connection, asked at both ends, still usable after. */
static void assert_unfit(struct tls_pair_options options, int error,
			 const char *words)
{
	struct tls_pair pair;

	open_pair(&pair, options);
	assert_refused(pair.server, error, words);
	assert_refused(pair.client, error, words);
	assert_still_usable(pair.server, pair.client);
	tls_pair_free(&pair);
}

/* ---- The wrong sort of connection -------------------------------------- */

static void tls_1_1_is_refused(void **state)
{
	(void)state;
	assert_unfit(
		(struct tls_pair_options){
			PREPARED,
			.version = TLS1_1_VERSION,
			.suite = "ALL:@SECLEVEL=0",
		},
		-EOPNOTSUPP, "only TLS 1.2 and 1.3");
}

static void a_short_tag_is_refused(void **state)
{
	(void)state;
	assert_unfit(
		(struct tls_pair_options){
			.prepare_ctx = prepare_without_security_level,
			.suite = "TLS_AES_128_CCM_8_SHA256",
		},
		-EOPNOTSUPP, "a tag of 8 bytes");
	assert_unfit(
		(struct tls_pair_options){
			.prepare_ctx = prepare_without_security_level,
			.version = TLS1_2_VERSION,
			.suite = "ECDHE-ECDSA-AES256-CCM8",
		},
		-EOPNOTSUPP, "a tag of 8 bytes");
}

static void a_suite_with_cbc_is_refused(void **state)
{
	(void)state;
	assert_unfit(
		(struct tls_pair_options){
			PREPARED,
			.version = TLS1_2_VERSION,
			.suite = "ECDHE-ECDSA-AES128-SHA256",
		},
		-EOPNOTSUPP, "CBC");
}

static void another_aead_is_refused(void **state)
{
	(void)state;
	assert_unfit(
		(struct tls_pair_options){
			PREPARED,
			.version = TLS1_2_VERSION,
			.suite = "ECDHE-ECDSA-ARIA128-GCM-SHA256",
		},
		-EOPNOTSUPP, "the cipher suite is not carried");
}

static void a_context_not_prepared_is_refused(void **state)
{
	(void)state;
	assert_unfit((struct tls_pair_options){ 0 }, -EINVAL,
		     "tls_handoff_prepare");
}

static void a_quic_stream_is_refused_as_such(void **state)
{
	(void)state;
#if OPENSSL_VERSION_NUMBER >= 0x30200000L
	SSL_CTX *ssl_ctx = SSL_CTX_new(OSSL_QUIC_client_method());
	SSL *ssl = SSL_new(ssl_ctx);
	struct tls_context *ctx;
	struct tls_conn *conn;

	assert_non_null(ssl);
	assert_int_equal(tls_context_new(&ctx, NULL), 0);
	assert_int_equal(tls_handoff(&conn, ctx, ssl), -EOPNOTSUPP);
	assert_non_null(strstr(tls_last_error(), "QUIC"));
	tls_context_free(ctx);
	SSL_free(ssl);
	SSL_CTX_free(ssl_ctx);
#else
	print_message("before OpenSSL 3.2 there is no QUIC\n");
	skip();
#endif
}

static void ignore_line(const SSL *ssl, const char *line)
{
	(void)ssl, (void)line;
}

static void replace_keylog(SSL_CTX *ctx)
{
	prepare_for_handoff(ctx);
	SSL_CTX_set_keylog_callback(ctx, ignore_line);
}

static void a_keylog_callback_replaced_is_refused(void **state)
{
	(void)state;
	assert_unfit((struct tls_pair_options){ .prepare_ctx = replace_keylog },
		     -EINVAL, "SSL_CTX_set_keylog_callback");
}

static void another_handshake_not_followed_is_refused(void **state)
{
	struct tls_pair pair;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	assert_still_usable(pair.server, pair.client);
	SSL_CTX_set_keylog_callback(pair.sctx, NULL);
	SSL_set_shutdown(pair.server, SSL_SENT_SHUTDOWN);
	SSL_set_shutdown(pair.client, SSL_SENT_SHUTDOWN);
	assert_int_equal(SSL_clear(pair.server), 1);
	assert_int_equal(SSL_clear(pair.client), 1);
	assert_int_equal(tls_pair_set_blocking(&pair, false), 0);
	assert_int_equal(tls_pair_handshake(&pair), 0);
	assert_int_equal(tls_pair_set_blocking(&pair, true), 0);
	assert_refused(pair.server, -EINVAL, "tls_handoff_prepare");
	drop(take(pair.client));
	assert_still_usable(pair.server, pair.client);
	tls_pair_free(&pair);
}

static void an_unfinished_handshake_is_refused(void **state)
{
	struct tls_pair_options options = { PREPARED };
	struct tls_pair pair;

	(void)state;
	assert_int_equal(tls_pair_open(&pair, &options), 0);
	assert_refused(pair.server, -EINVAL, "not finished");
	while (SSL_do_handshake(pair.client) != 1) {
		assert_refused(pair.client, -EINVAL, "not finished");
		SSL_do_handshake(pair.server);
		assert_refused(pair.server, -EINVAL, "not finished");
	}
	assert_int_equal(tls_pair_handshake(&pair), 0);
	assert_int_equal(tls_pair_set_blocking(&pair, true), 0);
	assert_still_usable(pair.server, pair.client);
	drop(take(pair.server));
	tls_pair_free(&pair);
}

/* ---- The wrong sort of descriptor -------------------------------------- */

static void pass_bytes(SSL *a, SSL *b)
{
	char buf[4096];
	int n;

	while ((n = BIO_read(SSL_get_wbio(a), buf, sizeof(buf))) > 0)
		assert_int_equal(BIO_write(SSL_get_rbio(b), buf, n), n);
}

static void use_memory(SSL *ssl)
{
	SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
}

static void memory_bios_are_refused(void **state)
{
	struct tls_pair_options options = { PREPARED };
	struct tls_pair pair;

	(void)state;
	assert_int_equal(tls_pair_open(&pair, &options), 0);
	use_memory(pair.server);
	use_memory(pair.client);
	while (SSL_do_handshake(pair.client) != 1 ||
	       SSL_do_handshake(pair.server) != 1) {
		pass_bytes(pair.client, pair.server);
		SSL_do_handshake(pair.server);
		pass_bytes(pair.server, pair.client);
	}
	assert_refused(pair.server, -EINVAL, "SSL_set_fd");
	assert_refused(pair.client, -EINVAL, "SSL_set_fd");
	say(pair.server, "usable");
	pass_bytes(pair.server, pair.client);
	hear(pair.client, "usable");
	tls_pair_free(&pair);
}

static void read_another_descriptor(SSL *server, SSL *client)
{
	(void)client;
	assert_int_equal(SSL_set_rfd(server, dup(SSL_get_fd(server))), 1);
}

static void two_descriptors_are_refused(void **state)
{
	struct tls_pair pair;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){
				 PREPARED,
				 .prepare = read_another_descriptor,
			 });
	assert_refused(pair.server, -EINVAL, "different descriptors");
	assert_still_usable(pair.server, pair.client);
	close(SSL_get_rfd(pair.server));
	tls_pair_free(&pair);
}

static void a_file_is_refused(void **state)
{
	struct tls_pair pair;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	assert_true(dup2(null, pair.fd[0]) >= 0);
	assert_refused(pair.server, -ENOTSOCK, "stream socket");
	close(null);
	tls_pair_free(&pair);
}

static void a_datagram_socket_is_refused(void **state)
{
	struct tls_pair pair;
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	assert_true(dup2(fd, pair.fd[0]) >= 0);
	assert_refused(pair.server, -ENOTSOCK, "stream socket");
	close(fd);
	tls_pair_free(&pair);
}

static void a_closed_descriptor_is_refused(void **state)
{
	struct tls_pair pair;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	close(pair.fd[0]);
	pair.fd[0] = -1;
	assert_refused(pair.server, -EINVAL, "closed");
	tls_pair_free(&pair);
}

/* ---- BIOs --------------------------------------------------------------- */

static void a_bio_exchanged_is_refused(void **state)
{
	struct tls_pair pair;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	assert_int_equal(SSL_set_fd(pair.server, pair.fd[0]), 1);
	assert_refused(pair.server, -EINVAL, "exchanged");
	assert_still_usable(pair.server, pair.client);
	tls_pair_free(&pair);
}

static long pass(BIO *bio, int oper, const char *argp, size_t len, int argi,
		 long argl, int ret, size_t *processed)
{
	(void)bio, (void)oper, (void)argp, (void)len, (void)argi, (void)argl;
	(void)processed;
	return ret;
}

static void a_bio_callback_that_hides_reads_is_refused(void **state)
{
	struct tls_pair pair;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	BIO_set_callback_ex(SSL_get_rbio(pair.server), pass);
	drop(take(pair.server));
	say(pair.client, "hidden");
	hear(pair.server, "hidden");
	assert_refused(pair.server, -EINVAL, "callback");
	assert_still_usable(pair.server, pair.client);
	tls_pair_free(&pair);
}

static void a_bio_callback_that_hides_writes_is_refused(void **state)
{
	struct tls_pair pair;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	BIO_set_callback_ex(SSL_get_wbio(pair.server), pass);
	drop(take(pair.server));
	say(pair.server, "hidden");
	assert_refused(pair.server, -EINVAL, "callback");
	hear(pair.client, "hidden");
	assert_still_usable(pair.server, pair.client);
	tls_pair_free(&pair);
}

/* Whoever writes past OpenSSL breaks the connection; we must not break. */
static void assert_raw_bytes_refused(const char *bytes, int len,
				     const char *words)
{
	struct tls_pair pair;

	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	assert_int_equal(BIO_write(SSL_get_wbio(pair.server), bytes, len), len);
	assert_refused(pair.server, -EPROTO, words);
	tls_pair_free(&pair);
}

static void a_record_too_long_is_refused(void **state)
{
	(void)state;
	assert_raw_bytes_refused("\x17\x03\x03\x41\x01\0", 6, "too long");
	assert_raw_bytes_refused("\x17\x03\x03\xff\xff\0", 6, "too long");
}

static void a_record_in_the_clear_is_refused(void **state)
{
	(void)state;
	assert_raw_bytes_refused("\x15\x03\x03\0\x02\x02\x28", 7, "clear");
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static int old_calls;

static long old_callback(BIO *bio, int oper, const char *argp, int argi,
			 long argl, long ret)
{
	(void)bio, (void)oper, (void)argp, (void)argi, (void)argl;
	old_calls++;
	return ret;
}

static void use_old_callback(SSL *server, SSL *client)
{
	(void)client;
	BIO_set_callback(SSL_get_rbio(server), old_callback);
}

static void a_bio_callback_of_the_old_kind_is_refused(void **state)
{
	struct tls_pair pair;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){
				 PREPARED,
				 .prepare = use_old_callback,
			 });
	assert_refused(pair.server, -EINVAL, "BIO_set_callback_ex");
	old_calls = 0;
	assert_still_usable(pair.server, pair.client);
	assert_true(old_calls > 0);
	tls_pair_free(&pair);
}
#pragma GCC diagnostic pop

/* ---- Bytes in OpenSSL's hands ------------------------------------------- */

static void fill_the_socket(SSL *ssl, const char *data, int len)
{
	SSL_set_mode(ssl, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	while (SSL_write(ssl, data, len) == len)
		;
	assert_int_equal(SSL_get_error(ssl, -1), SSL_ERROR_WANT_WRITE);
}

static void a_blocked_write_is_refused(void **state)
{
	static char data[10000], got[10000];
	struct tls_pair pair;
	int ret;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){
				 PREPARED,
				 .nonblocking = true,
			 });
	fill_the_socket(pair.server, data, sizeof(data));
	assert_refused(pair.server, -EBUSY, "SSL_write");
	/* a read in between makes OpenSSL forget what it wants */
	assert_int_equal(SSL_read(pair.server, got, 1), -1);
	assert_false(SSL_want_write(pair.server));
	assert_refused(pair.server, -EBUSY, "SSL_write");
	do {
		while (SSL_read(pair.client, got, sizeof(got)) > 0)
			;
		ret = SSL_write(pair.server, data, sizeof(data));
	} while (ret != sizeof(data));
	drop(take(pair.server));
	tls_pair_free(&pair);
}

static void nobody_reads_the_socket(SSL *server, SSL *client)
{
	int small = 1;

	(void)client;
	setsockopt(SSL_get_fd(server), SOL_SOCKET, SO_SNDBUF, &small,
		   sizeof(small));
}

/* A unix socket takes a write whole or not at all: nothing is half sent. */
static void a_write_not_begun_is_refused(void **state)
{
	static char data[1000], got[1000];
	struct tls_pair pair;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){
				 PREPARED,
				 .unix_sockets = true,
				 .nonblocking = true,
				 .prepare = nobody_reads_the_socket,
			 });
	fill_the_socket(pair.server, data, sizeof(data));
	assert_int_equal(SSL_read(pair.server, got, 1), -1);
	assert_refused(pair.server, -EBUSY, "SSL_write");
	while (SSL_read(pair.client, got, sizeof(got)) > 0)
		;
	assert_int_equal(SSL_write(pair.server, data, sizeof(data)),
			 sizeof(data));
	drop(take(pair.server));
	tls_pair_free(&pair);
}

static void read_ahead(SSL_CTX *ctx)
{
	prepare_for_handoff(ctx);
	SSL_CTX_set_read_ahead(ctx, 1);
}

static void records_read_ahead_are_refused_until_they_are_read(void **state)
{
	struct tls_pair pair;

	(void)state;
	open_pair(&pair,
		  (struct tls_pair_options){ .prepare_ctx = read_ahead });
	say(pair.client, "one");
	say(pair.client, "two");
	hear(pair.server, "one");
	assert_refused(pair.server, -EBUSY, "read ahead");
	SSL_set_read_ahead(pair.server, 0);
	assert_refused(pair.server, -EBUSY, "read ahead");
	hear(pair.server, "t");
	assert_refused(pair.server, -EBUSY, "read ahead");
	hear(pair.server, "wo");
	drop(take(pair.server));
	assert_still_usable(pair.server, pair.client);
	tls_pair_free(&pair);
}

/* A record and half of another one, in one read. */
static void half_a_record_read_ahead_is_refused(void **state)
{
	struct tls_pair pair;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){
				 .prepare_ctx = read_ahead,
				 .unix_sockets = true,
				 .trickle = 4096,
				 .set_tickets = true,
			 });
	say(pair.client, "0123456789"); /* 32 bytes each */
	say(pair.client, "9876543210");
	pair.trickle = 32 + 10;
	assert_int_equal(tls_pair_step(&pair), 42);
	hear(pair.server, "0123456789");
	assert_refused(pair.server, -EBUSY, "read ahead");
	assert_int_equal(tls_pair_step(&pair), 22);
	hear(pair.server, "9876543210");
	drop(take(pair.server));
	tls_pair_free(&pair);
}

/* ---- Ended, or failed ---------------------------------------------------- */

static void a_connection_the_peer_closed_is_refused(void **state)
{
	struct tls_pair pair;
	char c;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	assert_int_equal(SSL_shutdown(pair.client), 0);
	assert_int_equal(SSL_read(pair.server, &c, 1), 0);
	assert_refused(pair.server, -EINVAL, "peer has closed");
	assert_refused(pair.client, -EINVAL, "SSL_shutdown");
	assert_int_equal(SSL_shutdown(pair.server), 1);
	tls_pair_free(&pair);
}

static void a_failed_connection_is_refused(void **state)
{
	static const char forged[] = "\x17\x03\x03\x00\x20"
				     "0123456789abcdef0123456789abcdef";
	struct tls_pair pair;
	char c;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	assert_int_equal(send(pair.fd[1], forged, 37, 0), 37);
	assert_int_equal(SSL_read(pair.server, &c, 1), -1);
	assert_refused(pair.server, -EINVAL, "failed");
	tls_pair_free(&pair);
}

static void a_connection_cut_off_is_refused(void **state)
{
	struct tls_pair pair;
	char c;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	assert_int_equal(shutdown(pair.fd[1], SHUT_WR), 0);
	assert_true(SSL_read(pair.server, &c, 1) <= 0);
	assert_refused(pair.server, -EINVAL, "failed");
	tls_pair_free(&pair);
}

/* ---- No memory ----------------------------------------------------------- */

void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *ptr, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *ptr, size_t size);

static int until_failure = -1;

static int fails_now(void)
{
	return until_failure >= 0 && until_failure-- == 0;
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails_now() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *ptr, size_t size)
{
	return fails_now() ? NULL : __real_realloc(ptr, size);
}

/* Until the handshake asks for memory less than so many times; how often. */
static int fail_each_allocation(int version)
{
	struct tls_pair_options options = { PREPARED, .version = version };
	struct tls_pair pair;
	int i, refused = 0;
	bool failed = true;

	for (i = 0; failed; i++) {
		assert_int_equal(tls_pair_open(&pair, &options), 0);
		until_failure = i;
		assert_int_equal(tls_pair_handshake(&pair), 0);
		assert_int_equal(tls_pair_set_blocking(&pair, true), 0);
		assert_still_usable(pair.server, pair.client);
		failed = until_failure < 0;
		if (failed) {
			const char *why = "";
			struct handoff *h = malloc(sizeof(*h));
			int a = handoff_take(h, pair.server, &why);
			int b = handoff_take(h, pair.client, &why);

			assert_true(!a || a == -ENOMEM);
			assert_true(!b || b == -ENOMEM);
			refused += a || b;
			free(h);
		}
		assert_still_usable(pair.server, pair.client);
		tls_pair_free(&pair);
	}
	until_failure = -1;
	return refused;
}

/* States, hooks, headers and bodies, at both ends and in both ways. */
static void any_allocation_may_fail(void **state)
{
	(void)state;
	assert_true(fail_each_allocation(TLS1_3_VERSION) > 10);
	assert_true(fail_each_allocation(TLS1_2_VERSION) > 10);
}

static void preparing_may_fail(void **state)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	const char *why = NULL;

	(void)state;
	until_failure = 0;
	assert_int_equal(handoff_prepare(ctx, &why), -ENOMEM);
	assert_string_equal(why, "out of memory");
	assert_null(SSL_CTX_get_keylog_callback(ctx));
	assert_int_equal(handoff_prepare(ctx, &why), 0);
	SSL_CTX_free(ctx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tls_1_1_is_refused),
		cmocka_unit_test(a_short_tag_is_refused),
		cmocka_unit_test(a_suite_with_cbc_is_refused),
		cmocka_unit_test(another_aead_is_refused),
		cmocka_unit_test(a_context_not_prepared_is_refused),
		cmocka_unit_test(a_quic_stream_is_refused_as_such),
		cmocka_unit_test(a_keylog_callback_replaced_is_refused),
		cmocka_unit_test(another_handshake_not_followed_is_refused),
		cmocka_unit_test(an_unfinished_handshake_is_refused),
		cmocka_unit_test(memory_bios_are_refused),
		cmocka_unit_test(two_descriptors_are_refused),
		cmocka_unit_test(a_file_is_refused),
		cmocka_unit_test(a_datagram_socket_is_refused),
		cmocka_unit_test(a_closed_descriptor_is_refused),
		cmocka_unit_test(a_bio_exchanged_is_refused),
		cmocka_unit_test(a_bio_callback_that_hides_reads_is_refused),
		cmocka_unit_test(a_bio_callback_that_hides_writes_is_refused),
		cmocka_unit_test(a_record_too_long_is_refused),
		cmocka_unit_test(a_record_in_the_clear_is_refused),
		cmocka_unit_test(a_bio_callback_of_the_old_kind_is_refused),
		cmocka_unit_test(a_blocked_write_is_refused),
		cmocka_unit_test(a_write_not_begun_is_refused),
		cmocka_unit_test(
			records_read_ahead_are_refused_until_they_are_read),
		cmocka_unit_test(half_a_record_read_ahead_is_refused),
		cmocka_unit_test(a_connection_the_peer_closed_is_refused),
		cmocka_unit_test(a_failed_connection_is_refused),
		cmocka_unit_test(a_connection_cut_off_is_refused),
		cmocka_unit_test(any_allocation_may_fail),
		cmocka_unit_test(preparing_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
