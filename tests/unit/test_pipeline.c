/* SPDX-License-Identifier: MIT */
/*
 * What makes the pipeline, point by point as docs/pipeline.md lists it: here
 * with an engine in the test's hands, in vm_accel and vm_bulk with a device.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "context/ctx.h"
#include "ends.h"
#include "fake_engine.h"
#include "wire.h"

enum { DEPTH = 32, LEN = 700 };

static struct fake_engine *fake;
static struct wire w;
static struct tap tap;
static size_t written;

static void open_wire(struct wire_options options)
{
	fake = fake_new();
	if (!options.blocking)
		options.fake = fake;
	options.depth = DEPTH;
	written = 0;
	tap = (struct tap){ 0 };
	wire_new(&w, &options);
}

static void close_wire(void)
{
	wire_free(&w);
	fake_free(fake);
	free(tap.bytes);
}

static struct tls_stats stats(void)
{
	struct tls_stats s;

	assert_int_equal(tls_context_stats(w.ctx, &s, sizeof(s)), 0);
	return s;
}

/* One record of the pattern, if there is room; the buffer is then spoilt. */
static bool write_record(size_t len)
{
	static uint8_t buf[RECORD_PLAIN_MAX];
	ssize_t n;

	pattern_fill(buf, written, len);
	n = tls_write(w.conn, buf, len);
	memset(buf, 0xdb, len);
	assert_true(n == (ssize_t)len || n == -EAGAIN);
	written += n > 0 ? len : 0;
	return n > 0;
}

static void write_records(unsigned n, size_t len)
{
	while (n--)
		assert_true(write_record(len));
}

static void process_and_tap(void)
{
	assert_int_equal(tls_context_process(w.ctx), 0);
	wire_tap(&w, &tap);
}

static struct slot *slot_at(unsigned i)
{
	return queue_at(&w.conn->tx.queue, i);
}

static unsigned line(void)
{
	return queue_count(&w.conn->tx.queue);
}

/* ---- 1, 2 -------------------------------------------------------------- */

static void many_records_of_one_connection_are_in_flight(void **state)
{
	(void)state;
	open_wire((struct wire_options){ .kind = TLS_CONTEXT_LOOP });
	write_records(DEPTH, LEN);
	assert_int_equal(fake_pending(fake), DEPTH);
	assert_int_equal(stats().tx_in_flight_now, DEPTH);
	fake_complete_all(fake);
	process_and_tap();
	assert_int_equal(tap.data, written);
	close_wire();
}

/* The engine does nothing at all; who has room is not kept waiting for it. */
static void control_returns_to_the_application_after_submission(void **state)
{
	(void)state;
	open_wire((struct wire_options){ .kind = TLS_CONTEXT_WORKER });
	write_records(DEPTH, LEN);
	assert_false(write_record(LEN));
	close_wire();
}

/* ---- 3 ----------------------------------------------------------------- */

/* Distinct, and each of a block that somebody holds. */
static void check_memory_of_line(void)
{
	unsigned i;

	for (i = 0; i < line(); i++) {
		const struct slot *slot = slot_at(i);

		assert_true(slot->wire_block->refs > 0);
		assert_int_equal(slot->wire_block->parked, 0);
		if (slot->side_block)
			assert_true(slot->side_block->refs > 0);
		if (i && slot_at(i - 1)->wire_block == slot->wire_block)
			assert_true(slot_at(i - 1)->wire +
					    slot_at(i - 1)->wire_len <=
				    slot->wire);
	}
}

