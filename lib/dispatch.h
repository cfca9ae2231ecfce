/* SPDX-License-Identifier: MIT */
/*
 * Which engine does an operation. The kernel's where it has the cipher, and
 * the CPU's in its stead when it refuses or fails one: same nonce, same
 * plaintext, so the same bytes.
 */
#ifndef ASYNCTLS_DISPATCH_H
#define ASYNCTLS_DISPATCH_H

#include "asynctls.h"
#include "engine.h"
#include "keys.h"
#include "queue.h"

struct dispatch {
	struct engine *kernel; /* NULL: not in use */
	struct engine *cpu;    /* NULL: not in this build */
	struct tls_stats *stats;
};

/* The engine that takes this cipher's records first; NULL if none has it. */
struct engine *dispatch_engine(const struct dispatch *d,
			       const struct cipher *cipher);

/*
 * Must what an operation of this cipher reads stay in place after submit?
 * (Not with a synchronous engine: it may read the caller's own memory.)
 */
bool dispatch_keeps_input(const struct dispatch *d,
			  const struct cipher *cipher);

/*
 * Start the slot's operation. ENGINE_DONE with op.result set, or
 * ENGINE_PENDING: op.done() follows.
 */
int dispatch_submit(struct dispatch *d, struct slot *slot);

/*
 * To be called from op.done(): has the CPU engine repeat what the kernel
 * failed, and counts. Afterwards op.result is final.
 */
void dispatch_finish(struct dispatch *d, struct slot *slot);

/*
 * Give up a slot in flight: op.done() will not be called. Returns whether its
 * output may still be written to.
 */
bool dispatch_abandon(struct dispatch *d, struct slot *slot);

#endif
