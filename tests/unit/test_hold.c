/* SPDX-License-Identifier: MIT */
/* Records that wait a moment: all arrive, once, in order, and in time. */
#include <errno.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "hold.h"

/* ---- What fails on request --------------------------------------------- */

static atomic_bool no_memory, no_mapping, no_thread, no_descriptor;
static atomic_int full; /* sends that find no room */
static atomic_int sends;

void *__real_malloc(size_t);
void *__wrap_malloc(size_t);
void *__wrap_malloc(size_t len)
{
	return no_memory ? NULL : __real_malloc(len);
}

void *__real_aligned_alloc(size_t, size_t);
void *__wrap_aligned_alloc(size_t, size_t);
void *__wrap_aligned_alloc(size_t align, size_t len)
{
	return no_memory ? NULL : __real_aligned_alloc(align, len);
}

void *__real_mmap64(void *, size_t, int, int, int, off_t);
void *__wrap_mmap64(void *, size_t, int, int, int, off_t);
void *__wrap_mmap64(void *at, size_t len, int prot, int flags, int fd, off_t off)
{
	if (no_mapping)
		return MAP_FAILED;
	return __real_mmap64(at, len, prot, flags, fd, off);
}

int __real_pthread_create(pthread_t *, const pthread_attr_t *,
			  void *(*)(void *), void *);
int __wrap_pthread_create(pthread_t *, const pthread_attr_t *,
			  void *(*)(void *), void *);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
			  void *(*run)(void *), void *arg)
{
	return no_thread ? EAGAIN :
			   __real_pthread_create(thread, attr, run, arg);
}

int __real_fcntl64(int, int, long);
int __wrap_fcntl64(int, int, long);
int __wrap_fcntl64(int fd, int what, long arg)
{
	if (no_descriptor && what == F_DUPFD_CLOEXEC) {
		errno = EMFILE;
		return -1;
	}
	return __real_fcntl64(fd, what, arg);
}

ssize_t __real_send(int, const void *, size_t, int);
ssize_t __wrap_send(int, const void *, size_t, int);
ssize_t __wrap_send(int fd, const void *bytes, size_t len, int flags)
{
	atomic_fetch_add(&sends, 1);
	if (atomic_load(&full) > 0) {
		atomic_fetch_sub(&full, 1);
		if (len > 10)
			return __real_send(fd, bytes, len / 2, flags);
		errno = EAGAIN;
		return -1;
	}
	return __real_send(fd, bytes, len, flags);
}

/* ---- Connections ------------------------------------------------------- */

static void tcp_pair(int fd[2], int receive_buffer)
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	socklen_t len = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_true(listener >= 0);
	if (receive_buffer)
		setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &receive_buffer,
			   sizeof(receive_buffer));
	assert_int_equal(bind(listener, (struct sockaddr *)&at, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	getsockname(listener, (struct sockaddr *)&at, &len);
	fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd[0], (struct sockaddr *)&at, len), 0);
	fd[1] = accept(listener, NULL, NULL);
	assert_true(fd[1] >= 0);
	close(listener);
}

static void nonblocking(int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL, 0L) | O_NONBLOCK);
}

/* A byte of the stream, by its place in it. */
static uint8_t pattern(size_t i)
{
	return (uint8_t)(i ^ i >> 8 ^ i >> 16);
}

struct link {
	int fd[2];
	struct held held;
	size_t put, got;
};

static void link_new(struct link *l)
{
	*l = (struct link){ 0 };
	tcp_pair(l->fd, 0);
	hold_init(&l->held, l->fd[0]);
}

static void append(struct link *l, size_t len)
{
	uint8_t *p = hold_reserve(&l->held, len);

	assert_non_null(p);
	for (size_t i = 0; i < len; i++)
		p[i] = pattern(l->put + i);
	l->held.end += len;
	l->put += len;
}

static void hold_some(struct link *l, size_t len)
{
	hold_take(&l->held);
	append(l, len);
	hold_leave(&l->held);
}

