/* SPDX-License-Identifier: MIT */
/* A thousand connections on one context, echoing. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "ends.h"
#include "wire.h"

enum { CONNECTIONS = 1000, ROUNDS = 4, MAX_LEN = 40000, CHUNK = 65536 };

/* The echoing side: a connection and what it has read but not yet written. */
struct peer {
	struct tls_conn *conn;
	uint8_t *left;
	size_t len;
};

/* The asking side: sends len bytes, expects them back, ROUNDS times. */
struct client {
	struct tls_conn *conn;
	int fd, round;
	size_t sent, got, len; /* of this round */
	size_t base;	       /* where in the pattern it began */
	bool stalled;	       /* never reads */
};

static int server_fd[CONNECTIONS];
static struct client clients[CONNECTIONS];
static _Atomic int stopping;
static const char *server_error;
static struct tls_stats server_stats;

static struct tls_context *loop_context(void)
{
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *ctx;

	config.kind = TLS_CONTEXT_LOOP;
	config.engine = TLS_ENGINE_CPU;
	return tls_context_new(&ctx, &config) ? NULL : ctx;
}

static void echo_left(struct peer *p)
{
	ssize_t n = tls_write(p->conn, p->left, p->len);

	if (n > 0) {
		memmove(p->left, p->left + n, p->len - (size_t)n);
		p->len -= (size_t)n;
	}
	tls_conn_want(p->conn, p->len ? TLS_WRITABLE | TLS_CLOSED :
					TLS_READABLE | TLS_CLOSED);
}

static void echo(struct peer *p)
{
	if (!p->len) {
		ssize_t n = tls_read(p->conn, p->left, CHUNK);

		p->len = n > 0 ? (size_t)n : 0;
	}
	if (p->len)
		echo_left(p);
}

static void serve(struct tls_context *ctx, struct peer *peers)
{
	struct tls_event events[64];
	int i, n;

	for (i = 0; i < CONNECTIONS && !server_error; i++) {
		peers[i].left = malloc(CHUNK);
		server_error = end_take(&peers[i].conn, ctx, server_fd[i], 0,
					TLS_AES_128_GCM);
		if (!server_error)
			tls_conn_set_data(peers[i].conn, &peers[i]);
	}
	while (!stopping && !server_error) {
		n = tls_context_wait(ctx, events, 64, 50);
		for (i = 0; i < n; i++)
			echo(events[i].data);
	}
	for (i = 0; i < CONNECTIONS; i++) {
		tls_close(peers[i].conn, 0);
		free(peers[i].left);
	}
	tls_context_stats(ctx, &server_stats, sizeof(server_stats));
}

static void *server_main(void *arg)
{
	struct peer *peers = calloc(CONNECTIONS, sizeof(*peers));
	struct tls_context *ctx = loop_context();

	(void)arg;
	if (ctx)
		serve(ctx, peers);
	else
		server_error = tls_last_error();
	tls_context_free(ctx);
	free(peers);
	return NULL;
}

static void send_more(struct client *c)
{
	static uint8_t buf[MAX_LEN];
	ssize_t n;

	if (c->sent == c->len)
		return;
	pattern_fill(buf, c->base + c->sent, c->len - c->sent);
	n = tls_write(c->conn, buf, c->len - c->sent);
	assert_true(n > 0 || n == -EAGAIN);
	c->sent += n > 0 ? (size_t)n : 0;
}

static void begin_round(struct client *c, struct dice *dice)
{
	c->base += c->len;
	c->len = dice_size(dice, MAX_LEN);
	c->sent = c->got = 0;
	send_more(c);
}

/* Returns whether the client has had its last round. */
static bool go_on(struct client *c, unsigned events, struct dice *dice)
{
	static uint8_t buf[CHUNK];
	ssize_t n;

	if (events & TLS_WRITABLE)
		send_more(c);
	if (!(events & TLS_READABLE))
		return false;
	n = tls_read(c->conn, buf, sizeof(buf));
	if (n == -EAGAIN)
		return false;
	if (n <= 0)
		fail_msg("%zd: %s", n, tls_conn_error(c->conn));
	pattern_check(buf, c->base + c->got, (size_t)n);
	c->got += (size_t)n;
	if (c->got < c->len)
		return false;
	if (++c->round == ROUNDS)
		return true;
	begin_round(c, dice);
	return false;
}

static void run_clients(struct tls_context *ctx, int expected)
{
	struct dice dice = { 1 };
	struct tls_event events[64];
	int i, n, done = 0;

	for (i = 0; i < CONNECTIONS; i++)
		if (!clients[i].stalled)
			begin_round(&clients[i], &dice);
	while (done < expected) {
		n = tls_context_wait(ctx, events, 64, 20000);
		if (n <= 0)
			fail_msg("%d of %d done, then nothing for 20 s: %s",
				 done, expected,
				 server_error ? server_error : "");
		for (i = 0; i < n; i++)
			done += go_on(events[i].data, events[i].events, &dice);
	}
}

