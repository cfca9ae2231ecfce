/* SPDX-License-Identifier: MIT */
/*
 * Known answers are from RFC 8448 section 3 ("Simple 1-RTT Handshake"); what
 * that RFC does not have is computed here from HMAC by the definition in
 * RFC 8446 7.1, so that libcrypto's TLS13-KDF is not measured against itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "evp_record.h"
#include "keys/keys.h"

static const struct suite *aes128; /* TLS_AES_128_GCM_SHA256 */

static const uint8_t client_secret[] = {
	0x9e, 0x40, 0x64, 0x6c, 0xe7, 0x9a, 0x7f, 0x9d, 0xc0, 0x5a, 0xf8,
	0x88, 0x9b, 0xce, 0x65, 0x52, 0x87, 0x5a, 0xfa, 0x0b, 0x06, 0xdf,
	0x00, 0x87, 0xf7, 0x92, 0xeb, 0xb7, 0xc1, 0x75, 0x04, 0xa5,
};
static const uint8_t client_key[] = {
	0x17, 0x42, 0x2d, 0xda, 0x59, 0x6e, 0xd5, 0xd9,
	0xac, 0xd8, 0x90, 0xe3, 0xc6, 0x3f, 0x50, 0x51,
};
static const uint8_t client_iv[] = {
	0x5b, 0x78, 0x92, 0x3d, 0xee, 0x08, 0x57, 0x90, 0x33, 0xe5, 0x23, 0xd9,
};
/* its first record: the bytes 0 to 49 */
static const uint8_t client_record[] = {
	0x17, 0x03, 0x03, 0x00, 0x43, 0xa2, 0x3f, 0x70, 0x54, 0xb6, 0x2c, 0x94,
	0xd0, 0xaf, 0xfa, 0xfe, 0x82, 0x28, 0xba, 0x55, 0xcb, 0xef, 0xac, 0xea,
	0x42, 0xf9, 0x14, 0xaa, 0x66, 0xbc, 0xab, 0x3f, 0x2b, 0x98, 0x19, 0xa8,
	0xa5, 0xb4, 0x6b, 0x39, 0x5b, 0xd5, 0x4a, 0x9a, 0x20, 0x44, 0x1e, 0x2b,
	0x62, 0x97, 0x4e, 0x1f, 0x5a, 0x62, 0x92, 0xa2, 0x97, 0x70, 0x14, 0xbd,
	0x1e, 0x3d, 0xea, 0xe6, 0x3a, 0xee, 0xbb, 0x21, 0x69, 0x49, 0x15, 0xe4,
};

static const uint8_t server_secret[] = {
	0xa1, 0x1a, 0xf9, 0xf0, 0x55, 0x31, 0xf8, 0x56, 0xad, 0x47, 0x11,
	0x6b, 0x45, 0xa9, 0x50, 0x32, 0x82, 0x04, 0xb4, 0xf4, 0x4b, 0xfb,
	0x6b, 0x3a, 0x4b, 0x4f, 0x1f, 0x3f, 0xcb, 0x63, 0x16, 0x43,
};
static const uint8_t server_key[] = {
	0x9f, 0x02, 0x28, 0x3b, 0x6c, 0x9c, 0x07, 0xef,
	0xc2, 0x6b, 0xb9, 0xf2, 0xac, 0x92, 0xe3, 0x56,
};
static const uint8_t server_iv[] = {
	0xcf, 0x78, 0x2b, 0x88, 0xdd, 0x83, 0x54, 0x9a, 0xad, 0xf1, 0xe9, 0x84,
};
/* its second record, after a NewSessionTicket: the bytes 0 to 49 */
static const uint8_t server_record[] = {
	0x17, 0x03, 0x03, 0x00, 0x43, 0x2e, 0x93, 0x7e, 0x11, 0xef, 0x4a, 0xc7,
	0x40, 0xe5, 0x38, 0xad, 0x36, 0x00, 0x5f, 0xc4, 0xa4, 0x69, 0x32, 0xfc,
	0x32, 0x25, 0xd0, 0x5f, 0x82, 0xaa, 0x1b, 0x36, 0xe3, 0x0e, 0xfa, 0xf9,
	0x7d, 0x90, 0xe6, 0xdf, 0xfc, 0x60, 0x2d, 0xcb, 0x50, 0x1a, 0x59, 0xa8,
	0xfc, 0xc4, 0x9c, 0x4b, 0xf2, 0xe5, 0xf0, 0xa2, 0x1c, 0x00, 0x47, 0xc2,
	0xab, 0xf3, 0x32, 0x54, 0x0d, 0xd0, 0x32, 0xe1, 0x67, 0xc2, 0x95, 0x5d,
};

