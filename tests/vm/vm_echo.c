/* SPDX-License-Identifier: MIT */
/*
 * The whole library on a kernel that has AF_ALG: what one side sends comes
 * back, through kernel drivers that complete at once and later, to clients of
 * this library and of OpenSSL, one and many.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "afalg_setup.h"
#include "asynctls.h"
#include "both.h"
#include "echo.h"
#include "tls_pair.h"
#include "wire.h"

enum {
	MANY = 200,
	MANY_BYTES = 32 << 10,
	TOTAL = 16 << 20,
	LESS = 4 << 20,
};

static const char aes_128[] = "TLS_AES_128_GCM_SHA256";
static const char aes_256[] = "TLS_AES_256_GCM_SHA384";
static const char chacha[] = "TLS_CHACHA20_POLY1305_SHA256";

static uint8_t *data; /* TOTAL bytes of the pattern */

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* ---- Connections ------------------------------------------------------- */

static void prepare_server(SSL_CTX *ctx)
{
	if (SSL_CTX_get_ssl_method(ctx) == TLS_server_method())
		assert_int_equal(tls_handoff_prepare(ctx), 0);
}

static void prepare_both(SSL_CTX *ctx)
{
	assert_int_equal(tls_handoff_prepare(ctx), 0);
}

/* Handshake, and give the server's end to the echo server. */
static struct tls_pair connect_to(struct echo *e,
				  const struct tls_pair_options *options)
{
	struct tls_pair pair;

	assert_int_equal(tls_pair_new(&pair, options), 0);
	set_blocking(pair.fd[0], false);
	echo_serve(e, pair.server, pair.fd[0]);
	pair.server = NULL;
	pair.fd[0] = -1;
	return pair;
}

static struct tls_config with_driver(const char *driver)
{
	struct tls_config config = TLS_CONFIG_INIT;

	config.engine = TLS_ENGINE_AFALG;
	config.driver = driver;
	config.deadline_ms = 20000; /* a busy host may stop the VM */
	return config;
}

/* ---- What is asserted -------------------------------------------------- */

static void report(const char *who, const struct tls_stats *s, double took)
{
	print_message("%s: %.1f s, tx %ju cpu %ju kernel, rx %ju cpu %ju "
		      "kernel, in flight %ju tx %ju rx, failovers %ju, out of "
		      "order %ju, op sockets %ju, enters %ju, sends %ju\n",
		      who, took, s->tx_records[TLS_BY_CPU],
		      s->tx_records[TLS_BY_KERNEL], s->rx_records[TLS_BY_CPU],
		      s->rx_records[TLS_BY_KERNEL], s->tx_in_flight_peak,
		      s->rx_in_flight_peak, s->failovers, s->out_of_order,
		      s->op_sockets_peak, s->enters, s->sends);
}

/* Nearly every record went through the kernel, both ways. */
static void assert_by_kernel(const struct tls_stats *s, size_t len)
{
	assert_true(s->tx_bytes[TLS_BY_KERNEL] >= len / 100 * 99);
	assert_true(s->rx_bytes[TLS_BY_KERNEL] >= len / 100 * 99);
	assert_int_equal(s->connections_failed, 0);
}

static void assert_in_flight(const struct tls_stats *s)
{
	assert_true(s->tx_in_flight_peak > 1);
	assert_true(s->rx_in_flight_peak > 1);
}

static struct tls_stats stop_echo(struct echo *e, double begin, size_t expect)
{
	struct echo_report r;

	echo_stop(e, &r);
	report("server", &r.end, seconds() - begin);
	if (r.words[0])
		fail_msg("%s", r.words);
	assert_int_equal(r.bytes, expect);
	assert_int_equal(r.end.connections_now, 0);
	return r.end;
}

/* ---- There and back ---------------------------------------------------- */

/*
 * The emulated processor bounds it, with some 650 records a second: what is
 * shown by another test already is shown by less.
 */

