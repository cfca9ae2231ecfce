/* SPDX-License-Identifier: MIT */
/*
 * Stands in front of engines and remembers every seal: (key, nonce) -> hash of
 * AAD, plaintext and tail. The same pair with the same hash is a record sealed
 * again, by another engine; with another hash it gives the key away, and the
 * process is aborted. May be used by several contexts at once.
 */
#ifndef TESTS_RECORDER_H
#define TESTS_RECORDER_H

#include <stdint.h>

#include "asynctls.h"
#include "engine/engine.h"

struct recorder;

struct recorder_counts {
	uint64_t seals;	  /* given to an engine */
	uint64_t repeats; /* ... which were so once before */
	uint64_t keys;	  /* made by an engine */
};

struct recorder *recorder_new(void);
/* The engines recorded are not its own. */
void recorder_free(struct recorder *r);

/* An engine that is inner, recorded. It lives as long as the recorder. */
struct engine *recorder_front(struct recorder *r, struct engine *inner);
/*
 * Stand in front of both engines of a context that has no connection yet. The
 * recorder must outlive the context, which goes on owning its engines.
 */
void recorder_attach(struct recorder *r, struct tls_context *ctx);

/* Begin anew, for another connection with the secrets of one that is closed. */
void recorder_forget(struct recorder *r);

struct recorder_counts recorder_counts(struct recorder *r);

#endif
