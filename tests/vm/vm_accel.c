/* SPDX-License-Identifier: MIT */
/*
 * The pipeline on an accelerator that can be slow and out of order: the module
 * of tests/kmod, loaded by tests/vm/run --module.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "accel_wire.h"

/* ---- The choice -------------------------------------------------------- */

/* How AUTO describes its choice for this cipher. */
static void describe_auto(char *line, size_t len, const char *cipher)
{
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *ctx;
	char words[2000];
	const char *at;

	if (tls_context_new(&ctx, &config))
		fail_msg("%s", tls_last_error());
	tls_context_describe(ctx, words, sizeof(words));
	tls_context_free(ctx);
	at = strstr(words, cipher);
	assert_non_null(at);
	snprintf(line, len, "%.*s", (int)strcspn(at, "\n"), at);
	print_message("%s\n", line);
}

static void auto_takes_the_accelerator_when_it_is_the_systems_first(
	void **state)
{
	char line[500];

	(void)state;
	describe_auto(line, sizeof(line), "AES-128-GCM");
	assert_null(strstr(line, ACCEL_GCM));
	accel_set("priority", 10000);
	describe_auto(line, sizeof(line), "AES-128-GCM");
	assert_non_null(strstr(line, ": afalg, driver " ACCEL_GCM));
	describe_auto(line, sizeof(line), "ChaCha20-Poly1305");
	assert_non_null(strstr(line, ": afalg, driver " ACCEL_CHACHA));
	accel_set("priority", 1);
	describe_auto(line, sizeof(line), "ChaCha20-Poly1305");
	assert_null(strstr(line, ACCEL_CHACHA));
}

/* ---- Order ------------------------------------------------------------- */

static void set_order(int order)
{
	accel_set("order", order);
	accel_set("latency_us", 15 * 1000);
	accel_set("jitter_us", 10 * 1000);
	accel_set("parallelism", 16);
}

static void in_any_order(struct wire_options options,
			 void (*stream)(struct wire *, size_t), int order)
{
	struct wire w;
	struct tls_stats s;

	options.blocking = true;
	accel_open(&w, options);
	set_order(order);
	stream(&w, STREAM);
	s = accel_stats(&w);
	print_message("order %d: %d of %d out of order, peak %d\n", order,
		      (int)s.out_of_order, STREAM / RECORD,
		      (int)(s.tx_in_flight_peak + s.rx_in_flight_peak));
	if (order != ACCEL_ARRIVED)
		assert_true(s.out_of_order > 0);
	/* the emulated peer may be slower than the device */
	assert_true(s.tx_in_flight_peak + s.rx_in_flight_peak >= 4);
	assert_int_equal(s.failovers, 0);
	assert_int_equal(s.tx_records[TLS_BY_KERNEL] +
				 s.rx_records[TLS_BY_KERNEL],
			 STREAM / RECORD);
	wire_free(&w);
	accel_restore();
}

static void a_stream_sealed_in_any_order_of_completion_is_right(void **state)
{
	int order;

	(void)state;
	for (order = ACCEL_ARRIVED; order <= ACCEL_FINISHED; order++)
		in_any_order((struct wire_options){ 0 }, transmit, order);
	in_any_order((struct wire_options){ .suite = TLS_CHACHA20_POLY1305,
					    .driver = ACCEL_CHACHA },
		     transmit, ACCEL_REVERSED);
}

static void a_stream_opened_in_any_order_of_completion_is_right(void **state)
{
	int order;

	(void)state;
	for (order = ACCEL_ARRIVED; order <= ACCEL_FINISHED; order++)
		in_any_order((struct wire_options){
				     .kind = order & 1 ? TLS_CONTEXT_LOOP :
							 TLS_CONTEXT_WORKER },
			     receive, order);
	in_any_order((struct wire_options){ .suite = TLS_AES_256_GCM },
		     receive, ACCEL_REVERSED);
}

/* ---- Control returns --------------------------------------------------- */

