/* SPDX-License-Identifier: MIT */
/*
 * KeyUpdates on a kernel that has AF_ALG: each generation is a transform socket
 * with operation sockets of its own. OpenSSL is at the other end, on both
 * roles, and both ends update at random; on pcrypt, and on the accelerator where
 * its module is loaded.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "accel.h"
#include "afalg_setup.h"
#include "base/util.h"
#include "conn/conn.h"
#include "rekeying.h"
#include "wire.h"

enum { LEN = 2 << 20, EVERY = 100000 };


static int restore(void **state)
{
	(void)state;
	if (accel_present())
		accel_restore();
	return 0;
}

static struct tls_context *context_on(const char *driver)
{
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *ctx;

	config.kind = TLS_CONTEXT_LOOP;
	config.driver = driver;
	config.deadline_ms = 20000; /* a busy host may stop the VM */
	if (tls_context_new(&ctx, &config))
		fail_msg("%s", tls_last_error());
	return ctx;
}

/* Let what has not been used for 100 ms be closed. */
static void wait_for_trim(struct tls_context *ctx)
{
	const uint64_t end = now_ns() + 500 * (uint64_t)NS_PER_MS;
	struct tls_event event;

	while (now_ns() < end)
		tls_context_wait(ctx, &event, 1, 50);
}

/* ---- Streams ----------------------------------------------------------- */

static void stream(const char *driver, bool we_are_client, bool failing)
{
	struct rekeying r = { .ctx = context_on(driver),
			      .len = LEN,
			      .every = EVERY };
	struct tls_stats s;
	int descriptors;

	rekeying_open(&r, "TLS_AES_128_GCM_SHA256", we_are_client);
	/* with transforms already where no CPU engine could seal without */
	descriptors = count_descriptors();
	rekeying_stream(&r);
	tls_context_stats(r.ctx, &s, sizeof(s));
	print_message("%s: %ju and %ju KeyUpdates sent and received, tx %ju cpu "
		      "%ju kernel, rx %ju cpu %ju kernel, in flight %ju tx %ju "
		      "rx, failovers %ju\n",
		      driver, s.tx_rekeys, s.rx_rekeys, s.tx_records[TLS_BY_CPU],
		      s.tx_records[TLS_BY_KERNEL], s.rx_records[TLS_BY_CPU],
		      s.rx_records[TLS_BY_KERNEL], s.tx_in_flight_peak,
		      s.rx_in_flight_peak, s.failovers);
	assert_true(s.tx_rekeys > 5 && s.rx_rekeys > 5);
	if (failing) {
		assert_true(s.failovers_for[TLS_FAILOVER_TAG] > 0);
		assert_int_equal(s.failovers_for[TLS_FAILOVER_TAG],
				 s.failovers);
	} else {
		assert_int_equal(s.failovers, 0);
		assert_int_equal(s.pauses, 0);
	}
	assert_true(s.tx_in_flight_peak > 1 && s.rx_in_flight_peak > 1);
	/* of all generations, at most the transform of each direction is left */
	wait_for_trim(r.ctx);
	assert_true(count_descriptors() <= descriptors + 2);
	rekeying_close(&r);
	tls_context_free(r.ctx);
}

static void openssls_client_with_pcrypt(void **state)
{
	(void)state;
	stream(parallel_driver, false, false);
}

static void openssls_server_with_pcrypt(void **state)
{
	(void)state;
	stream(parallel_driver, true, false);
}

static void openssl_with_an_accelerator_out_of_order(void **state)
{
	(void)state;
	if (!accel_present())
		skip();
	accel_set("latency_us", 500);
	accel_set("jitter_us", 1000);
	accel_set("order", ACCEL_RANDOM);
	stream(ACCEL_GCM, false, false);
	stream(ACCEL_GCM, true, false);
}

/* Its word is not taken for a key that may be the wrong one, nor for this. */
static void an_accelerator_that_calls_good_records_forged(void **state)
{
	(void)state;
	if (!accel_present())
		skip();
	accel_set("order", ACCEL_RANDOM);
	accel_set("fail_ops", ACCEL_OPEN);
	accel_set("fail_errno", EBADMSG);
	accel_set("fail_every", 9);
	stream(ACCEL_GCM, false, true);
}

/* ---- Transform sockets ------------------------------------------------- */

/* Sends, updates, and sends on while nothing completes. */
static void the_old_transform_closes_at_its_last_completion(void **state)
{
	const struct wire_options options = { .kind = TLS_CONTEXT_LOOP,
					      .driver = ACCEL_GCM,
					      .deadline_ms = 60000 };
	uint8_t content[RECORD_PLAIN_MAX + 256], type;
	int before, i, generation;
	struct wire w;

	(void)state;
	if (!accel_present())
		skip();
	wire_new(&w, &options);
	accel_wait_idle();
	before = count_descriptors();
	accel_set("hold_every", 1);
	for (generation = 0; generation < 3; generation++) {
		for (i = 0; i < 2; i++)
			assert_int_equal(tls_write(w.conn, "data", 4), 4);
		if (generation < 2)
			assert_int_equal(tls_conn_update_keys(w.conn, 0), 0);
		tls_context_process(w.ctx);
	}
	accel_wait_for("held", 8);
	/* three transforms, eight operations */
	assert_int_equal(count_descriptors(), before + 3 + 8);
	accel_set("hold_every", 0);
	accel_set("release", 0);
	for (i = 0; i < 8; i++) {
		while (wire_silent(&w))
			tls_context_wait(w.ctx, &(struct tls_event){ 0 }, 1, 10);
		assert_int_equal(wire_receive(&w, &type, content),
				 i == 2 || i == 5 ? 5 : 4);
	}
	/* the latest transform, with two idle operation sockets */
	assert_int_equal(count_descriptors(), before + 1 + 2);
	wait_for_trim(w.ctx);
	assert_int_equal(count_descriptors(), before + 1);
	wire_free(&w);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, restore, restore)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(openssls_client_with_pcrypt),
		TEST(openssls_server_with_pcrypt),
		TEST(openssl_with_an_accelerator_out_of_order),
		TEST(an_accelerator_that_calls_good_records_forged),
		TEST(the_old_transform_closes_at_its_last_completion),
	};

	return cmocka_run_group_tests(tests, find_drivers, NULL);
}
