/* SPDX-License-Identifier: MIT */
/*
 * Completions in any order, refusals and failures among them: the stream is
 * the same, or it ends at the record that failed.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "context/ctx.h"
#include "fake_engine.h"
#include "wire.h"

enum { RECORDS = 6, LEN = 700 };

static uint8_t content[RECORD_PLAIN_MAX + 256];

/* The next permutation in lexicographic order; false after the last. */
static bool next_permutation(unsigned *p, int n)
{
	int i = n - 2, j = n - 1;
	unsigned t;

	while (i >= 0 && p[i] > p[i + 1])
		i--;
	if (i < 0)
		return false;
	while (p[j] < p[i])
		j--;
	t = p[i], p[i] = p[j], p[j] = t;
	for (i++, j = n - 1; i < j; i++, j--)
		t = p[i], p[i] = p[j], p[j] = t;
	return true;
}

/*
 * Complete n records in the order p, record k with outcome[k]. The engine
 * counts those that are left, so positions shift as others complete.
 */
static void complete_in_order(struct fake_engine *fake, const unsigned *p,
			      int n, const enum fake_outcome *outcome)
{
	bool gone[RECORDS] = { false };
	int i;

	for (i = 0; i < n; i++) {
		unsigned k = p[i], at = 0, j;

		for (j = 0; j < k; j++)
			at += !gone[j];
		fake_complete(fake, at, outcome[k]);
		gone[k] = true;
	}
}

static void write_records(struct wire *w, int n)
{
	uint8_t buf[LEN];
	int i;

	for (i = 0; i < n; i++) {
		pattern_fill(buf, (size_t)i * LEN, LEN);
		assert_int_equal(tls_write(w->conn, buf, LEN), LEN);
	}
}

static void expect_records(struct wire *w, int from, int to)
{
	uint8_t type;
	int i;

	for (i = from; i < to; i++) {
		assert_int_equal(wire_receive(w, &type, content), LEN);
		assert_int_equal(type, RECORD_DATA);
		pattern_check(content, (size_t)i * LEN, LEN);
	}
}

static void for_each_order(void (*check)(const unsigned *p, int n, int turn))
{
	int n, turn = 0;

	for (n = 1; n <= RECORDS; n++) {
		unsigned p[RECORDS] = { 0, 1, 2, 3, 4, 5 };

		do
			check(p, n, turn++);
		while (next_permutation(p, n));
	}
}

/*
 * All of it is run for each: what precedes a record, and what an engine leaves
 * there, differs with the format.
 */
static const uint16_t suites[] = { 0x1301, 0xc02b, 0xcca9 };
static uint16_t suite;

/* One wire serves all orders; making contexts takes the time. */
static struct wire shared;
static struct fake_engine *shared_fake;

static int setup(void **state)
{
	(void)state;
	shared_fake = fake_new();
	wire_new(&shared, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP,
						  .suite = suite,
						  .fake = shared_fake });
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	wire_free(&shared);
	fake_free(shared_fake);
	return 0;
}

/* The outcomes differ from order to order, so that all mixtures come up. */
static void outcomes_of(int turn, enum fake_outcome out[RECORDS])
{
	int i;

	for (i = 0; i < RECORDS; i++, turn /= 3)
		out[i] = (enum fake_outcome)(turn % 3);
}

/* What fails in a row would give the engine a rest. */
static void forget_failures(void)
{
	shared.conn->account.health = (struct health){ 0 };
	shared.ctx->core.dispatch.health = (struct health){ 0 };
}

static void send_in_order(const unsigned *p, int n, int turn)
{
	enum fake_outcome outcome[RECORDS];

	outcomes_of(turn, outcome);
	forget_failures();
	write_records(&shared, n);
	assert_int_equal(fake_pending(shared_fake), n);
	tls_context_process(shared.ctx);
	assert_true(wire_silent(&shared));
	complete_in_order(shared_fake, p, n, outcome);
	tls_context_process(shared.ctx);
	expect_records(&shared, 0, n);
	assert_true(wire_silent(&shared));
}

static void wire_bytes_are_in_order_whatever_completes_first(void **state)
{
	struct tls_stats stats;

	(void)state;
	for_each_order(send_in_order);
	tls_context_stats(shared.ctx, &stats, sizeof(stats));
	assert_true(stats.out_of_order > 0);
	assert_true(stats.failovers_for[TLS_FAILOVER_ERROR] > 0);
	assert_int_equal(stats.tx_in_flight_peak, RECORDS);
}

static void receive_in_order(const unsigned *p, int n, int turn)
{
	enum fake_outcome outcome[RECORDS];
	uint8_t buf[RECORDS * LEN];
	int i;

	outcomes_of(turn, outcome);
	forget_failures();
	for (i = 0; i < n; i++) {
		pattern_fill(buf, (size_t)i * LEN, LEN);
		wire_send(&shared, RECORD_DATA, buf, LEN);
	}
	tls_context_process(shared.ctx);
	assert_int_equal(fake_pending(shared_fake), n);
	assert_int_equal(tls_read(shared.conn, buf, sizeof(buf)), -EAGAIN);
	complete_in_order(shared_fake, p, n, outcome);
	assert_int_equal(tls_read(shared.conn, buf, sizeof(buf)), n * LEN);
	pattern_check(buf, 0, (size_t)n * LEN);
	tls_context_process(shared.ctx);
}

static void plaintext_is_in_order_whatever_completes_first(void **state)
{
	(void)state;
	for_each_order(receive_in_order);
}

