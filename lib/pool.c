/* SPDX-License-Identifier: MIT */
#include "pool.h"

#include <stdlib.h>
#include <sys/mman.h>

/*
 * Memory is asked of the system a mebibyte at a time. Of what nobody holds, one
 * account may come to hold a quarter, beside many that hold little.
 */
enum { SEGMENT_BYTES = 1 << 20, SPARE_SHARE = 4 };

struct pool_segment {
	struct pool_segment *next;
	uint8_t *data;
	struct block blocks[]; /* segment_blocks() */
};

void pool_init(struct pool *pool, size_t block_size, size_t sure,
	       size_t limit_bytes)
{
	*pool = (struct pool){
		.block_size = block_size,
		.sure = sure,
		.limit = limit_bytes / block_size,
	};
}

static size_t segment_blocks(const struct pool *pool)
{
	return SEGMENT_BYTES / pool->block_size;
}

static size_t segment_len(const struct pool *pool)
{
	return segment_blocks(pool) * pool->block_size;
}

void pool_destroy(struct pool *pool)
{
	struct pool_segment *s, *next;

	for (s = pool->segments; s; s = next) {
		next = s->next;
		munmap(s->data, segment_len(pool));
		free(s);
	}
	*pool = (struct pool){ 0 };
}

static bool grow(struct pool *pool)
{
	const size_t len = segment_len(pool);
	size_t i = segment_blocks(pool);
	struct pool_segment *s;

	s = calloc(1, sizeof(*s) + i * sizeof(s->blocks[0]));
	if (!s)
		return false;
	s->data = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (s->data == MAP_FAILED) {
		free(s);
		return false;
	}
	/*
	 * Without this a fork() while a driver writes to a page leaves the
	 * parent with a stale copy of it.
	 */
	madvise(s->data, len, MADV_DONTFORK);
	madvise(s->data, len, MADV_DONTDUMP);
	while (i--) {
		s->blocks[i].pool = pool;
		s->blocks[i].data = s->data + i * pool->block_size;
		s->blocks[i].next = pool->free;
		pool->free = &s->blocks[i];
	}
	s->next = pool->segments;
	pool->segments = s;
	pool->allocations++;
	return true;
}

struct block *pool_take_unowned(struct pool *pool)
{
	struct block *b;

	if (!pool->free && !grow(pool))
		return NULL;
	b = pool->free;
	pool->free = b->next;
	b->next = NULL;
	b->used = 0;
	b->refs = 1;
	return b;
}

void pool_adopt(struct pool_account *account, struct block *block)
{
	struct pool *pool = account->pool;

	(void)block;
	if (account->held++ == 0)
		pool->owners++;
	if (++pool->held > pool->held_peak)
		pool->held_peak = pool->held;
}

bool pool_may_take(const struct pool_account *account)
{
	const struct pool *pool = account->pool;
	size_t owners = pool->owners + (account->held == 0);

	if (account->held < pool->sure)
		return true;
	if (pool->held >= pool->limit)
		return false;
	return account->held < pool->limit / owners ||
	       account->held < (pool->limit - pool->held) / SPARE_SHARE;
}

struct block *pool_take_surely(struct pool_account *account)
{
	struct block *b = pool_take_unowned(account->pool);

	if (b)
		pool_adopt(account, b);
	return b;
}

struct block *pool_take(struct pool_account *account)
{
	return pool_may_take(account) ? pool_take_surely(account) : NULL;
}

static void give_back(struct block *block)
{
	block->next = block->pool->free;
	block->pool->free = block;
}

void block_get(struct block *block)
{
	block->refs++;
}

void block_put(struct pool_account *account, struct block *block)
{
	struct pool *pool = account->pool;

	if (--block->refs)
		return;
	pool->held--;
	if (--account->held == 0)
		pool->owners--;
	if (block->parked)
		pool->parked++;
	else
		give_back(block);
}

void block_park(struct block *block)
{
	block->parked++;
}

void block_unpark(struct block *block)
{
	if (--block->parked || block->refs)
		return;
	block->pool->parked--;
	give_back(block);
}

bool block_replace(struct pool_account *account, struct block **block)
{
	struct block *b = pool_take_surely(account);

	if (!b)
		return false;
	block_put(account, *block);
	*block = b;
	return true;
}

size_t block_room(const struct pool *pool, const struct block *block)
{
	return block ? pool->block_size - block->used : 0;
}

uint8_t *block_carve(struct pool_account *account, struct block **block,
		     size_t len)
{
	struct block *b = *block;

	if (b && b->refs == 1 && !b->parked)
		b->used = 0; /* nobody but the caller is left in it */
	if (block_room(account->pool, b) < len) {
		if (b)
			block_put(account, b);
		*block = b = pool_take(account);
		if (!b)
			return NULL;
	}
	block_get(b);
	b->used += len;
	return b->data + b->used - len;
}

void block_trim(struct block *block, const uint8_t *end,
		const uint8_t *new_end)
{
	if (end == block->data + block->used)
		block->used = (size_t)(new_end - block->data);
}
