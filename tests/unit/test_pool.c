/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "line/pool.h"

/* in blocks for a record, of which a slab has four */
enum { LIMIT = 20, BLOCK_SIZE = POOL_RECORD_BYTES };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

static struct pool pool;

static int setup(void **state)
{
	(void)state;
	pool_init(&pool, LIMIT * BLOCK_SIZE, false);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	pool_destroy(&pool);
	return 0;
}

/* Take until refused, at most max; how many were had. */
static int take_all(struct pool_account *account, struct block **blocks,
		    int max)
{
	int n = 0;

	while (n < max && (blocks[n] = pool_take(account, POOL_RECORD)))
		n++;
	return n;
}

static void put_all(struct pool_account *account, struct block **blocks, int n)
{
	while (n)
		block_put(account, blocks[--n]);
}

static void one_account_may_have_the_whole_limit(void **state)
{
	struct pool_account a = { .pool = &pool };
	struct block *blocks[LIMIT + 1];

	(void)state;
	assert_int_equal(take_all(&a, blocks, LIMIT + 1), LIMIT);
	assert_false(pool_may_take(&a, POOL_RECORD));
	put_all(&a, blocks, LIMIT);
	assert_int_equal(pool.held, 0);
	assert_int_equal(pool.owners, 0);
	assert_int_equal(pool.held_peak, LIMIT * BLOCK_SIZE);
}

static void two_accounts_share_it_by_halves(void **state)
{
	struct pool_account a = { .pool = &pool }, b = { .pool = &pool };
	struct block *mine[LIMIT], *theirs[LIMIT];

	(void)state;
	mine[0] = pool_take(&a, POOL_RECORD);
	assert_int_equal(take_all(&b, theirs, LIMIT), LIMIT / 2);
	assert_int_equal(take_all(&a, mine + 1, LIMIT), LIMIT / 2 - 1);
	put_all(&a, mine, LIMIT / 2);
	put_all(&b, theirs, LIMIT / 2);
}

/* ... but while the others hold little, one may hold more than they. */
static void one_account_may_have_a_quarter_of_what_is_left(void **state)
{
	struct pool_account few[LIMIT / 2], greedy = { .pool = &pool };
	struct block *one[LIMIT / 2], *blocks[LIMIT];
	int i, n;

	(void)state;
	pool_destroy(&pool);
	pool_init(&pool, 4 * LIMIT * BLOCK_SIZE, false);
	for (i = 0; i < LIMIT / 2; i++) {
		few[i] = (struct pool_account){ .pool = &pool };
		one[i] = pool_take(&few[i], POOL_RECORD);
	}
	n = take_all(&greedy, blocks, LIMIT);
	assert_int_equal(n, (4 * LIMIT - LIMIT / 2) / 5);
	put_all(&greedy, blocks, n);
	for (i = 0; i < LIMIT / 2; i++)
		block_put(&few[i], one[i]);
}

static void nobody_may_have_anything_beyond_the_limit(void **state)
{
	struct pool_account greedy = { .pool = &pool }, late = { .pool = &pool };
	struct block *blocks[LIMIT];
	int kind;

	(void)state;
	assert_int_equal(take_all(&greedy, blocks, LIMIT), LIMIT);
	for (kind = 0; kind < POOL_KINDS; kind++) {
		assert_false(pool_may_take(&late, (enum pool_kind)kind));
		assert_null(pool_take(&late, (enum pool_kind)kind));
	}
	assert_null(pool_lend(&pool));
	put_all(&greedy, blocks, LIMIT);
	assert_true(pool.slabs_used + pool.empty_count <= pool.slabs_max);
}

/* ... and how many there are of each does not depend on what was before. */
static void every_kind_may_have_the_whole_limit(void **state)
{
	static struct block *blocks[LIMIT * 16 + 1];
	struct pool_account a = { .pool = &pool };
	int turn, kind, n;

	(void)state;
	for (turn = 0; turn < 8; turn++) {
		kind = (turn * 3) % POOL_KINDS;
		for (n = 0; (blocks[n] = pool_take(&a, (enum pool_kind)kind));
		     n++)
			memset(blocks[n]->data, turn, block_size(blocks[n]));
		assert_int_equal(a.held, LIMIT * BLOCK_SIZE);
		while (n--) {
			assert_int_equal(blocks[n]->data[0], turn);
			block_put(&a, blocks[n]);
		}
	}
	assert_int_equal(pool.held, 0);
	assert_int_equal(pool.slabs_used, 0);
	assert_int_equal(pool.empty_count, pool.slabs_max);
}

