/* SPDX-License-Identifier: MIT */
/* Programs that were compiled with the header of another release. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "asynctls.h"
#include "both.h"
#include "wire.h"

/* ---- The structs as they were ------------------------------------------ */

/* Of the first header, copied and never to be changed. */
struct config_then {
	size_t size;
	enum tls_context_kind kind;
	enum tls_engine engine;
	const char *driver;
	unsigned depth;
	size_t max_memory;
	unsigned max_op_sockets;
	unsigned deadline_ms;
	enum tls_hybrid hybrid;
	size_t record_size;
	int record_ramp;
	uint64_t rekey_records;
};

struct secrets_then {
	size_t size;
	uint16_t cipher_suite;
	size_t secret_len;
	const uint8_t *tx_secret;
	const uint8_t *rx_secret;
	uint64_t tx_seq;
	uint64_t rx_seq;
	int is_server;
	const void *rx_data;
	size_t rx_data_len;
};

struct stats_then {
	uint64_t tx_records[2];
	uint64_t tx_bytes[2];
	uint64_t rx_records[2];
	uint64_t rx_bytes[2];
	uint64_t tx_copied_bytes;
	uint64_t tx_padding_bytes;
	uint64_t tx_in_flight_now;
	uint64_t rx_in_flight_now;
	uint64_t tx_in_flight_peak;
};

/* What a release to come may have added. */
#define LATER(type) \
	struct { \
		struct type now; \
		uint64_t added, added_too; \
	}

/* With all ones behind it, which would count if they were read. */
static void *before_ones(const void *from, size_t size)
{
	static _Alignas(16) uint8_t room[1024];

	memset(room, 0xff, sizeof(room));
	return memcpy(room, from, size);
}

/* ---- tls_config -------------------------------------------------------- */

static struct tls_context *created(const void *config)
{
	struct tls_context *ctx = NULL;

	if (tls_context_new(&ctx, config))
		fail_msg("%s", tls_last_error());
	return ctx;
}

static void refused(const void *config, int error, const char *words)
{
	struct tls_context *ctx = NULL;

	assert_int_equal(tls_context_new(&ctx, config), error);
	assert_null(ctx);
	if (!strstr(tls_last_error(), words))
		fail_msg("\"%s\" has no \"%s\"", tls_last_error(), words);
}

static void an_older_programs_config_has_defaults_for_what_it_lacks(
	void **state)
{
	struct config_then then = { .size = sizeof(then),
				    .kind = TLS_CONTEXT_LOOP,
				    .record_size = 1000 };
	struct tls_context *ctx = created(before_ones(&then, sizeof(then)));
	struct both b;

	(void)state;
	both_open(&b, ctx);
	assert_int_equal(tls_write(b.conn[0], "x", 1), 1);
	both_close(&b);
	tls_context_free(ctx);
}

static void an_older_programs_config_is_heeded(void **state)
{
	struct config_then then = { .size = sizeof(then), .record_size = 63 };

	(void)state;
	refused(&then, -EINVAL, "63");
}

static void a_newer_programs_config_is_taken_while_it_asks_for_nothing_new(
	void **state)
{
	LATER(tls_config) later = { .now = { .size = sizeof(later),
					     .kind = TLS_CONTEXT_LOOP } };

	(void)state;
	tls_context_free(created(&later));
	later.added_too = 1;
	refused(&later, -E2BIG, "tls_config sets fields that this version");
}

static void a_config_without_its_size_is_refused(void **state)
{
	struct tls_config config = { .kind = TLS_CONTEXT_LOOP };

	(void)state;
	refused(&config, -EINVAL, "tls_config.size is 0");
	config.size = 8;
	refused(&config, -EINVAL, "tls_config.size is 8");
}

/* ---- tls_secrets ------------------------------------------------------- */

static int hand_over(const void *secrets)
{
	struct tls_context *ctx;
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_conn *conn;
	int fd[2], ret;

	config.kind = TLS_CONTEXT_LOOP;
	ctx = created(&config);
	socket_pair(fd, false);
	ret = tls_handoff_secrets(&conn, ctx, fd[0], secrets);
	if (!ret) {
		assert_int_equal(tls_write(conn, "x", 1), 1);
		tls_close(conn, 0);
	}
	close(fd[0]);
	close(fd[1]);
	tls_context_free(ctx);
	return ret;
}

