/* SPDX-License-Identifier: MIT */
/*
 * KeyUpdates among records in flight, completed in every order there is, those
 * of records that are opened again included: the stream is the same, or ends
 * at the record that is corrupt.
 */
#include <errno.h>
#include <limits.h>
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

enum { RECORDS = 6, LEN = 50, MAX_STEPS = 64 };

/* As many records in every order; one thread has no races to be found. */
#ifdef __SANITIZE_THREAD__
enum { MOST = 3 };
#elif defined(__SANITIZE_ADDRESS__)
enum { MOST = 4 };
#else
enum { MOST = 5 };
#endif

static const uint8_t key_update[] = { MESSAGE_KEY_UPDATE, 0, 0, 1, 0 };
static const struct wire_options options = { .kind = TLS_CONTEXT_LOOP };
static struct fake_engine *fake;
static struct wire w;
static uint8_t content[RECORD_PLAIN_MAX + 256];

/* One wire serves all orders; making contexts takes the time. */
static int setup(void **state)
{
	struct wire_options o = options;

	(void)state;
	o.fake = fake = fake_new();
	wire_new(&w, &o);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	wire_free(&w);
	fake_free(fake);
	return 0;
}

static void reopen(void)
{
	struct dispatch *d = &w.ctx->core.dispatch;

	tls_close(w.conn, 0);
	w.conn = NULL;
	fake_complete_all(fake); /* then it is gone */
	tls_context_process(w.ctx);
	wire_reopen(&w, &options);
	d->health = (struct health){ 0 };
	d->window = UINT_MAX;
}

/* ---- Every order ------------------------------------------------------- */

/* Which of those in flight completes next, at each step. */
struct order {
	unsigned choice[MAX_STEPS], choices[MAX_STEPS];
	int steps;
	int free; /* steps that have a choice; the oldest completes after them */
	bool random;
	bool each; /* act, and read, after each completion, or when all are */
};

static uint8_t got[RECORDS * LEN + 1];
static size_t got_len;
static ssize_t got_end; /* what the read after them returned */

static bool read_some(void)
{
	ssize_t n = tls_read(w.conn, got + got_len, sizeof(got) - got_len);

	if (n > 0)
		got_len += (size_t)n;
	got_end = n;
	return n > 0;
}

static void complete_one(struct order *o, enum fake_outcome outcome)
{
	int i = o->steps++;

	assert_in_range(i, 0, MAX_STEPS - 1);
	o->choices[i] = i < o->free ? fake_pending(fake) : 1;
	if (o->random)
		o->choice[i] = (unsigned)rand() % o->choices[i];
	fake_complete(fake, o->choice[i], outcome);
}

static void complete_in_order(struct order *o, bool failing)
{
	o->steps = 0;
	got_len = 0;
	do {
		unsigned n = o->each ? 1 : fake_pending(fake);

		while (n-- && fake_pending(fake))
			complete_one(o, failing ? rand() % 4 : FAKE_OK);
		tls_context_process(w.ctx);
		if (o->each)
			read_some();
	} while (fake_pending(fake) || read_some() || fake_pending(fake));
}

/* The next order, as an odometer counts; false after the last. */
static bool next_order(struct order *o)
{
	int i = o->steps;

	while (i && o->choice[i - 1] + 1 == o->choices[i - 1])
		i--;
	if (!i)
		return false;
	o->choice[i - 1]++;
	memset(o->choice + i, 0, (size_t)(MAX_STEPS - i) *
					 sizeof(o->choice[0]));
	return true;
}

/* ---- Receiving --------------------------------------------------------- */

/* Record i is a KeyUpdate if bit i of updates is set; one may be corrupt. */
static void send_records(int n, unsigned updates, int corrupt)
{
	uint8_t record[RECORD_WIRE_MAX], data[LEN];
	size_t len, done = 0;
	int i;

	for (i = 0; i < n; i++) {
		bool update = updates >> i & 1;

		pattern_fill(data, done, LEN);
		len = wire_seal(&w, update ? RECORD_HANDSHAKE : RECORD_DATA,
				update ? key_update : data,
				update ? sizeof(key_update) : LEN, 0, record);
		record[RECORD_HEADER + 3] ^= i == corrupt;
		wire_send_raw(&w, record, len);
		if (update)
			wire_next_keys(&w);
		else
			done += LEN;
	}
}

