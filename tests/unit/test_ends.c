/* SPDX-License-Identifier: MIT */
/*
 * However a process or a descriptor ends, or a thread sleeps: what was held
 * arrives complete, once, in order, and the exit status is what it would be.
 *
 * Each way is gone by a program of its own (this one, executed with the way's
 * name), once with bytes held and once with bytes sent at once, and the two are
 * compared. The thread that sends what is held too long is not there, but where
 * it is what is tested.
 */
#include <errno.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "endings.h"
#include "hold.h"

#define HAVE_NEW __GLIBC_PREREQ(2, 35) /* closefrom() and others */

/* ---- The program ------------------------------------------------------- */

static struct held held;
static int fd; /* of the connection */
static bool holds;
static size_t put_so_far;
static bool no_pusher = true, our_own;

int __real_pthread_create(pthread_t *, const pthread_attr_t *,
			  void *(*)(void *), void *);
int __wrap_pthread_create(pthread_t *, const pthread_attr_t *,
			  void *(*)(void *), void *);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
			  void *(*run)(void *), void *arg)
{
	if (no_pusher && !our_own) {
		*thread = pthread_self();
		return 0;
	}
	return __real_pthread_create(thread, attr, run, arg);
}

static uint8_t pattern(size_t i)
{
	return (uint8_t)(i * 7 ^ i >> 8);
}

static void append(size_t len)
{
	uint8_t *p = hold_reserve(&held, len);

	for (size_t i = 0; i < len; i++)
		p[i] = pattern(put_so_far++);
	held.end += len;
}

static void put(void)
{
	hold_take(&held);
	append(5000);
	if (!holds)
		hold_send(&held);
	hold_leave(&held);
}

static void thread_of(void *(*run)(void *), pthread_t *thread)
{
	our_own = true;
	pthread_create(thread, NULL, run, NULL);
	our_own = false;
}

/* Past all that is interposed. */
__attribute__((noreturn)) static void vanish(void)
{
	syscall(SYS_exit_group, 7);
	__builtin_unreachable();
}

/* ---- Ways: descriptors ------------------------------------------------- */

static void way_close(void)
{
	close(fd);
}

static void way_dup2(void)
{
	dup2(STDERR_FILENO, fd);
}

static void way_dup3(void)
{
	dup3(STDERR_FILENO, fd, O_CLOEXEC);
}

#if HAVE_NEW
static void way_close_range(void)
{
	close_range((unsigned)fd, (unsigned)fd, 0);
}

static void way_closefrom(void)
{
	closefrom(fd - 1);
}
#endif

static void way_fclose(void)
{
	fclose(fdopen(fd, "r+"));
}

static void way_shutdown(void)
{
	shutdown(fd, SHUT_RDWR);
}

static void way_sendmsg(void)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { &(char){ 0 }, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1,
			    .msg_control = control.bytes,
			    .msg_controllen = sizeof(control.bytes) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int pair[2];

	socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	if (sendmsg(pair[0], &m, 0) != 1)
		abort();
}

/* ---- Ways: the process ------------------------------------------------- */

static void way_exit(void)
{
	atexit(put);
	exit(3);
}

static void way__exit(void)
{
	_exit(4);
}

static void way__Exit(void)
{
	_Exit(5);
}

static void way_quick_exit(void)
{
	at_quick_exit(put);
	quick_exit(6);
}

static char *const true_argv[] = { (char *)"true", NULL };
extern char **environ;

static void way_execv(void)
{
	execv("/bin/true", true_argv);
}

static void way_execve(void)
{
	execve("/bin/true", true_argv, environ);
}

static void way_execvp(void)
{
	execvp("true", true_argv);
}

static void way_execvpe(void)
{
	execvpe("true", true_argv, environ);
}

static void way_execl(void)
{
	execl("/bin/sh", "sh", "-c", "exit $1", "sh", "12", (char *)NULL);
}

