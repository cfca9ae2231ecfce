/* SPDX-License-Identifier: MIT */
/* Both CPU engines, one after the other, as ASYNCTLS_CPU names them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#ifdef HAVE_GCRYPT
#include <gcrypt.h>
#endif

#include "asynctls.h"
#include "engine/engine_cpu.h"
#include "engine/known_answer.h"
#include "evp_record.h"
#include "keys/keys.h"
#include "record/record.h"

static const struct {
	const char *name, *driver;
} kinds[] = {
	{ "ipsec-mb", "intel-ipsec-mb" },
	{ "gcrypt", "libgcrypt" },
};

static struct engine *engine;

static int setup(void **state)
{
	const char *why;

	(void)state;
	return engine_cpu_new(&engine, &why);
}

static int teardown(void **state)
{
	(void)state;
	engine_cpu_free(engine);
	return 0;
}

static struct engine_key *key_of(const struct cipher *cipher,
				 const uint8_t *bytes)
{
	struct engine_key *key;

	assert_null(engine->ops->refusal(engine, cipher));
	assert_int_equal(engine->ops->key_new(engine, cipher, bytes, &key), 0);
	return key;
}

static void run(struct aead_op *op)
{
	assert_int_equal(engine->ops->submit(engine, op), ENGINE_DONE);
}

static void check_known_answer(const struct cipher *cipher)
{
	const struct known_answer *k = &known_answers[cipher->id];
	uint8_t sealed[KNOWN_ANSWER_MAX], plain[KNOWN_ANSWER_MAX];
	struct aead_op op = {
		.key = key_of(cipher, k->key),
		.seal = true,
		.aad = k->aad,
		.aad_len = (uint8_t)k->aad_len,
		.in = k->plain,
		.in_len = k->plain_len,
		.out = sealed,
	};

	memcpy(op.nonce, k->nonce, sizeof(op.nonce));
	run(&op);
	assert_int_equal(op.result, 0);
	assert_memory_equal(sealed, k->sealed, k->plain_len + RECORD_TAG);
	op.seal = false;
	op.in = sealed;
	op.in_len = k->plain_len + RECORD_TAG;
	op.out = plain;
	run(&op);
	assert_int_equal(op.result, 0);
	assert_memory_equal(plain, k->plain, k->plain_len);
	engine->ops->key_free(engine, op.key);
}

static void published_answers_come_out_for_every_cipher(void **state)
{
	int i;

	(void)state;
	for (i = 0; i < CIPHER_COUNT; i++)
		check_known_answer(&ciphers[i]);
}

/* Seal len bytes as a padded record, and have libcrypto open it. */
static void check_size(const struct suite *suite, size_t len, size_t block)
{
	static const uint8_t secret[CIPHER_SECRET_MAX] = "a traffic secret";
	static uint8_t in[RECORD_PLAIN_MAX], out[RECORD_WIRE_MAX];
	static uint8_t content[RECORD_WIRE_MAX];
	struct keygen *gen;
	struct aead_op op = { .seal = true, .has_tail = true, .tail = 22 };
	uint8_t aad[RECORD_AAD_MAX], type;
	size_t pad = record_padding(len, block, RECORD_PLAIN_MAX);
	size_t i, wire_len = RECORD_OVERHEAD + len + pad;

	assert_int_equal(keygen_new(&gen, suite, secret), 0);
	for (i = 0; i < len; i++)
		in[i] = (uint8_t)(i * 37 >> 2);
	record_put_prefix(gen->format, out, 22, 9, wire_len - RECORD_HEADER);
	record_aad(gen->format, aad, 22, 9, wire_len - RECORD_HEADER);
	op.key = key_of(suite->cipher, gen->key);
	record_nonce(op.nonce, gen->iv, 9);
	op.aad = aad;
	op.aad_len = RECORD_HEADER;
	op.in = in;
	op.in_len = len;
	op.pad = (uint16_t)pad;
	op.out = out + RECORD_HEADER;
	assert_int_equal(aead_op_out_len(&op), wire_len - RECORD_HEADER);
	run(&op);
	assert_int_equal(op.result, 0);
	assert_int_equal(evp_open(gen, 9, out, content), len + 1 + pad);
	assert_int_equal(record_content(gen->format, out, content,
					len + 1 + pad, RECORD_PLAIN_MAX, &type),
			 len);
	assert_int_equal(type, 22);
	assert_memory_equal(content, in, len);

	/* and in place, as a receiver does */
	op.seal = false;
	op.in = op.out;
	op.in_len = wire_len - RECORD_HEADER;
	run(&op);
	assert_int_equal(op.result, 0);
	assert_memory_equal(op.out, in, len);
	assert_int_equal(op.out[len], 22);
	engine->ops->key_free(engine, op.key);
	keygen_put(gen);
}

static void every_size_opens_elsewhere_and_in_place(void **state)
{
	const struct suite *s;
	size_t len;

	(void)state;
	for (s = cipher_suites; s->name; s++) {
		if (s->version != CIPHER_TLS13)
			continue;
		for (len = 0; len < 300; len++)
			check_size(s, len, 0);
		for (len = 0; len < 300; len++)
			check_size(s, len, 1 + len % 170);
		for (len = RECORD_PLAIN_MAX - 20; len <= RECORD_PLAIN_MAX;
		     len++)
			check_size(s, len, len % 2 * 1000);
	}
}

