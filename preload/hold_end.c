// SPDX-License-Identifier: MIT
/* What is held, when the descriptor or the process comes to its end. */
#include "hold_inside.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static pid_t mine;
static _Atomic uint64_t orphans;

void hold_pid_is_mine(void)
{
	mine = getpid();
}

bool hold_is_mine(void)
{
	return getpid() == mine;
}

/* Not through what is interposed, nor to be seen by who waits for a signal. */
static void nap(void)
{
	struct timespec ts = { .tv_nsec = NS_PER_MS };

	syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &ts, NULL);
}

/* ---- Orphans ----------------------------------------------------------- */

void orphan_end(struct orphan *orphan)
{
	if (orphan->shut && hold_is_mine())
		syscall(SYS_shutdown, orphan->held.fd, SHUT_WR);
	syscall(SYS_close, orphan->held.fd);
	free(orphan->held.bytes);
	free(orphan);
	atomic_fetch_sub(&orphans, 1);
}

static struct orphan *orphan_new(const struct held *h, bool shut)
{
	struct orphan *orphan = malloc(sizeof(*orphan));
	uint8_t *bytes = malloc(h->owed);
	int fd = fcntl(h->fd, F_DUPFD_CLOEXEC, 3);

	if (!orphan || !bytes || fd < 0) {
		if (fd >= 0)
			syscall(SYS_close, fd);
		free(orphan);
		free(bytes);
		return NULL;
	}
	*orphan = (struct orphan){
		.held = { .fd = fd, .bytes = bytes, .end = h->owed,
			  .size = h->owed, .owed = h->owed },
		.until = now_ns() + (uint64_t)HOLD_ORPHAN_MS * NS_PER_MS,
		.shut = shut,
	};
	list_init(&orphan->held.node);
	memcpy(bytes, h->bytes + h->start, h->owed);
	return orphan;
}

void held_wait(struct holder *holder, struct held *h)
{
	uint64_t until = now_ns() + (uint64_t)HOLD_END_MS * NS_PER_MS;

	while (!holder_push(holder, h, BY_END)) {
		if (now_ns() >= until) {
			h->start = h->end;
			h->owed = 0;
			h->error = -ETIMEDOUT;
			return;
		}
		nap();
	}
}

void orphan_of(struct held *h, bool shut)
{
	struct orphan *orphan =
		pusher_ready() ? orphan_new(h, shut) : NULL;

	if (orphan) {
		atomic_fetch_add(&orphans, 1);
		pthread_mutex_lock(&hold_orphanage.lock);
		holder_list(&hold_orphanage, &orphan->held, true);
		pthread_mutex_unlock(&hold_orphanage.lock);
		pusher_wake();
	} else {
		held_wait(&hold_orphanage, h);
	}
	h->start = h->end;
	h->owed = 0;
}

/* ---- Descriptors ------------------------------------------------------- */

static bool holds_any(struct holder *holder)
{
	return atomic_load_explicit(&holder->held, memory_order_relaxed) ||
	       atomic_load_explicit(&holder->owing, memory_order_relaxed);
}

static struct held *find(struct list *list, unsigned from, unsigned to)
{
	for (struct list *l = list->next; l != list; l = l->next) {
		struct held *h = container_of(l, struct held, node);

		if (h->fd >= 0 && (unsigned)h->fd >= from &&
		    (unsigned)h->fd <= to)
			return h;
	}
	return NULL;
}

/* true: something was left, and is an orphan's now. */
static bool part_with(struct holder *holder, unsigned from, unsigned to,
		      bool shut)
{
	bool left = false;
	struct held *h;

	pthread_mutex_lock(&holder->lock);
	while ((h = find(&holder->fresh, from, to)) ||
	       (h = find(&holder->stuck, from, to))) {
		if (!hold_is_mine())
			break;
		if (!holder_push(holder, h, BY_END)) {
			orphan_of(h, shut);
			left = true;
		}
		held_release(h, holder, true);
		holder_unlist(holder, h);
	}
	pthread_mutex_unlock(&holder->lock);
	return left;
}

static bool before_close(unsigned from, unsigned to, bool shut)
{
	int saved = errno;
	bool left = false, was;

	for each_holder(holder) {
		if (holder == &hold_orphanage || !holds_any(holder))
			continue;
		was = section_enter();
		left |= part_with(holder, from, to, shut);
		section_leave(was);
	}
	errno = saved;
	return left;
}

void hold_before_close(int fd)
{
	if (fd >= 0)
		before_close((unsigned)fd, (unsigned)fd, false);
}

void hold_before_close_range(unsigned from, unsigned to)
{
	before_close(from, to, false);
}

