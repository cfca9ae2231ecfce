/* SPDX-License-Identifier: MIT */
/* Whose connection it is after a fork(): of relatives, one goes on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "claim.h"

static bool no_memory;

void *__real_mmap64(void *, size_t, int, int, int, off_t);
void *__wrap_mmap64(void *, size_t, int, int, int, off_t);

void *__wrap_mmap64(void *at, size_t len, int prot, int flags, int fd, off_t off)
{
	if (no_memory)
		return MAP_FAILED;
	return __real_mmap64(at, len, prot, flags, fd, off);
}

static int begin(void **state)
{
	(void)state;
	claim_start();
	return 0;
}

/* Shared anonymous pages, as the kernel shows them. */
static int count_pages(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];
	int n = 0;

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps))
		n += strstr(line, "rw-s") && strstr(line, "/dev/zero");
	fclose(maps);
	return n;
}

/* Bytes of them: neighbours are shown as one. */
static size_t shared_bytes(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned long from, to;
	char line[512];
	size_t n = 0;

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps))
		if (strstr(line, "rw-s") && strstr(line, "/dev/zero") &&
		    sscanf(line, "%lx-%lx", &from, &to) == 2)
			n += to - from;
	fclose(maps);
	return n;
}

static void child_says(pid_t pid, int expected)
{
	int status;

	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), expected);
}

static void one_process_holds_what_it_made(void **state)
{
	struct claim claim;

	(void)state;
	assert_true(claim_new(&claim));
	assert_true(claim_holds(&claim));
	assert_true(claim_holds(&claim));
	claim_free(&claim);
	assert_false(claim_holds(&claim));
}

static void the_child_goes_on_and_the_parent_is_refused(void **state)
{
	struct claim claim;
	pid_t pid;

	(void)state;
	assert_true(claim_new(&claim));
	pid = fork();
	if (!pid)
		_exit(claim_holds(&claim) && claim_holds(&claim) ? 0 : 1);
	child_says(pid, 0);
	assert_false(claim_holds(&claim));
	assert_false(claim_holds(&claim));
	claim_free(&claim);
}

static void the_parent_goes_on_and_the_child_is_refused(void **state)
{
	struct claim claim;
	int go[2];
	pid_t pid;
	char c;

	(void)state;
	assert_true(claim_new(&claim));
	assert_int_equal(pipe(go), 0);
	pid = fork();
	if (!pid) {
		if (read(go[0], &c, 1) != 1)
			_exit(2);
		_exit(claim_holds(&claim) ? 1 : 0);
	}
	assert_true(claim_holds(&claim));
	assert_int_equal(write(go[1], "", 1), 1);
	child_says(pid, 0);
	assert_true(claim_holds(&claim));
	claim_free(&claim);
	close(go[0]);
	close(go[1]);
}

/* Nobody has asked in between: a grandchild may, and then nobody else. */
static void a_grandchild_goes_on(void **state)
{
	struct claim claim;
	pid_t pid;

	(void)state;
	assert_true(claim_new(&claim));
	pid = fork();
	if (!pid) {
		int status;
		pid_t grandchild = fork();

		if (!grandchild)
			_exit(claim_holds(&claim) ? 0 : 1);
		if (waitpid(grandchild, &status, 0) != grandchild || status)
			_exit(3);
		_exit(claim_holds(&claim) ? 4 : 0);
	}
	child_says(pid, 0);
	assert_false(claim_holds(&claim));
	claim_free(&claim);
}

/* A server with a process for each connection: the parent lets go of it. */
static void the_parent_frees_and_the_child_goes_on(void **state)
{
	int go[2];

	(void)state;
	assert_int_equal(pipe(go), 0);
	for (int i = 0; i < 20; i++) {
		struct claim claim, next;
		char c;
		pid_t pid;

		assert_true(claim_new(&claim));
		pid = fork();
		if (!pid) {
			if (read(go[0], &c, 1) != 1)
				_exit(2);
			_exit(claim_holds(&claim) ? 0 : 1);
		}
		claim_free(&claim);
		/* not in the place of the one that the child asks for */
		assert_true(claim_new(&next));
		assert_int_equal(write(go[1], "", 1), 1);
		child_says(pid, 0);
		assert_true(claim_holds(&next));
		claim_free(&next);
	}
	close(go[0]);
	close(go[1]);
}

