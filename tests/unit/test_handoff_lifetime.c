/* SPDX-License-Identifier: MIT */
/* What was there before hand-over, what outlives it, and in which thread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "handoff_check.h"

/* ---- Callbacks that were there before ---------------------------------- */

static int lines_logged;

static void count_lines(const SSL *ssl, const char *line)
{
	(void)ssl;
	lines_logged += !strncmp(line, "CLIENT_TRAFFIC_SECRET_0", 23);
}

static void log_then_prepare(SSL_CTX *ctx)
{
	SSL_CTX_set_keylog_callback(ctx, count_lines);
	prepare_for_handoff(ctx);
	prepare_for_handoff(ctx);
}

static void the_applications_keylog_callback_is_called(void **state)
{
	(void)state;
	lines_logged = 0;
	assert_either_end(
		(struct tls_pair_options){ .prepare_ctx = log_then_prepare });
	assert_int_equal(lines_logged, 4);
}

static SSL_CTX_keylog_cb_func before_wrapping;

static void wrap(const SSL *ssl, const char *line)
{
	count_lines(ssl, line);
	before_wrapping(ssl, line);
}

static void wrap_and_prepare_again(SSL_CTX *ctx)
{
	prepare_for_handoff(ctx);
	before_wrapping = SSL_CTX_get_keylog_callback(ctx);
	SSL_CTX_set_keylog_callback(ctx, wrap);
	prepare_for_handoff(ctx);
}

static void a_keylog_callback_may_call_ours(void **state)
{
	(void)state;
	lines_logged = 0;
	assert_either_end((struct tls_pair_options){
		.prepare_ctx = wrap_and_prepare_again });
	assert_int_equal(lines_logged, 4);
}

static int bytes_seen;

static long count_bytes(BIO *bio, int oper, const char *argp, size_t len,
			int argi, long argl, int ret, size_t *processed)
{
	(void)argp, (void)len, (void)argi, (void)argl;
	assert_string_equal(BIO_get_callback_arg(bio), "mine");
	if ((oper == (BIO_CB_READ | BIO_CB_RETURN) ||
	     oper == (BIO_CB_WRITE | BIO_CB_RETURN)) &&
	    ret > 0)
		bytes_seen += (int)*processed;
	return ret;
}

static void watch_server(SSL *server, SSL *client)
{
	(void)client;
	BIO_set_callback_ex(SSL_get_rbio(server), count_bytes);
	BIO_set_callback_arg(SSL_get_rbio(server), "mine");
}

static void a_bio_callback_goes_on_being_called(void **state)
{
	struct tls_pair pair;
	BIO *bio;

	(void)state;
	bytes_seen = 0;
	open_pair(&pair, (struct tls_pair_options){
				 PREPARED,
				 .prepare = watch_server,
			 });
	assert_still_usable(pair.server, pair.client);
	bio = SSL_get_rbio(pair.server);
	assert_int_equal(bytes_seen,
			 BIO_number_read(bio) + BIO_number_written(bio));
	assert_ptr_not_equal(BIO_get_callback_ex(bio), count_bytes);
	assert_hand_over(pair.server, pair.client);
	assert_ptr_equal(BIO_get_callback_ex(bio), count_bytes);
	assert_string_equal(BIO_get_callback_arg(bio), "mine");
	tls_pair_free(&pair);
}

static BIO_callback_fn_ex below;

static long call_below(BIO *bio, int oper, const char *argp, size_t len,
		       int argi, long argl, int ret, size_t *processed)
{
	return below(bio, oper, argp, len, argi, argl, ret, processed);
}

static void a_bio_callback_set_later_may_outlive_the_ssl(void **state)
{
	struct tls_pair pair;
	BIO *bio;

	(void)state;
	bytes_seen = 0;
	open_pair(&pair, (struct tls_pair_options){
				 PREPARED,
				 .prepare = watch_server,
			 });
	bio = SSL_get_rbio(pair.server);
	below = BIO_get_callback_ex(bio);
	BIO_set_callback_ex(bio, call_below);
	assert_still_usable(pair.server, pair.client);
	BIO_up_ref(bio);
	assert_hand_over(pair.server, pair.client);
	SSL_free(pair.server);
	pair.server = NULL;
	assert_ptr_equal(BIO_get_callback_ex(bio), call_below);
	bytes_seen = 0;
	assert_int_equal(BIO_write(bio, "raw", 3), 3);
	assert_int_equal(bytes_seen, 3);
	BIO_free(bio);
	tls_pair_free(&pair);
}

/* ---- Lifetimes --------------------------------------------------------- */

static void the_ssl_may_be_freed_at_once(void **state)
{
	struct tls_pair pair;
	struct handoff *h;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	h = take(pair.server);
	handoff_commit(pair.server);
	SSL_free(pair.server);
	pair.server = NULL;
	assert_goes_on(h, pair.client);
	drop(h);
	tls_pair_free(&pair);
}

static void freeing_the_ssl_keeps_the_session(void **state)
{
	struct tls_pair pair;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	SSL_CTX_set_session_cache_mode(pair.cctx, SSL_SESS_CACHE_CLIENT);
	say(pair.server, "tickets first");
	hear(pair.client, "tickets first");
	assert_int_equal(SSL_CTX_sess_number(pair.cctx), 2);
	drop(take(pair.client));
	handoff_commit(pair.client);
	SSL_free(pair.client);
	pair.client = NULL;
	assert_int_equal(SSL_CTX_sess_number(pair.cctx), 2);
	tls_pair_free(&pair);
}

