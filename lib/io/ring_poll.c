/* SPDX-License-Identifier: MIT */
/*
 * A ring without io_uring: each operation is tried with a call that does not
 * wait, and again when epoll says that it may go on. What completes is put on a
 * list, which ring_reap() delivers. AF_ALG's reads are Linux AIO's.
 *
 * In a RING_SHARED all calls but ring_wait() are made one at a time. So that one
 * only polls the epoll, and leaves its events to who reaps.
 */
#include "io/ring_ops.h"

#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "base/own.h"
#include "io/aio.h"
#include "io/attempt.h"
#include "io/bell.h"
#include "io/watch.h"

enum call { SEND, SENDMSG, RECV, RECV_POOLED, TAKE_POOLED, REQUEST, POLL };
enum state {
	IDLE,
	QUEUED,	 /* until it is submitted */
	STUCK,	 /* to be submitted again, in a while */
	WAITING, /* for an event of its socket */
	UNREAD,	 /* a request whose read has not been taken */
	READING, /* a request */
	DONE,	 /* to be delivered */
};

enum {
	EVENTS = 128, /* looked at in one go */
	/* data of the epoll's own, which no socket has for a number */
	SIGNAL = UINT32_MAX,
	AIO = UINT32_MAX - 1,
	RETRY_NS = NS_PER_MS, /* what there was no memory for */
};

struct pooled {
	void *buf;
	size_t len;
	int number;
};

struct polling {
	struct ring base; /* first */
	struct own_fd epoll;
	struct bell bell; /* ends waits */
	struct watches watches;
	struct list queued, stuck, unread, done;
	uint64_t retry; /* when what is stuck is tried again */
	atomic_uint ready; /* on done, and drawn */
	atomic_bool waited; /* for events that nobody has looked at since */
	bool more; /* events than the latest look took, maybe */
	struct aio aio;	   /* started with the first request */
	struct pooled pool[RING_BUFFERS];
	unsigned pool_first, pool_count;
	/* buffers given back, not yet delivered; -1: there was none */
	struct ring_op *draw;
	int drawn[RING_BUFFERS];
	unsigned drawn_count;
};

static const struct ring_ops polling_ops;

static struct polling *polling_of(const struct ring *base)
{
	return (struct polling *)(uintptr_t)base;
}

static struct ring_op *op_of(struct list *node)
{
	return container_of(node, struct ring_op, node);
}

/* ---- Beginning and end ------------------------------------------------- */

static int watch_own(struct polling *ring, int fd, uint32_t events,
		     uint32_t data)
{
	struct epoll_event event = { .events = events, .data.u64 = data };

	return epoll_ctl(ring->epoll.fd, EPOLL_CTL_ADD, fd, &event) ? -errno :
								      0;
}

static int open_descriptors(struct polling *ring)
{
	int err;

	ring->epoll = own_fd(epoll_create1(EPOLL_CLOEXEC));
	if (ring->epoll.fd < 0)
		return -errno;
	err = bell_open(&ring->bell);
	return err ? err :
		     watch_own(ring, ring->bell.pipe[0].fd, EPOLLIN, SIGNAL);
}

/*
 * All epolls look alike, but who closes what he does not know closes the pipe,
 * too. Then the epoll's number may be another's.
 */
static bool is_ours(struct polling *ring)
{
	if (own_fd_is_ours(&ring->bell.pipe[0]))
		return true;
	ring_note(&ring->base, -EBADF);
	return false;
}

static bool polling_free(struct ring *base)
{
	struct polling *ring = polling_of(base);
	bool ours = ring->bell.pipe[0].fd < 0 || own_fd_is_ours(&ring->bell.pipe[0]);

	if (ours)
		own_fd_close(&ring->epoll);
	bell_close(&ring->bell);
	aio_end(&ring->aio, ours);
	watches_destroy(&ring->watches);
	free(ring);
	return true;
}

static const char *explain(int err)
{
	if (err == -ENOSPC)
		return "no watch left for an epoll: the user's processes have "
		       "all that the sysctl fs.epoll.max_user_watches allows";
	if (ring_lacks(err))
		return "no descriptor left for an epoll (ulimit -n)";
	return "epoll is refused here: by a seccomp profile?";
}

