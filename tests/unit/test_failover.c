/* SPDX-License-Identifier: MIT */
/*
 * What the kernel engine refuses, fails or never finishes, the CPU engine does
 * instead; what it keeps failing gives it a rest. What a CPU engine fails, the
 * other one does.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "context/ctx.h"
#include "fake_engine.h"
#include "wire.h"

enum { LEN = 3000, DEADLINE_MS = 20 };

/* All of it is run for each. */
static const uint16_t suites[] = { 0x1301, 0xc02b, 0xcca9 };
static uint16_t suite;

static struct fake_engine *fake;
static struct wire w;
static size_t written, read_back;

static void open_wire(struct wire_options options)
{
	fake = fake_new();
	options.fake = fake;
	options.suite = suite;
	written = read_back = 0;
	wire_new(&w, &options);
}

static void close_wire(void)
{
	wire_free(&w);
	fake_free(fake);
}

static struct tls_stats stats(void)
{
	struct tls_stats s;

	assert_int_equal(tls_context_stats(w.ctx, &s, sizeof(s)), 0);
	return s;
}

static void write_record(void)
{
	uint8_t buf[LEN];

	pattern_fill(buf, written, LEN);
	assert_int_equal(tls_write(w.conn, buf, LEN), LEN);
	written += LEN;
}

static void expect_all_written(void)
{
	uint8_t content[RECORD_PLAIN_MAX + 256], type;

	while (read_back < written) {
		assert_int_equal(wire_receive(&w, &type, content), LEN);
		pattern_check(content, read_back, LEN);
		read_back += LEN;
	}
	assert_true(wire_silent(&w));
}

/* Records that are written and fail, one after the other. */
static void fail_records(int n, enum fake_outcome outcome)
{
	while (n--) {
		write_record();
		assert_int_equal(fake_pending(fake), 1);
		fake_complete(fake, 0, outcome);
		tls_context_process(w.ctx);
	}
}

static bool kernel_is_offered_a_record(void)
{
	bool offered;

	write_record();
	offered = fake_pending(fake) > 0;
	fake_complete_all(fake);
	tls_context_process(w.ctx);
	return offered;
}

static void expect_parked_until_let_go(void)
{
	assert_true(stats().memory_parked > 0);
	fake_let_go(fake);
	assert_int_equal(stats().memory_parked, 0);
}

static void an_overdue_record_is_sealed_in_its_stead(void **state)
{
	struct tls_event event;
	int i;

	(void)state;
	open_wire((struct wire_options){ .kind = TLS_CONTEXT_LOOP,
					 .deadline_ms = DEADLINE_MS });
	fake_cling(fake);
	for (i = 0; i < 3; i++)
		write_record();
	fake_complete(fake, 2, FAKE_OK);
	fake_complete(fake, 0, FAKE_OK);
	assert_int_equal(tls_context_wait(w.ctx, &event, 1, 5 * DEADLINE_MS),
			 0);
	/* the driver writes late: to memory that is nobody's now */
	assert_int_equal(fake_scribble(fake), 1);
	expect_all_written();
	assert_int_equal(stats().failovers_for[TLS_FAILOVER_DEADLINE], 1);
	expect_parked_until_let_go();
	close_wire();
}

static void an_overdue_record_is_opened_in_its_stead(void **state)
{
	uint8_t buf[2 * LEN];
	struct tls_event event;

	(void)state;
	open_wire((struct wire_options){ .kind = TLS_CONTEXT_LOOP,
					 .deadline_ms = DEADLINE_MS });
	fake_cling(fake);
	pattern_fill(buf, 0, sizeof(buf));
	wire_send(&w, RECORD_DATA, buf, LEN);
	wire_send(&w, RECORD_DATA, buf + LEN, LEN);
	tls_context_process(w.ctx);
	assert_int_equal(fake_pending(fake), 2);
	fake_complete(fake, 1, FAKE_OK);
	assert_int_equal(tls_context_wait(w.ctx, &event, 1, 5000), 1);
	assert_int_equal(fake_scribble(fake), 1);
	assert_int_equal(tls_read(w.conn, buf, sizeof(buf)), 2 * LEN);
	pattern_check(buf, 0, 2 * LEN);
	assert_int_equal(stats().failovers_for[TLS_FAILOVER_DEADLINE], 1);
	expect_parked_until_let_go();
	close_wire();
}

