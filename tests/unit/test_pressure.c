/* SPDX-License-Identifier: MIT */
/*
 * A peer that does not read, and ends under way: what calls return then, and
 * that it is exactly what arrives.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "context/ctx.h"
#include "wire.h"

enum { PATIENCE = 20000, CHUNK = 100000, MUCH = 4 << 20 };

static struct wire w;
static struct tap tap;
static uint8_t buf[CHUNK];

static void begin(enum tls_context_kind kind, bool blocking, bool tcp)
{
	wire_new(&w, &(struct wire_options){ .kind = kind,
					     .blocking = blocking,
					     .tcp = tcp });
	tap = (struct tap){ 0 };
}

static void end(void)
{
	wire_free(&w);
	free(tap.bytes);
}

static void each_way(void (*check)(enum tls_context_kind kind, bool tcp))
{
	check(TLS_CONTEXT_LOOP, false);
	check(TLS_CONTEXT_LOOP, true);
	check(TLS_CONTEXT_WORKER, false);
	check(TLS_CONTEXT_WORKER, true);
}

/* Write the pattern, from byte at on, until nothing is taken. */
static size_t write_until_refused(struct tls_conn *conn, size_t at)
{
	ssize_t n;

	do {
		pattern_fill(buf, at, CHUNK);
		n = tls_write(conn, buf, CHUNK);
		at += n > 0 ? (size_t)n : 0;
	} while (n > 0);
	assert_int_equal(n, -EAGAIN);
	return at;
}

/* Fill the socket and the window behind it. Returns the bytes taken. */
static size_t fill_up(void)
{
	size_t taken = write_until_refused(w.conn, 0), before;

	/* until the kernel takes no more either, which it does in its time */
	do {
		before = taken;
		usleep(20000);
		tls_context_process(w.ctx);
		taken = write_until_refused(w.conn, taken);
	} while (taken > before);
	return taken;
}

static unsigned wait_events(int timeout_ms)
{
	struct tls_event event;
	int n = tls_context_wait(w.ctx, &event, 1, timeout_ms);

	assert_true(n >= 0);
	return n ? event.events : 0;
}

/* Read at the peer until everything has come that it should have. */
static void tap_until(size_t data, bool drive)
{
	uint64_t deadline = now_ns() + (uint64_t)PATIENCE * NS_PER_MS;
	struct pollfd p = { .fd = w.fd, .events = POLLIN };

	while (tap.data < data && now_ns() < deadline) {
		wire_tap(&w, &tap);
		if (drive)
			tls_context_process(w.ctx);
		poll(&p, 1, 1);
	}
	assert_int_equal(tap.data, data);
}

/* ---- A window of one's own ---------------------------------------------- */

/* What the socket has not taken is no more than that, and a record. */
static void expect_at_most(size_t window)
{
	ssize_t left = tls_flush_timeout(w.conn, 0);

	assert_true(left > 0);
	assert_true((size_t)left <= 2 * window);
}

static void small_window(enum tls_context_kind kind, bool tcp)
{
	struct tls_event event;
	size_t taken, more;

	begin(kind, false, tcp);
	assert_int_equal(tls_conn_set_send_window(w.conn, 0), -EINVAL);
	assert_non_null(strstr(tls_last_error(), "window"));
	assert_int_equal(tls_conn_set_send_window(w.conn, 5000), 0);
	taken = fill_up();
	expect_at_most(5000);
	while (tls_context_wait(w.ctx, &event, 1, 10))
		taken = write_until_refused(w.conn, taken);
	assert_int_equal(tls_write(w.conn, buf, 1), -EAGAIN);
	assert_int_equal(tls_conn_set_send_window(w.conn, 200000), 0);
	assert_int_equal(wait_events(PATIENCE), TLS_WRITABLE);
	more = write_until_refused(w.conn, taken);
	assert_true(more >= taken + 150000);
	expect_at_most(200000);
	tap_until(more, true);
	end();
}

static void a_connection_has_a_window_of_its_own(void **state)
{
	(void)state;
	each_way(small_window);
}