static void way_execlp(void)
{
	execlp("sh", "sh", "-c", "exit 13", (char *)NULL);
}

static void way_execle(void)
{
	char *env[] = { (char *)"WAY=14", NULL };

	execle("/bin/sh", "sh", "-c", "exit $WAY", (char *)NULL, env);
}

static void way_fexecve(void)
{
	fexecve(open("/bin/true", O_RDONLY), true_argv, environ);
}

#if HAVE_NEW
static void way_execveat(void)
{
	execveat(AT_FDCWD, "/bin/true", true_argv, environ, 0);
}
#endif

static void way_failed_exec(void)
{
	execv("/nowhere", true_argv);
	if (errno != ENOENT)
		abort();
	put();
	_exit(15);
}

static void *put_in_thread(void *arg)
{
	put();
	return arg;
}

static void way_thread_ends(void)
{
	pthread_t thread;

	usleep(1);
	thread_of(put_in_thread, &thread);
	pthread_join(thread, NULL);
}

static void *put_later(void *arg)
{
	usleep(20000);
	put();
	return arg;
}

/* The process goes on until the last of its own threads ends. */
static void way_main_thread_ends(void)
{
	pthread_t thread;

	usleep(1);
	thread_of(put_later, &thread);
	pthread_detach(thread);
	pthread_exit(NULL);
}

/* ---- Ways: signals ----------------------------------------------------- */

static void way_abort(void)
{
	abort();
}

static void way_sigterm(void)
{
	raise(SIGTERM);
}

static void way_sigint(void)
{
	kill(getpid(), SIGINT);
	pause();
}

/* Sanitizers, too, have a handler for it. */
const char *__asan_default_options(void);
const char *__tsan_default_options(void);

const char *__asan_default_options(void)
{
	return "handle_segv=0";
}

const char *__tsan_default_options(void)
{
	return "handle_segv=0";
}

static void way_sigsegv(void)
{
	static volatile uintptr_t nowhere = 8;

	*(volatile int *)nowhere = 1;
}

static void way_sigsegv_sent(void)
{
	raise(SIGSEGV);
}

static void way_sigill(void)
{
	__builtin_trap();
}

static void way_sigalrm(void)
{
	alarm(1);
	for (;;)
		;
}

static void way_sigpipe(void)
{
	int ends[2];

	if (pipe(ends))
		abort();
	syscall(SYS_close, ends[0]);
	if (write(ends[1], "x", 1) != 1)
		vanish();
}

static void exit_9(int sig)
{
	(void)sig;
	_exit(9);
}

static void way_own_handler(void)
{
	signal(SIGTERM, exit_9);
	raise(SIGTERM);
}

static void way_own_handler_before(void)
{
	raise(SIGTERM);
}

/* What the program sees of our handlers: nothing. */
static void way_default_again(void)
{
	struct sigaction act = { .sa_handler = exit_9 }, old;

	if (sigaction(SIGUSR1, NULL, &old) || old.sa_handler != SIG_DFL ||
	    old.sa_flags & SA_SIGINFO)
		exit(20);
	if (sigaction(SIGTERM, &act, &old) || old.sa_handler != SIG_DFL)
		exit(21);
	if (signal(SIGTERM, SIG_DFL) != exit_9)
		exit(22);
	if (signal(SIGTERM, SIG_DFL) != SIG_DFL)
		exit(23);
	if (signal(SIGHUP, SIG_IGN) != SIG_DFL || raise(SIGHUP))
		exit(24);
	act.sa_handler = SIG_DFL;
	if (sigaction(SIGHUP, &act, &old) || old.sa_handler != SIG_IGN)
		exit(25);
	raise(SIGHUP);
}

static void way_sigterm_in_hand(void)
{
	hold_take(&held);
	append(1000);
	raise(SIGTERM);
	append(1000);
	if (!holds)
		hold_send(&held);
	hold_leave(&held);
}