bool hold_before_shutdown(int fd)
{
	return fd >= 0 && before_close((unsigned)fd, (unsigned)fd, true);
}

/* ---- The process ------------------------------------------------------- */

void hold_flush_mine(void)
{
	struct holder *holder = hold_here.mine;
	int saved = errno;
	bool was;

	if (!holder || !holds_any(holder) || !hold_is_mine())
		return;
	was = section_enter();
	holder_flush(holder, BY_SLEEP);
	section_leave(was);
	errno = saved;
}

void hold_flush_process(void)
{
	int saved = errno;
	bool was = section_enter();

	for each_holder(holder)
		if (holds_any(holder) && hold_is_mine())
			holder_flush(holder, BY_END);
	section_leave(was);
	errno = saved;
}

/* What is left: for want of room, or as another thread is at it just now. */
enum left { NOTHING, BUSY, ROOM };

static enum left push_all(struct holder *holder, struct list *list,
			  unsigned fd)
{
	enum left left = NOTHING;

	for (struct list *l = list->next; l != list; l = l->next) {
		struct held *h = container_of(l, struct held, node);

		if (fd != UINT_MAX && (unsigned)h->fd != fd)
			continue;
		if (!holder_push(holder, h, BY_END))
			left = ROOM;
		else if (holder == &hold_orphanage &&
			 container_of(h, struct orphan, held)->shut)
			syscall(SYS_shutdown, h->fd, SHUT_WR);
	}
	return left;
}

/* In the handler of a signal that came while this thread had it in hand. */
static void push_current(struct holder *holder, struct held *h)
{
	size_t promised = atomic_exchange(&holder->promised, 0);
	size_t left = promised;
	ssize_t n;

	while (left) {
		n = send(h->fd, h->bytes + h->start, left,
			 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n <= 0)
			break;
		h->start += (size_t)n;
		left -= (size_t)n;
	}
	h->owed -= min_size(h->owed, promised - left);
}

static enum left drain_one(struct holder *holder, unsigned fd)
{
	struct held *current = atomic_load(&holder->current);
	enum left left = NOTHING, more;

	if (current && atomic_load(&holder->promised)) {
		if (holder == hold_here.mine)
			push_current(holder, current);
		else
			left = BUSY;
	}
	if (!holds_any(holder))
		return left;
	if (pthread_mutex_trylock(&holder->lock))
		return BUSY;
	more = push_all(holder, &holder->fresh, fd);
	if (more > left)
		left = more;
	more = push_all(holder, &holder->stuck, fd);
	pthread_mutex_unlock(&holder->lock);
	return more > left ? more : left;
}

/*
 * Nothing is taken off the lists, and no memory let go of, since this may be in
 * the handler of a signal.
 */
static void drain(unsigned fd, int timeout_ms)
{
	enum { PATIENCE_MS = 100 }; /* with other threads */
	uint64_t begun = now_ns(), waited;
	enum left left, worst;
	int saved = errno;

	for (;;) {
		worst = NOTHING;
		for each_holder(holder) {
			left = drain_one(holder, fd);
			if (left > worst)
				worst = left;
		}
		waited = (now_ns() - begun) / NS_PER_MS;
		if (worst == NOTHING || waited >= (uint64_t)timeout_ms ||
		    (worst == BUSY && waited >= PATIENCE_MS))
			break;
		nap();
	}
	errno = saved;
}

void hold_drain_dying(int timeout_ms)
{
	bool was;

	if (!hold_is_mine())
		return;
	was = section_enter();
	drain(UINT_MAX, timeout_ms);
	section_leave(was);
}

void hold_drain_process(int timeout_ms)
{
	hold_drain_dying(timeout_ms);
}

void hold_drain_fd(int fd, int timeout_ms)
{
	bool was;

	if (fd < 0 || !hold_is_mine())
		return;
	was = section_enter();
	drain((unsigned)fd, timeout_ms);
	section_leave(was);
}

struct hold_counts hold_counts(void)
{
	struct hold_counts c = { .ticks = pusher_ticks(),
				 .orphans = atomic_load(&orphans) };

	for each_holder(holder) {
		for (int why = 0; why < WHYS; why++)
			c.sends += atomic_load(&holder->sends[why]);
		c.bytes += atomic_load(&holder->bytes);
		c.by_timer += atomic_load(&holder->sends[BY_TIMER]);
		c.by_sleep += atomic_load(&holder->sends[BY_SLEEP]);
		c.by_limit += atomic_load(&holder->sends[BY_LIMIT]);
		c.by_end += atomic_load(&holder->sends[BY_END]);
		c.stuck += atomic_load(&holder->stuck_so_far);
	}
	return c;
}