static void echo_library(const char *suite, const char *driver, bool async,
			 size_t len)
{
	struct tls_pair_options options = { .suite = suite,
					    .prepare_ctx = prepare_both };
	struct tls_config config = with_driver(driver);
	double begin = seconds();
	struct echo *e = echo_start(&config, len);
	struct tls_pair pair = connect_to(e, &options);
	struct tls_context *ctx;
	struct tls_conn *conn = NULL;
	struct tls_stats s;
	const char *words;
	char name[256];

	if (tls_context_new(&ctx, &config) ||
	    tls_handoff(&conn, ctx, pair.client))
		fail_msg("%s", tls_last_error());
	tls_conn_describe(conn, name, sizeof(name));
	print_message("%s\n", name);
	words = echo_by_library(conn, data, len);
	if (words)
		fail_msg("%s", words);
	assert_int_equal(tls_close(conn, 1000), 0);
	tls_context_stats(ctx, &s, sizeof(s));
	report("client", &s, seconds() - begin);
	tls_context_free(ctx);
	tls_pair_free(&pair);
	assert_by_kernel(&s, len);
	if (async)
		assert_in_flight(&s);
	s = stop_echo(e, begin, len);
	assert_by_kernel(&s, len);
	if (async)
		assert_in_flight(&s);
}

static void echo_openssl(const char *suite, const char *driver, bool async,
			 size_t len)
{
	struct tls_pair_options options = { .suite = suite,
					    .prepare_ctx = prepare_server };
	struct tls_config config = with_driver(driver);
	double begin = seconds();
	struct echo *e = echo_start(&config, len);
	struct tls_pair pair = connect_to(e, &options);
	struct tls_stats s;
	const char *words;

	set_blocking(pair.fd[1], false);
	words = echo_by_openssl(pair.client, data, len);
	if (words)
		fail_msg("%s", words);
	s = stop_echo(e, begin, len);
	tls_pair_free(&pair);
	assert_by_kernel(&s, len);
	if (async)
		assert_in_flight(&s);
}

/* The plain drivers, with little room before what they seal. */
static void test_inline_tls12(void **state)
{
	(void)state;
	echo_library("ECDHE-ECDSA-AES128-GCM-SHA256", generic_driver, false,
		     LESS);
	echo_openssl("ECDHE-ECDSA-AES256-GCM-SHA384", generic_driver, false,
		     LESS);
	echo_library("ECDHE-ECDSA-CHACHA20-POLY1305", NULL, false, LESS);
	echo_openssl("ECDHE-ECDSA-CHACHA20-POLY1305", NULL, false, LESS);
}

static void test_ccm(void **state)
{
	(void)state;
	echo_library("TLS_AES_128_CCM_SHA256", NULL, false, LESS);
	echo_openssl("TLS_AES_128_CCM_SHA256", NULL, false, LESS);
	echo_library("ECDHE-ECDSA-AES128-CCM", NULL, false, LESS);
	echo_openssl("ECDHE-ECDSA-AES256-CCM", NULL, false, LESS);
}

static void test_async_tls12(void **state)
{
	(void)state;
	echo_library("ECDHE-ECDSA-AES256-GCM-SHA384", parallel_driver, true,
		     LESS);
	echo_openssl("ECDHE-ECDSA-AES128-GCM-SHA256", parallel_driver, true,
		     LESS);
}

static void test_inline_aes_128_library(void **state)
{
	(void)state;
	echo_library(aes_128, generic_driver, false, TOTAL);
}

static void test_inline_aes_128_openssl(void **state)
{
	(void)state;
	echo_openssl(aes_128, generic_driver, false, TOTAL);
}

static void test_inline_aes_256_library(void **state)
{
	(void)state;
	echo_library(aes_256, generic_driver, false, TOTAL);
}

static void test_inline_aes_256_openssl(void **state)
{
	(void)state;
	echo_openssl(aes_256, generic_driver, false, TOTAL);
}

static void test_async_aes_128_library(void **state)
{
	(void)state;
	echo_library(aes_128, parallel_driver, true, TOTAL);
}

