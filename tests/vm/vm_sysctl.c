/* SPDX-License-Identifier: MIT */
/*
 * A host that forbids io_uring by the sysctl kernel.io_uring_disabled (of Linux
 * 6.6; 2: to all, 1: to who has no CAP_SYS_ADMIN): contexts take epoll and say
 * why, every byte arrives, and who insists on io_uring hears what to do.
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

#include "both.h"
#include "wire.h"

enum { BYTES = 4 << 20, NOBODY = 65534, SKIPPED = 77 };

static const char path[] = "/proc/sys/kernel/io_uring_disabled";
static char before; /* its value when this program began */

static void set(char value)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_int_equal(fputc(value, file), value);
	assert_int_equal(fclose(file), 0);
}

/* As who has no capability, until restore(). */
static void drop_rights(void)
{
	assert_int_equal(seteuid(NOBODY), 0);
}

static int restore(void **state)
{
	(void)state;
	if (seteuid(0))
		return -1;
	set(before);
	return 0;
}

static struct tls_context *context(enum tls_context_kind kind)
{
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *ctx;

	config.kind = kind;
	if (tls_context_new(&ctx, &config))
		fail_msg("%s", tls_last_error());
	return ctx;
}

static void transfer(struct tls_context *ctx)
{
	struct both b;

	both_open(&b, ctx);
	both_transfer(&b, BYTES);
	both_close(&b);
}

static void io_uring_works(enum tls_context_kind kind)
{
	struct tls_context *ctx = context(kind);

	assert_true(on_uring(ctx));
	transfer(ctx);
	tls_context_free(ctx);
}

static void epoll_stands_in(enum tls_context_kind kind)
{
	struct tls_context *ctx = context(kind);
	char words[4096];

	tls_context_describe(ctx, words, sizeof(words));
	words[strcspn(words, "\n")] = 0;
	print_message("%s\n", words);
	assert_ptr_equal(strstr(words, "sockets: epoll; not io_uring: "),
			 words);
	assert_non_null(strstr(words, "kernel.io_uring_disabled"));
	assert_false(on_uring(ctx));
	transfer(ctx);
	tls_context_free(ctx);
}

static void io_uring_is_refused(enum tls_context_kind kind)
{
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *ctx;

	config.kind = kind;
	config.io = TLS_IO_URING;
	assert_int_equal(tls_context_new(&ctx, &config), -EPERM);
	print_message("%s\n", tls_last_error());
	assert_non_null(strstr(tls_last_error(), "kernel.io_uring_disabled"));
	assert_non_null(strstr(tls_last_error(), "set it to 0"));
}

static void both_kinds(void (*check)(enum tls_context_kind kind))
{
	check(TLS_CONTEXT_LOOP);
	check(TLS_CONTEXT_WORKER);
}

/* ---- Tests ------------------------------------------------------------- */

static void not_disabled_everybody_has_io_uring(void **state)
{
	(void)state;
	set('0');
	both_kinds(io_uring_works);
	drop_rights();
	both_kinds(io_uring_works);
}

static void disabled_for_all_contexts_take_epoll(void **state)
{
	(void)state;
	set('2');
	both_kinds(epoll_stands_in);
}

static void disabled_for_all_who_asks_for_it_hears_why(void **state)
{
	(void)state;
	set('2');
	both_kinds(io_uring_is_refused);
}

static void disabled_for_others_the_mighty_have_it(void **state)
{
	(void)state;
	set('1');
	both_kinds(io_uring_works);
}

static void disabled_for_others_they_take_epoll(void **state)
{
	(void)state;
	set('1');
	drop_rights();
	both_kinds(epoll_stands_in);
	both_kinds(io_uring_is_refused);
}

static void goes_on(enum tls_context_kind kind)
{
	struct tls_context *ctx;

	set('0');
	ctx = context(kind);
	set('2');
	assert_true(on_uring(ctx));
	transfer(ctx);
	tls_context_free(ctx);
}

/* It forbids new rings. */
static void disabled_later_a_context_goes_on(void **state)
{
	(void)state;
	both_kinds(goes_on);
}

static void *make_loop(void *result)
{
	*(struct tls_context **)result = context(TLS_CONTEXT_LOOP);
	return NULL;
}

/* ... of which an orphan needs one. */
static void disabled_later_an_orphan_is_not_adopted(void **state)
{
	struct tls_context *ctx = NULL;
	pthread_t thread;

	(void)state;
	set('0');
	pthread_create(&thread, NULL, make_loop, &ctx);
	pthread_join(thread, NULL);
	set('2');
	assert_int_equal(tls_context_adopt(ctx), -EPERM);
	print_message("%s\n", tls_last_error());
	assert_non_null(strstr(tls_last_error(), "kernel.io_uring_disabled"));
	tls_context_free(ctx);
}

#define TEST(name) cmocka_unit_test_teardown(name, restore)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(not_disabled_everybody_has_io_uring),
		TEST(disabled_for_all_contexts_take_epoll),
		TEST(disabled_for_all_who_asks_for_it_hears_why),
		TEST(disabled_for_others_the_mighty_have_it),
		TEST(disabled_for_others_they_take_epoll),
		TEST(disabled_later_a_context_goes_on),
		TEST(disabled_later_an_orphan_is_not_adopted),
	};
	FILE *file = fopen(path, "re");

	if (!file) {
		print_message("this kernel has no kernel.io_uring_disabled\n");
		return SKIPPED;
	}
	before = (char)fgetc(file);
	fclose(file);
	if (geteuid() != 0) {
		print_message("only root may set kernel.io_uring_disabled\n");
		return SKIPPED;
	}
	unsetenv("ASYNCTLS_IO");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