static void a_blocking_flush_gets_past_an_engine_that_hangs(
	enum tls_context_kind kind)
{
	open_wire((struct wire_options){ .kind = kind,
					 .blocking = true,
					 .deadline_ms = DEADLINE_MS });
	fake_cling(fake);
	write_record();
	write_record();
	assert_int_equal(tls_flush(w.conn), 0);
	expect_all_written();
	close_wire();
}

static void a_loops_flush_gets_past_an_engine_that_hangs(void **state)
{
	(void)state;
	a_blocking_flush_gets_past_an_engine_that_hangs(TLS_CONTEXT_LOOP);
}

static void a_workers_flush_gets_past_an_engine_that_hangs(void **state)
{
	(void)state;
	a_blocking_flush_gets_past_an_engine_that_hangs(TLS_CONTEXT_WORKER);
}

static void the_worker_gets_past_an_engine_that_hangs(void **state)
{
	uint8_t content[RECORD_PLAIN_MAX + 256], type;

	(void)state;
	open_wire((struct wire_options){ .kind = TLS_CONTEXT_WORKER,
					 .deadline_ms = DEADLINE_MS });
	fake_cling(fake);
	write_record();
	/* and the application does not call again */
	assert_int_equal(wire_receive(&w, &type, content), LEN);
	close_wire();
}

static void closing_does_not_wait_for_an_engine_that_hangs(void **state)
{
	uint64_t began;

	(void)state;
	open_wire((struct wire_options){ .kind = TLS_CONTEXT_LOOP });
	fake_cling(fake);
	write_record();
	began = now_ns();
	assert_int_equal(tls_close(w.conn, 0), LEN);
	w.conn = NULL;
	assert_true(now_ns() - began < 500 * (uint64_t)NS_PER_MS);
	/* its memory is the engine's until that is done with it */
	assert_true(stats().memory_now > 0);
	assert_int_equal(fake_pending(fake), 2); /* and close_notify */
	fake_complete_all(fake);
	tls_context_process(w.ctx);
	assert_int_equal(stats().memory_now, 0);
	assert_int_equal(stats().tx_records[TLS_BY_KERNEL], 2);
	close_wire();
}

/* ... and what it still had when its time was up, when it lets go of it. */
static void memory_of_a_closed_connection_comes_back_when_let_go(void **state)
{
	struct tls_event event;

	(void)state;
	open_wire((struct wire_options){ .kind = TLS_CONTEXT_LOOP,
					 .deadline_ms = DEADLINE_MS });
	fake_cling(fake);
	write_record();
	write_record();
	assert_int_equal(tls_close(w.conn, 0), 2 * LEN);
	w.conn = NULL;
	tls_context_wait(w.ctx, &event, 1, 5 * DEADLINE_MS);
	assert_int_equal(fake_pending(fake), 0);
	assert_int_equal(stats().memory_now, 0);
	assert_true(stats().memory_parked > 0);
	fake_let_go(fake);
	assert_int_equal(stats().memory_parked, 0);
	close_wire();
}

static void repeated_failures_give_it_a_rest_on_the_connection(void **state)
{
	(void)state;
	open_wire((struct wire_options){ .kind = TLS_CONTEXT_LOOP });
	fail_records(4, FAKE_FAILS);
	assert_false(kernel_is_offered_a_record());
	expect_all_written();
	assert_int_equal(stats().pauses, 1);
	assert_int_equal(stats().failovers_for[TLS_FAILOVER_ERROR], 4);
	/* others of the context go on using it */
	assert_int_equal(w.ctx->core.dispatch.health.paused_until, 0);
	close_wire();
}