static void a_context_says_what_window_there_is_at_first(void **state)
{
	(void)state;
	wire_new(&w, &(struct wire_options){ .send_window = 3000 });
	tap = (struct tap){ 0 };
	fill_up();
	expect_at_most(3000);
	end();
}

/* ---- Without waiting --------------------------------------------------- */

static void taken_is_what_arrives(enum tls_context_kind kind, bool tcp)
{
	size_t taken;

	begin(kind, false, tcp);
	taken = fill_up();
	assert_true(taken > RECORD_PLAIN_MAX);
	assert_int_equal(tls_write(w.conn, "x", 1), -EAGAIN);
	tap_until(taken, true);
	end();
}

static void a_full_connection_takes_part_then_nothing(void **state)
{
	(void)state;
	each_way(taken_is_what_arrives);
}

static void one_writable(enum tls_context_kind kind, bool tcp)
{
	uint64_t deadline = now_ns() + (uint64_t)PATIENCE * NS_PER_MS;
	size_t taken;
	int i;

	begin(kind, false, tcp);
	taken = fill_up();
	assert_int_equal(wait_events(0), 0);
	while (!wait_events(1)) {
		wire_tap(&w, &tap);
		assert_true(now_ns() < deadline);
	}
	for (i = 0; i < 5; i++) {
		assert_int_equal(wait_events(1), 0);
		wire_tap(&w, &tap);
	}
	tap_until(taken, true);
	assert_int_equal(wait_events(0), 0);
	assert_int_equal(tls_write(w.conn, "x", 0), 0);
	end();
}

static void room_is_told_once_after_a_refusal(void **state)
{
	(void)state;
	each_way(one_writable);
}

static void one_flushed(enum tls_context_kind kind, bool tcp)
{
	uint64_t deadline = now_ns() + (uint64_t)PATIENCE * NS_PER_MS;
	size_t taken;

	begin(kind, false, tcp);
	taken = fill_up();
	assert_true(tls_flush(w.conn) > 0);
	for (;;) {
		unsigned events = wait_events(1);

		/* the first may tell of room: then the next must come */
		if (events && tls_flush(w.conn) == 0)
			break;
		assert_true(!events || events == TLS_WRITABLE);
		assert_true(now_ns() < deadline);
		wire_tap(&w, &tap);
	}
	assert_int_equal(wait_events(0), 0);
	tap_until(taken, true);
	end();
}

static void the_end_of_a_flush_is_told(void **state)
{
	(void)state;
	each_way(one_flushed);
}

static void flush_is_lost(enum tls_context_kind kind, bool tcp)
{
	size_t taken;
	ssize_t unsent, lost;

	begin(kind, false, tcp);
	taken = fill_up();
	unsent = tls_flush(w.conn);
	lost = tls_close(w.conn, 0);
	w.conn = NULL;
	shutdown(w.conn_fd, SHUT_WR);
	tap_until(taken - (size_t)lost, false);
	while (!tap.ended)
		wire_tap(&w, &tap);
	assert_int_equal(tap.data, taken - (size_t)lost);
	/* a send under way counts as not taken until it has come back */
	assert_in_range(unsent, lost, taken);
	end();
}

static void close_returns_exactly_what_is_lost(void **state)
{
	(void)state;
	each_way(flush_is_lost);
}

static void shutdown_under_pressure(enum tls_context_kind kind, bool tcp)
{
	size_t taken;

	begin(kind, false, tcp);
	taken = fill_up();
	assert_true(tls_shutdown(w.conn) > 0);
	assert_int_equal(tls_write(w.conn, "x", 1), -EPIPE);
	tap_until(taken, true);
	assert_int_equal(tls_shutdown(w.conn), 0);
	wire_tap(&w, &tap);
	assert_int_equal(tap.alert, ALERT_CLOSE_NOTIFY);
	assert_int_equal(tap.opened, tap.len);
	end();
}

static void close_notify_comes_after_all_that_was_written(void **state)
{
	(void)state;
	each_way(shutdown_under_pressure);
}

/* ---- With waiting ------------------------------------------------------ */

