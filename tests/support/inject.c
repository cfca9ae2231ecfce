/* SPDX-License-Identifier: MIT */
#include "inject.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <liburing.h>

#include "base/secret.h"
#include "io/ring.h"

bool inject_armed;

static struct {
	enum inject_into where;
	long left; /* calls until one fails */
	int error;
	long times; /* ... and how many then do */
	bool hit;
	const char *name;
} plan;

/* The worker thread calls, too. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void inject(enum inject_into where, long n, int error, long times)
{
	pthread_mutex_lock(&lock);
	plan.where = where;
	plan.left = n;
	plan.error = error;
	plan.times = times;
	plan.hit = false;
	plan.name = "nothing";
	pthread_mutex_unlock(&lock);
}

bool inject_stop(void)
{
	bool hit;

	pthread_mutex_lock(&lock);
	plan.where = INJECT_NOTHING;
	hit = plan.hit;
	pthread_mutex_unlock(&lock);
	return hit;
}

const char *inject_failed(void)
{
	return plan.name;
}

/* Whether this call is to fail, and then with what. */
static int failure(enum inject_into where, const char *name)
{
	int error = 0;

	if (!__atomic_load_n(&inject_armed, __ATOMIC_SEQ_CST))
		return 0;
	pthread_mutex_lock(&lock);
	if (plan.where == where && plan.left-- <= 0 && plan.times-- > 0) {
		error = plan.error;
		plan.hit = true;
		plan.name = name;
	}
	pthread_mutex_unlock(&lock);
	return error;
}

static bool fails(enum inject_into where, const char *name)
{
	int error = failure(where, name);

	if (error)
		errno = error;
	return error != 0;
}