static void an_older_programs_secrets_are_taken(void **state)
{
	static const uint8_t secret[32];
	struct secrets_then then = {
		.size = sizeof(then),
		.cipher_suite = TLS_AES_128_GCM,
		.secret_len = 32,
		.tx_secret = secret,
		.rx_secret = secret,
	};

	(void)state;
	assert_int_equal(hand_over(before_ones(&then, sizeof(then))), 0);
	then.size = 1;
	assert_int_equal(hand_over(&then), -EINVAL);
	assert_non_null(strstr(tls_last_error(), "tls_secrets.size is 1"));
	assert_int_equal(hand_over(NULL), -EINVAL);
}

static void a_newer_programs_secrets_may_not_ask_for_more(void **state)
{
	LATER(tls_secrets) later = { .now = *both_secrets(0) };

	(void)state;
	later.now.size = sizeof(later);
	assert_int_equal(hand_over(&later), 0);
	later.added = 1;
	assert_int_equal(hand_over(&later), -E2BIG);
	assert_non_null(strstr(tls_last_error(), "tls_secrets"));
}

/* ---- tls_stats --------------------------------------------------------- */

static void an_older_programs_statistics_are_not_overrun(void **state)
{
	struct {
		struct stats_then then;
		uint64_t guard;
	} sum = { .guard = 77 }, more = { .guard = 78 };
	struct wire w;
	char json[4000];

	(void)state;
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP });
	tls_write(w.conn, "xyz", 3);
	assert_int_equal(tls_context_stats(w.ctx, (void *)&more,
					   sizeof(more.then)), 0);
	assert_int_equal(more.then.tx_bytes[TLS_BY_CPU], 3);
	assert_int_equal(tls_conn_stats(w.conn, (void *)&more,
					sizeof(more.then)), 0);
	assert_int_equal(more.then.tx_bytes[TLS_BY_CPU], 3);
	assert_int_equal(more.guard, 78);
	more.then.tx_in_flight_peak = 5;
	tls_stats_add((void *)&sum, (void *)&more, sizeof(more.then));
	tls_stats_add((void *)&sum, (void *)&more, sizeof(more.then));
	assert_int_equal(sum.then.tx_bytes[TLS_BY_CPU], 6);
	assert_int_equal(sum.then.tx_in_flight_peak, 5);
	assert_int_equal(sum.guard, 77);
	tls_stats_json((void *)&sum, sizeof(sum.then), json, sizeof(json));
	assert_non_null(strstr(json, "\"tx_in_flight_peak\":5,"
				     "\"rx_in_flight_peak\":0,"));
	wire_free(&w);
}

static void a_newer_programs_statistics_are_zero_where_we_have_none(
	void **state)
{
	LATER(tls_stats) later, sum = { .added = 1 };
	struct wire w;
	char json[4000];

	(void)state;
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP });
	tls_write(w.conn, "xyz", 3);
	memset(&later, 0xff, sizeof(later));
	assert_int_equal(tls_context_stats(w.ctx, &later.now, sizeof(later)),
			 0);
	assert_int_equal(later.added, 0);
	assert_int_equal(later.added_too, 0);
	memset(&later, 0xff, sizeof(later));
	assert_int_equal(tls_conn_stats(w.conn, &later.now, sizeof(later)), 0);
	assert_int_equal(later.added_too, 0);
	tls_stats_add(&sum.now, &later.now, sizeof(later));
	assert_int_equal(sum.now.tx_bytes[TLS_BY_CPU], 3);
	assert_int_equal(sum.added, 1);
	assert_in_range(tls_stats_json(&sum.now, sizeof(sum), json,
				       sizeof(json)), 1, sizeof(json) - 1);
	wire_free(&w);
}

int main(void)
{
#define TEST(name) cmocka_unit_test(name)
	const struct CMUnitTest tests[] = {
		TEST(an_older_programs_config_has_defaults_for_what_it_lacks),
		TEST(an_older_programs_config_is_heeded),
		TEST(a_newer_programs_config_is_taken_while_it_asks_for_nothing_new),
		TEST(a_config_without_its_size_is_refused),
		TEST(an_older_programs_secrets_are_taken),
		TEST(a_newer_programs_secrets_may_not_ask_for_more),
		TEST(an_older_programs_statistics_are_not_overrun),
		TEST(a_newer_programs_statistics_are_zero_where_we_have_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
