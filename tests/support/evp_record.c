/* SPDX-License-Identifier: MIT */
#include "evp_record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>

#include <cmocka.h>
#include <openssl/evp.h>

struct input {
	const uint8_t *key, *nonce, *aad, *in;
	size_t aad_len, len;
};

static const EVP_CIPHER *evp_of(const struct cipher *cipher)
{
	switch (cipher->id) {
	case CIPHER_AES_128_GCM:
		return EVP_aes_128_gcm();
	case CIPHER_AES_256_GCM:
		return EVP_aes_256_gcm();
	case CIPHER_AES_128_CCM:
		return EVP_aes_128_ccm();
	case CIPHER_AES_256_CCM:
		return EVP_aes_256_ccm();
	default:
		return EVP_chacha20_poly1305();
	}
}

/*
 * CCM wants every length before the first byte: the tag's with the nonce, the
 * message's before the AAD. tag NULL: seal. The others do not mind that.
 */
static EVP_CIPHER_CTX *begin(const struct cipher *cipher,
			     const struct input *from, const uint8_t *tag)
{
	EVP_CIPHER_CTX *evp = EVP_CIPHER_CTX_new();
	int seal = !tag, n;
	bool ccm = cipher->id == CIPHER_AES_128_CCM ||
		   cipher->id == CIPHER_AES_256_CCM;

	assert_int_equal(EVP_CipherInit_ex(evp, evp_of(cipher), NULL, NULL,
					   NULL, seal), 1);
	EVP_CIPHER_CTX_ctrl(evp, EVP_CTRL_AEAD_SET_IVLEN, RECORD_NONCE, NULL);
	if (ccm || tag)
		EVP_CIPHER_CTX_ctrl(evp, EVP_CTRL_AEAD_SET_TAG, RECORD_TAG,
				    (void *)(uintptr_t)tag);
	assert_int_equal(EVP_CipherInit_ex(evp, NULL, NULL, from->key,
					   from->nonce, seal), 1);
	if (ccm)
		assert_int_equal(EVP_CipherUpdate(evp, NULL, &n, NULL,
						  (int)from->len), 1);
	assert_int_equal(EVP_CipherUpdate(evp, NULL, &n, from->aad,
					  (int)from->aad_len), 1);
	return evp;
}

static void seal(const struct cipher *cipher, const struct input *from,
		 uint8_t *out)
{
	EVP_CIPHER_CTX *evp = begin(cipher, from, NULL);
	int n, more;

	assert_int_equal(EVP_CipherUpdate(evp, out, &n, from->in,
					  (int)from->len), 1);
	assert_int_equal(EVP_CipherFinal_ex(evp, out + n, &more), 1);
	assert_int_equal(EVP_CIPHER_CTX_ctrl(evp, EVP_CTRL_AEAD_GET_TAG,
					     RECORD_TAG, out + from->len), 1);
	EVP_CIPHER_CTX_free(evp);
}

void evp_seal_raw(const struct cipher *cipher, const uint8_t *key,
		  const uint8_t *nonce, const uint8_t *aad, size_t aad_len,
		  const uint8_t *in, size_t len, uint8_t *out)
{
	const struct input from = {
		.key = key, .nonce = nonce, .aad = aad, .in = in,
		.aad_len = aad_len, .len = len,
	};

	seal(cipher, &from, out);
}

/* With CCM the tag is checked by the update, with the others at the end. */
static bool open_it(const struct cipher *cipher, const struct input *from,
		    uint8_t *out)
{
	EVP_CIPHER_CTX *evp = begin(cipher, from, from->in + from->len);
	int n;
	bool ok;

	ok = EVP_CipherUpdate(evp, out, &n, from->in, (int)from->len) == 1;
	if (ok && cipher->id != CIPHER_AES_128_CCM &&
	    cipher->id != CIPHER_AES_256_CCM)
		ok = EVP_CipherFinal_ex(evp, out + n, &n) == 1;
	EVP_CIPHER_CTX_free(evp);
	return ok;
}

size_t evp_seal(const struct keygen *gen, uint64_t seq, uint8_t type,
		const void *inner, size_t len, uint8_t *wire)
{
	const struct record_format *format = gen->format;
	size_t body = format->prefix - RECORD_HEADER + len + RECORD_TAG;
	uint8_t nonce[RECORD_NONCE], aad[RECORD_AAD_MAX];

	record_put_prefix(format, wire, type, seq, body);
	record_nonce(nonce, gen->iv, seq);
	record_aad(format, aad, type, seq, body);
	evp_seal_raw(gen->cipher, gen->key, nonce, aad, format->aad_len, inner,
		     len, wire + format->prefix);
	return RECORD_HEADER + body;
}

ssize_t evp_open(const struct keygen *gen, uint64_t seq, const uint8_t *wire,
		 uint8_t *inner)
{
	const struct record_format *format = gen->format;
	size_t body = (size_t)wire[3] << 8 | wire[4];
	uint8_t nonce[RECORD_NONCE], aad[RECORD_AAD_MAX];
	const struct input from = {
		.key = gen->key,
		.nonce = nonce,
		.aad = aad,
		.aad_len = format->aad_len,
		.in = wire + format->prefix,
		.len = RECORD_HEADER + body - format->prefix - RECORD_TAG,
	};

	record_nonce(nonce, gen->iv, record_nonce_number(format, wire, seq));
	record_aad(format, aad, wire[0], seq, body);
	return open_it(gen->cipher, &from, inner) ? (ssize_t)from.len : -1;
}
