/* SPDX-License-Identifier: MIT */
/* Who sleeps in a call of a worker context is told of what others bring about. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "context/ctx_gate.h"
#include "ends.h"
#include "fake_engine.h"
#include "handed.h"
#include "handoff_check.h"
#include "tls_pair.h"
#include "wire.h"

static struct wire w;

/* A call made in a thread of its own, which may sleep in it. */
struct call {
	ssize_t (*make)(struct call *call);
	ssize_t result;
	pthread_t thread;
};

static void *make(void *arg)
{
	struct call *call = arg;

	call->result = call->make(call);
	return NULL;
}

static void start(struct call *call, ssize_t (*function)(struct call *call))
{
	call->make = function;
	assert_int_equal(pthread_create(&call->thread, NULL, make, call), 0);
}

static bool ends_within(struct call *call, int seconds)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += seconds;
	return pthread_timedjoin_np(call->thread, NULL, &ts) == 0;
}

static ssize_t end(struct call *call)
{
	if (!ends_within(call, 20)) {
		print_error("a call sleeps for ever\n");
		abort(); /* its thread cannot be got rid of */
	}
	return call->result;
}

/* So many threads are asleep in the ring, on behalf of calls. */
static void await_sleepers(struct tls_context *ctx, unsigned count)
{
	unsigned found;

	do {
		usleep(1000);
		assert_int_equal(ctx_enter(ctx), 0);
		found = ctx->wake.callers;
		ctx_look_away(ctx);
	} while (found < count);
	usleep(20 * 1000);
}

static ssize_t write_much(struct call *call)
{
	static uint8_t much[8 << 20];

	(void)call;
	return tls_write(w.conn, much, sizeof(much));
}

static void begin(void)
{
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_WORKER,
					     .blocking = true });
}

/* A good record and a forged one come together: one receive brings both. */
static void send_good_and_forged(void)
{
	uint8_t records[200];
	size_t len;

	len = wire_seal(&w, RECORD_DATA, "good", 4, 0, records);
	len += wire_seal(&w, RECORD_DATA, "forged", 6, 0, records + len);
	records[len - 1] ^= 1;
	wire_send_raw(&w, records, len);
}

static void a_blocked_writer_hears_that_reading_failed(void **state)
{
	struct call writer;
	char buf[100];

	(void)state;
	begin();
	start(&writer, write_much);
	await_sleepers(w.ctx, 1);
	send_good_and_forged();
	usleep(50 * 1000); /* the writer has received it, and sleeps again */
	assert_int_equal(tls_read(w.conn, buf, sizeof(buf)), 4);
	assert_int_equal(tls_read(w.conn, buf, sizeof(buf)), -EBADMSG);
	/* it has taken something before, and says how much */
	assert_in_range(end(&writer), 1, (8 << 20) - 1);
	wire_free(&w);
}

static ssize_t read_one(struct call *call)
{
	char byte;

	(void)call;
	return tls_read(w.conn, &byte, 1);
}

/* No engine could seal the question: the answer that is waited for is none. */
static void a_blocked_reader_hears_that_writing_failed(void **state)
{
	struct fake_engine *fake = fake_new();
	struct call reader;

	(void)state;
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_WORKER,
					     .blocking = true,
					     .fake = fake,
					     .no_cpu = true });
	start(&reader, read_one);
	await_sleepers(w.ctx, 1);
	assert_int_equal(tls_write(w.conn, "question", 8), 8);
	assert_int_equal(ctx_enter(w.ctx), 0);
	fake_complete(fake, 0, FAKE_FAILS);
	ctx_leave(w.ctx);
	assert_int_equal(tls_context_process(w.ctx), 0);
	assert_int_equal(end(&reader), -EIO);
	wire_free(&w);
	fake_free(fake);
}

static ssize_t shut_down(struct call *call)
{
	(void)call;
	return tls_shutdown(w.conn);
}

static void a_blocked_writer_hears_of_a_shutdown(void **state)
{
	struct call writer, other;

	(void)state;
	begin();
	start(&writer, write_much);
	await_sleepers(w.ctx, 1);
	start(&other, shut_down);
	assert_in_range(end(&writer), 1, (8 << 20) - 1);
	close(w.fd);
	w.fd = -1;
	end(&other);
	wire_free(&w);
}

static ssize_t wait_for_event(struct call *call)
{
	struct tls_event event;

	(void)call;
	return tls_context_wait(w.ctx, &event, 1, 30000);
}

/* It was reported to nobody, since nobody wanted it; then somebody does. */
static void a_thread_that_waits_for_events_hears_of_what_is_wanted(
	void **state)
{
	struct call waiter;

	(void)state;
	begin();
	assert_int_equal(tls_conn_want(w.conn, 0), 0);
	start(&waiter, wait_for_event);
	await_sleepers(w.ctx, 1);
	wire_send(&w, RECORD_DATA, "data", 4);
	usleep(20 * 1000);
	assert_int_equal(tls_conn_want(w.conn, TLS_READABLE), 0);
	assert_int_equal(end(&waiter), 1);
	wire_free(&w);
}

