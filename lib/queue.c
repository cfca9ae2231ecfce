/* SPDX-License-Identifier: MIT */
#include "queue.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { KEPT = 64 };

struct slot_array {
	struct slot_array *next;
	struct slot slots[];
};

void slot_cache_init(struct slot_cache *cache, unsigned min_size)
{
	*cache = (struct slot_cache){ .size = 1 };
	while (cache->size < min_size)
		cache->size *= 2;
}

void slot_cache_destroy(struct slot_cache *cache)
{
	struct slot_array *a, *next;

	for (a = cache->free; a; a = next) {
		next = a->next;
		free(a);
	}
	cache->free = NULL;
}

static struct slot_array *borrow(struct slot_cache *cache)
{
	struct slot_array *a = cache->free;

	if (a) {
		cache->free = a->next;
		spare_taken(&cache->spare, --cache->free_count);
	} else {
		cache->allocations++;
		a = malloc(sizeof(*a) + cache->size * sizeof(struct slot));
	}
	cache->lent += a != NULL;
	return a;
}

static void give_back(struct slot_cache *cache, struct slot_array *a)
{
	int i;

	cache->lent--;
	cache->free_count++;
	a->next = cache->free;
	cache->free = a;
	spare_given_back(&cache->spare, cache->free_count, cache->lent);
	for (i = 0; i < 2 && cache->free_count > KEPT &&
		    spare_let_go(&cache->spare, KEPT); i++) {
		a = cache->free;
		cache->free = a->next;
		cache->free_count--;
		free(a);
	}
}

void queue_init(struct queue *q, struct slot_cache *cache)
{
	*q = (struct queue){ .cache = cache };
}

struct slot *queue_at(const struct queue *q, unsigned i)
{
	assert(i < queue_count(q));
	return &q->array->slots[(q->head + i) & (q->cache->size - 1)];
}

struct slot *queue_head(const struct queue *q)
{
	return queue_count(q) ? queue_at(q, 0) : NULL;
}

struct slot *queue_push(struct queue *q, struct keygen *gen, uint64_t seq)
{
	struct slot *slot;

	if (queue_full(q))
		return NULL;
	if (!q->array && !(q->array = borrow(q->cache)))
		return NULL;
	q->tail++;
	slot = queue_at(q, queue_count(q) - 1);
	*slot = (struct slot){
		.gen = keygen_get(gen),
		.seq = seq,
		.state = SLOT_OPEN,
	};
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
	struct slot *before;

	assert(slot->state == SLOT_OPEN || slot->state == SLOT_SUBMITTED);
	if (slot->state == SLOT_SUBMITTED)
		q->in_flight--;
	slot->state = failed ? SLOT_FAILED : SLOT_READY;
	if (slot == head)
		return false;
	before = slot == q->array->slots ? slot + q->cache->size - 1 : slot - 1;
	return before->state == SLOT_SUBMITTED;
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

/* An empty line gives its array back. */
static void settle(struct queue *q)
{
	if (queue_count(q))
		return;
	give_back(q->cache, q->array);
	q->array = NULL;
}

void queue_unpush(struct queue *q, struct pool_account *account)
{
	struct slot *slot = queue_at(q, queue_count(q) - 1);

	assert(slot->state == SLOT_OPEN);
	release(slot, account);
	q->tail--;
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