static void expect_plaintext(int n, unsigned updates, int corrupt)
{
	int good = corrupt < n ? corrupt : n;
	unsigned before = updates & ((1u << good) - 1);
	struct tls_stats s;

	assert_int_equal(got_len, (good - __builtin_popcount(before)) * LEN);
	pattern_check(got, 0, got_len);
	assert_int_equal(got_end, corrupt < n ? -EBADMSG : -EAGAIN);
	tls_conn_stats(w.conn, &s, sizeof(s));
	assert_int_equal(s.rx_rekeys, __builtin_popcount(before));
	fake_complete_all(fake); /* an alert is a record like others */
	tls_context_process(w.ctx);
	if (corrupt < n)
		wire_expect_alert(&w, ALERT_BAD_RECORD_MAC);
	assert_true(wire_silent(&w));
}

/* What was opened too early is no failure of the engine. */
static void expect_health(bool forged)
{
	struct tls_stats s;

	tls_conn_stats(w.conn, &s, sizeof(s));
	assert_int_equal(s.failovers, forged);
	assert_int_equal(s.failovers_for[TLS_FAILOVER_TAG], forged);
	assert_int_equal(s.pauses, 0);
	assert_int_equal(w.conn->account.health.failures, 0);
}

static void receive(struct order *o, int n, unsigned updates, int corrupt,
		    bool failing)
{
	reopen();
	send_records(n, updates, corrupt);
	tls_context_process(w.ctx);
	assert_int_equal(fake_pending(fake), n);
	complete_in_order(o, failing);
	expect_plaintext(n, updates, corrupt);
	if (!failing)
		expect_health(corrupt < n);
}

/* KeyUpdates everywhere, a corrupt record everywhere and nowhere. */
static unsigned receive_all(int n, int free, bool each)
{
	unsigned updates, runs = 0;
	int corrupt;

	for (updates = 0; updates < 1u << n; updates++) {
		for (corrupt = 0; corrupt <= n; corrupt++) {
			struct order o = { .free = free, .each = each };

			do {
				receive(&o, n, updates, corrupt, false);
				runs++;
			} while (next_order(&o));
		}
	}
	return runs;
}

static void every_order_of_receive_gives_the_same_plaintext(void **state)
{
	unsigned runs = 0;
	int n;

	(void)state;
	for (n = 1; n < MOST; n++)
		runs += receive_all(n, MAX_STEPS, true) +
			receive_all(n, MAX_STEPS, false);
	/* of these, what is opened again completes as it was submitted */
	runs += receive_all(MOST, MOST, false);
	print_message("%u orders\n", runs);
}

static void orders_of_more_records_give_the_same_plaintext(void **state)
{
	struct order o = { .random = true, .free = MAX_STEPS };
	int i;

	(void)state;
	for (i = 0; i < 3000; i++) {
		int n = 4 + i % (RECORDS - 3);

		o.each = i & 1;
		receive(&o, n, (unsigned)rand() % (1u << n), rand() % (n + 1),
			false);
	}
}

/* The engine fails, is full and calls good records forged, too. */
static void failures_among_key_updates_change_nothing(void **state)
{
	struct order o = { .random = true, .free = MAX_STEPS };
	int i;

	(void)state;
	for (i = 0; i < 3000; i++) {
		int n = 1 + i % RECORDS;

		o.each = i & 1;
		receive(&o, n, (unsigned)rand() % (1u << n), rand() % (n + 1),
			true);
	}
}

static void a_record_with_the_wrong_key_is_opened_again(void **state)
{
	(void)state;
	reopen();
	send_records(3, 1, INT_MAX);
	tls_context_process(w.ctx);
	fake_complete(fake, 1, FAKE_OK); /* with the old key: in vain */
	fake_complete(fake, 0, FAKE_OK); /* the KeyUpdate */
	tls_context_process(w.ctx);
	/* one still in flight with the old key, one again, with the new */
	assert_int_equal(fake_pending(fake), 2);
	fake_complete(fake, 0, FAKE_OK);
	tls_context_process(w.ctx);
	assert_int_equal(fake_pending(fake), 2);
	complete_in_order(&(struct order){ 0 }, false);
	expect_plaintext(3, 1, INT_MAX);
	expect_health(false);
}

