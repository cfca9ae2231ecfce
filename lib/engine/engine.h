/* SPDX-License-Identifier: MIT */
/*
 * The seam: one AEAD operation, and what an engine is.
 *
 * Nonce, AAD and input are fixed before an engine sees an operation, so every
 * engine yields the same bytes, and what one refuses another can do.
 *
 * This folder has the engines there are, how a context comes to have which
 * (choice), and which of two a record goes to (hybrid). None of them knows of
 * connections, or of the order of records.
 */
#ifndef ASYNCTLS_ENGINE_H
#define ASYNCTLS_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "record/cipher.h"

struct engine;
struct engine_key; /* a key as its engine wants it; each engine has its own */

/*
 * One seal or open. The memory of the operation, and what it points to, stays
 * as it is until the operation is done.
 *
 * out has aad_len writable bytes before it: an engine may leave the AAD there
 * (AF_ALG does, and for a sealed record that is the header in its place).
 */
struct aead_op {
	struct engine_key *key;
	bool seal;
	bool has_tail; /* seal: tail goes behind in, the TLS 1.3 content type */
	uint8_t tail;
	uint8_t aad_len;
	uint16_t pad; /* seal: record_zeros that go behind the tail */
	uint8_t nonce[12];
	const uint8_t *aad;
	const uint8_t *in; /* seal: plaintext; open: ciphertext and tag */
	size_t in_len;
	uint8_t *out; /* seal: ciphertext and tag; open: plaintext; may be in */

	/*
	 * 0, or -EBADMSG (open: the tag is wrong), or another -errno: the
	 * engine failed and nobody knows what out holds.
	 */
	int result;
	uint16_t copied; /* seal: plaintext bytes the engine had to copy */
	void (*done)(struct aead_op *op);
	void *engine_data; /* the engine's, while the operation is in flight */
};

/* Bytes an operation must produce: seal with tag, open without. */
static inline size_t aead_op_out_len(const struct aead_op *op)
{
	if (!op->seal)
		return op->in_len - 16;
	return op->in_len + op->has_tail + op->pad + 16;
}

enum { ENGINE_PENDING = 0, ENGINE_DONE = 1 };

struct engine_ops {
	const char *name; /* "cpu", "afalg" */

	/*
	 * Every operation completes inside submit, and in need not outlive it.
	 */
	bool synchronous;

	/*
	 * NULL if the engine has this cipher, else why not, in words. The
	 * driver's name may be asked of an engine that has the cipher.
	 */
	const char *(*refusal)(const struct engine *engine,
			       const struct cipher *cipher);
	const char *(*driver)(const struct engine *engine,
			      const struct cipher *cipher);

	/* key is cipher->key_len bytes that stay until key_free(). 0 or -errno. */
	int (*key_new)(struct engine *engine, const struct cipher *cipher,
		       const uint8_t *key, struct engine_key **out);
	/* Wipes. No operation may be in flight under the key. */
	void (*key_free)(struct engine *engine, struct engine_key *key);

	/*
	 * ENGINE_DONE: complete, result is set, done() is not called.
	 * ENGINE_PENDING: done() will be called exactly once, from the ring's
	 * reap and never from inside submit.
	 * -errno: refused; nothing will come, the operation is the caller's.
	 */
	int (*submit)(struct engine *engine, struct aead_op *op);

	/*
	 * Forget an operation in flight: done() will not be called, and the
	 * struct is free at once. Returns false if the engine may still write
	 * to out (and to the AAD before it): then released(memory) is called
	 * from the ring's reap when it no longer does, which may be never.
	 * released NULL: nobody asks. A synchronous engine has none of this:
	 * nothing of it is ever in flight.
	 */
	bool (*abandon)(struct engine *engine, struct aead_op *op,
			void (*released)(void *memory), void *memory);

	void (*free)(struct engine *engine);
};

/* Engines embed this as their first member. */
struct engine {
	const struct engine_ops *ops;
	/*
	 * NULL, or a synchronous one for what this one fails to do: see
	 * keygen_submit().
	 */
	struct engine *spare;
};

#endif
