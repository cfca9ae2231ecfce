/* SPDX-License-Identifier: MIT */
/*
 * A machine where no CPU engine works (--wrap): the kernel's drivers are all
 * there is.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "afalg_setup.h"
#include "asynctls.h"
#include "both.h"
#include "engine/engine_cpu.h"

int __wrap_engine_cpu_new(struct engine **engine, const char **why);
int __wrap_socket(int domain, int type, int protocol);
int __real_socket(int domain, int type, int protocol);

enum { BYTES = 1 << 20 };

static bool no_afalg;

int __wrap_engine_cpu_new(struct engine **engine, const char **why)
{
	*engine = NULL;
	*why = "none works in this test";
	return -ENODEV;
}

int __wrap_socket(int domain, int type, int protocol)
{
	if (no_afalg && domain == AF_ALG) {
		errno = EAFNOSUPPORT;
		return -1;
	}
	return __real_socket(domain, type, protocol);
}

/* Inline ones, too, which it passes over where there is a CPU engine. */
static void takes_whatever_works(enum tls_context_kind kind)
{
	struct tls_config config = TLS_CONFIG_INIT;
	char text[4096], *line, *next;
	struct tls_context *ctx;
	struct tls_stats s;
	struct both b;

	config.kind = kind;
	if (tls_context_new(&ctx, &config))
		fail_msg("%s", tls_last_error());
	tls_context_describe(ctx, text, sizeof(text));
	print_message("%s", text);
	strtok_r(text, "\n", &next); /* how it sends and receives */
	while ((line = strtok_r(NULL, "\n", &next)))
		assert_non_null(strstr(line, ": afalg, driver "));
	both_open(&b, ctx);
	both_transfer(&b, BYTES);
	both_close(&b);
	tls_context_stats(ctx, &s, sizeof(s));
	assert_int_equal(s.tx_bytes[TLS_BY_KERNEL], BYTES);
	assert_int_equal(s.rx_bytes[TLS_BY_KERNEL], BYTES);
	tls_context_free(ctx);
}

static void a_loop_takes_whatever_driver_works(void **state)
{
	(void)state;
	takes_whatever_works(TLS_CONTEXT_LOOP);
}

static void a_worker_takes_whatever_driver_works(void **state)
{
	(void)state;
	takes_whatever_works(TLS_CONTEXT_WORKER);
}

static void with_no_driver_either_words_say_what_to_set(void **state)
{
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *ctx;

	(void)state;
	no_afalg = true;
	assert_int_equal(tls_context_new(&ctx, &config), -ENODEV);
	no_afalg = false;
	print_message("%s\n", tls_last_error());
	assert_non_null(strstr(tls_last_error(), "none works in this test"));
	assert_non_null(strstr(tls_last_error(), "AF_ALG"));
	assert_non_null(strstr(tls_last_error(), "ASYNCTLS_DRIVER"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_loop_takes_whatever_driver_works),
		cmocka_unit_test(a_worker_takes_whatever_driver_works),
		cmocka_unit_test(with_no_driver_either_words_say_what_to_set),
	};

	if (afalg_restricted() && !afalg_allow())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
