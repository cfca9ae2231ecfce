/* SPDX-License-Identifier: MIT */
/* A connection's descriptor: whose it is, and what becomes of it. */
#include <errno.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "both.h"
#include "handed.h"
#include "handoff_check.h"
#include "wire.h"

static struct tls_context *ctx;

static int begin(void **state)
{
	struct tls_config config = TLS_CONFIG_INIT;

	config.kind = *state ? TLS_CONTEXT_WORKER : TLS_CONTEXT_LOOP;
	return tls_context_new(&ctx, &config);
}

static int end(void **state)
{
	(void)state;
	tls_context_free(ctx);
	return 0;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* The peer sees the end of TCP behind close_notify. */
static void assert_ended(SSL *peer)
{
	char c;

	assert_int_equal(SSL_read(peer, &c, 1), 0);
	assert_int_equal(recv(SSL_get_fd(peer), &c, 1, 0), 0);
}

/* ---- BIOs that close it ------------------------------------------------ */

static void bios_close(SSL *server, SSL *client)
{
	BIO *bio = BIO_new_socket(SSL_get_fd(server), BIO_CLOSE);

	(void)client;
	assert_non_null(bio);
	SSL_set_bio(server, bio, bio);
}

/* The SSL is freed; the number is free for the next one, or is it? */
static void its_records_reach_no_other_connection(void **state)
{
	struct tls_conn *conn;
	struct tls_pair pair;
	int other[2];
	char buf[10];

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED,
						    .prepare = bios_close });
	conn = handed_over(ctx, pair.server);
	SSL_free(pair.server);
	pair.server = NULL;
	socket_pair(other, false);
	handed_says(conn, pair.client, "to nobody else");
	assert_int_equal(recv(other[1], buf, 1, MSG_DONTWAIT), -1);
	assert_int_equal(recv(other[0], buf, 1, MSG_DONTWAIT), -1);
	close(other[0]);
	close(other[1]);
	tls_close(conn, 1000);
	pair.fd[0] = -1;
	tls_pair_free(&pair);
}

static void tls_close_closes_what_a_bio_would_have_closed(void **state)
{
	(void)state;
	for (int keep_ssl = 0; keep_ssl < 2; keep_ssl++) {
		struct tls_conn *conn;
		struct tls_pair pair;

		open_pair(&pair,
			  (struct tls_pair_options){ PREPARED,
						     .prepare = bios_close });
		conn = handed_over(ctx, pair.server);
		if (!keep_ssl)
			SSL_free(pair.server);
		assert_true(is_open(pair.fd[0]));
		tls_close(conn, 1000);
		/* then it is with the SSL, as ever */
		assert_int_equal(is_open(pair.fd[0]), keep_ssl);
		if (keep_ssl)
			SSL_free(pair.server);
		pair.server = NULL;
		assert_false(is_open(pair.fd[0]));
		assert_ended(pair.client);
		pair.fd[0] = -1;
		tls_pair_free(&pair);
	}
}

/* BIO_set_fd() closes what the BIO had. */
static void its_bio_may_be_given_another_descriptor(void **state)
{
	struct tls_conn *conn;
	struct tls_pair pair;
	int other[2];

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED,
						    .prepare = bios_close });
	conn = handed_over(ctx, pair.server);
	socket_pair(other, false);
	BIO_set_fd(SSL_get_rbio(pair.server), other[0], BIO_CLOSE);
	handed_says(conn, pair.client, "still there");
	tls_close(conn, 1000);
	assert_false(is_open(pair.fd[0]));
	assert_true(is_open(other[0]));
	assert_ended(pair.client);
	close(other[1]);
	pair.fd[0] = -1;
	tls_pair_free(&pair);
	assert_false(is_open(other[0]));
}

