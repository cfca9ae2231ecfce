/* SPDX-License-Identifier: MIT */
#include "io/watch.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { FEWEST = 16 };

int watches_init(struct watches *w, int epoll)
{
	*w = (struct watches){ .epoll = epoll, .mask = FEWEST - 1 };
	w->buckets = calloc(FEWEST, sizeof(*w->buckets));
	return w->buckets ? 0 : -ENOMEM;
}

void watches_destroy(struct watches *w)
{
	unsigned i;

	for (i = 0; w->buckets && i <= w->mask; i++) {
		struct watch *watch;

		while ((watch = w->buckets[i])) {
			w->buckets[i] = watch->next;
			free(watch);
		}
	}
	free(w->buckets);
	w->buckets = NULL;
}

static struct watch **bucket(const struct watches *w, int fd)
{
	return &w->buckets[(unsigned)fd & w->mask];
}

struct watch *watch_find(const struct watches *w, int fd)
{
	struct watch *watch = *bucket(w, fd);

	while (watch && watch->fd != fd)
		watch = watch->next;
	return watch;
}

struct watch *watch_of(const struct watches *w, uint64_t data)
{
	struct watch *watch = watch_find(w, (int)(uint32_t)data);

	return watch && watch->stamp == (uint32_t)(data >> 32) ? watch : NULL;
}

static void put(struct watches *w, struct watch *watch)
{
	struct watch **to = bucket(w, watch->fd);

	watch->next = *to;
	*to = watch;
}

/* Without the memory for it the buckets only become longer. */
static void grow(struct watches *w)
{
	unsigned mask = 2 * w->mask + 1, i;
	struct watches more = { .mask = mask };

	more.buckets = calloc((size_t)mask + 1, sizeof(*more.buckets));
	if (!more.buckets)
		return;
	for (i = 0; i <= w->mask; i++) {
		struct watch *watch;

		while ((watch = w->buckets[i])) {
			w->buckets[i] = watch->next;
			put(&more, watch);
		}
	}
	free(w->buckets);
	w->buckets = more.buckets;
	w->mask = mask;
}

/*
 * A receive of others than TCP may end before the data does: a unix socket's
 * where a descriptor or other credentials came with it.
 */
static bool is_tcp(int fd)
{
	int protocol = 0;
	socklen_t len = sizeof(protocol);

	return !getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) &&
	       protocol == IPPROTO_TCP;
}

struct watch *watch_get(struct watches *w, int fd)
{
	struct watch *watch = watch_find(w, fd);

	if (watch)
		return watch;
	watch = calloc(1, sizeof(*watch));
	if (!watch)
		return NULL;
	if (++w->count > w->mask)
		grow(w);
	watch->fd = fd;
	watch->stamp = ++w->stamp;
	watch->may_read = watch->may_write = true;
	watch->unsure = !is_tcp(fd);
	list_init(&watch->readers);
	list_init(&watch->writers);
	list_init(&watch->pollers);
	put(w, watch);
	return watch;
}

/*
 * A descriptor that was closed before its watch was dropped, and whose file
 * something else has open, a fork()ed child say, is registered still. Nobody can
 * take that back but by its number, should the file come back there.
 */
static int change_old(const struct watches *w, int fd, struct epoll_event *event)
{
	return epoll_ctl(w->epoll, EPOLL_CTL_MOD, fd, event);
}

int watch_for(struct watches *w, struct watch *watch, uint32_t events,
	      unsigned *calls)
{
	const uint32_t wanted = events | EPOLLRDHUP | EPOLLPRI;
	struct epoll_event event = {
		.events = watch->registered | wanted | EPOLLET,
		.data.u64 = (uint64_t)watch->stamp << 32 | (uint32_t)watch->fd,
	};
	int how = watch->registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

	if ((watch->registered & wanted) == wanted)
		return 0;
	++*calls;
	if (epoll_ctl(w->epoll, how, watch->fd, &event) &&
	    (errno != EEXIST || change_old(w, watch->fd, &event)))
		return -errno;
	watch->registered = event.events;
	return 0;
}

struct watch *watch_any(const struct watches *w)
{
	unsigned i;

	for (i = 0; w->count && i <= w->mask; i++)
		if (w->buckets[i])
			return w->buckets[i];
	return NULL;
}

void watch_drop(struct watches *w, struct watch *watch)
{
	struct watch **at = bucket(w, watch->fd);

	/* fails where the socket has been closed, which did it, too */
	if (watch->registered)
		epoll_ctl(w->epoll, EPOLL_CTL_DEL, watch->fd, NULL);
	while (*at != watch)
		at = &(*at)->next;
	*at = watch->next;
	w->count--;
	free(watch);
}