static void who_holds_nothing_may_have_the_last_block(void **state)
{
	struct pool_account a = { .pool = &pool }, b = { .pool = &pool };
	struct block *mine[LIMIT], *theirs;

	(void)state;
	assert_int_equal(take_all(&a, mine, LIMIT - 1), LIMIT - 1);
	theirs = pool_take(&b, POOL_RECORD);
	assert_non_null(theirs);
	block_put(&b, theirs);
	put_all(&a, mine, LIMIT - 1);
}

static void what_is_set_aside_is_not_had_otherwise(void **state)
{
	struct pool_account a = { .pool = &pool }, b = { .pool = &pool };
	struct block *all[64], *aside[64];
	int i, n = 0;

	(void)state;
	pool_destroy(&pool);
	pool_init(&pool, 5 * POOL_SLAB, true);
	assert_int_equal(take_all(&a, all, 64), 12);
	while (n < 64 && (aside[n] = pool_take_aside(&b, POOL_SMALL)))
		n++;
	assert_int_equal(n, 64);
	assert_false(pool_has_aside(&pool));
	assert_null(pool_take(&a, POOL_SMALL));
	for (i = 0; i < n; i++)
		block_put(&b, aside[i]);
	assert_true(pool_has_aside(&pool));
	assert_null(pool_take(&a, POOL_SMALL));
	aside[0] = pool_take_aside(&b, POOL_RECORD);
	assert_non_null(aside[0]);
	block_put(&b, aside[0]);
	put_all(&a, all, 12);
	assert_int_equal(pool.held, 0);
}

static void blocks_are_used_again_without_asking_the_system(void **state)
{
	struct pool_account a = { .pool = &pool };
	struct block *blocks[LIMIT];
	uint64_t before;
	int i;

	(void)state;
	put_all(&a, blocks, take_all(&a, blocks, LIMIT));
	before = pool.allocations;
	for (i = 0; i < 1000; i++)
		put_all(&a, blocks, take_all(&a, blocks, LIMIT));
	assert_int_equal(pool.allocations, before);
}

static bool is_had(struct pool_account *a, const struct block *block)
{
	struct block *blocks[LIMIT];
	int i, n = take_all(a, blocks, LIMIT);
	bool had = false;

	assert_int_equal(n, LIMIT - (int)(pool.parked / BLOCK_SIZE));
	for (i = 0; i < n; i++)
		had |= blocks[i] == block;
	put_all(a, blocks, n);
	return had;
}

static void a_parked_block_is_had_again_when_the_last_request_has_ended(
	void **state)
{
	struct pool_account a = { .pool = &pool };
	struct block *parked = pool_take(&a, POOL_RECORD);

	(void)state;
	block_park(parked);
	block_park(parked);
	block_put(&a, parked);
	assert_int_equal(a.held, 0);
	assert_int_equal(pool.parked, BLOCK_SIZE);
	assert_false(is_had(&a, parked));
	block_unpark(parked);
	assert_int_equal(pool.parked, BLOCK_SIZE);
	assert_false(is_had(&a, parked));
	block_unpark(parked);
	assert_int_equal(pool.parked, 0);
	assert_true(is_had(&a, parked));
}

static void a_block_whose_requests_end_before_its_owner_was_never_parked(
	void **state)
{
	struct pool_account a = { .pool = &pool };
	struct block *block = pool_take(&a, POOL_RECORD);

	(void)state;
	block_park(block);
	block_unpark(block);
	assert_int_equal(pool.parked, 0);
	assert_int_equal(a.held, BLOCK_SIZE);
	block_put(&a, block);
	assert_int_equal(pool.parked, 0);
	assert_true(is_had(&a, block));
}