/* What has arrived within so many ms; it is the pattern. */
static size_t arrived(struct link *l, int ms)
{
	struct pollfd p = { l->fd[1], POLLIN, 0 };
	uint8_t buf[65536];
	size_t sum = 0;
	ssize_t n;

	while (poll(&p, 1, ms) > 0) {
		n = recv(l->fd[1], buf, sizeof(buf), MSG_DONTWAIT);
		if (n <= 0)
			break;
		for (ssize_t i = 0; i < n; i++)
			if (buf[i] != pattern(l->got + (size_t)i))
				fail_msg("byte %zu", l->got + (size_t)i);
		l->got += (size_t)n;
		sum += (size_t)n;
		ms = 0;
	}
	return sum;
}

static void all_arrives(struct link *l)
{
	while (l->got < l->put)
		assert_true(arrived(l, 10000) > 0);
	assert_int_equal(l->got, l->put);
}

static void link_free(struct link *l)
{
	hold_finish(&l->held);
	hold_destroy(&l->held);
	close(l->fd[0]);
	all_arrives(l);
	assert_int_equal(arrived(l, 10000), 0); /* the end */
	close(l->fd[1]);
}

static void nap_ms(long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * NS_PER_MS };

	nanosleep(&ts, NULL);
}

/* ---- Tests ------------------------------------------------------------- */

static void several_leave_in_one_send(void **state)
{
	struct link l;
	int before;

	(void)state;
	link_new(&l);
	before = sends;
	for (int i = 0; i < 10; i++) {
		hold_take(&l.held);
		append(&l, 1000);
		if (i == 9)
			assert_int_equal(hold_send(&l.held), 0);
		hold_leave(&l.held);
	}
	/* one, unless the thread of ours was there first */
	assert_true(sends - before <= 3);
	all_arrives(&l);
	assert_null(l.held.bytes);
	link_free(&l);
}

static void it_leaves_before_the_thread_sleeps(void **state)
{
	struct hold_counts before = hold_counts(), after;
	struct link l[3];

	(void)state;
	for (int i = 0; i < 3; i++) {
		link_new(&l[i]);
		hold_some(&l[i], 100);
	}
	hold_flush_thread();
	for (int i = 0; i < 3; i++)
		assert_int_equal(arrived(&l[i], 0), 100);
	after = hold_counts();
	assert_int_equal(after.by_sleep + after.by_timer -
			 before.by_sleep - before.by_timer, 3);
	for (int i = 0; i < 3; i++)
		link_free(&l[i]);
}

static void it_leaves_by_itself(void **state)
{
	struct hold_counts before = hold_counts();
	struct link l;

	(void)state;
	link_new(&l);
	for (int i = 0; i < 20; i++) {
		hold_some(&l, 5000);
		all_arrives(&l);
		while (l.held.holder) /* it has arrived before it is counted */
			sched_yield();
	}
	assert_int_equal(hold_counts().by_timer - before.by_timer, 20);
	link_free(&l);
}

static void the_eldest_leaves_when_there_are_many(void **state)
{
	enum { MANY = HOLD_CONNECTIONS + 5 };
	struct hold_counts before = hold_counts(), after;
	static struct link l[MANY];

	(void)state;
	for (int i = 0; i < MANY; i++)
		link_new(&l[i]);
	for (int i = 0; i < MANY; i++)
		hold_some(&l[i], 10);
	after = hold_counts();
	assert_true(after.sends - before.sends >= 5);
	assert_int_equal(arrived(&l[0], 0), 10);
	for (int i = 0; i < MANY; i++)
		link_free(&l[i]);
}

static void an_idle_process_is_not_woken(void **state)
{
	struct link l;
	uint64_t ticks;

	(void)state;
	link_new(&l);
	hold_some(&l, 10);
	all_arrives(&l);
	nap_ms(200);
	ticks = hold_counts().ticks;
	assert_true(ticks > 0);
	nap_ms(300);
	assert_int_equal(hold_counts().ticks, ticks);
	link_free(&l);
}

/* ---- Room -------------------------------------------------------------- */

