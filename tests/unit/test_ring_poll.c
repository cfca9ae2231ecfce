/* SPDX-License-Identifier: MIT */
/*
 * The ring without io_uring: what sockets, epoll and Linux AIO do that is easily
 * taken for something else. Every test runs on both kinds of ring.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <libaio.h>

#include "both.h"
#include "io/ring.h"
#include "wire.h"

enum { SECOND = 1000000000, SHORTLY = SECOND / 50, MANY = 300 };

static enum ring_kind kind; /* of the group that is running */
static struct ring *ring;

struct op {
	struct ring_op ring; /* first: done() casts back */
	int result;
	int count;
};

static void op_done(struct ring_op *ring_op, int result, int buffer)
{
	struct op *op = (struct op *)ring_op;

	(void)buffer;
	op->result = result;
	op->count++;
}

static struct op new_op(void)
{
	return (struct op){ .ring.done = op_done };
}

static int refusals, refusal; /* of epoll_ctl(), and with what */

static int setup(void **state)
{
	const char *why;

	(void)state;
	refusals = 0;
	return ring_new(&ring, kind, RING_POLL, &why);
}

static int teardown(void **state)
{
	(void)state;
	ring_free(ring);
	return 0;
}

/* As a context does that has nothing else to do. */
static void turn(void)
{
	ring_submit(ring);
	ring_wait(ring, SHORTLY);
	ring_reap(ring);
}

static void finish(struct op *op)
{
	int i;

	for (i = 0; i < 100 && !op->count; i++)
		turn();
	assert_int_equal(op->count, 1);
}

static int receive(int fd, char *buf, size_t len)
{
	struct op op = new_op();

	assert_int_equal(ring_recv(ring, fd, buf, len, &op.ring), 0);
	finish(&op);
	return op.result;
}

/* With nothing there: it waits for an event from then on. */
static void begin_to_receive(int fd, char *buf, size_t len, struct op *op)
{
	assert_int_equal(ring_recv(ring, fd, buf, len, &op->ring), 0);
	turn();
	assert_int_equal(op->count, 0);
}

/* ---- Receives that end early -------------------------------------------- */

static void what_is_behind_urgent_data_is_received(void **state)
{
	struct op op = new_op();
	char buf[16];
	int fd[2], i;

	(void)state;
	socket_pair(fd, true);
	begin_to_receive(fd[0], buf, 16, &op);
	assert_int_equal(send(fd[1], "ab!", 3, MSG_OOB), 3);
	assert_int_equal(send(fd[1], "cd", 2, 0), 2);
	usleep(20 * 1000);
	finish(&op);
	assert_int_equal(op.result, 2); /* up to the mark */
	for (i = 0; i < 3; i++) {
		assert_int_equal(receive(fd[0], buf, 16), 2);
		assert_memory_equal(buf, "cd", 2);
		assert_int_equal(send(fd[1], "cd", 2, 0), 2);
		usleep(20 * 1000);
	}
	close(fd[0]);
	close(fd[1]);
}

static void send_with_a_descriptor(int fd, const char *bytes)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { { .cmsg_len = CMSG_LEN(sizeof(int)),
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS } };
	struct iovec iov = { (void *)(uintptr_t)bytes, strlen(bytes) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = sizeof(control) };

	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	assert_int_equal(sendmsg(fd, &msg, 0), strlen(bytes));
}

/* A unix socket's receive ends with the data that came with it. */
static void what_is_behind_a_passed_descriptor_is_received(void **state)
{
	struct op op = new_op();
	char buf[16];
	int fd[2];

	(void)state;
	socket_pair(fd, false);
	begin_to_receive(fd[0], buf, 16, &op);
	send_with_a_descriptor(fd[1], "ab");
	assert_int_equal(send(fd[1], "cd", 2, 0), 2);
	finish(&op);
	assert_int_equal(op.result, 2);
	assert_int_equal(receive(fd[0], buf, 16), 2);
	assert_memory_equal(buf, "cd", 2);
	close(fd[0]);
	close(fd[1]);
}

/* ---- Events -------------------------------------------------------------- */

static bool polls_readable(void)
{
	struct pollfd pfd = { .fd = ring_fd(ring), .events = POLLIN };

	return poll(&pfd, 1, 0) == 1;
}

