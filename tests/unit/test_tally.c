/* SPDX-License-Identifier: MIT */
/* What the drop-in tells of a process. Each test is a process of its own. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "hold.h"
#include "tally.h"

/* The clock is an hour ahead for each step. */
static _Atomic int steps;
int __real_clock_gettime(clockid_t clock, struct timespec *ts);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ts);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ts)
{
	int result = __real_clock_gettime(clock, ts);

	ts->tv_sec += 3600 * steps;
	return result;
}

static char dir[] = "/tmp/asynctls-tally-XXXXXX";
static char text[256 << 10];

static char *in_dir(const char *name)
{
	static char path[4][128];
	static unsigned turn;
	char *p = path[turn++ % 4];

	snprintf(p, 128, "%s/%s", dir, name);
	return p;
}

/* Into text; NULL: there is no such file. */
static char *contents(const char *name)
{
	FILE *f = fopen(in_dir(name), "r");

	if (!f)
		return NULL;
	text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
	fclose(f);
	return text;
}

static int lines_of(const char *name)
{
	char *p = contents(name);
	int n = 0;

	for (; p && *p; p++)
		n += *p == '\n';
	return n;
}

static bool says(const char *what)
{
	if (contents("stats") && strstr(text, what))
		return true;
	print_message("'%s' is not in: %s\n", what, text);
	return false;
}

/* In a child, which fails if an assertion does. */
static pid_t in_process(void (*body)(void), bool start)
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		alarm(60);
		if (start)
			tally_start();
		body();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	return child;
}