static void carving_does_not_start_afresh_in_a_parked_block(void **state)
{
	struct pool_account a = { .pool = &pool };
	struct block *block = NULL;
	uint8_t *first = block_carve(&a, &block, 1000, POOL_RECORD);

	(void)state;
	block_park(block);
	block_put(&a, block); /* the piece */
	assert_ptr_equal(block_carve(&a, &block, 1000, POOL_RECORD), first + 1000);
	block_put(&a, block);
	block_unpark(block);
	assert_ptr_equal(block_carve(&a, &block, 1000, POOL_RECORD), first);
}

static void carving_puts_pieces_side_by_side(void **state)
{
	struct pool_account a = { .pool = &pool };
	struct block *block = NULL;
	uint8_t *first, *second, *third;

	(void)state;
	first = block_carve(&a, &block, 1000, POOL_RECORD);
	second = block_carve(&a, &block, BLOCK_SIZE - 1000, POOL_RECORD);
	assert_ptr_equal(second, first + 1000);
	assert_int_equal(a.held, BLOCK_SIZE);
	third = block_carve(&a, &block, 1, POOL_RECORD);
	assert_non_null(third);
	assert_int_equal(a.held, 2 * BLOCK_SIZE);
}

static void carving_starts_afresh_when_nothing_is_left_in_the_block(
	void **state)
{
	struct pool_account a = { .pool = &pool };
	struct block *block = NULL;
	uint8_t *first = block_carve(&a, &block, BLOCK_SIZE, POOL_RECORD);

	(void)state;
	block_put(&a, block); /* the piece */
	assert_ptr_equal(block_carve(&a, &block, 10, POOL_RECORD), first);
	assert_int_equal(a.held, BLOCK_SIZE);
}

/* A burst, and what is free after it. */
static void burst(struct pool_account *a, int blocks)
{
	struct block *held[8 * LIMIT];
	int i, n = take_all(a, held, blocks);

	assert_int_equal(n, blocks);
	for (i = 0; i < n; i++)
		memset(held[i]->data, 1, BLOCK_SIZE);
	put_all(a, held, n);
}

