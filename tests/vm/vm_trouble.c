/* SPDX-License-Identifier: MIT */
/*
 * What can happen while a kernel driver has records of a connection: forged
 * ones, the end of the connection, of the context or of a forked child, no
 * descriptors, kTLS. The driver completes later, from another CPU.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/bio.h>

#include "afalg_setup.h"
#include "asynctls.h"
#include "base/util.h"
#include "both.h"
#include "record/record.h"
#include "tls_pair.h"
#include "wire.h"

enum { BURST = 512 << 10, ALERT_BAD_MAC = 20 };

static const enum tls_context_kind kinds[] = { TLS_CONTEXT_LOOP,
					       TLS_CONTEXT_WORKER };
static uint8_t *data; /* BURST bytes of the pattern */

static struct tls_context *new_context(enum tls_context_kind kind)
{
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *ctx;

	config.kind = kind;
	config.driver = parallel_driver;
	config.deadline_ms = 20000; /* a busy host may stop the VM */
	if (tls_context_new(&ctx, &config))
		fail_msg("%s", tls_last_error());
	return ctx;
}

static struct tls_stats stats(struct tls_context *ctx)
{
	struct tls_stats s;

	assert_int_equal(tls_context_stats(ctx, &s, sizeof(s)), 0);
	return s;
}

/* Let it do what it has to do, for so long, whatever events there are. */
static void let_run(struct tls_context *ctx, int ms)
{
	uint64_t now = now_ns(), end = now + (uint64_t)ms * NS_PER_MS;
	struct tls_event events[4];

	for (; now < end; now = now_ns())
		tls_context_wait(ctx, events, 4,
				 (int)((end - now) / NS_PER_MS) + 1);
}

/* Leave records of end 0 with the driver; returns how many bytes they are. */
static size_t write_burst(struct both *b)
{
	ssize_t n = tls_write(b->conn[0], data, BURST);

	assert_true(n > 0);
	return (size_t)n;
}

/* ---- Forged records ---------------------------------------------------- */

static void forged(const char *driver, enum tls_context_kind kind)
{
	struct wire_options options = {
		.blocking = true, .tcp = true, .kind = kind, .driver = driver
	};
	static uint8_t buf[8 * 5000], records[8 * RECORD_WIRE_MAX];
	size_t len = 0, at = 0, got = 0;
	struct wire w;
	ssize_t n;
	int i;

	wire_new(&w, &options);
	for (i = 0; i < 8; i++) {
		if (i == 5)
			at = len + 2000;
		len += wire_seal(&w, 23, data + i * 5000, 5000, 0,
				 records + len);
	}
	records[at] ^= 0x10;
	wire_send_raw(&w, records, len);
	while ((n = tls_read(w.conn, buf + got, sizeof(buf) - got)) > 0)
		got += (size_t)n;
	assert_int_equal(n, -EBADMSG);
	assert_int_equal(got, 5 * 5000);
	assert_memory_equal(buf, data, got);
	assert_int_equal(tls_conn_alert_sent(w.conn), ALERT_BAD_MAC);
	while (kind == TLS_CONTEXT_LOOP && wire_silent(&w))
		assert_int_equal(tls_context_process(w.ctx), 0);
	wire_expect_alert(&w, ALERT_BAD_MAC);
	assert_int_equal(tls_write(w.conn, "x", 1), -EBADMSG);
	print_message("%s: %s; by the kernel %ju of %ju\n", driver,
		      tls_conn_error(w.conn),
		      stats(w.ctx).rx_records[TLS_BY_KERNEL],
		      stats(w.ctx).rx_records[TLS_BY_KERNEL] +
			      stats(w.ctx).rx_records[TLS_BY_CPU]);
	assert_true(stats(w.ctx).rx_records[TLS_BY_KERNEL] >= 5);
	wire_free(&w);
}