int ring_poll_new(struct ring **out, enum ring_kind kind, const char **why)
{
	struct polling *ring = calloc(1, sizeof(*ring));
	int err;

	*why = "no memory for a ring";
	if (!ring)
		return -ENOMEM;
	ring->base.ops = &polling_ops;
	ring->base.kind = kind;
	ring->epoll.fd = -1;
	bell_init(&ring->bell);
	ring->aio.event = -1;
	list_init(&ring->queued);
	list_init(&ring->stuck);
	list_init(&ring->unread);
	list_init(&ring->done);
	err = open_descriptors(ring);
	if (err)
		*why = explain(err);
	else
		err = watches_init(&ring->watches, ring->epoll.fd);
	if (err) {
		polling_free(&ring->base);
		return err;
	}
	*why = NULL;
	*out = &ring->base;
	return 0;
}

static int polling_fd(const struct ring *base)
{
	return polling_of(base)->epoll.fd;
}

/* ---- What others are told ------------------------------------------------ */

static void give_signal(struct polling *ring)
{
	ring_count(&ring->base, bell_ring(&ring->bell));
}

static void polling_nudge(struct ring *base)
{
	give_signal(polling_of(base));
}

static unsigned ready(const struct polling *ring)
{
	return atomic_load(&ring->ready);
}

static unsigned polling_ready(const struct ring *base)
{
	return ready(polling_of(base));
}

static void polling_show(struct ring *base)
{
	if (polling_ready(base))
		give_signal(polling_of(base));
}

/* Who polls edge-triggered is not told of the rest. */
static bool polling_listen(struct ring *base)
{
	return !polling_ready(base) && !polling_of(base)->more;
}

/* ---- Operations --------------------------------------------------------- */

static void finish(struct polling *ring, struct ring_op *op, long result,
		   int buffer)
{
	op->state = DONE;
	op->result = (int)result;
	op->buffer = buffer;
	list_move_tail(&ring->done, &op->node);
	atomic_fetch_add(&ring->ready, 1);
}

static int enqueue(struct ring *base, struct ring_op *op, enum call call,
		   int fd)
{
	struct polling *ring = polling_of(base);

	op->call = (uint8_t)call;
	op->state = QUEUED;
	op->cancelled = false;
	op->fd = fd;
	op->sent = 0;
	list_init(&op->node);
	list_move_tail(&ring->queued, &op->node);
	return 0;
}

static int polling_send(struct ring *base, int fd, const void *buf, size_t len,
			struct ring_op *op)
{
	op->what.from = buf;
	op->len = len;
	return enqueue(base, op, SEND, fd);
}

static int polling_sendmsg(struct ring *base, int fd, const struct msghdr *msg,
			   struct ring_op *op)
{
	op->what.msg = msg;
	op->len = attempt_total(msg);
	return enqueue(base, op, SENDMSG, fd);
}

static int polling_recv(struct ring *base, int fd, void *buf, size_t len,
			struct ring_op *op)
{
	op->what.to = buf;
	op->len = len;
	return enqueue(base, op, RECV, fd);
}

static int polling_recv_pooled(struct ring *base, int fd, struct ring_op *op)
{
	return enqueue(base, op, RECV_POOLED, fd);
}

static int polling_take_pooled(struct ring *base, int fd, struct ring_op *op)
{
	return enqueue(base, op, TAKE_POOLED, fd);
}

static int polling_engine_request(struct ring *base, int fd,
				  const struct msghdr *msg, void *out,
				  size_t len, struct ring_op *op)
{
	op->what.msg = msg;
	op->out = out;
	op->len = len;
	return enqueue(base, op, REQUEST, fd);
}

static int polling_poll(struct ring *base, int fd, unsigned events,
			struct ring_op *op)
{
	op->what.events = events;
	return enqueue(base, op, POLL, fd);
}

/* What has been sent of it is more than an error can tell. */
static int result_of_cancelled(const struct ring_op *op)
{
	return op->sent ? (int)op->sent : -ECANCELED;
}

static void give_up(struct polling *ring, struct ring_op *op)
{
	finish(ring, op, result_of_cancelled(op), -1);
}