static void test_async_aes_128_openssl(void **state)
{
	(void)state;
	echo_openssl(aes_128, parallel_driver, true, TOTAL);
}

static void test_async_aes_256_library(void **state)
{
	(void)state;
	echo_library(aes_256, parallel_driver, true, TOTAL);
}

static void test_async_aes_256_openssl(void **state)
{
	(void)state;
	echo_openssl(aes_256, parallel_driver, true, TOTAL);
}

static void test_chacha_library(void **state)
{
	(void)state;
	echo_library(chacha, NULL, false, LESS);
}

static void test_chacha_openssl(void **state)
{
	(void)state;
	echo_openssl(chacha, NULL, false, LESS);
}

/* ---- What is chosen without being named -------------------------------- */

static bool in_proc_crypto(const char *words)
{
	FILE *file = fopen("/proc/crypto", "re");
	bool found = false;
	char line[256];

	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		found |= strstr(line, words) != NULL;
	fclose(file);
	return found;
}

/* Every cipher by the CPU, and words that say why not by the kernel. */
static void assert_auto(const char *gcm_why)
{
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *ctx;
	char text[4096], *line, *next;

	if (tls_context_new(&ctx, &config))
		fail_msg("%s", tls_last_error());
	tls_context_describe(ctx, text, sizeof(text));
	print_message("%s", text);
	for (line = strtok_r(text, "\n", &next); line;
	     line = strtok_r(NULL, "\n", &next)) {
		const char *why = strstr(line, "-GCM")
					  ? gcm_why
					  : "completes inside submit";

		if (strncmp(line, "sockets: ", 9) == 0)
			continue;
		assert_non_null(strstr(line, ": cpu, "));
		assert_non_null(strstr(line, "not afalg: "));
		if (!strstr(line, why))
			fail_msg("does not say \"%s\"", why);
	}
	tls_context_free(ctx);
}

/* First of all, since nothing takes an instance of pcrypt back. */
static void test_auto_stock(void **state)
{
	(void)state;
	need_cpu_engine();
	if (in_proc_crypto("pcrypt(")) {
		print_message("this kernel is not fresh\n");
		skip();
	}
	assert_auto("completes inside submit");
}

static void test_auto_with_pcrypt(void **state)
{
	struct tls_config config = with_driver(parallel_driver);
	struct tls_context *ctx;

	(void)state;
	need_cpu_engine();
	if (tls_context_new(&ctx, &config))
		fail_msg("%s", tls_last_error());
	tls_context_free(ctx);
	assert_true(in_proc_crypto(parallel_driver));
	assert_auto("software wrapper");
}

/* ---- Many -------------------------------------------------------------- */

struct many {
	struct tls_conn *conn;
	int fd;
	size_t put, got;
	bool done;
};

static void many_write(struct many *m)
{
	ssize_t n = tls_write(m->conn, data + m->put, MANY_BYTES - m->put);

	if (n > 0)
		m->put += (size_t)n;
	else if (n != -EAGAIN)
		fail_msg("writing: %zd, %s", n, tls_conn_error(m->conn));
	if (m->put == MANY_BYTES)
		tls_shutdown(m->conn);
}

/* Returns whether the connection has ended, as it should. */
static bool many_read(struct many *m)
{
	static uint8_t buf[MANY_BYTES];
	ssize_t n = tls_read(m->conn, buf, sizeof(buf));

	if (n == -EAGAIN)
		return false;
	if (n < 0)
		fail_msg("reading: %zd, %s", n, tls_conn_error(m->conn));
	assert_true((size_t)n <= MANY_BYTES - m->got);
	assert_memory_equal(buf, data + m->got, n);
	m->got += (size_t)n;
	if (n)
		return false;
	assert_int_equal(m->got, MANY_BYTES);
	return m->done = true;
}

