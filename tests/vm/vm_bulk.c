/* SPDX-License-Identifier: MIT */
/*
 * How busy one connection keeps an accelerator (tests/kmod), and what others
 * get of it meanwhile.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "accel_wire.h"
#include "crowd.h"

/* ---- Utilisation ------------------------------------------------------- */

struct rate {
	double records; /* per second */
	double utilisation;
};

static void write_for(struct wire *w, uint64_t ns)
{
	static const uint8_t buf[CHUNK];
	uint64_t end = now_ns() + ns;

	while (now_ns() < end)
		assert_int_equal(tls_write(w->conn, buf, CHUNK), CHUNK);
}

/* Bulk into the sink: warm up, then measure for ms milliseconds. */
static struct rate bulk(struct sink *sink, unsigned parallelism,
			long latency_us, unsigned ms)
{
	uint64_t busy, completed, start;
	double wall;

	accel_set("parallelism", parallelism);
	accel_set("latency_us", latency_us);
	write_for(&sink->w, 2 * (uint64_t)latency_us * NS_PER_US +
				    50 * NS_PER_MS);
	completed = accel_get("completed");
	busy = accel_get("busy_ns");
	start = now_ns();
	write_for(&sink->w, ms * NS_PER_MS);
	busy = accel_get("busy_ns") - busy;
	wall = (double)(now_ns() - start);
	completed = accel_get("completed") - completed;
	return (struct rate){ (double)completed * 1e9 / wall,
			      (double)busy / wall / parallelism };
}

static double ceiling(enum tls_context_kind kind)
{
	struct sink sink;
	struct rate r;

	sink_open(&sink, kind, 64);
	r = bulk(&sink, 64, 0, 600);
	sink_close(&sink);
	return r.records;
}

enum { WINDOWS = 15, WINDOW_MS = 100 };

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/*
 * The median of many short measurements: an emulated machine stands still now
 * and then, and so does the device, whose work runs out meanwhile.
 */
static double median_utilisation(struct sink *sink, unsigned parallelism)
{
	double shares[WINDOWS];
	int i;

	for (i = 0; i < WINDOWS; i++) {
		uint64_t busy = accel_get("busy_ns"), start = now_ns();

		write_for(&sink->w, WINDOW_MS * NS_PER_MS);
		busy = accel_get("busy_ns") - busy;
		shares[i] = (double)busy / (double)(now_ns() - start) /
			    parallelism;
	}
	qsort(shares, WINDOWS, sizeof(*shares), compare);
	print_message("busy %.1f %% in the median, from %.1f to %.1f\n",
		      shares[WINDOWS / 2] * 100, shares[0] * 100,
		      shares[WINDOWS - 1] * 100);
	return shares[WINDOWS / 2];
}

/* A device that needs a third of what can be had without latency. */
static void keeps_busy(enum tls_context_kind kind, unsigned parallelism,
		       unsigned depth)
{
	double most = ceiling(kind);
	long latency_us = (long)(parallelism / (most / 3) * 1e6);
	struct sink sink;

	print_message("%s: %.0f records/s without latency; parallelism %u, "
		      "latency %.1f ms, depth %u\n", kind ? "loop" : "worker",
		      most, parallelism, (double)latency_us / 1000, depth);
	sink_open(&sink, kind, depth);
	bulk(&sink, parallelism, latency_us, 100);
	assert_true(median_utilisation(&sink, parallelism) >= 0.95);
	assert_int_equal(accel_stats(&sink.w).tx_in_flight_peak, depth);
	assert_int_equal(accel_get("peak_outstanding"), depth);
	assert_int_equal(accel_stats(&sink.w).failovers, 0);
	sink_close(&sink);
}

static void one_connection_keeps_the_accelerator_busy(void **state)
{
	const unsigned parallelism = 32;
	int kind;

	(void)state;
	for (kind = TLS_CONTEXT_WORKER; kind <= TLS_CONTEXT_LOOP; kind++) {
		keeps_busy(kind, parallelism, 2 * parallelism);
		keeps_busy(kind, parallelism, 4 * parallelism);
	}
}

static void throughput_against_depth(void **state)
{
	static const int latencies[] = { 5, 20, 50 };
	static const unsigned depths[] = { 1, 2, 4, 8, 16, 32, 64 };
	const unsigned parallelism = 16;
	struct sink sink;
	unsigned i, j;

	(void)state;
	print_message("records of 16 KiB per second, and how busy the "
		      "accelerator is (parallelism %u)\n", parallelism);
	print_message("depth       5 ms          20 ms          50 ms\n");
	for (i = 0; i < sizeof(depths) / sizeof(*depths); i++) {
		char line[100];
		int len = snprintf(line, sizeof(line), "%5u", depths[i]);

		sink_open(&sink, TLS_CONTEXT_LOOP, depths[i]);
		for (j = 0; j < 3; j++) {
			struct rate r = bulk(&sink, parallelism,
					     latencies[j] * 1000, 400);

			len += snprintf(line + len, sizeof(line) - (size_t)len,
					"  %6.0f %3.0f %%", r.records,
					r.utilisation * 100);
		}
		print_message("%s\n", line);
		sink_close(&sink);
	}
}

/* ---- Beside a thousand others ------------------------------------------ */

static void bulk_does_not_starve_1000_small_connections(void **state)
{
	struct tls_config config = TLS_CONFIG_INIT;
	struct crowd_options options = { 0 };
	struct crowd_result r;
	struct tls_stats s;

	(void)state;
	config.kind = TLS_CONTEXT_LOOP;
	config.driver = ACCEL_GCM;
	config.deadline_ms = 20000; /* it is to wait, not to fail over */
	if (tls_context_new(&options.echoing, &config))
		fail_msg("%s", tls_last_error());
	accel_set("latency_us", 2000);
	accel_set("parallelism", 16);
	r = crowd_run(&options);
	tls_context_stats(options.echoing, &s, sizeof(s));
	print_message("by the kernel %ju sealed, %ju opened; by the CPU %ju "
		      "and %ju; %ju op sockets at most\n",
		      s.tx_records[TLS_BY_KERNEL], s.rx_records[TLS_BY_KERNEL],
		      s.tx_records[TLS_BY_CPU], s.rx_records[TLS_BY_CPU],
		      s.op_sockets_peak);
	assert_true(s.tx_records[TLS_BY_KERNEL] > CROWD);
	assert_true(s.rx_records[TLS_BY_KERNEL] > CROWD);
	assert_true(r.most <= 8 * 32); /* depths */
	assert_true(r.bulk_records > CROWD_ROUNDS);
	tls_context_free(options.echoing);
}

/* ---- ------------------------------------------------------------------- */

int main(void)
{
	const struct CMUnitTest tests[] = {
		ACCEL_TEST(one_connection_keeps_the_accelerator_busy),
		ACCEL_TEST(throughput_against_depth),
		ACCEL_TEST(bulk_does_not_starve_1000_small_connections),
	};
	int failed;

	if (!accel_present()) {
		print_message("asynctls_accel is not loaded (tests/kmod)\n");
		return SKIPPED;
	}
	cmocka_set_test_filter(getenv("ASYNCTLS_TESTS"));
	failed = cmocka_run_group_tests_name("io_uring", tests, NULL, NULL);
	setenv("ASYNCTLS_IO", "poll", 1);
	return failed + cmocka_run_group_tests_name("epoll", tests, NULL, NULL);
}
