/* SPDX-License-Identifier: MIT */
/*
 * Key generations: a key and IV, in TLS 1.3 the traffic secret they are
 * expanded from (RFC 8446 7.1 to 7.3), and the engines' own form of that key.
 * Reference counted: every record in flight holds its generation, and the last
 * one wipes it. This folder is the key schedule, and its log (keylog).
 */
#ifndef ASYNCTLS_KEYS_H
#define ASYNCTLS_KEYS_H

#include "engine/engine.h"
#include "keys/keylog.h"
#include "record/cipher.h"
#include "record/record.h"

enum { KEYS_ENGINES = 3 };

struct keygen {
	unsigned refs;
	const struct suite *suite;
	const struct cipher *cipher; /* the suite's */
	const struct record_format *format;
	uint8_t secret[CIPHER_SECRET_MAX]; /* TLS 1.3 */
	uint8_t key[CIPHER_KEY_MAX];
	uint8_t iv[RECORD_NONCE];
	/* TLS 1.2, a part of the nonce on the wire: what is ahead of seq in it */
	uint64_t nonce_ahead;
	struct {
		struct engine *engine;
		struct engine_key *key;
	} bound[KEYS_ENGINES];
	const struct keylog *log; /* for those that follow, or NULL */
	bool of_client;		  /* it is the client that sends with it */
	unsigned number;	  /* KeyUpdates before it */
};

enum { KEYS_MASTER = 48, KEYS_RANDOM = 32 };

/* What the keys of a TLS 1.2 connection are made of. */
struct keys_tls12 {
	uint8_t master[KEYS_MASTER]; /* extended (RFC 7627) or not */
	uint8_t client_random[KEYS_RANDOM];
	uint8_t server_random[KEYS_RANDOM];
};

/*
 * A generation of a TLS 1.3 suite from its traffic secret (suite->digest_len
 * bytes), holding one reference. 0, -ENOMEM or -EIO (libcrypto refused).
 */
int keygen_new(struct keygen **gen, const struct suite *suite,
	       const uint8_t *secret);

/* Both generations of a TLS 1.2 suite (RFC 5246 6.3), or neither. As above. */
int keygen_new_tls12(struct keygen **client, struct keygen **server,
		     const struct suite *suite, const struct keys_tls12 *from);

/* The number that goes into the nonce of record seq which is to be sealed. */
static inline uint64_t keygen_nonce_number(const struct keygen *gen,
					   uint64_t seq)
{
	return seq + gen->nonce_ahead;
}

/*
 * This record was the one before number seq: where its nonce is on the wire,
 * those that are sealed from now on go on from it, whatever it began with.
 */
void keygen_follow_nonce(struct keygen *gen, const uint8_t *record,
			 uint64_t seq);

/*
 * Have keygen_next() log the generations that follow. The log must be there as
 * long as that is called.
 */
void keygen_log(struct keygen *gen, const struct keylog *log, bool of_client,
		unsigned number);

/* The generation after a KeyUpdate (RFC 8446 7.2). Same errors. */
int keygen_next(struct keygen **next, const struct keygen *gen);

/* How many records may be sealed under one key (RFC 8446 5.5). */
uint64_t keygen_record_limit(const struct cipher *cipher);
/* ... and after how many the next one is due, unless told otherwise. */
uint64_t keygen_rekey_after(const struct cipher *cipher);

struct keygen *keygen_get(struct keygen *gen);
/* Drops a reference; the last one frees engine keys and wipes. NULL is fine. */
void keygen_put(struct keygen *gen);

/*
 * The generation's key as this engine wants it, made on first use. NULL, with
 * *error = -errno, if the engine refuses it.
 */
struct engine_key *keygen_bind(struct keygen *gen, struct engine *engine,
			       int *error);

/*
 * Have the engine do the operation with the generation's key: as its submit. If
 * it cannot, its spare does, unless the input may be spoiled (opening in place).
 */
int keygen_submit(struct keygen *gen, struct engine *engine,
		  struct aead_op *op);

#endif