static int polling_cancel(struct ring *base, struct ring_op *op)
{
	struct polling *ring = polling_of(base);

	if (op->state == QUEUED)
		op->cancelled = true;
	if (op->state == WAITING || op->state == STUCK)
		give_up(ring, op);
	return 0;
}

/* ---- The pool ----------------------------------------------------------- */

static void polling_pool_add(struct ring *base, void *buf, size_t len,
			     int buffer)
{
	struct polling *ring = polling_of(base);
	unsigned at = (ring->pool_first + ring->pool_count++) % RING_BUFFERS;

	ring->pool[at] = (struct pooled){ buf, len, buffer };
}

static int take_pooled(struct polling *ring)
{
	int number;

	if (!ring->pool_count)
		return -1;
	number = ring->pool[ring->pool_first].number;
	ring->pool_first = (ring->pool_first + 1) % RING_BUFFERS;
	ring->pool_count--;
	return number;
}

static int polling_pool_draw(struct ring *base, unsigned wanted,
			     struct ring_op *op)
{
	struct polling *ring = polling_of(base);
	unsigned n = 0;

	if (ring->drawn_count && ring->draw != op)
		return -EBUSY;
	ring->draw = op;
	for (; n < wanted && ring->drawn_count < RING_BUFFERS; n++)
		ring->drawn[ring->drawn_count++] = take_pooled(ring);
	atomic_fetch_add(&ring->ready, n);
	return (int)n;
}

/* ---- Calls that do not wait --------------------------------------------- */

static long send_all(struct polling *ring, struct ring_op *op)
{
	const struct outgoing out = {
		.fd = op->fd,
		.buf = op->call == SEND ? op->what.from : NULL,
		.msg = op->call == SEND ? NULL : op->what.msg,
		.len = op->len,
	};
	unsigned calls = 0;
	long n = attempt_send(&out, &op->sent, &calls);

	ring_count(&ring->base, calls);
	return n;
}

/* Into *buffer's, if there was something to be received. */
static long receive(struct polling *ring, struct ring_op *op, size_t *asked,
		    int *buffer)
{
	const struct pooled *pooled = &ring->pool[ring->pool_first];
	unsigned calls = 0;
	long n;

	*buffer = -1;
	if (op->call == RECV) {
		*asked = op->len;
		n = attempt_receive(op->fd, op->what.to, op->len, &calls);
	} else if (!ring->pool_count) {
		*asked = 0;
		return -ENOBUFS;
	} else {
		*asked = pooled->len;
		n = attempt_receive(op->fd, pooled->buf, pooled->len, &calls);
		if (n > 0)
			*buffer = take_pooled(ring);
	}
	ring_count(&ring->base, calls);
	return n;
}

/* ---- Starting and going on ---------------------------------------------- */

/* It goes on with an event. -errno: it stays what it was. */
static int wait_for(struct polling *ring, struct ring_op *op, uint32_t events)
{
	struct watch *watch = watch_get(&ring->watches, op->fd);
	unsigned calls = 0;
	int err;

	if (!watch)
		return -ENOMEM;
	err = watch_for(&ring->watches, watch, events, &calls);
	ring_count(&ring->base, calls);
	if (err) {
		/* without events, the next try is a call */
		watch->may_read = watch->may_write = true;
		return err;
	}
	op->state = WAITING;
	if (op->call == POLL)
		list_move_tail(&watch->pollers, &op->node);
	else if (events & EPOLLOUT)
		list_move_tail(&watch->writers, &op->node);
	else
		list_move_tail(&watch->readers, &op->node);
	return 0;
}

/* fs.epoll.max_user_watches is reached by whatever the user's processes do. */
static bool may_pass(int err)
{
	return ring_lacks(err) || err == -ENOSPC;
}

/* Its call would have waited. */
static int put_off(struct polling *ring, struct ring_op *op, uint32_t events)
{
	int err;

	if (op->cancelled) {
		give_up(ring, op);
		return 0;
	}
	err = wait_for(ring, op, events);
	if (!err || may_pass(err))
		return err;
	/* a sandbox, a descriptor that is none */
	finish(ring, op, op->sent ? (long)op->sent : err, -1);
	return 0;
}

