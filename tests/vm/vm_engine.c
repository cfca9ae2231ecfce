/* SPDX-License-Identifier: MIT */
/*
 * The kernel engine on a kernel that has AF_ALG: what it seals and opens, in
 * what numbers, and what it leaves behind. What it refuses is in vm_probe.
 */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "afalg_setup.h"
#include "engine/afalg_socket.h"
#include "engine/known_answer.h"
#include "evp_record.h"
#include "record/record.h"

enum {
	FLIGHT = 64,
	PLAIN_MAX = 1 << 14,
	BEFORE = 64,
	SPACE = 20480,
};

static const int64_t second = 1000000000;
static const uint8_t header[5] = { 23, 3, 3, 1, 2 };

struct request {
	struct aead_op op; /* first: done() casts back */
	unsigned done;
	uint8_t in[SPACE];
	uint8_t out[SPACE];
};

/* In flight when a test ends badly, these must not be on a stack. */
static struct request requests[FLIGHT];

static struct engine_key *new_key(struct setup *s, enum cipher_id id,
				  const uint8_t *bytes)
{
	struct engine_key *key = NULL;

	assert_int_equal(
		s->engine->ops->key_new(s->engine, &ciphers[id], bytes, &key),
		0);
	return key;
}

static void free_key(struct setup *s, struct engine_key *key)
{
	s->engine->ops->key_free(s->engine, key);
}

static void request_done(struct aead_op *op)
{
	((struct request *)op)->done++;
}

static struct request *prepare(unsigned i, struct engine_key *key, bool seal,
			       size_t len)
{
	struct request *r = &requests[i];

	memset(r, 0, sizeof(*r));
	memset(r->out, 0xee, sizeof(r->out));
	r->op = (struct aead_op){
		.key = key,
		.seal = seal,
		.aad = header,
		.aad_len = sizeof(header),
		.in = r->in,
		.in_len = len,
		.out = r->out + BEFORE,
		.done = request_done,
	};
	memcpy(r->op.nonce, "nonce 12 b..", 12);
	r->op.nonce[11] = i;
	return r;
}

static int submit(struct setup *s, struct request *r)
{
	return s->engine->ops->submit(s->engine, &r->op);
}

static void finish(struct setup *s, unsigned first, unsigned count)
{
	unsigned i;

	assert_int_equal(ring_submit(s->ring), 0);
	for (i = first; i < first + count;) {
		if (requests[i].done) {
			assert_int_equal(requests[i++].done, 1);
			continue;
		}
		assert_int_equal(ring_wait(s->ring, 30 * second), 0);
		ring_reap(s->ring);
	}
}

static void run(struct setup *s, struct request *r)
{
	assert_int_equal(submit(s, r), ENGINE_PENDING);
	assert_int_equal(r->done, 0);
	finish(s, r - requests, 1);
}

/* ---- The other opinion ------------------------------------------------- */

static void seal_again(enum cipher_id id, const uint8_t *key,
		       const struct aead_op *op, uint8_t *out)
{
	static uint8_t inner[SPACE];
	size_t len = op->in_len;

	memcpy(inner, op->in, len);
	if (op->has_tail) {
		inner[len++] = op->tail;
		memset(inner + len, 0, op->pad);
		len += op->pad;
	}
	evp_seal_raw(&ciphers[id], key, op->nonce, op->aad, op->aad_len, inner,
		     len, out);
}

static void assert_sealed(enum cipher_id id, const uint8_t *key,
			  const struct request *r)
{
	static uint8_t expect[SPACE];

	assert_int_equal(r->op.result, 0);
	seal_again(id, key, &r->op, expect);
	assert_memory_equal(r->op.out, expect, aead_op_out_len(&r->op));
	assert_memory_equal(r->op.out - sizeof(header), header, sizeof(header));
	assert_int_equal(r->op.out[aead_op_out_len(&r->op)], 0xee);
}

static const uint8_t test_key[CIPHER_KEY_MAX] =
	"0123456789abcdefghijklmnopqrstu";

static void fill(uint8_t *p, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		p[i] = seed + i * 7 + (i >> 8);
}

/* Seal len bytes and a type byte, then open that again, in place. */
static void round_trip(struct setup *s, enum cipher_id id,
		       struct engine_key *key, size_t len)
{
	struct request *r = prepare(0, key, true, len);
	uint8_t *sealed = r->out + BEFORE;

	fill(r->in, len, len);
	r->op.has_tail = true;
	r->op.tail = 23;
	run(s, r);
	assert_sealed(id, test_key, r);