static void freeing_the_context_closes_it_too(void **state)
{
	struct tls_pair pair;
	void *kind = *state;

	open_pair(&pair, (struct tls_pair_options){ PREPARED,
						    .prepare = bios_close });
	handed_over(ctx, pair.server);
	SSL_free(pair.server);
	pair.server = NULL;
	tls_context_free(ctx);
	assert_false(is_open(pair.fd[0]));
	assert_int_equal(begin(&kind), 0);
	pair.fd[0] = -1;
	tls_pair_free(&pair);
}

static void one_that_the_bio_leaves_open_stays_open(void **state)
{
	struct tls_conn *conn;
	struct tls_pair pair;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	conn = handed_over(ctx, pair.server);
	SSL_free(pair.server);
	pair.server = NULL;
	tls_close(conn, 1000);
	assert_true(is_open(pair.fd[0]));
	tls_pair_free(&pair);
}

/* Until then the SSL is as it was. */
static void declined_it_is_the_bios_to_close(void **state)
{
	struct tls_pair pair;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ .prepare = bios_close });
	handed_declined(ctx, pair.server, -EINVAL, "tls_handoff_prepare");
	assert_still_usable(pair.server, pair.client);
	SSL_free(pair.server);
	pair.server = NULL;
	assert_false(is_open(pair.fd[0]));
	pair.fd[0] = -1;
	tls_pair_free(&pair);
}

/* Connects, and puts the accepted socket in the place of the server's. */
static void connect_bio(SSL *server, SSL *client)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;
	socklen_t len = sizeof(address);
	char where[30];
	BIO *bio;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(listener, (void *)&address, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	getsockname(listener, (void *)&address, &len);
	snprintf(where, sizeof(where), "127.0.0.1:%d", ntohs(address.sin_port));
	bio = BIO_new_connect(where);
	assert_int_equal(BIO_do_connect(bio), 1);
	fd = accept(listener, NULL, NULL);
	assert_int_equal(dup2(fd, SSL_get_fd(server)), SSL_get_fd(server));
	close(fd);
	close(listener);
	set_blocking((int)BIO_get_fd(bio, NULL), false);
	SSL_set_bio(client, bio, bio);
}

/* As with BIO_new_ssl_connect(): an SSL BIO on top of a connect BIO. */
static void a_chain_of_bios_may_be_freed(void **state)
{
	struct tls_conn *conn;
	struct tls_pair pair;
	BIO *top;
	int fd;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED,
						    .prepare = connect_bio });
	fd = SSL_get_fd(pair.client);
	set_blocking(fd, true);
	top = BIO_new(BIO_f_ssl());
	assert_non_null(top);
	BIO_set_ssl(top, pair.client, BIO_CLOSE);
	conn = handed_over(ctx, pair.client);
	pair.client = NULL;
	BIO_free_all(top);
	assert_true(is_open(fd));
	handed_says(conn, pair.server, "still there");
	tls_close(conn, 1000);
	assert_false(is_open(fd));
	assert_ended(pair.server);
	tls_pair_free(&pair);
}

/* ---- What else can be done to it --------------------------------------- */

static void the_same_descriptor_twice_is_declined(void **state)
{
	struct tls_conn *conn, *again;
	struct tls_context *other;
	int fd[2];

	(void)state;
	socket_pair(fd, true);
	assert_int_equal(tls_context_new(&other, NULL), 0);
	assert_int_equal(tls_handoff_secrets(&conn, ctx, fd[0],
					     both_secrets(0)), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(tls_handoff_secrets(&again, i ? ctx : other,
						     fd[0], both_secrets(0)),
				 -EALREADY);
		assert_non_null(strstr(tls_last_error(), "another connection"));
	}
	/* the first one is none the worse, and the number is free after it */
	assert_int_equal(tls_write(conn, "x", 1), 1);
	tls_close(conn, 0);
	assert_int_equal(tls_handoff_secrets(&conn, other, fd[0],
					     both_secrets(0)), 0);
	tls_close(conn, 0);
	tls_context_free(other);
	close(fd[0]);
	close(fd[1]);
}