/* Else an application that polls the descriptor would turn for ever. */
static void an_event_that_nobody_waits_for_is_taken(void **state)
{
	struct op op = new_op();
	char buf[16];
	int fd[2];

	(void)state;
	socket_pair(fd, true);
	begin_to_receive(fd[0], buf, 16, &op);
	assert_int_equal(send(fd[1], "ab", 2, 0), 2);
	finish(&op);
	assert_int_equal(send(fd[1], "cd", 2, 0), 2);
	usleep(20 * 1000);
	ring_listen(ring);
	ring_look(ring);
	ring_reap(ring);
	ring_listen(ring);
	assert_false(polls_readable());
	assert_int_equal(receive(fd[0], buf, 16), 2);
	close(fd[0]);
	close(fd[1]);
}

/* Who polls the descriptor edge-triggered is not told of the rest again. */
static void a_look_that_does_not_see_everything_says_so(void **state)
{
	static struct op op[MANY];
	static char buf[MANY];
	int fd[MANY][2], i, reaped = 0, looks = 0;

	(void)state;
	for (i = 0; i < MANY; i++) {
		op[i] = new_op();
		socket_pair(fd[i], false);
		assert_int_equal(ring_recv(ring, fd[i][0], &buf[i], 1,
					   &op[i].ring), 0);
	}
	turn();
	for (i = 0; i < MANY; i++)
		assert_int_equal(send(fd[i][1], "x", 1, 0), 1);
	do {
		ring_look(ring);
		reaped += (int)ring_reap(ring);
	} while (!ring_listen(ring) && looks++ < MANY);
	assert_int_equal(reaped, MANY);
	for (i = 0; i < MANY; i++) {
		close(fd[i][0]);
		close(fd[i][1]);
	}
}

/*
 * Closed before the ring forgot it, which is wrong, and back under its number:
 * the epoll still knows the file, since something else had it open.
 */
static void a_file_that_comes_back_is_watched_again(void **state)
{
	struct op op = new_op(), again = new_op();
	char buf[16];
	int fd[2], kept;

	(void)state;
	socket_pair(fd, true);
	begin_to_receive(fd[0], buf, 16, &op);
	kept = dup(fd[0]);
	close(fd[0]);
	ring_cancel(ring, &op.ring);
	finish(&op);
	ring_forget(ring, fd[0]);
	assert_int_equal(dup2(kept, fd[0]), fd[0]);
	begin_to_receive(fd[0], buf, 16, &again);
	assert_int_equal(send(fd[1], "ab", 2, 0), 2);
	finish(&again);
	assert_int_equal(again.result, 2);
	close(kept);
	close(fd[0]);
	close(fd[1]);
}

/* ---- What is refused ----------------------------------------------------- */

int __real_epoll_ctl(int epoll, int how, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll, int how, int fd, struct epoll_event *event);

int __wrap_epoll_ctl(int epoll, int how, int fd, struct epoll_event *event)
{
	if (refusals && how == EPOLL_CTL_ADD) {
		refusals--;
		errno = refusal;
		return -1;
	}
	return __real_epoll_ctl(epoll, how, fd, event);
}

/* fs.epoll.max_user_watches: others' sockets may have them all, for a while. */
static void without_a_watch_a_socket_is_tried_now_and_then(void **state)
{
	static const int errors[] = { ENOSPC, ENOMEM };
	struct op recv, send_op;
	char buf[16];
	char *much = calloc(1, (1 << 22) + (1 << 20));
	int fd[2], i;

	(void)state;
	for (i = 0; i < 2; i++) {
		refusals = 1 << 30;
		refusal = errors[i];
		recv = send_op = new_op();
		socket_pair(fd, true);
		begin_to_receive(fd[0], buf, 16, &recv);
		assert_int_equal(ring_submit(ring), -EAGAIN);
		assert_int_equal(send(fd[1], "ab", 2, 0), 2);
		finish(&recv);
		assert_int_equal(recv.result, 2);
		assert_int_equal(ring_send(ring, fd[0], much, 1 << 22,
					   &send_op.ring), 0);
		turn();
		while (!send_op.count) {
			turn();
			assert_true(read(fd[1], much + (1 << 22), 1 << 20) > 0);
		}
		assert_int_equal(send_op.result, 1 << 22);
		refusals = 0;
		close(fd[0]);
		close(fd[1]);
	}
	free(much);
}

/* Else each call would try all sockets that have none. */
static void they_are_not_tried_at_every_call(void **state)
{
	struct op op = new_op();
	uint64_t before, begin = now_ns();
	char buf[16];
	int fd[2], i;

	(void)state;
	refusals = 1 << 30;
	refusal = ENOSPC;
	socket_pair(fd, true);
	assert_int_equal(ring_recv(ring, fd[0], buf, 16, &op.ring), 0);
	before = ring_enters(ring);
	for (i = 0; i < 10000; i++)
		assert_int_equal(ring_submit(ring), -EAGAIN);
	/* two calls each time, once a millisecond */
	assert_true(ring_enters(ring) - before <=
		    2 * ((now_ns() - begin) / NS_PER_MS + 2));
	ring_cancel(ring, &op.ring);
	ring_reap(ring);
	assert_int_equal(op.count, 1);
	assert_int_equal(op.result, -ECANCELED);
	close(fd[0]);
	close(fd[1]);
}