/* HKDF-Expand-Label for outputs of at most one block, from HMAC. */
static void expand_label(const EVP_MD *md, const uint8_t *secret,
			 const char *label, uint8_t *out, size_t len)
{
	uint8_t info[64] = { 0, (uint8_t)len };
	uint8_t block[EVP_MAX_MD_SIZE];
	size_t label_len = strlen(label), n = 2;

	info[n++] = (uint8_t)(6 + label_len);
	memcpy(info + n, "tls13 ", 6);
	memcpy(info + n + 6, label, label_len);
	n += 6 + label_len;
	info[n++] = 0;
	info[n++] = 1;
	assert_non_null(
		HMAC(md, secret, EVP_MD_size(md), info, n, block, NULL));
	memcpy(out, block, len);
}

static void assert_seals_rfc8448(const uint8_t *secret, uint64_t seq,
				 const uint8_t *record)
{
	uint8_t inner[51], wire[72];
	struct keygen *gen;

	for (int i = 0; i < 50; i++)
		inner[i] = (uint8_t)i;
	inner[50] = RECORD_DATA;
	assert_int_equal(keygen_new(&gen, aes128, secret), 0);
	assert_int_equal(evp_seal(gen, seq, RECORD_DATA, inner, sizeof(inner),
				  wire), sizeof(wire));
	assert_memory_equal(wire, record, sizeof(wire));
	keygen_put(gen);
}

static void the_clients_key_and_iv_are_those_of_rfc8448(void **state)
{
	struct keygen *gen;

	(void)state;
	assert_int_equal(keygen_new(&gen, aes128, client_secret), 0);
	assert_memory_equal(gen->key, client_key, sizeof(client_key));
	assert_memory_equal(gen->iv, client_iv, sizeof(client_iv));
	keygen_put(gen);
}

static void the_servers_key_and_iv_are_those_of_rfc8448(void **state)
{
	struct keygen *gen;

	(void)state;
	assert_int_equal(keygen_new(&gen, aes128, server_secret), 0);
	assert_memory_equal(gen->key, server_key, sizeof(server_key));
	assert_memory_equal(gen->iv, server_iv, sizeof(server_iv));
	keygen_put(gen);
}

static void the_clients_first_record_is_that_of_rfc8448(void **state)
{
	(void)state;
	assert_seals_rfc8448(client_secret, 0, client_record);
}

static void the_servers_second_record_is_that_of_rfc8448(void **state)
{
	(void)state;
	assert_seals_rfc8448(server_secret, 1, server_record);
}

static const EVP_MD *digest_of(const struct suite *suite)
{
	return suite->digest_len == 48 ? EVP_sha384() : EVP_sha256();
}

static void every_suite_expands_as_hmac_says(void **state)
{
	uint8_t secret[CIPHER_SECRET_MAX], key[CIPHER_KEY_MAX];
	uint8_t iv[RECORD_NONCE];
	const struct suite *s;
	int checked = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(secret); i++)
		secret[i] = (uint8_t)(i * 7 + 1);
	for (s = cipher_suites; s->name; s++) {
		struct keygen *gen;

		if (s->version != CIPHER_TLS13)
			continue;
		expand_label(digest_of(s), secret, "key", key,
			     s->cipher->key_len);
		expand_label(digest_of(s), secret, "iv", iv, sizeof(iv));
		assert_int_equal(keygen_new(&gen, s, secret), 0);
		assert_ptr_equal(gen->suite, s);
		assert_ptr_equal(gen->cipher, s->cipher);
		assert_memory_equal(gen->secret, secret, s->digest_len);
		assert_memory_equal(gen->key, key, s->cipher->key_len);
		assert_memory_equal(gen->iv, iv, sizeof(iv));
		keygen_put(gen);
		checked++;
	}
	assert_int_equal(checked, 4);
}

static void a_key_update_ratchets_the_secret(void **state)
{
	uint8_t secret[CIPHER_SECRET_MAX], key[CIPHER_KEY_MAX];
	const struct suite *s;

	(void)state;
	for (s = cipher_suites; s->name; s++) {
		uint8_t first[CIPHER_SECRET_MAX] = { 1, 2, 3 };
		struct keygen *gen, *next;

		if (s->version != CIPHER_TLS13)
			continue;
		expand_label(digest_of(s), first, "traffic upd", secret,
			     s->digest_len);
		expand_label(digest_of(s), secret, "key", key,
			     s->cipher->key_len);
		assert_int_equal(keygen_new(&gen, s, first), 0);
		assert_int_equal(keygen_next(&next, gen), 0);
		assert_memory_equal(next->secret, secret, s->digest_len);
		assert_memory_equal(next->key, key, s->cipher->key_len);
		assert_memory_equal(gen->secret, first, s->digest_len);
		keygen_put(next);
		keygen_put(gen);
	}
}

