/* SPDX-License-Identifier: MIT */
#include "secret.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "util.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(ptr, len) ((void)(ptr), (void)(len))
#define ASAN_UNPOISON_MEMORY_REGION(ptr, len) ((void)(ptr), (void)(len))
#endif

enum {
	UNIT = 16,
	ALIGN = 64, /* of what is no smaller */
	CHUNK_BYTES = 64 << 10,
	CHUNK_UNITS = CHUNK_BYTES / UNIT,
};

/*
 * What is known of a mapping lies outside it, since a child finds it empty.
 * Only its first unit points back; the rest is for use.
 */
struct chunk {
	struct list all;
	uint8_t *data; /* aligned to its size */
	unsigned used; /* units */
	uint64_t taken[CHUNK_UNITS / 64];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct list chunks = { &chunks, &chunks };
static unsigned empty_chunks;

static size_t units_of(size_t size)
{
	return (size + UNIT - 1) / UNIT;
}

/* ---- Chunks ------------------------------------------------------------ */

static uint8_t *map_aligned(void)
{
	uint8_t *all = mmap(NULL, 2 * CHUNK_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t before;

	if (all == MAP_FAILED)
		return NULL;
	before = -(uintptr_t)all % CHUNK_BYTES;
	if (before)
		munmap(all, before);
	munmap(all + before + CHUNK_BYTES, CHUNK_BYTES - before);
	return all + before;
}

static void protect(uint8_t *data)
{
	madvise(data, CHUNK_BYTES, MADV_DONTDUMP);
	madvise(data, CHUNK_BYTES, MADV_WIPEONFORK);
	mlock2(data, CHUNK_BYTES, MLOCK_ONFAULT);
	ASAN_POISON_MEMORY_REGION(data + UNIT, CHUNK_BYTES - UNIT);
}

static struct chunk *chunk_new(void)
{
	struct chunk *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->data = map_aligned();
	if (!c->data) {
		free(c);
		return NULL;
	}
	protect(c->data);
	c->taken[0] = 1;
	list_init(&c->all);
	empty_chunks++;
	return c;
}

static void chunk_free(struct chunk *c)
{
	ASAN_UNPOISON_MEMORY_REGION(c->data, CHUNK_BYTES);
	munmap(c->data, CHUNK_BYTES);
	list_remove(&c->all);
	empty_chunks--;
	free(c);
}

/* To where the next one is looked for first. */
static void chunk_first(struct chunk *c)
{
	list_remove(&c->all);
	list_move_tail(chunks.next, &c->all);
}

static bool is_taken(const struct chunk *c, size_t unit)
{
	return c->taken[unit / 64] >> unit % 64 & 1;
}

static void flip(struct chunk *c, size_t unit, size_t units)
{
	for (; units; unit++, units--)
		c->taken[unit / 64] ^= (uint64_t)1 << unit % 64;
}

/* The first run of so many free units that begins where it may, or none: 0. */
static size_t find_run(const struct chunk *c, size_t units)
{
	const size_t step = units * UNIT < ALIGN ? 1 : ALIGN / UNIT;
	size_t at = step, n;

	while (at + units <= CHUNK_UNITS) {
		for (n = 0; n < units && !is_taken(c, at + n); n++)
			;
		if (n == units)
			return at;
		at += n + 1;
		at += (step - at % step) % step;
	}
	return 0;
}

static uint8_t *chunk_take(struct chunk *c, size_t units)
{
	size_t at = 0;

	if (CHUNK_UNITS - 1 - c->used >= units)
		at = find_run(c, units);
	if (!at)
		return NULL;
	flip(c, at, units);
	empty_chunks -= !c->used;
	c->used += (unsigned)units;
	*(struct chunk **)(void *)c->data = c;
	return c->data + at * UNIT;
}

/* One empty chunk is kept, so that none comes and goes with each connection. */
static void chunk_give_back(struct chunk *c, const uint8_t *ptr, size_t units)
{
	flip(c, (size_t)(ptr - c->data) / UNIT, units);
	c->used -= (unsigned)units;
	empty_chunks += !c->used;
	if (!c->used && empty_chunks > 1)
		chunk_free(c);
	else
		chunk_first(c);
}

/* ---- fork() ------------------------------------------------------------ */

/* A child may have contexts of its own, and must not find the lock taken. */
static void before_fork(void)
{
	pthread_mutex_lock(&lock);
}

static void after_fork(void)
{
	pthread_mutex_unlock(&lock);
}

static void survive_fork(void)
{
	pthread_atfork(before_fork, after_fork, after_fork);
}

/* ---- Allocating -------------------------------------------------------- */

static uint8_t *take(size_t units)
{
	struct list *node;
	struct chunk *c;
	uint8_t *ptr;

	for (node = chunks.next; node != &chunks; node = node->next) {
		c = container_of(node, struct chunk, all);
		ptr = chunk_take(c, units);
		if (ptr) {
			chunk_first(c);
			return ptr;
		}
	}
	c = chunk_new();
	if (!c)
		return NULL;
	chunk_first(c);
	return chunk_take(c, units);
}

void *secret_alloc(size_t size)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	uint8_t *ptr;

	if (!size || size > SECRET_MAX)
		return NULL;
	pthread_once(&once, survive_fork);
	pthread_mutex_lock(&lock);
	ptr = take(units_of(size));
	pthread_mutex_unlock(&lock);
	if (ptr)
		ASAN_UNPOISON_MEMORY_REGION(ptr, size);
	return ptr;
}

void secret_free(void *ptr, size_t size)
{
	uintptr_t data = (uintptr_t)ptr & ~((uintptr_t)CHUNK_BYTES - 1);

	if (!ptr)
		return;
	explicit_bzero(ptr, size);
	ASAN_POISON_MEMORY_REGION(ptr, size);
	pthread_mutex_lock(&lock);
	chunk_give_back(*(struct chunk **)data, ptr, units_of(size));
	pthread_mutex_unlock(&lock);
}