/* Its number is another one's now: that one would get our records. */
static void one_closed_before_its_connection_is_noticed(void **state)
{
	struct tls_conn *conn;
	struct tls_pair pair, next;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	conn = handed_over(ctx, pair.server);
	close(pair.fd[0]);
	open_pair(&next, (struct tls_pair_options){ PREPARED });
	assert_int_equal(next.fd[1], pair.fd[0]);
	handed_declined(ctx, next.client, -EALREADY,
			"before its descriptor is closed");
	assert_still_usable(next.client, next.server);
	pair.fd[0] = -1;
	tls_pair_free(&next);
	tls_close(conn, 0);
	tls_pair_free(&pair);
}

/* What the parent holds is nothing to the child. */
static void a_child_may_use_the_number_again(void **state)
{
	struct tls_context *own;
	struct tls_conn *conn;
	int fd[2], status;
	pid_t child;

	(void)state;
	socket_pair(fd, true);
	assert_int_equal(tls_handoff_secrets(&conn, ctx, fd[0],
					     both_secrets(0)), 0);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		struct tls_config config = TLS_CONFIG_INIT;

		/* it starts no thread */
		config.kind = TLS_CONTEXT_LOOP;
		config.engine = TLS_ENGINE_CPU;
		if (tls_context_new(&own, &config))
			_exit(1);
		_exit(tls_handoff_secrets(&conn, own, fd[0], both_secrets(0)) ?
			      2 :
			      0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	tls_close(conn, 0);
	close(fd[0]);
	close(fd[1]);
}

static void declined_as(int fd, int error, const char *words)
{
	struct tls_conn *conn = NULL;

	assert_int_equal(tls_handoff_secrets(&conn, ctx, fd, both_secrets(0)),
			 error);
	assert_null(conn);
	if (!strstr(tls_last_error(), words))
		fail_msg("\"%s\" does not say \"%s\"", tls_last_error(), words);
}

static void a_socket_without_a_peer_is_declined(void **state)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	declined_as(fd, -ENOTCONN, "not connected");
	assert_int_equal(listen(fd, 1), 0);
	declined_as(fd, -ENOTCONN, "not connected");
	close(fd);
	declined_as(fd, -EBADF, "Bad file");
}

static int low_water(int fd)
{
	int mark = -1;
	socklen_t len = sizeof(mark);

	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &mark, &len),
			 0);
	return mark;
}

/* SO_RCVLOWAT is about bytes on the wire, and there may not be as many. */
static void a_low_water_mark_hides_no_record(void **state)
{
	const int mark = 4096;
	struct tls_conn *conn;
	struct tls_pair pair;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	assert_int_equal(setsockopt(pair.fd[0], SOL_SOCKET, SO_RCVLOWAT, &mark,
				    sizeof(mark)), 0);
	conn = handed_over(ctx, pair.server);
	/* a receive waits before there is something */
	assert_int_equal(tls_context_process(ctx), 0);
	say(pair.client, "short");
	handed_hears(conn, "short");
	tls_close(conn, 1000);
	assert_int_equal(low_water(pair.fd[0]), mark);
	tls_pair_free(&pair);
}

int main(void)
{
	static int worker;
#define IN(test, kind, state) { #test " (" kind ")", test, begin, end, state }
#define TEST(test) IN(test, "loop", NULL), IN(test, "worker", &worker)
	const struct CMUnitTest tests[] = {
		TEST(its_records_reach_no_other_connection),
		TEST(tls_close_closes_what_a_bio_would_have_closed),
		TEST(its_bio_may_be_given_another_descriptor),
		TEST(freeing_the_context_closes_it_too),
		TEST(one_that_the_bio_leaves_open_stays_open),
		TEST(declined_it_is_the_bios_to_close),
		TEST(a_chain_of_bios_may_be_freed),
		TEST(the_same_descriptor_twice_is_declined),
		TEST(one_closed_before_its_connection_is_noticed),
		TEST(a_child_may_use_the_number_again),
		TEST(a_socket_without_a_peer_is_declined),
		TEST(a_low_water_mark_hides_no_record),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
