/* SPDX-License-Identifier: MIT */
/*
 * Streams of bytes between two connections of ours: every size, each suite,
 * both kinds of context, waiting or not, one thread or several.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "ends.h"
#include "wire.h"

enum { BUF = 72 << 10, STREAM = 8 << 20, DUPLEX = 4 << 20, PATIENCE = 30000 };

static const uint16_t suites[] = {
	TLS_AES_128_GCM,
	TLS_AES_256_GCM,
	TLS_CHACHA20_POLY1305,
	TLS_AES_128_CCM,
	0xc02b, /* TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 */
	0xc030, /* TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 */
	0xcca8, /* TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 */
	0xc0ad, /* TLS_ECDHE_ECDSA_WITH_AES_256_CCM */
};

enum { SUITES = sizeof(suites) / sizeof(suites[0]) };

static const enum tls_context_kind kinds[] = {
	TLS_CONTEXT_LOOP,
	TLS_CONTEXT_WORKER,
};

/* ---- One thread for both ends ------------------------------------------ */

/* A direction: how far it has come, and what it writes and reads at once. */
struct flow {
	struct tls_conn *from, *to;
	size_t total, written, got, max;
	struct dice dice;
};

/* Returns whether anything moved. */
static bool write_flow(struct flow *f)
{
	static uint8_t buf[BUF];
	size_t len;
	ssize_t n;

	if (f->written == f->total)
		return false;
	len = min_size(f->total - f->written, dice_size(&f->dice, f->max));
	pattern_fill(buf, f->written, len);
	n = tls_write(f->from, buf, len);
	memset(buf, 0xdb, len); /* it was copied, or sealed */
	if (n == -EAGAIN)
		return false;
	assert_in_range(n, 1, len);
	f->written += (size_t)n;
	if (f->written == f->total)
		assert_true(tls_flush(f->from) >= 0);
	return true;
}

static bool read_flow(struct flow *f)
{
	static uint8_t buf[BUF];
	size_t len = dice_size(&f->dice, f->max);
	ssize_t n = tls_read(f->to, buf, len);

	if (n == -EAGAIN)
		return false;
	assert_in_range(n, 1, len);
	pattern_check(buf, f->got, (size_t)n);
	f->got += (size_t)n;
	return true;
}

static void run_flows(struct end end[2], struct flow flow[2])
{
	uint64_t deadline = now_ns() + (uint64_t)PATIENCE * NS_PER_MS;
	struct tls_event event;
	int i, stalled = 0;

	while (flow[0].got < flow[0].total || flow[1].got < flow[1].total) {
		bool moved = false;

		for (i = 0; i < 2; i++) {
			moved |= write_flow(&flow[i]);
			moved |= read_flow(&flow[i]);
		}
		if (moved)
			continue;
		if (now_ns() > deadline)
			fail_msg("stuck at %zu and %zu of %zu written",
				 flow[0].got, flow[1].got, flow[0].written);
		stalled = !stalled;
		assert_true(tls_context_wait(end[stalled].ctx, &event, 1,
					     1) >= 0);
	}
}

static void both_ways(enum tls_context_kind server,
		      enum tls_context_kind client, uint16_t suite, bool tcp)
{
	struct end end[2];
	struct flow flow[2];

	ends_new(end, &(struct ends_options){
			      .end = { { .kind = server, .suite = suite },
				       { .kind = client, .suite = suite } },
			      .tcp = tcp,
		      });
	flow[0] = (struct flow){ end[0].conn, end[1].conn, STREAM,
				 .max = BUF, .dice = { suite } };
	flow[1] = (struct flow){ end[1].conn, end[0].conn, STREAM,
				 .max = BUF, .dice = { suite + 7u } };
	run_flows(end, flow);
	ends_free(end);
}

static void random_sizes_cross_without_waiting(void **state)
{
	size_t s;

	(void)state;
	for (s = 0; s < SUITES; s++) {
		both_ways(TLS_CONTEXT_LOOP, TLS_CONTEXT_LOOP, suites[s], s > 0);
		both_ways(TLS_CONTEXT_WORKER, TLS_CONTEXT_WORKER, suites[s],
			  s == 0);
	}
	both_ways(TLS_CONTEXT_LOOP, TLS_CONTEXT_WORKER, suites[0], true);
}

/* ---- Every size -------------------------------------------------------- */

