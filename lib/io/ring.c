/* SPDX-License-Identifier: MIT */
/* Which kind of ring, and the way from ring.h to it. */
#include "io/ring.h"

#include "io/ring_ops.h"

int ring_new(struct ring **ring, enum ring_kind kind, enum ring_io io,
	     const char **why)
{
	const char *not_uring = NULL;
	int err = -ENOSYS;

	if (io != RING_POLL) {
		err = ring_uring_new(ring, kind, &not_uring);
		*why = not_uring;
	}
	if (err && io != RING_URING)
		err = ring_poll_new(ring, kind, why);
	if (!err && io == RING_POLL)
		not_uring = "another way was asked for";
	if (!err)
		(*ring)->not_uring = not_uring;
	return err;
}

const char *ring_name(const struct ring *ring, const char **why)
{
	if (why)
		*why = ring->not_uring;
	return ring->ops->name;
}

bool ring_free(struct ring *ring)
{
	return ring ? ring->ops->free(ring) : true;
}

int ring_error(const struct ring *ring)
{
	return atomic_load_explicit(&ring->error, memory_order_relaxed);
}

uint64_t ring_enters(const struct ring *ring)
{
	return atomic_load_explicit(&ring->enters, memory_order_relaxed);
}

int ring_fd(const struct ring *ring)
{
	return ring->ops->fd(ring);
}

bool ring_listen(struct ring *ring)
{
	return ring->ops->listen(ring);
}

void ring_nudge(struct ring *ring)
{
	ring->ops->nudge(ring);
}

int ring_send(struct ring *ring, int fd, const void *buf, size_t len,
	      struct ring_op *op)
{
	return ring->ops->send(ring, fd, buf, len, op);
}

int ring_sendmsg(struct ring *ring, int fd, const struct msghdr *msg,
		 struct ring_op *op)
{
	return ring->ops->sendmsg(ring, fd, msg, op);
}

int ring_recv(struct ring *ring, int fd, void *buf, size_t len,
	      struct ring_op *op)
{
	return ring->ops->recv(ring, fd, buf, len, op);
}

int ring_recv_pooled(struct ring *ring, int fd, struct ring_op *op)
{
	return ring->ops->recv_pooled(ring, fd, op);
}

int ring_take_pooled(struct ring *ring, int fd, struct ring_op *op)
{
	return ring->ops->take_pooled(ring, fd, op);
}

int ring_engine_request(struct ring *ring, int fd, const struct msghdr *msg,
			void *out, size_t len, struct ring_op *op)
{
	return ring->ops->engine_request(ring, fd, msg, out, len, op);
}

int ring_poll(struct ring *ring, int fd, unsigned events, struct ring_op *op)
{
	return ring->ops->poll(ring, fd, events, op);
}

int ring_cancel(struct ring *ring, struct ring_op *op)
{
	return ring->ops->cancel(ring, op);
}

void ring_forget(struct ring *ring, int fd)
{
	if (ring->ops->forget)
		ring->ops->forget(ring, fd);
}

int ring_wake(struct ring *ring)
{
	return ring->ops->wake(ring);
}

void ring_show(struct ring *ring)
{
	if (ring->ops->show)
		ring->ops->show(ring);
}

void ring_pool_add(struct ring *ring, void *buf, size_t len, int buffer)
{
	ring->ops->pool_add(ring, buf, len, buffer);
}

int ring_pool_draw(struct ring *ring, unsigned count, struct ring_op *op)
{
	return ring->ops->pool_draw(ring, count, op);
}

int ring_renew(struct ring *ring, const char **why)
{
	return ring->ops->renew(ring, why);
}

bool ring_unsubmitted(const struct ring *ring)
{
	return ring->ops->unsubmitted(ring);
}

bool ring_started(const struct ring *ring, const struct ring_op *op)
{
	if (ring->ops->started)
		return ring->ops->started(ring, op);
	return !ring->ops->unsubmitted(ring);
}

int ring_submit(struct ring *ring)
{
	return ring->ops->submit(ring);
}

unsigned ring_ready(const struct ring *ring)
{
	return ring->ops->ready(ring);
}

void ring_look(struct ring *ring)
{
	if (ring->ops->look)
		ring->ops->look(ring);
}

unsigned ring_reap(struct ring *ring)
{
	return ring->ops->reap(ring);
}

int ring_wait(struct ring *ring, int64_t timeout_ns)
{
	return ring->ops->wait(ring, timeout_ns);
}
