/* SPDX-License-Identifier: MIT */
#include "pool.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * Memory is asked of the system a mebibyte at a time. Of what nobody holds, one
 * account may come to hold a quarter, beside many that hold little.
 */
enum { SEGMENT_BYTES = 1 << 20, SPARE_SHARE = 4, KEEP_SHARE = 4 };

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
		.page_size = (size_t)sysconf(_SC_PAGESIZE),
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
		if (!pool->disowned)
			munmap(s->data, segment_len(pool));
		free(s);
	}
	*pool = (struct pool){ 0 };
}

void pool_disown(struct pool *pool)
{
	const struct pool_segment *s;

	pool->disowned = true;
	for (s = pool->segments; s; s = s->next)
		mmap(s->data, segment_len(pool), PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
		     -1, 0);
}

static void push(struct block **list, struct block *block)
{
	block->next = *list;
	*list = block;
}

static struct block *pop(struct block **list)
{
	struct block *b = *list;

	*list = b->next;
	b->next = NULL;
	return b;
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
		s->blocks[i].index = (unsigned)i;
		s->blocks[i].is_cold = true;
		s->blocks[i].data = s->data + i * pool->block_size;
		push(&pool->cold, &s->blocks[i]);
	}
	s->next = pool->segments;
	pool->segments = s;
	pool->allocations++;
	return true;
}

struct block *pool_take_unowned(struct pool *pool)
{
	struct block *b;

	if (pool->free) {
		b = pop(&pool->free);
		spare_taken(&pool->spare, --pool->free_count);
	} else {
		if (!pool->cold && !grow(pool))
			return NULL;
		b = pop(&pool->cold);
		b->is_cold = false;
	}
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

/* Is it there, and cold? Then a page shared with it is nobody's. */
static bool is_cold(const struct pool *pool, const struct block *neighbour,
		    unsigned index)
{
	return index < segment_blocks(pool) && neighbour->is_cold &&
	       pool->page_size <= pool->block_size;
}

/* The system takes back the pages that nobody else's memory is in. */
static void cool(struct pool *pool, struct block *block)
{
	const uintptr_t mask = pool->page_size - 1;
	uintptr_t begin = (uintptr_t)block->data;
	uintptr_t end = begin + pool->block_size;

	if (!is_cold(pool, block - 1, block->index - 1))
		begin += mask;
	if (is_cold(pool, block + 1, block->index + 1))
		end += mask;
	begin &= ~mask;
	end &= ~mask;
	if (begin < end)
		madvise((void *)begin, end - begin, MADV_DONTNEED);
	block->is_cold = true;
	push(&pool->cold, block);
}

static void give_back(struct block *block)
{
	struct pool *pool = block->pool;
	const size_t kept = pool->limit / KEEP_SHARE;
	int i;

	push(&pool->free, block);
	pool->free_count++;
	spare_given_back(&pool->spare, pool->free_count, pool->held);
	for (i = 0; i < 2 && pool->free_count > kept &&
		    spare_let_go(&pool->spare, kept); i++) {
		pool->free_count--;
		cool(pool, pop(&pool->free));
	}
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
