/* SPDX-License-Identifier: MIT */
/* What is given at hand-over holds from a connection's first event on. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "both.h"
#include "handed.h"
#include "tls_pair.h"
#include "wire.h"

enum { MANY = 100 };

static struct tls_context *context(enum tls_context_kind kind)
{
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *ctx;

	config.kind = kind;
	assert_int_equal(tls_context_new(&ctx, &config), 0);
	return ctx;
}

/* End 0, whose peer is the descriptor other. */
static struct tls_conn *take(struct tls_context *ctx, int *other,
			     const struct tls_options *options)
{
	struct tls_secrets secrets = *both_secrets(0);
	struct tls_conn *conn;
	int fd[2];

	socket_pair(fd, true);
	secrets.options = options;
	assert_int_equal(tls_handoff_secrets(&conn, ctx, fd[0], &secrets), 0);
	*other = fd[1];
	return conn;
}

static void drop(struct tls_conn *conn, int other)
{
	int fd = tls_conn_fd(conn);

	tls_close(conn, 0);
	close(fd);
	close(other);
}

/* ---- The application's pointer ----------------------------------------- */

struct listener {
	struct tls_context *ctx;
	int told, without;
};

static void *listen_for_ends(void *arg)
{
	struct listener *l = arg;
	struct tls_event events[8];
	int i, n;

	while (l->told < MANY) {
		n = tls_context_wait(l->ctx, events, 8, 10000);
		if (n <= 0)
			break;
		for (i = 0; i < n; i++) {
			l->told += (events[i].events & TLS_CLOSED) != 0;
			l->without += events[i].data == NULL;
			tls_conn_want(events[i].conn, 0);
		}
	}
	return NULL;
}

/* The peer has gone before the hand-over: that is an event at once. */
static void another_threads_first_event_has_the_data(void **state)
{
	struct listener l = { .ctx = context(TLS_CONTEXT_WORKER) };
	static struct tls_conn *conns[MANY];
	static int others[MANY];
	pthread_t thread;
	int i;

	(void)state;
	pthread_create(&thread, NULL, listen_for_ends, &l);
	for (i = 0; i < MANY; i++) {
		struct tls_options options = TLS_OPTIONS_INIT;
		struct tls_secrets secrets = *both_secrets(0);
		int fd[2];

		socket_pair(fd, true);
		shutdown(fd[1], SHUT_WR);
		options.data = &conns[i];
		secrets.options = &options;
		assert_int_equal(tls_handoff_secrets(&conns[i], l.ctx, fd[0],
						     &secrets), 0);
		others[i] = fd[1];
	}
	pthread_join(thread, NULL);
	assert_int_equal(l.told, MANY);
	assert_int_equal(l.without, 0);
	for (i = 0; i < MANY; i++) {
		assert_ptr_equal(tls_conn_data(conns[i]), &conns[i]);
		drop(conns[i], others[i]);
	}
	tls_context_free(l.ctx);
}

/* ---- The rest ----------------------------------------------------------- */

static void only_the_events_wanted_are_told(void **state)
{
	struct tls_options options = TLS_OPTIONS_INIT;
	struct tls_context *ctx = context(TLS_CONTEXT_LOOP);
	struct tls_event event;
	struct tls_conn *conn;
	int other;

	(void)state;
	options.events = TLS_CLOSED;
	conn = take(ctx, &other, &options);
	shutdown(other, SHUT_WR);
	assert_int_equal(tls_context_wait(ctx, &event, 1, 1000), 1);
	assert_int_equal(event.events, TLS_CLOSED);
	drop(conn, other);
	tls_context_free(ctx);
}

static void an_end_without_close_notify_may_be_allowed_at_once(void **state)
{
	struct tls_options options = TLS_OPTIONS_INIT;
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *ctx = context(TLS_CONTEXT_LOOP);
	struct tls_conn *conn;
	char buf[10];
	int other;

	(void)state;
	options.ignore_eof = 1;
	conn = take(ctx, &other, &options);
	shutdown(other, SHUT_WR);
	assert_int_equal(tls_read(conn, buf, sizeof(buf)), 0);
	drop(conn, other);
	tls_context_free(ctx);

	config.kind = TLS_CONTEXT_LOOP;
	config.ignore_eof = 1;
	assert_int_equal(tls_context_new(&ctx, &config), 0);
	conn = take(ctx, &other, NULL);
	shutdown(other, SHUT_WR);
	assert_int_equal(tls_read(conn, buf, sizeof(buf)), 0);
	drop(conn, other);
	tls_context_free(ctx);
}

static void ignore_on_the_ssl(SSL *server, SSL *client)
{
	(void)client;
	SSL_set_options(server, SSL_OP_IGNORE_UNEXPECTED_EOF);
}

static void prepare(SSL_CTX *ctx)
{
	assert_int_equal(tls_handoff_prepare(ctx), 0);
}

static void openssls_option_for_that_is_heeded(void **state)
{
	struct tls_context *ctx = context(TLS_CONTEXT_WORKER);
	struct tls_pair pair;
	struct tls_conn *conn;
	char buf[10];

	(void)state;
	assert_int_equal(tls_pair_new(&pair, &(struct tls_pair_options){
		.prepare_ctx = prepare, .prepare = ignore_on_the_ssl }), 0);
	conn = handed_over(ctx, pair.server);
	shutdown(pair.fd[1], SHUT_WR);
	assert_int_equal(tls_read(conn, buf, sizeof(buf)), 0);
	tls_close(conn, 0);
	tls_pair_free(&pair);
	tls_context_free(ctx);
}

static void options_come_with_an_ssl_too(void **state)
{
	struct tls_options options = TLS_OPTIONS_INIT;
	struct tls_context *ctx = context(TLS_CONTEXT_LOOP);
	struct tls_pair pair;
	struct tls_conn *conn;

	(void)state;
	assert_int_equal(tls_pair_new(&pair, &(struct tls_pair_options){
		.prepare_ctx = prepare }), 0);
	options.data = &pair;
	options.size = 4;
	assert_int_equal(tls_handoff_with(&conn, ctx, pair.server, &options),
			 -EINVAL);
	assert_non_null(strstr(tls_last_error(), "tls_options.size is 4"));
	options.size = sizeof(options);
	assert_int_equal(tls_handoff_with(&conn, ctx, pair.server, &options),
			 0);
	assert_ptr_equal(tls_conn_data(conn), &pair);
	handed_says(conn, pair.client, "taken");
	tls_close(conn, 0);
	tls_pair_free(&pair);
	tls_context_free(ctx);
}

static void a_window_comes_with_them(void **state)
{
	struct tls_options options = TLS_OPTIONS_INIT;
	struct tls_context *ctx = context(TLS_CONTEXT_LOOP);
	static uint8_t much[4 << 20];
	struct tls_conn *conn;
	int other, turn;

	(void)state;
	options.send_window = 2000;
	conn = take(ctx, &other, &options);
	set_blocking(tls_conn_fd(conn), false);
	for (turn = 0; turn < 100; turn++) {
		tls_write(conn, much, sizeof(much));
		tls_context_process(ctx);
	}
	assert_true(tls_flush_timeout(conn, 0) <= 4000);
	drop(conn, other);
	tls_context_free(ctx);
}

#define TEST(name) cmocka_unit_test(name)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(another_threads_first_event_has_the_data),
		TEST(only_the_events_wanted_are_told),
		TEST(an_end_without_close_notify_may_be_allowed_at_once),
		TEST(openssls_option_for_that_is_heeded),
		TEST(options_come_with_an_ssl_too),
		TEST(a_window_comes_with_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
