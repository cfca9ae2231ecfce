/* SPDX-License-Identifier: MIT */
#include "recorder.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "context/ctx_gate.h"

enum { FIRST_ROOM = 1 << 10 };

struct pair {
	uint8_t key[CIPHER_KEY_MAX];
	uint8_t nonce[12];
	uint8_t cipher;
	uint8_t used;
};

struct seal {
	struct pair pair;
	size_t len;
	uint64_t hash;
};

struct front {
	struct engine engine; /* first */
	struct engine_ops ops;
	struct engine *inner;
	struct recorder *recorder;
	struct front *next;
};

/* What keys of the engine in front are. */
struct engine_key {
	struct engine_key *inner;
	uint8_t bytes[CIPHER_KEY_MAX];
	uint8_t cipher;
};

struct recorder {
	pthread_mutex_t lock;
	struct front *fronts;
	struct seal *table; /* open addressing; never fuller than half */
	size_t room, count;
	struct recorder_counts counts;
};

/* ---- The table --------------------------------------------------------- */

/* Every step is a bijection of the state: no two single words collide. */
static uint64_t mix(uint64_t hash, const void *bytes, size_t len)
{
	const uint8_t *at = bytes;
	uint64_t word;

	for (; len; at += sizeof(word)) {
		size_t n = min_size(len, sizeof(word));

		word = 0;
		memcpy(&word, at, n);
		hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
		hash ^= hash >> 32;
		len -= n;
	}
	return hash;
}

static uint64_t hash_of(const struct aead_op *op)
{
	const uint64_t lengths[3] = { op->aad_len, op->in_len, op->pad };
	const uint8_t tail[2] = { op->has_tail, op->has_tail ? op->tail : 0 };
	uint64_t hash = mix(1, lengths, sizeof(lengths));

	hash = mix(hash, tail, sizeof(tail));
	hash = mix(hash, op->aad, op->aad_len);
	return mix(hash, op->in, op->in_len);
}

/* Where the pair is, or is to be. */
static struct seal *find(struct seal *table, size_t room,
			 const struct pair *pair)
{
	size_t i = mix(2, pair, sizeof(*pair)) & (room - 1);

	while (table[i].pair.used &&
	       memcmp(&table[i].pair, pair, sizeof(*pair)))
		i = (i + 1) & (room - 1);
	return &table[i];
}

static void grow(struct recorder *r)
{
	size_t i, room = r->room ? r->room * 2 : FIRST_ROOM;
	struct seal *table = calloc(room, sizeof(*table));

	if (!table)
		abort();
	for (i = 0; i < r->room; i++)
		if (r->table[i].pair.used)
			*find(table, room, &r->table[i].pair) = r->table[i];
	free(r->table);
	r->table = table;
	r->room = room;
}

__attribute__((noreturn)) static void reused(const struct seal *seal,
					     const struct aead_op *op)
{
	size_t i;

	fprintf(stderr, "recorder: a nonce was used again with the same key "
		"for another record (%zu bytes, now %zu): ", seal->len,
		op->in_len);
	for (i = 0; i < sizeof(op->nonce); i++)
		fprintf(stderr, "%02x", op->nonce[i]);
	fprintf(stderr, "\n");
	abort();
}

static void record(struct recorder *r, const struct engine_key *key,
		   const struct aead_op *op)
{
	struct pair pair = { .cipher = key->cipher, .used = 1 };
	uint64_t hash = hash_of(op);
	struct seal *seal;

	memcpy(pair.key, key->bytes, sizeof(pair.key));
	memcpy(pair.nonce, op->nonce, sizeof(pair.nonce));
	pthread_mutex_lock(&r->lock);
	if (2 * r->count >= r->room)
		grow(r);
	seal = find(r->table, r->room, &pair);
	r->counts.seals++;
	if (seal->pair.used) {
		if (seal->hash != hash)
			reused(seal, op);
		r->counts.repeats++;
	} else {
		*seal = (struct seal){ pair, op->in_len, hash };
		r->count++;
	}
	pthread_mutex_unlock(&r->lock);
}

/* ---- The engine in front ----------------------------------------------- */

static struct front *front_of(const struct engine *engine)
{
	return container_of((struct engine *)engine, struct front, engine);
}

