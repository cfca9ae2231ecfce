/* SPDX-License-Identifier: MIT */
/* What the socket has not taken: when a flush or a close ends, and its count. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "context/ctx.h"
#include "either.h"

/* Fill the socket and what comes before it. */
static void fill_the_way(void)
{
	ssize_t n;


	do {
		n = tls_write(w.conn, data + taken, 100000);
		if (n > 0)
			taken += (size_t)n;
		settle();
	} while (n != -EAGAIN && taken < sizeof(data) - 100000);
	assert_int_equal(n, -EAGAIN);
}

static void a_flush_ends_in_time_and_says_what_is_left(void **state)
{
	uint64_t began;
	ssize_t left;

	(void)state;
	open_wire((struct wire_options){ .depth = 2, .blocking = true });
	set_blocking(w.conn_fd, false);
	fill_the_way();
	set_blocking(w.conn_fd, true); /* that must not matter */
	began = now_ns();
	left = tls_flush_timeout(w.conn, 30);
	assert_true(left > 0);
	assert_in_range(now_ns() - began, 29 * (uint64_t)NS_PER_MS,
			2000 * (uint64_t)NS_PER_MS);
	assert_int_equal(tls_flush_timeout(w.conn, 0), left);
	assert_true(now_ns() - began < 3000 * (uint64_t)NS_PER_MS);
	/* a record taken in part, then read in part, is still not taken */
	drain();
	assert_int_equal(read_back + (size_t)left, taken);
	/* and what is left in line is not lost */
	while (read_back < taken) {
		settle();
		tls_flush_timeout(w.conn, 10);
		drain();
	}
	assert_int_equal(tls_flush_timeout(w.conn, -1), 0);
	expect_no_more();
}

static void a_flush_tells_when_the_rest_is_gone(void **state)
{
	struct tls_event event;

	(void)state;
	open_wire((struct wire_options){ .depth = 2 });
	fill_the_way();
	while (tls_context_wait(w.ctx, &event, 1, 0))
		;
	w.conn->wants_room = false;
	assert_true(tls_flush_timeout(w.conn, 5) > 0);
	assert_int_equal(tls_context_wait(w.ctx, &event, 1, 0), 0);
	while (read_back < taken) {
		settle();
		drain();
	}
	assert_int_equal(tls_context_wait(w.ctx, &event, 1, 1000), 1);
	assert_int_equal(event.events, TLS_WRITABLE);
	assert_int_equal(tls_flush_timeout(w.conn, 0), 0);
}

static void the_worker_goes_on_after_a_flush(void **state)
{
	ssize_t n, left;

	(void)state;
	wire_new(&w, &(struct wire_options){ .depth = 2 });
	while ((n = tls_write(w.conn, data + taken, 100000)) > 0)
		taken += (size_t)n;
	left = tls_flush_timeout(w.conn, 5);
	assert_true(left > 0);
	/* and the application does not call again */
	while (read_back < taken) {
		drain();
		usleep(1000);
	}
	expect_no_more();
}

static void a_flush_seals_the_open_record(void **state)
{
	(void)state;
	open_wire((struct wire_options){ 0 });
	write_pattern(100, TLS_MORE);
	if (fake) {
		assert_int_equal(tls_flush_timeout(w.conn, 5), 100);
		settle();
	}
	assert_int_equal(tls_flush_timeout(w.conn, 1000), 0);
	expect_record(100);
	expect_no_more();
}

/* Content in whole records of everything that still comes. */
static size_t content_until_the_end(void)
{
	static uint8_t all[2 * sizeof(data)];
	size_t have = 0, at = 0, sum = 0;
	ssize_t n;

	while ((n = recv(w.fd, all + have, sizeof(all) - have, 0)) > 0)
		have += (size_t)n;
	while (have - at >= RECORD_HEADER) {
		size_t body = (size_t)all[at + 3] << 8 | all[at + 4];

		if (have - at < RECORD_HEADER + body)
			break;
		at += RECORD_HEADER + body;
		sum += body - RECORD_TAG - 1;
	}
	return sum;
}

