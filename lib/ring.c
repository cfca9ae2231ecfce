/* SPDX-License-Identifier: MIT */
#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <liburing.h>

enum {
	SQ_ENTRIES = 256,
	CQ_ENTRIES = 4096,
	POOL_GROUP = 0,
	POOL_BYTES = RING_BUFFERS * sizeof(struct io_uring_buf),
};

/*
 * user_data is the address of the ring_op, with a tag in its low bits for
 * what is not the operation itself. 0 is a wake.
 */
enum {
	TAG_REQUEST = 1, /* the sendmsg before an engine's read */
	TAG_CANCEL = 2,
	TAG_MASK = 3,
};

struct ring {
	struct io_uring uring;
	struct io_uring_buf_ring *pool;
	enum ring_kind kind;
	int event_fd;	/* polls for a ring that defers its work; else -1 */
	bool listening; /* the kernel may signal event_fd */
	_Atomic uint64_t enters; /* ring_wait() counts beside the others */
};

static void count_enter(struct ring *ring)
{
	atomic_fetch_add_explicit(&ring->enters, 1, memory_order_relaxed);
}

static int setup_ring(struct ring *ring, unsigned flags)
{
	struct io_uring_params params = {
		.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP |
			 IORING_SETUP_SUBMIT_ALL | flags,
		.cq_entries = CQ_ENTRIES,
	};

	return io_uring_queue_init_params(SQ_ENTRIES, &ring->uring, &params);
}

/*
 * Does work deferred from a wake-up signal the eventfd, and at once? Stable
 * kernels of 2026 (seen: 6.12.117) leave that signal to an RCU callback, which
 * never forgets that it is pending: the first comes late, the others never.
 * Leaves the signal switched off, as ring_listen() expects. 0 if it does,
 * -EINVAL if not, or -errno.
 */
static int check_signal(struct ring *ring)
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
	signalled = eventfd_read(ring->event_fd, &count) == 0;
	io_uring_cq_eventfd_toggle(&ring->uring, false);
	if (n == 1 && io_uring_wait_cqe(&ring->uring, &cqe) == 0)
		io_uring_cqe_seen(&ring->uring, cqe);
	eventfd_read(ring->event_fd, &count);
	close(fd[0]);
	if (n < 0)
		return n;
	return signalled ? 0 : -EINVAL;
}

/*
 * Deferred work signals an eventfd, but does not wake who polls the ring's own
 * descriptor: that takes a completion, which waits for the owner.
 */
static int setup_event_fd(struct ring *ring)
{
	int err;

	ring->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (ring->event_fd < 0)
		err = -errno;
	else
		err = io_uring_register_eventfd(&ring->uring, ring->event_fd);
	if (!err)
		err = check_signal(ring);
	if (!err)
		return 0;
	io_uring_queue_exit(&ring->uring);
	if (ring->event_fd >= 0)
		close(ring->event_fd);
	ring->event_fd = -1;
	return err;
}

/*
 * A shared ring does without COOP_TASKRUN: a thread that computes and makes no
 * system calls would hold up the completions of what it has submitted.
 */
static int setup_kind(struct ring *ring, enum ring_kind kind)
{
	int err;

	if (kind == RING_SHARED)
		return setup_ring(ring, 0);
	err = setup_ring(ring, IORING_SETUP_SINGLE_ISSUER |
				       IORING_SETUP_DEFER_TASKRUN |
				       IORING_SETUP_TASKRUN_FLAG);
	if (!err)
		err = setup_event_fd(ring);
	if (err == -EINVAL) /* before Linux 6.1, or it would not poll */
		return setup_ring(ring, 0);
	return err;
}

static const char *explain_setup(int err)
{
	switch (err) {
	case -EPERM:
	case -EACCES:
		return "io_uring is forbidden here: by a seccomp profile "
		       "(containers: use one that allows io_uring_setup, "
		       "io_uring_enter and io_uring_register), or by the "
		       "sysctl kernel.io_uring_disabled (set it to 0)";
	case -ENOSYS:
		return "this kernel has no io_uring (CONFIG_IO_URING), or a "
		       "container's seccomp profile hides it";
	case -EINVAL:
		return "io_uring of this kernel is too old: Linux 5.19 or "
		       "later is needed";
	case -ENOMEM:
		return "no memory for io_uring: on kernels before 5.12 it "
		       "counts against RLIMIT_MEMLOCK (ulimit -l)";
	case -EMFILE:
	case -ENFILE:
		return "no descriptor left for io_uring (ulimit -n)";
	}
	return "io_uring_setup failed";
}

/* Memory that the kernel reads stays this process's across a fork(). */
static int setup_pool(struct ring *ring)
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