/* Until all have had everything back. */
static void many_run(struct tls_context *ctx)
{
	struct tls_event events[64];
	unsigned done = 0;
	int i, n;

	while (done < MANY) {
		n = tls_context_wait(ctx, events, 64, 20000);
		if (n <= 0)
			fail_msg("%u connections are left", MANY - done);
		for (i = 0; i < n; i++) {
			struct many *m = events[i].data;

			if (m->put < MANY_BYTES)
				many_write(m);
			if (!m->done)
				done += many_read(m);
		}
	}
}

static void many_open(struct many *all, struct tls_context *ctx, struct echo *e)
{
	int fd[MANY][2];
	unsigned i;

	for (i = 0; i < MANY; i++) {
		struct many *m = &all[i];

		socket_pair(fd[i], true);
		set_blocking(fd[i][0], false);
		set_blocking(fd[i][1], false);
		*m = (struct many){ .fd = fd[i][0] };
		if (tls_handoff_secrets(&m->conn, ctx, m->fd, both_secrets(0)))
			fail_msg("%s", tls_last_error());
		tls_conn_set_data(m->conn, m);
		many_write(m);
	}
	/* only now, so that there is much to do at once */
	for (i = 0; i < MANY; i++)
		echo_serve_secrets(e, both_secrets(1), fd[i][1]);
}

static void many_close(struct many *all)
{
	unsigned i;

	for (i = 0; i < MANY; i++) {
		assert_int_equal(tls_close(all[i].conn, 1000), 0);
		close(all[i].fd);
	}
}

/*
 * More records want to be in flight than there may be op sockets: the CPU
 * engine does the others, in the same streams.
 */
static void test_many_connections(void **state)
{
	struct tls_config server = with_driver(parallel_driver);
	struct tls_config client = TLS_CONFIG_INIT;
	static struct many all[MANY];
	int before = count_descriptors();
	double begin = seconds();
	struct tls_context *ctx;
	struct tls_stats s;
	struct echo *e;

	(void)state;
	server.max_op_sockets = 64;
	client.kind = TLS_CONTEXT_LOOP;
	client.engine = TLS_ENGINE_CPU;
	e = echo_start(&server, (size_t)MANY * MANY_BYTES);
	if (tls_context_new(&ctx, &client))
		fail_msg("%s", tls_last_error());
	many_open(all, ctx, e);
	many_run(ctx);
	many_close(all);
	tls_context_free(ctx);
	s = stop_echo(e, begin, (size_t)MANY * MANY_BYTES);
	assert_in_range(s.op_sockets_peak, 2, 64);
	assert_true(s.tx_records[TLS_BY_KERNEL] > 0);
	assert_true(s.rx_records[TLS_BY_KERNEL] > 0);
	assert_true(s.failovers > 0);
	assert_int_equal(s.connections, MANY);
	assert_int_equal(s.connections_failed, 0);
	assert_int_equal(count_descriptors(), before);
}

/* So for sealing in one stream: half of what a write brings must wait. */
static void test_few_op_sockets(void **state)
{
	struct tls_config config = with_driver(parallel_driver);
	struct tls_context *ctx;
	struct tls_stats s;
	struct both b;

	(void)state;
	config.kind = TLS_CONTEXT_LOOP;
	config.depth = 32;
	config.max_op_sockets = 8;
	if (tls_context_new(&ctx, &config))
		fail_msg("%s", tls_last_error());
	both_open(&b, ctx);
	both_transfer(&b, 2 << 20);
	tls_context_stats(ctx, &s, sizeof(s));
	both_close(&b);
	tls_context_free(ctx);
	report("both ends", &s, 0);
	assert_int_equal(s.op_sockets_peak, 8);
	assert_true(s.tx_records[TLS_BY_KERNEL] > 0);
	assert_true(s.tx_records[TLS_BY_CPU] > 0);
	assert_true(s.out_of_order > 0);
}

/* ---- Steadily ---------------------------------------------------------- */

