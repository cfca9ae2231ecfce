// SPDX-License-Identifier: MIT
#define _GNU_SOURCE 1
#include "server-leave.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	EVENTS = 64,
	TURN = 256 * 1024, /* bytes of one client before others have a turn */
	LEAVE_BYTES = 16 * 1024 * 1024, /* more than networks hold */
	LEAVE_MS = 2000,
};

struct leaver {
	struct leaver *next, **link;
	int fd;
	size_t dropped;
	int64_t start_ms;
};

void leavers_init(struct leavers *l, int epoll)
{
	*l = (struct leavers){ .epoll = new_epoll() };
	watch(epoll, EPOLL_CTL_ADD, l->epoll, EPOLLIN, l);
}

void leave(struct leavers *l, int fd)
{
	struct leaver *v = calloc(1, sizeof(*v));

	if (!v || shutdown(fd, SHUT_WR)) { /* it has been reset already */
		close(fd);
		free(v);
		return;
	}
	v->fd = fd;
	v->start_ms = now_ms();
	v->link = &l->first;
	v->next = l->first;
	if (v->next)
		v->next->link = &v->next;
	l->first = v;
	watch(l->epoll, EPOLL_CTL_ADD, fd, EPOLLIN, v);
}

static void end(struct leaver *v)
{
	close(v->fd);
	*v->link = v->next;
	if (v->next)
		v->next->link = v->link;
	free(v);
}

void leavers_event(struct leavers *l)
{
	struct epoll_event ready[EVENTS];
	int i, n = epoll_wait(l->epoll, ready, EVENTS, 0);

	for (i = 0; i < n; i++) {
		struct leaver *v = ready[i].data.ptr;
		ssize_t got = discard(v->fd, TURN);

		if (got > 0)
			v->dropped += (size_t)got;
		if (got == 0 || (got < 0 && got != -EAGAIN) ||
		    v->dropped > LEAVE_BYTES)
			end(v);
	}
}

void leavers_look(struct leavers *l, int64_t now)
{
	struct leaver *v, *next;

	for (v = l->first; v; v = next) {
		next = v->next;
		if (now - v->start_ms > LEAVE_MS)
			end(v);
	}
}
