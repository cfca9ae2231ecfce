/* SPDX-License-Identifier: MIT */
/* The recorder notices what it is there to notice, and nothing else. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "context/ctx.h"
#include "fake_engine.h"
#include "recorder.h"
#include "wire.h"

enum { LEN = 500, MANY = 5000 };

static struct recorder *recorder;
static struct fake_engine *fake;
static struct wire w;

static int setup(void **state)
{
	(void)state;
	fake = fake_new();
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP,
					     .fake = fake });
	recorder = w.recorder;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	wire_free(&w);
	fake_free(fake);
	return 0;
}

static void write_and_receive(uint8_t byte, enum fake_outcome outcome)
{
	uint8_t buf[LEN], content[RECORD_PLAIN_MAX + 256], type;

	memset(buf, byte, LEN);
	assert_int_equal(tls_write(w.conn, buf, LEN), LEN);
	while (fake_pending(fake))
		fake_complete(fake, 0, outcome);
	tls_context_process(w.ctx);
	assert_int_equal(wire_receive(&w, &type, content), LEN);
	assert_memory_equal(content, buf, LEN);
}

static void a_record_sealed_again_by_the_other_engine_is_counted(void **state)
{
	(void)state;
	write_and_receive('a', FAKE_OK);
	write_and_receive('b', FAKE_FAILS);
	write_and_receive('c', FAKE_OK);
	assert_int_equal(recorder_counts(recorder).seals, 4);
	assert_int_equal(recorder_counts(recorder).repeats, 1);
	assert_int_equal(recorder_counts(recorder).keys, 2);
}

static void a_record_refused_is_counted_too(void **state)
{
	(void)state;
	fake_refuse(fake, 0);
	write_and_receive('a', FAKE_OK);
	assert_int_equal(recorder_counts(recorder).seals, 2);
	assert_int_equal(recorder_counts(recorder).repeats, 1);
}

static void another_connection_with_the_same_secrets_begins_anew(void **state)
{
	(void)state;
	write_and_receive('a', FAKE_OK);
	tls_close(w.conn, 0);
	fake_complete_all(fake);
	tls_context_process(w.ctx);
	w.conn = NULL;
	wire_reopen(&w, &(struct wire_options){ 0 });
	write_and_receive('b', FAKE_OK);
	assert_int_equal(recorder_counts(recorder).seals, 1);
}

static void many_records_are_remembered(void **state)
{
	int i;

	(void)state;
	for (i = 0; i < MANY; i++)
		write_and_receive((uint8_t)i, FAKE_OK);
	assert_int_equal(recorder_counts(recorder).seals, MANY);
	assert_int_equal(recorder_counts(recorder).repeats, 0);
}

/* ---- Reuse ------------------------------------------------------------- */

/* Seal two records with the sequence number of the first. */
static void seal_twice(uint8_t first, uint8_t second)
{
	setup(NULL); /* a context is not its parent's to use */
	write_and_receive(first, FAKE_OK);
	w.conn->tx.seq--;
	w.open_seq--;
	write_and_receive(second, FAKE_OK);
	_exit(0);
}

/* How a process ends that does so, and what it says. */
static int status_of_twice(uint8_t first, uint8_t second, char words[300])
{
	int fd[2], status;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe(fd), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(fd[1], STDERR_FILENO);
		seal_twice(first, second);
	}
	close(fd[1]);
	n = read(fd[0], words, 299);
	words[n > 0 ? n : 0] = '\0';
	close(fd[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void a_nonce_used_for_another_record_aborts(void **state)
{
	char words[300];
	int status = status_of_twice('a', 'b', words);

	(void)state;
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
	assert_non_null(strstr(words, "a nonce was used again"));
}

static void the_same_record_twice_does_not(void **state)
{
	char words[300];
	int status = status_of_twice('a', 'a', words);

	(void)state;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_record_sealed_again_by_the_other_engine_is_counted),
		TEST(a_record_refused_is_counted_too),
		TEST(another_connection_with_the_same_secrets_begins_anew),
		TEST(many_records_are_remembered),
		cmocka_unit_test(a_nonce_used_for_another_record_aborts),
		cmocka_unit_test(the_same_record_twice_does_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