static size_t resident(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	size_t total, pages = 0;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%zu %zu", &total, &pages), 2);
	fclose(f);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void grow_to(int blocks)
{
	pool_destroy(&pool);
	pool_init(&pool, (size_t)blocks * BLOCK_SIZE, false);
}

static void after_a_burst_pages_go_back_to_the_system(void **state)
{
	struct pool_account a = { .pool = &pool };
	size_t before;
	int i;

	(void)state;
	grow_to(8 * LIMIT);
	burst(&a, 8 * LIMIT);
	before = resident();
	for (i = 0; i < 12 * 8 * LIMIT; i++)
		burst(&a, 1);
	assert_in_range(pool.empty_count, 2 * LIMIT / 4, 2 * LIMIT / 4 + 1);
	if (!SANITIZED)
		assert_true(before - resident() >
			    8 * LIMIT * BLOCK_SIZE * 6 / 10);
	burst(&a, 8 * LIMIT);
}

static void a_load_that_comes_and_goes_keeps_its_pages(void **state)
{
	struct pool_account a = { .pool = &pool };
	int i;

	(void)state;
	grow_to(8 * LIMIT);
	for (i = 0; i < 50; i++) {
		burst(&a, 8 * LIMIT);
		burst(&a, 1);
		pool_trim(&pool, (uint64_t)i * POOL_TRIM_NS);
	}
	assert_int_equal(pool.empty_count, 8 * LIMIT / 4);
}

static void what_was_not_needed_for_a_time_goes_back(void **state)
{
	struct pool_account a = { .pool = &pool };
	uint64_t now = 5 * POOL_TRIM_NS;
	size_t before;

	(void)state;
	burst(&a, LIMIT);
	before = resident();
	assert_true(pool_trim(&pool, now));
	assert_true(pool_trim(&pool, now + POOL_TRIM_NS - 1));
	assert_int_equal(pool.empty_count, LIMIT / 4);
	burst(&a, 4); /* a slab */
	assert_true(pool_trim(&pool, now + POOL_TRIM_NS));
	assert_int_equal(pool.empty_count, 1);
	assert_false(pool_trim(&pool, now + 2 * POOL_TRIM_NS));
	assert_int_equal(pool.empty_count, 0);
	if (!SANITIZED)
		assert_true(before - resident() > LIMIT * BLOCK_SIZE * 9 / 10);
	burst(&a, LIMIT);
}

/* Neighbours that are held lose nothing to one that is given up. */
static void a_block_keeps_its_bytes_when_its_neighbours_go_cold(void **state)
{
	struct pool_account a = { .pool = &pool }, kept = { .pool = &pool };
	struct block *all[8 * LIMIT], *mine[LIMIT];
	int i, j, n, m = 0;

	(void)state;
	grow_to(8 * LIMIT);
	n = take_all(&a, all, 8 * LIMIT);
	for (i = 0; i < n; i++) {
		memset(all[i]->data, i + 1, BLOCK_SIZE);
		if (i % 8 == 3) { /* the owner changes, the bytes do not */
			a.held -= BLOCK_SIZE;
			pool.owners += !kept.held;
			kept.held += BLOCK_SIZE;
			mine[m++] = all[i];
		} else {
			block_put(&a, all[i]);
		}
	}
	pool_trim(&pool, POOL_TRIM_NS);
	pool_trim(&pool, 2 * POOL_TRIM_NS);
	assert_int_equal(pool.empty_count, 0);
	for (i = 0; i < m; i++)
		for (j = 0; j < BLOCK_SIZE; j++)
			assert_int_equal(mine[i]->data[j],
					 (uint8_t)(i * 8 + 3 + 1));
	put_all(&kept, mine, m);
}

/* Or one byte would make two mebibytes resident where pages are that large. */
static void huge_pages_are_declined(void **state)
{
	struct pool_account a = { .pool = &pool };
	struct block *block = pool_take(&a, POOL_SMALL);
	uintptr_t at = (uintptr_t)block->data, begin, end;
	FILE *f = fopen("/proc/self/smaps", "re");
	char line[512];
	bool declined = false, here = false;

	(void)state;
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &begin, &end) == 2)
			here = at >= begin && at < end;
		if (here && !strncmp(line, "VmFlags:", 8))
			declined = strstr(line, " nh");
	}
	fclose(f);
	assert_true(declined);
	block_put(&a, block);
}

static void a_child_has_no_copy_of_a_block(void **state)
{
	struct pool_account a = { .pool = &pool };
	struct block *block = pool_take(&a, POOL_RECORD);
	int status;
	pid_t pid;

	(void)state;
	memset(block->data, 1, 10);
	pid = fork();
	if (pid == 0) {
		/* write() looks at the memory without dying of it */
		int fd[2];

		_exit(pipe(fd) || write(fd[1], block->data, 1) == 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	block_put(&a, block);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			one_account_may_have_the_whole_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(two_accounts_share_it_by_halves,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			one_account_may_have_a_quarter_of_what_is_left, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			nobody_may_have_anything_beyond_the_limit, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			every_kind_may_have_the_whole_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(
			who_holds_nothing_may_have_the_last_block, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			what_is_set_aside_is_not_had_otherwise, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			blocks_are_used_again_without_asking_the_system, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			a_parked_block_is_had_again_when_the_last_request_has_ended,
			setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_block_whose_requests_end_before_its_owner_was_never_parked,
			setup, teardown),
		cmocka_unit_test_setup_teardown(
			carving_does_not_start_afresh_in_a_parked_block, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			carving_puts_pieces_side_by_side, setup, teardown),
		cmocka_unit_test_setup_teardown(
			carving_starts_afresh_when_nothing_is_left_in_the_block,
			setup, teardown),
		cmocka_unit_test_setup_teardown(
			after_a_burst_pages_go_back_to_the_system, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			a_load_that_comes_and_goes_keeps_its_pages, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			what_was_not_needed_for_a_time_goes_back, setup,
			teardown),
		cmocka_unit_test_setup_teardown(huge_pages_are_declined, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			a_block_keeps_its_bytes_when_its_neighbours_go_cold,
			setup, teardown),
		cmocka_unit_test_setup_teardown(a_child_has_no_copy_of_a_block,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
