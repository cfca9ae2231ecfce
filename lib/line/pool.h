/* SPDX-License-Identifier: MIT */
/*
 * Memory that records live in, shared by the connections of a context up to a
 * limit that holds, in mappings of their own that a fork() does not copy (a
 * kernel driver may be writing to them).
 *
 * It consists of slabs, each cut into blocks of one of four kinds, so that what
 * is small takes little. A slab is in use while one of its blocks is; slabs in
 * use and empty ones that are kept are never more than the limit, so neither
 * is what is resident. Empty ones serve any kind. Their pages are the system's
 * again where more than a quarter of the limit has not been needed for a while,
 * and, whatever their number, after a time without need (pool_trim()).
 *
 * Within the limit an account may hold an equal share, or more while much of it
 * is left. Who holds nothing may have its first block as long as there is one.
 * Where there is none the account waits: whoever needs memory to go on with
 * what it holds has to have taken it before, or to do without.
 *
 * A few blocks are set aside for who holds nothing and gives them back at once,
 * whatever others do (pool_take_aside()).
 */
#ifndef ASYNCTLS_POOL_H
#define ASYNCTLS_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/util.h"

enum pool_kind {
	POOL_SMALL,  /* a record of 1,000 bytes */
	POOL_MIDDLE, /* ... of 4 KiB */
	POOL_RECORD, /* a full one, or 16 of 1 KiB */
	POOL_WHOLE,  /* a slab: four full ones */
	POOL_KINDS
};

enum {
	POOL_SLAB = 68 << 10,
	POOL_SMALL_BYTES = 1048,
	POOL_MIDDLE_BYTES = 4312,
	POOL_RECORD_BYTES = 17 << 10,
};

struct block {
	struct block *next; /* of its slab's free ones */
	struct slab *slab;
	uint8_t *data; /* block_size() bytes */
	size_t used;
	unsigned refs;
	unsigned parked; /* abandoned requests that a driver may write to it */
};

struct pool {
	struct list partial[POOL_KINDS]; /* slabs in use, with free blocks */
	struct list empty[POOL_KINDS];	 /* cut so, not in use */
	struct list cold; /* not in use, and the system has their pages */
	struct pool_segment *segments;
	struct slab *aside[POOL_KINDS]; /* NULL: none, or none yet */
	size_t slabs_max, slabs_used, empty_count;
	size_t kept;	      /* empty ones, for any while */
	struct spare spare;   /* of the empty ones */
	size_t idle;	      /* least of them since the latest trim */
	uint64_t trimmed;     /* when that was */
	size_t limit;	      /* bytes, what is set aside apart */
	size_t held;	      /* bytes, by accounts */
	size_t held_peak;
	size_t parked;	      /* bytes of blocks that only drivers are left in */
	size_t owners;	      /* accounts that hold anything */
	bool gave_back;	      /* a block, since somebody last cleared this */
	uint64_t allocations;
	bool disowned; /* by pool_disown() */
};

struct pool_account {
	struct pool *pool;
	size_t held; /* bytes */
};

/*
 * With set_aside, the limit has two slabs for pool_take_aside(); it is to be
 * POOL_LEAST bytes then at least.
 */
enum { POOL_LEAST = 4 * POOL_SLAB };
void pool_init(struct pool *pool, size_t limit_bytes, bool set_aside);
void pool_destroy(struct pool *pool);
/*
 * To be followed by that alone, where the kernel may still write to blocks: the
 * memory is given back, the addresses are not.
 */
void pool_disown(struct pool *pool);

/* The smallest kind with room for len bytes, POOL_WHOLE if none has. */
enum pool_kind pool_kind_for(size_t len);
enum pool_kind block_kind(const struct block *block);
/* Bytes it has room for; what accounts are charged with is a little more. */
size_t block_size(const struct block *block);
/* Bytes left in a block for block_carve(); 0 for NULL. */
size_t block_room(const struct block *block);

/* May this account take such a block now? (The system may still refuse.) */
bool pool_may_take(const struct pool_account *account, enum pool_kind kind);
/* A block with one reference; NULL if the account may not, or no memory. */
struct block *pool_take(struct pool_account *account, enum pool_kind kind);
/* A block whatever the share and limit; NULL only for lack of memory. */
struct block *pool_take_surely(struct pool_account *account,
			       enum pool_kind kind);
/* One of those set aside, POOL_SMALL or POOL_RECORD; NULL if none is left. */
struct block *pool_take_aside(struct pool_account *account,
			      enum pool_kind kind);
bool pool_has_aside(const struct pool *pool);
/*
 * A POOL_WHOLE within the limit, but of nobody's account, to be given back or
 * charged to one. NULL as pool_take().
 */
struct block *pool_lend(struct pool *pool);
void pool_take_back(struct block *block);
void pool_adopt(struct pool_account *account, struct block *block);
/* Has such a block been written to? Note that. Give its pages to the system. */
bool block_is_warm(const struct block *block);
void block_warm(struct block *block);
void block_cool(struct block *block);

/* Is so much held that what takes more than it fills should be moved? */
bool pool_tight(const struct pool *pool);

/*
 * Every POOL_TRIM_NS, give up what was not needed since the last time. Whether
 * that is to go on: false once nothing is kept.
 */
#define POOL_TRIM_NS (250 * (uint64_t)NS_PER_MS)
bool pool_trim(struct pool *pool, uint64_t now);

void block_get(struct block *block);
/*
 * Drops a reference. At the last the account is relieved of the block, and it
 * goes back to the pool, unless it is parked.
 */
void block_put(struct pool_account *account, struct block *block);

/*
 * A request was abandoned whose driver may write to the block: it is not used
 * again until, for each such request, it is unparked, which needs no account:
 * by then the connection may be gone. One never unparked is lost to the pool.
 */
void block_park(struct block *block);
void block_unpark(struct block *block);
/*
 * A new block in the place of *block, whose reference goes, whatever the limit.
 * False if there is no memory.
 */
bool block_replace(struct pool_account *account, struct block **block);

/*
 * len bytes of *block, if it is there and has them, else of a new block of that
 * kind, or a larger if there is none or need be, which then replaces it (the
 * reference held through *block moves). The caller gets a reference of its own
 * with the bytes.
 * NULL as pool_take(); *block then is as before, or NULL if it was in no use.
 */
uint8_t *block_carve(struct pool_account *account, struct block **block,
		     size_t len, enum pool_kind kind);
/* The latter half of that, once a new block is there. */
uint8_t *block_begin(struct pool_account *account, struct block **block,
		     size_t len, struct block *new);
/*
 * Of the bytes carved from block up to end give back those from new_end on,
 * unless others were carved behind them.
 */
void block_trim(struct block *block, const uint8_t *end,
		const uint8_t *new_end);

#endif