static void one_object_per_record_holds_its_memory_until_it_is_on_the_socket(
	void **state)
{
	const int least = 1;
	size_t before;

	(void)state;
	open_wire((struct wire_options){ .kind = TLS_CONTEXT_LOOP });
	setsockopt(w.conn_fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof(least));
	write_records(16, RECORD_PLAIN_MAX);
	assert_int_equal(line(), 16);
	check_memory_of_line();
	fake_complete_all(fake);
	assert_int_equal(tls_context_process(w.ctx), 0);
	/* sealed, but the socket takes a few at a time */
	assert_true(line() > 0);
	while (line()) {
		assert_int_equal(slot_at(0)->state, SLOT_READY);
		assert_true(stats().memory_now > 0);
		check_memory_of_line();
		before = tap.len;
		process_and_tap();
		assert_true(tap.len > before || !line());
	}
	process_and_tap();
	assert_int_equal(tap.data, written);
	assert_int_equal(stats().memory_now, 0);
	close_wire();
}

/* ---- 4 ----------------------------------------------------------------- */

static void the_ready_queue_is_ordered_by_sequence_number(void **state)
{
	struct dice dice = { 0 };
	unsigned i, ready;

	(void)state;
	open_wire((struct wire_options){ .kind = TLS_CONTEXT_LOOP });
	write_records(DEPTH, LEN);
	while (fake_pending(fake)) {
		fake_complete(fake,
			      (unsigned)dice_size(&dice, fake_pending(fake)) -
				      1,
			      FAKE_OK);
		for (i = 1; i < line(); i++)
			assert_int_equal(slot_at(i)->seq,
					 slot_at(i - 1)->seq + 1);
		for (ready = 0; ready < line(); ready++)
			if (slot_at(ready)->state != SLOT_READY)
				break;
		i = line();
		process_and_tap();
		assert_int_equal(line(), i - ready);
		assert_int_equal(tap.records, DEPTH - line());
	}
	assert_true(stats().out_of_order > 0);
	assert_int_equal(tap.data, written);
	close_wire();
}

/* ---- 5 ----------------------------------------------------------------- */

static void *receive_all(void *arg)
{
	size_t len = *(size_t *)arg, done = 0;
	static uint8_t buf[1 << 16];
	ssize_t n;

	while (done < len && (n = recv(w.fd, buf, sizeof(buf), 0)) > 0)
		done += (size_t)n;
	return NULL;
}

/* All but a window has left when it returns, and nobody else has pushed it. */
static void ready_records_are_transmitted_from_inside_long_writes(void **state)
{
	enum { RECORDS = 256, WINDOW = 2 * DEPTH + 1 };
	static uint8_t buf[RECORDS * RECORD_PLAIN_MAX];
	const size_t record = RECORD_PLAIN_MAX + RECORD_OVERHEAD;
	size_t wire_len = RECORDS * record;
	pthread_t thread;

	(void)state;
	open_wire((struct wire_options){ .kind = TLS_CONTEXT_LOOP,
					 .blocking = true });
	pthread_create(&thread, NULL, receive_all, &wire_len);
	assert_int_equal(tls_write(w.conn, buf, sizeof(buf)), sizeof(buf));
	assert_true(stats().sends > 1);
	assert_true(stats().sent_bytes >= wire_len - WINDOW * record);
	assert_int_equal(tls_flush(w.conn), 0);
	assert_int_equal(stats().sent_bytes, wire_len);
	pthread_join(thread, NULL);
	close_wire();
}

/* What an engine has finished meanwhile leaves by the next write or flush. */
static void ready_records_are_transmitted_from_write_and_flush(void **state)
{
	(void)state;
	open_wire((struct wire_options){ .kind = TLS_CONTEXT_LOOP });
	write_records(8, RECORD_PLAIN_MAX);
	fake_complete_all(fake);
	write_record(LEN);
	wire_tap(&w, &tap);
	assert_int_equal(tap.records, 8);
	fake_complete_all(fake);
	assert_int_equal(tls_flush(w.conn), 0);
	wire_tap(&w, &tap);
	assert_int_equal(tap.data, written);
	close_wire();
}

enum { ACTIVE = 1000 };

static struct {
	struct tls_conn *conn;
	int fd[2];
	unsigned taken; /* records, of the round */
} active[ACTIVE];

