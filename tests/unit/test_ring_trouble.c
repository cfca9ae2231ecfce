/* SPDX-License-Identifier: MIT */
/*
 * ring.h where the kernel or somebody else gets in its way; every test runs on
 * both kinds of ring, in a child that may spoil its process.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <liburing.h>

#include "io/ring.h"

enum { SECOND = 1000000000, PATIENCE_S = 20, SLEEPERS = 40, TRIES = 200 };

static enum ring_kind kind; /* of the group that is running */

/* In a child: say where it went wrong, in the exit code. */
#define REQUIRE(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, \
				#condition); \
			_exit(1); \
		} \
	} while (0)

static void in_a_child(void (*body)(void))
{
	pid_t child = fork();
	int status;

	if (!child) {
		alarm(PATIENCE_S); /* a call that hangs ends here */
		body();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFSIGNALED(status))
		fail_msg("ended by signal %d", WTERMSIG(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

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

static struct ring *new_ring(void)
{
	struct ring *ring;
	const char *why;

	if (ring_new(&ring, kind, RING_URING, &why)) {
		fprintf(stderr, "%s\n", why);
		_exit(1);
	}
	return ring;
}

/* What loops round a wait comes out, and has not kept the kernel busy. */
static void require_dead(struct ring *ring, int error)
{
	uint64_t enters = ring_enters(ring);
	struct op op = { .ring.done = op_done };
	int i;

	REQUIRE(ring_error(ring) == error);
	for (i = 0; i < TRIES; i++) {
		REQUIRE(ring_wait(ring, -1) == error);
		ring_reap(ring);
		if (ring_send(ring, 0, "x", 1, &op.ring) == 0)
			REQUIRE(ring_submit(ring) == error);
		ring_wake(ring);
	}
	REQUIRE(ring_enters(ring) == enters);
}

/* ---- Descriptors that somebody closed ---------------------------------- */

/* Poll it once, and see to what that found. */
static void turn(struct ring *ring)
{
	ring_listen(ring);
	ring_nudge(ring);
	ring_reap(ring);
	ring_wait(ring, 0);
}

/* The numbers that were the ring's are eventfds with a count, or pipes. */
static void take_numbers(int fd[], int count, bool pipes)
{
	int i, end[2];

	for (i = 0; i < count; i++) {
		if (pipes) {
			REQUIRE(pipe2(end, O_NONBLOCK) == 0);
			REQUIRE(write(end[1], "12345678", 8) == 8);
			fd[i++] = end[0];
			fd[i] = end[1];
		} else {
			fd[i] = eventfd(7, EFD_NONBLOCK);
		}
	}
}

static void numbers_are_others(bool pipes)
{
	struct ring *ring = new_ring();
	struct op op = { .ring.done = op_done };
	int fd[8], i, sv[2];
	char buf[16];

	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == 0);
	REQUIRE(ring_recv(ring, sv[0], buf, 4, &op.ring) == 0);
	REQUIRE(ring_submit(ring) == 0);
	turn(ring);
	REQUIRE(ring_error(ring) == 0);
	REQUIRE(syscall(SYS_close_range, 3, ~0u, 0) == 0);
	take_numbers(fd, 8, pipes);
	for (i = 0; i < TRIES && !ring_error(ring); i++)
		turn(ring);
	require_dead(ring, ring_error(ring));
	REQUIRE(ring_error(ring) == -EBADF ||
		ring_error(ring) == -EOPNOTSUPP);
	REQUIRE(!ring_free(ring)); /* the receive could not be cancelled */
	for (i = 0; i < 8; i += 2) {
		REQUIRE(fcntl(fd[i], F_GETFD) >= 0);
		REQUIRE(fcntl(fd[i + 1], F_GETFD) >= 0);
		if (pipes)
			REQUIRE(read(fd[i], buf, 16) == 8);
	}
}

static void numbers_are_pipes(void)
{
	numbers_are_others(true);
}

static void numbers_are_eventfds(void)
{
	numbers_are_others(false);
}

static void a_closed_descriptor_is_a_lasting_error(void **state)
{
	(void)state;
	in_a_child(numbers_are_pipes);
}

static void what_has_got_its_number_is_left_alone(void **state)
{
	(void)state;
	in_a_child(numbers_are_eventfds);
}

/* ---- A sandbox --------------------------------------------------------- */

static void forbid(int number, int err)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K,
			 SECCOMP_RET_ERRNO |
				 ((unsigned)err & SECCOMP_RET_DATA)),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = { sizeof(code) / sizeof(code[0]),
					    code };

	REQUIRE(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	REQUIRE(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

static void enter_late(void)
{
	struct ring *ring = new_ring();
	struct op op = { .ring.done = op_done }, again = op;
	char buf[4] = "";
	int sv[2];

	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == 0);
	REQUIRE(ring_recv(ring, sv[0], buf, 4, &op.ring) == 0);
	REQUIRE(ring_submit(ring) == 0);
	forbid(SYS_io_uring_enter, EPERM);
	REQUIRE(ring_send(ring, sv[0], "x", 1, &again.ring) == 0);
	REQUIRE(ring_submit(ring) == -EPERM);
	require_dead(ring, -EPERM);
	REQUIRE(ring_free(ring));
	REQUIRE(write(sv[1], "data", 4) == 4);
	usleep(20000);
	REQUIRE(buf[0] == '\0');
}

static void wait_late(void)
{
	struct ring *ring = new_ring();

	forbid(SYS_io_uring_enter, ENOSYS);
	REQUIRE(ring_wait(ring, -1) == -ENOSYS);
	require_dead(ring, -ENOSYS);
	REQUIRE(ring_free(ring));
}

static void everything_late(void)
{
	struct ring *ring = new_ring();
	struct op op = { .ring.done = op_done };

	forbid(SYS_io_uring_enter, EACCES);
	forbid(SYS_io_uring_register, EACCES);
	REQUIRE(ring_send(ring, 0, "x", 1, &op.ring) == 0);
	REQUIRE(ring_submit(ring) == -EACCES);
	require_dead(ring, -EACCES);
	REQUIRE(!ring_free(ring));
}

static void a_sandbox_entered_late_is_a_lasting_error(void **state)
{
	(void)state;
	in_a_child(enter_late);
	in_a_child(wait_late);
	in_a_child(everything_late);
}

static const struct refusal {
	int number, err, expected;
	const char *words;
} refusals[] = {
	{ SYS_io_uring_setup, EPERM, -EPERM, "seccomp" },
	{ SYS_io_uring_enter, EPERM, -EPERM, "io_uring_enter" },
	{ SYS_io_uring_register, EPERM, -EPERM, "io_uring_register" },
	{ SYS_io_uring_setup, ENOSYS, -ENOSYS, "CONFIG_IO_URING" },
	{ SYS_io_uring_enter, ENOSYS, -ENOSYS, "seccomp" },
	{ SYS_io_uring_setup, EOPNOTSUPP, -EOPNOTSUPP, "managed Kubernetes" },
	{ SYS_io_uring_setup, EINVAL, -ENOSYS, "5.19" },
	{ SYS_io_uring_setup, ENOMEM, -ENOMEM, "RLIMIT_MEMLOCK" },
	{ SYS_io_uring_setup, EMFILE, -EMFILE, "ulimit -n" },
};
static const struct refusal *refusal;

static void create_refused(void)
{
	struct ring *ring;
	const char *why;

	forbid(refusal->number, refusal->err);
	REQUIRE(ring_new(&ring, kind, RING_URING, &why) == refusal->expected);
	if (!strstr(why, refusal->words)) {
		fprintf(stderr, "\"%s\" has no \"%s\"\n", why, refusal->words);
		_exit(1);
	}
	/* nothing is left open */
	REQUIRE(fcntl(open("/dev/null", O_RDONLY | O_CLOEXEC), F_GETFD) >= 0);
}

static void each_system_call_is_tried_at_the_creation(void **state)
{
	unsigned i;

	(void)state;
	for (i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		refusal = &refusals[i];
		in_a_child(create_refused);
	}
}

/* ---- What waiting is counted as ---------------------------------------- */

static pthread_barrier_t asleep;

/* Waits for data on a ring of its own, until a byte comes. */
static void *sleeper(void *arg)
{
	struct ring *ring = new_ring();
	struct op op = { .ring.done = op_done };
	char buf[4];

	REQUIRE(ring_recv(ring, *(int *)arg, buf, 4, &op.ring) == 0);
	REQUIRE(ring_submit(ring) == 0);
	pthread_barrier_wait(&asleep);
	while (!op.count) {
		ring_wait(ring, SECOND);
		ring_reap(ring);
	}
	ring_free(ring);
	return NULL;
}

/* How many tasks of the machine sleep for a device, as it is counted. */
static int in_iowait(void)
{
	FILE *f = fopen("/proc/stat", "re");
	char line[4096];
	int n = -1;

	REQUIRE(f);
	while (fgets(line, sizeof(line), f))
		sscanf(line, "procs_blocked %d", &n);
	fclose(f);
	return n;
}

static bool kernel_can_tell(void)
{
	struct io_uring_params params = { 0 };
	struct io_uring uring;

	if (io_uring_queue_init_params(4, &uring, &params))
		return false;
	io_uring_queue_exit(&uring);
	return params.features & (1u << 17); /* IORING_FEAT_NO_IOWAIT */
}

static void waiting_for_a_peer_is_not_counted_as_waiting_for_a_disk(
	void **state)
{
	pthread_t threads[SLEEPERS];
	int sv[SLEEPERS][2], i, least = SLEEPERS;

	(void)state;
	if (!kernel_can_tell()) {
		print_message("before Linux 6.15 nothing can be said about "
			      "it\n");
		skip();
	}
	pthread_barrier_init(&asleep, NULL, SLEEPERS + 1);
	for (i = 0; i < SLEEPERS; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv[i]),
				 0);
		pthread_create(&threads[i], NULL, sleeper, &sv[i][0]);
	}
	pthread_barrier_wait(&asleep);
	/* others may wait for a disk for a moment: the least is theirs */
	for (i = 0; i < 20; i++) {
		int n;

		usleep(20000);
		n = in_iowait();
		least = n < least ? n : least;
	}
	for (i = 0; i < SLEEPERS; i++) {
		assert_int_equal(write(sv[i][1], "x", 1), 1);
		pthread_join(threads[i], NULL);
		close(sv[i][0]);
		close(sv[i][1]);
	}
	pthread_barrier_destroy(&asleep);
	print_message("%d of %d threads counted\n", least, SLEEPERS);
	assert_in_range(least, 0, SLEEPERS / 2);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(a_closed_descriptor_is_a_lasting_error),
	cmocka_unit_test(what_has_got_its_number_is_left_alone),
	cmocka_unit_test(a_sandbox_entered_late_is_a_lasting_error),
	cmocka_unit_test(each_system_call_is_tried_at_the_creation),
	cmocka_unit_test(
		waiting_for_a_peer_is_not_counted_as_waiting_for_a_disk),
};

int main(void)
{
	const char *why;
	struct ring *ring;
	int failed;

	if (ring_new(&ring, RING_SHARED, RING_URING, &why)) {
		fprintf(stderr, "skipped: %s\n", why);
		return 77;
	}
	ring_free(ring);
	kind = RING_SHARED;
	failed = cmocka_run_group_tests_name("shared ring", tests, NULL, NULL);
	kind = RING_OWNED;
	failed += cmocka_run_group_tests_name("owned ring", tests, NULL, NULL);
	return failed;
}
