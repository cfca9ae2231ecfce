/* SPDX-License-Identifier: MIT */
/*
 * This folder is the pipeline: a line of records, the memory they lie in (pool), and
 * who has them sealed or opened, and again by another (dispatch). It is the same
 * for both directions, and knows nothing of what records mean.
 *
 * The line of records of one direction of one connection. Invariants:
 *
 * 1. Sequence number, nonce and key generation are bound when a record enters
 *    the line, never in an engine. (On receive a KeyUpdate in front binds them
 *    anew.)
 * 2. A completion only marks its slot; user-visible work happens elsewhere, in
 *    one place.
 * 3. A slot owns its memory until the socket (TX) or the application (RX) is
 *    done with it.
 * 4. Only the head leaves, whatever the order of completion.
 * 5. The last record under a key generation wipes it: a slot holds a reference.
 * 6. OPEN -> SUBMITTED -> READY, or FAILED in place of READY; there is no
 *    closed state. READY leaves the line as SENT (TX) or read (RX).
 */
#ifndef ASYNCTLS_QUEUE_H
#define ASYNCTLS_QUEUE_H

#include "asynctls.h"
#include "base/util.h"
#include "engine/engine.h"
#include "keys/keys.h"
#include "line/pool.h"

struct account;

enum slot_state {
	SLOT_OPEN,
	SLOT_SUBMITTED,
	SLOT_READY,
	SLOT_FAILED,
};

struct slot {
	struct aead_op op;
	struct slot *before;   /* in line when it entered */
	struct engine *engine; /* that is to have it first */
	struct account *account; /* the connection's, see dispatch.h */
	struct list flying;    /* while the kernel engine has it */
	uint64_t submitted;    /* since when, now_ns() */
	/* Put the operation's output in another block. False: no memory. */
	bool (*relocate)(struct slot *slot);
	void *owner; /* the tx or rx whose queue this is */
	struct keygen *gen;
	uint64_t seq;
	enum slot_state state;
	uint8_t type;	   /* TX, and RX once it was at the head */
	uint8_t aad[RECORD_AAD_MAX];
	bool examined;	   /* RX: type and content are known */
	bool by_kernel;	   /* the engine that has it, or finished it */
	uint8_t *wire;	   /* the record as on the wire, header first */
	size_t wire_len;
	uint8_t *content;  /* RX: what is left to read */
	size_t content_len; /* TX: application bytes in it */
	/* one reference each, on behalf of wire, and of plaintext or output */
	struct block *wire_block;
	struct block *side_block;
};

/*
 * Where slots are kept: in chunks that a line takes as it grows and gives back
 * when it is empty; slots never move. The first chunk of a line is small and is
 * always to be had, so that every connection can move a record; more of them
 * are memory like that of records (struct pool), and may be refused.
 */
struct slot_cache {
	unsigned size; /* slots in a line at most, a power of two */
	struct pool pool; /* of first chunks */
	struct pool_account account;
};

enum { QUEUE_FIRST = 4, QUEUE_CHUNK = 16, QUEUE_FEW = 5 };

struct queue {
	struct slot_cache *cache;
	struct pool_account *memory; /* for all chunks but the first */
	struct block **chunks;	     /* few, or more where lines are longer */
	struct block *few[QUEUE_FEW];
	unsigned chunk_count;	/* of chunks the line has */
	unsigned head, tail;	/* free-running, 0 while the line is empty */
	unsigned in_flight;
	struct slot *last;	/* the latest pushed */
};

void slot_cache_init(struct slot_cache *cache, unsigned min_size);
void slot_cache_destroy(struct slot_cache *cache);

/* A line is not moved in memory after that. */
void queue_init(struct queue *q, struct slot_cache *cache,
		struct pool_account *memory);
/* An empty one. */
void queue_destroy(struct queue *q);

static inline unsigned queue_count(const struct queue *q)
{
	return q->tail - q->head;
}

static inline bool queue_full(const struct queue *q)
{
	return queue_count(q) == q->cache->size;
}

/* Is there a place, and memory for it? (The system may still refuse.) */
bool queue_room(const struct queue *q);

/* What an engine writes to. */
static inline struct block *slot_output(const struct slot *slot)
{
	return slot->op.seal ? slot->wire_block : slot->side_block;
}

/* The i-th record of the line, 0 the head; i < queue_count(). */
struct slot *queue_at(const struct queue *q, unsigned i);
/* The head, or NULL. */
struct slot *queue_head(const struct queue *q);

/*
 * A new record at the end, OPEN, its nonce and generation bound. NULL if there
 * is no room for it (see queue_room()), or no memory.
 */
struct slot *queue_push(struct queue *q, struct keygen *gen, uint64_t seq);

/* Take back the latest queue_push(), with its references. */
void queue_unpush(struct queue *q, struct pool_account *account);

/* OPEN -> SUBMITTED */
void queue_submitted(struct queue *q, struct slot *slot, uint64_t *peak);
/*
 * SUBMITTED or OPEN -> READY or FAILED. Returns whether an earlier record was
 * still in flight.
 */
bool queue_completed(struct queue *q, struct slot *slot, bool failed);

/*
 * Bind a record to another generation and sequence number, whatever came of it
 * under the old: OPEN again. It must not be SUBMITTED.
 */
void queue_rebind(struct slot *slot, struct keygen *gen, uint64_t seq);

/* Drop the head with its references; it must not be SUBMITTED. */
void queue_pop(struct queue *q, struct pool_account *account);

#endif
