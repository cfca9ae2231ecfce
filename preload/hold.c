// SPDX-License-Identifier: MIT
#include "hold_inside.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

_Thread_local struct hold_here hold_here;
_Thread_local struct hold_section hold_section;
void (*hold_at_first)(void);
void (*hold_each_second)(void);

static atomic_bool gathers;
static unsigned unsent_limit = UINT_MAX; /* where a socket has none of its own */

static void read_unsent_limit(void)
{
	int fd = open("/proc/sys/net/ipv4/tcp_notsent_lowat",
		      O_RDONLY | O_CLOEXEC);
	char text[24];
	ssize_t n;

	if (fd < 0)
		return;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return;
	text[n] = '\0';
	unsent_limit = (unsigned)strtoul(text, NULL, 10);
}

void hold_start(bool gather)
{
	holder_init(&holder_of_all);
	holder_init(&hold_orphanage);
	hold_pid_is_mine();
	holder_main();
	read_unsent_limit();
	atomic_store(&gathers, gather);
	/* cannot be registered: then a child would send again what is held */
	if (pthread_atfork(holders_prepare_fork, holders_forked_parent,
			   holders_forked_child))
		atomic_store(&gathers, false);
}

void hold_no_more(void)
{
	atomic_store(&gathers, false);
}

void hold_init(struct held *h, int fd)
{
	*h = (struct held){ .fd = fd };
	list_init(&h->node);
}

void hold_destroy(struct held *h)
{
	hold_take(h);
	h->start = h->end = h->owed = 0;
	hold_leave(h);
}

void hold_section_act(void)
{
	void (*when)(int) = hold_section.when;

	hold_section.when = NULL;
	when(hold_section.arg);
}

bool hold_put_off(void (*when)(int), int arg)
{
	/* again, or is this thread never to come to the end of it? */
	if (!hold_section.in || hold_section.when)
		return false;
	hold_section.arg = arg;
	hold_section.when = when;
	return true;
}

void hold_take(struct held *h)
{
	struct holder *mine, *holder;

	section_enter();
	mine = holder_mine();
	while ((holder = atomic_load_explicit(&h->holder,
					      memory_order_acquire))) {
		pthread_mutex_lock(&holder->lock);
		/* has it been sent meanwhile? */
		if (atomic_load_explicit(&h->holder, memory_order_relaxed) ==
		    holder)
			holder_unlist(holder, h);
		pthread_mutex_unlock(&holder->lock);
	}
	h->refused = false;
	if (!mine)
		return;
	atomic_store_explicit(&mine->promised, h->owed, memory_order_relaxed);
	atomic_store_explicit(&mine->current, h, memory_order_release);
}

/* Many wait long for the socket: no more memory than they need. */
static void shrink(struct held *h, struct holder *mine)
{
	size_t len = hold_len(h);
	uint8_t *bytes;

	if (h->size != BUFFER || len > BUFFER / 2)
		return;
	bytes = malloc(len);
	if (!bytes)
		return;
	memcpy(bytes, h->bytes + h->start, len);
	h->start = h->end;
	held_release(h, mine, false);
	h->bytes = bytes;
	h->end = h->size = len;
}

/* What is owed, and not to be held, or cannot be. */
static void send_now(struct holder *holder, struct held *h, struct holder *mine,
		     enum why why)
{
	if (!holder_push(holder, h, why) && !pusher_ready())
		held_wait(holder, h);
	if (!h->owed) {
		h->due = 0;
		h->stuck = false;
		held_release(h, mine, false);
		return;
	}
	shrink(h, mine);
	pthread_mutex_lock(&holder->lock);
	holder_list(holder, h, true);
	pthread_mutex_unlock(&holder->lock);
	pusher_wake();
}

static void gather(struct holder *mine, struct held *h)
{
	unsigned held = atomic_load_explicit(&mine->held, memory_order_relaxed);

	pthread_mutex_lock(&mine->lock);
	holder_list(mine, h, false);
	if (held >= HOLD_CONNECTIONS)
		holder_send(mine,
			    container_of(mine->fresh.next, struct held, node),
			    BY_LIMIT);
	pthread_mutex_unlock(&mine->lock);
	pusher_wake();
}

void hold_leave(struct held *h)
{
	struct holder *mine = hold_here.mine;
	int saved = errno;

	if (mine) {
		atomic_store_explicit(&mine->current, NULL,
				      memory_order_relaxed);
		atomic_store_explicit(&mine->promised, 0,
				      memory_order_relaxed);
	}
	if (!h->refused)
		h->owed = hold_len(h);
	if (!h->owed) {
		h->due = 0;
		h->stuck = false;
	}
	if (!hold_len(h))
		held_release(h, mine, false);
	else if (!h->owed)
		shrink(h, mine);
	else if (!mine)
		send_now(&holder_of_all, h, NULL, BY_LIMIT);
	else if (h->stuck ||
		 !atomic_load_explicit(&gathers, memory_order_relaxed) ||
		 !pusher_ready())
		send_now(mine, h, mine, BY_LIMIT);
	else
		gather(mine, h);
	errno = saved;
	section_leave(false);
}