/* Takes the other end's bytes in a thread until the stream ends. */
static void *drain(void *arg)
{
	uint64_t deadline = now_ns() + (uint64_t)PATIENCE * NS_PER_MS;
	struct pollfd p = { .fd = w.fd, .events = POLLIN };
	ssize_t n;

	(void)arg;
	tap.room = MUCH + MUCH / 4;
	tap.bytes = malloc(tap.room + 65536);
	while (now_ns() < deadline) {
		usleep(500); /* a slow reader */
		poll(&p, 1, 100);
		n = recv(w.fd, tap.bytes + tap.len,
			 min_size(65536, tap.room - tap.len), MSG_DONTWAIT);
		if (n == 0)
			break;
		tap.len += n > 0 ? (size_t)n : 0;
	}
	return NULL;
}

static size_t write_much(void)
{
	size_t at;

	for (at = 0; at < MUCH - CHUNK; at += CHUNK) {
		pattern_fill(buf, at, CHUNK);
		assert_int_equal(tls_write(w.conn, buf, CHUNK), CHUNK);
	}
	return at;
}

static void end_drain(pthread_t thread, size_t data)
{
	shutdown(w.conn_fd, SHUT_WR);
	pthread_join(thread, NULL);
	wire_tap(&w, &tap);
	assert_int_equal(tap.data, data);
	assert_int_equal(tap.opened, tap.len);
	end();
}

static void waits_in_write(enum tls_context_kind kind, bool tcp)
{
	pthread_t thread;
	size_t taken;

	begin(kind, true, tcp);
	pthread_create(&thread, NULL, drain, NULL);
	taken = write_much();
	assert_int_equal(tls_flush(w.conn), 0);
	end_drain(thread, taken);
}

static void a_blocking_write_waits_for_a_slow_reader(void **state)
{
	(void)state;
	each_way(waits_in_write);
}

static void waits_in_close(enum tls_context_kind kind, bool tcp)
{
	pthread_t thread;
	size_t taken;

	begin(kind, false, tcp);
	taken = fill_up();
	pthread_create(&thread, NULL, drain, NULL);
	assert_int_equal(tls_close(w.conn, PATIENCE), 0);
	w.conn = NULL;
	shutdown(w.conn_fd, SHUT_WR);
	pthread_join(thread, NULL);
	wire_tap(&w, &tap);
	assert_int_equal(tap.data, taken);
	assert_int_equal(tap.alert, ALERT_CLOSE_NOTIFY);
	end();
}

static void close_waits_for_a_slow_reader(void **state)
{
	(void)state;
	each_way(waits_in_close);
}

static void gives_up_closing(enum tls_context_kind kind, bool tcp)
{
	size_t taken;
	ssize_t lost;

	begin(kind, true, tcp); /* what waits is close, whatever O_NONBLOCK */
	set_blocking(w.conn_fd, false);
	taken = fill_up();
	lost = tls_close(w.conn, 50);
	w.conn = NULL;
	assert_in_range(lost, 1, taken);
	shutdown(w.conn_fd, SHUT_WR);
	tap_until(taken - (size_t)lost, false);
	end();
}

static void close_gives_up_in_time(void **state)
{
	(void)state;
	each_way(gives_up_closing);
}

/* ---- Without the application ------------------------------------------- */

static void *fill_up_and_exit(void *arg)
{
	*(size_t *)arg = fill_up();
	return NULL;
}

static void a_thread_that_exits_leaves_its_data_to_the_worker(void **state)
{
	pthread_t thread;
	size_t taken;
	int tcp;

	(void)state;
	for (tcp = 0; tcp < 2; tcp++) {
		begin(TLS_CONTEXT_WORKER, false, tcp);
		pthread_create(&thread, NULL, fill_up_and_exit, &taken);
		pthread_join(thread, NULL);
		tap_until(taken, false);
		end();
	}
}

static void a_thread_that_exits_does_not_end_reading(void **state)
{
	pthread_t thread;
	size_t taken;
	uint8_t in[5];

	(void)state;
	begin(TLS_CONTEXT_WORKER, true, true);
	set_blocking(w.conn_fd, false);
	pthread_create(&thread, NULL, fill_up_and_exit, &taken);
	pthread_join(thread, NULL); /* and with it a receive it submitted */
	wire_send(&w, RECORD_DATA, "hello", 5);
	set_blocking(w.conn_fd, true);
	tap_until(taken, false);
	assert_int_equal(tls_read(w.conn, in, 5), 5);
	end();
}

