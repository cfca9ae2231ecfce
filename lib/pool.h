/* SPDX-License-Identifier: MIT */
/*
 * Memory that records live in: blocks of one size, shared by the connections
 * of a context up to a limit, in mappings of their own that a fork() does not
 * copy (a kernel driver may be writing to them).
 *
 * What is free is kept, up to a quarter of the limit or three times what is
 * held; pages of more than that are the system's again.
 *
 * Every account may always hold a few blocks, so that each connection can move
 * however many there are; more only within the limit, and within an equal share
 * of it or while much of it is left.
 */
#ifndef ASYNCTLS_POOL_H
#define ASYNCTLS_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util.h"

struct block {
	struct block *next; /* free list */
	struct pool *pool;
	uint8_t *data; /* pool->block_size bytes */
	size_t used;
	unsigned refs;
	unsigned parked; /* abandoned requests that a driver may write to it */
	unsigned index : 31; /* among its neighbours in memory */
	bool is_cold : 1;
};

struct pool {
	size_t block_size;
	size_t page_size;
	size_t sure; /* blocks that every account may hold */
	struct block *free;
	size_t free_count;
	struct spare spare;
	struct block *cold; /* free too, but the system has their pages */
	struct pool_segment *segments;
	size_t limit; /* blocks */
	size_t held;
	size_t held_peak;
	size_t parked; /* blocks that only drivers are left in */
	size_t owners; /* accounts that hold anything */
	uint64_t allocations;
	bool disowned; /* by pool_disown() */
};

struct pool_account {
	struct pool *pool;
	size_t held;
};

/* block_size is a multiple of 1 KiB, at most 1 MiB. */
void pool_init(struct pool *pool, size_t block_size, size_t sure,
	       size_t limit_bytes);
void pool_destroy(struct pool *pool);
/*
 * To be followed by that alone, where the kernel may still write to blocks: the
 * memory is given back, the addresses are not.
 */
void pool_disown(struct pool *pool);

/* Bytes left in a block for block_carve(); 0 for NULL. */
size_t block_room(const struct pool *pool, const struct block *block);

/* May this account take a block now? (Memory may still be lacking.) */
bool pool_may_take(const struct pool_account *account);
/* A block with one reference; NULL if the account may not, or no memory. */
struct block *pool_take(struct pool_account *account);
/* A block whatever the share and limit; NULL only for lack of memory. */
struct block *pool_take_surely(struct pool_account *account);
/* A block of nobody's account, for receive buffers not yet anyone's. */
struct block *pool_take_unowned(struct pool *pool);
/* Charge such a block to an account. */
void pool_adopt(struct pool_account *account, struct block *block);

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
 * A new block in the place of *block, whose reference goes. False if there is
 * no memory.
 */
bool block_replace(struct pool_account *account, struct block **block);

/*
 * len bytes of *block, if it is there and has them, else of a new block, which
 * then replaces it (the reference held through *block moves). The caller gets
 * a reference of its own with the bytes. NULL as pool_take().
 */
uint8_t *block_carve(struct pool_account *account, struct block **block,
		     size_t len);
/*
 * Of the bytes carved from block up to end give back those from new_end on,
 * unless others were carved behind them.
 */
void block_trim(struct block *block, const uint8_t *end,
		const uint8_t *new_end);

#endif