static void test_forged(void **state)
{
	int i;

	(void)state;
	for (i = 0; i < 2; i++) {
		forged(generic_driver, kinds[i]);
		forged(parallel_driver, kinds[i]);
	}
}

/* ---- The end of a connection, and of a context ------------------------- */

/*
 * Closed at different moments, with records of both ends at the driver. Their
 * memory comes back, or a server would grow with each client that goes away.
 */
static void close_in_flight(enum tls_context_kind kind)
{
	enum { TIMES = 24 };
	struct tls_context *ctx = new_context(kind);
	struct tls_stats s;
	struct both b;
	int i;

	for (i = 0; i < TIMES; i++) {
		both_open(&b, ctx);
		write_burst(&b);
		let_run(ctx, i % 6);
		both_close(&b);
	}
	both_open(&b, ctx);
	both_transfer(&b, 1 << 20);
	both_close(&b);
	let_run(ctx, 100);
	s = stats(ctx);
	print_message("in flight %ju tx %ju rx; op sockets %ju of %ju; memory "
		      "%ju of %ju, parked %ju\n",
		      s.tx_in_flight_peak, s.rx_in_flight_peak,
		      s.op_sockets_now, s.op_sockets_peak, s.memory_now,
		      s.memory_peak, s.memory_parked);
	assert_true(s.tx_in_flight_peak > 1 && s.rx_in_flight_peak > 1);
	assert_int_equal(s.op_sockets_now, 0);
	assert_int_equal(s.memory_now, 0);
	assert_int_equal(s.connections_now, 0);
	assert_int_equal(s.memory_parked, 0);
	tls_context_free(ctx);
}

static void test_close_in_flight(void **state)
{
	int before = count_descriptors();

	(void)state;
	close_in_flight(TLS_CONTEXT_LOOP);
	close_in_flight(TLS_CONTEXT_WORKER);
	assert_int_equal(count_descriptors(), before);
}

static void test_free_in_flight(void **state)
{
	int before = count_descriptors();
	struct tls_context *ctx;
	struct both b;
	int i;

	(void)state;
	for (i = 0; i < 6; i++) {
		ctx = new_context(kinds[i & 1]);
		both_open(&b, ctx);
		write_burst(&b);
		let_run(ctx, i);
		tls_context_free(ctx);
		close(b.fd[0]);
		close(b.fd[1]);
	}
	assert_int_equal(count_descriptors(), before);
}

/* ---- fork() ------------------------------------------------------------ */

/* Everything is refused, and what is written to memory is the child's own. */
static int in_child(struct both *b)
{
	struct tls_event event;
	struct tls_stats s;
	uint8_t buf[100];

	memset(data, 0, BURST);
	if (tls_write(b->conn[0], data, 100) != -EPERM ||
	    tls_flush(b->conn[0]) != -EPERM ||
	    tls_read(b->conn[1], buf, sizeof(buf)) != -EPERM ||
	    tls_context_process(b->ctx) != -EPERM ||
	    tls_context_wait(b->ctx, &event, 1, 0) != -EPERM ||
	    tls_context_stats(b->ctx, &s, sizeof(s)) != -EPERM ||
	    tls_close(b->conn[0], 0) != -EPERM)
		return 1;
	tls_context_free(b->ctx);
	return 0;
}

static void fork_in_flight(struct tls_context *ctx)
{
	struct both b;
	size_t n;
	pid_t child;
	int status;

	both_open(&b, ctx);
	n = write_burst(&b);
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(in_child(&b));
	both_receive(&b, n);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	both_transfer(&b, 256 << 10);
	both_close(&b);
}

static void test_fork_in_flight(void **state)
{
	struct tls_context *ctx;
	int i, k;

	(void)state;
	for (k = 0; k < 2; k++) {
		ctx = new_context(kinds[k]);
		for (i = 0; i < 4; i++)
			fork_in_flight(ctx);
		assert_true(stats(ctx).tx_records[TLS_BY_KERNEL] > 0);
		tls_context_free(ctx);
	}
}

