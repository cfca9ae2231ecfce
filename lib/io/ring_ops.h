/* SPDX-License-Identifier: MIT */
/*
 * What a kind of ring is to ring.c: a struct that begins with struct ring, and
 * its functions, which keep to the words of ring.h.
 */
#ifndef ASYNCTLS_RING_OPS_H
#define ASYNCTLS_RING_OPS_H

#include <errno.h>
#include <stdatomic.h>

#include "io/ring.h"

struct ring_ops {
	const char *name;
	bool (*free)(struct ring *ring);
	int (*fd)(const struct ring *ring);
	bool (*listen)(struct ring *ring);
	void (*nudge)(struct ring *ring);
	void (*look)(struct ring *ring); /* may be NULL */
	int (*send)(struct ring *ring, int fd, const void *buf, size_t len,
		    struct ring_op *op);
	int (*sendmsg)(struct ring *ring, int fd, const struct msghdr *msg,
		       struct ring_op *op);
	int (*recv)(struct ring *ring, int fd, void *buf, size_t len,
		    struct ring_op *op);
	int (*recv_pooled)(struct ring *ring, int fd, struct ring_op *op);
	int (*take_pooled)(struct ring *ring, int fd, struct ring_op *op);
	int (*engine_request)(struct ring *ring, int fd,
			      const struct msghdr *msg, void *out, size_t len,
			      struct ring_op *op);
	int (*poll)(struct ring *ring, int fd, unsigned events,
		    struct ring_op *op);
	int (*cancel)(struct ring *ring, struct ring_op *op);
	int (*wake)(struct ring *ring);
	void (*show)(struct ring *ring);	   /* may be NULL */
	void (*forget)(struct ring *ring, int fd); /* may be NULL */
	void (*pool_add)(struct ring *ring, void *buf, size_t len, int buffer);
	int (*pool_draw)(struct ring *ring, unsigned count, struct ring_op *op);
	int (*renew)(struct ring *ring, const char **why);
	bool (*unsubmitted)(const struct ring *ring);
	/* NULL: not told */
	bool (*started)(const struct ring *ring, const struct ring_op *op);
	int (*submit)(struct ring *ring);
	unsigned (*ready)(const struct ring *ring);
	unsigned (*reap)(struct ring *ring);
	int (*wait)(struct ring *ring, int64_t timeout_ns);
};

struct ring {
	const struct ring_ops *ops;
	enum ring_kind kind;
	const char *not_uring; /* static text; NULL: it is, or none was tried */
	/* ring_wait() sees to these beside the others: */
	_Atomic uint64_t enters;
	atomic_int error; /* see ring_error() */
};

int ring_uring_new(struct ring **ring, enum ring_kind kind, const char **why);
int ring_poll_new(struct ring **ring, enum ring_kind kind, const char **why);

static inline void ring_count(struct ring *ring, unsigned calls)
{
	atomic_fetch_add_explicit(&ring->enters, calls, memory_order_relaxed);
}

/* Something is lacking, and may be there a moment later. */
static inline bool ring_lacks(int err)
{
	return err == -ENOMEM || err == -ENOBUFS || err == -EMFILE ||
	       err == -ENFILE;
}

/* Some errors pass, or are about the moment; others will be given for ever. */
static inline bool ring_passes(int err)
{
	return ring_lacks(err) || err == -EAGAIN || err == -EBUSY ||
	       err == -EINTR || err == -ETIME;
}

/* Of what a system call for the ring as such has returned, and returns it. */
static inline int ring_note(struct ring *ring, int result)
{
	int none = 0;

	if (result < 0 && !ring_passes(result))
		atomic_compare_exchange_strong(&ring->error, &none, result);
	return result;
}

#endif