/* More than a page has, so that one is full at the time of the fork. */
static void words_of_a_full_page_are_not_used_again(void **state)
{
	enum { MANY = 600 };
	static struct claim claims[MANY], next[MANY];
	int go[2];
	char c;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(go), 0);
	for (int i = 0; i < MANY; i++)
		assert_true(claim_new(&claims[i]));
	pid = fork();
	if (!pid) {
		if (read(go[0], &c, 1) != 1)
			_exit(2);
		for (int i = 0; i < MANY; i++)
			if (!claim_holds(&claims[i]))
				_exit(1);
		_exit(0);
	}
	for (int i = 0; i < MANY; i++) {
		claim_free(&claims[i]);
		assert_true(claim_new(&next[i]));
	}
	assert_int_equal(write(go[1], "", 1), 1);
	child_says(pid, 0);
	for (int i = 0; i < MANY; i++) {
		assert_true(claim_holds(&next[i]));
		claim_free(&next[i]);
	}
	close(go[0]);
	close(go[1]);
}

static void thousands_of_connections_need_one_page(void **state)
{
	struct claim claim;
	size_t before;

	(void)state;
	assert_true(claim_new(&claim));
	before = shared_bytes();
	claim_free(&claim);
	for (int i = 0; i < 10000; i++) {
		assert_true(claim_new(&claim));
		assert_true(claim_holds(&claim));
		claim_free(&claim);
	}
	assert_true(claim_new(&claim));
	assert_int_equal(shared_bytes(), before);
	claim_free(&claim);
}

static void a_fork_for_each_leaves_nothing(void **state)
{
	int before;
	size_t bytes = 0;

	(void)state;
	before = count_pages();
	for (int i = 0; i < 2000; i++) {
		struct claim claim;
		pid_t pid;

		assert_true(claim_new(&claim));
		pid = fork();
		if (!pid)
			_exit(claim_holds(&claim) ? 0 : 1);
		child_says(pid, 0);
		assert_false(claim_holds(&claim));
		claim_free(&claim);
		if (i == 10)
			bytes = shared_bytes();
	}
	assert_true(count_pages() <= before + 1);
	assert_true(shared_bytes() <= bytes);
}

/* Both ask at the same moment: so many times, one of them is told yes. */
static void of_two_that_ask_at_once_one_wins(void **state)
{
	enum { ROUNDS = 500 };
	struct claim claims[ROUNDS];
	struct {
		_Atomic int ready[ROUNDS];
		char child[ROUNDS];
	} *both = mmap(NULL, sizeof(*both), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	bool won[ROUNDS];
	int wins = 0;
	pid_t pid;

	(void)state;
	assert_ptr_not_equal(both, MAP_FAILED);
	for (int i = 0; i < ROUNDS; i++)
		assert_true(claim_new(&claims[i]));
	pid = fork();
	for (int i = 0; i < ROUNDS; i++) {
		atomic_fetch_add(&both->ready[i], 1);
		while (atomic_load(&both->ready[i]) < 2)
			;
		won[i] = claim_holds(&claims[i]);
		if (!pid)
			both->child[i] = won[i];
	}
	if (!pid)
		_exit(0);
	child_says(pid, 0);
	for (int i = 0; i < ROUNDS; i++) {
		assert_int_equal(won[i] + both->child[i], 1);
		wins += won[i];
		claim_free(&claims[i]);
	}
	print_message("the parent won %d of %d\n", wins, ROUNDS);
	munmap(both, sizeof(*both));
}

static void without_memory_it_says_so(void **state)
{
	enum { MANY = 600 };
	static struct claim claims[MANY];
	int made = 0;

	(void)state;
	no_memory = true;
	while (made < MANY && claim_new(&claims[made]))
		made++;
	no_memory = false;
	assert_true(made < MANY);
	assert_true(claim_new(&claims[made++]));
	while (made)
		claim_free(&claims[--made]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_process_holds_what_it_made),
		cmocka_unit_test(the_child_goes_on_and_the_parent_is_refused),
		cmocka_unit_test(the_parent_goes_on_and_the_child_is_refused),
		cmocka_unit_test(a_grandchild_goes_on),
		cmocka_unit_test(the_parent_frees_and_the_child_goes_on),
		cmocka_unit_test(words_of_a_full_page_are_not_used_again),
		cmocka_unit_test(thousands_of_connections_need_one_page),
		cmocka_unit_test(a_fork_for_each_leaves_nothing),
		cmocka_unit_test(of_two_that_ask_at_once_one_wins),
		cmocka_unit_test(without_memory_it_says_so),
	};

	return cmocka_run_group_tests(tests, begin, NULL);
}