static bool has_data(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int n;

	do
		n = poll(&p, 1, timeout_ms);
	while (n < 0 && errno == EINTR);
	return n == 1;
}

/*
 * The worker waits for the socket of one connection when something is held
 * back on another, which completes nothing.
 */
static void the_worker_sends_what_is_held_while_a_peer_reads_nothing(
	void **state)
{
	static uint8_t much[8 << 20];
	struct tls_conn *other;
	int fd[2];

	(void)state;
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_WORKER });
	socket_pair(fd, true);
	set_blocking(fd[0], false);
	assert_null(end_take(&other, w.ctx, fd[0], 0, 0));
	assert_true(tls_write(w.conn, much, sizeof(much)) > 0);
	usleep(50 * 1000); /* the worker has pushed it as far as it goes */
	assert_int_equal(tls_send(other, "held", 4, TLS_MORE), 4);
	assert_int_equal(tls_write(other, " back", 5), 5);
	assert_true(has_data(fd[1], 20000));
	tls_close(other, 0);
	close(fd[0]);
	close(fd[1]);
	wire_free(&w);
}

/* ---- A hand-over that waits for a driver ------------------------------- */

static struct fake_engine *fake;
static struct tls_pair pair;
static struct tls_context *ctx;

static void begin_without_cpu(enum tls_context_kind kind)
{
	struct tls_config config = TLS_CONFIG_INIT;

	config.kind = kind;
	config.engine = TLS_ENGINE_CPU;
	config.deadline_ms = 100;
	assert_int_equal(tls_context_new(&ctx, &config), 0);
	fake = fake_new();
	fake_cling(fake);
	assert_int_equal(ctx_enter(ctx), 0);
	ctx->core.dispatch.kernel = fake_as_engine(fake);
	ctx->core.dispatch.cpu = NULL;
	ctx_leave(ctx);
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
}

static void end_without_cpu(void)
{
	tls_context_free(ctx);
	fake_free(fake);
	tls_pair_free(&pair);
}

static uint64_t parked(void)
{
	struct tls_stats stats;

	assert_int_equal(tls_context_stats(ctx, &stats, sizeof(stats)), 0);
	return stats.memory_parked;
}

static void a_hand_over_waits_for_a_driver_as_long_as_a_record(
	enum tls_context_kind kind)
{
	struct tls_conn *conn = NULL;

	begin_without_cpu(kind);
	assert_int_equal(tls_handoff(&conn, ctx, pair.server), -ETIMEDOUT);
	assert_null(conn);
	assert_non_null(strstr(tls_last_error(), "deadline_ms"));
	/* what the driver may still write to is nobody's */
	assert_int_equal(fake_scribble(fake), 1);
	assert_true(parked() > 0);
	assert_still_usable(pair.server, pair.client);
	fake_let_go(fake);
	assert_int_equal(parked(), 0);
	end_without_cpu();
}

static void a_hand_over_to_a_hanging_driver_is_given_up_in_a_loop(void **state)
{
	(void)state;
	a_hand_over_waits_for_a_driver_as_long_as_a_record(TLS_CONTEXT_LOOP);
}

static void a_hand_over_to_a_hanging_driver_is_given_up_in_a_worker(
	void **state)
{
	(void)state;
	a_hand_over_waits_for_a_driver_as_long_as_a_record(
		TLS_CONTEXT_WORKER);
}

static ssize_t hand_over(struct call *call)
{
	struct tls_conn *conn;

	(void)call;
	return tls_handoff(&conn, ctx, pair.server);
}

/* Both directions are proved in turn, and the driver does one. */
static void others_may_call_while_a_hand_over_waits(void **state)
{
	struct call handing_over;

	(void)state;
	begin_without_cpu(TLS_CONTEXT_WORKER);
	assert_int_equal(ctx_enter(ctx), 0);
	ctx->core.dispatch.deadline = 1000ull * 1000 * NS_PER_MS;
	ctx_leave(ctx);
	start(&handing_over, hand_over);
	await_sleepers(ctx, 1); /* enters the context, which is not held */
	assert_int_equal(ctx_enter(ctx), 0);
	ctx->core.dispatch.cpu = NULL;
	while (fake_pending(fake))
		fake_complete(fake, 0, FAKE_FORGED);
	wake_all(&ctx->wake);
	ctx_leave(ctx);
	assert_int_equal(end(&handing_over), -EPROTO);
	end_without_cpu();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_blocked_writer_hears_that_reading_failed),
		cmocka_unit_test(a_blocked_reader_hears_that_writing_failed),
		cmocka_unit_test(a_blocked_writer_hears_of_a_shutdown),
		cmocka_unit_test(
			a_thread_that_waits_for_events_hears_of_what_is_wanted),
		cmocka_unit_test(
			the_worker_sends_what_is_held_while_a_peer_reads_nothing),
		cmocka_unit_test(
			a_hand_over_to_a_hanging_driver_is_given_up_in_a_loop),
		cmocka_unit_test(
			a_hand_over_to_a_hanging_driver_is_given_up_in_a_worker),
		cmocka_unit_test(others_may_call_while_a_hand_over_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
