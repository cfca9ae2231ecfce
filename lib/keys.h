/* SPDX-License-Identifier: MIT */
/*
 * Key generations (RFC 8446 7.1 to 7.3): a traffic secret, the key and IV
 * expanded from it, and the engines' own form of that key. Reference counted:
 * every record in flight holds its generation, and the last one wipes it.
 */
#ifndef ASYNCTLS_KEYS_H
#define ASYNCTLS_KEYS_H

#include "cipher.h"
#include "engine.h"
#include "record.h"

enum { KEYS_ENGINES = 2 };

struct keygen {
	unsigned refs;
	const struct cipher *cipher;
	uint8_t secret[CIPHER_SECRET_MAX];
	uint8_t key[CIPHER_KEY_MAX];
	uint8_t iv[RECORD_NONCE];
	struct {
		struct engine *engine;
		struct engine_key *key;
	} bound[KEYS_ENGINES];
};

/*
 * A generation from its traffic secret (cipher->secret_len bytes), holding
 * one reference. 0, -ENOMEM or -EIO (libcrypto refused).
 */
int keygen_new(struct keygen **gen, const struct cipher *cipher,
	       const uint8_t *secret);

/* The generation after a KeyUpdate (RFC 8446 7.2). Same errors. */
int keygen_next(struct keygen **next, const struct keygen *gen);

/* How many records may be sealed under one key (RFC 8446 5.5). */
uint64_t keygen_record_limit(const struct cipher *cipher);

struct keygen *keygen_get(struct keygen *gen);
/* Drops a reference; the last one frees engine keys and wipes. NULL is fine. */
void keygen_put(struct keygen *gen);

/*
 * The generation's key as this engine wants it, made on first use. NULL, with
 * *error = -errno, if the engine refuses it.
 */
struct engine_key *keygen_bind(struct keygen *gen, struct engine *engine,
			       int *error);

#endif