/* What there is said to be room for is taken by one send, again and again. */
static void check_room(int from, int to, size_t most)
{
	struct held held;
	static uint8_t bytes[8 << 20];
	size_t room, sum = 0, rounds = 0, taken = 0;
	ssize_t n;

	nonblocking(from);
	hold_init(&held, from);
	for (int i = 0; i < 400; i++) {
		room = i % 2 ? hold_room(from) : hold_room_of(&held);
		if (most)
			assert_true(room <= most);
		if (!room) { /* let a little out */
			n = recv(to, bytes, 3000, MSG_DONTWAIT);
			nap_ms(1);
			if (n > 0)
				taken += (size_t)n;
			continue;
		}
		if (room > sizeof(bytes))
			room = sizeof(bytes);
		n = __real_send(from, bytes, room, MSG_DONTWAIT);
		if (n != (ssize_t)room)
			fail_msg("%zd of %zu, after %zu", n, room, sum);
		sum += room;
		rounds++;
	}
	assert_true(rounds > 1);
	print_message("%zu bytes in %zu sends, %zu read\n", sum, rounds, taken);
}

static void room_is_there(void **state)
{
	static const struct {
		int send, receive, unsent, segment;
	} cases[] = {
		{ 0, 0, 0, 0 },	      { 4608, 0, 0, 0 },
		{ 30000, 0, 0, 0 },   { 0, 2304, 0, 0 },
		{ 0, 10000, 0, 0 },   { 100000, 2304, 0, 0 },
		{ 0, 0, 16384, 0 },   { 50000, 4000, 4096, 0 },
		{ 0, 0, 0, 1448 },    { 200000, 0, 0, 536 },
		{ 100000, 3000, 0, 536 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int fd[2];

		tcp_pair(fd, cases[i].receive);
		if (cases[i].send)
			setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF,
				   &cases[i].send, sizeof(int));
		if (cases[i].unsent)
			setsockopt(fd[0], IPPROTO_TCP, TCP_NOTSENT_LOWAT,
				   &cases[i].unsent, sizeof(int));
		if (cases[i].segment)
			setsockopt(fd[0], IPPROTO_TCP, TCP_MAXSEG,
				   &cases[i].segment, sizeof(int));
		print_message("send %d receive %d unsent %d segment %d: ",
			      cases[i].send, cases[i].receive, cases[i].unsent,
			      cases[i].segment);
		check_room(fd[0], fd[1], (size_t)cases[i].unsent);
		close(fd[0]);
		close(fd[1]);
	}
}