#define EXPECT(condition)                                              \
	do {                                                           \
		if (!(condition)) {                                    \
			print_message("line %d: not %s\n", __LINE__,   \
				      #condition);                     \
			_exit(1);                                      \
		}                                                      \
	} while (0)

static void touch(int seconds)
{
	const struct timespec times[2] = { { seconds, 0 }, { seconds, 0 } };
	int fd = open(in_dir("stats.now"), O_WRONLY | O_CREAT, 0600);

	EXPECT(fd >= 0 && futimens(fd, times) == 0);
	close(fd);
}

static int begin(void **state)
{
	(void)state;
	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	setenv("ASYNCTLS_STATS", in_dir("stats"), 1);
	setenv("ASYNCTLS_LOG", in_dir("log"), 1);
	steps = 0;
	return 0;
}

static int end(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -r %s", dir);
	return system(command);
}

/* ---- What the line says ------------------------------------------------- */

static void do_nothing(void)
{
	tally_end();
}

static void a_process_without_connections_writes_nothing(void **state)
{
	(void)state;
	in_process(do_nothing, true);
	assert_int_equal(lines_of("stats"), 0);
	assert_int_equal(lines_of("log"), 0);
}

static struct hold_counts some_held(void)
{
	return (struct hold_counts){ 1, 2, 3, 4, 5, 6, 7, 8, 9 };
}

static void count_each(void)
{
	tally_also(some_held);
	tally_add(taken, 1);
	tally_add(returned, 2);
	tally_add(failed, 3);
	tally_add(tx_records, 4);
	tally_add(tx_bytes, 1ull << 40);
	tally_add(rx_records, 6);
	tally_add(rx_bytes, 7);
	tally_add(receives, 8);
	tally_add(refused_fork, 9);
	tally_declined("a reason");
	tally_declined("another");
	tally_declined("a reason");
	tally_end();
}

static void the_line_has_each_counter(void **state)
{
	char whole[1024];
	const char *since;
	pid_t pid;

	(void)state;
	pid = in_process(count_each, true);
	assert_non_null(contents("stats"));
	since = strstr(text, "\"started\":");
	assert_non_null(since);
	snprintf(whole, sizeof(whole),
		 "{\"pid\":%d,\"started\":%llu,\"program\":\"test_tally\","
		 "\"at\":\"exit\",\"taken\":1,\"returned\":2,\"failed\":3,"
		 "\"tx_records\":4,\"tx_bytes\":1099511627776,"
		 "\"rx_records\":6,\"rx_bytes\":7,\"receives\":8,"
		 "\"refused_fork\":9,"
		 "\"declined\":{\"a reason\":2,\"another\":1},"
		 "\"held\":{\"sends\":1,\"bytes\":2,\"by_timer\":3,"
		 "\"by_sleep\":4,\"by_limit\":5,\"by_end\":6,\"stuck\":7,"
		 "\"ticks\":8,\"orphans\":9}}\n",
		 (int)pid, strtoull(since + 10, NULL, 10));
	assert_string_equal(text, whole);
}

static void decline_strangely(void)
{
	tally_declined("a \"quoted\" \\ one\n\x01\xe9");
	tally_end();
}

static void strings_are_json(void **state)
{
	(void)state;
	in_process(decline_strangely, true);
	assert_true(says("{\"a \\\"quoted\\\" \\\\ one\\u000a\\u0001\\u00e9\""
			 ":1}"));
}

/* ---- Threads ------------------------------------------------------------ */

static pthread_barrier_t both;

static void *count_and_end(void *arg)
{
	(void)arg;
	tally_add(taken, 1);
	tally_add(tx_bytes, 100);
	return NULL;
}

static void *count_and_stay(void *arg)
{
	count_and_end(arg);
	pthread_barrier_wait(&both);
	pthread_barrier_wait(&both);
	return NULL;
}

static void count_in_threads(void)
{
	pthread_t thread;
	int i;

	for (i = 0; i < 100; i++) {
		EXPECT(!pthread_create(&thread, NULL, count_and_end, NULL));
		EXPECT(!pthread_join(thread, NULL));
	}
	pthread_barrier_init(&both, NULL, 2);
	EXPECT(!pthread_create(&thread, NULL, count_and_stay, NULL));
	pthread_barrier_wait(&both);
	tally_add(taken, 1);
	tally_end();
}

static void threads_that_ended_and_others_count(void **state)
{
	(void)state;
	in_process(count_in_threads, true);
	assert_true(says("\"taken\":102,"));
	assert_true(says("\"tx_bytes\":10100,"));
}

static pthread_key_t late;

static void count_late(void *arg)
{
	static int rounds;

	tally_add(taken, 1);
	if (++rounds < 3)
		pthread_setspecific(late, arg);
}

static void *count_to_the_end(void *arg)
{
	pthread_key_create(&late, count_late);
	pthread_setspecific(late, &late);
	return count_and_end(arg);
}

static void count_in_destructors(void)
{
	pthread_t thread;

	EXPECT(!pthread_create(&thread, NULL, count_to_the_end, NULL));
	EXPECT(!pthread_join(thread, NULL));
	tally_end();
}

static void what_a_thread_does_while_it_ends_counts(void **state)
{
	(void)state;
	in_process(count_in_destructors, true);
	assert_true(says("\"taken\":4,"));
}

static void count_unstarted(void)
{
	tally_add(taken, 1);
	tally_start();
	tally_add(taken, 1);
	tally_end();
}

static void what_was_before_the_start_counts(void **state)
{
	(void)state;
	in_process(count_unstarted, false);
	assert_true(says("\"taken\":2,"));
}

/* ---- Reasons ------------------------------------------------------------ */

static void decline_often(void)
{
	char same[] = "reason";
	int i;

	for (i = 0; i < 5; i++)
		tally_declined("reason");
	tally_declined(same);
}

static void a_reason_is_logged_once(void **state)
{
	char line[128];
	pid_t pid;

	(void)state;
	pid = in_process(decline_often, true);
	assert_non_null(contents("log"));
	snprintf(line, sizeof(line),
		 "asynctls: test_tally[%d]: a connection stays with OpenSSL: "
		 "reason\n", (int)pid);
	assert_string_equal(text, line);
}

static void log_to_stderr(void)
{
	int fd = open(in_dir("stderr"), O_WRONLY | O_CREAT, 0600);

	dup2(fd, STDERR_FILENO);
	setenv("ASYNCTLS_LOG", "stderr", 1);
	tally_start();
	decline_often();
}

static void the_log_may_be_stderr(void **state)
{
	(void)state;
	in_process(log_to_stderr, false);
	assert_int_equal(lines_of("stderr"), 1);
	assert_int_equal(lines_of("log"), 0);
}

static void decline_for_many_reasons(void)
{
	static char reasons[200][700];
	int i;

	for (i = 0; i < 200; i++) {
		memset(reasons[i], 'x', sizeof(reasons[i]) - 1);
		reasons[i][snprintf(reasons[i], 10, "%d", i)] = ' ';
		tally_declined(reasons[i]);
		tally_declined(reasons[i]);
	}
	tally_end();
}

static void the_line_has_a_bound(void **state)
{
	size_t len;

	(void)state;
	in_process(decline_for_many_reasons, true);
	assert_int_equal(lines_of("stats"), 1);
	assert_true(says("\"declined\":{\"0 xxxx"));
	len = strlen(text);
	assert_true(len < 16 << 10);
	assert_string_equal(text + len - 3, "}}\n");
}

static void decline_for_short_reasons(void)
{
	static char reasons[200][8];
	int i;

	for (i = 0; i < 200; i++) {
		snprintf(reasons[i], sizeof(reasons[i]), "%d", i);
		tally_declined(reasons[i]);
	}
	tally_end();
}

static void reasons_too_many_are_one(void **state)
{
	(void)state;
	in_process(decline_for_short_reasons, true);
	assert_true(says(",\"46\":1,\"other reasons\":153}"));
}

/* ---- Ends --------------------------------------------------------------- */

static void end_often(void)
{
	tally_add(taken, 1);
	tally_end();
	tally_end();
	EXPECT(lines_of("stats") == 1);
	tally_add(tx_bytes, 1);
	tally_end();
	EXPECT(lines_of("stats") == 2);
}

static void an_end_without_news_writes_nothing(void **state)
{
	(void)state;
	in_process(end_often, true);
}

/* While it has a lock, so often from now, the process gets a signal. */
static int locks;
int __real_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
	int result = __real_pthread_mutex_lock(mutex);

	if (locks && !--locks)
		raise(SIGUSR1);
	return result;
}