/* All that is held to a larger piece of memory, or to the front of this one. */
static bool make_room(struct held *h, size_t len, struct holder *mine)
{
	size_t held = hold_len(h), size = BUFFER;
	struct held old = *h;

	if (h->bytes && held + len <= h->size) {
		memmove(h->bytes, h->bytes + h->start, held);
		h->start = 0;
		h->end = held;
		return true;
	}
	if (held + len > BUFFER)
		size = held + len;
	h->bytes = size == BUFFER ? buffer_new(mine) : malloc(size);
	if (!h->bytes) {
		h->bytes = old.bytes;
		return false;
	}
	if (held)
		memcpy(h->bytes, old.bytes + old.start, held);
	h->start = 0;
	h->end = held;
	h->size = size;
	old.start = old.end;
	held_release(&old, mine, false);
	return true;
}

uint8_t *hold_reserve(struct held *h, size_t len)
{
	struct holder *mine = hold_here.mine;
	size_t promised = 0;
	bool fits;

	if (h->bytes && h->end + len <= h->size)
		return h->bytes + h->end;
	if (mine)
		promised = atomic_exchange(&mine->promised, 0);
	fits = make_room(h, len, mine);
	if (mine)
		atomic_store(&mine->promised, promised);
	return fits ? h->bytes + h->end : NULL;
}

/* What does not change, or seldom. */
static void ask_socket(int fd, int *segment, unsigned *limit)
{
	socklen_t len = sizeof(int);
	int own = 0;

	*limit = UINT_MAX;
	if (getsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, segment, &len) ||
	    *segment <= 0) {
		*segment = 0;
		return;
	}
	len = sizeof(own);
	if (getsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &own, &len))
		own = 0;
	*limit = own ? (unsigned)own : unsent_limit;
}

/*
 * The kernel goes on to take bytes for as long as what is queued, with what it
 * needs itself, is less than the send buffer. It needs about 1,300 bytes for each
 * of its buffers, which has a full segment of data at least.
 */
static size_t room_for(int fd, unsigned segment, unsigned limit)
{
	enum { OVERHEAD = 1536, MARGIN = 4096 };
	uint32_t info[SK_MEMINFO_VARS];
	socklen_t len = sizeof(info);
	uint64_t room;
	int unsent;

	if (!segment ||
	    getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &len) ||
	    len < (SK_MEMINFO_WMEM_QUEUED + 1) * sizeof(info[0]))
		return 0;
	if ((uint64_t)info[SK_MEMINFO_WMEM_QUEUED] + MARGIN >=
	    info[SK_MEMINFO_SNDBUF])
		return 0;
	room = info[SK_MEMINFO_SNDBUF] - info[SK_MEMINFO_WMEM_QUEUED] - MARGIN;
	room = room * segment / (segment + OVERHEAD);
	if (limit >= INT_MAX)
		return (size_t)room;
	if (ioctl(fd, SIOCOUTQNSD, &unsent) || unsent < 0 ||
	    (unsigned)unsent >= limit)
		return 0;
	return min_size((size_t)room, limit - (unsigned)unsent);
}

size_t hold_room(int fd)
{
	unsigned limit;
	int segment;

	ask_socket(fd, &segment, &limit);
	return room_for(fd, (unsigned)segment, limit);
}

size_t hold_room_of(struct held *h)
{
	enum { OFTEN = 16 };

	if (h->asked++ % OFTEN == 0)
		ask_socket(h->fd, &h->segment, &h->limit);
	return room_for(h->fd, (unsigned)h->segment, h->limit);
}

/* A send that fails for good: what was held is lost with the connection. */
static int failed(struct held *h, int error)
{
	h->start = h->end = h->owed = 0;
	h->stuck = false;
	h->error = 0;
	return error;
}

/*
 * Without waiting first, so that a signal that is to end the process may wait
 * for this; then as the socket is, and a signal may come: where there was no
 * room, OpenSSL would be waiting, too.
 */
static ssize_t send_some(struct held *h, bool may_wait)
{
	ssize_t n;

	if (!may_wait)
		return send(h->fd, h->bytes + h->start, hold_len(h),
			    MSG_DONTWAIT);
	section_leave(false);
	n = send(h->fd, h->bytes + h->start, hold_len(h), 0);
	section_enter();
	return n;
}

static int send_all(struct held *h, struct holder *counted)
{
	bool may_wait = false;
	ssize_t n;

	while (hold_len(h)) {
		n = send_some(h, may_wait);
		if (n >= 0) {
			holder_count(counted, BY_CALL, (size_t)n);
			h->start += (size_t)n;
			h->owed -= min_size(h->owed, (size_t)n);
		} else if (errno != EAGAIN && errno != EINTR) {
			return failed(h, -errno);
		} else if (may_wait) {
			h->refused = true;
			return -errno;
		}
		may_wait = true;
	}
	h->start = h->end = 0;
	h->due = 0;
	h->stuck = false;
	return 0;
}

int hold_send(struct held *h)
{
	struct holder *mine = hold_here.mine;
	int error = h->error;

	if (error) {
		failed(h, 0);
		if (error == -EPIPE)
			raise(SIGPIPE);
		return error;
	}
	if (mine)
		atomic_store(&mine->promised, 0);
	error = send_all(h, mine ? mine : &holder_of_all);
	if (mine)
		atomic_store(&mine->promised, h->owed);
	return error;
}

void hold_finish(struct held *h)
{
	struct holder *mine;

	hold_take(h);
	mine = hold_here.mine;
	if (mine)
		atomic_store(&mine->promised, 0);
	if (h->owed &&
	    !holder_push(mine ? mine : &holder_of_all, h, BY_END))
		orphan_of(h, false);
	h->start = h->end = h->owed = 0;
	h->stuck = false;
	h->error = 0;
	hold_leave(h);
}
