/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <poll.h>
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

#include "wire.h"

enum { SECONDS = 1000, DEADLINE = 10 * SECONDS };

/* Completions in a worker context interrupt sleeping system calls. */
static bool polls(struct tls_context *ctx, int timeout_ms)
{
	struct pollfd p = { .fd = tls_context_fd(ctx), .events = POLLIN };
	int n;

	do
		n = poll(&p, 1, timeout_ms);
	while (n < 0 && errno == EINTR);
	return n == 1;
}

/* As the header tells: nothing is left to do before sleeping. */
static void drain(struct tls_context *ctx)
{
	struct tls_event event;

	while (tls_context_wait(ctx, &event, 1, 0) > 0)
		;
}

struct later {
	struct wire *w;
	const char *text;
};

static void *send_later(void *arg)
{
	struct later *later = arg;

	usleep(20 * 1000);
	wire_send(later->w, RECORD_DATA, later->text, strlen(later->text));
	return NULL;
}

static void the_descriptor_polls_when_data_arrives(enum tls_context_kind kind)
{
	struct tls_event event;
	struct wire w;
	struct later later = { &w, "data" };
	pthread_t thread;
	char buf[10];
	int i;

	wire_new(&w, &(struct wire_options){ .kind = kind });
	for (i = 0; i < 5; i++) {
		drain(w.ctx);
		assert_false(polls(w.ctx, 0));
		pthread_create(&thread, NULL, send_later, &later);
		assert_true(polls(w.ctx, DEADLINE));
		pthread_join(thread, NULL);
		assert_int_equal(tls_context_wait(w.ctx, &event, 1, 0), 1);
		assert_ptr_equal(event.conn, w.conn);
		assert_int_equal(event.events, TLS_READABLE);
		assert_int_equal(tls_read(w.conn, buf, sizeof(buf)), 4);
	}
	wire_free(&w);
}

static void a_loops_descriptor_polls_when_data_arrives(void **state)
{
	(void)state;
	the_descriptor_polls_when_data_arrives(TLS_CONTEXT_LOOP);
}

static void a_workers_descriptor_polls_when_data_arrives(void **state)
{
	(void)state;
	the_descriptor_polls_when_data_arrives(TLS_CONTEXT_WORKER);
}

static void readable_is_reported_until_it_is_read(void **state)
{
	struct tls_event event;
	struct wire w;
	char buf[10];
	int i;

	(void)state;
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP });
	tls_conn_set_data(w.conn, &w);
	wire_send(&w, RECORD_DATA, "abcdef", 6);
	for (i = 0; i < 3; i++) {
		assert_int_equal(tls_context_wait(w.ctx, &event, 1, DEADLINE),
				 1);
		assert_ptr_equal(event.data, &w);
		assert_int_equal(event.events, TLS_READABLE);
		assert_int_equal(tls_read(w.conn, buf, 2), 2);
	}
	assert_int_equal(tls_context_wait(w.ctx, &event, 1, 0), 0);
	wire_free(&w);
}

static void the_end_is_reported_and_then_no_more(void **state)
{
	static const uint8_t close_notify[2] = { 1, 0 };
	struct tls_event event;
	struct wire w;
	char buf[10];

	(void)state;
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP });
	wire_send(&w, RECORD_ALERT, close_notify, 2);
	assert_int_equal(tls_context_wait(w.ctx, &event, 1, DEADLINE), 1);
	assert_int_equal(event.events, TLS_READABLE | TLS_CLOSED);
	assert_int_equal(tls_read(w.conn, buf, sizeof(buf)), 0);
	assert_int_equal(tls_context_wait(w.ctx, &event, 1, 0), 0);
	assert_int_equal(tls_context_wait(w.ctx, &event, 1, 20), 0);
	wire_free(&w);
}

static void room_is_reported_once_after_a_refusal(void **state)
{
	static uint8_t buf[1 << 20], content[RECORD_PLAIN_MAX + 256];
	struct tls_event event;
	struct wire w;
	size_t sent = 0, got = 0;
	uint8_t type;
	ssize_t n;

	(void)state;
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP });
	while ((n = tls_write(w.conn, buf, sizeof(buf))) > 0)
		sent += (size_t)n;
	assert_int_equal(n, -EAGAIN);
	assert_int_equal(tls_context_wait(w.ctx, &event, 1, 0), 0);
	while (got < sent) {
		got += (size_t)wire_receive(&w, &type, content);
		n = tls_context_wait(w.ctx, &event, 1, 0);
		if (n)
			break;
	}
	assert_int_equal(n, 1);
	assert_int_equal(event.events, TLS_WRITABLE);
	assert_int_equal(tls_context_wait(w.ctx, &event, 1, 0), 0);
	assert_true(tls_write(w.conn, "x", 1) == 1);
	wire_free(&w);
}