int ring_new(struct ring **out, enum ring_kind kind, const char **why)
{
	struct ring *ring = calloc(1, sizeof(*ring));
	int err;

	*why = "no memory for a ring";
	if (!ring)
		return -ENOMEM;
	ring->kind = kind;
	ring->event_fd = -1;
	err = setup_kind(ring, kind);
	if (err) {
		*why = explain_setup(err);
		if (ring->event_fd >= 0)
			close(ring->event_fd);
		free(ring);
		return err == -EINVAL ? -ENOSYS : err;
	}
	io_uring_ring_dontfork(&ring->uring);
	err = setup_pool(ring);
	if (err) {
		*why = err == -EINVAL ? explain_setup(err)
				      : "io_uring took no buffer ring";
		ring_free(ring);
		return err == -EINVAL ? -ENOSYS : err;
	}
	if (kind == RING_OWNED) /* registered per thread; only saves time */
		io_uring_register_ring_fd(&ring->uring);
	*why = NULL;
	*out = ring;
	return 0;
}

void ring_free(struct ring *ring)
{
	struct io_uring_sync_cancel_reg all = {
		.fd = -1,
		.flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL,
	};

	if (!ring)
		return;
	/*
	 * The kernel cancels what is left by itself, but some time after the
	 * descriptor is closed: until then a receive could still write.
	 */
	io_uring_register_sync_cancel(&ring->uring, &all);
	io_uring_queue_exit(&ring->uring);
	if (ring->event_fd >= 0)
		close(ring->event_fd);
	if (ring->pool)
		munmap(ring->pool, POOL_BYTES);
	free(ring);
}

int ring_fd(const struct ring *ring)
{
	return ring->event_fd >= 0 ? ring->event_fd : ring->uring.ring_fd;
}

/* Make room for count entries, so that they go in one submission. */
static bool have_room(struct ring *ring, unsigned count)
{
	if (io_uring_sq_space_left(&ring->uring) < count)
		ring_submit(ring);
	return io_uring_sq_space_left(&ring->uring) >= count;
}

static struct io_uring_sqe *next_sqe(struct ring *ring)
{
	return have_room(ring, 1) ? io_uring_get_sqe(&ring->uring) : NULL;
}

static void set_tagged(struct io_uring_sqe *sqe, struct ring_op *op, int tag)
{
	io_uring_sqe_set_data64(sqe, (uintptr_t)op | tag);
}

int ring_send(struct ring *ring, int fd, const void *buf, size_t len,
	      struct ring_op *op)
{
	struct io_uring_sqe *sqe = next_sqe(ring);

	if (!sqe)
		return -EAGAIN;
	io_uring_prep_send(sqe, fd, buf, len, MSG_NOSIGNAL | MSG_WAITALL);
	set_tagged(sqe, op, 0);
	return 0;
}

int ring_sendmsg(struct ring *ring, int fd, const struct msghdr *msg,
		 struct ring_op *op)
{
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

int ring_recv(struct ring *ring, int fd, void *buf, size_t len,
	      struct ring_op *op)
{
	struct io_uring_sqe *sqe = next_sqe(ring);

