/* SPDX-License-Identifier: MIT */
/*
 * The whole library on an accelerator that can be slow, full, out of order and
 * broken: the module of tests/kmod, loaded by tests/vm/run --module.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/err.h>

#include "accel.h"
#include "tls_pair.h"
#include "util.h"
#include "wire.h"

enum {
	RECORD = RECORD_PLAIN_MAX,
	STREAM = 2 << 20,
	CHUNK = 4 * RECORD,
	SKIPPED = 77,
	NS_PER_US = 1000,
};

static int restore(void **state)
{
	(void)state;
	accel_restore();
	return 0;
}

/* A connection on the accelerator, which has seen nothing of it yet. */
static void open_wire(struct wire *w, struct wire_options options)
{
	if (!options.driver)
		options.driver = ACCEL_GCM;
	options.tcp = true;
	wire_new(w, &options);
	accel_wait_idle();
	accel_set("reset", 1);
}

static struct tls_stats stats(struct wire *w)
{
	struct tls_stats s;

	assert_int_equal(tls_context_stats(w->ctx, &s, sizeof(s)), 0);
	return s;
}

static double ms_since(uint64_t then)
{
	return (double)(now_ns() - then) / NS_PER_MS;
}

/* ---- Streams ----------------------------------------------------------- */

/* A thread's own part of a stream; no assertions, they belong to main(). */
struct sender {
	struct wire *w;
	size_t from, len;
	ssize_t result; /* 0, or what went wrong */
};

static void *write_stream(void *arg)
{
	struct sender *s = arg;
	static uint8_t buf[CHUNK];
	size_t done = 0;

	while (done < s->len) {
		size_t n = min_size(s->len - done, sizeof(buf));
		ssize_t wrote;

		pattern_fill(buf, s->from + done, n);
		wrote = tls_write(s->w->conn, buf, n);
		if (wrote != (ssize_t)n) {
			s->result = wrote < 0 ? wrote : -EAGAIN;
			return NULL;
		}
		done += n;
	}
	s->result = tls_flush(s->w->conn);
	return NULL;
}

static void *send_stream(void *arg)
{
	struct sender *s = arg;
	static uint8_t buf[RECORD];
	size_t done;

	for (done = 0; done < s->len; done += RECORD) {
		pattern_fill(buf, s->from + done, RECORD);
		wire_send(s->w, RECORD_DATA, buf, RECORD);
	}
	return NULL;
}

/* The peer opens the records and finds len bytes of the pattern. */
static void peer_receives(struct wire *w, size_t from, size_t len)
{
	uint8_t content[RECORD + 256], type;
	size_t done = 0;

	while (done < len) {
		ssize_t n = wire_receive(w, &type, content);

		assert_true(n > 0);
		assert_int_equal(type, RECORD_DATA);
		pattern_check(content, from + done, (size_t)n);
		done += (size_t)n;
	}
	assert_int_equal(done, len);
}

static void we_receive(struct wire *w, size_t from, size_t len)
{
	static uint8_t buf[CHUNK];
	size_t done = 0;

	while (done < len) {
		ssize_t n = tls_read(w->conn, buf,
				     min_size(len - done, sizeof(buf)));

		if (n <= 0)
			fail_msg("after %zu bytes: %s", done,
				 tls_conn_error(w->conn));
		pattern_check(buf, from + done, (size_t)n);
		done += (size_t)n;
	}
}

/* Ours to the peer, and is it one unbroken stream? */
static void transmit(struct wire *w, size_t len)
{
	struct sender s = { .w = w, .len = len };
	pthread_t thread;

	pthread_create(&thread, NULL, write_stream, &s);
	peer_receives(w, 0, len);
	pthread_join(thread, NULL);
	assert_int_equal(s.result, 0);
}

static void receive(struct wire *w, size_t len)
{
	struct sender s = { .w = w, .len = len };
	pthread_t thread;

	pthread_create(&thread, NULL, send_stream, &s);
	we_receive(w, 0, len);
	pthread_join(thread, NULL);
}

