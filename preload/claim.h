/* SPDX-License-Identifier: MIT */
/*
 * Whose connection it is after a fork(). Both processes have its keys and
 * sequence numbers, and a program has only one of them go on; but a nonce must
 * never be used by both. So the first of the two to seal a record, or to read,
 * claims the connection, in a word of memory that they share, and the other is
 * refused from then on.
 *
 * A process has a number of its own among its relatives, a new one after each
 * fork, on both sides. The word of a connection has the number of the process
 * that it belongs to; after a fork each side finds that it has another number
 * and tries to put that in the place of the old one.
 *
 * Words lie in pages that are shared with children (MAP_SHARED); a page is
 * used for new connections only until the next fork, so that no word that a
 * relative may still ask for is used again.
 */
#ifndef ASYNCTLS_CLAIM_H
#define ASYNCTLS_CLAIM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct claim_page;

struct claim {
	uint64_t owner; /* as this process knows it */
	_Atomic uint64_t *word;
	struct claim_page *page;
};

/* The number of this process now; changed by a fork() in any thread. */
extern _Atomic uint64_t claim_self;

/* Once, before anything else; registers what is to be done at fork(). */
void claim_start(void);

/* It is this process's. false: no memory. */
bool claim_new(struct claim *claim);
void claim_free(struct claim *claim);

bool claim_again(struct claim *claim);

/* Is it ours alone? false: a relative has gone on with it. */
static inline bool claim_holds(struct claim *claim)
{
	return claim->owner == atomic_load_explicit(&claim_self,
						    memory_order_relaxed) ||
	       claim_again(claim);
}

#endif
