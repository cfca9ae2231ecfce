/* SPDX-License-Identifier: MIT */
/*
 * Asynchronous I/O by name: send, receive, engine read, wake. This folder is all
 * that moves bytes to and from the kernel: ring_uring.c with io_uring, ring_poll.c
 * without, where that is forbidden or missing; nobody else knows which.
 *
 * Operations are queued by the calls below and start at ring_submit() or
 * ring_wait(). Completions are delivered by ring_reap(), and only there.
 */
#ifndef ASYNCTLS_RING_H
#define ASYNCTLS_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/util.h"

struct ring;

/*
 * Embed one per operation that can be in flight, all zero but for done. done()
 * is called once per operation with the byte count or -errno; buffer is the
 * number of the pooled buffer a ring_recv_pooled() took, -1 if none.
 */
struct ring_op {
	void (*done)(struct ring_op *op, int result, int buffer);
	bool drained; /* io_uring's: the latest receive left the socket empty */
	/* of the ring without: */
	uint8_t call, state; /* see ring_poll.c */
	bool cancelled;	     /* before it was submitted */
	int fd;
	int result, buffer;
	struct list node; /* on the list of its state */
	union {
		const void *from;
		void *to;
		const struct msghdr *msg;
		unsigned events;
	} what;
	void *out; /* an engine's */
	size_t len, sent;
};

enum ring_kind {
	RING_SHARED, /* any thread may submit and wait, one at a time */
	RING_OWNED,  /* the creating thread only; completions wait for it */
};

enum ring_io {
	RING_AUTO, /* io_uring where it works */
	RING_URING,
	RING_POLL, /* epoll, non-blocking calls and Linux AIO */
};

/* 0 or -errno; on failure *why says what to do about it (static text). */
int ring_new(struct ring **ring, enum ring_kind kind, enum ring_io io,
	     const char **why);
/*
 * "io_uring" or "epoll", and in *why, if it is wanted, static text: why not
 * io_uring, or NULL.
 */
const char *ring_name(const struct ring *ring, const char **why);
/*
 * Operations in flight are cancelled; their done() is not called. An engine
 * request cannot be: what it writes to must stay, or be a mapping of its own.
 * False: the kernel refused that, too. Then it may still read and write what
 * operations in flight were given, and none of that may be freed, ever.
 */
bool ring_free(struct ring *ring);

/*
 * 0, or the lasting -errno with which the kernel refuses the ring's work from
 * now on: -EBADF (somebody closed our descriptor), -EPERM, -EACCES or -ENOSYS (a
 * sandbox entered after the creation), ... What is in flight may still complete,
 * and is delivered; nothing more is started, and ring_wait() returns this at
 * once. May be called beside other calls.
 */
int ring_error(const struct ring *ring);

/*
 * A descriptor that polls readable when there is something to reap: that of a
 * RING_OWNED only between ring_listen() and the next ring_reap().
 */
int ring_fd(const struct ring *ring);
/*
 * False if there is, or may be, something to reap already, of which that
 * descriptor does not tell, or not again who polls it edge-triggered.
 */
bool ring_listen(struct ring *ring);
/* Have a RING_OWNED's poll readable for no completion, until that. */
void ring_nudge(struct ring *ring);

/*
 * All of these: 0, or -EAGAIN if the queue is full and the kernel takes
 * nothing more for now. What the arguments point to must stay until done().
 *
 * In an io_uring a send or receive that waits does so on behalf of the thread
 * that submitted it. If that thread has exited, it ends with -ECANCELED as soon as
 * it could go on: queue it again, nothing is lost.
 */
int ring_send(struct ring *ring, int fd, const void *buf, size_t len,
	      struct ring_op *op);
int ring_sendmsg(struct ring *ring, int fd, const struct msghdr *msg,
		 struct ring_op *op);
int ring_recv(struct ring *ring, int fd, void *buf, size_t len,
	      struct ring_op *op);
/*
 * Receive into a pooled buffer, chosen when data has arrived; -ENOBUFS if the
 * pool is empty. A buffer may come with any result, end-of-file included.
 */