	if (!sqe)
		return -EAGAIN;
	io_uring_prep_recv(sqe, fd, buf, len, 0);
	wait_if_drained(sqe, op);
	set_tagged(sqe, op, 0);
	return 0;
}

int ring_recv_pooled(struct ring *ring, int fd, struct ring_op *op)
{
	struct io_uring_sqe *sqe = next_sqe(ring);

	if (!sqe)
		return -EAGAIN;
	io_uring_prep_recv(sqe, fd, NULL, 0, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = POOL_GROUP;
	wait_if_drained(sqe, op);
	set_tagged(sqe, op, 0);
	return 0;
}

/*
 * Where the sendmsg succeeds, only the read completes. Where it fails or is
 * short (which MSG_WAITALL makes break the link), the kernel posts the
 * sendmsg's completion after all and none for the read. A read, since only
 * read(2)'s path is asynchronous in AF_ALG: recv and recvmsg wait in the call.
 */
int ring_engine_request(struct ring *ring, int fd, const struct msghdr *msg,
			void *out, size_t len, struct ring_op *op)
{
	struct io_uring_sqe *sqe;

	if (!have_room(ring, 2))
		return -EAGAIN;
	sqe = io_uring_get_sqe(&ring->uring);
	io_uring_prep_sendmsg(sqe, fd, msg, MSG_NOSIGNAL | MSG_WAITALL);
	sqe->flags |= IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;
	set_tagged(sqe, op, TAG_REQUEST);
	sqe = io_uring_get_sqe(&ring->uring);
	io_uring_prep_read(sqe, fd, out, len, 0);
	set_tagged(sqe, op, 0);
	return 0;
}

int ring_cancel(struct ring *ring, struct ring_op *op)
{
	struct io_uring_sqe *sqe = next_sqe(ring);

	if (!sqe)
		return -EAGAIN;
	io_uring_prep_cancel(sqe, op, 0);
	sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	set_tagged(sqe, NULL, TAG_CANCEL);
	return 0;
}

int ring_wake(struct ring *ring)
{
	struct io_uring_sqe *sqe = next_sqe(ring);

	if (!sqe)
		return -EAGAIN;
	io_uring_prep_nop(sqe);
	set_tagged(sqe, NULL, 0);
	return ring_submit(ring);
}

void ring_pool_add(struct ring *ring, void *buf, size_t len, int buffer)
{
	io_uring_buf_ring_add(ring->pool, buf, len, buffer,
			      io_uring_buf_ring_mask(RING_BUFFERS), 0);
	io_uring_buf_ring_advance(ring->pool, 1);
}

bool ring_unsubmitted(const struct ring *ring)
{
	return io_uring_sq_ready(&ring->uring) > 0;
}

/*
 * The kernel may stop half-way; it takes the rest when asked again. Where it
 * defers work it defers the second half of an engine request too, so it is
 * made to see to that at once.
 */
int ring_submit(struct ring *ring)
{
	int n;

	while (ring_unsubmitted(ring)) {
		if (ring->event_fd >= 0)
			n = io_uring_submit_and_get_events(&ring->uring);
		else
			n = io_uring_submit(&ring->uring);
		count_enter(ring);
		if (n == 0 || n == -EBUSY)
			return -EAGAIN;
		if (n < 0 && n != -EINTR)
			return n;
	}
	return 0;
}

/* Are there completions that are due but not in the queue? */
static bool deferred(const struct ring *ring)
{
	unsigned flags = IO_URING_READ_ONCE(*ring->uring.sq.kflags);

	return flags & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN);
}

bool ring_listen(struct ring *ring)
{
	if (ring->event_fd >= 0 && !ring->listening) {
		ring->listening = true;
		io_uring_cq_eventfd_toggle(&ring->uring, true);
		atomic_thread_fence(memory_order_seq_cst);
	}
	return !ring_ready(ring) && !deferred(ring);
}

/* Without an eventfd there is nothing that could be done. */
void ring_nudge(struct ring *ring)
{
	if (ring->event_fd >= 0)
		eventfd_write(ring->event_fd, 1);
}

static void stop_listening(struct ring *ring)
{
	eventfd_t count;

	ring->listening = false;
	io_uring_cq_eventfd_toggle(&ring->uring, false);
	eventfd_read(ring->event_fd, &count);
}

/* Fetch them. */
static void fetch_deferred(struct ring *ring)
{
	if (!deferred(ring))
		return;
	io_uring_get_events(&ring->uring);
	count_enter(ring);
}

unsigned ring_ready(const struct ring *ring)
{
	return io_uring_cq_ready(&ring->uring);
}

/* Take the entry at the head off the queue. */
static bool next_cqe(struct ring *ring, struct io_uring_cqe *cqe)
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
	struct ring_op *op =
		(struct ring_op *)(uintptr_t)(cqe->user_data & ~TAG_MASK);
	int buffer = -1;
	int result = cqe->res;

	if (!op)
		return false;
	if (cqe->flags & IORING_CQE_F_BUFFER)
		buffer = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
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
unsigned ring_reap(struct ring *ring)
{
	struct io_uring_cqe cqe;
	unsigned left, count = 0;

	if (ring->listening)
		stop_listening(ring);
	fetch_deferred(ring);
	left = ring_ready(ring);
	while (left-- && next_cqe(ring, &cqe))
		count += deliver(&cqe);
	return count;
}

static struct __kernel_timespec timespec_of(int64_t ns)
{
	struct __kernel_timespec ts = { .tv_sec = 1 << 30 };

	if (ns >= 0) {
		ts.tv_sec = ns / 1000000000;
		ts.tv_nsec = ns % 1000000000;
	}
	return ts;
}

/* Submits and waits in one system call. */
static int wait_owned(struct ring *ring, struct __kernel_timespec *ts)
{
	struct io_uring_cqe *cqe;
	int n;

	if (ring_unsubmitted(ring) || !ring_ready(ring))
		count_enter(ring);
	n = io_uring_submit_and_wait_timeout(&ring->uring, &cqe, 1, ts, NULL);
	if (ring_ready(ring))
		return 0;
	/* with something submitted, the kernel reports that, not why it woke */
	return n < 0 ? n : -ETIME;
}

/*
 * Runs beside other calls without their lock, so it leaves liburing's own
 * state alone. The kernel looks for completions itself before it sleeps.
 */
static int wait_shared(struct ring *ring, struct __kernel_timespec *ts)
{
	struct io_uring_getevents_arg arg = { .ts = (uintptr_t)ts };
	int n;

	count_enter(ring);
	n = io_uring_enter2(ring->uring.ring_fd, 0, 1,
			    IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG,
			    (sigset_t *)&arg, sizeof(arg));
	return n < 0 ? n : 0;
}

int ring_wait(struct ring *ring, int64_t timeout_ns)
{
	struct __kernel_timespec ts = timespec_of(timeout_ns);

	return ring->kind == RING_OWNED ? wait_owned(ring, &ts)
					: wait_shared(ring, &ts);
}

uint64_t ring_enters(const struct ring *ring)
{
	return atomic_load_explicit(&ring->enters, memory_order_relaxed);
}