	r->done = 0;
	r->op.seal = false;
	r->op.in = sealed;
	r->op.in_len = len + 1 + 16;
	run(s, r);
	assert_int_equal(r->op.result, 0);
	assert_memory_equal(sealed, r->in, len);
	assert_int_equal(sealed[len], 23);
}

/* ---- What is sealed and opened ----------------------------------------- */

static void known_answer(struct setup *s, enum cipher_id id)
{
	const struct known_answer *answer = &known_answers[id];
	struct engine_key *key = new_key(s, id, answer->key);
	struct request *r = prepare(0, key, true, answer->plain_len);

	memcpy(r->in, answer->plain, answer->plain_len);
	memcpy(r->op.nonce, answer->nonce, 12);
	r->op.aad = answer->aad;
	r->op.aad_len = answer->aad_len;
	run(s, r);
	assert_int_equal(r->op.result, 0);
	assert_memory_equal(r->op.out, answer->sealed, answer->plain_len + 16);
	r->op.seal = false;
	r->op.in_len += 16;
	r->done = 0;
	memcpy(r->in, answer->sealed, answer->plain_len + 16);
	run(s, r);
	assert_int_equal(r->op.result, 0);
	assert_memory_equal(r->op.out, answer->plain, answer->plain_len);
	free_key(s, key);
}

static void test_known_answers(void **state)
{
	const char *drivers[] = { generic_driver, parallel_driver, NULL };
	struct setup s;
	unsigned i, id, count = 0;

	(void)state;
	for (i = 0; i < 3; i++) {
		s = setup_start(drivers[i], true, SOCKETS);
		for (id = 0; id < CIPHER_COUNT; id++) {
			if (setup_refusal(&s, id))
				continue;
			print_message(
				"%s: %s\n", ciphers[id].name,
				s.engine->ops->driver(s.engine, &ciphers[id]));
			known_answer(&s, id);
			count++;
		}
		setup_stop(&s);
	}
	assert_int_equal(count, 2 + 2 + CIPHER_COUNT);
}