/* Until they are tried again: the timer that wakes it has its watch. */
static void a_loop_sleeps_meanwhile(void **state)
{
	struct pollfd pfd = { .events = POLLIN };
	struct tls_event event;
	struct tls_config config = TLS_CONFIG_INIT;
	struct both both;
	int i, slept = 0;

	(void)state;
	config.kind = TLS_CONTEXT_LOOP;
	config.io = TLS_IO_POLL;
	assert_int_equal(tls_context_new(&both.ctx, &config), 0);
	refusals = 1 << 30;
	refusal = ENOSPC;
	both_open(&both, both.ctx);
	pfd.fd = tls_context_fd(both.ctx);
	for (i = 0; i < 100; i++) {
		assert_int_equal(tls_context_wait(both.ctx, &event, 1, 0), 0);
		slept += poll(&pfd, 1, 0) == 0;
	}
	assert_true(slept > 0);
	assert_int_equal(poll(&pfd, 1, 10000), 1);
	both_transfer(&both, 100000);
	both_close(&both);
	tls_context_free(both.ctx);
}

static ssize_t read_all(int fd)
{
	static char room[1 << 16];
	ssize_t n, sum = 0;

	while ((n = recv(fd, room, sizeof(room), MSG_DONTWAIT)) > 0)
		sum += n;
	return sum;
}

/* The ring changes hands while it cannot have an event for the rest. */
static void what_was_sent_of_a_send_is_told_to_its_next_owner(void **state)
{
	struct op op = new_op();
	char *much = calloc(1, 1 << 22);
	const char *why;
	int fd[2];

	(void)state;
	socket_pair(fd, false);
	refusals = 1 << 30;
	refusal = ENOSPC;
	assert_int_equal(ring_send(ring, fd[0], much, 1 << 22, &op.ring), 0);
	turn();
	assert_int_equal(op.count, 0);
	assert_int_equal(ring_renew(ring, &why), 0);
	assert_int_equal(op.count, 1);
	assert_int_equal(op.result, read_all(fd[1]));
	close(fd[0]);
	close(fd[1]);
	free(much);
}

static int no_pwait2; /* with this error */

int __real_epoll_pwait2(int epoll, struct epoll_event *events, int max,
			const struct timespec *timeout, const sigset_t *mask);
int __wrap_epoll_pwait2(int epoll, struct epoll_event *events, int max,
			const struct timespec *timeout, const sigset_t *mask);

int __wrap_epoll_pwait2(int epoll, struct epoll_event *events, int max,
			const struct timespec *timeout, const sigset_t *mask)
{
	if (!no_pwait2)
		return __real_epoll_pwait2(epoll, events, max, timeout, mask);
	errno = no_pwait2;
	return -1;
}

static void wait_coarsely(int error)
{
	uint64_t begin = now_ns();

	no_pwait2 = error;
	if (ring_wait(ring, SHORTLY) != -ETIME || ring_error(ring))
		_exit(1);
	_exit(now_ns() - begin < SHORTLY);
}

/* It is younger than the other calls, and a profile of seccomp may be old. */
static void a_wait_does_without_epoll_pwait2(void **state)
{
	static const int errors[] = { ENOSYS, EPERM, EACCES };
	unsigned i;

	(void)state;
	for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		pid_t child = fork();
		int status;

		if (!child)
			wait_coarsely(errors[i]);
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(status, 0);
	}
}

static void words_say_what_a_new_ring_lacks(void **state)
{
	struct ring *none;
	const char *why = "";

	(void)state;
	refusals = 1;
	refusal = ENOSPC;
	assert_int_equal(ring_new(&none, kind, RING_POLL, &why), -ENOSPC);
	assert_non_null(strstr(why, "fs.epoll.max_user_watches"));
	assert_int_equal(refusals, 0);
}

/* ---- Requests ------------------------------------------------------------ */

static struct iovec ask_iov = { "ask", 3 };
static const struct msghdr ask = { .msg_iov = &ask_iov, .msg_iovlen = 1 };