static int start_send(struct polling *ring, struct ring_op *op)
{
	struct watch *watch = watch_find(&ring->watches, op->fd);
	long n = -EAGAIN;

	if (!watch || (watch->may_write && list_empty(&watch->writers)))
		n = send_all(ring, op);
	if (n != -EAGAIN) {
		finish(ring, op, n, -1);
		return 0;
	}
	if (watch)
		watch->may_write = false;
	return put_off(ring, op, EPOLLOUT);
}

/* Less than there was room for: there is nothing more, for now. */
static void note_received(struct watch *watch, long n, size_t asked)
{
	if (n == -EAGAIN || (n > 0 && (size_t)n < asked && !watch->unsure))
		watch->may_read = false;
}

static int start_receive(struct polling *ring, struct ring_op *op)
{
	struct watch *watch = watch_find(&ring->watches, op->fd);
	bool at_once = op->call == TAKE_POOLED;
	size_t asked;
	long n = -EAGAIN;
	int buffer;

	if (at_once || !watch ||
	    (watch->may_read && list_empty(&watch->readers))) {
		n = receive(ring, op, &asked, &buffer);
		if (watch)
			note_received(watch, n, asked);
	}
	if (n == -EAGAIN && !at_once)
		return put_off(ring, op, EPOLLIN);
	finish(ring, op, n, buffer);
	return 0;
}

static int start_poll(struct polling *ring, struct ring_op *op)
{
	struct pollfd now = { .fd = op->fd, .events = (short)op->what.events };

	ring_count(&ring->base, 1);
	if (poll(&now, 1, 0) == 1) {
		finish(ring, op, now.revents & POLLNVAL ? -EBADF : now.revents,
		       -1);
		return 0;
	}
	return put_off(ring, op, op->what.events & (EPOLLIN | EPOLLOUT));
}

static int have_aio(struct polling *ring)
{
	int err;

	if (ring->aio.event >= 0)
		return 0;
	err = aio_start(&ring->aio);
	if (err)
		return err;
	err = watch_own(ring, ring->aio.event, EPOLLIN | EPOLLET, AIO);
	if (err)
		aio_end(&ring->aio, true);
	return err;
}

/* The first half; the reads of many are then submitted at once. */
static int start_request(struct polling *ring, struct ring_op *op)
{
	ssize_t n;
	int err = have_aio(ring);

	if (!err) {
		ring_count(&ring->base, 1);
		n = sendmsg(op->fd, op->what.msg, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0)
			err = -errno;
		else if ((size_t)n != attempt_total(op->what.msg))
			err = -EIO;
	}
	if (err) {
		finish(ring, op, err, -1);
		return 0;
	}
	op->state = UNREAD;
	list_move_tail(&ring->unread, &op->node);
	return 0;
}

/* 0, or -errno: not now. */
static int start(struct polling *ring, struct ring_op *op)
{
	switch ((enum call)op->call) {
	case SEND:
	case SENDMSG:
		return start_send(ring, op);
	case RECV:
	case RECV_POOLED:
	case TAKE_POOLED:
		return start_receive(ring, op);
	case POLL:
		return start_poll(ring, op);
	case REQUEST:
		return start_request(ring, op);
	}
	return 0;
}

/* All of them: one event may tell of many. */
static void take_answers(struct polling *ring)
{
	struct io_event events[AIO_BATCH];
	int i, n;

	do {
		n = aio_reap(&ring->aio, events);
		for (i = 0; i < n; i++)
			finish(ring, events[i].data, (long)events[i].res, -1);
	} while (n == AIO_BATCH);
}

/* One batch; false: the kernel takes no more for now. */
static bool submit_some(struct polling *ring)
{
	struct aio_read reads[AIO_BATCH];
	struct list *node = ring->unread.next;
	int i, n, wanted = 0;

	for (; node != &ring->unread && wanted < AIO_BATCH; node = node->next) {
		struct ring_op *op = op_of(node);

		reads[wanted++] = (struct aio_read){ op->fd, op->out, op->len,
						     op };
	}
	ring_count(&ring->base, 1);
	n = aio_submit(&ring->aio, reads, wanted);
	if (n < 0 && ring_passes(n))
		return false;
	if (n < 0)
		finish(ring, op_of(ring->unread.next), n, -1);
	for (i = 0; i < n; i++) {
		struct ring_op *op = reads[i].data;

		list_remove(&op->node);
		op->state = READING;
	}
	return true;
}