static void allow_descriptors(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_max < 2 * CONNECTIONS + 50)
		fail_msg("ulimit -Hn is %ju, at least %d are needed",
			 (uintmax_t)limit.rlim_max, 2 * CONNECTIONS + 50);
}

static void connect_all(struct tls_context *ctx, int stalled)
{
	const char *why;
	int i, fd[2];

	for (i = 0; i < CONNECTIONS; i++) {
		socket_pair(fd, true);
		set_blocking(fd[0], false);
		set_blocking(fd[1], false);
		server_fd[i] = fd[0];
		clients[i] = (struct client){ .fd = fd[1],
					      .stalled = i < stalled };
		why = end_take(&clients[i].conn, ctx, fd[1], 1,
			       TLS_AES_128_GCM);
		if (why)
			fail_msg("connection %d: %s", i, why);
		tls_conn_set_data(clients[i].conn, &clients[i]);
		if (i < stalled)
			tls_conn_want(clients[i].conn, 0);
	}
}

/* Peers that send a window's worth and never read what comes back. */
static void stall(int stalled)
{
	static uint8_t buf[1 << 20];
	int i;

	for (i = 0; i < stalled; i++)
		assert_true(tls_write(clients[i].conn, buf, sizeof(buf)) > 0);
}

static void echo_on_all(int stalled)
{
	struct tls_context *ctx;
	struct tls_stats stats;
	pthread_t server;
	int i, before;

	allow_descriptors();
	before = count_descriptors();
	stopping = 0;
	server_error = NULL;
	ctx = loop_context();
	assert_non_null(ctx);
	connect_all(ctx, stalled);
	pthread_create(&server, NULL, server_main, NULL);
	stall(stalled);
	run_clients(ctx, CONNECTIONS - stalled);
	stopping = 1;
	pthread_join(server, NULL);
	if (server_error)
		fail_msg("%s", server_error);
	for (i = 0; i < CONNECTIONS; i++) {
		tls_close(clients[i].conn, 0);
		close(clients[i].fd);
		close(server_fd[i]);
	}
	tls_context_stats(ctx, &stats, sizeof(stats));
	assert_int_equal(stats.connections, CONNECTIONS);
	assert_int_equal(stats.connections_now, 0);
	assert_int_equal(stats.memory_now, 0);
	assert_int_equal(server_stats.connections_now, 0);
	assert_int_equal(server_stats.memory_now, 0);
	assert_int_equal(server_stats.op_sockets_now, 0);
	tls_context_free(ctx);
	assert_int_equal(count_descriptors(), before);
}

static void a_thousand_connections_echo_on_one_context(void **state)
{
	(void)state;
	echo_on_all(0);
}

static void peers_that_never_read_do_not_stop_the_others(void **state)
{
	(void)state;
	echo_on_all(50);
}

static size_t resident(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	size_t total, pages = 0;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%zu %zu", &total, &pages), 2);
	fclose(f);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

/* Beside its socket. The first one of a process pays for libcrypto's tables. */
static void an_idle_connection_costs_at_most_4_kib_and_no_descriptor(
	void **state)
{
	struct tls_context *ctx;
	static int fd[CONNECTIONS][2];
	struct tls_conn *conns[CONNECTIONS];
	int i, descriptors;
	size_t bytes = 0;

	(void)state;
	if (SANITIZED)
		skip();
	allow_descriptors();
	ctx = loop_context();
	assert_non_null(ctx);
	for (i = 0; i < CONNECTIONS; i++) {
		socket_pair(fd[i], false);
		set_blocking(fd[i][0], false);
	}
	for (i = 0; i < CONNECTIONS; i++) {
		if (end_take(&conns[i], ctx, fd[i][0], 0, TLS_AES_128_GCM))
			fail_msg("%s", tls_last_error());
		if (i == 0) {
			descriptors = count_descriptors();
			bytes = resident();
		}
	}
	tls_context_process(ctx);
	bytes = resident() - bytes;
	print_message("%zu bytes a connection\n", bytes / CONNECTIONS);
	assert_true(bytes <= 4096 * CONNECTIONS);
	assert_int_equal(count_descriptors(), descriptors);
	for (i = 0; i < CONNECTIONS; i++) {
		tls_close(conns[i], 0);
		close(fd[i][0]);
		close(fd[i][1]);
	}
	tls_context_free(ctx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		/* the first: no memory is there from earlier ones */
		cmocka_unit_test(
			an_idle_connection_costs_at_most_4_kib_and_no_descriptor),
		cmocka_unit_test(a_thousand_connections_echo_on_one_context),
		cmocka_unit_test(peers_that_never_read_do_not_stop_the_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
