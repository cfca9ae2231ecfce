/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "pool.h"

enum { LIMIT = 20, BLOCK_SIZE = 17 << 10, SURE = 3 };

static struct pool pool;

static int setup(void **state)
{
	(void)state;
	pool_init(&pool, BLOCK_SIZE, SURE, LIMIT * BLOCK_SIZE);
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

	while (n < max && (blocks[n] = pool_take(account)))
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
	assert_false(pool_may_take(&a));
	put_all(&a, blocks, LIMIT);
	assert_int_equal(pool.held, 0);
	assert_int_equal(pool.owners, 0);
	assert_int_equal(pool.held_peak, LIMIT);
}

static void two_accounts_share_it_by_halves(void **state)
{
	struct pool_account a = { .pool = &pool }, b = { .pool = &pool };
	struct block *mine[LIMIT], *theirs[LIMIT];

	(void)state;
	mine[0] = pool_take(&a);
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
	for (i = 0; i < LIMIT / 2; i++) {
		few[i] = (struct pool_account){ .pool = &pool };
		one[i] = pool_take(&few[i]);
	}
	pool.limit *= 4;
	n = take_all(&greedy, blocks, LIMIT);
	assert_int_equal(n, (4 * LIMIT - LIMIT / 2) / 5);
	put_all(&greedy, blocks, n);
	for (i = 0; i < LIMIT / 2; i++)
		block_put(&few[i], one[i]);
}

static void every_account_may_have_some_beyond_the_limit(void **state)
{
	struct pool_account greedy = { .pool = &pool };
	struct pool_account late[30];
	struct block *blocks[LIMIT], *few[30][SURE + 1];
	int i;

	(void)state;
	assert_int_equal(take_all(&greedy, blocks, LIMIT), LIMIT);
	for (i = 0; i < 30; i++) {
		late[i] = (struct pool_account){ .pool = &pool };
		assert_int_equal(take_all(&late[i], few[i], SURE + 1),
				 SURE);
	}
	for (i = 0; i < 30; i++)
		put_all(&late[i], few[i], SURE);
	put_all(&greedy, blocks, LIMIT);
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

	assert_int_equal(n, LIMIT);
	for (i = 0; i < n; i++)
		had |= blocks[i] == block;
	put_all(a, blocks, n);
	return had;
}

static void a_parked_block_is_had_again_when_the_last_request_has_ended(
	void **state)
{
	struct pool_account a = { .pool = &pool };
	struct block *parked = pool_take(&a);

	(void)state;
	block_park(parked);
	block_park(parked);
	block_put(&a, parked);
	assert_int_equal(a.held, 0);
	assert_int_equal(pool.parked, 1);
	assert_false(is_had(&a, parked));
	block_unpark(parked);
	assert_int_equal(pool.parked, 1);
	assert_false(is_had(&a, parked));
	block_unpark(parked);
	assert_int_equal(pool.parked, 0);
	assert_true(is_had(&a, parked));
}

static void a_block_whose_requests_end_before_its_owner_was_never_parked(
	void **state)
{
	struct pool_account a = { .pool = &pool };
	struct block *block = pool_take(&a);

	(void)state;
	block_park(block);
	block_unpark(block);
	assert_int_equal(pool.parked, 0);
	assert_int_equal(a.held, 1);
	block_put(&a, block);
	assert_int_equal(pool.parked, 0);
	assert_true(is_had(&a, block));
}

static void carving_does_not_start_afresh_in_a_parked_block(void **state)
{
	struct pool_account a = { .pool = &pool };
	struct block *block = NULL;
	uint8_t *first = block_carve(&a, &block, 1000);

	(void)state;
	block_park(block);
	block_put(&a, block); /* the piece */
	assert_ptr_equal(block_carve(&a, &block, 1000), first + 1000);
	block_put(&a, block);
	block_unpark(block);
	assert_ptr_equal(block_carve(&a, &block, 1000), first);
}