static struct wire_options blocking(enum tls_context_kind kind)
{
	return (struct wire_options){ .kind = kind, .blocking = true };
}

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
	describe_auto(line, sizeof(line), "TLS_AES_128_GCM");
	assert_null(strstr(line, ACCEL_GCM));
	accel_set("priority", 10000);
	describe_auto(line, sizeof(line), "TLS_AES_128_GCM");
	assert_non_null(strstr(line, ": afalg, driver " ACCEL_GCM));
	describe_auto(line, sizeof(line), "TLS_CHACHA20");
	assert_non_null(strstr(line, ": afalg, driver " ACCEL_CHACHA));
	accel_set("priority", 1);
	describe_auto(line, sizeof(line), "TLS_CHACHA20");
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
	open_wire(&w, options);
	set_order(order);
	stream(&w, STREAM);
	s = stats(&w);
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

/* ---- Failover ---------------------------------------------------------- */

/* What fails or is refused is done by the CPU engine, and counted. */
static void goes_on(const char *what, void (*stream)(struct wire *, size_t),
		    const char *counter)
{
	const uint64_t records = STREAM / RECORD;
	struct tls_stats s;
	struct wire w;

	open_wire(&w, blocking(TLS_CONTEXT_WORKER));
	accel_set("latency_us", 2000);
	accel_set("parallelism", 4);
	if (strcmp(counter, "rejected") == 0) {
		accel_set("latency_us", 10 * 1000);
		accel_set("queue_length", 4);
		accel_set("parallelism", 1);
	} else {
		accel_set(what, strcmp(what, "tag_every") ? 7 : 5);
	}
	stream(&w, STREAM);
	s = stats(&w);
	print_message("%s: %d of %d records failed over\n", what,
		      (int)s.failovers, (int)records);
	assert_true(s.failovers > 0);
	assert_int_equal(s.failovers, accel_get(counter));
	/* more still where a queue was seen to be full */
	assert_true(s.tx_records[TLS_BY_CPU] + s.rx_records[TLS_BY_CPU] >=
		    s.failovers);
	assert_int_equal(s.tx_records[TLS_BY_CPU] + s.rx_records[TLS_BY_CPU] +
				 s.tx_records[TLS_BY_KERNEL] +
				 s.rx_records[TLS_BY_KERNEL],
			 records);
	assert_int_equal(s.connections_failed, 0);
	wire_free(&w);
	accel_restore();
}

static void a_full_queue_breaks_no_stream(void **state)
{
	static const int errnos[] = { EBUSY, ENOSPC };
	int i;

	(void)state;
	for (i = 0; i < 2; i++) {
		accel_set("full_errno", errnos[i]);
		goes_on(strerror(errnos[i]), transmit, "rejected");
		accel_set("full_errno", errnos[i]);
		goes_on(strerror(errnos[i]), receive, "rejected");
	}
}

static void a_failing_device_breaks_no_stream(void **state)
{
	(void)state;
	goes_on("fail_every", transmit, "failed");
	goes_on("fail_every", receive, "failed");
}

static void a_wrong_ebadmsg_on_receive_is_put_right(void **state)
{
	(void)state;
	goes_on("tag_every", receive, "failed");
}

/* ... and a right one counts. */
static void a_forged_record_ends_the_connection(void **state)
{
	uint8_t record[RECORD_WIRE_MAX], buf[100];
	struct wire w;
	size_t len;

	(void)state;
	open_wire(&w, blocking(TLS_CONTEXT_WORKER));
	wire_send(&w, RECORD_DATA, "good", 4);
	len = wire_seal(&w, RECORD_DATA, "forged", 6, 0, record);
	record[len - 1] ^= 1;
	wire_send_raw(&w, record, len);
	assert_int_equal(tls_read(w.conn, buf, sizeof(buf)), 4);
	assert_int_equal(tls_read(w.conn, buf, sizeof(buf)), -EBADMSG);
	assert_int_equal(tls_conn_alert_sent(w.conn), ALERT_BAD_RECORD_MAC);
	wire_free(&w);
}