/* A driver that is not asynchronous is through with them by then. */
static bool submit_reads(struct polling *ring)
{
	if (list_empty(&ring->unread))
		return true;
	while (!list_empty(&ring->unread))
		if (!submit_some(ring))
			return false;
	take_answers(ring);
	return true;
}

/* There may be thousands, and calls that submit in quick succession. */
static void set_aside(struct polling *ring, struct ring_op *op)
{
	if (list_empty(&ring->stuck))
		ring->retry = now_ns() + RETRY_NS;
	op->state = STUCK;
	list_move_tail(&ring->stuck, &op->node);
}

static void start_all(struct polling *ring, struct list *from)
{
	struct list all, *node;

	list_take_all(&all, from);
	while ((node = list_take(&all)))
		if (start(ring, op_of(node))) /* the others may do better */
			set_aside(ring, op_of(node));
}

static int polling_submit(struct ring *base)
{
	struct polling *ring = polling_of(base);

	if (ring_error(base))
		return ring_error(base);
	if (!list_empty(&ring->stuck) && now_ns() >= ring->retry)
		start_all(ring, &ring->stuck);
	start_all(ring, &ring->queued);
	if (!submit_reads(ring))
		return -EAGAIN;
	return list_empty(&ring->stuck) ? 0 : -EAGAIN;
}

static bool polling_unsubmitted(const struct ring *base)
{
	const struct polling *ring = polling_of(base);

	return !list_empty(&ring->queued) || !list_empty(&ring->stuck) ||
	       !list_empty(&ring->unread);
}

static bool polling_started(const struct ring *base, const struct ring_op *op)
{
	(void)base;
	return op->state != QUEUED && op->state != STUCK;
}

static int polling_wake(struct ring *base)
{
	polling_submit(base);
	give_signal(polling_of(base));
	return ring_error(base);
}

/* ---- Events -------------------------------------------------------------- */

static void write_on(struct polling *ring, struct watch *watch)
{
	while (watch->may_write && !list_empty(&watch->writers)) {
		struct ring_op *op = op_of(watch->writers.next);
		long n = send_all(ring, op);

		if (n == -EAGAIN)
			watch->may_write = false;
		else
			finish(ring, op, n, -1);
	}
}

static void read_on(struct polling *ring, struct watch *watch)
{
	while (watch->may_read && !list_empty(&watch->readers)) {
		struct ring_op *op = op_of(watch->readers.next);
		size_t asked;
		int buffer;
		long n = receive(ring, op, &asked, &buffer);

		note_received(watch, n, asked);
		if (n != -EAGAIN)
			finish(ring, op, n, buffer);
	}
}

static void tell_pollers(struct polling *ring, struct watch *watch,
			 uint32_t events)
{
	struct list *node, *next;

	for (node = watch->pollers.next; node != &watch->pollers; node = next) {
		struct ring_op *op = op_of(node);
		uint32_t what = events & (op->what.events | EPOLLERR | EPOLLHUP);

		next = node->next;
		if (what)
			finish(ring, op, (long)what, -1);
	}
}

static void take_event(struct polling *ring, const struct epoll_event *event)
{
	const uint32_t trouble = EPOLLERR | EPOLLHUP, got = event->events;
	struct watch *watch = watch_of(&ring->watches, event->data.u64);

	if (!watch) {
		is_ours(ring); /* or it is an event of somebody else's epoll */
		return;
	}
	/* no event may come again, and a receive stops at urgent data */
	watch->unsure |= got & (trouble | EPOLLRDHUP | EPOLLPRI);
	watch->may_read |= got & (trouble | EPOLLRDHUP | EPOLLIN);
	watch->may_write |= got & (trouble | EPOLLOUT);
	write_on(ring, watch);
	read_on(ring, watch);
	tell_pollers(ring, watch, got);
}

