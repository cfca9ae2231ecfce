/* SPDX-License-Identifier: MIT */
/*
 * The kernel takes no more work from a context: a sandbox was entered, or its
 * descriptor closed. Every call says so, in time, and all can be freed.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <liburing.h>

#include "context/ctx.h"
#include "wire.h"

static struct wire w;
static atomic_int refusal; /* of io_uring_enter(), or epoll_wait(), if not 0 */
static atomic_uint refused; /* so often */

#define STANDS_IN_FRONT(name, params, args)                      \
	int __real_##name params;                                \
	int __wrap_##name params;                                \
	int __wrap_##name params                                 \
	{                                                        \
		if (!refusal)                                    \
			return __real_##name args;               \
		refused++;                                       \
		return -refusal;                                 \
	}

STANDS_IN_FRONT(io_uring_submit, (struct io_uring *ring), (ring))
STANDS_IN_FRONT(io_uring_submit_and_get_events, (struct io_uring *ring),
		(ring))
STANDS_IN_FRONT(io_uring_get_events, (struct io_uring *ring), (ring))
STANDS_IN_FRONT(io_uring_submit_and_wait_timeout,
		(struct io_uring *ring, struct io_uring_cqe **cqe,
		 unsigned count, struct __kernel_timespec *ts, sigset_t *mask),
		(ring, cqe, count, ts, mask))
STANDS_IN_FRONT(io_uring_enter2,
		(unsigned fd, unsigned count, unsigned least, unsigned flags,
		 sigset_t *mask, size_t size),
		(fd, count, least, flags, mask, size))

/* What the ring without io_uring asks; these set errno. */
#define FAILS_IN_FRONT(name, params, args)                       \
	int __real_##name params;                                \
	int __wrap_##name params;                                \
	int __wrap_##name params                                 \
	{                                                        \
		if (!refusal)                                    \
			return __real_##name args;               \
		refused++;                                       \
		errno = refusal;                                 \
		return -1;                                       \
	}

FAILS_IN_FRONT(epoll_wait,
	       (int fd, struct epoll_event *events, int max, int ms),
	       (fd, events, max, ms))
FAILS_IN_FRONT(epoll_pwait2,
	       (int fd, struct epoll_event *events, int max,
		const struct timespec *ts, const sigset_t *mask),
	       (fd, events, max, ts, mask))
FAILS_IN_FRONT(ppoll,
	       (struct pollfd *fds, nfds_t count, const struct timespec *ts,
		const sigset_t *mask),
	       (fds, count, ts, mask))

static void begin(enum tls_context_kind kind, bool blocking)
{
	static uint8_t much[8 << 20];
	struct tls_event event;

	refusal = 0;
	wire_new(&w, &(struct wire_options){ .kind = kind,
					     .blocking = blocking });
	tls_context_wait(w.ctx, &event, 1, 0);
	if (!blocking) /* and a send under way */
		assert_true(tls_write(w.conn, much, sizeof(much)) > 0);
}

static void end(void)
{
	tls_context_free(w.ctx);
	w.ctx = NULL;
	refusal = 0;
	w.conn = NULL;
	wire_free(&w);
}

static void check_calls(enum tls_context_kind kind, int error)
{
	struct tls_event event;
	char buf[10];

	begin(kind, false);
	refusal = error;
	refused = 0;
	assert_int_equal(tls_context_wait(w.ctx, &event, 1, 500), -error);
	assert_non_null(strstr(tls_last_error(), "no more work"));
	assert_int_equal(tls_context_process(w.ctx), -error);
	assert_int_equal(tls_write(w.conn, "a", 1), -error);
	assert_int_equal(tls_flush(w.conn), -error);
	assert_int_equal(tls_flush_timeout(w.conn, 60000), -error);
	assert_int_equal(tls_shutdown(w.conn), -error);
	assert_int_equal(tls_read(w.conn, buf, sizeof(buf)), -error);
	assert_non_null(strstr(tls_conn_error(w.conn), "no more work"));
	assert_int_equal(tls_close(w.conn, 60000), -error);
	w.conn = NULL;
	assert_in_range(refused, 1, 100); /* and burns no time with asking */
	end();
}

static void every_call_of_a_loop_says_so(void **state)
{
	(void)state;
	check_calls(TLS_CONTEXT_LOOP, EPERM);
	check_calls(TLS_CONTEXT_LOOP, EBADF);
}

static void every_call_of_a_worker_context_says_so(void **state)
{
	(void)state;
	check_calls(TLS_CONTEXT_WORKER, EACCES);
	check_calls(TLS_CONTEXT_WORKER, ENOSYS);
}