/* RFC 8446 5.5, RFC 9147 B.1; ChaCha20-Poly1305 has the sequence number's. */
static void records_under_one_key_are_limited_by_cipher(void **state)
{
	static const unsigned bits[CIPHER_COUNT] = {
		[CIPHER_AES_128_GCM] = 24,	 [CIPHER_AES_256_GCM] = 24,
		[CIPHER_CHACHA20_POLY1305] = 62, [CIPHER_AES_128_CCM] = 22,
		[CIPHER_AES_256_CCM] = 22,
	};
	unsigned i;

	(void)state;
	for (i = 0; i < CIPHER_COUNT; i++)
		assert_int_equal(keygen_record_limit(&ciphers[i]),
				 (uint64_t)1 << bits[i]);
}

static void a_digest_libcrypto_does_not_have_is_an_error(void **state)
{
	struct suite odd = *aes128;
	struct keygen *gen = NULL;

	(void)state;
	odd.digest = "no such digest";
	assert_int_equal(keygen_new(&gen, &odd, client_secret), -EIO);
	assert_null(gen);
}

static void suites_are_found_by_number(void **state)
{
	const struct suite *s;

	(void)state;
	assert_ptr_equal(suite_by_number(0x1301)->cipher,
			 &ciphers[CIPHER_AES_128_GCM]);
	assert_ptr_equal(suite_by_number(0x1304)->cipher,
			 &ciphers[CIPHER_AES_128_CCM]);
	assert_ptr_equal(suite_by_number(0xcca9)->cipher,
			 &ciphers[CIPHER_CHACHA20_POLY1305]);
	assert_null(suite_by_number(0x1305)); /* TLS_AES_128_CCM_8_SHA256 */
	assert_null(suite_by_number(0xc0ae)); /* ECDHE-ECDSA-AES128-CCM8 */
	assert_null(suite_by_number(0));
	for (s = cipher_suites; s->name; s++) {
		assert_ptr_equal(suite_by_number(s->number), s);
		assert_true(s[1].name == NULL || s[1].number > s->number);
	}
	for (int id = 0; id < CIPHER_COUNT; id++)
		assert_int_equal(ciphers[id].id, id);
}

/* An engine that counts its keys. */
struct engine_key {
	uint8_t bytes[CIPHER_KEY_MAX];
};

struct counting_engine {
	struct engine engine;
	int made, freed, fail;
	int submitted, result; /* of the operations */
};

static int counting_key_new(struct engine *engine, const struct cipher *cipher,
			    const uint8_t *key, struct engine_key **out)
{
	struct counting_engine *e = (struct counting_engine *)engine;

	if (e->fail)
		return e->fail;
	*out = calloc(1, sizeof(**out));
	assert_non_null(*out);
	memcpy((*out)->bytes, key, cipher->key_len);
	e->made++;
	return 0;
}

static void counting_key_free(struct engine *engine, struct engine_key *key)
{
	((struct counting_engine *)engine)->freed++;
	free(key);
}

static int counting_submit(struct engine *engine, struct aead_op *op)
{
	struct counting_engine *e = (struct counting_engine *)engine;

	assert_memory_equal(op->key->bytes, client_key, sizeof(client_key));
	e->submitted++;
	op->result = e->result;
	return ENGINE_DONE;
}

static const struct engine_ops counting_ops = {
	.name = "counting",
	.key_new = counting_key_new,
	.key_free = counting_key_free,
	.submit = counting_submit,
};

static void an_engine_gets_the_key_once(void **state)
{
	struct counting_engine e = { .engine.ops = &counting_ops };
	struct engine_key *key;
	struct keygen *gen;
	int error = 0;

	(void)state;
	assert_int_equal(keygen_new(&gen, aes128, client_secret), 0);
	key = keygen_bind(gen, &e.engine, &error);
	assert_non_null(key);
	assert_memory_equal(key->bytes, client_key, sizeof(client_key));
	assert_ptr_equal(keygen_bind(gen, &e.engine, &error), key);
	assert_int_equal(e.made, 1);
	keygen_put(gen);
}