static void a_success_in_between_starts_the_count_again(void **state)
{
	int i;

	(void)state;
	open_wire((struct wire_options){ .kind = TLS_CONTEXT_LOOP });
	for (i = 0; i < 10; i++) {
		fail_records(3, FAKE_FAILS);
		assert_true(kernel_is_offered_a_record());
	}
	expect_all_written();
	assert_int_equal(stats().pauses, 0);
	close_wire();
}

static void after_the_rest_it_is_tried_again(void **state)
{
	(void)state;
	open_wire((struct wire_options){ .kind = TLS_CONTEXT_LOOP });
	fail_records(4, FAKE_FAILS);
	assert_false(kernel_is_offered_a_record());
	w.conn->account.health.paused_until = now_ns(); /* a second later */
	assert_true(kernel_is_offered_a_record());
	assert_true(kernel_is_offered_a_record());
	expect_all_written();
	close_wire();
}

static void a_rest_after_a_rest_is_twice_as_long(void **state)
{
	uint64_t first, second;

	(void)state;
	open_wire((struct wire_options){ .kind = TLS_CONTEXT_LOOP });
	fail_records(4, FAKE_FAILS);
	first = w.conn->account.health.paused_until - now_ns();
	w.conn->account.health.paused_until = now_ns();
	fail_records(1, FAKE_FAILS);
	second = w.conn->account.health.paused_until - now_ns();
	assert_true(second > first + first / 2);
	expect_all_written();
	close_wire();
}

static void failures_on_many_connections_give_it_a_rest_on_the_context(
	void **state)
{
	int i;

	(void)state;
	open_wire((struct wire_options){ .kind = TLS_CONTEXT_LOOP });
	for (i = 0; i < 32; i++) {
		w.conn->account.health = (struct health){ 0 }; /* another one */
		fail_records(1, FAKE_FAILS);
	}
	w.conn->account.health = (struct health){ 0 };
	assert_false(kernel_is_offered_a_record());
	assert_true(w.ctx->core.dispatch.health.paused_until > 0);
	expect_all_written();
	close_wire();
}

static void a_full_queue_is_given_less_and_more_again_later(void **state)
{
	int i;

	(void)state;
	open_wire((struct wire_options){ .kind = TLS_CONTEXT_LOOP });
	for (i = 0; i < 6; i++)
		write_record();
	fake_complete(fake, 5, FAKE_FULL);
	fake_complete(fake, 4, FAKE_FULL);
	assert_int_equal(w.ctx->core.dispatch.window, 4);
	tls_context_process(w.ctx);
	write_record(); /* four are in flight: to the CPU */
	assert_int_equal(fake_pending(fake), 4);
	fake_complete_all(fake);
	assert_int_equal(w.ctx->core.dispatch.window, 5);
	tls_context_process(w.ctx);
	expect_all_written();
	assert_int_equal(stats().failovers_for[TLS_FAILOVER_FULL], 2);
	assert_int_equal(stats().pauses, 0);
	close_wire();
}

static void a_peers_forgery_is_not_held_against_the_engine(void **state)
{
	uint8_t record[RECORD_WIRE_MAX], buf[10];
	size_t len;

	(void)state;
	open_wire((struct wire_options){ .kind = TLS_CONTEXT_LOOP });
	len = wire_seal(&w, RECORD_DATA, "abc", 3, 0, record);
	record[len - 1] ^= 1;
	wire_send_raw(&w, record, len);
	tls_context_process(w.ctx);
	fake_complete(fake, 0, FAKE_FORGED);
	assert_int_equal(tls_read(w.conn, buf, sizeof(buf)), -EBADMSG);
	assert_int_equal(w.conn->account.health.failures, 0);
	assert_int_equal(stats().failovers_for[TLS_FAILOVER_TAG], 1);
	close_wire();
}

/* ---- Between the CPU engines ------------------------------------------- */

struct engine_key {
	int nothing;
};

/* One that does nothing right; the context's own is its spare. */
static struct broken {
	struct engine base;
	bool takes_keys;
	int keys, submitted;
} broken;

static const char *broken_refusal(const struct engine *engine,
				  const struct cipher *cipher)
{
	(void)engine;
	(void)cipher;
	return NULL;
}