static void prepare_ctx(SSL_CTX *ctx)
{
	assert_int_equal(tls_handoff_prepare(ctx), 0);
}

/* Nobody on our side can know. */
static void a_wrong_tag_on_transmit_is_an_alert_from_the_peer(void **state)
{
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *ctx;
	struct tls_conn *conn;
	struct tls_pair pair;
	char buf[100];

	(void)state;
	config.driver = ACCEL_GCM;
	assert_int_equal(tls_context_new(&ctx, &config), 0);
	assert_int_equal(tls_pair_new(&pair, &(struct tls_pair_options){
						     .prepare_ctx =
							     prepare_ctx }),
			 0);
	if (tls_handoff(&conn, ctx, pair.server))
		fail_msg("%s", tls_last_error());
	accel_set("fail_ops", ACCEL_SEAL);
	accel_set("tag_every", 1);
	assert_int_equal(tls_write(conn, "spoilt", 6), 6);
	assert_int_equal(tls_flush(conn), 0);
	assert_int_equal(SSL_read(pair.client, buf, sizeof(buf)), -1);
	assert_int_equal(ERR_GET_REASON(ERR_get_error()),
			 SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC);
	assert_int_equal(tls_read(conn, buf, sizeof(buf)), -EPROTO);
	assert_int_equal(tls_conn_alert_received(conn), ALERT_BAD_RECORD_MAC);
	assert_int_equal(tls_close(conn, 1000), -EPROTO);
	tls_context_free(ctx);
	tls_pair_free(&pair);
}

/* ---- A sink ------------------------------------------------------------ */

/* Takes all that comes and looks at nothing, until the stream ends. */
static void *drain(void *arg)
{
	static uint8_t buf[1 << 18];
	const int *fd = arg;

	while (recv(*fd, buf, sizeof(buf), 0) > 0)
		;
	return NULL;
}

struct sink {
	struct wire w;
	pthread_t thread;
};

/* A connection to a sink, on a null cipher. */
static void open_sink(struct sink *sink, enum tls_context_kind kind,
		      unsigned depth)
{
	struct wire_options options = blocking(kind);

	options.depth = depth;
	options.not_recorded = true; /* what is measured is not the test */
	open_wire(&sink->w, options);
	accel_set("null_cipher", 1);
	pthread_create(&sink->thread, NULL, drain, &sink->w.fd);
}

