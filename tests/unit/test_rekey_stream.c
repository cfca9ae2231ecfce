/* SPDX-License-Identifier: MIT */
/*
 * KeyUpdates of both kinds, from both ends, with many records in flight and
 * OpenSSL at the other end, as server and as client.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "context/ctx.h"
#include "fake_engine.h"
#include "recorder.h"
#include "rekeying.h"

enum { LEN = 3 << 20, EVERY = 50000 };

static struct fake_engine *fake;

/* Some of what is in flight completes, in any order. */
static void complete_some(void)
{
	unsigned n = (unsigned)rand() % 20;

	while (n-- && fake_pending(fake))
		fake_complete(fake, (unsigned)rand() % fake_pending(fake),
			      FAKE_OK);
}

static void complete_some_badly(void)
{
	unsigned n = (unsigned)rand() % 20;

	while (n-- && fake_pending(fake))
		fake_complete(fake, (unsigned)rand() % fake_pending(fake),
			      rand() % 50 ? FAKE_OK : rand() % 4);
}

static bool hybrid;

static void stream(const char *suite, bool we_are_client, bool asynchronous,
		   void (*step)(void))
{
	struct tls_config config = TLS_CONFIG_INIT;
	struct recorder *recorder = recorder_new();
	struct rekeying r = { .len = LEN, .every = EVERY };
	struct tls_stats s;

	config.kind = TLS_CONTEXT_LOOP;
	config.engine = TLS_ENGINE_CPU;
	config.rekey_records = 60; /* some come of themselves */
	assert_int_equal(tls_context_new(&r.ctx, &config), 0);
	fake = asynchronous ? fake_new() : NULL;
	if (fake) {
		r.ctx->core.dispatch.kernel = fake_as_engine(fake);
		r.step = step;
		hybrid_init(&r.ctx->core.dispatch.hybrid, hybrid);
	}
	recorder_attach(recorder, r.ctx);
	rekeying_open(&r, suite, we_are_client);
	rekeying_stream(&r);
	tls_conn_stats(r.conn, &s, sizeof(s));
	rekeying_close(&r);
	assert_true(r.ours > 10 && r.theirs > 10);
	assert_true(s.tx_rekeys > r.ours);
	assert_true(s.rx_rekeys > r.theirs);
	assert_true(!fake || hybrid || s.rx_in_flight_peak > 4);
	assert_true(!fake || hybrid || s.tx_in_flight_peak > 4);
	if (hybrid)
		print_message("rx %ju cpu %ju kernel\n",
			      s.rx_records[TLS_BY_CPU],
			      s.rx_records[TLS_BY_KERNEL]);
	assert_true(step == complete_some_badly || s.failovers == 0);
	tls_context_free(r.ctx);
	assert_true(recorder_counts(recorder).keys > s.tx_rekeys);
	recorder_free(recorder);
	if (fake) {
		assert_int_equal(fake_keys(fake), 0);
		fake_free(fake);
	}
}

static void openssls_client_on_the_cpu(void **state)
{
	(void)state;
	stream("TLS_AES_128_GCM_SHA256", false, false, NULL);
	stream("TLS_CHACHA20_POLY1305_SHA256", false, false, NULL);
	stream("TLS_AES_128_CCM_SHA256", false, false, NULL);
}

static void openssls_server_on_the_cpu(void **state)
{
	(void)state;
	stream("TLS_AES_256_GCM_SHA384", true, false, NULL);
}

static void openssls_client_with_many_in_flight(void **state)
{
	(void)state;
	stream("TLS_AES_128_GCM_SHA256", false, true, complete_some);
}

static void openssls_server_with_many_in_flight(void **state)
{
	(void)state;
	stream("TLS_AES_256_GCM_SHA384", true, true, complete_some);
}

static void openssl_and_an_engine_that_fails(void **state)
{
	(void)state;
	stream("TLS_AES_128_GCM_SHA256", false, true, complete_some_badly);
	stream("TLS_AES_128_GCM_SHA256", true, true, complete_some_badly);
}

static void openssl_and_records_on_either_engine(void **state)
{
	(void)state;
	hybrid = true;
	stream("TLS_AES_128_GCM_SHA256", false, true, complete_some);
	stream("TLS_AES_128_GCM_SHA256", true, true, complete_some_badly);
	hybrid = false;
}

#define TEST(name) cmocka_unit_test(name)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(openssls_client_on_the_cpu),
		TEST(openssls_server_on_the_cpu),
		TEST(openssls_client_with_many_in_flight),
		TEST(openssls_server_with_many_in_flight),
		TEST(openssl_and_an_engine_that_fails),
		TEST(openssl_and_records_on_either_engine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