/* The engine hangs; what the CPU opens in its stead has the wrong key, too. */
static void a_record_overdue_with_the_wrong_key_is_opened_again(void **state)
{
	struct dispatch *d = &w.ctx->core.dispatch;
	struct tls_stats s;
	int known;

	(void)state;
	for (known = 0; known < 2; known++) {
		reopen();
		send_records(3, 1, INT_MAX);
		tls_context_process(w.ctx);
		if (known) {
			fake_complete(fake, 0, FAKE_OK); /* the KeyUpdate */
			tls_context_process(w.ctx);
		}
		dispatch_expire(d, UINT64_MAX - 1);
		assert_int_equal(fake_pending(fake), 0);
		complete_in_order(&(struct order){ 0 }, false);
		expect_plaintext(3, 1, INT_MAX);
		tls_conn_stats(w.conn, &s, sizeof(s));
		assert_int_equal(s.failovers, 3 - known);
		assert_int_equal(s.failovers_for[TLS_FAILOVER_DEADLINE],
				 s.failovers);
	}
}

/* Many KeyUpdates in a row cost little more than as many records. */
static void what_is_opened_ahead_shrinks_under_key_updates(void **state)
{
	struct tls_stats before, after;
	unsigned operations = 0;
	int i;

	(void)state;
	reopen();
	tls_conn_stats(w.conn, &before, sizeof(before));
	for (i = 0; i < 30; i++) {
		wire_send(&w, RECORD_HANDSHAKE, key_update, sizeof(key_update));
		wire_next_keys(&w);
	}
	for (tls_context_process(w.ctx); fake_pending(fake);
	     tls_context_process(w.ctx), operations++)
		fake_complete(fake, 0, FAKE_OK);
	tls_conn_stats(w.conn, &after, sizeof(after));
	assert_int_equal(after.rx_rekeys - before.rx_rekeys, 30);
	assert_in_range(operations, 30, 120); /* not 30 * 29 / 2 */
	assert_int_equal(w.conn->rx.ahead, 1);
	for (i = 0; i < 40; i++)
		wire_send(&w, RECORD_DATA, "x", 1);
	for (tls_context_process(w.ctx); fake_pending(fake);
	     tls_context_process(w.ctx)) {
		fake_complete_all(fake);
		tls_context_process(w.ctx);
		tls_read(w.conn, content, 100);
	}
	assert_int_equal(w.conn->rx.ahead, w.ctx->core.depth);
}

/* ---- Sending ----------------------------------------------------------- */

static void write_records(int n, unsigned updates)
{
	uint8_t data[LEN];
	size_t done = 0;
	int i;

	for (i = 0; i < n; i++) {
		if (updates >> i & 1) {
			assert_int_equal(tls_conn_update_keys(w.conn, 0), 0);
			continue;
		}
		pattern_fill(data, done, LEN);
		assert_int_equal(tls_write(w.conn, data, LEN), LEN);
		done += LEN;
	}
}

static void expect_records(int n, unsigned updates)
{
	size_t done = 0;
	uint8_t type;
	int i;

	for (i = 0; i < n; i++) {
		bool update = updates >> i & 1;

		assert_int_equal(wire_receive(&w, &type, content),
				 update ? 5 : LEN);
		assert_int_equal(type, update ? RECORD_HANDSHAKE : RECORD_DATA);
		if (!update) {
			pattern_check(content, done, LEN);
			done += LEN;
		}
	}
	assert_true(wire_silent(&w));
}

static void transmit(struct order *o, int n, unsigned updates, bool failing)
{
	reopen();
	write_records(n, updates);
	assert_int_equal(fake_pending(fake), n);
	complete_in_order(o, failing);
	expect_records(n, updates);
	assert_int_equal(fake_keys(fake), !(updates >> (n - 1) & 1));
}

static void every_order_of_transmit_gives_the_same_bytes(void **state)
{
	unsigned updates, runs = 0;
	int n;

	(void)state;
	for (n = 1; n <= 4; n++) {
		for (updates = 0; updates < 1u << n; updates++) {
			struct order o = { .free = MAX_STEPS,
					   .each = updates & 1 };

			do {
				transmit(&o, n, updates, false);
				runs++;
			} while (next_order(&o));
		}
	}
	print_message("%u orders\n", runs);
}

