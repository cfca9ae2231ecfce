/* SPDX-License-Identifier: MIT */
/* Turns through many connections: what is left to the end of one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "ends.h"
#include "wire.h"

enum { PAIRS = 64, ROUNDS = 20, LEN = 100 };

static struct tls_context *server, *clients;
static struct tls_conn *served[PAIRS], *client[PAIRS];
static int fd[PAIRS][2];

static struct tls_context *context(enum tls_context_kind kind)
{
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *ctx;

	config.kind = kind;
	config.engine = TLS_ENGINE_CPU;
	assert_int_equal(tls_context_new(&ctx, &config), 0);
	return ctx;
}

static void connect_pairs(enum tls_context_kind kind, int count)
{
	int i;

	server = context(kind);
	clients = context(TLS_CONTEXT_LOOP);
	for (i = 0; i < count; i++) {
		socket_pair(fd[i], true);
		set_blocking(fd[i][0], false);
		set_blocking(fd[i][1], false);
		assert_null(end_take(&served[i], server, fd[i][0], 0, 0));
		assert_null(end_take(&client[i], clients, fd[i][1], 1, 0));
	}
}

static void disconnect_pairs(int count)
{
	int i;

	for (i = 0; i < count; i++) {
		tls_close(served[i], 0);
		tls_close(client[i], 0);
		close(fd[i][0]);
		close(fd[i][1]);
	}
	tls_context_free(server);
	tls_context_free(clients);
}

static void send_from_clients(int count)
{
	static const uint8_t data[LEN];
	int i;

	for (i = 0; i < count; i++)
		assert_int_equal(tls_write(client[i], data, LEN), LEN);
	assert_int_equal(tls_context_process(clients), 0);
}

/* Read from each connection of a context, and write it back if so wished. */
static void turn(struct tls_context *ctx, bool echo)
{
	struct tls_event events[PAIRS];
	uint8_t buf[LEN];
	int i, n, done;

	for (done = 0; done < PAIRS; done += n) {
		n = tls_context_wait(ctx, events, PAIRS, 5000);
		assert_true(n > 0);
		for (i = 0; i < n; i++) {
			assert_int_equal(tls_read(events[i].conn, buf, LEN),
					 LEN);
			if (echo)
				assert_int_equal(tls_write(events[i].conn, buf,
							   LEN), LEN);
		}
	}
	assert_int_equal(tls_context_process(ctx), 0);
}

static uint64_t server_enters(void)
{
	struct tls_stats stats;

	assert_int_equal(tls_context_stats(server, &stats, sizeof(stats)), 0);
	return stats.enters;
}

/* Each echo is a receive and a send; the worker may come in between. */
static void few_enters(enum tls_context_kind kind)
{
	uint64_t before;
	int i;

	connect_pairs(kind, PAIRS);
	before = server_enters();
	for (i = 0; i < ROUNDS; i++) {
		send_from_clients(PAIRS);
		turn(server, true);
		turn(clients, false);
	}
	/* without io_uring a receive and a send are a call each */
	assert_in_range(server_enters() - before, 1,
			on_uring(server) ? ROUNDS * PAIRS / 4 :
					   ROUNDS * PAIRS * 5 / 2);
	disconnect_pairs(PAIRS);
}

static void connections_of_a_loop_share_system_calls(void **state)
{
	(void)state;
	few_enters(TLS_CONTEXT_LOOP);
}

static void connections_of_a_worker_context_share_system_calls(void **state)
{
	(void)state;
	few_enters(TLS_CONTEXT_WORKER);
}

/* Who got several events is expected back, and does not come. */
static void the_worker_ends_a_turn_that_is_not_ended(void **state)
{
	struct tls_event events[2];
	uint8_t buf[LEN];
	int n;

	(void)state;
	connect_pairs(TLS_CONTEXT_WORKER, 2);
	send_from_clients(2);
	do {
		n = tls_context_wait(server, events, 2, 5000);
		assert_true(n > 0);
	} while (n < 2); /* not read, so reported again */
	assert_int_equal(tls_read(served[0], buf, LEN), LEN);
	assert_int_equal(tls_write(served[0], buf, LEN), LEN);
	assert_int_equal(tls_context_wait(clients, events, 2, 5000), 1);
	assert_int_equal(tls_read(client[0], buf, LEN), LEN);
	disconnect_pairs(2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(connections_of_a_loop_share_system_calls),
		cmocka_unit_test(
			connections_of_a_worker_context_share_system_calls),
		cmocka_unit_test(the_worker_ends_a_turn_that_is_not_ended),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