/* With a window that is soon full, nothing more is asked of the system. */
static void test_no_allocations(void **state)
{
	struct tls_config config = with_driver(parallel_driver);
	enum { BYTES = 6 << 20 };
	struct tls_context *ctx;
	struct tls_stats middle, end;
	struct both b;

	(void)state;
	config.kind = TLS_CONTEXT_LOOP;
	config.depth = 4;
	if (tls_context_new(&ctx, &config))
		fail_msg("%s", tls_last_error());
	both_open(&b, ctx);
	both_transfer(&b, BYTES / 2);
	tls_context_stats(ctx, &middle, sizeof(middle));
	both_transfer(&b, BYTES / 2);
	tls_context_stats(ctx, &end, sizeof(end));
	print_message("allocations: %ju, and %ju later\n", middle.allocations,
		      end.allocations);
	assert_true(middle.tx_in_flight_peak == 4);
	assert_int_equal(middle.allocations, end.allocations);
	both_close(&b);
	tls_context_free(ctx);
}

/* ---- How fast, for information ----------------------------------------- */

static void *sink(void *arg)
{
	static uint8_t buf[1 << 20];

	while (recv(*(int *)arg, buf, sizeof(buf), 0) > 0)
		;
	return NULL;
}

static void measure(const char *driver, unsigned depth)
{
	struct wire_options options = {
		.blocking = true, .tcp = true, .depth = depth, .driver = driver
	};
	enum { RECORDS = 200 };
	struct tls_stats s;
	pthread_t thread;
	struct wire w;
	double begin;

	wire_new(&w, &options);
	assert_int_equal(pthread_create(&thread, NULL, sink, &w.fd), 0);
	begin = seconds();
	assert_int_equal(tls_write(w.conn, data, RECORDS << 14), RECORDS << 14);
	assert_int_equal(tls_flush(w.conn), 0);
	tls_context_stats(w.ctx, &s, sizeof(s));
	print_message("%s, depth %2u: %4.0f records/s, in flight %ju, enters "
		      "%ju\n",
		      driver ? driver : "cpu", depth,
		      RECORDS / (seconds() - begin), s.tx_in_flight_peak,
		      s.enters);
	shutdown(w.fd, SHUT_RD);
	tls_close(w.conn, 0);
	w.conn = NULL;
	shutdown(w.conn_fd, SHUT_RDWR);
	pthread_join(thread, NULL);
	wire_free(&w);
}

static void test_speed(void **state)
{
	static const unsigned depths[] = { 1, 4, 16, 32, 64 };
	unsigned i;

	(void)state;
	measure(NULL, 1);
	measure(generic_driver, 32);
	for (i = 0; i < sizeof(depths) / sizeof(*depths); i++)
		measure(parallel_driver, depths[i]);
}

/* ---- ------------------------------------------------------------------- */

static int make_data(void **state)
{
	data = malloc(TOTAL);
	if (!data)
		return -1;
	pattern_fill(data, 0, TOTAL);
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
		cmocka_unit_test(test_auto_stock),
		cmocka_unit_test(test_inline_aes_128_library),
		cmocka_unit_test(test_inline_aes_128_openssl),
		cmocka_unit_test(test_inline_aes_256_library),
		cmocka_unit_test(test_inline_aes_256_openssl),
		cmocka_unit_test(test_chacha_library),
		cmocka_unit_test(test_chacha_openssl),
		cmocka_unit_test(test_inline_tls12),
		cmocka_unit_test(test_ccm),
		cmocka_unit_test(test_auto_with_pcrypt),
		cmocka_unit_test(test_async_tls12),
		cmocka_unit_test(test_async_aes_128_library),
		cmocka_unit_test(test_async_aes_128_openssl),
		cmocka_unit_test(test_async_aes_256_library),
		cmocka_unit_test(test_async_aes_256_openssl),
		cmocka_unit_test(test_many_connections),
		cmocka_unit_test(test_few_op_sockets),
		cmocka_unit_test(test_no_allocations),
		cmocka_unit_test(test_speed),
	};

	cmocka_set_test_filter(getenv("ASYNCTLS_TESTS"));
	return cmocka_run_group_tests_name("echo", tests, make_data, free_data);
}