static void leave(int signal)
{
	(void)signal;
	tally_end();
	_exit(0);
}

static int at_lock;

static void end_in_a_handler(void)
{
	pthread_t thread;

	signal(SIGUSR1, leave);
	tally_declined("there is something to be written");
	locks = at_lock;
	tally_add(taken, 1); /* the first lock */
	EXPECT(!pthread_create(&thread, NULL, count_and_end, NULL));
	EXPECT(!pthread_join(thread, NULL)); /* as it begins, and ends */
	touch(1000 + at_lock); /* anew, for each process */
	tally_look(); /* to write, and to sum up */
	tally_end();
	_exit(1);
}

static void a_handler_may_end_the_process_anywhere(void **state)
{
	(void)state;
	for (at_lock = 1; at_lock <= 7; at_lock++)
		in_process(end_in_a_handler, true);
	assert_true(lines_of("stats") >= 7);
}

static void fork_once(void (*in_child)(void))
{
	pid_t child;
	int status;

	tally_add(taken, 5);
	tally_declined("before");
	child = fork();
	if (!child) {
		in_child();
		_exit(0);
	}
	EXPECT(waitpid(child, &status, 0) == child && status == 0);
	EXPECT(lines_of("stats") == 0 || in_child == do_nothing ||
	       says("\"taken\":1,"));
	tally_end();
}

static void count_anew(void)
{
	tally_forked();
	tally_end();
	EXPECT(lines_of("stats") == 0);
	tally_add(taken, 1);
	tally_declined("after");
	tally_end();
}

static void fork_anew(void)
{
	fork_once(count_anew);
}

static void a_child_begins_from_nothing(void **state)
{
	(void)state;
	in_process(fork_anew, true);
	assert_int_equal(lines_of("stats"), 2);
	assert_true(says("\"declined\":{\"after\":1}"));
	assert_true(says("\"taken\":5,"));
	assert_int_equal(lines_of("log"), 2);
}

static void vfork_and_exit(void)
{
	fork_once(do_nothing); /* the child was not told that it is one */
}

static void a_child_that_borrows_the_memory_writes_nothing(void **state)
{
	(void)state;
	in_process(vfork_and_exit, true);
	assert_int_equal(lines_of("stats"), 1);
	assert_true(says("\"taken\":5,"));
}

/* ---- Asked while it runs ------------------------------------------------ */

static void answer(void)
{
	tally_add(taken, 1);
	tally_look(); /* nobody has asked */
	EXPECT(lines_of("stats") == 0);
	touch(1000);
	tally_look(); /* has just looked */
	EXPECT(lines_of("stats") == 0);
	steps++;
	tally_look();
	EXPECT(lines_of("stats") == 1 && says("\"at\":\"now\""));
	steps++;
	tally_look(); /* the same request */
	EXPECT(lines_of("stats") == 1);
	touch(999);
	steps++;
	tally_look();
	EXPECT(lines_of("stats") == 2);
	tally_end();
	EXPECT(lines_of("stats") == 3 && says("\"at\":\"exit\""));
	EXPECT(access(in_dir("stats.now"), F_OK) == 0);
}

static void each_request_is_answered_once(void **state)
{
	(void)state;
	in_process(answer, true);
}