/* ---- Descriptors ------------------------------------------------------- */

static struct rlimit all_descriptors;

/* As if all were in use. */
static void exhaust_descriptors(void)
{
	struct rlimit now = all_descriptors;
	int lowest = dup(0);

	assert_true(lowest >= 0);
	close(lowest);
	now.rlim_cur = (rlim_t)lowest;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
	assert_int_equal(dup(0), -1);
}

/* Also when a test has failed: the next one needs some. */
static int restore_descriptors(void **state)
{
	(void)state;
	return setrlimit(RLIMIT_NOFILE, &all_descriptors);
}

/* From the beginning: not even a transform socket can be had. */
static void test_no_descriptors(void **state)
{
	struct tls_context *ctx;
	struct tls_stats s;
	struct both b;
	int i;

	need_cpu_engine();
	ctx = new_context(TLS_CONTEXT_LOOP);
	both_open(&b, ctx);
	exhaust_descriptors();
	both_transfer(&b, 1 << 20);
	s = stats(ctx);
	assert_int_equal(s.tx_records[TLS_BY_KERNEL], 0);
	assert_int_equal(s.tx_bytes[TLS_BY_CPU], 1 << 20);
	restore_descriptors(state);
	/* it is given a rest, and then another try */
	for (i = 0; i < 10 && !s.tx_records[TLS_BY_KERNEL]; i++) {
		let_run(ctx, 1000);
		both_transfer(&b, 256 << 10);
		s = stats(ctx);
	}
	print_message("%ju failovers; after %d s %ju records by the kernel\n",
		      s.failovers, i, s.tx_records[TLS_BY_KERNEL]);
	assert_true(s.tx_records[TLS_BY_KERNEL] > 0);
	both_close(&b);
	tls_context_free(ctx);
}

/* With some op sockets open, and no more to be had. */
static void few_descriptors(enum tls_context_kind kind)
{
	struct tls_context *ctx = new_context(kind);
	struct tls_stats before, after;
	struct both b;

	both_open(&b, ctx);
	both_transfer(&b, 32 << 10);
	before = stats(ctx);
	exhaust_descriptors();
	both_transfer(&b, 2 << 20);
	after = stats(ctx);
	restore_descriptors(NULL);
	print_message("op sockets %ju, later %ju; %ju records by the kernel, "
		      "%ju by the CPU, %ju failovers\n",
		      before.op_sockets_now, after.op_sockets_peak,
		      after.tx_records[TLS_BY_KERNEL],
		      after.tx_records[TLS_BY_CPU], after.failovers);
	assert_true(after.tx_records[TLS_BY_CPU] > 0);
	assert_true(after.tx_records[TLS_BY_KERNEL] >
		    before.tx_records[TLS_BY_KERNEL]);
	assert_int_equal(after.connections_failed, 0);
	both_close(&b);
	tls_context_free(ctx);
}

static void test_few_descriptors(void **state)
{
	(void)state;
	need_cpu_engine();
	few_descriptors(TLS_CONTEXT_LOOP);
	few_descriptors(TLS_CONTEXT_WORKER);
}

/* At most 8 s, if this CPU has much else to do. */
static void rest_until(struct tls_context *ctx, enum tls_context_kind kind,
		       int descriptors)
{
	int i;

	for (i = 0; i < 80; i++) {
		if (!stats(ctx).op_sockets_now &&
		    (!descriptors || count_descriptors() == descriptors))
			return;
		if (kind == TLS_CONTEXT_LOOP)
			let_run(ctx, 100);
		else
			usleep(100000);
	}
}

/*
 * Operation sockets of a connection at rest are closed again, and then the
 * transform sockets of its keys: a descriptor of its own is all it has.
 */
