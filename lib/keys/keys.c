/* SPDX-License-Identifier: MIT */
#include "keys/keys.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/provider.h>

#include "base/secret.h"

/* HKDF-Expand-Label(secret, label, "", len), RFC 8446 7.1. */
static int expand_label(EVP_KDF_CTX *kdf, const struct suite *suite,
			const uint8_t *secret, const char *label, uint8_t *out,
			size_t len)
{
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST,
						 (char *)suite->digest, 0),
		OSSL_PARAM_construct_octet_string(
			OSSL_KDF_PARAM_KEY, (void *)secret, suite->digest_len),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PREFIX,
						  (void *)"tls13 ", 6),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_LABEL,
						  (void *)label, strlen(label)),
		OSSL_PARAM_construct_end(),
	};

	return EVP_KDF_derive(kdf, out, len, params) == 1 ? 0 : -EIO;
}

/*
 * In a library context of our own: what the application makes of the default
 * one, by its configuration or for a thread, is not meant for a worker's
 * KeyUpdates, and that of an SSL_CTX is not to be had. It stays for good.
 */
static EVP_KDF *tls13_kdf, *tls12_prf;

static void fetch(void)
{
	OSSL_LIB_CTX *own = OSSL_LIB_CTX_new();

	if (!own || !OSSL_PROVIDER_load(own, "default"))
		return;
	tls13_kdf = EVP_KDF_fetch(own, "TLS13-KDF", NULL);
	tls12_prf = EVP_KDF_fetch(own, "TLS1-PRF", NULL);
}

/*
 * Between this and kdf_end() OpenSSL's error queue may get longer: it is put
 * right there, since it is the application's.
 */
static EVP_KDF_CTX *kdf_begin(EVP_KDF *const *kdf)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	ERR_set_mark();
	pthread_once(&once, fetch);
	return *kdf ? EVP_KDF_CTX_new(*kdf) : NULL;
}

static void kdf_end(EVP_KDF_CTX *ctx)
{
	EVP_KDF_CTX_free(ctx);
	ERR_pop_to_mark();
}

static void wipe_free(struct keygen *gen)
{
	secret_free(gen, sizeof(*gen));
}

static int expand_keys(struct keygen *gen, EVP_KDF_CTX *kdf)
{
	int error = expand_label(kdf, gen->suite, gen->secret, "key", gen->key,
				 gen->cipher->key_len);

	if (!error)
		error = expand_label(kdf, gen->suite, gen->secret, "iv",
				     gen->iv, sizeof(gen->iv));
	return error;
}

static struct keygen *make(const struct suite *suite)
{
	struct keygen *gen = secret_alloc(sizeof(*gen));

	if (!gen)
		return NULL;
	gen->refs = 1;
	gen->suite = suite;
	gen->cipher = suite->cipher;
	gen->format = record_format(suite);
	return gen;
}

int keygen_new(struct keygen **gen, const struct suite *suite,
	       const uint8_t *secret)
{
	struct keygen *new = make(suite);
	EVP_KDF_CTX *kdf;
	int error = -EIO;

	if (!new)
		return -ENOMEM;
	memcpy(new->secret, secret, suite->digest_len);

	kdf = kdf_begin(&tls13_kdf);
	if (kdf)
		error = expand_keys(new, kdf);
	kdf_end(kdf);
	if (error) {
		wipe_free(new);
		return error;
	}
	*gen = new;
	return 0;
}

void keygen_log(struct keygen *gen, const struct keylog *log, bool of_client,
		unsigned number)
{
	gen->log = log;
	gen->of_client = of_client;
	gen->number = number;
}