static void all_answer(void)
{
	int i, status;
	pid_t child[3];

	touch(1000);
	for (i = 0; i < 3; i++) {
		child[i] = fork();
		if (child[i])
			continue;
		tally_forked();
		tally_add(taken, 1);
		tally_look();
		_exit(0);
	}
	for (i = 0; i < 3; i++)
		EXPECT(waitpid(child[i], &status, 0) && status == 0);
	EXPECT(lines_of("stats") == 3);
}

static void every_process_answers(void **state)
{
	(void)state;
	in_process(all_answer, true);
}

static void start_later(void)
{
	touch(1000);
	tally_start();
	tally_add(taken, 1);
	tally_look();
	EXPECT(lines_of("stats") == 0);
}

static void what_lay_there_before_is_no_request(void **state)
{
	(void)state;
	in_process(start_later, false);
}

/* ---- Files -------------------------------------------------------------- */

static void name_it(void)
{
	char name[64];

	setenv("ASYNCTLS_STATS", in_dir("s.%p.json"), 1);
	tally_start();
	tally_add(taken, 1);
	tally_end();
	snprintf(name, sizeof(name), "s.%d.json", (int)getpid());
	EXPECT(lines_of(name) == 1);
}

static void a_file_may_have_the_process_in_its_name(void **state)
{
	(void)state;
	in_process(name_it, false);
}

static void go_elsewhere(void)
{
	EXPECT(!chdir(dir));
	setenv("ASYNCTLS_STATS", "stats", 1);
	tally_start();
	clearenv();
	EXPECT(!chdir("/"));
	tally_add(taken, 1);
	touch(1);
	tally_look();
	tally_end();
}

static void the_environment_is_read_at_the_start(void **state)
{
	(void)state;
	in_process(go_elsewhere, false);
	assert_int_equal(lines_of("stats"), 2);
}

/* As a daemon that has become another user, or has another root. */
static void lose_the_path(void)
{
	char other[128];
	int fd = dup(0);

	close(fd);
	tally_start();
	EXPECT(dup(0) == fd); /* where it would have been without us */
	snprintf(other, sizeof(other), "%s.moved", dir);
	EXPECT(!rename(dir, other));
	tally_add(taken, 1);
	tally_end();
	EXPECT(!rename(other, dir));
}

static void the_file_is_kept_open(void **state)
{
	(void)state;
	in_process(lose_the_path, false);
	assert_int_equal(lines_of("stats"), 1);
}

static void close_all(void)
{
	int fd, other = open(in_dir("other"), O_WRONLY | O_CREAT, 0600);

	for (fd = 3; fd < 1024; fd++)
		if (fd != other)
			EXPECT(close(fd) == 0 || errno == EBADF);
	for (fd = 900; fd < 1024; fd++)
		EXPECT(dup2(other, fd) == fd);
	tally_add(taken, 1);
	tally_end();
}

static void a_descriptor_that_was_closed_is_not_used(void **state)
{
	(void)state;
	in_process(close_all, true);
	assert_int_equal(lines_of("other"), 0);
	assert_int_equal(lines_of("stats"), 1);
}

static void go_unasked(void)
{
	unsetenv("ASYNCTLS_STATS");
	unsetenv("ASYNCTLS_LOG");
	tally_start();
	EXPECT(!tally_wanted());
	decline_often();
	tally_look();
	tally_end();
}

static void nobody_asked_and_nothing_is_written(void **state)
{
	(void)state;
	in_process(go_unasked, false);
	assert_null(contents("stats"));
	assert_null(contents("log"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(a_process_without_connections_writes_nothing),
		TEST(the_line_has_each_counter),
		TEST(strings_are_json),
		TEST(threads_that_ended_and_others_count),
		TEST(what_a_thread_does_while_it_ends_counts),
		TEST(what_was_before_the_start_counts),
		TEST(a_reason_is_logged_once),
		TEST(the_log_may_be_stderr),
		TEST(the_line_has_a_bound),
		TEST(reasons_too_many_are_one),
		TEST(an_end_without_news_writes_nothing),
		TEST(a_handler_may_end_the_process_anywhere),
		TEST(a_child_begins_from_nothing),
		TEST(a_child_that_borrows_the_memory_writes_nothing),
		TEST(each_request_is_answered_once),
		TEST(every_process_answers),
		TEST(what_lay_there_before_is_no_request),
		TEST(a_file_may_have_the_process_in_its_name),
		TEST(the_environment_is_read_at_the_start),
		TEST(the_file_is_kept_open),
		TEST(a_descriptor_that_was_closed_is_not_used),
		TEST(nobody_asked_and_nothing_is_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