static void every_engine_gets_a_key_of_its_own(void **state)
{
	struct counting_engine a = { .engine.ops = &counting_ops }, b = a,
			       c = a, d = a;
	struct keygen *gen;
	int error = 0;

	(void)state;
	assert_int_equal(keygen_new(&gen, aes128, client_secret), 0);
	assert_non_null(keygen_bind(gen, &a.engine, &error));
	assert_non_null(keygen_bind(gen, &b.engine, &error));
	assert_non_null(keygen_bind(gen, &c.engine, &error));
	assert_int_equal(a.made + b.made + c.made, 3);
	assert_null(keygen_bind(gen, &d.engine, &error));
	assert_int_equal(error, -ENOSPC);
	keygen_put(gen);
	assert_int_equal(a.freed, 1);
	assert_int_equal(b.freed, 1);
	assert_int_equal(c.freed, 1);
}

static void an_engines_refusal_is_passed_on(void **state)
{
	struct counting_engine e = { .engine.ops = &counting_ops };
	struct keygen *gen;
	int error = 0;

	(void)state;
	e.fail = -EMFILE;
	assert_int_equal(keygen_new(&gen, aes128, client_secret), 0);
	assert_null(keygen_bind(gen, &e.engine, &error));
	assert_int_equal(error, -EMFILE);
	e.fail = 0;
	assert_non_null(keygen_bind(gen, &e.engine, &error));
	keygen_put(gen);
	assert_int_equal(e.freed, 1);
}

static void the_last_reference_frees_the_engines_keys(void **state)
{
	struct counting_engine e = { .engine.ops = &counting_ops };
	struct keygen *gen;
	int error = 0;

	(void)state;
	assert_int_equal(keygen_new(&gen, aes128, client_secret), 0);
	assert_non_null(keygen_bind(gen, &e.engine, &error));
	assert_ptr_equal(keygen_get(gen), gen);
	keygen_put(gen);
	assert_int_equal(e.freed, 0);
	keygen_put(gen);
	assert_int_equal(e.freed, 1);
	keygen_put(NULL);
}

/* ---- What an engine cannot do ------------------------------------------ */

/* How often its spare was asked, which can do everything. */
static int asked_of_the_spare(int refuses_key, int result, bool in_place)
{
	struct counting_engine spare = { .engine.ops = &counting_ops };
	struct counting_engine e = { .engine.ops = &counting_ops,
				     .engine.spare = &spare.engine,
				     .fail = refuses_key,
				     .result = result };
	uint8_t in[16], out[16];
	struct aead_op op = { .in = in, .in_len = 16,
			      .out = in_place ? in : out };
	struct keygen *gen;

	assert_int_equal(keygen_new(&gen, aes128, client_secret), 0);
	assert_int_equal(keygen_submit(gen, &e.engine, &op), ENGINE_DONE);
	assert_int_equal(op.result, spare.submitted ? 0 : result);
	keygen_put(gen);
	assert_int_equal(e.made + spare.made, e.freed + spare.freed);
	return spare.submitted;
}

static void a_spare_does_what_an_engine_fails_to_do(void **state)
{
	(void)state;
	assert_int_equal(asked_of_the_spare(0, 0, false), 0);
	assert_int_equal(asked_of_the_spare(0, -EIO, false), 1);
	assert_int_equal(asked_of_the_spare(-ENOMEM, 0, false), 1);
	assert_int_equal(asked_of_the_spare(-ENOMEM, 0, true), 1);
}

static void a_spare_is_not_asked_about_a_wrong_tag_or_spoiled_input(void **state)
{
	(void)state;
	assert_int_equal(asked_of_the_spare(0, -EBADMSG, false), 0);
	assert_int_equal(asked_of_the_spare(0, -EIO, true), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_clients_key_and_iv_are_those_of_rfc8448),
		cmocka_unit_test(the_servers_key_and_iv_are_those_of_rfc8448),
		cmocka_unit_test(the_clients_first_record_is_that_of_rfc8448),
		cmocka_unit_test(the_servers_second_record_is_that_of_rfc8448),
		cmocka_unit_test(every_suite_expands_as_hmac_says),
		cmocka_unit_test(a_key_update_ratchets_the_secret),
		cmocka_unit_test(records_under_one_key_are_limited_by_cipher),
		cmocka_unit_test(a_digest_libcrypto_does_not_have_is_an_error),
		cmocka_unit_test(suites_are_found_by_number),
		cmocka_unit_test(an_engine_gets_the_key_once),
		cmocka_unit_test(every_engine_gets_a_key_of_its_own),
		cmocka_unit_test(an_engines_refusal_is_passed_on),
		cmocka_unit_test(the_last_reference_frees_the_engines_keys),
		cmocka_unit_test(a_spare_does_what_an_engine_fails_to_do),
		cmocka_unit_test(
			a_spare_is_not_asked_about_a_wrong_tag_or_spoiled_input),
	};

	aes128 = suite_by_number(0x1301);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