/* Whether there was a signal. */
static bool take_events(struct polling *ring, const struct epoll_event *events,
			int n)
{
	bool signal = false;
	int i;

	ring->more = n == EVENTS;
	for (i = 0; i < n; i++) {
		if (events[i].data.u64 == SIGNAL)
			signal = true;
		else if (events[i].data.u64 != AIO)
			take_event(ring, &events[i]);
	}
	take_answers(ring);
	return signal;
}

/* epoll_pwait2() is Linux 5.11's, and not everywhere allowed. */
static int wait_epoll(struct polling *ring, struct epoll_event *events,
		      int64_t ns)
{
	static atomic_bool coarse;
	struct timespec ts;
	int n = -1, ms = -1;

	ring_count(&ring->base, 1);
	if (ns > 0 && !coarse) {
		ts = timespec_of((uint64_t)ns);
		n = epoll_pwait2(ring->epoll.fd, events, EVENTS, &ts, NULL);
		if (n >= 0 || (errno != ENOSYS && errno != EPERM &&
			       errno != EACCES))
			return n < 0 ? ring_note(&ring->base, -errno) : n;
		coarse = true;
	}
	if (ns >= 0)
		ms = (int)min_size(((size_t)ns + NS_PER_MS - 1) / NS_PER_MS,
				   INT_MAX);
	n = epoll_wait(ring->epoll.fd, events, EVENTS, ms);
	return n < 0 ? ring_note(&ring->base, -errno) : n;
}

/* ---- Reaping and waiting ------------------------------------------------- */

static void polling_look(struct ring *base)
{
	struct polling *ring = polling_of(base);
	struct epoll_event events[EVENTS];
	int n;

	/* what nobody waits for is taken, too: it makes the epoll readable */
	if (ring_error(base) || (!ring->watches.count && ring->aio.event < 0))
		return;
	n = wait_epoll(ring, events, 0);
	if (n >= 0)
		take_events(ring, events, n);
}

static unsigned deliver_drawn(struct polling *ring)
{
	int drawn[RING_BUFFERS];
	unsigned i, n = ring->drawn_count;

	for (i = 0; i < n; i++)
		drawn[i] = ring->drawn[i];
	ring->drawn_count = 0;
	atomic_fetch_sub(&ring->ready, n);
	for (i = 0; i < n; i++)
		ring->draw->done(ring->draw, drawn[i] < 0 ? -ENOBUFS : 1,
				 drawn[i]);
	return n;
}

static void deliver(struct polling *ring, struct ring_op *op)
{
	atomic_fetch_sub(&ring->ready, 1);
	op->state = IDLE;
	op->done(op, op->result, op->buffer);
}

/* What done() has completed is for the next call. */
static unsigned polling_reap(struct ring *base)
{
	struct polling *ring = polling_of(base);
	struct list *node;
	unsigned left, n;

	ring_count(&ring->base, bell_hush(&ring->bell));
	if (atomic_exchange(&ring->waited, false))
		polling_look(base);
	left = ready(ring);
	n = deliver_drawn(ring);
	for (; n < left && (node = list_take(&ring->done)); n++)
		deliver(ring, op_of(node));
	return n;
}

static int64_t until(uint64_t end)
{
	uint64_t now = now_ns();

	if (end == UINT64_MAX)
		return -1;
	return end > now ? (int64_t)(end - now) : 0;
}

/* Until something has completed, and not only an event come. */
static int wait_owned(struct polling *ring, uint64_t end)
{
	struct epoll_event events[EVENTS];
	int64_t ns;
	int n;

	for (;;) {
		bool stuck = polling_submit(&ring->base) == -EAGAIN;

		if (ready(ring))
			return 0;
		if (!is_ours(ring))
			return ring_error(&ring->base);
		ns = until(end);
		if (stuck && (ns < 0 || ns > RETRY_NS))
			n = wait_epoll(ring, events, RETRY_NS);
		else
			n = wait_epoll(ring, events, ns);
		if (n < 0)
			return n;
		if (take_events(ring, events, n) || ready(ring))
			return 0;
		if (!ns || (!n && !stuck))
			return -ETIME;
	}
}