static void test_sizes(void **state)
{
	static const size_t sizes[] = {
		0,    1,     15,    16,    17,        4095,
		4096, 13337, 16383, 16384, 16384 + 1, /* for what it is worth */
	};
	struct setup s = setup_start(NULL, true, SOCKETS);
	struct engine_key *key;
	unsigned id, i;

	(void)state;
	for (id = 0; id < CIPHER_COUNT; id++) {
		setup_assert_has(&s, id);
		key = new_key(&s, id, test_key);
		for (i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
			round_trip(&s, id, key, sizes[i]);
		free_key(&s, key);
	}
	assert_int_equal(setup_stats(&s).sockets_now, 0);
	assert_int_equal(setup_stats(&s).sockets_peak, 1);
	setup_stop(&s);
}

/* 64 records at once, of all sizes, some padded, sealed and then opened. */
static void test_flight(void **state)
{
	struct setup s = setup_start(parallel_driver, true, SOCKETS);
	struct engine_key *key = new_key(&s, CIPHER_AES_256_GCM, test_key);
	const struct record_format *format =
		record_format(suite_by_number(0x1302));
	uint64_t allocations = 0;
	unsigned i, round;
	struct request *r;

	(void)state;
	for (round = 0; round < 3; round++) {
		for (i = 0; i < FLIGHT; i++) {
			r = prepare(i, key, true, (i * 2741 + round) % 16385);
			fill(r->in, r->op.in_len, i);
			r->op.has_tail = true;
			r->op.tail = 22;
			r->op.pad = record_padding(r->op.in_len, round * 512,
						  RECORD_PLAIN_MAX);
			assert_int_equal(submit(&s, r), ENGINE_PENDING);
		}
		finish(&s, 0, FLIGHT);
		if (round == 0)
			allocations = setup_stats(&s).allocations;
		for (i = 0; i < FLIGHT; i++)
			assert_sealed(CIPHER_AES_256_GCM, test_key,
				      &requests[i]);
		for (i = 0; i < FLIGHT; i++) {
			r = &requests[i];
			r->done = 0;
			r->op.in_len = aead_op_out_len(&r->op);
			r->op.in = r->op.out;
			r->op.seal = false;
			assert_int_equal(submit(&s, r), ENGINE_PENDING);
		}
		finish(&s, 0, FLIGHT);
		for (i = 0; i < FLIGHT; i++) {
			ssize_t len;
			uint8_t type;

			r = &requests[i];
			assert_int_equal(r->op.result, 0);
			len = record_content(format, header, r->op.out,
					     aead_op_out_len(&r->op),
					     RECORD_PLAIN_MAX, &type);
			assert_int_equal(len, (i * 2741 + round) % 16385);
			assert_int_equal(type, 22);
			assert_memory_equal(r->op.out, r->in, len);
		}
	}
	assert_int_equal(setup_stats(&s).sockets_peak, FLIGHT);
	assert_int_equal(setup_stats(&s).allocations, allocations);
	free_key(&s, key);
	setup_stop(&s);
}

/* The peer's fault: the socket stays, and works. */
static void test_forgery(void **state)
{
	const char *drivers[] = { generic_driver, parallel_driver, NULL, NULL };
	const unsigned ids[] = { CIPHER_AES_128_GCM, CIPHER_AES_128_GCM,
				 CIPHER_CHACHA20_POLY1305, CIPHER_AES_256_CCM };
	struct setup s;
	struct engine_key *key;
	struct request *r;
	unsigned i, id;

	(void)state;
	for (i = 0; i < 4; i++) {
		id = ids[i];
		s = setup_start(drivers[i], true, 1);
		key = new_key(&s, id, test_key);
		round_trip(&s, id, key, 1000);
		r = prepare(1, key, false, 1000 + 1 + 16);
		memcpy(r->in, requests[0].in, 1000);
		run(&s, r);
		assert_int_equal(r->op.result, -EBADMSG);
		assert_int_equal(setup_stats(&s).sockets_now, 1);
		round_trip(&s, id, key, 1000);
		assert_int_equal(setup_stats(&s).sockets_peak, 1);
		free_key(&s, key);
		setup_stop(&s);
	}
}

static void test_bad_arguments(void **state)
{
	struct setup s = setup_start(NULL, true, SOCKETS);
	struct engine_key *key = new_key(&s, CIPHER_AES_128_GCM, test_key);

	(void)state;
	assert_int_equal(submit(&s, prepare(0, key, false, 15)), -EINVAL);
	requests[0].op.seal = true;
	requests[0].op.aad_len = AFALG_AAD_MAX + 1;
	assert_int_equal(submit(&s, &requests[0]), -EINVAL);
	assert_int_equal(setup_stats(&s).sockets_now, 0);
	free_key(&s, key);
	setup_stop(&s);
}

/* ---- Limits and leftovers ---------------------------------------------- */

static void test_max_sockets(void **state)
{
	struct setup s = setup_start(parallel_driver, true, 4);
	struct engine_key *one = new_key(&s, CIPHER_AES_128_GCM, test_key);
	struct engine_key *two = new_key(&s, CIPHER_AES_256_GCM, test_key);
	unsigned i;

	(void)state;
	for (i = 0; i < 4; i++)
		assert_int_equal(submit(&s, prepare(i, one, true, 5000)), 0);
	assert_int_equal(submit(&s, prepare(4, one, true, 5000)), -EBUSY);
	assert_int_equal(submit(&s, prepare(4, two, true, 5000)), -EBUSY);
	assert_null(requests[4].op.engine_data);
	finish(&s, 0, 4);
	/* all of them idle, the first key's: the second takes one away */
	assert_int_equal(setup_stats(&s).sockets_now, 4);
	run(&s, prepare(4, two, true, 5000));
	assert_sealed(CIPHER_AES_256_GCM, test_key, &requests[4]);
	assert_int_equal(setup_stats(&s).sockets_now, 4);
	for (i = 0; i < 4; i++)
		assert_int_equal(submit(&s, prepare(i, one, true, 5000)), 0);
	assert_int_equal(submit(&s, prepare(5, one, true, 5000)), -EBUSY);
	finish(&s, 0, 4);
	for (i = 0; i < 4; i++)
		assert_sealed(CIPHER_AES_128_GCM, test_key, &requests[i]);
	assert_int_equal(setup_stats(&s).sockets_peak, 4);
	/* just used: they stay until they have not been for a whole round */
	engine_afalg_trim(s.engine);
	assert_int_equal(setup_stats(&s).sockets_now, 4);
	engine_afalg_trim(s.engine);
	assert_int_equal(setup_stats(&s).sockets_now, 0);
	round_trip(&s, CIPHER_AES_128_GCM, one, 100);
	free_key(&s, one);
	free_key(&s, two);
	setup_stop(&s);
}

/* Out of descriptors: refused, and as good as before once there are some. */
static void test_no_descriptors(void **state)
{
	struct setup s = setup_start(NULL, true, SOCKETS);
	struct engine_key *key = new_key(&s, CIPHER_AES_128_GCM, test_key);
	struct engine_key *none;
	struct rlimit before, limit;

	(void)state;
	getrlimit(RLIMIT_NOFILE, &before);
	limit = (struct rlimit){ 3, before.rlim_max };
	setrlimit(RLIMIT_NOFILE, &limit);
	assert_int_equal(submit(&s, prepare(0, key, true, 100)), -EMFILE);
	assert_int_equal(
		s.engine->ops->key_new(s.engine, &ciphers[0], test_key, &none),
		-EMFILE);
	setrlimit(RLIMIT_NOFILE, &before);
	assert_int_equal(setup_stats(&s).sockets_now, 0);
	round_trip(&s, CIPHER_AES_128_GCM, key, 100);
	free_key(&s, key);
	setup_stop(&s);
}

static void count_released(void *memory)
{
	++*(unsigned *)memory;
}

/* It is told when each of them no longer writes to memory, and once. */
static void test_abandon(void **state)
{
	unsigned released[4] = { 0 };
	struct setup s = setup_start(parallel_driver, true, SOCKETS);
	struct engine_key *key = new_key(&s, CIPHER_AES_128_GCM, test_key);
	unsigned i;

	(void)state;
	for (i = 0; i < 8; i++)
		assert_int_equal(submit(&s, prepare(i, key, true, 9000)), 0);
	/* two before they are submitted, two after */
	for (i = 0; i < 4; i++) {
		if (i == 2)
			assert_int_equal(ring_submit(s.ring), 0);
		assert_false(s.engine->ops->abandon(s.engine, &requests[i].op,
						    count_released,
						    &released[i]));
		memset(&requests[i].op, 0xff, sizeof(struct aead_op));
	}
	finish(&s, 4, 4);
	for (i = 4; i < 8; i++)
		assert_sealed(CIPHER_AES_128_GCM, test_key, &requests[i]);
	assert_true(s.engine->ops->abandon(s.engine, &requests[4].op, NULL,
					   NULL));
	free_key(&s, key);
	while (setup_stats(&s).sockets_now && ring_wait(s.ring, 5 * second) == 0)
		ring_reap(s.ring);
	for (i = 0; i < 4; i++) {
		assert_int_equal(requests[i].done, 0);
		assert_int_equal(released[i], 1);
	}
	assert_int_equal(setup_stats(&s).sockets_now, 0);
	setup_stop(&s);
}

/* The ring goes first, then the engine with what was abandoned. */
static void test_free_in_flight(void **state)
{
	struct setup s = setup_start(parallel_driver, true, SOCKETS);
	struct engine_key *key = new_key(&s, CIPHER_AES_128_GCM, test_key);
	unsigned i;

	(void)state;
	for (i = 0; i < FLIGHT; i++)
		assert_int_equal(submit(&s, prepare(i, key, true, 16384)), 0);
	assert_int_equal(ring_submit(s.ring), 0);
	for (i = 0; i < FLIGHT; i++)
		s.engine->ops->abandon(s.engine, &requests[i].op, NULL, NULL);
	free_key(&s, key);
	setup_stop(&s);
	for (i = 0; i < FLIGHT; i++)
		assert_int_equal(requests[i].done, 0);
}

static unsigned open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static void test_no_leak(void **state)
{
	void (*const tests[])(void **) = {
		test_known_answers, test_flight,  test_forgery,
		test_max_sockets,   test_abandon, test_free_in_flight,
	};
	unsigned before, i;

	for (i = 0; i < sizeof(tests) / sizeof(*tests); i++) {
		before = open_descriptors();
		tests[i](state);
		assert_int_equal(open_descriptors(), before);
	}
}

/* ---- ------------------------------------------------------------------- */

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_sizes),
	cmocka_unit_test(test_bad_arguments),
	cmocka_unit_test(test_known_answers),
	cmocka_unit_test(test_flight),
	cmocka_unit_test(test_forgery),
	cmocka_unit_test(test_max_sockets),
	cmocka_unit_test(test_no_descriptors),
	cmocka_unit_test(test_abandon),
	cmocka_unit_test(test_free_in_flight),
	cmocka_unit_test(test_no_leak),
};

int main(void)
{
	int failed;

	if (afalg_restricted() && !afalg_allow())
		return 1;
	setup_kind = RING_OWNED;
	failed = cmocka_run_group_tests_name("owned ring", tests, find_drivers,
					     NULL);
	setup_kind = RING_SHARED;
	failed += cmocka_run_group_tests_name("shared ring", tests, NULL, NULL);
	setup_io = RING_POLL;
	failed += cmocka_run_group_tests_name("shared epoll", tests, NULL, NULL);
	setup_kind = RING_OWNED;
	failed += cmocka_run_group_tests_name("owned epoll", tests, NULL, NULL);
	return failed;
}