static void close_sink(struct sink *sink)
{
	tls_close(sink->w.conn, 0);
	sink->w.conn = NULL;
	shutdown(sink->w.conn_fd, SHUT_RDWR);
	pthread_join(sink->thread, NULL);
	wire_free(&sink->w);
	accel_restore();
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

	open_sink(&sink, kind, 32);
	accel_set("parallelism", 32);
	accel_set("latency_us", latency_us);
	for (i = 0; i < ROUNDS * WRITES; i++) {
		uint64_t before = now_ns();

		assert_int_equal(tls_write(sink.w.conn, buf, RECORD), RECORD);
		times[i] = now_ns() - before;
		if (i % WRITES == WRITES - 1)
			assert_int_equal(tls_flush(sink.w.conn), 0);
	}
	close_sink(&sink);
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

/* ---- Deferred transmit ------------------------------------------------- */

enum { AWAY = 1500 /* ms */, LATENCY = 50 };

/* An application that writes once and is then away. */
struct away {
	struct wire *w;
	void (*how)(uint64_t until);
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

	if (pipe(fd))
		return;
	if (fork() == 0) {
		sleeps(until);
		_exit(write(fd[1], "x", 1) != 1);
	}
	while (read(fd[0], &byte, 1) < 0 && errno == EINTR)
		;
	wait(NULL);
	close(fd[0]);
	close(fd[1]);
}

static void *write_and_go(void *arg)
{
	struct away *away = arg;
	static uint8_t buf[3 * RECORD];

	pattern_fill(buf, 0, sizeof(buf));
	away->written = now_ns();
	tls_write(away->w->conn, buf, sizeof(buf));
	away->how(away->written + AWAY * NS_PER_MS);
	away->back = true;
	return NULL;
}

static void leaves_without(void (*how)(uint64_t), const char *words)
{
	struct away away = { .how = how };
	pthread_t thread;
	struct wire w;
	double ms;

	open_wire(&w, blocking(TLS_CONTEXT_WORKER));
	accel_set("latency_us", LATENCY * 1000);
	accel_set("parallelism", 8);
	away.w = &w;
	pthread_create(&thread, NULL, write_and_go, &away);
	peer_receives(&w, 0, 3 * RECORD);
	ms = ms_since(away.written);
	assert_false(away.back);
	print_message("application %s: at the peer after %.1f ms\n", words, ms);
	assert_true(ms < LATENCY + AWAY / 3.0);
	pthread_join(thread, NULL);
	assert_true(stats(&w).deferred_run > 0);
	wire_free(&w);
	accel_restore();
}

static void what_is_written_leaves_while_the_application_sleeps(void **state)
{
	(void)state;
	leaves_without(sleeps, "sleeps");
}

static void what_is_written_leaves_while_the_application_computes(
	void **state)
{
	(void)state;
	leaves_without(computes, "computes");
}

static void what_is_written_leaves_while_the_application_blocks(void **state)
{
	(void)state;
	leaves_without(blocks_in_read, "blocks in read(2)");
}

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

	open_sink(&sink, kind, 64);
	r = bulk(&sink, 64, 0, 600);
	close_sink(&sink);
	return r.records;
}

/* With a device that needs two fifths of what can be had without latency. */
static double utilisation(enum tls_context_kind kind, unsigned parallelism,
			  unsigned depth)
{
	double most = ceiling(kind);
	long latency_us = (long)(parallelism / (0.4 * most) * 1e6);
	struct sink sink;
	struct rate r;

	open_sink(&sink, kind, depth);
	r = bulk(&sink, parallelism, latency_us, 1000);
	close_sink(&sink);
	print_message("%s: %.0f records/s without latency; parallelism %u, "
		      "latency %.1f ms, depth %u: %.0f records/s, busy %.1f "
		      "%%\n", kind ? "loop" : "worker", most, parallelism,
		      (double)latency_us / 1000, depth, r.records,
		      r.utilisation * 100);
	return r.utilisation;
}

/* Measured again where the host was busy with something else meanwhile. */
static void one_connection_keeps_the_accelerator_busy(void **state)
{
	const unsigned parallelism = 8, depths[] = { 16, 32 };
	double busy;
	int i;

	(void)state;
	for (i = 0; i < 4; i++) {
		int tries = 4;

		do
			busy = utilisation(i / 2, parallelism, depths[i % 2]);
		while (busy < 0.95 && --tries);
		assert_true(busy >= 0.95);
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

		open_sink(&sink, TLS_CONTEXT_LOOP, depths[i]);
		for (j = 0; j < 3; j++) {
			struct rate r = bulk(&sink, parallelism,
					     latencies[j] * 1000, 400);

			len += snprintf(line + len, sizeof(line) - (size_t)len,
					"  %6.0f %3.0f %%", r.records,
					r.utilisation * 100);
		}
		print_message("%s\n", line);
		close_sink(&sink);
	}
}

/* ---- Requests that never complete -------------------------------------- */

enum { HELD = 8 };

static void hold(struct wire *w, int op)
{
	static uint8_t buf[HELD * RECORD];
	struct tls_stats s;

	accel_set("fail_ops", op);
	accel_set("hold_every", 1);
	if (op == ACCEL_SEAL) {
		assert_int_equal(tls_write(w->conn, buf, sizeof(buf)),
				 sizeof(buf));
	} else {
		struct sender sender = { .w = w, .len = sizeof(buf) };

		send_stream(&sender);
		s = stats(w);
		while (accel_get("held") < HELD && s.rx_in_flight_peak < HELD) {
			assert_int_equal(tls_context_process(w->ctx), 0);
			s = stats(w);
		}
	}
	accel_wait_for("held", HELD);
	accel_set("hold_every", 0);
}

