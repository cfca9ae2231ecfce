/* SPDX-License-Identifier: MIT */
/* One bulk connection cannot starve 1,000 small ones on the same context. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "context/ctx.h"
#include "crowd.h"
#include "fake_engine.h"

enum { DEPTH = 32, SERVED = 16, MEMORY = 4 << 20 };

static struct tls_context *echoing_context(struct fake_engine *fake,
					   size_t memory)
{
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *ctx;

	config.kind = TLS_CONTEXT_LOOP;
	config.engine = TLS_ENGINE_CPU;
	config.depth = DEPTH;
	config.max_memory = memory;
	config.deadline_ms = 60000; /* however slow this machine is */
	if (tls_context_new(&ctx, &config))
		fail_msg("%s", tls_last_error());
	if (fake)
		ctx->core.dispatch.kernel = fake_as_engine(fake);
	return ctx;
}

/* A device that does so many requests while its user takes a turn, in order. */
static void serve(void *arg)
{
	struct fake_engine *fake = arg;
	unsigned i;

	for (i = 0; i < SERVED && fake_pending(fake); i++)
		fake_complete(fake, 0, FAKE_OK);
}

static struct crowd_result at_a_device(size_t memory)
{
	struct fake_engine *fake = fake_new();
	struct crowd_options options = {
		.echoing = echoing_context(fake, memory),
		.turn = serve,
		.arg = fake,
	};
	struct crowd_result r = crowd_run(&options);

	tls_context_free(options.echoing);
	fake_free(fake);
	return r;
}

/*
 * In a device that takes requests in order, a question and its answer each
 * wait for what the bulk has in it by then, which is a depth each way; before
 * that the question waits for a buffer to be received into.
 */
static void bulk_does_not_starve_1000_small_connections_at_a_device(
	void **state)
{
	struct crowd_result r = at_a_device(0);

	(void)state;
	assert_true(r.most <= 3 * 2 * DEPTH);
	/* nor they the bulk, which keeps the device busy both ways meanwhile */
	assert_true(r.median >= DEPTH + DEPTH / 2);
}

/* With less than a block for each: the bulk has to do with as little. */
static void bulk_does_not_starve_1000_small_connections_of_memory(void **state)
{
	struct crowd_result r = at_a_device(MEMORY);

	(void)state;
	assert_true(r.most <= 2 * 2 * DEPTH);
	assert_true(r.bulk_records > CROWD_ROUNDS);
}

/* Everybody has a turn in so many, and a turn of the bulk is 64 KiB each way. */
static void bulk_does_not_starve_1000_small_connections_on_the_cpu(
	void **state)
{
	const unsigned turns = 2 * (CROWD / 64 + 1), records = 2 * 4;
	struct crowd_options options = { .echoing = echoing_context(NULL, 0) };
	struct crowd_result r = crowd_run(&options);

	(void)state;
	assert_true(r.most <= turns * records);
	assert_true(r.bulk_records > CROWD_ROUNDS);
	tls_context_free(options.echoing);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			bulk_does_not_starve_1000_small_connections_at_a_device),
		cmocka_unit_test(
			bulk_does_not_starve_1000_small_connections_of_memory),
		cmocka_unit_test(
			bulk_does_not_starve_1000_small_connections_on_the_cpu),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
