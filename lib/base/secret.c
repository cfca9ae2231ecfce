/* SPDX-License-Identifier: MIT */
#include "base/secret.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/util.h"

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
	ALIGN_UNITS = ALIGN / UNIT,
	BINS = 49, /* four to a power of two */
};

/*
 * What is known of a mapping lies outside it, since a child finds it empty.
 * Only its first unit points back; the rest is for use.
 */
struct chunk {
	struct list node; /* in its bin, or in none if it is full */
	uint8_t *data; /* aligned to its size */
	unsigned used; /* units */
	unsigned bin;
	uint64_t taken[CHUNK_UNITS / 64];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool kept_in_children;
/*
 * Chunks by the longest piece that each has room for, so that one look finds the
 * fullest that will do, however many there are.
 */
static struct list bins[BINS];
static uint64_t filled_bins;
static unsigned empty_chunks;
static struct secret_counts counts;

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
	if (!kept_in_children)
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
	list_init(&c->node);
	empty_chunks++;
	counts.chunks++;
	return c;
}

static void chunk_free(struct chunk *c)
{
	ASAN_UNPOISON_MEMORY_REGION(c->data, CHUNK_BYTES);
	munmap(c->data, CHUNK_BYTES);
	empty_chunks--;
	counts.chunks--;
	free(c);
}

static void flip(struct chunk *c, size_t unit, size_t units)
{
	for (; units; unit++, units--)
		c->taken[unit / 64] ^= (uint64_t)1 << unit % 64;
}

/* The next unit from here on that is taken, or is not. */
static size_t next_unit(const struct chunk *c, size_t at, bool taken)
{
	const uint64_t other = taken ? 0 : ~(uint64_t)0;
	uint64_t word;

	while (at < CHUNK_UNITS) {
		word = (c->taken[at / 64] ^ other) >> at % 64;
		if (word)
			return at + (size_t)__builtin_ctzll(word);
		at += 64 - at % 64;
	}
	return CHUNK_UNITS;
}

/* A run of free units: [at, end). */
struct run {
	size_t at, end;
};

static bool next_run(const struct chunk *c, struct run *run)
{
	run->at = next_unit(c, run->end, false);
	run->end = next_unit(c, run->at, true);
	return run->at < CHUNK_UNITS;
}

/* Where in a run a piece of so many units may begin. */
static size_t begin_in(const struct run *run, size_t units)
{
	if (units < ALIGN_UNITS)
		return run->at;
	return (run->at + ALIGN_UNITS - 1) / ALIGN_UNITS * ALIGN_UNITS;
}

/* The units of the longest piece that fits into a run. */
static size_t longest_in(const struct run *run)
{
	size_t at = begin_in(run, ALIGN_UNITS);

	if (at + ALIGN_UNITS <= run->end)
		return run->end - at;
	return min_size(run->end - run->at, ALIGN_UNITS - 1);
}

/* The first run of so many free units that begins where it may, or none: 0. */
static size_t find_run(const struct chunk *c, size_t units)
{
	struct run run = { 0 };

	counts.looked_at++;
	while (next_run(c, &run))
		if (begin_in(&run, units) + units <= run.end)
			return begin_in(&run, units);
	return 0;
}

/* Bins are four to a power of two; this is the one that begins at or below. */
static unsigned bin_of(size_t units)
{
	unsigned power;

	if (units < 4)
		return (unsigned)units;
	power = 63 - (unsigned)__builtin_clzll(units);
	return 4 * (power - 1) + (unsigned)(units >> (power - 2) & 3);
}

static void chunk_unbin(struct chunk *c)
{
	list_remove(&c->node);
	if (c->bin && list_empty(&bins[c->bin]))
		filled_bins &= ~((uint64_t)1 << c->bin);
	c->bin = 0;
}

/* What it has room for has changed. */
static void chunk_bin(struct chunk *c)
{
	struct run run = { 0 };
	size_t most = 0;

	while (next_run(c, &run))
		if (most < longest_in(&run))
			most = longest_in(&run);
	chunk_unbin(c);
	if (!most)
		return;
	c->bin = bin_of(most);
	if (!bins[c->bin].next)
		list_init(&bins[c->bin]);
	list_move_tail(&bins[c->bin], &c->node);
	filled_bins |= (uint64_t)1 << c->bin;
}

static uint8_t *chunk_take(struct chunk *c, size_t units)
{
	size_t at = find_run(c, units);

	flip(c, at, units);
	empty_chunks -= !c->used;
	c->used += (unsigned)units;
	chunk_bin(c);
	*(struct chunk **)(void *)c->data = c;
	return c->data + at * UNIT;
}

/* One empty chunk is kept, so that none comes and goes with each connection. */
static void chunk_give_back(struct chunk *c, const uint8_t *ptr, size_t units)
{
	flip(c, (size_t)(ptr - c->data) / UNIT, units);
	c->used -= (unsigned)units;
	empty_chunks += !c->used;
	if (!c->used && empty_chunks > 1) {
		chunk_unbin(c);
		chunk_free(c);
	} else {
		chunk_bin(c);
	}
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

/* The least bin whose every chunk has room for so many. */
static unsigned bin_for(size_t units)
{
	unsigned bin = bin_of(units);
	size_t step;

	if (units < 4)
		return bin;
	step = (size_t)1 << (bin / 4 - 1); /* how far apart they are there */
	return bin + (units % step != 0);
}

static uint8_t *take(size_t units)
{
	uint64_t fit = filled_bins >> bin_for(units) << bin_for(units);
	struct chunk *c;

	if (fit)
		c = container_of(bins[__builtin_ctzll(fit)].next, struct chunk,
				 node);
	else
		c = chunk_new();
	return c ? chunk_take(c, units) : NULL;
}

void secret_keep_in_children(void)
{
	kept_in_children = true;
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

struct secret_counts secret_counts(void)
{
	struct secret_counts now;

	pthread_mutex_lock(&lock);
	now = counts;
	pthread_mutex_unlock(&lock);
	return now;
}
