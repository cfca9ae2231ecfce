/* SPDX-License-Identifier: MIT */
#include "line/pool.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * Memory is asked of the system a mebibyte at a time. Of what nobody holds, one
 * account may come to hold a quarter, beside many that hold little.
 */
enum {
	SEGMENT_SLABS = 15,
	SEGMENT_BYTES = SEGMENT_SLABS * POOL_SLAB,
	SPARE_SHARE = 4,
	KEEP_SHARE = 4,
	TIGHT_SHARE = 4,
	OWN_BLOCKS = 4, /* more have their heads in the slab itself */
};

struct slab {
	struct list node;
	struct pool *pool;
	uint8_t *data;
	struct block *free;
	unsigned used; /* blocks that are not free */
	enum pool_kind kind;
	bool is_warm; /* was written to, as far as is known */
	bool is_aside;
	struct block own[OWN_BLOCKS];
};

struct pool_segment {
	struct pool_segment *next;
	uint8_t *data;
	struct slab slabs[SEGMENT_SLABS];
};

static const unsigned blocks_of[POOL_KINDS] = { 64, 16, 4, 1 };
static const size_t bytes_of[POOL_KINDS] = {
	POOL_SMALL_BYTES, POOL_MIDDLE_BYTES, POOL_RECORD_BYTES, POOL_SLAB,
};

_Static_assert(64 * (POOL_SMALL_BYTES + sizeof(struct block)) == POOL_SLAB &&
	       16 * (POOL_MIDDLE_BYTES + sizeof(struct block)) == POOL_SLAB,
	       "small blocks and their heads fill a slab");

/* What an account is charged with. */
static const size_t charges[POOL_KINDS] = {
	POOL_SLAB / 64, POOL_SLAB / 16, POOL_SLAB / 4, POOL_SLAB,
};

static size_t charge_of(enum pool_kind kind)
{
	return charges[kind];
}

void pool_init(struct pool *pool, size_t limit_bytes, bool set_aside)
{
	size_t aside = set_aside ? 2 : 0;
	int i;

	*pool = (struct pool){ .slabs_max = limit_bytes / POOL_SLAB - aside };
	pool->limit = pool->slabs_max * POOL_SLAB;
	pool->kept = pool->slabs_max / KEEP_SHARE;
	for (i = 0; i < POOL_KINDS; i++) {
		list_init(&pool->partial[i]);
		list_init(&pool->empty[i]);
	}
	list_init(&pool->cold);
}

void pool_destroy(struct pool *pool)
{
	struct pool_segment *s, *next;

	for (s = pool->segments; s; s = next) {
		next = s->next;
		if (!pool->disowned)
			munmap(s->data, SEGMENT_BYTES);
		free(s);
	}
	*pool = (struct pool){ 0 };
}

void pool_disown(struct pool *pool)
{
	const struct pool_segment *s;

	pool->disowned = true;
	for (s = pool->segments; s; s = s->next)
		mmap(s->data, SEGMENT_BYTES, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
		     -1, 0);
}

/* ---- Slabs ------------------------------------------------------------- */

static void push(struct list *list, struct slab *slab)
{
	list_move_tail(list->next, &slab->node);
}

static struct slab *first(const struct list *list)
{
	return container_of(list->next, struct slab, node);
}