static void the_worker_sends_what_is_left_behind(void **state)
{
	size_t at;

	(void)state;
	begin(TLS_CONTEXT_WORKER, false, true);
	for (at = 0; at < 10; at++) {
		const uint8_t byte = pattern_byte(at);

		assert_int_equal(tls_write(w.conn, &byte, 1), 1);
	}
	tap_until(10, false);
	end();
}

/*
 * The application of this context is never away: its latest call is always
 * less than 1 ms ago, since it lies in the future.
 */
static void the_worker_sends_though_the_application_is_busy(void **state)
{
	size_t at;

	(void)state;
	begin(TLS_CONTEXT_WORKER, false, true);
	for (at = 0; at < 10; at++) {
		const uint8_t byte = pattern_byte(at);

		assert_int_equal(tls_write(w.conn, &byte, 1), 1);
		pthread_mutex_lock(&w.ctx->lock);
		w.ctx->last_call += 3600ull * 1000 * NS_PER_MS;
		pthread_mutex_unlock(&w.ctx->lock);
	}
	tap_until(10, false);
	end();
}

struct sleeper {
	struct tls_context *ctx;
	pthread_t thread;
	int n;
	struct tls_event event;
};

static void *sleep_for_events(void *arg)
{
	struct sleeper *s = arg;

	s->n = tls_context_wait(s->ctx, &s->event, 1, PATIENCE);
	return NULL;
}

static void a_waiting_thread_hears_of_what_another_made_ready(void **state)
{
	uint64_t before = now_ns();
	struct tls_secrets secrets = {
		.size = sizeof(struct tls_secrets),
		.cipher_suite = TLS_AES_128_GCM,
		.secret_len = 32,
		.rx_data = buf,
	};
	struct sleeper s = { 0 };
	struct tls_conn *conn;
	int fd[2];

	(void)state;
	begin(TLS_CONTEXT_WORKER, false, true);
	secrets.tx_secret = w.open->secret;
	secrets.rx_secret = w.seal->secret;
	secrets.rx_data_len = wire_seal(&w, RECORD_DATA, "hello", 5, 0, buf);
	socket_pair(fd, true);
	s.ctx = w.ctx;
	pthread_create(&s.thread, NULL, sleep_for_events, &s);
	usleep(20000); /* it sleeps by then, mostly */
	assert_int_equal(tls_handoff_secrets(&conn, w.ctx, fd[0], &secrets), 0);
	pthread_join(s.thread, NULL);
	assert_int_equal(s.n, 1);
	assert_ptr_equal(s.event.conn, conn);
	assert_int_equal(s.event.events, TLS_READABLE);
	assert_true(now_ns() - before < (uint64_t)PATIENCE / 2 * NS_PER_MS);
	assert_int_equal(tls_close(conn, 0), 0);
	close(fd[0]);
	close(fd[1]);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_connection_has_a_window_of_its_own),
		cmocka_unit_test(a_context_says_what_window_there_is_at_first),
		cmocka_unit_test(a_full_connection_takes_part_then_nothing),
		cmocka_unit_test(room_is_told_once_after_a_refusal),
		cmocka_unit_test(the_end_of_a_flush_is_told),
		cmocka_unit_test(close_returns_exactly_what_is_lost),
		cmocka_unit_test(close_notify_comes_after_all_that_was_written),
		cmocka_unit_test(a_blocking_write_waits_for_a_slow_reader),
		cmocka_unit_test(close_waits_for_a_slow_reader),
		cmocka_unit_test(close_gives_up_in_time),
		cmocka_unit_test(
			a_thread_that_exits_leaves_its_data_to_the_worker),
		cmocka_unit_test(a_thread_that_exits_does_not_end_reading),
		cmocka_unit_test(the_worker_sends_what_is_left_behind),
		cmocka_unit_test(
			the_worker_sends_though_the_application_is_busy),
		cmocka_unit_test(
			a_waiting_thread_hears_of_what_another_made_ready),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
