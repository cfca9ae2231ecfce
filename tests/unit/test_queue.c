/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "line/queue.h"

static struct slot_cache cache;
static struct pool pool;
static struct pool_account account = { .pool = &pool };
static struct keygen *gen;
static struct queue q;
static uint64_t peak;

static int setup(void **state)
{
	const uint8_t secret[CIPHER_SECRET_MAX] = { 1 };

	(void)state;
	slot_cache_init(&cache, 5);
	pool_init(&pool, 1 << 20, false);
	queue_init(&q, &cache, &account);
	peak = 0;
	return keygen_new(&gen, suite_by_number(TLS_AES_128_GCM), secret);
}

static int teardown(void **state)
{
	(void)state;
	keygen_put(gen);
	slot_cache_destroy(&cache);
	pool_destroy(&pool);
	return 0;
}

static void a_record_is_bound_as_it_enters(void **state)
{
	uint8_t nonce[RECORD_NONCE];
	struct slot *slot = queue_push(&q, gen, 77);

	(void)state;
	record_nonce(nonce, gen->iv, 77);
	assert_int_equal(slot->state, SLOT_OPEN);
	assert_int_equal(slot->seq, 77);
	assert_ptr_equal(slot->gen, gen);
	assert_memory_equal(slot->op.nonce, nonce, sizeof(nonce));
	queue_unpush(&q, &account);
}

static void the_line_takes_a_power_of_two_and_no_more(void **state)
{
	int i;

	(void)state;
	assert_int_equal(cache.size, 8);
	for (i = 0; i < 8; i++)
		assert_non_null(queue_push(&q, gen, i));
	assert_true(queue_full(&q));
	assert_null(queue_push(&q, gen, 8));
	for (i = 0; i < 8; i++)
		queue_unpush(&q, &account);
}

static void the_head_leaves_first_however_often_it_wraps(void **state)
{
	uint64_t in = 0, out = 0;

	(void)state;
	while (out < 100) {
		while (!queue_full(&q))
			queue_completed(&q, queue_push(&q, gen, in++), false);
		assert_int_equal(queue_head(&q)->seq, out);
		queue_pop(&q, &account);
		out++;
		assert_int_equal(queue_head(&q)->seq, out);
		queue_pop(&q, &account);
		out++;
	}
	while (queue_count(&q))
		queue_pop(&q, &account);
	assert_null(queue_head(&q));
}

static void slots_hold_their_generation_and_give_it_back(void **state)
{
	int i;

	(void)state;
	for (i = 0; i < 3; i++)
		queue_completed(&q, queue_push(&q, gen, i), false);
	assert_int_equal(gen->refs, 4);
	while (queue_count(&q))
		queue_pop(&q, &account);
	assert_int_equal(gen->refs, 1);
}

static void in_flight_is_counted_from_submission_to_completion(void **state)
{
	struct slot *slots[4];
	int i;

	(void)state;
	for (i = 0; i < 4; i++) {
		slots[i] = queue_push(&q, gen, i);
		queue_submitted(&q, slots[i], &peak);
		assert_int_equal(q.in_flight, i + 1);
	}
	for (i = 3; i >= 0; i--) {
		queue_completed(&q, slots[i], i == 2);
		assert_int_equal(q.in_flight, i);
		assert_int_equal(slots[i]->state,
				 i == 2 ? SLOT_FAILED : SLOT_READY);
	}
	assert_int_equal(peak, 4);
	while (queue_count(&q))
		queue_pop(&q, &account);
}

static void a_completion_before_an_earlier_record_is_told(void **state)
{
	struct slot *a = queue_push(&q, gen, 0), *b = queue_push(&q, gen, 1);

	(void)state;
	queue_submitted(&q, a, &peak);
	queue_submitted(&q, b, &peak);
	assert_true(queue_completed(&q, b, false));
	assert_false(queue_completed(&q, a, false));
	queue_pop(&q, &account);
	queue_pop(&q, &account);
}

static void an_empty_line_has_no_memory_and_takes_none_new(void **state)
{
	uint64_t before;
	int i;

	(void)state;
	queue_push(&q, gen, 0);
	queue_unpush(&q, &account);
	assert_int_equal(cache.account.held, 0);
	before = cache.pool.allocations;
	for (i = 0; i < 100; i++) {
		queue_push(&q, gen, i);
		queue_unpush(&q, &account);
	}
	assert_int_equal(cache.pool.allocations, before);
}

enum { MANY = 500 };

static void use_many_lines(void)
{
	struct queue many[MANY];
	int i;

	for (i = 0; i < MANY; i++) {
		queue_init(&many[i], &cache, &account);
		assert_non_null(queue_push(&many[i], gen, 0));
	}
	for (i = 0; i < MANY; i++)
		queue_unpush(&many[i], &account);
}

static void memory_of_many_lines_is_kept_while_they_come_and_go(void **state)
{
	uint64_t before;
	int turn;

	(void)state;
	use_many_lines();
	before = cache.pool.allocations;
	for (turn = 0; turn < 50; turn++)
		use_many_lines();
	assert_int_equal(cache.pool.allocations, before);
}

static void memory_of_many_lines_is_not_kept_for_good(void **state)
{
	int turn;

	(void)state;
	use_many_lines();
	for (turn = 0; turn < 12 * MANY; turn++) {
		queue_push(&q, gen, 0);
		queue_unpush(&q, &account);
	}
	assert_in_range(cache.pool.empty_count, 1, 2);
	assert_int_equal(cache.account.held, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_record_is_bound_as_it_enters,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			the_line_takes_a_power_of_two_and_no_more, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			the_head_leaves_first_however_often_it_wraps, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			slots_hold_their_generation_and_give_it_back, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			in_flight_is_counted_from_submission_to_completion,
			setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_completion_before_an_earlier_record_is_told, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			an_empty_line_has_no_memory_and_takes_none_new, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			memory_of_many_lines_is_kept_while_they_come_and_go,
			setup, teardown),
		cmocka_unit_test_setup_teardown(
			memory_of_many_lines_is_not_kept_for_good, setup,
			teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