/* type name(arguments), which returns bad and sets errno where it fails. */
#define FAILS_SO(where, bad, type, name, arguments, passed)  \
	type __real_##name arguments;                        \
	type __wrap_##name arguments;                        \
	type __wrap_##name arguments                         \
	{                                                    \
		if (fails(where, #name))                     \
			return bad;                          \
		return __real_##name passed;                 \
	}

/* The same where the error is what is returned; sign it so. */
#define RETURNS_SO(where, sign, type, name, arguments, passed) \
	type __real_##name arguments;                          \
	type __wrap_##name arguments;                          \
	type __wrap_##name arguments                           \
	{                                                      \
		int error = failure(where, #name);             \
                                                               \
		return error ? sign error : __real_##name passed; \
	}

/* ---- Memory ------------------------------------------------------------ */

FAILS_SO(INJECT_MEMORY, NULL, void *, malloc, (size_t size), (size))
FAILS_SO(INJECT_MEMORY, NULL, void *, calloc, (size_t n, size_t size),
	 (n, size))
FAILS_SO(INJECT_MEMORY, NULL, void *, realloc, (void *p, size_t size),
	 (p, size))
FAILS_SO(INJECT_MEMORY, NULL, void *, aligned_alloc,
	 (size_t align, size_t size), (align, size))
FAILS_SO(INJECT_MEMORY, NULL, void *, secret_alloc, (size_t size), (size))
FAILS_SO(INJECT_MEMORY, MAP_FAILED, void *, mmap64,
	 (void *addr, size_t len, int prot, int flags, int fd, off_t offset),
	 (addr, len, prot, flags, fd, offset))

/* ---- The kernel, and threads ------------------------------------------- */

FAILS_SO(INJECT_CALLS, -1, int, socket, (int domain, int type, int protocol),
	 (domain, type, protocol))
FAILS_SO(INJECT_CALLS, -1, int, bind,
	 (int fd, const struct sockaddr *addr, socklen_t len), (fd, addr, len))
FAILS_SO(INJECT_CALLS, -1, int, accept4,
	 (int fd, struct sockaddr *addr, socklen_t *len, int flags),
	 (fd, addr, len, flags))
FAILS_SO(INJECT_CALLS, -1, int, setsockopt,
	 (int fd, int level, int name, const void *value, socklen_t len),
	 (fd, level, name, value, len))
FAILS_SO(INJECT_CALLS, -1, int, getsockopt,
	 (int fd, int level, int name, void *value, socklen_t *len),
	 (fd, level, name, value, len))
FAILS_SO(INJECT_CALLS, -1, int, eventfd, (unsigned count, int flags),
	 (count, flags))
FAILS_SO(INJECT_CALLS, -1, int, epoll_create1, (int flags), (flags))
FAILS_SO(INJECT_CALLS, -1, int, epoll_ctl,
	 (int fd, int op, int of, struct epoll_event *event),
	 (fd, op, of, event))
FAILS_SO(INJECT_CALLS, -1, int, epoll_wait,
	 (int fd, struct epoll_event *events, int max, int ms),
	 (fd, events, max, ms))
FAILS_SO(INJECT_CALLS, -1, int, epoll_pwait2,
	 (int fd, struct epoll_event *events, int max,
	  const struct timespec *ts, const sigset_t *mask),
	 (fd, events, max, ts, mask))
FAILS_SO(INJECT_CALLS, -1, int, ppoll,
	 (struct pollfd *fds, nfds_t count, const struct timespec *ts,
	  const sigset_t *mask),
	 (fds, count, ts, mask))
FAILS_SO(INJECT_CALLS, -1, int, pipe2, (int fd[2], int flags), (fd, flags))
FAILS_SO(INJECT_CALLS, -1, int, madvise, (void *p, size_t len, int advice),
	 (p, len, advice))
FAILS_SO(INJECT_FILES, -1, int, fstat64, (int fd, struct stat *st), (fd, st))
FAILS_SO(INJECT_FILES, -1, ssize_t, pread64,
	 (int fd, void *buf, size_t len, off_t at), (fd, buf, len, at))
RETURNS_SO(INJECT_CALLS, , int, pthread_create,
	   (pthread_t *thread, const pthread_attr_t *attr,
	    void *(*main)(void *), void *arg),
	   (thread, attr, main, arg))

int __real_fcntl64(int fd, int op, ...);
int __wrap_fcntl64(int fd, int op, ...);

int __wrap_fcntl64(int fd, int op, ...)
{
	va_list args;
	long arg;

	va_start(args, op);
	arg = va_arg(args, long); /* harmless where there is none */
	va_end(args);
	if (fails(INJECT_FILES, "fcntl"))
		return -1;
	return __real_fcntl64(fd, op, arg);
}

RETURNS_SO(INJECT_CALLS, -, int, io_uring_queue_init_params,
	   (unsigned entries, struct io_uring *uring,
	    struct io_uring_params *params),
	   (entries, uring, params))
RETURNS_SO(INJECT_CALLS, -, int, io_uring_register_eventfd,
	   (struct io_uring *uring, int fd), (uring, fd))
RETURNS_SO(INJECT_CALLS, -, int, io_uring_register_buf_ring,
	   (struct io_uring *uring, struct io_uring_buf_reg *reg,
	    unsigned flags),
	   (uring, reg, flags))
RETURNS_SO(INJECT_CALLS, -, int, io_uring_submit, (struct io_uring *uring),
	   (uring))
RETURNS_SO(INJECT_CALLS, -, int, io_uring_submit_and_get_events,
	   (struct io_uring *uring), (uring))
RETURNS_SO(INJECT_CALLS, -, int, io_uring_get_events,
	   (struct io_uring *uring), (uring))
RETURNS_SO(INJECT_CALLS, -, int, io_uring_enter2,
	   (unsigned fd, unsigned count, unsigned least, unsigned flags,
	    sigset_t *mask, size_t size),
	   (fd, count, least, flags, mask, size))

/* ---- The ring ---------------------------------------------------------- */

/*
 * An operation that is to fail does not reach the kernel: it completes with the
 * next reap, as if the kernel had said so, and a wake takes care that somebody
 * comes to reap.
 */
enum { MAX_INJECTED = 64 };
static struct {
	struct ring *ring;
	struct ring_op *op;
	int result;
} injected[MAX_INJECTED];
static unsigned injected_count;

int __real_ring_wake(struct ring *ring);
int __wrap_ring_wake(struct ring *ring);
unsigned __real_ring_reap(struct ring *ring);
unsigned __wrap_ring_reap(struct ring *ring);

static void complete_later(struct ring *ring, struct ring_op *op, int result)
{
	pthread_mutex_lock(&lock);
	injected[injected_count].ring = ring;
	injected[injected_count].op = op;
	injected[injected_count++].result = result;
	pthread_mutex_unlock(&lock);
	__real_ring_wake(ring);
}

static struct ring_op *take_injected(struct ring *ring, int *result)
{
	struct ring_op *op = NULL;
	unsigned i;

	pthread_mutex_lock(&lock);
	for (i = 0; i < injected_count && injected[i].ring != ring; i++)
		;
	if (i < injected_count) {
		op = injected[i].op;
		*result = injected[i].result;
		injected[i] = injected[--injected_count];
	}
	pthread_mutex_unlock(&lock);
	return op;
}

unsigned __wrap_ring_reap(struct ring *ring)
{
	struct ring_op *op;
	unsigned count = 0;
	int result;

	while ((op = take_injected(ring, &result))) {
		op->done(op, result, -1);
		count++;
	}
	return count + __real_ring_reap(ring);
}

/* What is left of a length where it is to be short; 0: the call is over. */
static size_t shortened(struct ring *ring, size_t len, struct ring_op *op,
			const char *name, enum inject_into where)
{
	int error = failure(where, name);

	if (!error)
		return len;
	if (error == INJECT_SHORT)
		return 1;
	complete_later(ring, op, -error);
	return 0;
}

int __real_ring_send(struct ring *ring, int fd, const void *buf, size_t len,
		     struct ring_op *op);
int __wrap_ring_send(struct ring *ring, int fd, const void *buf, size_t len,
		     struct ring_op *op);
int __real_ring_sendmsg(struct ring *ring, int fd, const struct msghdr *msg,
			struct ring_op *op);
int __wrap_ring_sendmsg(struct ring *ring, int fd, const struct msghdr *msg,
			struct ring_op *op);
int __real_ring_recv(struct ring *ring, int fd, void *buf, size_t len,
		     struct ring_op *op);
int __wrap_ring_recv(struct ring *ring, int fd, void *buf, size_t len,
		     struct ring_op *op);
int __real_ring_recv_pooled(struct ring *ring, int fd, struct ring_op *op);
int __wrap_ring_recv_pooled(struct ring *ring, int fd, struct ring_op *op);

int __wrap_ring_send(struct ring *ring, int fd, const void *buf, size_t len,
		     struct ring_op *op)
{
	if (failure(INJECT_QUEUE, "ring_send"))
		return -EAGAIN;
	len = shortened(ring, len, op, "ring_send", INJECT_RESULTS);
	return len ? __real_ring_send(ring, fd, buf, len, op) : 0;
}

/* A short one sends less than its first piece. */
int __wrap_ring_sendmsg(struct ring *ring, int fd, const struct msghdr *msg,
			struct ring_op *op)
{
	size_t len;

	if (failure(INJECT_QUEUE, "ring_sendmsg"))
		return -EAGAIN;
	len = shortened(ring, SIZE_MAX, op, "ring_sendmsg", INJECT_RESULTS);
	if (len == 1)
		return __real_ring_send(ring, fd, msg->msg_iov->iov_base, 1,
					op);
	return len ? __real_ring_sendmsg(ring, fd, msg, op) : 0;
}

int __wrap_ring_recv(struct ring *ring, int fd, void *buf, size_t len,
		     struct ring_op *op)
{
	if (failure(INJECT_QUEUE, "ring_recv"))
		return -EAGAIN;
	len = shortened(ring, len, op, "ring_recv", INJECT_RESULTS);
	return len ? __real_ring_recv(ring, fd, buf, len, op) : 0;
}

/* How much of it comes is the peer's doing. */
int __wrap_ring_recv_pooled(struct ring *ring, int fd, struct ring_op *op)
{
	if (failure(INJECT_QUEUE, "ring_recv_pooled"))
		return -EAGAIN;
	if (!shortened(ring, SIZE_MAX, op, "ring_recv_pooled",
			INJECT_RESULTS))
		return 0;
	return __real_ring_recv_pooled(ring, fd, op);
}

int __real_ring_engine_request(struct ring *ring, int fd,
			       const struct msghdr *msg, void *out, size_t len,
			       struct ring_op *op);
int __wrap_ring_engine_request(struct ring *ring, int fd,
			       const struct msghdr *msg, void *out, size_t len,
			       struct ring_op *op);

/* Its result is not what was asked for, if it is short. */
int __wrap_ring_engine_request(struct ring *ring, int fd,
			       const struct msghdr *msg, void *out, size_t len,
			       struct ring_op *op)
{
	size_t left;

	if (failure(INJECT_QUEUE, "ring_engine_request"))
		return -EAGAIN;
	left = shortened(ring, SIZE_MAX, op, "ring_engine_request",
			 INJECT_ENGINE);
	if (left == 1)
		complete_later(ring, op, 1);
	if (left != SIZE_MAX)
		return 0;
	return __real_ring_engine_request(ring, fd, msg, out, len, op);
}

RETURNS_SO(INJECT_QUEUE, -, int, ring_cancel,
	   (struct ring * ring, struct ring_op *op), (ring, op))
RETURNS_SO(INJECT_QUEUE, -, int, ring_submit, (struct ring * ring), (ring))

int __wrap_ring_wake(struct ring *ring)
{
	int error = failure(INJECT_QUEUE, "ring_wake");

	return error ? -error : __real_ring_wake(ring);
}
