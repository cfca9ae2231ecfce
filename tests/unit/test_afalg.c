/* SPDX-License-Identifier: MIT */
/*
 * The kernel engine on whatever this host is: without AF_ALG every cipher is
 * refused in words that help, with it what is offered works.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/engine_afalg.h"
#include "engine/known_answer.h"
#include "io/ring.h"

enum { BEFORE = 32 };

static bool have_afalg;
static bool done;

static void op_done(struct aead_op *op)
{
	(void)op;
	done = true;
}

static void assert_says(const char *why, const char *words)
{
	assert_non_null(why);
	if (!strstr(why, words))
		fail_msg("\"%s\" does not say \"%s\"", why, words);
}

/* Seal the known answer, which the probe said can be done. */
static void assert_seals(struct engine *engine, struct ring *ring,
			 const struct cipher *cipher)
{
	const struct known_answer *answer = &known_answers[cipher->id];
	uint8_t out[BEFORE + KNOWN_ANSWER_MAX];
	struct aead_op op = {
		.seal = true,
		.aad = answer->aad,
		.aad_len = answer->aad_len,
		.in = answer->plain,
		.in_len = answer->plain_len,
		.out = out + BEFORE,
		.done = op_done,
	};

	memcpy(op.nonce, answer->nonce, sizeof(op.nonce));
	assert_int_equal(
		engine->ops->key_new(engine, cipher, answer->key, &op.key), 0);
	done = false;
	assert_int_equal(engine->ops->submit(engine, &op), ENGINE_PENDING);
	assert_int_equal(ring_submit(ring), 0);
	while (!done) {
		assert_int_equal(ring_wait(ring, 5000000000), 0);
		ring_reap(ring);
	}
	assert_int_equal(op.result, 0);
	assert_memory_equal(op.out, answer->sealed, answer->plain_len + 16);
	engine->ops->key_free(engine, op.key);
}

static void check_engine(enum ring_kind kind, enum ring_io io,
			 const char *driver)
{
	struct afalg_options options = { driver, true, 16 };
	struct engine_key *key;
	struct engine *engine;
	struct ring *ring;
	const char *why;
	unsigned id;

	assert_int_equal(ring_new(&ring, kind, io, &why), 0);
	assert_int_equal(engine_afalg_new(&engine, ring, &options), 0);
	for (id = 0; id < CIPHER_COUNT; id++) {
		why = engine->ops->refusal(engine, &ciphers[id]);
		print_message("%s: %s\n", ciphers[id].name,
			      why ? why
				  : engine->ops->driver(engine, &ciphers[id]));
		if (!have_afalg)
			assert_says(why, "AF_ALG");
		if (driver)
			assert_non_null(why);
		if (!why)
			assert_seals(engine, ring, &ciphers[id]);
		else
			assert_int_equal(engine->ops->key_new(
						 engine, &ciphers[id],
						 known_answers[id].key, &key),
					 -EOPNOTSUPP);
	}
	ring_free(ring);
	engine->ops->free(engine);
}

static void test_every_cipher(void **state)
{
	(void)state;
	check_engine(RING_SHARED, RING_AUTO, NULL);
	check_engine(RING_OWNED, RING_AUTO, NULL);
	check_engine(RING_SHARED, RING_POLL, NULL);
	check_engine(RING_OWNED, RING_POLL, NULL);
}

static void test_unknown_driver(void **state)
{
	(void)state;
	check_engine(RING_SHARED, RING_AUTO, "no-such-driver");
}

static void test_nothing_open(void **state)
{
	struct afalg_options options = { NULL, true, 16 };
	struct afalg_stats stats;
	struct engine *engine;
	struct ring *ring;
	const char *why;
	int before, after;

	(void)state;
	before = dup(0);
	assert_int_equal(ring_new(&ring, RING_SHARED, RING_AUTO, &why), 0);
	assert_int_equal(engine_afalg_new(&engine, ring, &options), 0);
	engine_afalg_trim(engine);
	engine_afalg_stats(engine, &stats);
	assert_int_equal(stats.sockets_now, 0);
	assert_int_equal(stats.sockets_peak, 0);
	ring_free(ring);
	engine->ops->free(engine);
	close(before);
	after = dup(0);
	assert_int_equal(after, before);
	close(after);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_cipher),
		cmocka_unit_test(test_unknown_driver),
		cmocka_unit_test(test_nothing_open),
	};
	int fd;

	fd = socket(AF_ALG, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	have_afalg = fd >= 0;
	if (have_afalg)
		close(fd);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