/* One event may tell of all of them. */
static void all_answers_that_come_at_once_are_heard(void **state)
{
	static struct op op[MANY];
	static char buf[MANY][8];
	int fd[MANY][2], i, done = 0, turns = 0;

	(void)state;
	for (i = 0; i < MANY; i++) {
		op[i] = new_op();
		socket_pair(fd[i], false);
		assert_int_equal(send(fd[i][1], "answer", 6, 0), 6);
		assert_int_equal(ring_engine_request(ring, fd[i][0], &ask,
						     buf[i], 6, &op[i].ring),
				 0);
	}
	while (done < MANY && turns++ < 20) {
		turn();
		for (done = 0, i = 0; i < MANY; i++)
			done += op[i].count;
	}
	assert_int_equal(done, MANY);
	for (i = 0; i < MANY; i++) {
		assert_int_equal(op[i].result, 6);
		close(fd[i][0]);
		close(fd[i][1]);
	}
}

static int events_left = INT_MAX; /* of fs.aio-max-nr */

int __real_io_setup(int events, io_context_t *context);
int __wrap_io_setup(int events, io_context_t *context);

int __wrap_io_setup(int events, io_context_t *context)
{
	return events > events_left ? -EAGAIN :
				      __real_io_setup(events, context);
}

/* fs.aio-max-nr counts those of all processes. */
static void few_requests_at_once_are_better_than_none(void **state)
{
	struct op op = new_op();
	char buf[8];
	int fd[2];

	(void)state;
	socket_pair(fd, false);
	assert_int_equal(send(fd[1], "answer", 6, 0), 6);
	events_left = 40;
	assert_int_equal(ring_engine_request(ring, fd[0], &ask, buf, 6,
					     &op.ring), 0);
	finish(&op);
	events_left = INT_MAX;
	assert_int_equal(op.result, 6);
	close(fd[0]);
	close(fd[1]);
}

/* Its answer would not be heard. */
static void a_request_without_an_event_is_refused(void **state)
{
	struct op op;
	char buf[8];
	int fd[2], i;

	(void)state;
	socket_pair(fd, false);
	refusals = 2;
	refusal = ENOSPC;
	for (i = 0; i < 3; i++) {
		assert_int_equal(send(fd[1], "answer", 6, 0), 6);
		op = new_op();
		assert_int_equal(ring_engine_request(ring, fd[0], &ask, buf, 6,
						     &op.ring), 0);
		finish(&op);
		assert_int_equal(op.result, i < 2 ? -ENOSPC : 6);
	}
	close(fd[0]);
	close(fd[1]);
}

static void free_after_closefrom(void)
{
	struct op op = new_op();
	char buf[8];
	int fd[2], taken[MANY], i;

	socket_pair(fd, false);
	if (send(fd[1], "answer", 6, 0) != 6 ||
	    ring_engine_request(ring, fd[0], &ask, buf, 6, &op.ring))
		_exit(2);
	turn();
	syscall(SYS_close_range, 3, ~0u, 0);
	for (i = 0; i < MANY; i++)
		taken[i] = eventfd(0, 0);
	ring_free(ring);
	for (i = 0; i < MANY; i++)
		if (fcntl(taken[i], F_GETFD) < 0)
			_exit(1);
	_exit(op.count == 1 ? 0 : 3);
}

static void what_has_got_its_numbers_is_not_closed(void **state)
{
	pid_t child = fork();
	int status;

	(void)state;
	if (!child)
		free_after_closefrom();
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_behind_urgent_data_is_received),
		TEST(what_is_behind_a_passed_descriptor_is_received),
		TEST(an_event_that_nobody_waits_for_is_taken),
		TEST(a_look_that_does_not_see_everything_says_so),
		TEST(a_file_that_comes_back_is_watched_again),
		TEST(without_a_watch_a_socket_is_tried_now_and_then),
		TEST(they_are_not_tried_at_every_call),
		TEST(a_loop_sleeps_meanwhile),
		TEST(what_was_sent_of_a_send_is_told_to_its_next_owner),
		TEST(a_wait_does_without_epoll_pwait2),
		TEST(words_say_what_a_new_ring_lacks),
		TEST(all_answers_that_come_at_once_are_heard),
		TEST(few_requests_at_once_are_better_than_none),
		TEST(a_request_without_an_event_is_refused),
		TEST(what_has_got_its_numbers_is_not_closed),
	};
	int failed;

	kind = RING_SHARED;
	failed = cmocka_run_group_tests_name("shared", tests, NULL, NULL);
	kind = RING_OWNED;
	return failed + cmocka_run_group_tests_name("owned", tests, NULL, NULL);
}
