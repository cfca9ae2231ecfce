/* SPDX-License-Identifier: MIT */
#include "io/ring_ops.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <liburing.h>

#include "base/own.h"

/* of Linux 6.15, and not in every liburing */
#ifndef IORING_ENTER_NO_IOWAIT
#define IORING_ENTER_NO_IOWAIT (1u << 7)
#endif
#ifndef IORING_FEAT_NO_IOWAIT
#define IORING_FEAT_NO_IOWAIT (1u << 17)
#endif

enum {
	POOL_GROUP = 0,
	POOL_BYTES = RING_BUFFERS * sizeof(struct io_uring_buf),
	MANY_REFUSALS = 1000, /* for want of memory, a millisecond apart */
	MANY_TRIES = 200,     /* at the creation, the same */
	NAP_NS = 1000000,
};

/*
 * Where all of them count against RLIMIT_MEMLOCK the first takes 84 KiB, the
 * last 8. A smaller queue costs system calls: what does not fit the kernel keeps
 * and hands out when there is room (IORING_FEAT_NODROP).
 */
static const struct {
	unsigned sq, cq;
} ring_sizes[] = { { 256, 4096 }, { 256, 1024 }, { 64, 256 }, { 16, 64 } };

/*
 * A thread asleep in the kernel cannot be woken once the kernel refuses what
 * others ask of the ring.
 */
static const int64_t LONGEST_WAIT_NS = 2000000000;

/*
 * user_data is the address of the ring_op, with a tag in its low bits for
 * what is not the operation itself. 0 is a wake.
 */
enum {
	TAG_REQUEST = 1, /* the sendmsg before an engine's read */
	TAG_CANCEL = 2,
	TAG_MASK = 3,
};

struct uring {
	struct ring base; /* first */
	struct io_uring uring;
	struct io_uring_buf_ring *pool;
	struct own_fd own; /* uring's */
	struct own_fd event; /* polls for a ring that defers its work */
	bool listening;	     /* the kernel may signal it */
	atomic_int refusals; /* waits that ended with -ENOMEM, in a row */
};

static struct uring *uring_of(const struct ring *base)
{
	return (struct uring *)(uintptr_t)base;
}

static int note(struct uring *ring, int result)
{
	return ring_note(&ring->base, result);
}

static int lasting_error(const struct uring *ring)
{
	return ring_error(&ring->base);
}

static const struct ring_ops uring_ops;

static int uring_submit(struct ring *base);

/* ---- Beginning and end ------------------------------------------------- */

static void nap(void)
{
	const struct timespec time = { .tv_nsec = NAP_NS };

	nanosleep(&time, NULL);
}

static int setup_ring(struct uring *ring, unsigned flags, int size)
{
	struct io_uring_params params = {
		.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP |
			 IORING_SETUP_SUBMIT_ALL | flags,
		.cq_entries = ring_sizes[size].cq,
	};
	int err = io_uring_queue_init_params(ring_sizes[size].sq, &ring->uring,
					     &params);

	if (!err)
		ring->own = own_fd(ring->uring.ring_fd);
	return err;
}

static void close_ring(struct uring *ring)
{
	if (!own_fd_is_ours(&ring->own)) /* nor is the eventfd, see have_event() */
		ring->uring.ring_fd = ring->event.fd = -1;
	io_uring_queue_exit(&ring->uring);
	if (own_fd_is_ours(&ring->event))
		close(ring->event.fd);
	ring->own.fd = ring->event.fd = -1;
}

/*
 * Does work deferred from a wake-up signal the eventfd, and at once? Stable
 * kernels of 2026 (seen: 6.12.117) leave that signal to an RCU callback, which
 * never forgets that it is pending: the first comes late, the others never.
 * Leaves the signal switched off, as ring_listen() expects. 0 if it does,
 * -EINVAL if not, or -errno.
 */