/* In a handler, while this thread has it in hand: what was before is owed. */
static void way__exit_in_hand(void)
{
	signal(SIGTERM, exit_9);
	hold_take(&held);
	raise(SIGTERM);
}

static atomic_bool thread_has_put;

static void *put_and_work(void *arg)
{
	put();
	thread_has_put = true;
	for (;;)
		;
	return arg;
}

static void way_sigterm_elsewhere(void)
{
	pthread_t thread;

	usleep(1);
	thread_of(put_and_work, &thread);
	while (!thread_has_put)
		;
	raise(SIGTERM);
}

/* ---- Ways: fork() ------------------------------------------------------ */

static void wait_raw(pid_t pid)
{
	int status;

	syscall(SYS_wait4, pid, &status, 0, NULL);
}

static void way_fork(void)
{
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	wait_raw(pid);
	put();
	_exit(1);
}

static void way_fork_and_child_goes_on(void)
{
	pid_t pid = fork();

	if (!pid) {
		put();
		exit(0);
	}
	wait_raw(pid);
	vanish();
}

static void way_vfork(void)
{
	pid_t pid = vfork();

	if (!pid)
		execv("/bin/true", true_argv);
	wait_raw(pid);
	put();
	pid = vfork();
	if (!pid)
		_exit(0);
	wait_raw(pid);
	put();
	_exit(2);
}

/* A copy of the process that we were not told of. */
static void way_clone(void)
{
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (!pid)
		_exit(0);
	wait_raw(pid);
	_exit(3);
}

static void way_system(void)
{
	if (system("exit 3"))
		vanish();
}

/* ---- Ways: sleep ------------------------------------------------------- */

static const struct timespec no_time;

static void way_epoll_wait(void)
{
	struct epoll_event e;

	epoll_wait(epoll_create1(0), &e, 1, 0);
}

static void way_epoll_pwait(void)
{
	struct epoll_event e;

	epoll_pwait(epoll_create1(0), &e, 1, 0, NULL);
}

#if HAVE_NEW
static void way_epoll_pwait2(void)
{
	struct epoll_event e;

	epoll_pwait2(epoll_create1(0), &e, 1, &no_time, NULL);
}
#endif

static void way_poll(void)
{
	poll(NULL, 0, 0);
}

static void way_ppoll(void)
{
	ppoll(NULL, 0, &no_time, NULL);
}

static void way_select(void)
{
	select(0, NULL, NULL, NULL, &(struct timeval){ 0 });
}

static void way_pselect(void)
{
	pselect(0, NULL, NULL, NULL, &no_time, NULL);
}

static void way_nanosleep(void)
{
	nanosleep(&no_time, NULL);
}

static void way_clock_nanosleep(void)
{
	clock_nanosleep(CLOCK_MONOTONIC, 0, &no_time, NULL);
}

static void way_usleep(void)
{
	usleep(0);
}

static void way_sleep(void)
{
	sleep(0);
}

static void way_sigtimedwait(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigtimedwait(&set, NULL, &no_time);
}

static void way_waitpid(void)
{
	waitpid(-1, NULL, 0);
}

static void way_accept(void)
{
	accept(fd, NULL, NULL);
}

static void way_sem_wait(void)
{
	sem_t sem;

	sem_init(&sem, 0, 1);
	sem_wait(&sem);
}

/* By the thread of ours, while this one is busy. */
static void way_busy(void)
{
	for (uint64_t until = now_ns() + 200u * NS_PER_MS; now_ns() < until;)
		;
}

