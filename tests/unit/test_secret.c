/* SPDX-License-Identifier: MIT */
/* Memory for keys: what it is protected from. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/secret.h"

enum { MANY = 3000 };

/* ---- As memory --------------------------------------------------------- */

static size_t size_of(int i)
{
	static const size_t sizes[] = { 1, 16, 63, 64, 136, 1000, 5000 };

	return sizes[i % 7];
}

static void pieces_are_zeroed_aligned_and_apart(void **state)
{
	static uint8_t *piece[MANY];

	(void)state;
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < MANY; i++) {
			size_t size = size_of(i);

			if (piece[i])
				continue;
			piece[i] = secret_alloc(size);
			assert_non_null(piece[i]);
			assert_int_equal(
				(uintptr_t)piece[i] % (size < 64 ? 16 : 64), 0);
			for (size_t k = 0; k < size; k++)
				assert_int_equal(piece[i][k], 0);
			memset(piece[i], i, size);
		}
		for (int i = round; i < MANY; i += 1 + round % 2) {
			for (size_t k = 0; k < size_of(i); k++)
				assert_int_equal(piece[i][k], (uint8_t)i);
			secret_free(piece[i], size_of(i));
			piece[i] = NULL;
		}
	}
	for (int i = 0; i < MANY; i++)
		secret_free(piece[i], size_of(i));
	secret_free(NULL, 1);
	assert_null(secret_alloc(SECRET_MAX + 1));
}

/* As many as 20,000 generations of keys have, with holes of all sizes. */
static void one_mapping_is_looked_at_however_many_there_are(void **state)
{
	enum { PIECES = 40000 };
	static void *piece[PIECES];
	struct secret_counts before, after;
	int i;

	(void)state;
	before = secret_counts();
	for (i = 0; i < PIECES; i++)
		piece[i] = secret_alloc(size_of(i));
	for (i = 0; i < PIECES; i += 3) {
		secret_free(piece[i], size_of(i));
		piece[i] = secret_alloc(size_of(i + 1));
		assert_non_null(piece[i]);
	}
	after = secret_counts();
	assert_true(after.chunks > 500);
	assert_in_range(after.looked_at - before.looked_at, 1,
			PIECES + (PIECES + 2) / 3);
	for (i = 0; i < PIECES; i++)
		secret_free(piece[i], size_of(i % 3 ? i : i + 1));
	assert_in_range(secret_counts().chunks, 0, 1);
}

/* Pieces come and go for long, and there are never more than MANY. */
static void holes_are_used_again(void **state)
{
	static void *piece[MANY];
	static int size[MANY];
	unsigned random = 1, first = 0;
	size_t bytes = 0;
	int i, k;

	(void)state;
	for (i = 0; i < 100 * MANY; i++) {
		random = random * 1103515245 + 12345;
		k = (int)(random >> 8) % MANY;
		secret_free(piece[k], size_of(size[k]));
		bytes -= piece[k] ? size_of(size[k]) : 0;
		size[k] = (int)(random >> 20);
		piece[k] = secret_alloc(size_of(size[k]));
		bytes += size_of(size[k]);
		if (i == 10 * MANY)
			first = secret_counts().chunks;
	}
	assert_in_range(secret_counts().chunks, 1, first + first / 10 + 1);
	/* what is held is for the most part what is asked for */
	assert_in_range((size_t)secret_counts().chunks << 16, bytes,
			2 * bytes);
	for (i = 0; i < MANY; i++)
		secret_free(piece[i], size_of(size[i]));
}

static void memory_is_given_back(void **state)
{
	void *first = secret_alloc(SECRET_MAX), *piece[100];
	unsigned char there;

	(void)state;
	for (int i = 0; i < 100; i++)
		piece[i] = secret_alloc(SECRET_MAX);
	for (int i = 0; i < 100; i++)
		secret_free(piece[i], SECRET_MAX);
	/* the last one is of a mapping that is gone */
	assert_int_equal(
		mincore((void *)((uintptr_t)piece[99] & ~4095ul), 4096, &there),
		-1);
	secret_free(first, SECRET_MAX);
}

/* ---- What it is protected from ----------------------------------------- */

/* The VmFlags of the mapping that ptr lies in. */
static void flags_of(const void *ptr, char *flags, size_t len)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	unsigned long from, to;
	int inside = 0;
	char line[256];

	assert_non_null(f);
	flags[0] = '\0';
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			inside = (uintptr_t)ptr >= from && (uintptr_t)ptr < to;
		if (inside && !strncmp(line, "VmFlags:", 8))
			snprintf(flags, len, "%s", line + 8);
	}
	fclose(f);
	assert_true(flags[0]);
}

static void core_dumps_and_children_do_not_get_it(void **state)
{
	void *ptr = secret_alloc(100);
	char flags[256];

	(void)state;
	flags_of(ptr, flags, sizeof(flags));
	assert_non_null(strstr(flags, " dd"));
	assert_non_null(strstr(flags, " wf"));
	secret_free(ptr, 100);
}

static void it_is_locked_where_that_is_allowed(void **state)
{
	void *ptr = secret_alloc(100);
	struct rlimit limit;
	char flags[256];

	(void)state;
	getrlimit(RLIMIT_MEMLOCK, &limit);
	flags_of(ptr, flags, sizeof(flags));
	if (limit.rlim_cur >= 1 << 20)
		assert_non_null(strstr(flags, " lo"));
	secret_free(ptr, 100);
}

/* In a child, which may not go on after cmocka's assertions. */
static int run_child(int (*child)(void *arg), void *arg)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (!pid)
		_exit(child(arg));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int without_a_limit(void *arg)
{
	struct rlimit none = { 0, 0 };
	char flags[256];
	void *ptr;

	(void)arg;
	if (setrlimit(RLIMIT_MEMLOCK, &none) || (!getuid() && setuid(65534)))
		return 1;
	/* more than what there is from before */
	for (int i = 0; i < 10; i++)
		ptr = secret_alloc(SECRET_MAX);
	if (!ptr)
		return 2;
	memset(ptr, 1, SECRET_MAX);
	flags_of(ptr, flags, sizeof(flags));
	return strstr(flags, " lo") ? 3 : 0;
}

static void a_limit_on_locked_memory_is_no_error(void **state)
{
	(void)state;
	assert_int_equal(run_child(without_a_limit, NULL), 0);
}

static int finds_nothing(void *arg)
{
	const uint8_t *secret = arg;
	uint8_t *own;

	for (int i = 0; i < 100; i++)
		if (secret[i])
			return 1;
	own = secret_alloc(100);
	if (!own)
		return 2;
	memset(own, 3, 100);
	secret_free(own, 100);
	return 0;
}

static void a_child_finds_nothing_and_may_have_its_own(void **state)
{
	uint8_t *secret = secret_alloc(100);

	(void)state;
	memset(secret, 's', 100);
	assert_int_equal(run_child(finds_nothing, secret), 0);
	assert_int_equal(secret[99], 's');
	secret_free(secret, 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pieces_are_zeroed_aligned_and_apart),
		cmocka_unit_test(
			one_mapping_is_looked_at_however_many_there_are),
		cmocka_unit_test(holes_are_used_again),
		cmocka_unit_test(memory_is_given_back),
		cmocka_unit_test(core_dumps_and_children_do_not_get_it),
		cmocka_unit_test(it_is_locked_where_that_is_allowed),
		cmocka_unit_test(a_limit_on_locked_memory_is_no_error),
		cmocka_unit_test(a_child_finds_nothing_and_may_have_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