enum { WRITES = 24, ROUNDS = 3 };

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* The median time of a write that the window has room for, in ns. */
static uint64_t write_time(enum tls_context_kind kind, long latency_us)
{
	static const uint8_t buf[RECORD];
	uint64_t times[ROUNDS * WRITES];
	struct sink sink;
	int i;

	sink_open(&sink, kind, 32);
	accel_set("parallelism", 32);
	accel_set("latency_us", latency_us);
	for (i = 0; i < ROUNDS * WRITES; i++) {
		uint64_t before = now_ns();

		assert_int_equal(tls_write(sink.w.conn, buf, RECORD), RECORD);
		times[i] = now_ns() - before;
		if (i % WRITES == WRITES - 1)
			assert_int_equal(tls_flush(sink.w.conn), 0);
	}
	sink_close(&sink);
	qsort(times, ROUNDS * WRITES, sizeof(*times), compare);
	return times[ROUNDS * WRITES / 2];
}

static void control_returns_at_once(void **state)
{
	int kind;

	(void)state;
	for (kind = TLS_CONTEXT_WORKER; kind <= TLS_CONTEXT_LOOP; kind++) {
		uint64_t quick = write_time(kind, 1000);
		uint64_t slow = write_time(kind, 50 * 1000);

		print_message("%s: a write takes %d us at 1 ms latency, %d us "
			      "at 50 ms\n", kind ? "loop" : "worker",
			      (int)(quick / NS_PER_US),
			      (int)(slow / NS_PER_US));
		assert_true(slow < 2 * quick + 5 * NS_PER_MS);
	}
}

/* ---- The engine chosen by record --------------------------------------- */

enum { SMALL = 200, SMALLS = 500, DEEP = 32, DEEPS = 10 };

/* Records that leave one by one, then as many at once as fit the window. */
static void write_small_then_deep(struct wire *w, struct tls_stats after[2])
{
	static uint8_t buf[DEEP * RECORD];
	struct sender s = { .w = w, .from = SMALLS * SMALL,
			    .len = DEEPS * sizeof(buf) };
	pthread_t thread;
	int i;

	for (i = 0; i < SMALLS; i++) {
		pattern_fill(buf, (size_t)i * SMALL, SMALL);
		assert_int_equal(tls_write(w->conn, buf, SMALL), SMALL);
		assert_int_equal(tls_flush(w->conn), 0);
		peer_receives(w, (size_t)i * SMALL, SMALL);
	}
	after[0] = accel_stats(w);
	pthread_create(&thread, NULL, write_stream, &s);
	peer_receives(w, s.from, s.len);
	pthread_join(thread, NULL);
	after[1] = accel_stats(w);
}

static uint64_t by_cpu(const struct tls_stats *s)
{
	return s->tx_records[TLS_BY_CPU];
}

/*
 * Whatever is learnt: fewer than 256 bytes are for the CPU, but one record in
 * 256, and 16 or more full records for the device.
 */
static void small_records_go_to_the_cpu_and_deep_queues_to_the_device(
	void **state)
{
	struct wire_options options = accel_blocking(TLS_CONTEXT_WORKER);
	struct tls_stats s[2];
	struct wire w;

	(void)state;
	options.hybrid = TLS_HYBRID_ON;
	accel_open(&w, options);
	accel_set("parallelism", 16);
	write_small_then_deep(&w, s);
	print_message("%ju of %d small records by the CPU, %ju of %d large\n",
		      by_cpu(&s[0]), SMALLS, by_cpu(&s[1]) - by_cpu(&s[0]),
		      DEEPS * DEEP);
	assert_true(by_cpu(&s[0]) >= SMALLS - 1 - SMALLS / 256);
	/* each write has a last record, and few behind it */
	assert_true(by_cpu(&s[1]) - by_cpu(&s[0]) <= DEEPS * DEEP / 2);
	assert_int_equal(s[1].failovers, 0);
	wire_free(&w);
}