static void freeing_the_ssl_sends_nothing(void **state)
{
	struct tls_pair pair;
	char c;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){
				 PREPARED,
				 .set_tickets = true,
			 });
	drop(take(pair.server));
	handoff_commit(pair.server);
	SSL_shutdown(pair.server);
	SSL_free(pair.server);
	pair.server = NULL;
	assert_int_equal(recv(pair.fd[1], &c, 1, MSG_DONTWAIT), -1);
	tls_pair_free(&pair);
}

static void a_bio_may_go_before_its_ssl(void **state)
{
	struct tls_pair pair;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	SSL_set_bio(pair.server, NULL, NULL);
	assert_refused(pair.server, -EINVAL, "SSL_set_fd");
	tls_pair_free(&pair);
}

static void an_ssl_used_again_is_followed_again(void **state)
{
	struct tls_pair pair;
	struct handoff *h;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){
				 PREPARED,
				 .set_tickets = true,
			 });
	for (int i = 0; i < 3; i++)
		assert_still_usable(pair.server, pair.client);
	SSL_set_shutdown(pair.server, SSL_SENT_SHUTDOWN);
	SSL_set_shutdown(pair.client, SSL_SENT_SHUTDOWN);
	assert_int_equal(SSL_clear(pair.server), 1);
	assert_int_equal(SSL_clear(pair.client), 1);
	assert_int_equal(tls_pair_set_blocking(&pair, false), 0);
	assert_int_equal(tls_pair_handshake(&pair), 0);
	assert_int_equal(tls_pair_set_blocking(&pair, true), 0);
	h = take(pair.server);
	assert_int_equal(h->tx.seq, 0);
	assert_int_equal(h->rx.seq, 0);
	assert_goes_on(h, pair.client);
	drop(h);
	tls_pair_free(&pair);
}

static void a_bio_moved_to_another_ssl_is_followed_there(void **state)
{
	struct tls_pair pair;
	SSL *old;
	BIO *bio;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){
				 PREPARED,
				 .set_tickets = true,
			 });
	old = pair.server;
	bio = SSL_get_rbio(old);
	pair.server = SSL_new(pair.sctx);
	BIO_up_ref(bio);
	SSL_set_bio(pair.server, bio, bio);
	SSL_set_accept_state(pair.server);
	SSL_set_shutdown(pair.client, SSL_SENT_SHUTDOWN);
	assert_int_equal(SSL_clear(pair.client), 1);
	assert_int_equal(tls_pair_set_blocking(&pair, false), 0);
	assert_int_equal(tls_pair_handshake(&pair), 0);
	assert_int_equal(tls_pair_set_blocking(&pair, true), 0);
	assert_refused(old, -EINVAL, "exchanged");
	SSL_free(old);
	assert_still_usable(pair.server, pair.client);
	assert_hand_over(pair.server, pair.client);
	tls_pair_free(&pair);
}

static void taking_twice_gives_the_same(void **state)
{
	struct tls_pair pair;
	struct handoff *a, *b;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	assert_still_usable(pair.server, pair.client);
	a = take(pair.server);
	b = take(pair.server);
	assert_memory_equal(a, b, sizeof(*a));
	drop(a);
	drop(b);
	assert_still_usable(pair.server, pair.client);
	tls_pair_free(&pair);
}

static void wiping_leaves_nothing(void **state)
{
	static const struct handoff nothing;
	struct tls_pair pair;
	struct handoff *h;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	h = take(pair.server);
	handoff_wipe(h);
	assert_memory_equal(h, &nothing, sizeof(nothing));
	free(h);
	tls_pair_free(&pair);
}

/* ---- Threads ----------------------------------------------------------- */

static void *hand_over_many(void *arg)
{
	const struct tls_pair_options *options = arg;

	for (int i = 0; i < 20; i++) {
		struct handoff *h = malloc(sizeof(*h));
		const char *why = "";
		struct tls_pair pair;
		int error;

		if (!h || tls_pair_new(&pair, options))
			return "no pair";
		error = handoff_take(h, pair.server, &why);
		if (!error && h->tx.seq != 2)
			why = "wrong sequence number";
		handoff_commit(pair.server);
		tls_pair_free(&pair);
		free(h);
		if (error || *why)
			return (void *)why;
	}
	return NULL;
}

static void threads_may_share_an_ssl_ctx(void **state)
{
	struct tls_pair first;
	struct tls_pair_options options = { PREPARED };
	pthread_t threads[4];

	(void)state;
	open_pair(&first, options);
	options = (struct tls_pair_options){ .sctx = first.sctx,
					     .cctx = first.cctx };
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL,
						hand_over_many, &options),
				 0);
	for (int i = 0; i < 4; i++) {
		void *why = NULL;

		pthread_join(threads[i], &why);
		if (why)
			fail_msg("%s", (const char *)why);
	}
	tls_pair_free(&first);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_applications_keylog_callback_is_called),
		cmocka_unit_test(a_keylog_callback_may_call_ours),
		cmocka_unit_test(a_bio_callback_goes_on_being_called),
		cmocka_unit_test(a_bio_callback_set_later_may_outlive_the_ssl),
		cmocka_unit_test(the_ssl_may_be_freed_at_once),
		cmocka_unit_test(freeing_the_ssl_keeps_the_session),
		cmocka_unit_test(freeing_the_ssl_sends_nothing),
		cmocka_unit_test(a_bio_may_go_before_its_ssl),
		cmocka_unit_test(an_ssl_used_again_is_followed_again),
		cmocka_unit_test(a_bio_moved_to_another_ssl_is_followed_there),
		cmocka_unit_test(taking_twice_gives_the_same),
		cmocka_unit_test(wiping_leaves_nothing),
		cmocka_unit_test(threads_may_share_an_ssl_ctx),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