static const struct way {
	const char *name;
	void (*go)(void);
	size_t bytes; /* to arrive */
	int status;   /* an exit's, or a signal's */
} ways[] = {
	{ "close", way_close, 5000, 7 << 8 },
	{ "dup2", way_dup2, 5000, 7 << 8 },
	{ "dup3", way_dup3, 5000, 7 << 8 },
#if HAVE_NEW
	{ "close_range", way_close_range, 5000, 7 << 8 },
	{ "closefrom", way_closefrom, 5000, 7 << 8 },
#endif
	{ "fclose", way_fclose, 5000, 7 << 8 },
	{ "shutdown", way_shutdown, 5000, 7 << 8 },
	{ "sendmsg", way_sendmsg, 5000, 7 << 8 },
	{ "return", NULL, 5000, 8 << 8 },
	{ "exit", way_exit, 10000, 3 << 8 },
	{ "_exit", way__exit, 5000, 4 << 8 },
	{ "_Exit", way__Exit, 5000, 5 << 8 },
	{ "quick_exit", way_quick_exit, 10000, 6 << 8 },
	{ "execv", way_execv, 5000, 0 },
	{ "execve", way_execve, 5000, 0 },
	{ "execvp", way_execvp, 5000, 0 },
	{ "execvpe", way_execvpe, 5000, 0 },
	{ "execl", way_execl, 5000, 12 << 8 },
	{ "execlp", way_execlp, 5000, 13 << 8 },
	{ "execle", way_execle, 5000, 14 << 8 },
	{ "fexecve", way_fexecve, 5000, 0 },
#if HAVE_NEW
	{ "execveat", way_execveat, 5000, 0 },
#endif
	{ "failed_exec", way_failed_exec, 10000, 15 << 8 },
	{ "thread_ends", way_thread_ends, 10000, 7 << 8 },
	{ "main_thread_ends", way_main_thread_ends, 10000, 0 },
	{ "abort", way_abort, 5000, SIGABRT },
	{ "sigterm", way_sigterm, 5000, SIGTERM },
	{ "sigint", way_sigint, 5000, SIGINT },
	{ "sigsegv", way_sigsegv, 5000, SIGSEGV },
	{ "sigsegv_sent", way_sigsegv_sent, 5000, SIGSEGV },
	{ "sigill", way_sigill, 5000, SIGILL },
	{ "sigalrm", way_sigalrm, 5000, SIGALRM },
	{ "sigpipe", way_sigpipe, 5000, SIGPIPE },
	{ "own_handler", way_own_handler, 5000, 9 << 8 },
	{ "own_handler_before", way_own_handler_before, 5000, 9 << 8 },
	{ "default_again", way_default_again, 5000, SIGHUP },
	{ "sigterm_in_hand", way_sigterm_in_hand, 7000, SIGTERM },
	{ "_exit_in_hand", way__exit_in_hand, 5000, 9 << 8 },
	{ "sigterm_elsewhere", way_sigterm_elsewhere, 10000, SIGTERM },
	{ "fork", way_fork, 10000, 1 << 8 },
	{ "fork_and_child", way_fork_and_child_goes_on, 10000, 7 << 8 },
	{ "vfork", way_vfork, 15000, 2 << 8 },
	{ "clone", way_clone, 5000, 3 << 8 },
	{ "system", way_system, 5000, 7 << 8 },
	{ "epoll_wait", way_epoll_wait, 5000, 7 << 8 },
	{ "epoll_pwait", way_epoll_pwait, 5000, 7 << 8 },
#if HAVE_NEW
	{ "epoll_pwait2", way_epoll_pwait2, 5000, 7 << 8 },
#endif
	{ "poll", way_poll, 5000, 7 << 8 },
	{ "ppoll", way_ppoll, 5000, 7 << 8 },
	{ "select", way_select, 5000, 7 << 8 },
	{ "pselect", way_pselect, 5000, 7 << 8 },
	{ "nanosleep", way_nanosleep, 5000, 7 << 8 },
	{ "clock_nanosleep", way_clock_nanosleep, 5000, 7 << 8 },
	{ "usleep", way_usleep, 5000, 7 << 8 },
	{ "sleep", way_sleep, 5000, 7 << 8 },
	{ "sigtimedwait", way_sigtimedwait, 5000, 7 << 8 },
	{ "waitpid", way_waitpid, 5000, 7 << 8 },
	{ "accept", way_accept, 5000, 7 << 8 },
	{ "sem_wait", way_sem_wait, 5000, 7 << 8 },
	{ "busy", way_busy, 5000, 7 << 8 },
};
enum { WAYS = sizeof(ways) / sizeof(ways[0]) };