static void switched_off_all_records_go_to_the_device(void **state)
{
	struct wire_options options = accel_blocking(TLS_CONTEXT_WORKER);
	struct tls_stats s[2];
	struct wire w;

	(void)state;
	options.hybrid = TLS_HYBRID_OFF;
	accel_open(&w, options);
	accel_set("parallelism", 16);
	write_small_then_deep(&w, s);
	assert_int_equal(by_cpu(&s[1]), 0);
	wire_free(&w);
}

/* ---- Deferred transmit ------------------------------------------------- */

enum { AWAY = 10000 /* ms */, LATENCY = 50, WAYS = 3 };

static uint8_t sent[3 * RECORD];

/* An application that writes once and is then away. */
struct away {
	const char *words;
	void (*how)(uint64_t until);
	struct wire w;
	pthread_t thread;
	uint64_t written;
	atomic_bool back;
};

static void sleeps(uint64_t until)
{
	uint64_t now;

	while ((now = now_ns()) < until) /* completions may interrupt it */
		usleep((useconds_t)((until - now) / NS_PER_US + 1));
}

/* ... and makes no system calls: the clock is read in the vDSO. */
static void computes(uint64_t until)
{
	while (now_ns() < until)
		;
}

static void blocks_in_read(uint64_t until)
{
	int fd[2];
	char byte;
	pid_t pid;

	if (pipe(fd))
		return;
	pid = fork();
	if (pid == 0) {
		sleeps(until);
		_exit(write(fd[1], "x", 1) != 1);
	}
	while (read(fd[0], &byte, 1) < 0 && errno == EINTR)
		;
	waitpid(pid, NULL, 0);
	close(fd[0]);
	close(fd[1]);
}

static void *write_and_go(void *arg)
{
	struct away *away = arg;

	tls_write(away->w.conn, sent, sizeof(sent));
	away->how(away->written + AWAY * (uint64_t)NS_PER_MS);
	away->back = true;
	return NULL;
}

static void leave(struct away *away)
{
	accel_open(&away->w, accel_blocking(TLS_CONTEXT_WORKER));
	accel_set("latency_us", LATENCY * 1000);
	accel_set("parallelism", 8);
	away->back = false;
	away->written = now_ns();
	pthread_create(&away->thread, NULL, write_and_go, away);
	peer_receives(&away->w, 0, sizeof(sent));
	print_message("application %s: at the peer after %.1f ms\n",
		      away->words, ms_since(away->written));
	assert_true(ms_since(away->written) < AWAY / 4.0);
	assert_false(away->back);
}

static void come_back(struct away *away)
{
	pthread_join(away->thread, NULL);
	print_message("application %s: back after %.0f ms\n", away->words,
		      ms_since(away->written));
	assert_true(ms_since(away->written) >= AWAY);
	assert_int_equal(accel_stats(&away->w).deferred_run, 1);
	wire_free(&away->w);
}

/* All three are away at the same time. */
static void what_is_written_leaves_while_the_application_is_away_for_10_s(
	void **state)
{
	static struct away aways[WAYS] = {
		{ "sleeps", sleeps },
		{ "blocks in read(2)", blocks_in_read },
		{ "computes", computes },
	};
	int i;

	(void)state;
	pattern_fill(sent, 0, sizeof(sent));
	for (i = 0; i < WAYS; i++)
		leave(&aways[i]);
	for (i = 0; i < WAYS; i++)
		come_back(&aways[i]);
}

/* ---- ------------------------------------------------------------------- */

int main(void)
{
	const struct CMUnitTest tests[] = {
		ACCEL_TEST(auto_takes_the_accelerator_when_it_is_the_systems_first),
		ACCEL_TEST(a_stream_sealed_in_any_order_of_completion_is_right),
		ACCEL_TEST(a_stream_opened_in_any_order_of_completion_is_right),
		ACCEL_TEST(control_returns_at_once),
		ACCEL_TEST(
			small_records_go_to_the_cpu_and_deep_queues_to_the_device),
		ACCEL_TEST(switched_off_all_records_go_to_the_device),
		ACCEL_TEST(
			what_is_written_leaves_while_the_application_is_away_for_10_s),
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