int ring_recv_pooled(struct ring *ring, int fd, struct ring_op *op);
/* The same at once: -EAGAIN if there is no data. */
int ring_take_pooled(struct ring *ring, int fd, struct ring_op *op);
/*
 * An AF_ALG request: sendmsg on an operation socket, then a read of exactly
 * len bytes from it, asynchronous if the driver is. One completion: the
 * read's, or the sendmsg's error. On an owned ring the read starts only with
 * the ring_reap() or ring_wait() after ring_submit().
 */
int ring_engine_request(struct ring *ring, int fd, const struct msghdr *msg,
			void *out, size_t len, struct ring_op *op);
/*
 * Once one of these poll(2) events holds of fd, or it is in trouble (POLLERR,
 * POLLHUP): done(op, revents or -errno, -1).
 */
int ring_poll(struct ring *ring, int fd, unsigned events, struct ring_op *op);
/*
 * Ask for op to end early, with -ECANCELED unless it is quicker, or with how much
 * of it was sent.
 */
int ring_cancel(struct ring *ring, struct ring_op *op);
/*
 * The number of a socket with nothing in flight is about to be another's, or
 * has become so: what was known of the socket is not true of that one.
 */
void ring_forget(struct ring *ring, int fd);
/* Make another thread's ring_wait() return. Submits. */
int ring_wake(struct ring *ring);
/*
 * Before others may go on waiting in the ring, or by its descriptor: completions
 * that the caller's ring_submit() has made, and that it has not reaped, are for
 * them. (In an io_uring they always are.)
 */
void ring_show(struct ring *ring);

/* Hand a buffer to the pool, as number buffer, 0 to RING_BUFFERS - 1. */
enum { RING_BUFFERS = 256 };
void ring_pool_add(struct ring *ring, void *buf, size_t len, int buffer);
/*
 * Have the ring give up to count buffers of the pool back, those handed in
 * first: done(op, result, buffer) for each, with a few bytes written to it; at
 * the latest with the second ring_reap(). Submits. How many, or -errno.
 */
int ring_pool_draw(struct ring *ring, unsigned count, struct ring_op *op);

/*
 * The thread that a RING_OWNED belonged to has ended: the caller has it from now
 * on, and its ring_fd() may be another. What has completed is delivered in this
 * call, and what was never submitted, as -ECANCELED. What was in flight is not
 * heard of again, and touches no memory any more, engine requests apart. The
 * receive pool is empty, whatever is handed to it meanwhile. 0 or -errno with
 * words in *why: then only ring_free() is left.
 */
int ring_renew(struct ring *ring, const char **why);

/* Is something queued that has not been submitted? */
bool ring_unsubmitted(const struct ring *ring);
/*
 * Has this operation, queued before, been started? False where that is not told
 * of one, and something has not.
 */
bool ring_started(const struct ring *ring, const struct ring_op *op);
/*
 * Start what is queued. 0, or -EAGAIN if the kernel takes no more until
 * something has been reaped (the rest stays queued), or ring_error(). Never
 * calls done().
 */
int ring_submit(struct ring *ring);
/*
 * Ask the kernel what may go on, where it does not tell by itself (epoll): once
 * a call, and before it is said that there is nothing. After ring_wait() there
 * is no need.
 */
void ring_look(struct ring *ring);
/* Completions there to be delivered, without asking the kernel for more. */
unsigned ring_ready(const struct ring *ring);
/*
 * Deliver what has completed so far; returns how many, wakes not counted.
 * done() may queue and submit more: that is delivered by the next call.
 */
unsigned ring_reap(struct ring *ring);
/*
 * Wait until something can be reaped: at most timeout_ns, -1 for no limit; that
 * of a RING_SHARED may be 2 s and -ETIME. 0, -ETIME, -EINTR or another error
 * that passes, or ring_error(): who waits again looks at that before. The only
 * call that may run beside others (RING_SHARED, with nothing left unsubmitted).
 */
int ring_wait(struct ring *ring, int64_t timeout_ns);

/* System calls made so far. */
uint64_t ring_enters(const struct ring *ring);

#endif
