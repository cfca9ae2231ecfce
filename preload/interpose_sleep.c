// SPDX-License-Identifier: MIT
/*
 * Before a thread sleeps, what it holds leaves. Otherwise these are what they
 * were; pthread_cond_wait() is not among them, as it has versions.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hold.h"
#include "next.h"

#define SLEEPS(type, name, parameters, arguments)           \
	INTERPOSED type name parameters;                    \
	INTERPOSED type name parameters                     \
	{                                                   \
		hold_flush_thread();                        \
		return NEXT(name) arguments;                \
	}

SLEEPS(int, epoll_wait, (int fd, struct epoll_event *e, int n, int ms),
       (fd, e, n, ms))
SLEEPS(int, epoll_pwait,
       (int fd, struct epoll_event *e, int n, int ms, const sigset_t *set),
       (fd, e, n, ms, set))
#if __GLIBC_PREREQ(2, 35)
SLEEPS(int, epoll_pwait2,
       (int fd, struct epoll_event *e, int n, const struct timespec *ts,
	const sigset_t *set),
       (fd, e, n, ts, set))
#endif

SLEEPS(int, poll, (struct pollfd * p, nfds_t n, int ms), (p, n, ms))
SLEEPS(int, ppoll,
       (struct pollfd * p, nfds_t n, const struct timespec *ts,
	const sigset_t *set),
       (p, n, ts, set))
/* what -D_FORTIFY_SOURCE makes of them */
SLEEPS(int, __poll_chk, (struct pollfd * p, nfds_t n, int ms, size_t len),
       (p, n, ms, len))
SLEEPS(int, __ppoll_chk,
       (struct pollfd * p, nfds_t n, const struct timespec *ts,
	const sigset_t *set, size_t len),
       (p, n, ts, set, len))

SLEEPS(int, select,
       (int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *tv),
       (n, r, w, e, tv))
SLEEPS(int, pselect,
       (int n, fd_set *r, fd_set *w, fd_set *e, const struct timespec *ts,
	const sigset_t *set),
       (n, r, w, e, ts, set))

SLEEPS(int, nanosleep, (const struct timespec *ts, struct timespec *left),
       (ts, left))
SLEEPS(int, clock_nanosleep,
       (clockid_t clock, int flags, const struct timespec *ts,
	struct timespec *left),
       (clock, flags, ts, left))
SLEEPS(int, usleep, (useconds_t us), (us))
SLEEPS(unsigned, sleep, (unsigned s), (s))

SLEEPS(int, pause, (void), ())
SLEEPS(int, sigsuspend, (const sigset_t *set), (set))
SLEEPS(int, sigwait, (const sigset_t *set, int *sig), (set, sig))
SLEEPS(int, sigwaitinfo, (const sigset_t *set, siginfo_t *info), (set, info))
SLEEPS(int, sigtimedwait,
       (const sigset_t *set, siginfo_t *info, const struct timespec *ts),
       (set, info, ts))

SLEEPS(int, accept, (int fd, __SOCKADDR_ARG at, socklen_t *len), (fd, at, len))
SLEEPS(int, accept4, (int fd, __SOCKADDR_ARG at, socklen_t *len, int flags),
       (fd, at, len, flags))

SLEEPS(pid_t, wait, (int *status), (status))
SLEEPS(pid_t, waitpid, (pid_t pid, int *status, int flags),
       (pid, status, flags))
SLEEPS(pid_t, wait3, (int *status, int flags, struct rusage *used),
       (status, flags, used))
SLEEPS(pid_t, wait4, (pid_t pid, int *status, int flags, struct rusage *used),
       (pid, status, flags, used))
SLEEPS(int, waitid, (idtype_t type, id_t id, siginfo_t *info, int flags),
       (type, id, info, flags))
SLEEPS(int, system, (const char *command), (command))

/* On 64-bit machines these have been one and the same in every version. */
SLEEPS(int, sem_wait, (sem_t * sem), (sem))
SLEEPS(int, sem_timedwait, (sem_t * sem, const struct timespec *ts), (sem, ts))
SLEEPS(int, pthread_join, (pthread_t thread, void **result), (thread, result))