static void open_active(struct tls_context *ctx)
{
	int i;

	for (i = 0; i < ACTIVE; i++) {
		const char *why;

		socket_pair(active[i].fd, false);
		set_blocking(active[i].fd[0], false);
		why = end_take(&active[i].conn, ctx, active[i].fd[0], 0, 0);
		if (why)
			fail_msg("%s", why);
	}
}

/* In turn, a record each, until nobody may have more. */
static void write_all_there_is_room_for(void)
{
	static const uint8_t buf[RECORD_PLAIN_MAX];
	bool more = true;
	int i;

	for (i = 0; i < ACTIVE; i++)
		active[i].taken = 0;
	while (more) {
		more = false;
		for (i = 0; i < ACTIVE; i++) {
			if (tls_write(active[i].conn, buf, sizeof(buf)) <= 0)
				continue;
			active[i].taken++;
			more = true;
		}
	}
}

static void finish_and_receive(struct tls_context *ctx)
{
	static uint8_t buf[1 << 16];
	int i;

	fake_complete_all(fake);
	tls_context_process(ctx);
	for (i = 0; i < ACTIVE; i++) {
		size_t len = active[i].taken *
			     (size_t)(RECORD_PLAIN_MAX + RECORD_OVERHEAD);

		while (len) {
			ssize_t n = recv(active[i].fd[1], buf,
					 min_size(len, sizeof(buf)),
					 MSG_DONTWAIT);

			if (n > 0)
				len -= (size_t)n;
			else
				tls_context_process(ctx);
		}
	}
	tls_context_process(ctx);
}

static void allow_descriptors(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur < 2 * ACTIVE + 50)
		skip();
}

static void in_flight_memory_is_bounded_and_shared_fairly_by_1000_connections(
	void **state)
{
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *ctx;
	struct tls_stats s;
	int i, round;

	(void)state;
	allow_descriptors();
	fake = fake_new();
	config.kind = TLS_CONTEXT_LOOP;
	config.engine = TLS_ENGINE_CPU;
	config.depth = DEPTH;
	/* what two records take of each, sealed and not, and of it half */
	config.max_memory = 2 * (size_t)ACTIVE * 4 * POOL_RECORD_BYTES;
	assert_int_equal(tls_context_new(&ctx, &config), 0);
	ctx->core.dispatch.kernel = fake_as_engine(fake);
	open_active(ctx);
	for (round = 0; round < 2; round++) {
		write_all_there_is_room_for();
		tls_context_stats(ctx, &s, sizeof(s));
		assert_true(s.memory_now <= config.max_memory / 2);
		for (i = 0; i < ACTIVE; i++) {
			assert_true(active[i].taken >= 1);
			assert_true(active[i].taken <= active[0].taken + 1);
			assert_true(active[0].taken <= active[i].taken + 1);
		}
		finish_and_receive(ctx);
		tls_context_stats(ctx, &s, sizeof(s));
		assert_int_equal(s.memory_now, 0);
	}
	tls_context_free(ctx);
	for (i = 0; i < ACTIVE; i++) {
		close(active[i].fd[0]);
		close(active[i].fd[1]);
	}
	fake_free(fake);
}

/* ---- 6 ----------------------------------------------------------------- */

/* The second of two is held; unless this thread was slow. */
static void what_is_left_behind_is_transmitted_by_the_worker(void **state)
{
	uint8_t content[RECORD_PLAIN_MAX + 256], type;
	int i, tries = 50;

	(void)state;
	open_wire((struct wire_options){ .kind = TLS_CONTEXT_WORKER,
					 .blocking = true });
	do {
		write_records(2, LEN);
		for (i = 0; i < 2; i++)
			assert_int_equal(wire_receive(&w, &type, content), LEN);
	} while (!stats().deferred_run && --tries);
	assert_true(tries > 0);
	close_wire();
}