/* A socket half full of a record, records behind it, and an open one. */
static void close_over_a_full_socket(int timeout_ms, bool tcp)
{
	const int small = 64 << 10;
	uint64_t began;
	ssize_t lost;

	open_wire((struct wire_options){ .depth = tcp ? 8 : 2, .tcp = tcp });
	if (tcp) {
		setsockopt(w.conn_fd, SOL_SOCKET, SO_SNDBUF, &small,
			   sizeof(small));
		setsockopt(w.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	}
	fill_the_way();
	usleep(tcp ? 20000 : 0); /* its buffers may have grown */
	settle();
	fill_the_way();
	/* as much as the last record has room for */
	if (tls_send(w.conn, data + taken, 777, TLS_MORE) == 777)
		taken += 777;
	began = now_ns();
	lost = tls_close(w.conn, timeout_ms);
	w.conn = NULL;
	assert_true(lost > 0);
	assert_true(now_ns() - began < 2000 * (uint64_t)NS_PER_MS);
	if (timeout_ms)
		assert_true(now_ns() - began >= timeout_ms * 900000u);
	shutdown(w.conn_fd, SHUT_WR);
	assert_int_equal(content_until_the_end() + (size_t)lost, taken);
}

static void a_close_counts_what_a_full_socket_did_not_take(void **state)
{
	(void)state;
	close_over_a_full_socket(0, false);
}

static void a_close_counts_it_after_its_time_too(void **state)
{
	(void)state;
	close_over_a_full_socket(30, false);
}

/* Here the send ends in the middle of a record when it is cancelled. */
static void a_close_counts_a_send_cut_short(void **state)
{
	(void)state;
	close_over_a_full_socket(20, true);
}

static void a_close_counts_what_a_hung_engine_has(void **state)
{
	uint64_t began;

	(void)state;
	open_wire((struct wire_options){ 0 });
	fake_cling(fake);
	write_pattern(3000, 0);
	write_pattern(4000, 0);
	fake_complete(fake, 0, FAKE_OK); /* it leaves */
	tls_context_process(w.ctx);
	write_pattern(500, 0);
	fake_complete(fake, 1, FAKE_OK); /* it may not */
	write_pattern(60, TLS_MORE);	 /* open */
	assert_int_equal(fake_pending(fake), 1);
	began = now_ns();
	assert_int_equal(tls_close(w.conn, 50), 4560);
	w.conn = NULL;
	assert_in_range(now_ns() - began, 49 * (uint64_t)NS_PER_MS,
			900 * (uint64_t)NS_PER_MS);
	fake_scribble(fake);
	expect_record(3000);
	assert_true(wire_silent(&w));
}

static void a_close_in_time_loses_nothing(void **state)
{
	(void)state;
	open_wire((struct wire_options){ 0 });
	write_pattern(40000, 0);
	write_pattern(60, TLS_MORE);
	assert_int_equal(tls_close(w.conn, 1000), 0);
	w.conn = NULL;
	expect_record(16384);
	expect_record(16384);
	expect_record(40000 - 2 * 16384);
	expect_record(60);
	wire_expect_alert(&w, ALERT_CLOSE_NOTIFY);
	expect_no_more();
}

/* A worker's context has other threads that could take completions away. */
static void a_workers_close_counts_too(void **state)
{
	ssize_t n, lost;

	(void)state;
	wire_new(&w, &(struct wire_options){ .depth = 2 });
	while ((n = tls_write(w.conn, data + taken, 100000)) > 0)
		taken += (size_t)n;
	assert_int_equal(n, -EAGAIN);
	lost = tls_close(w.conn, 30);
	w.conn = NULL;
	assert_true(lost > 0);
	drain();
	assert_int_equal(read_back + (size_t)lost, taken);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(a_flush_ends_in_time_and_says_what_is_left),
		BOTH(a_flush_tells_when_the_rest_is_gone),
		CPU(the_worker_goes_on_after_a_flush),
		BOTH(a_flush_seals_the_open_record),
		BOTH(a_close_counts_what_a_full_socket_did_not_take),
		BOTH(a_close_counts_it_after_its_time_too),
		BOTH(a_close_counts_a_send_cut_short),
		ASYNC(a_close_counts_what_a_hung_engine_has),
		CPU(a_close_in_time_loses_nothing),
		CPU(a_workers_close_counts_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
