/* SPDX-License-Identifier: MIT */
/*
 * Where records begin and end, when held bytes leave, and what it costs:
 * system calls, copies and allocations, by the counters and behind them.
 */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/util.h"
#include "fake_engine.h"
#include "wire.h"

enum { PATIENCE = 20000, BULK = 256 << 10 };

static struct wire w;
static struct tap tap;
static uint8_t buf[BULK];

/* ---- Allocations of the library ---------------------------------------- */

static unsigned long allocated;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_aligned_alloc(size_t align, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);

void *__wrap_malloc(size_t size)
{
	__atomic_fetch_add(&allocated, 1, __ATOMIC_RELAXED);
	return __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	__atomic_fetch_add(&allocated, 1, __ATOMIC_RELAXED);
	return __real_calloc(n, size);
}

void *__wrap_aligned_alloc(size_t align, size_t size)
{
	__atomic_fetch_add(&allocated, 1, __ATOMIC_RELAXED);
	return __real_aligned_alloc(align, size);
}

/* ---- What all of them need --------------------------------------------- */

static void begin(const struct wire_options *o)
{
	int size = 4 << 20;

	wire_new(&w, o);
	setsockopt(w.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	setsockopt(w.conn_fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	tap = (struct tap){ 0 };
}

static void end(void)
{
	wire_free(&w);
	free(tap.bytes);
}

static struct tls_stats stats_now(void)
{
	struct tls_stats s;

	assert_int_equal(tls_context_stats(w.ctx, &s, sizeof(s)), 0);
	return s;
}

static void tap_until(size_t data)
{
	uint64_t deadline = now_ns() + (uint64_t)PATIENCE * NS_PER_MS;
	struct pollfd p = { .fd = w.fd, .events = POLLIN };

	while (tap.data < data && now_ns() < deadline) {
		wire_tap(&w, &tap);
		poll(&p, 1, 1);
	}
	assert_int_equal(tap.data, data);
}

/* Send the pattern's next len bytes. */
static size_t at;
static void put(size_t len, unsigned flags)
{
	pattern_fill(buf, at, len);
	assert_int_equal(tls_send(w.conn, buf, len, flags), len);
	at += len;
}

static void expect_content(size_t len)
{
	static uint8_t content[RECORD_BODY_MAX];
	uint8_t type;

	assert_int_equal(wire_receive(&w, &type, content), len);
	assert_int_equal(type, RECORD_DATA);
	pattern_check(content, tap.data, len);
	tap.data += len;
}

static void both_kinds(void (*check)(void))
{
	static const enum tls_context_kind kinds[] = { TLS_CONTEXT_LOOP,
						       TLS_CONTEXT_WORKER };
	int i;

	for (i = 0; i < 2; i++) {
		at = 0;
		begin(&(struct wire_options){ .kind = kinds[i] });
		check();
		end();
	}
}

/* ---- Records ----------------------------------------------------------- */

static void more_more_none(void)
{
	put(10, TLS_MORE);
	put(20, TLS_MORE);
	put(30, 0);
	assert_int_equal(tls_flush(w.conn), 0);
	expect_content(60);
	assert_true(wire_silent(&w));
}

static void writes_with_more_to_come_share_a_record(void **state)
{
	(void)state;
	both_kinds(more_more_none);
}

static void more_then_flush(void)
{
	put(10, TLS_MORE);
	put(20, TLS_MORE);
	assert_int_equal(tls_flush(w.conn), 0);
	expect_content(30);
	put(5, TLS_MORE);
	assert_int_equal(tls_flush(w.conn), 0);
	expect_content(5);
	assert_true(wire_silent(&w));
}

static void flush_seals_the_open_record(void **state)
{
	(void)state;
	both_kinds(more_then_flush);
}

static void more_over_the_limit(void)
{
	put(RECORD_PLAIN_MAX - 10, TLS_MORE);
	put(30, TLS_MORE);
	put(0, 0);
	assert_int_equal(tls_flush(w.conn), 0);
	expect_content(RECORD_PLAIN_MAX);
	expect_content(20);
	put(40000, TLS_MORE);
	put(1, 0);
	assert_int_equal(tls_flush(w.conn), 0);
	expect_content(RECORD_PLAIN_MAX);
	expect_content(RECORD_PLAIN_MAX);
	expect_content(40000 - 2 * RECORD_PLAIN_MAX + 1);
	assert_true(wire_silent(&w));
}

static void an_open_record_is_cut_at_its_limit(void **state)
{
	(void)state;
	both_kinds(more_over_the_limit);
}

static void one_write_one_record(void)
{
	put(100, 0);
	put(1, 0);
	put(RECORD_PLAIN_MAX, 0);
	put(RECORD_PLAIN_MAX + 1, 0);
	assert_int_equal(tls_flush(w.conn), 0);
	expect_content(100);
	expect_content(1);
	expect_content(RECORD_PLAIN_MAX);
	expect_content(RECORD_PLAIN_MAX);
	expect_content(1);
	assert_true(wire_silent(&w));
}

static void writes_without_more_are_records_of_their_own(void **state)
{
	(void)state;
	both_kinds(one_write_one_record);
}

static void more_then_close(void)
{
	put(7, TLS_MORE);
	assert_int_equal(tls_close(w.conn, PATIENCE), 0);
	w.conn = NULL;
	expect_content(7);
	wire_expect_alert(&w, ALERT_CLOSE_NOTIFY);
}

static void closing_sends_the_open_record(void **state)
{
	(void)state;
	both_kinds(more_then_close);
}

/* ---- Gathering --------------------------------------------------------- */

/* A machine that stops for 1 ms makes the connection idle: then try again. */
static void ten_writes_in_two_sends(void)
{
	uint64_t sends = 0;
	int turn, i;

	for (turn = 0; turn < 50; turn++) {
		sends = stats_now().sends;
		for (i = 0; i < 10; i++)
			put(100, 0);
		assert_int_equal(tls_flush(w.conn), 0);
		tap_until(at);
		tls_context_process(w.ctx);
		sends = stats_now().sends - sends;
		assert_in_range(sends, 1, 10);
		if (sends <= 2)
			return;
	}
	fail_msg("never fewer than %d sends", (int)sends);
}

static void ten_small_writes_are_one_or_two_sends(void **state)
{
	(void)state;
	both_kinds(ten_writes_in_two_sends);
}

static void by_read(void)
{
	assert_int_equal(tls_read(w.conn, buf, 1), -EAGAIN);
}

static void by_process(void)
{
	assert_int_equal(tls_context_process(w.ctx), 0);
}

static void by_wait(void)
{
	struct tls_event event;

	assert_int_equal(tls_context_wait(w.ctx, &event, 1, 0), 0);
}

static void by_flush(void)
{
	assert_int_equal(tls_flush(w.conn), 0);
}

static void by_shutdown(void)
{
	assert_int_equal(tls_shutdown(w.conn), 0);
}

static void by_close(void)
{
	assert_int_equal(tls_close(w.conn, PATIENCE), 0);
	w.conn = NULL;
}

static void held_bytes_leave_with_these_calls(void **state)
{
	static void (*const calls[])(void) = { by_read,	 by_process,
					       by_wait,	 by_flush,
					       by_shutdown, by_close };
	size_t i;

	(void)state;
	/* a loop has no worker that could be it */
	for (i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		at = 0;
		begin(&(struct wire_options){ .kind = TLS_CONTEXT_LOOP });
		put(100, 0);
		put(100, 0);
		put(100, 0);
		calls[i]();
		tap_until(300);
		end();
	}
}

/* ---- System calls ------------------------------------------------------ */

struct cost {
	double enters; /* for each 16 KiB */
	double sends;  /* for each 16 records */
};

/* of 4 MiB in writes of that length; made before, lest a gap be idleness */
static struct cost sending_costs(enum tls_context_kind kind, size_t write)
{
	static uint8_t bulk[4 << 20];
	struct tls_stats before, after;
	struct cost cost;

	begin(&(struct wire_options){ .kind = kind });
	pattern_fill(bulk, 0, sizeof(bulk));
	before = stats_now();
	for (at = 0; at < sizeof(bulk); at += write) {
		assert_int_equal(tls_write(w.conn, bulk + at, write), write);
		if (at % (1 << 20) == 0)
			wire_tap(&w, &tap); /* so that there is room */
	}
	assert_int_equal(tls_flush(w.conn), 0);
	after = stats_now();
	cost.enters = (double)(after.enters - before.enters) /
		      ((double)at / RECORD_PLAIN_MAX);
	cost.sends = (double)(after.sends - before.sends) * 16 /
		     (double)(after.sent_records - before.sent_records);
	end();
	return cost;
}

/*
 * Under the thread sanitizer a write may take so long that the connection is
 * idle in between, on a busy machine each time: there it is about races.
 */
#ifdef __SANITIZE_THREAD__
static const struct cost most = { .enters = 1, .sends = 16 };
#else
static const struct cost most = { .enters = 0.1, .sends = 1.5 };
#endif

static bool few(const struct cost *cost)
{
	return cost->enters <= most.enters && cost->sends <= most.sends;
}

/* A machine that stops for 1 ms makes the connection idle: then try again. */
static void expect_few_calls(enum tls_context_kind kind, size_t write)
{
	struct cost cost = { 0 };
	int turn;

	for (turn = 0; turn < 50; turn++) {
		cost = sending_costs(kind, write);
		assert_true(cost.sends > 0);
		if (few(&cost))
			break;
	}
	print_message("%zu KiB: %.3f system calls a record, %.2f sends for "
		      "16 records\n", write >> 10, cost.enters, cost.sends);
	assert_true(few(&cost));
}

static void sending_in_bulk_takes_a_system_call_for_ten_records(void **state)
{
	static const size_t writes[] = { 16 << 10, 64 << 10, 256 << 10 };
	size_t i;

	(void)state;
	for (i = 0; i < 3; i++) {
		expect_few_calls(TLS_CONTEXT_LOOP, writes[i]);
		expect_few_calls(TLS_CONTEXT_WORKER, writes[i]);
	}
}

/* The socket is full of records before the reading begins. */
static void receiving_costs(enum tls_context_kind kind)
{
	enum { RECORDS = 120 };
	struct tls_stats before, after;
	size_t done = 0;
	double cost;
	int i;

	begin(&(struct wire_options){ .kind = kind });
	for (i = 0; i < RECORDS; i++) {
		pattern_fill(buf, (size_t)i * RECORD_PLAIN_MAX,
			     RECORD_PLAIN_MAX);
		wire_send(&w, RECORD_DATA, buf, RECORD_PLAIN_MAX);
	}
	set_blocking(w.conn_fd, true);
	before = stats_now();
	while (done < (size_t)RECORDS * RECORD_PLAIN_MAX) {
		ssize_t n = tls_read(w.conn, buf, sizeof(buf));

		assert_true(n > 0);
		pattern_check(buf, done, (size_t)n);
		done += (size_t)n;
	}
	after = stats_now();
	cost = (double)(after.enters - before.enters) / RECORDS;
	print_message("%.2f system calls a record\n", cost);
	assert_true(cost <= (on_uring(w.ctx) ? 0.5 : 1));
	end();
}

static void receiving_in_bulk_takes_few_system_calls(void **state)
{
	(void)state;
	receiving_costs(TLS_CONTEXT_LOOP);
	receiving_costs(TLS_CONTEXT_WORKER);
}

/* ---- Memory ------------------------------------------------------------ */

/* There and back, each through the library on one side. */
static void exchange(int rounds)
{
	static uint8_t record[RECORD_WIRE_MAX], content[RECORD_BODY_MAX];
	uint8_t type;
	int i;

	for (i = 0; i < rounds; i++) {
		size_t len = (size_t)i * 977 % RECORD_PLAIN_MAX + 1, done = 0;

		pattern_fill(buf, len, len);
		wire_send_raw(&w, record, wire_seal(&w, RECORD_DATA, buf, len,
						    0, record));
		while (done < len) {
			ssize_t n = tls_read(w.conn, buf, len);

			assert_true(n > 0);
			pattern_check(buf, len + done, (size_t)n);
			done += (size_t)n;
		}
		pattern_fill(buf, len, len);
		assert_int_equal(tls_write(w.conn, buf, len), len);
		assert_int_equal(tls_flush(w.conn), 0);
		assert_int_equal(wire_receive(&w, &type, content), len);
		pattern_check(content, len, len);
	}
}

static void no_allocation(enum tls_context_kind kind)
{
	struct tls_stats middle, after;
	unsigned long then;

	/* the recorder has memory of its own */
	begin(&(struct wire_options){ .kind = kind,
				      .blocking = true,
				      .not_recorded = true });
	exchange(200);
	middle = stats_now();
	then = __atomic_load_n(&allocated, __ATOMIC_RELAXED);
	assert_int_not_equal(then, 0); /* they are counted */
	assert_int_not_equal(middle.allocations, 0);
	exchange(1000);
	after = stats_now();
	assert_int_equal(__atomic_load_n(&allocated, __ATOMIC_RELAXED), then);
	assert_int_equal(after.allocations, middle.allocations);
	assert_int_equal(after.memory_peak, middle.memory_peak);
	end();
}

static void records_cost_no_allocation(void **state)
{
	(void)state;
	no_allocation(TLS_CONTEXT_LOOP);
	no_allocation(TLS_CONTEXT_WORKER);
}

static void an_idle_connection_holds_no_memory(void **state)
{
	struct tls_stats s;

	(void)state;
	begin(&(struct wire_options){ .kind = TLS_CONTEXT_LOOP,
				      .blocking = true });
	exchange(20);
	s = stats_now();
	assert_int_equal(s.memory_now, 0);
	assert_int_not_equal(s.memory_peak, 0);
	end();
}

static void the_cpu_engine_seals_without_a_copy(void **state)
{
	(void)state;
	at = 0;
	begin(&(struct wire_options){ .kind = TLS_CONTEXT_LOOP });
	put(100000, 0);
	put(1, 0);
	assert_int_equal(tls_flush(w.conn), 0);
	tap_until(100001);
	assert_int_equal(stats_now().tx_copied_bytes, 0);
	end();
}

static void an_asynchronous_engine_costs_one_copy(void **state)
{
	struct fake_engine *fake = fake_new();

	(void)state;
	at = 0;
	begin(&(struct wire_options){ .kind = TLS_CONTEXT_LOOP, .fake = fake });
	put(100000, 0);
	put(100, TLS_MORE); /* the copy into the open record is the one */
	put(1, 0);
	fake_complete_all(fake);
	assert_int_equal(tls_flush(w.conn), 0);
	tap_until(100101);
	assert_int_equal(stats_now().tx_copied_bytes, 100101);
	end();
	fake_free(fake);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_with_more_to_come_share_a_record),
		cmocka_unit_test(flush_seals_the_open_record),
		cmocka_unit_test(an_open_record_is_cut_at_its_limit),
		cmocka_unit_test(writes_without_more_are_records_of_their_own),
		cmocka_unit_test(closing_sends_the_open_record),
		cmocka_unit_test(ten_small_writes_are_one_or_two_sends),
		cmocka_unit_test(held_bytes_leave_with_these_calls),
		cmocka_unit_test(
			sending_in_bulk_takes_a_system_call_for_ten_records),
		cmocka_unit_test(
			receiving_in_bulk_takes_few_system_calls),
		cmocka_unit_test(records_cost_no_allocation),
		cmocka_unit_test(an_idle_connection_holds_no_memory),
		cmocka_unit_test(the_cpu_engine_seals_without_a_copy),
		cmocka_unit_test(an_asynchronous_engine_costs_one_copy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