static void carry(struct end end[2], int from, size_t len)
{
	static uint8_t out[BUF], in[BUF + 1];
	size_t got = 0;
	struct tls_event event;

	pattern_fill(out, len, len);
	assert_int_equal(tls_write(end[from].conn, out, len), len);
	assert_int_equal(tls_flush(end[from].conn), 0);
	while (got < len) {
		ssize_t n = tls_read(end[!from].conn, in + got,
				     sizeof(in) - got);

		if (n == -EAGAIN)
			assert_int_equal(tls_context_wait(end[!from].ctx,
							  &event, 1, PATIENCE),
					 1);
		else
			assert_in_range(n, 1, len - got);
		got += n > 0 ? (size_t)n : 0;
	}
	assert_memory_equal(in, out, len);
}

static void carry_all_sizes(enum tls_context_kind kind, uint16_t suite,
			    bool blocking)
{
	struct end_options o = { .kind = kind, .suite = suite };
	struct end end[2];
	size_t len, n;

	ends_new(end, &(struct ends_options){ .end = { o, o },
					      .blocking = blocking });
	for (len = 0; len <= 600; len++)
		carry(end, len % 2, len);
	for (n = 1; n <= 4; n++)
		for (len = n * RECORD_PLAIN_MAX - 3;
		     len <= n * RECORD_PLAIN_MAX + 3; len++)
			carry(end, len % 2, len);
	ends_free(end);
}

static void every_size_arrives_without_waiting(void **state)
{
	size_t k, s;

	(void)state;
	for (k = 0; k < 2; k++)
		for (s = 0; s < SUITES; s++)
			carry_all_sizes(kinds[k], suites[s], false);
}

static void every_size_arrives_with_waiting(void **state)
{
	size_t k, s;

	(void)state;
	for (k = 0; k < 2; k++)
		for (s = 0; s < SUITES; s++)
			carry_all_sizes(kinds[k], suites[s], true);
}

static void a_read_of_no_bytes_is_no_end_of_file(void **state)
{
	struct end end[2];
	uint8_t byte;

	(void)state;
	ends_new(end, &(struct ends_options){ .blocking = false });
	assert_int_equal(tls_read(end[0].conn, &byte, 0), 0);
	assert_int_equal(tls_read(end[0].conn, &byte, 1), -EAGAIN);
	carry(end, 1, 1);
	ends_free(end);
}

/* ---- Threads that wait ------------------------------------------------- */

/* One thread's part; says in words what went wrong. */
struct part {
	struct tls_conn *conn;
	struct end_options own; /* for a context of its own, if conn is NULL */
	int fd, side;
	size_t total;
	struct dice dice;
	char wrong[120];
	pthread_t thread;
};

static const char *write_stream(struct tls_conn *conn, struct part *p)
{
	uint8_t *buf = malloc(BUF);
	size_t done = 0;
	ssize_t n = 0;

	while (done < p->total) {
		size_t len = min_size(p->total - done,
				      dice_size(&p->dice, BUF));

		pattern_fill(buf, done, len);
		n = tls_write(conn, buf, len);
		if (n != (ssize_t)len)
			break;
		done += len;
	}
	free(buf);
	if (done < p->total)
		return n < 0 ? "tls_write failed" : "tls_write took fewer";
	return tls_flush(conn) ? "tls_flush left something" : NULL;
}

static const char *read_stream(struct tls_conn *conn, struct part *p)
{
	uint8_t *buf = malloc(BUF);
	const char *wrong = NULL;
	size_t done = 0;

	while (done < p->total && !wrong) {
		ssize_t n = tls_read(conn, buf, dice_size(&p->dice, BUF));

		if (n <= 0)
			wrong = "tls_read failed";
		else if (!pattern_matches(buf, done, (size_t)n))
			wrong = "a byte is wrong";
		done += n > 0 ? (size_t)n : 0;
	}
	free(buf);
	return wrong;
}

static void run_part(struct part *p,
		     const char *(*stream)(struct tls_conn *, struct part *))
{
	struct end end = { .fd = p->fd };
	const char *wrong = NULL;

	if (!p->conn)
		wrong = end_open(&end, p->fd, p->side, &p->own);
	if (!wrong)
		wrong = stream(p->conn ? p->conn : end.conn, p);
	if (wrong)
		snprintf(p->wrong, sizeof(p->wrong), "%s: %s", wrong,
			 tls_conn_error(p->conn ? p->conn : end.conn));
	if (!p->conn)
		end_close(&end);
}