static void close_with_held(enum tls_context_kind kind, int op)
{
	struct wire_options options = { .kind = kind };
	struct sender s = { .len = STREAM };
	pthread_t thread;
	uint64_t start;
	struct wire w;
	ssize_t lost;

	open_wire(&w, options);
	hold(&w, op);
	start = now_ns();
	lost = tls_close(w.conn, 100);
	print_message("tls_close() returned %zd after %.0f ms\n", lost,
		      ms_since(start));
	assert_true(ms_since(start) < 2000);
	assert_int_equal(lost, op == ACCEL_SEAL ? HELD * RECORD : 0);
	w.conn = NULL;
	assert_int_equal(accel_get("held"), HELD);

	/* Let go in the middle of another connection's stream. */
	options.blocking = true;
	wire_reopen(&w, &options);
	s.w = &w;
	if (kind == TLS_CONTEXT_WORKER) {
		pthread_create(&thread, NULL, write_stream, &s);
		peer_receives(&w, 0, STREAM / 4);
		accel_set("release", 0);
		peer_receives(&w, STREAM / 4, STREAM - STREAM / 4);
	} else {
		pthread_create(&thread, NULL, send_stream, &s);
		we_receive(&w, 0, STREAM / 4);
		accel_set("release", 0);
		we_receive(&w, STREAM / 4, STREAM - STREAM / 4);
	}
	pthread_join(thread, NULL);
	accel_wait_idle();
	assert_int_equal(accel_get("held"), 0);
	wire_free(&w);
	accel_restore();
}

static void close_does_not_hang_on_a_held_request(void **state)
{
	(void)state;
	close_with_held(TLS_CONTEXT_WORKER, ACCEL_SEAL);
	close_with_held(TLS_CONTEXT_LOOP, ACCEL_SEAL);
	close_with_held(TLS_CONTEXT_WORKER, ACCEL_OPEN);
	close_with_held(TLS_CONTEXT_LOOP, ACCEL_OPEN);
}

static void a_context_with_held_requests_can_be_freed(void **state)
{
	int kind, descriptors = count_descriptors();
	uint64_t start;
	struct wire w;

	(void)state;
	for (kind = TLS_CONTEXT_WORKER; kind <= TLS_CONTEXT_LOOP; kind++) {
		open_wire(&w, (struct wire_options){ .kind = kind });
		hold(&w, ACCEL_SEAL);
		start = now_ns();
		wire_free(&w);
		print_message("freed in %.0f ms\n", ms_since(start));
		assert_true(ms_since(start) < 2000);
		assert_int_equal(accel_get("held"), HELD);
		accel_set("release", kind ? ESHUTDOWN : 0);
		accel_wait_idle();
		assert_int_equal(count_descriptors(), descriptors);
		accel_restore();
	}
}

/* ---- fork() ------------------------------------------------------------ */

/* A child that finds out that nothing is its own, and lives a while. */
static pid_t spawn_child(struct wire *w)
{
	uint8_t buf[100] = { 0 };
	pid_t pid = fork();

	if (pid)
		return pid;
	if (tls_write(w->conn, buf, sizeof(buf)) != -EPERM ||
	    tls_read(w->conn, buf, sizeof(buf)) != -EPERM ||
	    tls_flush(w->conn) != -EPERM ||
	    tls_close(w->conn, 0) != -EPERM || !*tls_last_error())
		_exit(1);
	usleep(50 * 1000);
	_exit(0);
}