static int broken_key_new(struct engine *engine, const struct cipher *cipher,
			  const uint8_t *key, struct engine_key **out)
{
	static struct engine_key one;

	(void)engine;
	(void)cipher;
	(void)key;
	broken.keys++;
	*out = &one;
	return broken.takes_keys ? 0 : -ENOMEM;
}

static void broken_key_free(struct engine *engine, struct engine_key *key)
{
	(void)engine;
	(void)key;
}

static int broken_submit(struct engine *engine, struct aead_op *op)
{
	(void)engine;
	broken.submitted++;
	memset(op->out, 0xdb, aead_op_out_len(op));
	op->result = -EIO;
	return ENGINE_DONE;
}

static const struct engine_ops broken_ops = {
	.name = "cpu",
	.synchronous = true,
	.refusal = broken_refusal,
	.key_new = broken_key_new,
	.key_free = broken_key_free,
	.submit = broken_submit,
};

static void open_broken(bool takes_keys)
{
	struct dispatch *d;

	read_back = written = 0;
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP,
					     .suite = suite,
					     .not_recorded = true });
	d = &w.ctx->core.dispatch;
	broken = (struct broken){ .base = { &broken_ops, d->cpu },
				  .takes_keys = takes_keys };
	d->cpu = &broken.base;
}

static void write_and_expect(int records)
{
	for (int i = 0; i < records; i++)
		write_record();
	assert_int_equal(tls_flush(w.conn), 0);
	expect_all_written();
}

static void what_a_cpu_engine_cannot_seal_its_spare_seals(void **state)
{
	(void)state;
	open_broken(true);
	write_and_expect(3);
	assert_int_equal(broken.submitted, 3);
	assert_int_equal(stats().tx_records[TLS_BY_CPU], 3);
	wire_free(&w);
}

static void a_key_that_a_cpu_engine_refuses_its_spare_takes(void **state)
{
	uint8_t buf[LEN];

	(void)state;
	open_broken(false);
	write_and_expect(3);
	pattern_fill(buf, 0, LEN);
	wire_send(&w, RECORD_DATA, buf, LEN);
	memset(buf, 0, LEN);
	assert_int_equal(tls_read(w.conn, buf, LEN), LEN);
	pattern_check(buf, 0, LEN);
	assert_true(broken.keys >= 4);
	assert_int_equal(broken.submitted, 0);
	wire_free(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_overdue_record_is_sealed_in_its_stead),
		cmocka_unit_test(an_overdue_record_is_opened_in_its_stead),
		cmocka_unit_test(a_loops_flush_gets_past_an_engine_that_hangs),
		cmocka_unit_test(a_workers_flush_gets_past_an_engine_that_hangs),
		cmocka_unit_test(the_worker_gets_past_an_engine_that_hangs),
		cmocka_unit_test(closing_does_not_wait_for_an_engine_that_hangs),
		cmocka_unit_test(
			memory_of_a_closed_connection_comes_back_when_let_go),
		cmocka_unit_test(
			repeated_failures_give_it_a_rest_on_the_connection),
		cmocka_unit_test(a_success_in_between_starts_the_count_again),
		cmocka_unit_test(after_the_rest_it_is_tried_again),
		cmocka_unit_test(a_rest_after_a_rest_is_twice_as_long),
		cmocka_unit_test(
			failures_on_many_connections_give_it_a_rest_on_the_context),
		cmocka_unit_test(a_full_queue_is_given_less_and_more_again_later),
		cmocka_unit_test(a_peers_forgery_is_not_held_against_the_engine),
		cmocka_unit_test(what_a_cpu_engine_cannot_seal_its_spare_seals),
		cmocka_unit_test(
			a_key_that_a_cpu_engine_refuses_its_spare_takes),
	};

	int failed = 0;

	for (size_t i = 0; i < sizeof(suites) / sizeof(suites[0]); i++) {
		suite = suites[i];
		print_message("suite 0x%04x\n", suite);
		failed += cmocka_run_group_tests(tests, NULL, NULL);
	}
	return failed;
}