static void carving_puts_pieces_side_by_side(void **state)
{
	struct pool_account a = { .pool = &pool };
	struct block *block = NULL;
	uint8_t *first, *second, *third;

	(void)state;
	first = block_carve(&a, &block, 1000);
	second = block_carve(&a, &block, BLOCK_SIZE - 1000);
	assert_ptr_equal(second, first + 1000);
	assert_int_equal(a.held, 1);
	third = block_carve(&a, &block, 1);
	assert_non_null(third);
	assert_int_equal(a.held, 2);
}

static void carving_starts_afresh_when_nothing_is_left_in_the_block(
	void **state)
{
	struct pool_account a = { .pool = &pool };
	struct block *block = NULL;
	uint8_t *first = block_carve(&a, &block, BLOCK_SIZE);

	(void)state;
	block_put(&a, block); /* the piece */
	assert_ptr_equal(block_carve(&a, &block, 10), first);
	assert_int_equal(a.held, 1);
}

static size_t count(const struct block *list)
{
	size_t n = 0;

	for (; list; list = list->next)
		n++;
	return n;
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

static void after_a_burst_pages_go_back_to_the_system(void **state)
{
	struct pool_account a = { .pool = &pool };
	struct block *b;
	size_t zeros = 0;
	int i;

	(void)state;
	pool.limit = 8 * LIMIT;
	burst(&a, 8 * LIMIT);
	for (i = 0; i < 12 * 8 * LIMIT; i++)
		burst(&a, 1);
	assert_in_range(pool.free_count, 2 * LIMIT, 2 * LIMIT + 1);
	assert_true(count(pool.cold) >= 8 * LIMIT * 3 / 4 - 1);
	for (b = pool.cold; b; b = b->next)
		for (i = 0; i < BLOCK_SIZE; i += 1024)
			zeros += b->data[i] == 0;
	/* what shares a page with one that is warm stays */
	assert_true(zeros > (8 * LIMIT * 3 / 4 - 1) * (BLOCK_SIZE / 1024) * 8 / 10);
	burst(&a, 8 * LIMIT);
}

static void a_load_that_comes_and_goes_keeps_its_pages(void **state)
{
	struct pool_account a = { .pool = &pool };
	int i;

	(void)state;
	pool.limit = 8 * LIMIT;
	for (i = 0; i < 50; i++) {
		burst(&a, 8 * LIMIT);
		burst(&a, 1);
	}
	assert_int_equal(pool.free_count, 8 * LIMIT);
}

/* Neighbours that are held lose nothing to one that is given up. */
static void a_block_keeps_its_bytes_when_its_neighbours_go_cold(void **state)
{
	struct pool_account a = { .pool = &pool }, kept = { .pool = &pool };
	struct block *all[8 * LIMIT], *mine[LIMIT];
	int i, j, n, m = 0;

	(void)state;
	pool.limit = 8 * LIMIT;
	n = take_all(&a, all, 8 * LIMIT);
	for (i = 0; i < n; i++) {
		memset(all[i]->data, i + 1, BLOCK_SIZE);
		if (i % 8 == 3) { /* the owner changes, the bytes do not */
			a.held--;
			pool.owners += kept.held++ == 0;
			mine[m++] = all[i];
		} else {
			block_put(&a, all[i]);
		}
	}
	for (i = 0; i < 12 * 8 * LIMIT; i++)
		burst(&a, 1);
	assert_true(count(pool.cold) > 0);
	for (i = 0; i < m; i++)
		for (j = 0; j < BLOCK_SIZE; j++)
			assert_int_equal(mine[i]->data[j],
					 (uint8_t)(i * 8 + 3 + 1));
	put_all(&kept, mine, m);
}

static void a_child_has_no_copy_of_a_block(void **state)
{
	struct pool_account a = { .pool = &pool };
	struct block *block = pool_take(&a);
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
			every_account_may_have_some_beyond_the_limit, setup,
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
			a_block_keeps_its_bytes_when_its_neighbours_go_cold,
			setup, teardown),
		cmocka_unit_test_setup_teardown(a_child_has_no_copy_of_a_block,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