static void test_idle_op_sockets(void **state)
{
	struct tls_context *ctx;
	int i, descriptors;
	struct tls_stats s;
	struct both b;

	(void)state;
	for (i = 0; i < 2; i++) {
		ctx = new_context(kinds[i]);
		both_open(&b, ctx);
		descriptors = count_descriptors();
		both_transfer(&b, 1 << 20);
		s = stats(ctx);
		assert_true(s.op_sockets_now > 0);
		rest_until(ctx, kinds[i], 0);
		assert_int_equal(stats(ctx).op_sockets_now, 0);
		assert_true(count_descriptors() > descriptors);
		both_transfer(&b, 1 << 20);
		rest_until(ctx, kinds[i], descriptors);
		assert_int_equal(count_descriptors(), descriptors);
		both_transfer(&b, 1 << 20);
		assert_true(stats(ctx).tx_records[TLS_BY_KERNEL] >
			    s.tx_records[TLS_BY_KERNEL]);
		assert_int_equal(stats(ctx).failovers, s.failovers);
		both_close(&b);
		tls_context_free(ctx);
	}
}

/* ---- kTLS -------------------------------------------------------------- */

static void prepare_ktls(SSL_CTX *ctx)
{
	SSL_CTX_set_options(ctx, SSL_OP_ENABLE_KTLS);
	assert_int_equal(tls_handoff_prepare(ctx), 0);
}

static void exchange(SSL *from, SSL *to)
{
	static uint8_t buf[5000];
	size_t got = 0;
	int n;

	assert_int_equal(SSL_write(from, data, sizeof(buf)), sizeof(buf));
	while (got < sizeof(buf)) {
		n = SSL_read(to, buf + got, (int)(sizeof(buf) - got));
		assert_true(n > 0);
		got += (size_t)n;
	}
	assert_memory_equal(buf, data, sizeof(buf));
}

/* What the kernel does already is left to it. */
static void test_ktls(void **state)
{
	struct tls_pair_options options = { .suite = "TLS_AES_128_GCM_SHA256",
					    .prepare_ctx = prepare_ktls };
	struct tls_context *ctx = new_context(TLS_CONTEXT_LOOP);
	struct tls_conn *conn;
	struct tls_pair pair;
	SSL *ends[2];
	int i;

	(void)state;
	assert_int_equal(tls_pair_new(&pair, &options), 0);
	ends[0] = pair.server;
	ends[1] = pair.client;
	for (i = 0; i < 2; i++) {
		assert_true(BIO_get_ktls_send(SSL_get_wbio(ends[i])));
		assert_int_equal(tls_handoff(&conn, ctx, ends[i]), -EOPNOTSUPP);
		print_message("%s\n", tls_last_error());
		assert_non_null(strstr(tls_last_error(), "kTLS"));
	}
	exchange(pair.server, pair.client);
	exchange(pair.client, pair.server);
	tls_pair_free(&pair);
	tls_context_free(ctx);
}

/* ---- ------------------------------------------------------------------- */

static int make_data(void **state)
{
	data = malloc(BURST);
	if (!data || getrlimit(RLIMIT_NOFILE, &all_descriptors))
		return -1;
	pattern_fill(data, 0, BURST);
	return find_drivers(state);
}

static int free_data(void **state)
{
	(void)state;
	free(data);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ktls),
		cmocka_unit_test(test_forged),
		cmocka_unit_test(test_close_in_flight),
		cmocka_unit_test(test_free_in_flight),
		cmocka_unit_test(test_fork_in_flight),
		cmocka_unit_test_teardown(test_no_descriptors,
					  restore_descriptors),
		cmocka_unit_test_teardown(test_few_descriptors,
					  restore_descriptors),
		cmocka_unit_test(test_idle_op_sockets),
	};

	cmocka_set_test_filter(getenv("ASYNCTLS_TESTS"));
	return cmocka_run_group_tests_name("trouble", tests, make_data,
					   free_data);
}
