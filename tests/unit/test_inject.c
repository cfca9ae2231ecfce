/* SPDX-License-Identifier: MIT */
/*
 * Every allocation, every call into the kernel and every completion fails in
 * turn, in a connection's whole life: it goes on, or ends with an error and
 * words. No hang, no leak, no wrong byte, and the context serves the next.
 */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/ssl.h>

#include "scenario.h"
#include "wire.h"

static int set_up(void **state)
{
	(void)state;
	scenario_set_up(TLS1_3_VERSION);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	scenario_tear_down();
	return 0;
}

static int set_up_tls12(void **state)
{
	(void)state;
	scenario_set_up(TLS1_2_VERSION);
	return 0;
}

static void every_allocation_may_fail(void **state)
{
	(void)state;
	scenario_in_contexts(TLS_CONTEXT_LOOP, INJECT_MEMORY, ENOMEM, LONG_MAX,
			     10);
	scenario_in_contexts(TLS_CONTEXT_WORKER, INJECT_MEMORY, ENOMEM,
			     LONG_MAX, 10);
}

static void every_call_may_fail(void **state)
{
	(void)state;
	scenario_in_contexts(TLS_CONTEXT_LOOP, INJECT_CALLS, EINTR, 1, 10);
	scenario_in_contexts(TLS_CONTEXT_LOOP, INJECT_CALLS, EBUSY, 1, 10);
	scenario_in_contexts(TLS_CONTEXT_LOOP, INJECT_CALLS, EAGAIN, 5, 10);
	scenario_in_contexts(TLS_CONTEXT_WORKER, INJECT_CALLS, EAGAIN, 5, 10);
	scenario_in_contexts(TLS_CONTEXT_WORKER, INJECT_CALLS, ENOMEM, 1, 10);
}

/* ---- In a context that stays ------------------------------------------- */

static void a_file_may_be_unreadable_for_a_moment(void **state)
{
	(void)state;
	scenario_in_a_context(TLS_CONTEXT_LOOP, INJECT_FILES, EIO, 2);
	scenario_in_a_context(TLS_CONTEXT_LOOP, INJECT_FILES, EINTR, 2);
}

static void the_queue_may_be_full_at_any_time(void **state)
{
	(void)state;
	scenario_in_a_context(TLS_CONTEXT_LOOP, INJECT_QUEUE, EAGAIN, 10);
	scenario_in_a_context(TLS_CONTEXT_WORKER, INJECT_QUEUE, EAGAIN, 10);
}

static void every_result_may_be_an_error(void **state)
{
	static const int errors[] = {
		INJECT_SHORT, EINTR, EAGAIN, ENOBUFS, ENOMEM, ECANCELED,
		ECONNRESET, EPIPE,
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		scenario_in_a_context(TLS_CONTEXT_LOOP, INJECT_RESULTS,
				      errors[i], 10);
		scenario_in_a_context(TLS_CONTEXT_WORKER, INJECT_RESULTS,
				      errors[i], 10);
	}
}

/* ---- In calls that wait ------------------------------------------------ */

/* What is waited for is there already, if only the kernel were asked for it. */
static bool wait_for_it(struct wire *w, enum inject_into where, long n)
{
	static uint8_t buf[64 << 10], got[64 << 10];
	uint8_t type;

	wire_send(w, RECORD_DATA, "ping", 4);
	pattern_fill(buf, 0, sizeof(buf));
	inject(where, n, EAGAIN, 3);
	assert_int_equal(IN_LIBRARY(tls_read(w->conn, got, 10)), 4);
	assert_int_equal(IN_LIBRARY(tls_write(w->conn, buf, 100)), 100);
	assert_int_equal(IN_LIBRARY(tls_flush(w->conn)), 0);
	assert_int_equal(wire_receive(w, &type, got), 100);
	return inject_stop();
}

static void calls_that_wait_ask_again(void **state)
{
	static const enum inject_into where[] = { INJECT_CALLS, INJECT_QUEUE };
	struct wire w;
	int kind, i;
	long n;

	(void)state;
	for (kind = TLS_CONTEXT_WORKER; kind <= TLS_CONTEXT_LOOP; kind++) {
		wire_new(&w, &(struct wire_options){ .kind = kind,
						     .blocking = true });
		for (i = 0; i < 2; i++) {
			for (n = 0; wait_for_it(&w, where[i], n); n++)
				;
			assert_in_range(n, 2, 100);
		}
		wire_free(&w);
	}
}

#define TEST(name) cmocka_unit_test(name)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_allocation_may_fail),
		TEST(every_call_may_fail),
		TEST(a_file_may_be_unreadable_for_a_moment),
		TEST(the_queue_may_be_full_at_any_time),
		TEST(every_result_may_be_an_error),
		TEST(calls_that_wait_ask_again),
	};

	const struct CMUnitTest tls12_tests[] = {
		TEST(every_allocation_may_fail),
		TEST(the_queue_may_be_full_at_any_time),
	};
	int failed = cmocka_run_group_tests(tests, set_up, tear_down);

	return failed +
	       cmocka_run_group_tests_name("TLS 1.2", tls12_tests,
					   set_up_tls12, tear_down);
}