static void any_flipped_bit_is_told(void **state)
{
	int i, bit;

	(void)state;
	for (i = 0; i < CIPHER_COUNT; i++) {
		const struct known_answer *k = &known_answers[i];
		uint8_t sealed[KNOWN_ANSWER_MAX], plain[KNOWN_ANSWER_MAX];
		size_t len = k->plain_len + RECORD_TAG;
		struct aead_op op = {
			.key = key_of(&ciphers[i], k->key),
			.aad = k->aad,
			.aad_len = (uint8_t)k->aad_len,
			.in = sealed,
			.in_len = len,
			.out = plain,
		};

		memcpy(op.nonce, k->nonce, sizeof(op.nonce));
		for (bit = 0; bit < (int)len * 8; bit++) {
			memcpy(sealed, k->sealed, len);
			sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
			run(&op);
			assert_int_equal(op.result, -EBADMSG);
		}
		engine->ops->key_free(engine, op.key);
	}
}

/* ---- Traces ------------------------------------------------------------ */

enum { NONCE = 12, STACK = 16 << 10 };
#define NO_SANITIZER \
	__attribute__((noinline, no_sanitize("address", "thread")))

static struct aead_op traced; /* not on the stack */

/* How often it lies below the caller's frame, where calls have been. */
NO_SANITIZER static int left_on_the_stack(const uint8_t *nonce)
{
	const volatile uint8_t *at =
		(const volatile uint8_t *)__builtin_frame_address(0) - STACK;
	int i, k, found = 0;

	for (i = 0; i < STACK - NONCE; i++) {
		for (k = 0; k < NONCE && at[i + k] == nonce[k]; k++)
			;
		found += k == NONCE;
	}
	return found;
}

static void no_nonce_is_left_on_the_stack(void **state)
{
	static uint8_t in[1000], out[1016];
	int i, sealing;

	(void)state;
	for (i = 0; i < CIPHER_COUNT; i++) {
		const struct known_answer *k = &known_answers[i];

		traced = (struct aead_op){
			.key = key_of(&ciphers[i], k->key),
			.aad = k->aad,
			.aad_len = (uint8_t)k->aad_len,
		};
		for (sealing = 1; sealing >= 0; sealing--) {
			traced.seal = sealing;
			traced.in = sealing ? in : out;
			traced.in_len = sealing ? 1000 : 1016;
			traced.out = sealing ? out : in;
			memset(traced.nonce, 0xa0 + i, NONCE);
			run(&traced);
			assert_int_equal(left_on_the_stack(traced.nonce), 0);
		}
		engine->ops->key_free(engine, traced.key);
	}
}

/* ---- Which one it is --------------------------------------------------- */

static int kind; /* of the group */

static const char *driver_of(const struct engine *e)
{
	return e->ops->driver(e, &ciphers[0]);
}

static void it_is_the_one_that_was_named(void **state)
{
	(void)state;
	assert_string_equal(driver_of(engine), kinds[kind].driver);
}

static void the_other_is_its_spare(void **state)
{
	struct engine *other;
	const char *why;

	(void)state;
	setenv("ASYNCTLS_CPU", kinds[!kind].name, 1);
	if (engine_cpu_new(&other, &why)) {
		assert_null(engine->spare);
	} else {
		assert_string_equal(driver_of(other), kinds[!kind].driver);
		assert_string_equal(driver_of(engine->spare),
				    kinds[!kind].driver);
		engine_cpu_free(other);
	}
	setenv("ASYNCTLS_CPU", kinds[kind].name, 1);
}

static void unnamed_it_is_the_fastest_that_works(void **state)
{
	struct engine *first;
	const char *why;

	(void)state;
	unsetenv("ASYNCTLS_CPU");
	assert_int_equal(engine_cpu_new(&first, &why), 0);
	if (why)
		assert_string_equal(driver_of(first), "libgcrypt");
	else
		assert_string_equal(driver_of(first), "intel-ipsec-mb");
	engine_cpu_free(first);
	setenv("ASYNCTLS_CPU", kinds[kind].name, 1);
}

#ifdef HAVE_GCRYPT
/* It is the process's: what the application sets up is still to be set up. */
static void an_application_may_still_set_up_libgcrypt(void **state)
{
	void *secure;

	(void)state;
	if (kind == 0)
		skip(); /* once */
	assert_false(gcry_control(GCRYCTL_INITIALIZATION_FINISHED_P));
	gcry_control(GCRYCTL_DISABLE_SECMEM_WARN);
	gcry_control(GCRYCTL_INIT_SECMEM, 128 << 10); /* not the default */
	gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
	secure = gcry_malloc_secure(100 << 10);
	assert_non_null(secure);
	assert_true(gcry_is_secure(secure));
	gcry_free(secure);
	check_known_answer(&ciphers[0]);
}
#endif

static bool works(const char *name)
{
	struct engine *e;
	const char *why;

	setenv("ASYNCTLS_CPU", name, 1);
	if (engine_cpu_new(&e, &why)) {
		print_message("skipped: %s\n", tls_last_error());
		return false;
	}
	engine_cpu_free(e);
	return true;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_the_one_that_was_named),
		cmocka_unit_test(the_other_is_its_spare),
		cmocka_unit_test(unnamed_it_is_the_fastest_that_works),
		cmocka_unit_test(published_answers_come_out_for_every_cipher),
		cmocka_unit_test(every_size_opens_elsewhere_and_in_place),
		cmocka_unit_test(any_flipped_bit_is_told),
		cmocka_unit_test(no_nonce_is_left_on_the_stack),
#ifdef HAVE_GCRYPT
		cmocka_unit_test(an_application_may_still_set_up_libgcrypt),
#endif
	};

	int failed = 0;

	for (kind = 0; kind < 2; kind++)
		if (works(kinds[kind].name))
			failed += cmocka_run_group_tests_name(
				kinds[kind].name, tests, setup, teardown);
	return failed;
}