static void connections_take_turns_when_there_is_room_for_one_event(
	void **state)
{
	struct tls_conn *conns[3], *seen[6];
	struct tls_config config = TLS_CONFIG_INIT;
	uint8_t secret[32] = { 0 };
	struct tls_secrets secrets = { .size = sizeof(secrets),
				       .cipher_suite = TLS_AES_128_GCM,
				       .secret_len = sizeof(secret),
				       .tx_secret = secret,
				       .rx_secret = secret };
	struct tls_context *ctx;
	struct tls_event event;
	int fd[3][2], i;

	(void)state;
	config.kind = TLS_CONTEXT_LOOP;
	assert_int_equal(tls_context_new(&ctx, &config), 0);
	for (i = 0; i < 3; i++) {
		socket_pair(fd[i], false);
		assert_int_equal(tls_handoff_secrets(&conns[i], ctx, fd[i][0],
						     &secrets), 0);
		close(fd[i][1]); /* each has failed, and nobody reads it */
	}
	for (i = 0; i < 6; i++) {
		assert_int_equal(tls_context_wait(ctx, &event, 1, DEADLINE),
				 1);
		seen[i] = event.conn;
	}
	for (i = 0; i < 3; i++) {
		assert_ptr_equal(seen[i], seen[i + 3]);
		assert_ptr_not_equal(seen[i], seen[(i + 1) % 3]);
		tls_close(conns[i], 0);
		close(fd[i][0]);
	}
	tls_context_free(ctx);
}

static void a_wait_without_events_ends_in_time(void **state)
{
	struct tls_event event;
	struct wire w;

	(void)state;
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP });
	assert_int_equal(tls_context_wait(w.ctx, &event, 1, 30), 0);
	assert_int_equal(tls_context_wait(w.ctx, &event, 0, 30), -EINVAL);
	wire_free(&w);
}

static void the_description_names_each_cipher_and_a_reason(void **state)
{
	struct tls_context *ctx;
	char words[2000], start[20];
	int len;

	(void)state;
	assert_int_equal(tls_context_new(&ctx, NULL), 0);
	len = tls_context_describe(ctx, words, sizeof(words));
	assert_int_equal(len, strlen(words));
	assert_non_null(strstr(words, "AES-128-GCM: "));
	assert_non_null(strstr(words, "AES-256-GCM: "));
	assert_non_null(strstr(words, "ChaCha20-Poly1305: "));
	assert_true(strstr(words, "not afalg: ") || strstr(words, "driver "));
	/* as snprintf() does */
	assert_int_equal(tls_context_describe(ctx, start, sizeof(start)), len);
	assert_memory_equal(start, words, sizeof(start) - 1);
	assert_int_equal(start[sizeof(start) - 1], 0);
	assert_int_equal(tls_context_describe(ctx, NULL, 0), len);
	tls_context_free(ctx);
}

/* Every field has a number of its own, so a mix-up would show. */
static void the_json_has_every_counter(void **state)
{
	struct tls_stats stats;
	uint64_t *fields = (uint64_t *)&stats;
	const size_t count = sizeof(stats) / sizeof(*fields);
	char json[4000], digits[20];
	const char *at = json;
	size_t i;

	(void)state;
	for (i = 0; i < count; i++)
		fields[i] = 1000 + i;
	assert_in_range(tls_stats_json(&stats, sizeof(stats), json,
				       sizeof(json)), 1,
			sizeof(json) - 1);
	for (i = 0; i < count; i++) {
		snprintf(digits, sizeof(digits), ":%zu", 1000 + i);
		at = strstr(at, digits); /* in the order of the struct */
		assert_non_null(at);
	}
}

static void an_older_programs_smaller_struct_is_not_overrun(void **state)
{
	struct {
		uint64_t tx_records[TLS_BY_COUNT];
		uint64_t guard;
	} small = { .guard = 77 };
	struct wire w;

	(void)state;
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP });
	tls_write(w.conn, "x", 1);
	assert_int_equal(tls_context_stats(w.ctx, (void *)&small,
					   sizeof(small.tx_records)), 0);
	assert_int_equal(small.tx_records[TLS_BY_CPU], 1);
	assert_int_equal(small.guard, 77);
	wire_free(&w);
}

static void freeing_a_context_closes_its_connections(void **state)
{
	struct wire w;

	(void)state;
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_WORKER });
	assert_int_equal(tls_write(w.conn, "last", 4), 4);
	tls_context_free(w.ctx);
	w.ctx = NULL;
	w.conn = NULL;
	{
		uint8_t content[RECORD_PLAIN_MAX + 256], type;

		assert_int_equal(wire_receive(&w, &type, content), 4);
		assert_memory_equal(content, "last", 4);
		wire_expect_alert(&w, ALERT_CLOSE_NOTIFY);
	}
	wire_free(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_loops_descriptor_polls_when_data_arrives),
		cmocka_unit_test(a_workers_descriptor_polls_when_data_arrives),
		cmocka_unit_test(readable_is_reported_until_it_is_read),
		cmocka_unit_test(the_end_is_reported_and_then_no_more),
		cmocka_unit_test(room_is_reported_once_after_a_refusal),
		cmocka_unit_test(
			connections_take_turns_when_there_is_room_for_one_event),
		cmocka_unit_test(a_wait_without_events_ends_in_time),
		cmocka_unit_test(the_description_names_each_cipher_and_a_reason),
		cmocka_unit_test(the_json_has_every_counter),
		cmocka_unit_test(an_older_programs_smaller_struct_is_not_overrun),
		cmocka_unit_test(freeing_a_context_closes_its_connections),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
