/* SPDX-License-Identifier: MIT */
/*
 * How long calls wait on a blocking descriptor: as the socket's time-outs and
 * the call's flags have it; and what may be looked at without taking it.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "hostile.h"

enum { SHORT_MS = 60 };

static uint8_t data[4 << 20];

static void limit(int option, int ms)
{
	const struct timeval tv = { .tv_sec = ms / 1000,
				    .tv_usec = ms % 1000 * 1000 };

	assert_int_equal(setsockopt(w.conn_fd, SOL_SOCKET, option, &tv,
				    sizeof(tv)), 0);
}

/* The socket takes little at once. */
static void open_tcp(enum tls_context_kind kind)
{
	const int small = 16 << 10;

	wire_new(&w, &(struct wire_options){ .kind = kind,
					     .blocking = true,
					     .tcp = true });
	setsockopt(w.conn_fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	pattern_fill(data, 0, sizeof(data));
}

static void *send_after_a_while(void *arg)
{
	(void)arg;
	usleep(2 * SHORT_MS * 1000);
	wire_send(&w, RECORD_DATA, "late", 4);
	return NULL;
}

/* The clock only shows that it waited at all. */
static void read_in_time(enum tls_context_kind kind)
{
	uint64_t began = now_ns();
	pthread_t peer;

	open_tcp(kind);
	limit(SO_RCVTIMEO, SHORT_MS);
	assert_int_equal(tls_read(w.conn, content, 10), -EAGAIN);
	assert_true(now_ns() - began >= (SHORT_MS - 1) * (uint64_t)NS_PER_MS);
	wire_send(&w, RECORD_DATA, "in time", 7);
	expect_data("in time", 7);
	assert_int_equal(tls_read(w.conn, content, 10), -EAGAIN);
	limit(SO_RCVTIMEO, 0);
	pthread_create(&peer, NULL, send_after_a_while, NULL);
	expect_data("late", 4);
	pthread_join(peer, NULL);
	wire_free(&w);
}

static void a_read_waits_no_longer_than_so_rcvtimeo(void **state)
{
	(void)state;
	both_kinds(read_in_time);
}

/* To a peer that does not read. */
static size_t write_all_it_takes(void)
{
	size_t put = 0;
	ssize_t n;

	for (;;) {
		n = tls_write(w.conn, data + put, sizeof(data) - put);
		if (n < 0)
			break;
		put += (size_t)n;
		assert_true(put < sizeof(data));
	}
	assert_int_equal(n, -EAGAIN);
	return put;
}

static void expect_the_rest(size_t put)
{
	struct tap tap = { 0 };

	limit(SO_SNDTIMEO, 0);
	do {
		wire_tap(&w, &tap);
		tls_flush_timeout(w.conn, 10);
	} while (tap.data < put);
	assert_int_equal(tap.data, put);
	free(tap.bytes);
}

static void write_in_time(enum tls_context_kind kind)
{
	size_t put;

	open_tcp(kind);
	limit(SO_SNDTIMEO, SHORT_MS);
	put = write_all_it_takes();
	assert_true(put > 0);
	assert_true(tls_flush(w.conn) > 0);
	expect_the_rest(put);
	wire_free(&w);
}

static void a_write_waits_no_longer_than_so_sndtimeo(void **state)
{
	(void)state;
	both_kinds(write_in_time);
}

static void without_waiting(enum tls_context_kind kind)
{
	ssize_t n, put = 0;

	open_tcp(kind);
	assert_int_equal(tls_recv(w.conn, content, 10, TLS_DONTWAIT), -EAGAIN);
	wire_send(&w, RECORD_DATA, "there", 5);
	while ((n = tls_recv(w.conn, content, 10, TLS_DONTWAIT)) == -EAGAIN)
		tls_context_process(w.ctx);
	assert_int_equal(n, 5);
	while ((n = tls_send(w.conn, data + put, sizeof(data) - (size_t)put,
			     TLS_DONTWAIT)) > 0)
		put += n;
	assert_int_equal(n, -EAGAIN);
	expect_the_rest((size_t)put);
	wire_free(&w);
}

static void a_call_may_be_told_not_to_wait(void **state)
{
	(void)state;
	both_kinds(without_waiting);
}

static void look_then_read(enum tls_context_kind kind)
{
	open_tcp(kind);
	assert_int_equal(tls_recv(w.conn, content, 10, TLS_PEEK | TLS_DONTWAIT),
			 -EAGAIN);
	wire_send(&w, RECORD_DATA, "first", 5);
	wire_send(&w, RECORD_DATA, "second", 6);
	assert_int_equal(tls_recv(w.conn, content, 3, TLS_PEEK), 3);
	assert_memory_equal(content, "fir", 3);
	assert_int_equal(tls_recv(w.conn, content, 100, TLS_PEEK), 5);
	assert_memory_equal(content, "first", 5);
	expect_data("firstsecond", 11);
	end_stream();
	assert_int_equal(tls_recv(w.conn, content, 10, TLS_PEEK), -ENODATA);
	assert_int_equal(tls_read(w.conn, content, 10), -ENODATA);
	wire_free(&w);
}

static void what_is_peeked_at_stays(void **state)
{
	(void)state;
	both_kinds(look_then_read);
}

static void other_flags_are_refused(void **state)
{
	(void)state;
	open_tcp(TLS_CONTEXT_LOOP);
	assert_int_equal(tls_recv(w.conn, content, 10, TLS_MORE), -EINVAL);
	assert_int_equal(tls_recv(w.conn, content, 10, 8), -EINVAL);
	assert_int_equal(tls_send(w.conn, "x", 1, TLS_PEEK), -EINVAL);
	assert_non_null(strstr(tls_last_error(), "flags"));
	wire_free(&w);
}

#define TEST(name) cmocka_unit_test(name)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_read_waits_no_longer_than_so_rcvtimeo),
		TEST(a_write_waits_no_longer_than_so_sndtimeo),
		TEST(a_call_may_be_told_not_to_wait),
		TEST(what_is_peeked_at_stays),
		TEST(other_flags_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
