/* SPDX-License-Identifier: MIT */
/*
 * What is received into: the blocks lent to the ring's pool, and whose turn it
 * is when there are too few. All of it is within the limit of core->rx_pool.
 *
 * That every connection can be read whatever the others hold:
 *
 * 1. A buffer given back goes to the ring at once, so a lack of buffers passes
 *    while any are lent: who met it waits on `hungry`, and as many as there are
 *    buffers are served at a time. Their receives complete at once, data or not.
 * 2. When none is lent and the limit allows for no other, because connections
 *    hold it all as data that nobody reads, those that wait are told readable
 *    (rx->pending) and go to `starved`. Who wants to receive then has the ring
 *    poll the socket, which takes no memory, and waits once that fires.
 * 3. A pending connection is received from inside tls_read(): feed_read() looks
 *    at the record in front of the socket in `room`, a block that is nobody's
 *    and in use within the call only. If the limit allows for a block that fits
 *    it is received into that; if not, it is opened in room, copied to the
 *    caller, and taken from the socket once all of it was read: until then it
 *    is looked at and opened again. So this never waits for memory. Whoever
 *    has begun to read a record so (rx->looked_at) has no turn, however much
 *    memory comes back: nobody else may receive what was read already.
 * 4. Of a record that has not come as a whole nothing is taken; it is looked
 *    for again every FEED_LOOK_NS, which needs no memory either (`parts`).
 * 5. What is kept of a record while the rest is in the socket stands in room
 *    before it. Who has whole records in line has something to read.
 * 6. When memory comes back it goes to `starved` first, then to `hungry`.
 *
 * In a build without the CPU engine a record cannot be opened within the call:
 * it gets a block of its own in 3, whatever the limit.
 */
#ifndef ASYNCTLS_FEED_H
#define ASYNCTLS_FEED_H

#include "base/util.h"
#include "io/ring.h"
#include "line/pool.h"

struct core;
struct rx;

#define FEED_LOOK_NS (20 * (uint64_t)NS_PER_MS)

struct feed {
	struct block *lent[RING_BUFFERS]; /* to the ring's pool, by number */
	uint16_t spare[RING_BUFFERS];	  /* numbers without a block */
	unsigned spare_count, lent_count;
	unsigned claims; /* receives under way that were promised a buffer */
	unsigned warm;	 /* lent ones that were used before */
	unsigned used, filled; /* since the latest trim */
	bool was_filled; /* ... or before, since they last came back */
	unsigned drawn;	 /* to come back to be cooled */
	struct list hungry, starved, parts;
	uint64_t trimmed;
	struct block *room;
	struct ring_op draw_op;
};

/* Before anything else; lends buffers out of memory bytes. False: no memory. */
bool feed_begin(struct core *core, size_t memory);

/* The ring's pool has lost all it had, and forgotten what was asked of it. */
void feed_refill(struct core *core);

/* Is there a buffer that is promised to nobody? */
bool feed_has_buffer(struct core *core);
/* The ring has used this buffer: it is the caller's, and then */
struct block *feed_buffer(struct core *core, unsigned buffer);
/* ... the ring's again as it was, */
void feed_return(struct core *core, unsigned buffer, struct block *block);
/* ... or kept; and another is lent, if there is one. */
void feed_replace(struct core *core, unsigned buffer);

/* There is data, and no buffer: wait for a turn. */
void feed_wait(struct rx *rx);
/* ... or part of a record, and no memory for the whole. */
void feed_wait_part(struct rx *rx);
void feed_leave(struct rx *rx);
/* A receive that was promised a buffer has ended. */
void feed_served(struct rx *rx);
/* Have those receive for whom there is memory again; tell those there is not. */
void feed_serve(struct core *core);

/* rx_read() of a pending connection, or rx_peek(). */
size_t feed_read(struct rx *rx, uint8_t *buf, size_t len, bool peek);

/* Every FEED_LOOK_NS while there are parts: has the rest of some come? */
void feed_look(struct core *core);
/*
 * As pool_trim(), for buffers that are lent. Queues operations that complete
 * at once.
 */
bool feed_trim(struct core *core, uint64_t now);

#endif