int keygen_next(struct keygen **next, const struct keygen *gen)
{
	uint8_t secret[CIPHER_SECRET_MAX];
	EVP_KDF_CTX *kdf = kdf_begin(&tls13_kdf);
	int error = -EIO;

	if (kdf)
		error = expand_label(kdf, gen->suite, gen->secret,
				     "traffic upd", secret,
				     gen->suite->digest_len);
	kdf_end(kdf);
	if (!error)
		error = keygen_new(next, gen->suite, secret);
	if (!error && gen->log) {
		keygen_log(*next, gen->log, gen->of_client, gen->number + 1);
		keylog_write(gen->log, gen->of_client, gen->number + 1, secret,
			     gen->suite->digest_len);
	}
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

/*
 * Sooner than a peer's own limit: Java's asks for new keys with every record
 * past 2^37 bytes, which are 2^23 full records.
 */
uint64_t keygen_rekey_after(const struct cipher *cipher)
{
	uint64_t most = keygen_record_limit(cipher);
	const uint64_t early = (uint64_t)1 << 22;

	if (cipher->id == CIPHER_CHACHA20_POLY1305)
		return most;
	return early < most ? early : most;
}

/* ---- TLS 1.2 ----------------------------------------------------------- */

/* PRF(master, "key expansion", server_random + client_random), RFC 5246 6.3 */
static int expand_block(const struct suite *suite,
			const struct keys_tls12 *from, uint8_t *block,
			size_t len)
{
	EVP_KDF_CTX *kdf = kdf_begin(&tls12_prf);
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST,
						 (char *)suite->digest, 0),
		OSSL_PARAM_construct_octet_string(
			OSSL_KDF_PARAM_SECRET, (void *)from->master,
			sizeof(from->master)),
		/* seeds are put together in their order */
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED,
						  (void *)"key expansion", 13),
		OSSL_PARAM_construct_octet_string(
			OSSL_KDF_PARAM_SEED, (void *)from->server_random,
			sizeof(from->server_random)),
		OSSL_PARAM_construct_octet_string(
			OSSL_KDF_PARAM_SEED, (void *)from->client_random,
			sizeof(from->client_random)),
		OSSL_PARAM_construct_end(),
	};
	bool ok = kdf && EVP_KDF_derive(kdf, block, len, params) == 1;

	kdf_end(kdf);
	return ok ? 0 : -EIO;
}

/* With an AEAD the block is keys and IVs, each the client's first. */
static void use_block(struct keygen *gen, const uint8_t *block, size_t iv_len,
		      bool server)
{
	size_t key_len = gen->cipher->key_len;

	memcpy(gen->key, block + server * key_len, key_len);
	memcpy(gen->iv, block + 2 * key_len + server * iv_len, iv_len);
}

int keygen_new_tls12(struct keygen **client, struct keygen **server,
		     const struct suite *suite, const struct keys_tls12 *from)
{
	size_t iv_len = record_iv_len(record_format(suite));
	uint8_t block[2 * (CIPHER_KEY_MAX + RECORD_NONCE)];
	int error = expand_block(suite, from, block,
				 2 * (suite->cipher->key_len + iv_len));

	if (error)
		return error;
	*client = make(suite);
	*server = make(suite);
	if (*client && *server) {
		use_block(*client, block, iv_len, false);
		use_block(*server, block, iv_len, true);
	} else {
		wipe_free(*client);
		wipe_free(*server);
		error = -ENOMEM;
	}
	OPENSSL_cleanse(block, sizeof(block));
	return error;
}

void keygen_follow_nonce(struct keygen *gen, const uint8_t *record,
			 uint64_t seq)
{
	uint64_t last = record_nonce_number(gen->format, record, seq - 1);

	gen->nonce_ahead = last + 1 - seq;
}

/* ---- References -------------------------------------------------------- */

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

	*error = 0;
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

/* What the engine could not do; its input is as it was, or it is not repeated. */
static int submit_to_spare(struct keygen *gen, struct engine *spare,
			   struct aead_op *op, int ret)
{
	bool failed = ret == ENGINE_DONE && op->result != -EBADMSG;

	if (!spare || (ret >= 0 && (!failed || op->in == op->out)))
		return ret;
	op->key = keygen_bind(gen, spare, &ret);
	return op->key ? spare->ops->submit(spare, op) : ret;
}

int keygen_submit(struct keygen *gen, struct engine *engine,
		  struct aead_op *op)
{
	int ret;

	op->key = keygen_bind(gen, engine, &ret);
	if (op->key)
		ret = engine->ops->submit(engine, op);
	if (op->key && ret == ENGINE_DONE && !op->result)
		return ret;
	return submit_to_spare(gen, engine->spare, op, ret);
}