static void room_is_known_of_tcp_only(void **state)
{
	int fd[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	assert_int_equal(hold_room(fd[0]), 0);
	close(fd[0]);
	close(fd[1]);
	assert_int_equal(hold_room(fd[0]), 0);
}

/* ---- Where there is none ----------------------------------------------- */

static void fill(struct link *l)
{
	int small = 4608;

	setsockopt(l->fd[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	setsockopt(l->fd[1], SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	nonblocking(l->fd[0]);
	hold_take(&l->held);
	while (hold_send(&l->held) == 0)
		append(l, 20000);
	assert_int_not_equal(hold_len(&l->held), 0);
	hold_leave(&l->held);
}

/* What the program was told is not written is its own to try again. */
static void refused_bytes_wait_for_the_program(void **state)
{
	struct link l;

	(void)state;
	link_new(&l);
	fill(&l);
	assert_null(l.held.holder);
	assert_int_equal(l.held.owed, 0);
	assert_true(l.held.size <= 20000);
	while (l.got < l.put - hold_len(&l.held))
		assert_true(arrived(&l, 10000) > 0);
	assert_int_equal(arrived(&l, 30), 0);
	hold_take(&l.held);
	assert_int_equal(hold_send(&l.held), 0);
	hold_leave(&l.held);
	link_free(&l);
}

static void owed_bytes_follow_when_there_is_room(void **state)
{
	struct hold_counts before = hold_counts();
	struct link l;

	(void)state;
	link_new(&l);
	fill(&l);
	hold_take(&l.held);
	hold_owe(&l.held);
	assert_true(l.held.size <= 20000);
	hold_leave(&l.held);
	assert_non_null(l.held.holder);
	nap_ms(20);
	assert_true(hold_counts().stuck > before.stuck);
	all_arrives(&l);
	link_free(&l);
}

/* What was stuck once, and has left, is held again. */
static void being_stuck_does_not_last(void **state)
{
	uint64_t stuck = hold_counts().stuck;
	struct hold_counts before;
	struct link l;

	(void)state;
	link_new(&l);
	full = 12; /* no room when it is looked for, half of it at first */
	hold_take(&l.held);
	append(&l, 5000);
	assert_int_equal(hold_send(&l.held), -EAGAIN);
	hold_owe(&l.held);
	hold_leave(&l.held);
	full = 3;
	hold_flush_thread();
	full = 0;
	assert_true(hold_counts().stuck > stuck);
	hold_some(&l, 5000);
	before = hold_counts();
	hold_some(&l, 5000);
	assert_int_equal(hold_counts().by_limit, before.by_limit);
	link_free(&l);
}

/* ... and with the descriptor closed, and its number another file's. */
static void owed_bytes_survive_close(void **state)
{
	struct link l;
	int other[2];

	(void)state;
	link_new(&l);
	fill(&l);
	hold_take(&l.held);
	hold_owe(&l.held);
	hold_leave(&l.held);
	hold_before_close(l.fd[0]);
	assert_null(l.held.holder);
	assert_int_equal(hold_len(&l.held), 0);
	assert_int_equal(hold_counts().orphans, 1);
	tcp_pair(other, 0);
	dup2(other[0], l.fd[0]);
	all_arrives(&l);
	assert_int_equal(arrived(&l, 10000), 0);
	while (hold_counts().orphans)
		nap_ms(1);
	assert_int_equal(recv(other[1], &l, 1, MSG_DONTWAIT), -1);
	close(other[0]);
	close(other[1]);
	link_free(&l);
}

static void owed_bytes_survive_finish(void **state)
{
	struct link l;

	(void)state;
	link_new(&l);
	fill(&l);
	hold_take(&l.held);
	hold_owe(&l.held);
	hold_leave(&l.held);
	link_free(&l);
	while (hold_counts().orphans)
		nap_ms(1);
}

static void writing_is_shut_down_behind_them(void **state)
{
	struct link l;

	(void)state;
	link_new(&l);
	assert_false(hold_before_shutdown(l.fd[0]));
	fill(&l);
	hold_take(&l.held);
	hold_owe(&l.held);
	hold_leave(&l.held);
	assert_true(hold_before_shutdown(l.fd[0]));
	all_arrives(&l);
	assert_int_equal(recv(l.fd[1], &(char){ 0 }, 1, 0), 0);
	/* the socket itself is still there */
	assert_int_equal(__real_send(l.fd[1], "x", 1, 0), 1);
	assert_int_equal(recv(l.fd[0], &(char){ 0 }, 1, 0), 1);
	link_free(&l);
}

static void a_blocking_socket_is_waited_for(void **state)
{
	struct link l;
	pid_t pid;

	(void)state;
	link_new(&l);
	pid = fork();
	if (!pid) {
		nap_ms(50);
		l.put = 6u << 20;
		close(l.fd[0]);
		all_arrives(&l);
		_exit(0);
	}
	hold_take(&l.held);
	for (int i = 0; i < 48; i++) {
		append(&l, 128 << 10);
		assert_int_equal(hold_send(&l.held), 0);
	}
	hold_leave(&l.held);
	assert_int_equal(waitpid(pid, &(int){ 0 }, 0), pid);
	l.got = l.put;
	close(l.fd[1]);
	l.fd[1] = open("/dev/null", O_RDONLY);
	hold_destroy(&l.held);
	close(l.fd[0]);
	close(l.fd[1]);
}

/* ---- Errors ------------------------------------------------------------ */

static volatile sig_atomic_t pipes;

static void on_pipe(int sig)
{
	(void)sig;
	pipes = pipes + 1;
}

static void an_error_is_told_once_later(void **state)
{
	struct linger now = { 1, 0 };
	struct link l;

	(void)state;
	signal(SIGPIPE, on_pipe);
	link_new(&l);
	setsockopt(l.fd[1], SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(l.fd[1]);
	nap_ms(5);
	pipes = 0;
	hold_some(&l, 10);
	nap_ms(30);
	hold_flush_thread();
	assert_int_equal(pipes, 0);
	hold_take(&l.held);
	assert_int_equal(l.held.error, -ECONNRESET);
	append(&l, 10);
	assert_int_equal(hold_send(&l.held), -ECONNRESET);
	assert_int_equal(hold_len(&l.held), 0);
	append(&l, 10);
	assert_int_equal(hold_send(&l.held), -EPIPE);
	assert_int_equal(pipes, 1);
	hold_leave(&l.held);
	/* the same, found by who slept */
	hold_some(&l, 10);
	nap_ms(30);
	hold_flush_thread();
	assert_int_equal(pipes, 1);
	hold_take(&l.held);
	assert_int_equal(hold_send(&l.held), -EPIPE);
	hold_leave(&l.held);
	assert_int_equal(pipes, 2);
	signal(SIGPIPE, SIG_DFL);
	hold_finish(&l.held);
	close(l.fd[0]);
}

/* ---- fork(), threads --------------------------------------------------- */

static void a_child_inherits_nothing(void **state)
{
	struct link l;
	int status;
	pid_t pid;

	(void)state;
	for (int i = 0; i < 50; i++) {
		link_new(&l);
		hold_some(&l, 5000);
		pid = fork();
		if (!pid) {
			if (l.held.holder || hold_len(&l.held) || l.held.error)
				_exit(1);
			hold_flush_process();
			hold_some(&l, 3000); /* by a thread of its own */
			nap_ms(200);
			_exit(l.held.holder ? 2 : 0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
		l.put += 3000;
		hold_some(&l, 700);
		link_free(&l);
		if (i == 2)
			break;
	}
}

static void what_is_stuck_stays_with_the_parent(void **state)
{
	struct link l;
	int status;
	pid_t pid;

	(void)state;
	link_new(&l);
	fill(&l);
	hold_take(&l.held);
	hold_owe(&l.held);
	hold_leave(&l.held);
	pid = fork();
	if (!pid) {
		hold_drain_process(10);
		hold_take(&l.held);
		_exit(hold_send(&l.held) == -EPIPE ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status)); /* as a write would have it */
	assert_int_equal(WTERMSIG(status), SIGPIPE);
	link_free(&l);
}

static void *hold_and_end(void *arg)
{
	hold_some(arg, 1234);
	return NULL;
}

static void a_thread_that_ends_leaves_nothing(void **state)
{
	pthread_t thread;
	struct link l;

	(void)state;
	for (int i = 0; i < 200; i++) {
		link_new(&l);
		pthread_create(&thread, NULL, hold_and_end, &l);
		pthread_join(thread, NULL);
		assert_null(l.held.holder);
		assert_int_equal(arrived(&l, 0), 1234);
		link_free(&l);
	}
}

struct worker {
	pthread_t thread;
	struct link links[6];
	unsigned seed;
};

static void *work(void *arg)
{
	struct worker *w = arg;

	for (int i = 0; i < 3000; i++) {
		struct link *l = &w->links[rand_r(&w->seed) % 6];

		hold_some(l, 1 + (size_t)rand_r(&w->seed) % 3000);
		switch (rand_r(&w->seed) % 8) {
		case 0:
			hold_flush_thread();
			break;
		case 1:
			hold_take(&l->held);
			hold_send(&l->held);
			hold_leave(&l->held);
			break;
		case 2:
			hold_before_close(l->fd[0]);
			break;
		case 3:
			usleep((useconds_t)rand_r(&w->seed) % 900);
			break;
		case 4:
			hold_flush_process();
			break;
		}
		arrived(l, 0);
	}
	return NULL;
}

/* Each with connections that it then hands on to another thread. */
static void threads_hold_and_send_and_end(void **state)
{
	enum { THREADS = 4 };
	static struct worker w[THREADS];

	(void)state;
	for (int i = 0; i < THREADS; i++)
		for (int k = 0; k < 6; k++)
			link_new(&w[i].links[k]);
	for (int round = 0; round < 3; round++) {
		for (unsigned i = 0; i < THREADS; i++) {
			w[i].seed = 100 * (unsigned)round + i;
			assert_int_equal(pthread_create(&w[i].thread, NULL,
							work, &w[i]), 0);
		}
		for (int i = 0; i < THREADS; i++)
			pthread_join(w[i].thread, NULL);
	}
	for (int i = 0; i < THREADS; i++)
		for (int k = 0; k < 6; k++)
			link_free(&w[i].links[k]);
}

/* What one thread holds another one takes, writes behind it and sends. */
static void a_connection_moves_between_threads(void **state)
{
	pthread_t thread;
	struct link l;

	(void)state;
	link_new(&l);
	for (int i = 0; i < 300; i++) {
		hold_some(&l, 100);
		pthread_create(&thread, NULL, hold_and_end, &l);
		pthread_join(thread, NULL);
		if (i % 100 == 0)
			all_arrives(&l);
	}
	link_free(&l);
}

/* ---- Signals ----------------------------------------------------------- */

static volatile sig_atomic_t done;

static void when_done(int sig)
{
	done = sig;
}

static void what_ends_the_process_is_put_off(void **state)
{
	struct link l;

	(void)state;
	link_new(&l);
	assert_false(hold_put_off(when_done, 1));
	hold_take(&l.held);
	append(&l, 10);
	assert_true(hold_put_off(when_done, 2));
	assert_false(hold_put_off(when_done, 3)); /* not for ever */
	assert_int_equal(done, 0);
	hold_leave(&l.held);
	assert_int_equal(done, 2);
	link_free(&l);
}

/* _exit() in a handler, between the two: what was held before is owed. */
static void what_is_in_hand_is_sent_at_the_end(void **state)
{
	struct link l;
	int status;
	pid_t pid;

	(void)state;
	link_new(&l);
	pid = fork();
	if (!pid) {
		hold_some(&l, 5000);
		hold_take(&l.held);
		append(&l, 100);
		hold_reserve(&l.held, HOLD_MAX);
		hold_drain_dying(1000);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(l.fd[0]);
	l.put = 5000;
	all_arrives(&l);
	assert_int_equal(arrived(&l, 10000), 0);
	hold_destroy(&l.held);
	close(l.fd[1]);
}

/* ---- Without memory, threads, descriptors ------------------------------ */

static void in_child(void (*run)(struct link *l))
{
	struct link l;
	int status;
	pid_t pid;

	link_new(&l);
	pid = fork();
	if (!pid) {
		run(&l);
		_exit(0);
	}
	close(l.fd[0]);
	l.put = 20000;
	all_arrives(&l);
	assert_int_equal(arrived(&l, 10000), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	hold_destroy(&l.held);
	close(l.fd[1]);
}

static void without_a_thread(struct link *l)
{
	no_thread = true;
	hold_some(l, 10000);
	full = 20; /* and it is stuck for a while */
	hold_some(l, 10000);
	if (l->held.holder || hold_len(&l->held))
		_exit(1);
}

static void *without_a_holder(void *arg)
{
	struct link *l = arg;

	no_memory = true;
	hold_some(l, 10000);
	full = 20;
	hold_some(l, 10000);
	hold_drain_process(2000);
	return NULL;
}

static void in_a_new_thread(struct link *l, void *(*run)(void *))
{
	pthread_t thread;

	pthread_create(&thread, NULL, run, l);
	pthread_join(thread, NULL);
}

static void a_thread_without_a_holder(struct link *l)
{
	in_a_new_thread(l, without_a_holder);
}

static void without_a_descriptor(struct link *l)
{
	no_descriptor = true;
	full = 20;
	hold_some(l, 20000);
	hold_finish(&l->held);
	close(l->fd[0]);
}

static void *without_a_buffer(void *arg)
{
	struct link *l = arg;

	hold_take(&l->held);
	no_mapping = true;
	if (hold_reserve(&l->held, 100))
		_exit(1);
	no_mapping = false;
	append(l, 20000);
	hold_leave(&l->held);
	hold_drain_process(2000);
	return NULL;
}

static void a_thread_without_a_buffer(struct link *l)
{
	in_a_new_thread(l, without_a_buffer);
}

static void nothing_is_lost_where_something_fails(void **state)
{
	(void)state;
	in_child(without_a_thread);
	in_child(a_thread_without_a_holder);
	in_child(without_a_descriptor);
	in_child(a_thread_without_a_buffer);
}

static void held_bytes_do_not_move_where_they_fit(void **state)
{
	struct link l;
	uint8_t *p;

	(void)state;
	link_new(&l);
	hold_take(&l.held);
	for (int i = 0; i < 15; i++)
		append(&l, 16401);
	p = l.held.bytes;
	append(&l, 16401);
	append(&l, 16401);
	assert_ptr_equal(l.held.bytes, p);
	append(&l, HOLD_MAX); /* more than is promised */
	assert_int_equal(hold_len(&l.held), 17 * 16401 + HOLD_MAX);
	assert_int_equal(hold_send(&l.held), 0);
	hold_leave(&l.held);
	/* the buffer is warm, and the same again */
	for (int i = 0; i < 10; i++) {
		hold_take(&l.held);
		append(&l, 10);
		if (i == 0)
			p = l.held.bytes;
		assert_ptr_equal(l.held.bytes, p);
		assert_int_equal(hold_send(&l.held), 0);
		hold_leave(&l.held);
	}
	link_free(&l);
}

static int begin(void **state)
{
	(void)state;
	hold_start(true);
	return 0;
}

/* Last: nothing is held from now on. */
static void without_gathering_it_leaves_at_once(void **state)
{
	struct link l;

	(void)state;
	hold_no_more();
	link_new(&l);
	hold_some(&l, 100);
	assert_null(l.held.holder);
	assert_int_equal(arrived(&l, 0), 100);
	full = 5;
	hold_some(&l, 1000);
	all_arrives(&l);
	link_free(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		/* before there are holders that threads have left */
		cmocka_unit_test(nothing_is_lost_where_something_fails),
		cmocka_unit_test(several_leave_in_one_send),
		cmocka_unit_test(it_leaves_before_the_thread_sleeps),
		cmocka_unit_test(it_leaves_by_itself),
		cmocka_unit_test(the_eldest_leaves_when_there_are_many),
		cmocka_unit_test(an_idle_process_is_not_woken),
		cmocka_unit_test(held_bytes_do_not_move_where_they_fit),
		cmocka_unit_test(room_is_there),
		cmocka_unit_test(room_is_known_of_tcp_only),
		cmocka_unit_test(refused_bytes_wait_for_the_program),
		cmocka_unit_test(owed_bytes_follow_when_there_is_room),
		cmocka_unit_test(being_stuck_does_not_last),
		cmocka_unit_test(owed_bytes_survive_close),
		cmocka_unit_test(owed_bytes_survive_finish),
		cmocka_unit_test(writing_is_shut_down_behind_them),
		cmocka_unit_test(a_blocking_socket_is_waited_for),
		cmocka_unit_test(an_error_is_told_once_later),
		cmocka_unit_test(a_child_inherits_nothing),
		cmocka_unit_test(what_is_stuck_stays_with_the_parent),
		cmocka_unit_test(a_thread_that_ends_leaves_nothing),
		cmocka_unit_test(threads_hold_and_send_and_end),
		cmocka_unit_test(a_connection_moves_between_threads),
		cmocka_unit_test(what_ends_the_process_is_put_off),
		cmocka_unit_test(what_is_in_hand_is_sent_at_the_end),
		cmocka_unit_test(without_gathering_it_leaves_at_once),
	};

	return cmocka_run_group_tests(tests, begin, NULL);
}