/* Tried again where this thread was kept from calling for a millisecond. */
static void the_worker_is_cancelled_while_the_application_keeps_calling(
	void **state)
{
	struct tls_stats before, after;
	int i, tries = 50;

	(void)state;
	open_wire((struct wire_options){ .kind = TLS_CONTEXT_WORKER,
					 .blocking = true });
	do {
		before = stats();
		for (i = 0; i < 100; i++)
			write_records(1, 20);
		assert_int_equal(tls_flush(w.conn), 0);
		usleep(20 * 1000);
		after = stats();
		wire_tap(&w, &tap);
	} while ((after.deferred_scheduled == before.deferred_scheduled ||
		  after.deferred_cancelled == before.deferred_cancelled ||
		  after.deferred_run != before.deferred_run) && --tries);
	assert_true(tries > 0);
	close_wire();
}

static uint64_t worker_cpu_time(void)
{
	struct timespec ts;
	clockid_t clock;

	assert_int_equal(pthread_getcpuclockid(w.ctx->worker, &clock), 0);
	assert_int_equal(clock_gettime(clock, &ts), 0);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void an_idle_worker_never_wakes(void **state)
{
	uint64_t before;

	(void)state;
	open_wire((struct wire_options){ .kind = TLS_CONTEXT_WORKER,
					 .blocking = true });
	write_records(1, LEN);
	assert_int_equal(tls_flush(w.conn), 0);
	usleep(1200 * 1000); /* until memory was given back */
	before = worker_cpu_time();
	usleep(300 * 1000);
	assert_int_equal(worker_cpu_time(), before);
	close_wire();
}

/* ---- 7 ----------------------------------------------------------------- */

enum { LIFE = 4000, NOT_YET = -1, GONE = -2 };

/* Of each record by sequence number, as last seen. */
static int lives[LIFE];
static unsigned sent_until; /* all before it have left the line */
static unsigned ended_once; /* became READY or FAILED */

static bool is_end(int state)
{
	return state == SLOT_READY || state == SLOT_FAILED;
}

static void check_life(const struct slot *slot)
{
	int *life = &lives[slot->seq], now = (int)slot->state;

	assert_int_not_equal(now, SLOT_OPEN); /* only inside a call */
	if (*life == now)
		return;
	assert_true(*life == NOT_YET || *life == SLOT_SUBMITTED);
	assert_true(*life == NOT_YET || is_end(now));
	ended_once += is_end(now);
	*life = now;
}

/* Look at every record in line, and at those that have left it since. */
static void check_lives(void)
{
	unsigned i, first = (unsigned)w.conn->tx.seq - line();

	for (i = 0; i < line(); i++) {
		assert_int_equal(slot_at(i)->seq, first + i);
		check_life(slot_at(i));
	}
	for (; sent_until < first; sent_until++) {
		int *life = &lives[sent_until];

		/* it may have come and gone within one call, by the CPU */
		assert_true(*life == SLOT_READY || *life == NOT_YET);
		ended_once += *life == NOT_YET;
		*life = GONE;
	}
}

static void begin_lives(void)
{
	unsigned i;

	for (i = 0; i < LIFE; i++)
		lives[i] = NOT_YET;
	sent_until = ended_once = 0;
}

static enum fake_outcome some_outcome(struct dice *dice, unsigned failing)
{
	if (dice_size(dice, 100) > failing)
		return FAKE_OK;
	return dice_size(dice, 2) == 1 ? FAKE_FAILS : FAKE_FULL;
}

/* One thing that may happen; each leaves legal lives. */
static void happen(struct dice *dice, unsigned failing)
{
	switch (dice_size(dice, 4)) {
	case 1:
		if (failing && dice_size(dice, 10) == 1)
			fake_refuse(fake, 0);
		if (w.conn->tx.seq < LIFE - 1 && !w.conn->writing.error)
			write_record(dice_size(dice, 3000));
		break;
	case 2:
	case 3:
		if (fake_pending(fake))
			fake_complete(fake,
				      (unsigned)dice_size(dice,
							  fake_pending(fake)) -
					      1,
				      some_outcome(dice, failing));
		break;
	case 4:
		assert_int_equal(tls_context_process(w.ctx), 0);
		check_lives();
		wire_tap(&w, &tap);
		break;
	}
	check_lives();
}

static void no_closed_state_open_submitted_ready_sent(void **state)
{
	struct dice dice = { 0 };

	(void)state;
	open_wire((struct wire_options){ .kind = TLS_CONTEXT_LOOP });
	begin_lives();
	while (w.conn->tx.seq < LIFE - 1) {
		happen(&dice, 20);
		w.conn->account.health = (struct health){ 0 };
		w.ctx->core.dispatch.health = (struct health){ 0 };
	}
	fake_complete_all(fake);
	check_lives();
	while (line()) {
		process_and_tap();
		check_lives();
	}
	process_and_tap();
	assert_int_equal(sent_until, LIFE - 1);
	assert_int_equal(ended_once, LIFE - 1);
	assert_int_equal(stats().sent_records, LIFE - 1);
	assert_int_equal(tap.data, written);
	close_wire();
}

/* With nobody to stand in, until the first record that fails is at the head. */
static void no_closed_state_open_submitted_failed(void **state)
{
	struct dice dice = { 0 };
	unsigned turn, i;

	(void)state;
	for (turn = 0; turn < 20; turn++) {
		open_wire((struct wire_options){ .kind = TLS_CONTEXT_LOOP,
						 .no_cpu = true });
		begin_lives();
		while (!w.conn->writing.error)
			happen(&dice, 10);
		fake_complete_all(fake);
		process_and_tap();
		check_lives();
		assert_int_equal(w.conn->writing.error, -EIO);
		assert_int_equal(lives[sent_until], SLOT_FAILED);
		assert_int_equal(tap.records, sent_until);
		for (i = sent_until; i < w.conn->tx.seq; i++)
			assert_true(is_end(lives[i]));
		assert_int_equal(ended_once, w.conn->tx.seq);
		close_wire();
	}
}

/* ---- 9 ----------------------------------------------------------------- */

static void a_synchronous_engine_copies_nothing(void **state)
{
	(void)state;
	open_wire((struct wire_options){ .kind = TLS_CONTEXT_LOOP,
					 .blocking = true });
	write_records(4, RECORD_PLAIN_MAX);
	assert_int_equal(tls_flush(w.conn), 0);
	assert_int_equal(stats().tx_copied_bytes, 0);
	close_wire();
}

static void an_asynchronous_engine_copies_exactly_once(void **state)
{
	(void)state;
	open_wire((struct wire_options){ .kind = TLS_CONTEXT_LOOP });
	write_records(4, RECORD_PLAIN_MAX);
	fake_complete(fake, 0, FAKE_FAILS); /* repeated from the same copy */
	fake_complete_all(fake);
	process_and_tap();
	assert_int_equal(tap.data, written);
	assert_int_equal(stats().tx_copied_bytes, written);
	close_wire();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(many_records_of_one_connection_are_in_flight),
		cmocka_unit_test(
			control_returns_to_the_application_after_submission),
		cmocka_unit_test(
			one_object_per_record_holds_its_memory_until_it_is_on_the_socket),
		cmocka_unit_test(the_ready_queue_is_ordered_by_sequence_number),
		cmocka_unit_test(
			ready_records_are_transmitted_from_inside_long_writes),
		cmocka_unit_test(
			ready_records_are_transmitted_from_write_and_flush),
		cmocka_unit_test(
			in_flight_memory_is_bounded_and_shared_fairly_by_1000_connections),
		cmocka_unit_test(
			what_is_left_behind_is_transmitted_by_the_worker),
		cmocka_unit_test(
			the_worker_is_cancelled_while_the_application_keeps_calling),
		cmocka_unit_test(an_idle_worker_never_wakes),
		cmocka_unit_test(no_closed_state_open_submitted_ready_sent),
		cmocka_unit_test(no_closed_state_open_submitted_failed),
		cmocka_unit_test(a_synchronous_engine_copies_nothing),
		cmocka_unit_test(an_asynchronous_engine_copies_exactly_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
