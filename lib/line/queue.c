/* SPDX-License-Identifier: MIT */
#include "line/queue.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(QUEUE_FIRST * sizeof(struct slot) <= POOL_SMALL_BYTES &&
	       QUEUE_CHUNK * sizeof(struct slot) <= POOL_MIDDLE_BYTES,
	       "a chunk of slots fits in a block");

void slot_cache_init(struct slot_cache *cache, unsigned min_size)
{
	*cache = (struct slot_cache){ .size = 1 };
	while (cache->size < min_size)
		cache->size *= 2;
	pool_init(&cache->pool, SIZE_MAX, false);
	cache->pool.kept = 1;
	cache->account.pool = &cache->pool;
}

void slot_cache_destroy(struct slot_cache *cache)
{
	pool_destroy(&cache->pool);
}

void queue_init(struct queue *q, struct slot_cache *cache,
		struct pool_account *memory)
{
	*q = (struct queue){ .cache = cache, .memory = memory };
	q->chunks = q->few;
}

void queue_destroy(struct queue *q)
{
	if (q->chunks != q->few)
		free(q->chunks);
	q->chunks = q->few;
}

static unsigned chunk_of(unsigned place)
{
	return (place + QUEUE_CHUNK - QUEUE_FIRST) / QUEUE_CHUNK;
}

static struct slot *slot_at(const struct queue *q, unsigned place)
{
	struct slot *slots = (struct slot *)(void *)
				     q->chunks[chunk_of(place)]->data;

	if (place < QUEUE_FIRST)
		return slots + place;
	return slots + (place - QUEUE_FIRST) % QUEUE_CHUNK;
}

struct slot *queue_at(const struct queue *q, unsigned i)
{
	assert(i < queue_count(q));
	return slot_at(q, (q->head + i) & (q->cache->size - 1));
}

struct slot *queue_head(const struct queue *q)
{
	return queue_count(q) ? queue_at(q, 0) : NULL;
}

/* In which chunk the next record is to be. */
static unsigned next_chunk(const struct queue *q)
{
	return chunk_of(q->tail & (q->cache->size - 1));
}

bool queue_room(const struct queue *q)
{
	if (queue_full(q))
		return false;
	return !q->chunk_count || next_chunk(q) < q->chunk_count ||
	       pool_may_take(q->memory, POOL_MIDDLE);
}

static bool have_table(struct queue *q)
{
	const unsigned most = chunk_of(q->cache->size - 1) + 1;
	struct block **table;

	if (q->chunk_count < QUEUE_FEW || q->chunks != q->few)
		return true;
	table = calloc(most, sizeof(struct block *));
	if (!table)
		return false;
	memcpy(table, q->few, sizeof(q->few));
	q->chunks = table;
	return true;
}

static bool add_chunk(struct queue *q)
{
	struct block *chunk;

	if (!have_table(q))
		return false;
	if (q->chunk_count)
		chunk = pool_take(q->memory, POOL_MIDDLE);
	else
		chunk = pool_take_surely(&q->cache->account, POOL_SMALL);
	if (chunk)
		q->chunks[q->chunk_count++] = chunk;
	return chunk;
}

struct slot *queue_push(struct queue *q, struct keygen *gen, uint64_t seq)
{
	struct slot *slot;

	if (queue_full(q) ||
	    (next_chunk(q) >= q->chunk_count && !add_chunk(q)))
		return NULL;
	slot = slot_at(q, q->tail++ & (q->cache->size - 1));
	*slot = (struct slot){
		.gen = keygen_get(gen),
		.seq = seq,
		.state = SLOT_OPEN,
		.before = q->last,
	};
	q->last = slot;
	list_init(&slot->flying);
	record_nonce(slot->op.nonce, gen->iv, keygen_nonce_number(gen, seq));
	return slot;
}

void queue_submitted(struct queue *q, struct slot *slot, uint64_t *peak)
{
	assert(slot->state == SLOT_OPEN);
	slot->state = SLOT_SUBMITTED;
	if (++q->in_flight > *peak)
		*peak = q->in_flight;
}

bool queue_completed(struct queue *q, struct slot *slot, bool failed)
{
	struct slot *head = queue_head(q);

	assert(slot->state == SLOT_OPEN || slot->state == SLOT_SUBMITTED);
	if (slot->state == SLOT_SUBMITTED)
		q->in_flight--;
	slot->state = failed ? SLOT_FAILED : SLOT_READY;
	if (slot == head)
		return false;
	return slot->before->state == SLOT_SUBMITTED;
}

void queue_rebind(struct slot *slot, struct keygen *gen, uint64_t seq)
{
	assert(slot->state != SLOT_SUBMITTED);
	keygen_get(gen);
	keygen_put(slot->gen);
	slot->gen = gen;
	slot->seq = seq;
	slot->state = SLOT_OPEN;
	record_nonce(slot->op.nonce, gen->iv, keygen_nonce_number(gen, seq));
}

static void release(struct slot *slot, struct pool_account *account)
{
	if (slot->wire_block)
		block_put(account, slot->wire_block);
	if (slot->side_block)
		block_put(account, slot->side_block);
	keygen_put(slot->gen);
	/* Of record 0 it is the IV. */
	explicit_bzero(slot->op.nonce, sizeof(slot->op.nonce));
}

/* An empty line gives its memory back. */
static void settle(struct queue *q)
{
	if (queue_count(q))
		return;
	while (--q->chunk_count)
		block_put(q->memory, q->chunks[q->chunk_count]);
	block_put(&q->cache->account, q->chunks[0]);
	q->head = q->tail = 0;
	q->last = NULL;
}

void queue_unpush(struct queue *q, struct pool_account *account)
{
	struct slot *slot = queue_at(q, queue_count(q) - 1);

	assert(slot->state == SLOT_OPEN);
	release(slot, account);
	q->tail--;
	q->last = slot->before;
	settle(q);
}

void queue_pop(struct queue *q, struct pool_account *account)
{
	struct slot *slot = queue_at(q, 0);

	assert(slot->state != SLOT_SUBMITTED);
	release(slot, account);
	q->head++;
	settle(q);
}