static const char *refusal(const struct engine *engine,
			   const struct cipher *cipher)
{
	struct engine *inner = front_of(engine)->inner;

	return inner->ops->refusal(inner, cipher);
}

static const char *driver(const struct engine *engine,
			  const struct cipher *cipher)
{
	struct engine *inner = front_of(engine)->inner;

	return inner->ops->driver(inner, cipher);
}

static int key_new(struct engine *engine, const struct cipher *cipher,
		   const uint8_t *bytes, struct engine_key **out)
{
	struct front *front = front_of(engine);
	struct engine_key *key = calloc(1, sizeof(*key));
	int ret;

	if (!key)
		abort();
	ret = front->inner->ops->key_new(front->inner, cipher, bytes,
					 &key->inner);
	if (ret) {
		free(key);
		return ret;
	}
	memcpy(key->bytes, bytes, cipher->key_len);
	key->cipher = (uint8_t)cipher->id;
	pthread_mutex_lock(&front->recorder->lock);
	front->recorder->counts.keys++;
	pthread_mutex_unlock(&front->recorder->lock);
	*out = key;
	return 0;
}

static void key_free(struct engine *engine, struct engine_key *key)
{
	struct engine *inner = front_of(engine)->inner;

	inner->ops->key_free(inner, key->inner);
	free(key);
}

/* The operation keeps the inner key: its engine may look at it until done. */
static int submit(struct engine *engine, struct aead_op *op)
{
	struct front *front = front_of(engine);

	if (op->seal)
		record(front->recorder, op->key, op);
	op->key = op->key->inner;
	return front->inner->ops->submit(front->inner, op);
}

static bool abandon(struct engine *engine, struct aead_op *op,
		    void (*released)(void *memory), void *memory)
{
	struct engine *inner = front_of(engine)->inner;

	return inner->ops->abandon(inner, op, released, memory);
}

static void no_free(struct engine *engine)
{
	(void)engine; /* the recorder's */
}

/* ---- ------------------------------------------------------------------- */

struct recorder *recorder_new(void)
{
	struct recorder *r = calloc(1, sizeof(*r));

	if (!r)
		abort();
	pthread_mutex_init(&r->lock, NULL);
	return r;
}

void recorder_free(struct recorder *r)
{
	struct front *front;

	while ((front = r->fronts)) {
		r->fronts = front->next;
		free(front);
	}
	pthread_mutex_destroy(&r->lock);
	free(r->table);
	free(r);
}

struct engine *recorder_front(struct recorder *r, struct engine *inner)
{
	struct front *front = calloc(1, sizeof(*front));

	if (!front)
		abort();
	front->ops = (struct engine_ops){
		.name = inner->ops->name,
		.synchronous = inner->ops->synchronous,
		.refusal = refusal,
		.driver = driver,
		.key_new = key_new,
		.key_free = key_free,
		.submit = submit,
		.abandon = abandon,
		.free = no_free,
	};
	front->engine.ops = &front->ops;
	front->inner = inner;
	front->recorder = r;
	pthread_mutex_lock(&r->lock);
	front->next = r->fronts;
	r->fronts = front;
	pthread_mutex_unlock(&r->lock);
	return &front->engine;
}

void recorder_attach(struct recorder *r, struct tls_context *ctx)
{
	struct dispatch *d = &ctx->core.dispatch;

	if (ctx_enter(ctx)) /* a worker is about */
		abort();
	if (d->kernel)
		d->kernel = recorder_front(r, d->kernel);
	if (d->cpu)
		d->cpu = recorder_front(r, d->cpu);
	ctx_leave(ctx);
}

void recorder_forget(struct recorder *r)
{
	pthread_mutex_lock(&r->lock);
	free(r->table);
	r->table = NULL;
	r->room = r->count = 0;
	r->counts = (struct recorder_counts){ 0 };
	pthread_mutex_unlock(&r->lock);
}

struct recorder_counts recorder_counts(struct recorder *r)
{
	struct recorder_counts counts;

	pthread_mutex_lock(&r->lock);
	counts = r->counts;
	pthread_mutex_unlock(&r->lock);
	return counts;
}
