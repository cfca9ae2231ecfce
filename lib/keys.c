/* SPDX-License-Identifier: MIT */
#include "keys.h"

#include <errno.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "secret.h"

/* HKDF-Expand-Label(secret, label, "", len), RFC 8446 7.1. */
static int expand_label(EVP_KDF_CTX *kdf, const struct cipher *cipher,
			const uint8_t *secret, const char *label, uint8_t *out,
			size_t len)
{
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST,
						 (char *)cipher->digest, 0),
		OSSL_PARAM_construct_octet_string(
			OSSL_KDF_PARAM_KEY, (void *)secret, cipher->secret_len),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PREFIX,
						  (void *)"tls13 ", 6),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_LABEL,
						  (void *)label, strlen(label)),
		OSSL_PARAM_construct_end(),
	};

	return EVP_KDF_derive(kdf, out, len, params) == 1 ? 0 : -EIO;
}

static EVP_KDF_CTX *tls13_kdf(void)
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS13-KDF", NULL);
	EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;

	EVP_KDF_free(kdf);
	return ctx;
}

static void wipe_free(struct keygen *gen)
{
	secret_free(gen, sizeof(*gen));
}

static int expand_keys(struct keygen *gen, EVP_KDF_CTX *kdf)
{
	int error = expand_label(kdf, gen->cipher, gen->secret, "key", gen->key,
				 gen->cipher->key_len);

	if (!error)
		error = expand_label(kdf, gen->cipher, gen->secret, "iv",
				     gen->iv, sizeof(gen->iv));
	return error;
}

int keygen_new(struct keygen **gen, const struct cipher *cipher,
	       const uint8_t *secret)
{
	struct keygen *new = secret_alloc(sizeof(*new));
	EVP_KDF_CTX *kdf;
	int error = -EIO;

	if (!new)
		return -ENOMEM;
	new->refs = 1;
	new->cipher = cipher;
	memcpy(new->secret, secret, cipher->secret_len);

	kdf = tls13_kdf();
	if (kdf)
		error = expand_keys(new, kdf);
	EVP_KDF_CTX_free(kdf);
	if (error) {
		wipe_free(new);
		return error;
	}
	*gen = new;
	return 0;
}

int keygen_next(struct keygen **next, const struct keygen *gen)
{
	uint8_t secret[CIPHER_SECRET_MAX];
	EVP_KDF_CTX *kdf = tls13_kdf();
	int error = -EIO;

	if (kdf)
		error = expand_label(kdf, gen->cipher, gen->secret,
				     "traffic upd", secret,
				     gen->cipher->secret_len);
	EVP_KDF_CTX_free(kdf);
	if (!error)
		error = keygen_new(next, gen->cipher, secret);
	OPENSSL_cleanse(secret, sizeof(secret));
	return error;
}

/*
 * AES-GCM: 2^24.5 full records. ChaCha20-Poly1305: none before the sequence
 * number's own. AES-CCM: 2^23 (RFC 9147 B.1), which is also what others get.
 * All with room for what is in line when the limit is reached.
 */
uint64_t keygen_record_limit(const struct cipher *cipher)
{
	switch (cipher->id) {
	case CIPHER_AES_128_GCM:
	case CIPHER_AES_256_GCM:
		return (uint64_t)1 << 24;
	case CIPHER_CHACHA20_POLY1305:
		return (uint64_t)1 << 62;
	default:
		return (uint64_t)1 << 22;
	}
}

struct keygen *keygen_get(struct keygen *gen)
{
	gen->refs++;
	return gen;
}

void keygen_put(struct keygen *gen)
{
	if (!gen || --gen->refs)
		return;
	for (int i = 0; i < KEYS_ENGINES; i++) {
		struct engine *engine = gen->bound[i].engine;

		if (engine)
			engine->ops->key_free(engine, gen->bound[i].key);
	}
	wipe_free(gen);
}

struct engine_key *keygen_bind(struct keygen *gen, struct engine *engine,
			       int *error)
{
	struct engine_key *key = NULL;
	int i;

	for (i = 0; i < KEYS_ENGINES && gen->bound[i].engine; i++)
		if (gen->bound[i].engine == engine)
			return gen->bound[i].key;
	if (i == KEYS_ENGINES) {
		*error = -ENOSPC;
		return NULL;
	}
	*error = engine->ops->key_new(engine, gen->cipher, gen->key, &key);
	if (*error)
		return NULL;
	gen->bound[i].engine = engine;
	gen->bound[i].key = key;
	return key;
}