static bool grow(struct pool *pool)
{
	struct pool_segment *s = calloc(1, sizeof(*s));
	int i;

	if (!s)
		return false;
	s->data = mmap(NULL, SEGMENT_BYTES, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (s->data == MAP_FAILED) {
		free(s);
		return false;
	}
	/*
	 * Without this a fork() while a driver writes to a page leaves the
	 * parent with a stale copy of it.
	 */
	madvise(s->data, SEGMENT_BYTES, MADV_DONTFORK);
	madvise(s->data, SEGMENT_BYTES, MADV_DONTDUMP);
	/* or a byte would make two mebibytes resident */
	madvise(s->data, SEGMENT_BYTES, MADV_NOHUGEPAGE);
	for (i = 0; i < SEGMENT_SLABS; i++) {
		struct slab *slab = &s->slabs[i];

		slab->pool = pool;
		slab->data = s->data + (size_t)i * POOL_SLAB;
		list_init(&slab->node);
		list_move_tail(&pool->cold, &slab->node);
	}
	s->next = pool->segments;
	pool->segments = s;
	pool->allocations++;
	return true;
}

/* Where pages are larger than 4 KiB, neighbours keep those they share. */
static void cool(struct slab *slab)
{
	const uintptr_t mask = (uintptr_t)sysconf(_SC_PAGESIZE) - 1;
	uintptr_t begin = ((uintptr_t)slab->data + mask) & ~mask;
	uintptr_t end = ((uintptr_t)slab->data + POOL_SLAB) & ~mask;

	if (begin < end)
		madvise((void *)begin, end - begin, MADV_DONTNEED);
	slab->is_warm = false;
}

static void cut(struct slab *slab, enum pool_kind kind)
{
	unsigned i = blocks_of[kind];
	struct block *blocks = slab->own;
	uint8_t *data = slab->data;

	if (i > OWN_BLOCKS) {
		blocks = (struct block *)(void *)slab->data;
		data += i * sizeof(*blocks);
		slab->is_warm = true;
	}
	slab->kind = kind;
	slab->free = NULL;
	while (i--) {
		blocks[i] = (struct block){
			.next = slab->free,
			.slab = slab,
			.data = data + i * bytes_of[kind],
		};
		slab->free = &blocks[i];
	}
}

/* An empty one that is nobody's any more; of those, warm ones first. */
static struct slab *take_empty(struct pool *pool, enum pool_kind kind)
{
	struct slab *slab;
	unsigned i = kind;

	if (list_empty(&pool->empty[i]))
		for (i = POOL_KINDS - 1; i > 0; i--)
			if (!list_empty(&pool->empty[i]))
				break;
	if (list_empty(&pool->empty[i]))
		return NULL;
	slab = first(&pool->empty[i]);
	spare_taken(&pool->spare, --pool->empty_count);
	if (pool->empty_count < pool->idle)
		pool->idle = pool->empty_count;
	if (i != kind)
		cut(slab, kind);
	return slab;
}

static struct slab *take_slab(struct pool *pool, enum pool_kind kind)
{
	struct slab *slab = take_empty(pool, kind);

	if (!slab) {
		if (list_empty(&pool->cold) && !grow(pool))
			return NULL;
		slab = first(&pool->cold);
		cut(slab, kind);
	}
	pool->slabs_used++;
	return slab;
}

static struct slab *last_empty(const struct pool *pool)
{
	int i;

	for (i = 0; i < POOL_KINDS; i++)
		if (!list_empty(&pool->empty[i]))
			return container_of(pool->empty[i].prev, struct slab,
					    node);
	return NULL;
}

/* The one that was not used for the longest time, of some kind. */
static void give_up_one(struct pool *pool)
{
	struct slab *slab = last_empty(pool);

	pool->empty_count--;
	cool(slab);
	push(&pool->cold, slab);
}

static void keep_empty(struct pool *pool, struct slab *slab)
{
	const size_t kept = pool->kept;
	int i;

	pool->slabs_used--;
	pool->empty_count++;
	push(&pool->empty[slab->kind], slab);
	spare_given_back(&pool->spare, pool->empty_count, pool->slabs_used);
	for (i = 0; i < 2 && pool->empty_count > kept &&
		    spare_let_go(&pool->spare, kept); i++)
		give_up_one(pool);
}

bool pool_trim(struct pool *pool, uint64_t now)
{
	if (now - pool->trimmed >= POOL_TRIM_NS) {
		while (pool->idle && pool->empty_count) {
			pool->idle--;
			give_up_one(pool);
		}
		pool->idle = pool->empty_count;
		pool->trimmed = now;
	}
	return pool->empty_count > 0;
}

/* ---- Blocks ------------------------------------------------------------ */

enum pool_kind pool_kind_for(size_t len)
{
	int kind = POOL_SMALL;

	while (kind < POOL_WHOLE && len > bytes_of[kind])
		kind++;
	return (enum pool_kind)kind;
}

enum pool_kind block_kind(const struct block *block)
{
	return block->slab->kind;
}

size_t block_size(const struct block *block)
{
	return bytes_of[block->slab->kind];
}

size_t block_room(const struct block *block)
{
	return block ? block_size(block) - block->used : 0;
}

static struct block *take_from(struct slab *slab)
{
	struct block *b = slab->free;

	slab->free = b->next;
	slab->used++;
	b->next = NULL;
	b->used = 0;
	b->refs = 1;
	return b;
}

static struct block *take(struct pool *pool, enum pool_kind kind)
{
	struct slab *slab;
	struct block *b;

	if (!list_empty(&pool->partial[kind])) {
		slab = first(&pool->partial[kind]);
		b = take_from(slab);
	} else {
		slab = take_slab(pool, kind);
		if (!slab)
			return NULL;
		b = take_from(slab);
		if (slab->free)
			push(&pool->partial[kind], slab);
	}
	if (!slab->free)
		list_remove(&slab->node);
	return b;
}

static void give_back(struct block *block)
{
	struct slab *slab = block->slab;

	slab->pool->gave_back = true;
	block->next = slab->free;
	slab->free = block;
	if (!--slab->used && !slab->is_aside)
		keep_empty(slab->pool, slab);
	else if (!block->next && !slab->is_aside)
		push(&slab->pool->partial[slab->kind], slab);
}

static void charge(struct pool_account *account, enum pool_kind kind)
{
	struct pool *pool = account->pool;

	if (!account->held)
		pool->owners++;
	account->held += charge_of(kind);
	pool->held += charge_of(kind);
	if (pool->held > pool->held_peak)
		pool->held_peak = pool->held;
}

static bool has_slab(const struct pool *pool, enum pool_kind kind)
{
	return !list_empty(&pool->partial[kind]) ||
	       pool->slabs_used < pool->slabs_max;
}

bool pool_may_take(const struct pool_account *account, enum pool_kind kind)
{
	const struct pool *pool = account->pool;
	const size_t more = charge_of(kind);

	if (pool->held + more > pool->limit || !has_slab(pool, kind))
		return false;
	return !account->held ||
	       account->held + more <= (pool->limit - pool->held) / SPARE_SHARE ||
	       account->held + more <= pool->limit / pool->owners;
}

bool pool_tight(const struct pool *pool)
{
	return pool->held > pool->limit / TIGHT_SHARE;
}

struct block *pool_take_surely(struct pool_account *account,
			       enum pool_kind kind)
{
	struct block *b = take(account->pool, kind);

	if (!b)
		return NULL;
	b->slab->is_warm = true;
	charge(account, kind);
	return b;
}

struct block *pool_take(struct pool_account *account, enum pool_kind kind)
{
	if (!pool_may_take(account, kind))
		return NULL;
	return pool_take_surely(account, kind);
}

struct block *pool_take_aside(struct pool_account *account,
			      enum pool_kind kind)
{
	struct pool *pool = account->pool;
	struct slab *slab = pool->aside[kind];

	if (!slab) {
		slab = take_slab(pool, kind);
		if (!slab)
			return NULL;
		pool->slabs_used--; /* the limit is without it */
		list_remove(&slab->node);
		slab->is_aside = slab->is_warm = true;
		pool->aside[kind] = slab;
	}
	if (!slab->free)
		return NULL;
	charge(account, kind);
	return take_from(slab);
}

bool pool_has_aside(const struct pool *pool)
{
	const struct slab *slab = pool->aside[POOL_SMALL];

	return !slab || slab->free;
}

struct block *pool_lend(struct pool *pool)
{
	return has_slab(pool, POOL_WHOLE) ? take(pool, POOL_WHOLE) : NULL;
}

void pool_take_back(struct block *block)
{
	block->refs = 0;
	block->slab->is_warm = true;
	give_back(block);
}

void pool_adopt(struct pool_account *account, struct block *block)
{
	block->slab->is_warm = true;
	charge(account, POOL_WHOLE);
}

bool block_is_warm(const struct block *block)
{
	return block->slab->is_warm;
}

void block_warm(struct block *block)
{
	block->slab->is_warm = true;
}

void block_cool(struct block *block)
{
	cool(block->slab);
}

void block_get(struct block *block)
{
	block->refs++;
}

void block_put(struct pool_account *account, struct block *block)
{
	struct pool *pool = account->pool;
	size_t charged;

	if (--block->refs)
		return;
	charged = charge_of(block->slab->kind);
	pool->held -= charged;
	account->held -= charged;
	if (!account->held)
		pool->owners--;
	if (block->parked)
		pool->parked += charged;
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
	block->slab->pool->parked -= charge_of(block->slab->kind);
	give_back(block);
}

bool block_replace(struct pool_account *account, struct block **block)
{
	struct block *b = pool_take_surely(account, (*block)->slab->kind);

	if (!b)
		return false;
	block_put(account, *block);
	*block = b;
	return true;
}

/* ---- Pieces of blocks -------------------------------------------------- */

static uint8_t *carve(struct block *block, size_t len)
{
	block_get(block);
	block->used += len;
	return block->data + block->used - len;
}

uint8_t *block_begin(struct pool_account *account, struct block **block,
		     size_t len, struct block *new)
{
	if (*block)
		block_put(account, *block);
	*block = new;
	return carve(new, len);
}

uint8_t *block_carve(struct pool_account *account, struct block **block,
		     size_t len, enum pool_kind kind)
{
	struct block *b = *block;
	struct block *new;

	if (b && b->refs == 1 && !b->parked)
		b->used = 0; /* nobody but the caller is left in it */
	if (block_room(b) >= len)
		return carve(b, len);
	if (b && !b->used) {
		block_put(account, b); /* too small */
		*block = NULL;
	}
	if (len > bytes_of[kind])
		kind = pool_kind_for(len);
	new = pool_take(account, kind);
	while (!new && ++kind < POOL_KINDS)
		new = pool_take(account, kind);
	return new ? block_begin(account, block, len, new) : NULL;
}

void block_trim(struct block *block, const uint8_t *end,
		const uint8_t *new_end)
{
	if (end == block->data + block->used)
		block->used = (size_t)(new_end - block->data);
}
