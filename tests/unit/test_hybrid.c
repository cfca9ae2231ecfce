/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "context/ctx.h"
#include "engine/hybrid.h"
#include "fake_engine.h"
#include "wire.h"

enum { US = 1000, FULL = 1 << 14 };

/* A kernel engine with this latency and interval, and a CPU of so many MB/s. */
static void teach(struct hybrid *h, uint64_t latency, uint64_t interval,
		  uint64_t cpu_mb_per_s)
{
	uint64_t now = h->last_done + 1000000000;
	int i;

	for (i = 0; i < 100; i++) {
		hybrid_cpu_done(h, FULL, FULL * (uint64_t)1000 / cpu_mb_per_s);
		now += interval;
		hybrid_kernel_done(h, now - latency, now, true);
	}
}

/* Of many such records, do most go to the CPU? */
static bool mostly_cpu(struct hybrid *h, size_t len, unsigned queue)
{
	int i, cpu = 0;

	for (i = 0; i < 1000; i++)
		cpu += hybrid_prefers_cpu(h, len, queue);
	return cpu > 500;
}

static void switched_off_it_never_prefers_the_cpu(void **state)
{
	struct hybrid h;
	int i;

	(void)state;
	hybrid_init(&h, false);
	for (i = 0; i < 1000; i++)
		assert_false(hybrid_prefers_cpu(&h, 1, 1));
}

static void small_records_and_short_queues_go_to_the_cpu(void **state)
{
	struct hybrid h;

	(void)state;
	hybrid_init(&h, true);
	teach(&h, 100 * US, 4 * US, 2000); /* 8 us a record on the CPU */
	assert_true(mostly_cpu(&h, 100, 32));
	assert_true(mostly_cpu(&h, FULL, 1));
	assert_false(mostly_cpu(&h, FULL, 32));
}

static void a_quick_accelerator_gets_shorter_queues_and_smaller_records(
	void **state)
{
	struct hybrid quick, slow;

	(void)state;
	hybrid_init(&quick, true);
	hybrid_init(&slow, true);
	teach(&quick, 10 * US, 1 * US, 2000);
	teach(&slow, 40 * US, 3 * US, 2000);
	assert_true(quick.min_len < slow.min_len);
	assert_true(quick.min_queue < slow.min_queue);
}

static void a_slow_accelerator_gets_only_what_is_deep(void **state)
{
	struct hybrid h;

	(void)state;
	hybrid_init(&h, true);
	teach(&h, 5000 * US, 50 * US, 4000);
	assert_int_equal(h.min_queue, HYBRID_QUEUE_MAX);
	assert_int_equal(h.min_len, HYBRID_LEN_MAX);
	assert_false(mostly_cpu(&h, FULL, HYBRID_QUEUE_MAX));
}

static void thresholds_stay_within_their_bounds(void **state)
{
	static const uint64_t times[] = { 1, 100, 10000, 1000000, 100000000,
					  10000000000 };
	size_t i, j;

	(void)state;
	for (i = 0; i < 6; i++) {
		for (j = 0; j < 6; j++) {
			struct hybrid h;

			hybrid_init(&h, true);
			teach(&h, times[i], times[j], 1 + i * 1000);
			assert_in_range(h.min_len, HYBRID_LEN_MIN,
					HYBRID_LEN_MAX);
			assert_in_range(h.min_queue, 1, HYBRID_QUEUE_MAX);
		}
	}
}

static void it_notices_that_an_accelerator_has_become_quick(void **state)
{
	struct hybrid h;

	(void)state;
	hybrid_init(&h, true);
	teach(&h, 5000 * US, 50 * US, 2000);
	assert_true(mostly_cpu(&h, FULL, 4));
	teach(&h, 10 * US, 1 * US, 2000);
	assert_false(mostly_cpu(&h, FULL, 4));
}

static void while_all_goes_to_the_cpu_it_still_explores(void **state)
{
	struct hybrid h;
	int i, kernel = 0;

	(void)state;
	hybrid_init(&h, true);
	for (i = 0; i < 10 * HYBRID_EXPLORE; i++)
		kernel += !hybrid_prefers_cpu(&h, 10, 1);
	assert_int_equal(kernel, 10);
}

static void a_stream_divided_between_engines_stays_in_order(void **state)
{
	struct fake_engine *fake = fake_new();
	uint8_t buf[FULL], content[RECORD_PLAIN_MAX + 256], type;
	struct tls_stats stats;
	size_t sent = 0, got = 0;
	struct wire w;
	int i;

	(void)state;
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP,
					     .fake = fake });
	hybrid_init(&w.ctx->core.dispatch.hybrid, true);
	w.ctx->core.dispatch.hybrid.min_queue = 1;
	for (i = 0; i < 200; i++) {
		size_t n = i % 3 ? 50 : 3000; /* by turns to either engine */

		pattern_fill(buf, sent, n);
		assert_int_equal(tls_write(w.conn, buf, n), n);
		sent += n;
		if (fake_pending(fake) > 4) { /* the latest first */
			while (fake_pending(fake))
				fake_complete(fake, fake_pending(fake) - 1,
					      FAKE_OK);
			w.ctx->core.dispatch.hybrid.min_len = 1024;
			w.ctx->core.dispatch.hybrid.min_queue = 1;
		}
		tls_context_process(w.ctx);
		while (!wire_silent(&w)) {
			ssize_t n_in = wire_receive(&w, &type, content);

			pattern_check(content, got, (size_t)n_in);
			got += (size_t)n_in;
		}
	}
	fake_complete_all(fake);
	tls_context_process(w.ctx);
	while (got < sent) {
		ssize_t n_in = wire_receive(&w, &type, content);

		pattern_check(content, got, (size_t)n_in);
		got += (size_t)n_in;
	}
	tls_context_stats(w.ctx, &stats, sizeof(stats));
	assert_true(stats.tx_records[TLS_BY_CPU] > 100);
	assert_true(stats.tx_records[TLS_BY_KERNEL] > 50);
	wire_free(&w);
	fake_free(fake);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(switched_off_it_never_prefers_the_cpu),
		cmocka_unit_test(small_records_and_short_queues_go_to_the_cpu),
		cmocka_unit_test(
			a_quick_accelerator_gets_shorter_queues_and_smaller_records),
		cmocka_unit_test(a_slow_accelerator_gets_only_what_is_deep),
		cmocka_unit_test(thresholds_stay_within_their_bounds),
		cmocka_unit_test(it_notices_that_an_accelerator_has_become_quick),
		cmocka_unit_test(while_all_goes_to_the_cpu_it_still_explores),
		cmocka_unit_test(a_stream_divided_between_engines_stays_in_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