static void a_refused_record_keeps_its_place(void **state)
{
	unsigned set, n;

	(void)state;
	for (set = 0; set < 1u << RECORDS; set++) {
		for (n = 0; n < RECORDS; n++)
			if (set & 1u << n)
				fake_refuse(shared_fake, n);
		write_records(&shared, RECORDS);
		assert_int_equal(fake_pending(shared_fake),
				 RECORDS - __builtin_popcount(set));
		fake_complete_all(shared_fake);
		tls_context_process(shared.ctx);
		expect_records(&shared, 0, RECORDS);
	}
}

/* Complete the records in this order where nothing stands in for an engine. */
static void fail_one(const unsigned *p, int n, int turn)
{
	enum fake_outcome outcome[RECORDS] = { FAKE_OK };
	const struct iovec iov = { "x", 1 };
	struct fake_engine *fake;
	struct wire w;
	int bad = turn % n;

	if (turn % 7) /* a context each: a seventh of all orders will do */
		return;
	fake = fake_new();
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP,
					     .suite = suite,
					     .fake = fake,
					     .no_cpu = true });
	outcome[bad] = FAKE_FAILS;
	write_records(&w, n);
	complete_in_order(fake, p, n, outcome);
	tls_context_process(w.ctx);
	tls_context_process(w.ctx);
	expect_records(&w, 0, bad);
	assert_true(wire_silent(&w));
	assert_int_equal(tls_write(w.conn, "x", 1), -EIO);
	assert_int_equal(tls_send(w.conn, "x", 1, TLS_MORE), -EIO);
	assert_int_equal(tls_writev(w.conn, &iov, 1), -EIO);
	assert_int_equal(tls_sendfile(w.conn, 0, NULL, 1), -EIO);
	assert_int_equal(tls_flush(w.conn), -EIO);
	assert_int_equal(tls_flush_timeout(w.conn, 0), -EIO);
	assert_int_equal(tls_shutdown(w.conn), -EIO);
	assert_int_equal(tls_conn_update_keys(w.conn, 0), -EIO);
	assert_int_equal(tls_read(w.conn, content, 1), -EIO);
	assert_string_equal(tls_conn_error(w.conn),
			    "no engine could seal a record");
	assert_int_equal(tls_close(w.conn, 0), -EIO);
	w.conn = NULL;
	assert_true(wire_silent(&w));
	wire_free(&w);
	fake_free(fake);
}

static void nothing_after_a_failed_record_is_sent(void **state)
{
	(void)state;
	for_each_order(fail_one);
}

static void an_engine_that_opens_nothing_is_an_internal_error(void **state)
{
	struct fake_engine *fake = fake_new();
	struct wire w;

	(void)state;
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP,
					     .fake = fake,
					     .no_cpu = true });
	wire_send(&w, RECORD_DATA, "x", 1);
	tls_context_process(w.ctx);
	fake_complete(fake, 0, FAKE_FAILS);
	assert_int_equal(tls_read(w.conn, content, 1), -EIO);
	assert_string_equal(tls_conn_error(w.conn),
			    "no engine could open a record");
	fake_complete_all(fake);
	tls_context_process(w.ctx);
	wire_expect_alert(&w, ALERT_INTERNAL_ERROR);
	wire_free(&w);
	fake_free(fake);
}

static void forge_one(const unsigned *p, int n, int turn)
{
	enum fake_outcome outcome[RECORDS] = { FAKE_OK };
	uint8_t buf[RECORDS * LEN], record[RECORD_WIRE_MAX];
	struct fake_engine *fake;
	struct wire w;
	int i, bad = turn % n;

	if (turn % 7)
		return;
	fake = fake_new();
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP,
					     .suite = suite,
					     .fake = fake });
	for (i = 0; i < n; i++) {
		size_t len;

		pattern_fill(buf, (size_t)i * LEN, LEN);
		len = wire_seal(&w, RECORD_DATA, buf, LEN, 0, record);
		record[20] ^= i == bad;
		wire_send_raw(&w, record, len);
	}
	tls_context_process(w.ctx);
	complete_in_order(fake, p, n, outcome);
	if (bad) {
		assert_int_equal(tls_read(w.conn, buf, sizeof(buf)),
				 bad * LEN);
		pattern_check(buf, 0, (size_t)bad * LEN);
	}
	assert_int_equal(tls_read(w.conn, buf, sizeof(buf)), -EBADMSG);
	assert_int_equal(tls_read(w.conn, buf, sizeof(buf)), -EBADMSG);
	fake_complete_all(fake); /* the alert is a record like others */
	tls_context_process(w.ctx);
	wire_expect_alert(&w, ALERT_BAD_RECORD_MAC);
	wire_free(&w);
	fake_free(fake);
}

static void nothing_from_a_forged_record_on_is_read(void **state)
{
	(void)state;
	for_each_order(forge_one);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			wire_bytes_are_in_order_whatever_completes_first),
		cmocka_unit_test(plaintext_is_in_order_whatever_completes_first),
		cmocka_unit_test(a_refused_record_keeps_its_place),
		cmocka_unit_test(nothing_after_a_failed_record_is_sent),
		cmocka_unit_test(
			an_engine_that_opens_nothing_is_an_internal_error),
		cmocka_unit_test(nothing_from_a_forged_record_on_is_read),
	};

	int failed = 0;

	for (size_t i = 0; i < sizeof(suites) / sizeof(suites[0]); i++) {
		suite = suites[i];
		print_message("suite 0x%04x\n", suite);
		failed += cmocka_run_group_tests(tests, setup, teardown);
	}
	return failed;
}