static void *writer(void *arg)
{
	run_part(arg, write_stream);
	return NULL;
}

static void *reader(void *arg)
{
	run_part(arg, read_stream);
	return NULL;
}

static void start(struct part *p, void *(*run)(void *))
{
	assert_int_equal(pthread_create(&p->thread, NULL, run, p), 0);
}

static void join(struct part *p)
{
	pthread_join(p->thread, NULL);
	if (p->wrong[0])
		fail_msg("%s", p->wrong);
}

static void one_way(enum tls_context_kind kind, uint16_t suite, int from)
{
	struct part p[2];
	int fd[2], i;

	socket_pair(fd, from);
	for (i = 0; i < 2; i++)
		p[i] = (struct part){ .own = { .kind = kind, .suite = suite },
				      .fd = fd[i],
				      .side = i,
				      .total = STREAM,
				      .dice = { suite + (unsigned)i } };
	start(&p[from], writer);
	start(&p[!from], reader);
	join(&p[0]);
	join(&p[1]);
}

static void random_sizes_arrive_with_waiting(void **state)
{
	size_t k, s;

	(void)state;
	for (k = 0; k < 2; k++)
		for (s = 0; s < SUITES; s++)
			one_way(kinds[k], suites[s], s % 2);
}

static void a_reader_and_a_writer_share_each_connection(void **state)
{
	struct end end[2];
	struct part p[4];
	int i;

	(void)state;
	ends_new(end, &(struct ends_options){ .blocking = true });
	for (i = 0; i < 4; i++) {
		p[i] = (struct part){ .conn = end[i / 2].conn,
				      .total = DUPLEX,
				      .dice = { 99u + (unsigned)i } };
		start(&p[i], i % 2 ? writer : reader);
	}
	for (i = 0; i < 4; i++)
		join(&p[i]);
	ends_free(end);
}

/* ---- Many threads in one context --------------------------------------- */

enum { PLAYERS = 6, ROUNDS = 100 };

static const char *play(struct tls_conn *conn, struct part *p)
{
	uint8_t ball = (uint8_t)p->side, back;
	int i;

	for (i = 0; i < ROUNDS; i++, ball += 2) {
		back = ball;
		if (p->side == 1 && tls_write(conn, &ball, 1) != 1)
			return "serve";
		if (tls_read(conn, &back, 1) != 1 ||
		    back != (uint8_t)(p->side ? ball - 1 : ball + 1))
			return "return";
		if (p->side == 0 && tls_write(conn, &ball, 1) != 1)
			return "answer";
	}
	return tls_flush(conn) ? "flush" : NULL;
}

static void *player(void *arg)
{
	run_part(arg, play);
	return NULL;
}

static void threads_that_wait_in_one_context_all_come_back(void **state)
{
	struct end end[2];
	struct part p[PLAYERS][2];
	int fd[2], i, j;

	(void)state;
	ends_new(end, &(struct ends_options){ .blocking = true });
	for (i = 0; i < PLAYERS; i++) {
		socket_pair(fd, true);
		for (j = 0; j < 2; j++) {
			p[i][j] = (struct part){ .fd = fd[j], .side = j };
			assert_null(end_take(&p[i][j].conn, end[j].ctx, fd[j],
					     j, 0));
			start(&p[i][j], player);
		}
	}
	for (i = 0; i < PLAYERS; i++)
		for (j = 0; j < 2; j++)
			join(&p[i][j]);
	for (i = 0; i < PLAYERS; i++)
		for (j = 0; j < 2; j++) {
			assert_int_equal(tls_close(p[i][j].conn, 0), 0);
			close(p[i][j].fd);
		}
	ends_free(end);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_size_arrives_without_waiting),
		cmocka_unit_test(every_size_arrives_with_waiting),
		cmocka_unit_test(a_read_of_no_bytes_is_no_end_of_file),
		cmocka_unit_test(random_sizes_cross_without_waiting),
		cmocka_unit_test(random_sizes_arrive_with_waiting),
		cmocka_unit_test(a_reader_and_a_writer_share_each_connection),
		cmocka_unit_test(
			threads_that_wait_in_one_context_all_come_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
