/* SPDX-License-Identifier: MIT */
#include "crowd.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "ends.h"
#include "wire.h"

enum {
	ALL = CROWD + 1, /* number 0 is the bulk */
	ECHO = 64 << 10,
	BULK = 64 << 10,
	EVENTS = 64,
	PATIENCE_MS = 20000,
};

/* A connection: the end that asks, and the end that echoes. */
struct member {
	int fd[2];
	struct tls_conn *asks, *echoes;
	size_t put, got; /* bytes of the pattern, asked and answered */
	unsigned round;
	uint64_t bulk_then; /* records of the bulk when it last asked */
	uint8_t *left; /* read and not yet echoed */
	size_t left_len;
};

static struct member members[ALL];
static uint64_t waits[CROWD * CROWD_ROUNDS];
static struct crowd_result result;
static uint64_t last_answer;

static uint64_t bulk_records(void)
{
	struct tls_stats s;

	assert_int_equal(tls_conn_stats(members[0].echoes, &s, sizeof(s)), 0);
	return s.tx_records[TLS_BY_CPU] + s.tx_records[TLS_BY_KERNEL] +
	       s.rx_records[TLS_BY_CPU] + s.rx_records[TLS_BY_KERNEL];
}

/* ---- The end that echoes ----------------------------------------------- */

static void echo(struct member *m)
{
	ssize_t n;

	if (!m->left_len) {
		n = tls_read(m->echoes, m->left, ECHO);
		m->left_len = n > 0 ? (size_t)n : 0;
	}
	if (!m->left_len)
		return;
	n = tls_write(m->echoes, m->left, m->left_len);
	if (n > 0) {
		memmove(m->left, m->left + n, m->left_len - (size_t)n);
		m->left_len -= (size_t)n;
	}
	tls_conn_want(m->echoes, m->left_len ? TLS_WRITABLE | TLS_CLOSED :
					       TLS_READABLE | TLS_CLOSED);
}

/* ---- The end that asks ------------------------------------------------- */

static size_t put(struct member *m, size_t len)
{
	static uint8_t buf[BULK];
	ssize_t n;

	pattern_fill(buf, m->put, len);
	n = tls_write(m->asks, buf, len);
	assert_true(n > 0 || n == -EAGAIN);
	m->put += n > 0 ? (size_t)n : 0;
	return n > 0 ? (size_t)n : 0;
}

static void ask(struct member *m)
{
	m->bulk_then = bulk_records();
	assert_int_equal(put(m, CROWD_QUESTION), CROWD_QUESTION);
}

static void answered(struct member *m)
{
	waits[result.answers++] = bulk_records() - m->bulk_then;
	last_answer = now_ns();
	if (++m->round < CROWD_ROUNDS)
		ask(m);
}

static void take_back(struct member *m)
{
	static uint8_t buf[BULK];
	ssize_t n;

	while ((n = tls_read(m->asks, buf, sizeof(buf))) > 0) {
		pattern_check(buf, m->got, (size_t)n);
		m->got += (size_t)n;
	}
	if (n != -EAGAIN)
		fail_msg("connection %d: %zd, %s", (int)(m - members), n,
			 tls_conn_error(m->asks));
	if (m != members && m->got == m->put && m->round < CROWD_ROUNDS)
		answered(m);
}

/* ---- All of them ------------------------------------------------------- */

static void connect_all(struct tls_context *echoing, struct tls_context *asking)
{
	const char *why;
	int i;

	for (i = 0; i < ALL; i++) {
		struct member *m = &members[i];

		*m = (struct member){ .left = malloc(ECHO) };
		assert_non_null(m->left);
		socket_pair(m->fd, true);
		set_blocking(m->fd[0], false);
		set_blocking(m->fd[1], false);
		why = end_take(&m->echoes, echoing, m->fd[0], 0, 0);
		if (!why)
			why = end_take(&m->asks, asking, m->fd[1], 1, 0);
		if (why)
			fail_msg("connection %d: %s", i, why);
		tls_conn_set_data(m->echoes, m);
		tls_conn_set_data(m->asks, m);
	}
}

static void close_all(void)
{
	int i;

	for (i = 0; i < ALL; i++) {
		tls_close(members[i].asks, 0);
		tls_close(members[i].echoes, 0);
		close(members[i].fd[0]);
		close(members[i].fd[1]);
		free(members[i].left);
	}
}

static void turn(struct tls_context *ctx, void (*act)(struct member *))
{
	struct tls_event events[EVENTS];
	int i, n = tls_context_wait(ctx, events, EVENTS, 0);

	assert_true(n >= 0);
	for (i = 0; i < n; i++)
		act(events[i].data);
}

static void run(const struct crowd_options *o, struct tls_context *asking)
{
	int i;

	last_answer = now_ns();
	while (put(&members[0], BULK) == BULK)
		;
	for (i = 1; i < ALL; i++)
		ask(&members[i]);
	while (result.answers < CROWD * CROWD_ROUNDS) {
		put(&members[0], BULK);
		turn(asking, take_back);
		turn(o->echoing, echo);
		if (o->turn)
			o->turn(o->arg);
		if (now_ns() - last_answer > PATIENCE_MS * (uint64_t)NS_PER_MS)
			fail_msg("no answer for %d ms, after %ju of %d",
				 PATIENCE_MS, result.answers,
				 CROWD * CROWD_ROUNDS);
	}
}

static void allow_descriptors(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

struct crowd_result crowd_run(const struct crowd_options *options)
{
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *asking;

	config.kind = TLS_CONTEXT_LOOP;
	config.engine = TLS_ENGINE_CPU;
	if (tls_context_new(&asking, &config))
		fail_msg("%s", tls_last_error());
	allow_descriptors();
	result = (struct crowd_result){ 0 };
	connect_all(options->echoing, asking);
	run(options, asking);
	result.bulk_records = bulk_records();
	qsort(waits, result.answers, sizeof(*waits), compare);
	result.most = waits[result.answers - 1];
	result.median = waits[result.answers / 2];
	close_all();
	tls_context_free(asking);
	print_message("%ju answers, %ju records of bulk; while one waited %ju "
		      "of them at most, %ju in the median\n", result.answers,
		      result.bulk_records, result.most, result.median);
	return result;
}