static void failures_among_key_updates_change_no_bytes(void **state)
{
	struct order o = { .random = true, .free = MAX_STEPS };
	int i;

	(void)state;
	for (i = 0; i < 1000; i++) {
		o.each = i & 1;
		transmit(&o, RECORDS, (unsigned)rand() % (1u << RECORDS), true);
	}
}

/* Both are in flight; the older closes at its last completion, unsent. */
static void a_generation_ends_with_its_last_completion(void **state)
{
	(void)state;
	reopen();
	assert_int_equal(fake_keys(fake), 0);
	write_records(4, 1 << 2);
	assert_int_equal(fake_keys(fake), 2);
	fake_complete(fake, 3, FAKE_OK); /* the new one's */
	fake_complete(fake, 2, FAKE_OK); /* the KeyUpdate, the old one's last */
	fake_complete(fake, 1, FAKE_OK);
	assert_int_equal(fake_keys(fake), 2);
	fake_complete(fake, 0, FAKE_OK);
	assert_int_equal(fake_keys(fake), 1);
	tls_context_process(w.ctx);
	expect_records(4, 1 << 2);
}

/* Its plaintext lies behind an open record, which gives back what it lacks. */
static void a_key_update_beside_an_open_record_can_be_sealed_again(void **state)
{
	static uint8_t data[LEN + RECORD_PLAIN_MAX];
	uint8_t type;

	(void)state;
	reopen();
	pattern_fill(data, 0, sizeof(data));
	tls_send(w.conn, data, LEN, TLS_MORE);
	assert_int_equal(tls_conn_update_keys(w.conn, 0), 0);
	tls_flush(w.conn);
	tls_write(w.conn, data + LEN, RECORD_PLAIN_MAX);
	assert_int_equal(fake_pending(fake), 3);
	fake_complete(fake, 0, FAKE_FAILS);
	fake_complete_all(fake);
	tls_context_process(w.ctx);
	assert_int_equal(wire_receive(&w, &type, content), 5);
	assert_int_equal(type, RECORD_HANDSHAKE);
	assert_int_equal(wire_receive(&w, &type, content), LEN);
	assert_int_equal(wire_receive(&w, &type, content), RECORD_PLAIN_MAX);
	pattern_check(content, LEN, RECORD_PLAIN_MAX);
}

/* However often the peer asks, and whether it reads or not. */
static void one_answer_is_in_line_at_a_time(void **state)
{
	static const uint8_t request[] = { MESSAGE_KEY_UPDATE, 0, 0, 1, 1 };
	int i;

	(void)state;
	reopen();
	for (i = 0; i < 100; i++) {
		wire_send(&w, RECORD_HANDSHAKE, request, sizeof(request));
		wire_next_keys(&w);
		tls_context_process(w.ctx);
		fake_complete(fake, i > 0, FAKE_OK); /* 0 is the answer */
		tls_context_process(w.ctx);
		wire_send(&w, RECORD_DATA, "x", 1);
		tls_context_process(w.ctx);
		fake_complete(fake, 1, FAKE_OK);
		assert_int_equal(tls_read(w.conn, content, 10), 1);
		assert_int_equal(fake_pending(fake), 1);
	}
	fake_complete_all(fake);
	tls_context_process(w.ctx);
	expect_records(1, 1);
}

#define TEST(name) cmocka_unit_test(name)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_order_of_receive_gives_the_same_plaintext),
		TEST(orders_of_more_records_give_the_same_plaintext),
		TEST(failures_among_key_updates_change_nothing),
		TEST(a_record_with_the_wrong_key_is_opened_again),
		TEST(a_record_overdue_with_the_wrong_key_is_opened_again),
		TEST(what_is_opened_ahead_shrinks_under_key_updates),
		TEST(every_order_of_transmit_gives_the_same_bytes),
		TEST(failures_among_key_updates_change_no_bytes),
		TEST(a_generation_ends_with_its_last_completion),
		TEST(a_key_update_beside_an_open_record_can_be_sealed_again),
		TEST(one_answer_is_in_line_at_a_time),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