static int check_signal(struct uring *ring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
	struct io_uring_cqe *cqe;
	eventfd_t count;
	bool signalled;
	int fd[2], n;

	/* no eventfd here: a signal from within a signal is put off anywhere */
	if (pipe2(fd, O_CLOEXEC | O_NONBLOCK))
		return -errno;
	io_uring_prep_poll_add(sqe, fd[0], POLLIN);
	sqe->user_data = 0;
	n = io_uring_submit(&ring->uring);
	close(fd[1]);
	signalled = eventfd_read(ring->event.fd, &count) == 0;
	io_uring_cq_eventfd_toggle(&ring->uring, false);
	if (n == 1 && io_uring_wait_cqe(&ring->uring, &cqe) == 0)
		io_uring_cqe_seen(&ring->uring, cqe);
	eventfd_read(ring->event.fd, &count);
	close(fd[0]);
	if (n < 0)
		return n;
	return signalled ? 0 : -EINVAL;
}

/*
 * Deferred work signals an eventfd, but does not wake who polls the ring's own
 * descriptor: that takes a completion, which waits for the owner.
 */
static int setup_event_fd(struct uring *ring)
{
	int err;

	ring->event = own_fd(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
	if (ring->event.fd < 0)
		err = -errno;
	else
		err = io_uring_register_eventfd(&ring->uring, ring->event.fd);
	if (!err)
		err = check_signal(ring);
	if (err)
		close_ring(ring);
	return err;
}

/*
 * A shared ring does without COOP_TASKRUN: a thread that computes and makes no
 * system calls would hold up the completions of what it has submitted.
 */
static int setup_kind(struct uring *ring, enum ring_kind kind, int size)
{
	int err;

	if (kind == RING_SHARED)
		return setup_ring(ring, 0, size);
	err = setup_ring(ring, IORING_SETUP_SINGLE_ISSUER |
				       IORING_SETUP_DEFER_TASKRUN |
				       IORING_SETUP_TASKRUN_FLAG,
			 size);
	if (!err)
		err = setup_event_fd(ring);
	if (err == -EINVAL) /* before Linux 6.1, or it would not poll */
		return setup_ring(ring, 0, size);
	return err;
}

/* What to do about an error of io_uring_setup, _enter or _register. */
static const char *explain(int err)
{
	switch (err) {
	case -EPERM:
	case -EACCES:
		return "io_uring is forbidden here: by a seccomp profile "
		       "(containers: use one that allows io_uring_setup, "
		       "io_uring_enter and io_uring_register, all three), or "
		       "by the sysctl kernel.io_uring_disabled (set it to 0)";
	case -ENOSYS:
		return "this kernel has no io_uring (CONFIG_IO_URING), or a "
		       "container's seccomp profile hides it";
	case -EOPNOTSUPP:
		return "io_uring is switched off here, as in the sandboxes of "
		       "some providers of containers (gVisor, managed "
		       "Kubernetes): nothing inside can switch it on, ask for "
		       "nodes without that sandbox";
	case -EINVAL:
		return "io_uring of this kernel is too old: Linux 5.19 or "
		       "later is needed";
	case -ENOMEM:
		return "no memory for io_uring: before Linux 5.12, and again "
		       "since about 6.14, its rings count against "
		       "RLIMIT_MEMLOCK, of all processes of a user together "
		       "(ulimit -l; LimitMEMLOCK= of systemd): 12 KiB for a "
		       "context at least, 88 KiB where there is enough";
	case -EMFILE:
	case -ENFILE:
		return "no descriptor left for io_uring (ulimit -n)";
	}
	return "io_uring refuses to work, for a reason unknown";
}

/* Memory that the kernel reads stays this process's across a fork(). */
static int setup_pool(struct uring *ring)
{
	struct io_uring_buf_reg reg = {
		.ring_entries = RING_BUFFERS,
		.bgid = POOL_GROUP,
	};
	int err;

	ring->pool = mmap(NULL, POOL_BYTES, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (ring->pool == MAP_FAILED) {
		ring->pool = NULL;
		return -ENOMEM;
	}
	madvise(ring->pool, POOL_BYTES, MADV_DONTFORK);
	io_uring_buf_ring_init(ring->pool);
	reg.ring_addr = (uintptr_t)ring->pool;
	err = io_uring_register_buf_ring(&ring->uring, &reg, 0);
	return err < 0 ? err : 0;
}

static void release_pool(struct uring *ring)
{
	if (ring->pool)
		munmap(ring->pool, POOL_BYTES);
	ring->pool = NULL;
}

/* A sandbox may allow one system call of three: each is tried here. */
static int setup(struct uring *ring, int size)
{
	int err = setup_kind(ring, ring->base.kind, size);

	if (err)
		return err;
	err = io_uring_get_events(&ring->uring);
	if (err >= 0)
		err = setup_pool(ring);
	if (!err)
		return 0;
	close_ring(ring);
	release_pool(ring);
	return err;
}

int ring_uring_new(struct ring **out, enum ring_kind kind, const char **why)
{
	const int sizes = sizeof(ring_sizes) / sizeof(ring_sizes[0]);
	struct uring *ring = calloc(1, sizeof(*ring));
	int err = -ENOMEM, i;

	*why = "no memory for a ring";
	if (!ring)
		return -ENOMEM;
	ring->base.ops = &uring_ops;
	ring->base.kind = kind;
	ring->own.fd = ring->event.fd = -1;
	for (i = 0; i < sizes && err == -ENOMEM; i++)
		err = setup(ring, i);
	/* what a ring had counts for some time after it was freed */
	for (i = 0; i < MANY_TRIES && err == -ENOMEM; i++) {
		nap();
		err = setup(ring, sizes - 1);
	}
	if (err) {
		*why = explain(err);
		free(ring);
		return err == -EINVAL ? -ENOSYS : err;
	}
	io_uring_ring_dontfork(&ring->uring);
	*why = NULL;
	*out = &ring->base;
	return 0;
}

static bool uring_free(struct ring *base)
{
	struct uring *ring = uring_of(base);
	struct io_uring_sync_cancel_reg all = {
		.fd = -1,
		.flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL,
	};
	int err = -EBADF;

	/*
	 * The kernel cancels what is left by itself, but some time after the
	 * descriptor is closed: until then a receive could still write.
	 */
	if (own_fd_is_ours(&ring->own))
		err = io_uring_register_sync_cancel(&ring->uring, &all);
	close_ring(ring);
	if (err < 0 && err != -ENOENT)
		ring->pool = NULL; /* the kernel may still look into it */
	release_pool(ring);
	free(ring);
	return err >= 0 || err == -ENOENT;
}

static int uring_fd(const struct ring *base)
{
	const struct uring *ring = uring_of(base);

	return ring->event.fd >= 0 ? ring->event.fd : ring->own.fd;
}

/* Make room for count entries, so that they go in one submission. */
static bool have_room(struct uring *ring, unsigned count)
{
	if (io_uring_sq_space_left(&ring->uring) < count)
		uring_submit(&ring->base);
	return io_uring_sq_space_left(&ring->uring) >= count;
}

static struct io_uring_sqe *next_sqe(struct uring *ring)
{
	return have_room(ring, 1) ? io_uring_get_sqe(&ring->uring) : NULL;
}

static void set_tagged(struct io_uring_sqe *sqe, struct ring_op *op,
		       unsigned tag)
{
	io_uring_sqe_set_data64(sqe, (uintptr_t)op | tag);
}

static int uring_send(struct ring *base, int fd, const void *buf, size_t len,
	      struct ring_op *op)
{
	struct uring *ring = uring_of(base);
	struct io_uring_sqe *sqe = next_sqe(ring);

	if (!sqe)
		return -EAGAIN;
	io_uring_prep_send(sqe, fd, buf, len, MSG_NOSIGNAL | MSG_WAITALL);
	set_tagged(sqe, op, 0);
	return 0;
}

static int uring_sendmsg(struct ring *base, int fd, const struct msghdr *msg,
		 struct ring_op *op)
{
	struct uring *ring = uring_of(base);
	struct io_uring_sqe *sqe = next_sqe(ring);

	if (!sqe)
		return -EAGAIN;
	io_uring_prep_sendmsg(sqe, fd, msg, MSG_NOSIGNAL | MSG_WAITALL);
	set_tagged(sqe, op, 0);
	return 0;
}

/* Spare the kernel a look for data where there was none a moment ago. */
static void wait_if_drained(struct io_uring_sqe *sqe, const struct ring_op *op)
{
	if (op->drained)
		sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
}

static int uring_recv(struct ring *base, int fd, void *buf, size_t len,
	      struct ring_op *op)
{
	struct uring *ring = uring_of(base);
	struct io_uring_sqe *sqe = next_sqe(ring);

	if (!sqe)
		return -EAGAIN;
	io_uring_prep_recv(sqe, fd, buf, len, 0);
	wait_if_drained(sqe, op);
	set_tagged(sqe, op, 0);
	return 0;
}

static int recv_pooled(struct uring *ring, int fd, int flags,
		       struct ring_op *op)
{
	struct io_uring_sqe *sqe = next_sqe(ring);

	if (!sqe)
		return -EAGAIN;
	io_uring_prep_recv(sqe, fd, NULL, 0, flags);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = POOL_GROUP;
	if (!flags)
		wait_if_drained(sqe, op);
	set_tagged(sqe, op, 0);
	return 0;
}

static int uring_recv_pooled(struct ring *base, int fd, struct ring_op *op)
{
	struct uring *ring = uring_of(base);

	return recv_pooled(ring, fd, 0, op);
}

static int uring_take_pooled(struct ring *base, int fd, struct ring_op *op)
{
	struct uring *ring = uring_of(base);

	return recv_pooled(ring, fd, MSG_DONTWAIT, op);
}

/*
 * Where the sendmsg succeeds, only the read completes. Where it fails or is
 * short (which MSG_WAITALL makes break the link), the kernel posts the
 * sendmsg's completion after all and none for the read. A read, since only
 * read(2)'s path is asynchronous in AF_ALG: recv and recvmsg wait in the call.
 */
static int uring_engine_request(struct ring *base, int fd, const struct msghdr *msg,
			void *out, size_t len, struct ring_op *op)
{
	struct uring *ring = uring_of(base);
	struct io_uring_sqe *sqe;

	if (!have_room(ring, 2))
		return -EAGAIN;
	sqe = io_uring_get_sqe(&ring->uring);
	io_uring_prep_sendmsg(sqe, fd, msg, MSG_NOSIGNAL | MSG_WAITALL);
	sqe->flags |= IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;
	set_tagged(sqe, op, TAG_REQUEST);
	sqe = io_uring_get_sqe(&ring->uring);
	io_uring_prep_read(sqe, fd, out, (unsigned)len, 0);
	set_tagged(sqe, op, 0);
	return 0;
}

static int uring_poll(struct ring *base, int fd, unsigned events, struct ring_op *op)
{
	struct uring *ring = uring_of(base);
	struct io_uring_sqe *sqe = next_sqe(ring);

	if (!sqe)
		return -EAGAIN;
	io_uring_prep_poll_add(sqe, fd, events);
	set_tagged(sqe, op, 0);
	return 0;
}

static int uring_cancel(struct ring *base, struct ring_op *op)
{
	struct uring *ring = uring_of(base);
	struct io_uring_sqe *sqe = next_sqe(ring);

	if (!sqe)
		return -EAGAIN;
	io_uring_prep_cancel(sqe, op, 0);
	sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	set_tagged(sqe, NULL, TAG_CANCEL);
	return 0;
}

static int uring_wake(struct ring *base)
{
	struct uring *ring = uring_of(base);
	struct io_uring_sqe *sqe = next_sqe(ring);

	if (!sqe)
		return -EAGAIN;
	io_uring_prep_nop(sqe);
	set_tagged(sqe, NULL, 0);
	return uring_submit(&ring->base);
}

static void uring_pool_add(struct ring *base, void *buf, size_t len, int buffer)
{
	struct uring *ring = uring_of(base);

	io_uring_buf_ring_add(ring->pool, buf, (unsigned)len,
			      (unsigned short)buffer,
			      io_uring_buf_ring_mask(RING_BUFFERS), 0);
	io_uring_buf_ring_advance(ring->pool, 1);
}

static bool queue_draw(struct uring *ring, int fd, struct ring_op *op)
{
	struct io_uring_sqe *sqe = next_sqe(ring);

	if (!sqe)
		return false;
	io_uring_prep_read(sqe, fd, NULL, 0, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = POOL_GROUP;
	set_tagged(sqe, op, 0);
	return true;
}

/* Any read takes a buffer; an eventfd's ends inside the submission. */
static int uring_pool_draw(struct ring *base, unsigned count, struct ring_op *op)
{
	struct uring *ring = uring_of(base);
	int fd = eventfd(count, EFD_NONBLOCK | EFD_CLOEXEC | EFD_SEMAPHORE);
	unsigned queued = 0;

	if (fd < 0)
		return -errno;
	while (queued < count && queue_draw(ring, fd, op))
		queued++;
	uring_submit(&ring->base);
	close(fd);
	return (int)queued;
}

static bool uring_unsubmitted(const struct ring *base)
{
	const struct uring *ring = uring_of(base);

	return io_uring_sq_ready(&ring->uring) > 0;
}

/*
 * The kernel may stop half-way; it takes the rest when asked again. Where it
 * defers work it defers the second half of an engine request too, so it is
 * made to see to that at once.
 */
static int uring_submit(struct ring *base)
{
	struct uring *ring = uring_of(base);
	int n;

	while (uring_unsubmitted(&ring->base)) {
		if (lasting_error(ring))
			return lasting_error(ring);
		if (ring->event.fd >= 0)
			n = io_uring_submit_and_get_events(&ring->uring);
		else
			n = io_uring_submit(&ring->uring);
		ring_count(&ring->base, 1);
		note(ring, n);
		if (n == 0 || (n < 0 && n != -EINTR))
			return n == 0 || ring_passes(n) ? -EAGAIN : n;
	}
	return 0;
}

static unsigned ready(const struct uring *ring)
{
	return io_uring_cq_ready(&ring->uring);
}

/* Are there completions that are due but not in the queue? */
static bool deferred(const struct uring *ring)
{
	unsigned flags = IO_URING_READ_ONCE(*ring->uring.sq.kflags);

	return flags & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN);
}

/*
 * All eventfds of a kernel look the same, but who closes everything closes the
 * ring, too, which is known at once where the ring is asked for something.
 */
static bool have_event(struct uring *ring)
{
	if (ring->event.fd >= 0 && !own_fd_is_ours(&ring->own))
		note(ring, -EBADF);
	return ring->event.fd >= 0 && !lasting_error(ring);
}

static bool uring_listen(struct ring *base)
{
	struct uring *ring = uring_of(base);

	if (ring->event.fd >= 0 && !ring->listening) {
		ring->listening = true;
		io_uring_cq_eventfd_toggle(&ring->uring, true);
		atomic_thread_fence(memory_order_seq_cst);
	}
	return !ready(ring) && !deferred(ring);
}

/* Without an eventfd there is nothing that could be done. */
static void uring_nudge(struct ring *base)
{
	struct uring *ring = uring_of(base);

	if (have_event(ring))
		eventfd_write(ring->event.fd, 1);
}

/* Fetch them. Whether the kernel was asked, and answered. */
static bool fetch_deferred(struct uring *ring)
{
	if (!deferred(ring) || lasting_error(ring))
		return false;
	ring_count(&ring->base, 1);
	return note(ring, io_uring_get_events(&ring->uring)) >= 0;
}

static void stop_listening(struct uring *ring, bool known)
{
	eventfd_t count;

	ring->listening = false;
	io_uring_cq_eventfd_toggle(&ring->uring, false);
	if (known || have_event(ring))
		eventfd_read(ring->event.fd, &count);
}

static unsigned uring_ready(const struct ring *base)
{
	const struct uring *ring = uring_of(base);

	return io_uring_cq_ready(&ring->uring);
}

/* Take the entry at the head off the queue. */
static bool next_cqe(struct uring *ring, struct io_uring_cqe *cqe)
{
	struct io_uring_cq *cq = &ring->uring.cq;
	unsigned head = *cq->khead;

	if (head == io_uring_smp_load_acquire(cq->ktail))
		return false;
	*cqe = cq->cqes[head & cq->ring_mask];
	io_uring_cq_advance(&ring->uring, 1);
	return true;
}

static bool deliver(const struct io_uring_cqe *cqe)
{
	const uint64_t address = cqe->user_data & ~(uint64_t)TAG_MASK;
	struct ring_op *op = (struct ring_op *)(uintptr_t)address;
	int buffer = -1;
	int result = cqe->res;

	if (!op)
		return false;
	if (cqe->flags & IORING_CQE_F_BUFFER)
		buffer = (int)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
	if (cqe->user_data & TAG_REQUEST && result >= 0)
		result = -EIO; /* a short sendmsg */
	op->drained = result > 0 && !(cqe->flags & IORING_CQE_F_SOCK_NONEMPTY);
	op->done(op, result, buffer);
	return true;
}

/*
 * An entry leaves the queue before its done() is called, since that may queue
 * and submit. What completes inside such a submit waits for the next reap: an
 * operation that always completes at once must not keep the caller here.
 */
static unsigned uring_reap(struct ring *base)
{
	struct uring *ring = uring_of(base);
	struct io_uring_cqe cqe;
	bool asked = fetch_deferred(ring);
	unsigned left, count = 0;

	if (ring->listening)
		stop_listening(ring, asked);
	left = ready(ring);
	while (left-- && next_cqe(ring, &cqe))
		count += deliver(&cqe);
	return count;
}

static struct __kernel_timespec kernel_timespec_of(int64_t ns)
{
	struct __kernel_timespec ts = { .tv_sec = 1 << 30 };

	if (ns >= 0) {
		ts.tv_sec = ns / 1000000000;
		ts.tv_nsec = ns % 1000000000;
	}
	return ts;
}

/* Waits for a completion. Leaves liburing's own state alone. */
static int enter_and_wait(struct uring *ring, unsigned submit,
			  struct __kernel_timespec *ts)
{
	struct io_uring_getevents_arg arg = { .ts = (uintptr_t)ts };
	unsigned flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;

	/* who waits for a peer does not wait for a disk */
	if (ring->uring.features & IORING_FEAT_NO_IOWAIT)
		flags |= IORING_ENTER_NO_IOWAIT;
	ring_count(&ring->base, 1);
	return note(ring, io_uring_enter2((unsigned)ring->own.fd, submit, 1,
					  flags, (sigset_t *)&arg,
					  sizeof(arg)));
}

/*
 * Show the kernel what was queued; how much it has yet to take. liburing does
 * that in its own calls only, none of which can say IORING_ENTER_NO_IOWAIT.
 */
static unsigned publish(struct io_uring_sq *sq)
{
	for (; sq->sqe_head != sq->sqe_tail; sq->sqe_head++)
		if (sq->array)
			sq->array[sq->sqe_head & sq->ring_mask] =
				sq->sqe_head & sq->ring_mask;
	io_uring_smp_store_release(sq->ktail, sq->sqe_tail);
	return sq->sqe_tail - io_uring_smp_load_acquire(sq->khead);
}

/* Submits and waits in one system call. */
static int wait_owned(struct uring *ring, struct __kernel_timespec *ts)
{
	unsigned submit = publish(&ring->uring.sq);
	int n = 0;

	if (submit || !ready(ring))
		n = enter_and_wait(ring, submit, ts);
	if (ready(ring))
		return 0;
	/* with something submitted, the kernel reports that, not why it woke */
	return n < 0 ? n : -ETIME;
}

/*
 * Runs beside other calls without their lock. The kernel looks for completions
 * itself before it sleeps.
 */
static int wait_shared(struct uring *ring, struct __kernel_timespec *ts)
{
	int n = enter_and_wait(ring, 0, ts);

	return n < 0 ? n : 0;
}

/* Memory comes back, or it does not: a caller that tries again must not spin. */
static void bear_refusal(struct uring *ring, int result)
{
	if (!ring_lacks(result)) {
		atomic_store_explicit(&ring->refusals, 0, memory_order_relaxed);
		return;
	}
	if (atomic_fetch_add(&ring->refusals, 1) < MANY_REFUSALS)
		nap();
	else
		atomic_store(&ring->base.error, result);
}

static int uring_wait(struct ring *base, int64_t timeout_ns)
{
	struct uring *ring = uring_of(base);
	struct __kernel_timespec ts;
	int ret = lasting_error(ring);

	if (ret)
		return ret;
	if (ring->base.kind == RING_OWNED) {
		ts = kernel_timespec_of(timeout_ns);
		ret = wait_owned(ring, &ts);
	} else {
		if (timeout_ns < 0 || timeout_ns > LONGEST_WAIT_NS)
			timeout_ns = LONGEST_WAIT_NS;
		ts = kernel_timespec_of(timeout_ns);
		ret = wait_shared(ring, &ts);
	}
	if (ring_lacks(ret) || atomic_load_explicit(&ring->refusals,
						   memory_order_relaxed))
		bear_refusal(ring, ret);
	return ret;
}

/* ---- Another owner ------------------------------------------------------ */

/*
 * The registration went with the thread. Under its number the caller may have
 * a ring of its own, which liburing would take in place of this one.
 */
static void forget_registration(struct uring *ring)
{
	enum { REGISTERED = 1 }; /* liburing's INT_FLAG_REG_RING */

	ring->uring.int_flags &= (uint8_t)~REGISTERED;
	ring->uring.enter_ring_fd = ring->uring.ring_fd;
}

/* Of an engine's request, two entries, the second one is the operation. */
static void end_unsubmitted(struct uring *ring)
{
	const struct io_uring_sq *sq = &ring->uring.sq;
	unsigned i;

	for (i = *sq->khead; i != sq->sqe_tail; i++) {
		uint64_t data = sq->sqes[i & sq->ring_mask].user_data;
		struct ring_op *op = (struct ring_op *)(uintptr_t)data;

		if (op && !(data & TAG_MASK))
			op->done(op, -ECANCELED, -1);
	}
}

static int uring_renew(struct ring *base, const char **why)
{
	struct uring *ring = uring_of(base);
	struct uring *fresh, old;
	struct ring *made;
	struct io_uring_cqe cqe;
	int err;

	forget_registration(ring);
	err = ring_uring_new(&made, ring->base.kind, why);
	if (err) {
		note(ring, ring_passes(err) ? -EIO : err);
		return err;
	}
	fresh = uring_of(made);
	old = *ring;
	*ring = *fresh;
	ring->base.enters += old.base.enters;
	/* what done() queues goes to the new one */
	while (next_cqe(&old, &cqe))
		deliver(&cqe);
	end_unsubmitted(&old);
	io_uring_buf_ring_init(ring->pool);
	*fresh = old;
	uring_free(made);
	return 0;
}

static const struct ring_ops uring_ops = {
	.name = "io_uring",
	.free = uring_free,
	.fd = uring_fd,
	.listen = uring_listen,
	.nudge = uring_nudge,
	.send = uring_send,
	.sendmsg = uring_sendmsg,
	.recv = uring_recv,
	.recv_pooled = uring_recv_pooled,
	.take_pooled = uring_take_pooled,
	.engine_request = uring_engine_request,
	.poll = uring_poll,
	.cancel = uring_cancel,
	.wake = uring_wake,
	.pool_add = uring_pool_add,
	.pool_draw = uring_pool_draw,
	.renew = uring_renew,
	.unsubmitted = uring_unsubmitted,
	.submit = uring_submit,
	.ready = uring_ready,
	.reap = uring_reap,
	.wait = uring_wait,
};
