/* SPDX-License-Identifier: MIT */
/*
 * Which engine does an operation. The kernel's where it has the cipher and is
 * well, and the CPU's in its stead when it refuses, fails or does not finish
 * one: same nonce, same plaintext, so the same bytes.
 *
 * What the kernel engine fails in a row gives it a rest: for the connection
 * first, then for the context, a second and then twice as long each time. A
 * full queue is no illness: the context then keeps fewer records in it, and
 * tries one more now and then.
 */
#ifndef ASYNCTLS_DISPATCH_H
#define ASYNCTLS_DISPATCH_H

#include "asynctls.h"
#include "base/util.h"
#include "engine/engine.h"
#include "engine/hybrid.h"
#include "keys/keys.h"
#include "line/queue.h"

/* How the kernel engine has been doing, for a connection or a context. */
struct health {
	unsigned failures; /* in a row */
	unsigned pauses;   /* in a row */
	uint64_t paused_until; /* now_ns() time; 0: in use */
};

/* What a connection has done, and how the kernel engine did there. */
struct account {
	struct health health;
	struct tls_stats stats;
};

struct dispatch {
	struct engine *kernel; /* NULL: not in use */
	struct engine *cpu;    /* NULL: not in this build */
	uint64_t deadline; /* nanoseconds the kernel engine has for a record */
	struct health health;
	struct hybrid hybrid;
	unsigned window; /* records in flight that its queue is known to take */
	unsigned grown;	 /* completed since the window grew */
	unsigned flying_count;
	struct list flying; /* slots with the kernel engine, oldest first */
};

void dispatch_init(struct dispatch *d, struct engine *kernel,
		   struct engine *cpu, uint64_t deadline, bool hybrid);

/* The engine that takes this cipher's records first; NULL if none has it. */
struct engine *dispatch_engine(const struct dispatch *d,
			       const struct cipher *cipher);

/*
 * The engine for a connection's next record, of len bytes, the first of queue
 * that are waiting or in flight. A synchronous one completes
 * inside submit and may read the caller's own memory; for another, what the
 * operation reads must stay in place.
 */
struct engine *dispatch_choose(struct dispatch *d, const struct cipher *cipher,
			       struct account *account, size_t len,
			       unsigned queue);

/*
 * Start the slot's operation on slot->engine. ENGINE_DONE with op.result set,
 * or ENGINE_PENDING: op.done() follows.
 */
int dispatch_submit(struct dispatch *d, struct slot *slot);

/*
 * To be called from op.done(): has the CPU engine repeat what the kernel
 * failed, and counts. Afterwards op.result is final, but for an -EBADMSG of the
 * kernel engine on receive: that may be for a KeyUpdate nobody has seen yet.
 */
void dispatch_finish(struct dispatch *d, struct slot *slot);

/* Is the slot's -EBADMSG the kernel engine's word alone? */
bool dispatch_unconfirmed(const struct slot *slot);
/* Have the CPU engine say whether it is true; then op.result is final. */
void dispatch_confirm(struct dispatch *d, struct slot *slot);

/* When the record longest in flight is overdue; UINT64_MAX without one. */
uint64_t dispatch_due(const struct dispatch *d);
/*
 * Take what is overdue from the kernel engine: its output is parked and put
 * elsewhere (slot->relocate()), then op.done() is called.
 */
void dispatch_expire(struct dispatch *d, uint64_t now);

/* Give up a slot in flight, its output parked: op.done() will not be called. */
void dispatch_abandon(struct dispatch *d, struct slot *slot);

#endif
