/* SPDX-License-Identifier: MIT */
/*
 * As tests/unit/test_inject.c, with a driver of the kernel's: every call for its
 * sockets fails in turn, and every request. The CPU engine takes over. (Every
 * eleventh, unless ASYNCTLS_INJECT_STEP is 1: a minute then becomes five.)
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <openssl/ssl.h>

#include "afalg_setup.h"
#include "scenario.h"

static int set_up(void **state)
{
	const char *step = getenv("ASYNCTLS_INJECT_STEP");

	find_drivers(state);
	scenario_use_driver(parallel_driver, step ? atol(step) : 11);
	scenario_set_up(TLS1_3_VERSION);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	scenario_tear_down();
	return 0;
}

static void a_context_is_made_or_not(void **state)
{
	(void)state;
	scenario_in_contexts(TLS_CONTEXT_LOOP, INJECT_CALLS, ENOMEM, 1, 20);
}

static void calls_for_sockets_may_fail(void **state)
{
	(void)state;
	scenario_in_a_context(TLS_CONTEXT_LOOP, INJECT_CALLS, ENOMEM, 10);
	scenario_in_a_context(TLS_CONTEXT_WORKER, INJECT_CALLS, EMFILE, 10);
}

static void the_queue_may_be_full_at_any_time(void **state)
{
	(void)state;
	scenario_in_a_context(TLS_CONTEXT_LOOP, INJECT_QUEUE, EAGAIN, 10);
}

static void every_result_may_be_an_error(void **state)
{
	static const int errors[] = {
		INJECT_SHORT, EIO, EBADMSG, ENOSPC, ENOMEM, ECANCELED,
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		scenario_in_a_context(TLS_CONTEXT_LOOP, INJECT_ENGINE,
				      errors[i], 10);
}

#define TEST(name) cmocka_unit_test(name)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_context_is_made_or_not),
		TEST(calls_for_sockets_may_fail),
		TEST(the_queue_may_be_full_at_any_time),
		TEST(every_result_may_be_an_error),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