static int poll_epoll(struct polling *ring, int64_t ns)
{
	struct pollfd pfd = { .fd = ring->epoll.fd, .events = POLLIN };
	struct timespec ts = timespec_of(ns < 0 ? 0 : (uint64_t)ns);
	int n;

	ring_count(&ring->base, 1);
	n = ppoll(&pfd, 1, ns < 0 ? NULL : &ts, NULL);
	if (n < 0)
		return ring_note(&ring->base, -errno);
	return n ? 0 : -ETIME;
}

static int wait_shared(struct polling *ring, int64_t ns)
{
	uint64_t rung = bell_begin_wait(&ring->bell);
	int err = 0;

	if (!ready(ring))
		err = is_ours(ring) ? poll_epoll(ring, ns) :
				      ring_error(&ring->base);
	bell_end_wait(&ring->bell, rung);
	if (!err)
		atomic_store(&ring->waited, true);
	return err;
}

static int polling_wait(struct ring *base, int64_t timeout_ns)
{
	struct polling *ring = polling_of(base);

	if (ring_error(base))
		return ring_error(base);
	if (base->kind == RING_SHARED)
		return wait_shared(ring, timeout_ns);
	return wait_owned(ring, timeout_ns < 0 ?
					UINT64_MAX :
					now_ns() + (uint64_t)timeout_ns);
}

/* ---- Sockets that go, and another owner ---------------------------------- */

static void let_go(struct list *waiting)
{
	struct list *node;

	while ((node = list_take(waiting)))
		op_of(node)->state = IDLE;
}

static void drop(struct polling *ring, struct watch *watch)
{
	let_go(&watch->readers);
	let_go(&watch->writers);
	let_go(&watch->pollers);
	watch_drop(&ring->watches, watch);
}

static void polling_forget(struct ring *base, int fd)
{
	struct polling *ring = polling_of(base);
	struct watch *watch = watch_find(&ring->watches, fd);

	if (watch && is_ours(ring))
		drop(ring, watch);
}

static void end_all(struct list *unsubmitted)
{
	struct list *node;

	while ((node = list_take(unsubmitted))) {
		struct ring_op *op = op_of(node);

		op->state = IDLE;
		op->done(op, result_of_cancelled(op), -1);
	}
}

/* Nothing of it belongs to a thread, but who adopts it begins anew. */
static int polling_renew(struct ring *base, const char **why)
{
	struct polling *ring = polling_of(base);
	struct list done, queued, stuck, unread, *node;
	struct watch *watch;

	*why = "its descriptors have been closed";
	if (!is_ours(ring))
		return -EBADF;
	*why = NULL;
	list_take_all(&done, &ring->done);
	list_take_all(&queued, &ring->queued);
	list_take_all(&stuck, &ring->stuck);
	list_take_all(&unread, &ring->unread);
	while ((watch = watch_any(&ring->watches)))
		drop(ring, watch);
	ring->pool_count = 0;
	deliver_drawn(ring);
	while ((node = list_take(&done)))
		deliver(ring, op_of(node));
	end_all(&queued);
	end_all(&stuck);
	end_all(&unread);
	ring->pool_count = 0;
	return 0;
}

static const struct ring_ops polling_ops = {
	.name = "epoll",
	.free = polling_free,
	.fd = polling_fd,
	.listen = polling_listen,
	.nudge = polling_nudge,
	.look = polling_look,
	.send = polling_send,
	.sendmsg = polling_sendmsg,
	.recv = polling_recv,
	.recv_pooled = polling_recv_pooled,
	.take_pooled = polling_take_pooled,
	.engine_request = polling_engine_request,
	.poll = polling_poll,
	.cancel = polling_cancel,
	.wake = polling_wake,
	.show = polling_show,
	.forget = polling_forget,
	.pool_add = polling_pool_add,
	.pool_draw = polling_pool_draw,
	.renew = polling_renew,
	.unsubmitted = polling_unsubmitted,
	.started = polling_started,
	.submit = polling_submit,
	.ready = polling_ready,
	.reap = polling_reap,
	.wait = polling_wait,
};