static void it_may_just_be_freed(void **state)
{
	int kind, before = count_descriptors();

	(void)state;
	for (kind = TLS_CONTEXT_WORKER; kind <= TLS_CONTEXT_LOOP; kind++) {
		begin(kind, false);
		refusal = EPERM;
		end();
	}
	assert_int_equal(count_descriptors(), before);
}

static void *read_one(void *result)
{
	char buf[10];

	*(ssize_t *)result = tls_read(w.conn, buf, sizeof(buf));
	return NULL;
}

static void *wait_for_event(void *result)
{
	struct tls_event event;

	*(ssize_t *)result = tls_context_wait(w.ctx, &event, 1, -1);
	return NULL;
}

/* They sleep in the kernel already, which refuses only what is asked later. */
static void who_sleeps_is_woken(void **state)
{
	ssize_t result[2] = { 0, 0 };
	pthread_t thread[2];
	char buf[10];

	(void)state;
	begin(TLS_CONTEXT_WORKER, true);
	pthread_create(&thread[0], NULL, read_one, &result[0]);
	pthread_create(&thread[1], NULL, wait_for_event, &result[1]);
	usleep(50 * 1000);
	refusal = EPERM;
	tls_write(w.conn, buf, 1);
	tls_flush_timeout(w.conn, 1000);
	pthread_join(thread[0], NULL);
	pthread_join(thread[1], NULL);
	assert_int_equal(result[0], -EPERM);
	assert_int_equal(result[1], -EPERM);
	end();
}

/* The number is another file's by then. */
static void the_descriptor_may_be_closed_and_be_anothers(
	enum tls_context_kind kind)
{
	struct tls_event event;
	int fd, other, i;

	begin(kind, false);
	for (fd = 3; fd < 64; fd++) {
		char path[40], target[64] = "";

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (readlink(path, target, sizeof(target) - 1) > 0 &&
		    strstr(target, on_uring(w.ctx) ? "[io_uring]" :
						     "[eventpoll]"))
			break;
	}
	assert_true(fd < 64);
	other = open("/dev/null", O_RDWR);
	assert_int_equal(dup2(other, fd), fd);
	for (i = 0; i < 10 && !w.ctx->error; i++) {
		tls_write(w.conn, "a", 1);
		tls_context_wait(w.ctx, &event, 1, 100);
	}
	tls_close(w.conn, 1000);
	w.conn = NULL;
	end();
	assert_true(fcntl(fd, F_GETFD) >= 0); /* it was not ours to close */
	close(fd);
	close(other);
}

/* All that a daemon does not know, and then it opens files of its own. */
static void closed_from_under_us(enum tls_context_kind kind)
{
	char path[] = "/tmp/asynctls-broken-XXXXXX";
	int before = open("/dev/null", O_RDWR), fd[16], i, n = 0;
	struct tls_event event;
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *ctx;
	struct stat st;

	close(before); /* the context's numbers begin here */
	config.kind = kind;
	assert_int_equal(tls_context_new(&ctx, &config), 0);
	for (i = 0; i < 10; i++)
		close(before + i);
	for (i = 0; i < 10; i++) {
		fd[i] = mkstemp(path);
		assert_in_range(fd[i], before, before + 9);
		unlink(path);
		strcpy(path + sizeof(path) - 7, "XXXXXX");
	}
	n = tls_context_wait(ctx, &event, 1, 1000);
	assert_true(n < 0);
	tls_context_wake(ctx);
	tls_context_free(ctx);
	for (i = 0; i < 10; i++) {
		assert_int_equal(fstat(fd[i], &st), 0);
		assert_int_equal(st.st_size, 0);
		close(fd[i]);
	}
}

static void files_that_get_our_numbers_are_left_alone(void **state)
{
	(void)state;
	closed_from_under_us(TLS_CONTEXT_LOOP);
	closed_from_under_us(TLS_CONTEXT_WORKER);
}

static void a_loops_descriptor_may_be_closed_and_be_anothers(void **state)
{
	(void)state;
	the_descriptor_may_be_closed_and_be_anothers(TLS_CONTEXT_LOOP);
}

static void a_workers_descriptor_may_be_closed_and_be_anothers(void **state)
{
	(void)state;
	the_descriptor_may_be_closed_and_be_anothers(TLS_CONTEXT_WORKER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_call_of_a_loop_says_so),
		cmocka_unit_test(every_call_of_a_worker_context_says_so),
		cmocka_unit_test(it_may_just_be_freed),
		cmocka_unit_test(who_sleeps_is_woken),
		cmocka_unit_test(files_that_get_our_numbers_are_left_alone),
		cmocka_unit_test(
			a_loops_descriptor_may_be_closed_and_be_anothers),
		cmocka_unit_test(
			a_workers_descriptor_may_be_closed_and_be_anothers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