static void assert_exited(pid_t pid)
{
	int status;

	assert_true(pid > 0);
	while (waitpid(pid, &status, 0) < 0)
		assert_int_equal(errno, EINTR);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* Small enough for a flush that nobody receives yet. */
enum { IN_FLIGHT = 16, SMALL = 4096, FORKS = 4 };

static void write_small_records(struct wire *w, size_t from)
{
	uint8_t buf[SMALL];
	size_t done;

	for (done = 0; done < IN_FLIGHT * SMALL; done += SMALL) {
		pattern_fill(buf, from + done, SMALL);
		assert_int_equal(tls_write(w->conn, buf, SMALL), SMALL);
		memset(buf, 0xee, SMALL);
	}
}

static void fork_while_sealing(enum tls_context_kind kind)
{
	const size_t len = IN_FLIGHT * SMALL;
	pid_t pids[FORKS];
	struct wire w;
	int i;

	open_wire(&w, blocking(kind));
	accel_set("latency_us", 30 * 1000);
	accel_set("parallelism", IN_FLIGHT);
	for (i = 0; i < FORKS; i++) {
		write_small_records(&w, i * len);
		assert_true(accel_get("outstanding") > 0);
		pids[i] = spawn_child(&w);
		assert_int_equal(tls_flush(w.conn), 0);
		peer_receives(&w, i * len, len);
	}
	for (i = 0; i < FORKS; i++)
		assert_exited(pids[i]);
	assert_int_equal(stats(&w).failovers, 0);
	wire_free(&w);
	accel_restore();
}

static void fork_while_opening(enum tls_context_kind kind)
{
	struct sender s = { .len = IN_FLIGHT * RECORD };
	pid_t pids[FORKS];
	struct wire w;
	int i;

	open_wire(&w, (struct wire_options){ .kind = kind });
	accel_set("latency_us", 30 * 1000);
	accel_set("parallelism", IN_FLIGHT);
	s.w = &w;
	for (i = 0; i < FORKS; i++, s.from += s.len) {
		send_stream(&s);
		while (!accel_get("outstanding"))
			assert_int_equal(tls_context_process(w.ctx), 0);
		pids[i] = spawn_child(&w);
		set_blocking(w.conn_fd, true);
		we_receive(&w, s.from, s.len);
		set_blocking(w.conn_fd, false);
	}
	for (i = 0; i < FORKS; i++)
		assert_exited(pids[i]);
	assert_int_equal(stats(&w).failovers, 0);
	wire_free(&w);
	accel_restore();
}

static void fork_with_records_in_flight_corrupts_nothing(void **state)
{
	int kind;

	(void)state;
	for (kind = TLS_CONTEXT_WORKER; kind <= TLS_CONTEXT_LOOP; kind++) {
		fork_while_sealing(kind);
		fork_while_opening(kind);
	}
}

/* ---- ------------------------------------------------------------------- */

#define TEST(name) cmocka_unit_test_setup_teardown(name, restore, restore)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(auto_takes_the_accelerator_when_it_is_the_systems_first),
		TEST(a_stream_sealed_in_any_order_of_completion_is_right),
		TEST(a_stream_opened_in_any_order_of_completion_is_right),
		TEST(a_full_queue_breaks_no_stream),
		TEST(a_failing_device_breaks_no_stream),
		TEST(a_wrong_ebadmsg_on_receive_is_put_right),
		TEST(a_forged_record_ends_the_connection),
		TEST(a_wrong_tag_on_transmit_is_an_alert_from_the_peer),
		TEST(control_returns_at_once),
		TEST(what_is_written_leaves_while_the_application_sleeps),
		TEST(what_is_written_leaves_while_the_application_computes),
		TEST(what_is_written_leaves_while_the_application_blocks),
		TEST(one_connection_keeps_the_accelerator_busy),
		TEST(throughput_against_depth),
		TEST(close_does_not_hang_on_a_held_request),
		TEST(a_context_with_held_requests_can_be_freed),
		TEST(fork_with_records_in_flight_corrupts_nothing),
	};

	if (!accel_present()) {
		print_message("asynctls_accel is not loaded (tests/kmod)\n");
		return SKIPPED;
	}
	cmocka_set_test_filter(getenv("ASYNCTLS_TESTS"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