static int program(const char *name, const char *number, const char *how)
{
	const struct way *way = ways;
	struct rlimit no_core = { 0, 0 };

	while (strcmp(way->name, name) != 0)
		way++;
	setrlimit(RLIMIT_CORE, &no_core);
	if (way->go == way_own_handler_before)
		signal(SIGTERM, exit_9);
	no_pusher = way->go != way_busy && way->go != way_main_thread_ends;
	fd = atoi(number);
	holds = *how == 'h';
	hold_start(true);
	ends_start();
	hold_init(&held, fd);
	put();
	if (!way->go)
		return 8;
	way->go();
	vanish();
}

/* ---- The test ---------------------------------------------------------- */

static void tcp_pair(int pair[2])
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	socklen_t len = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(listener, (struct sockaddr *)&at, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	getsockname(listener, (struct sockaddr *)&at, &len);
	pair[0] = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(pair[0], (struct sockaddr *)&at, len), 0);
	pair[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(pair[1] >= 0);
	close(listener);
}

static int go(const struct way *way, const char *how, size_t *arrived)
{
	int pair[2], status;
	uint8_t buf[4096];
	char number[12];
	ssize_t n;
	pid_t pid;

	tcp_pair(pair);
	snprintf(number, sizeof(number), "%d", pair[0]);
	pid = fork();
	if (!pid) {
		execl("/proc/self/exe", "test_ends", way->name, number, how,
		      (char *)NULL);
		_exit(99);
	}
	close(pair[0]);
	*arrived = 0;
	while ((n = recv(pair[1], buf, sizeof(buf), 0)) > 0)
		for (ssize_t i = 0; i < n; i++, ++*arrived)
			if (buf[i] != pattern(*arrived))
				fail_msg("%s: byte %zu", way->name, *arrived);
	close(pair[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void all_arrives(void **state)
{
	const struct way *way = *state;
	size_t arrived;

	/* where nothing is held, it is in nobody's hand */
	if (way->go != way__exit_in_hand && way->go != way_sigterm_in_hand) {
		assert_int_equal(go(way, "sent", &arrived), way->status);
		assert_int_equal(arrived, way->bytes);
	}
	assert_int_equal(go(way, "held", &arrived), way->status);
	assert_int_equal(arrived, way->bytes);
}

/* Signals do not wait for a call that waits for its socket. */
static void a_program_that_waits_can_be_ended(void **state)
{
	int pair[2], status;
	pid_t pid;

	(void)state;
	tcp_pair(pair);
	pid = fork();
	if (!pid) {
		hold_start(true);
		ends_start();
		hold_init(&held, pair[0]);
		put();
		for (;;) {
			hold_take(&held);
			append(100000);
			hold_send(&held);
			hold_leave(&held);
		}
	}
	usleep(100000);
	kill(pid, SIGTERM);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, SIGTERM);
	close(pair[0]);
	close(pair[1]);
}

int main(int argc, char **argv)
{
	struct CMUnitTest tests[WAYS + 1] = {
		cmocka_unit_test(a_program_that_waits_can_be_ended),
	};

	/* nohup(1), say, has some ignored */
	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);

	if (argc == 4)
		return program(argv[1], argv[2], argv[3]);
	for (int i = 0; i < WAYS; i++)
		tests[i + 1] = (struct CMUnitTest){
			.name = ways[i].name,
			.test_func = all_arrives,
			.initial_state = (void *)(uintptr_t)&ways[i],
		};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
