/* SPDX-License-Identifier: MIT */
/*
 * What a ring without io_uring knows of the sockets it has operations on: a
 * watch for each number, in an epoll. Registered once, edge-triggered, and kept
 * from one operation to the next: so waiting again costs no system call.
 */
#ifndef ASYNCTLS_WATCH_H
#define ASYNCTLS_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "base/util.h"

struct watch {
	int fd;
	uint32_t stamp;	     /* tells it from others of its number */
	uint32_t registered; /* for these events; 0: not at all */
	/* false: a call would have waited, and there was no event since */
	bool may_read, may_write;
	bool unsure; /* a receive with room to spare need not have taken all */
	/* operations that wait, by what for */
	struct list readers, writers, pollers;
	struct watch *next;
};

struct watches {
	int epoll;
	uint32_t stamp;
	unsigned count, mask; /* of the buckets, a power of two */
	struct watch **buckets;
};

/* 0 or -ENOMEM. */
int watches_init(struct watches *w, int epoll);
/* All of them; the epoll stays the caller's. */
void watches_destroy(struct watches *w);

/* NULL if there is none. */
struct watch *watch_find(const struct watches *w, int fd);
/* That of an event; NULL if it was meant for one that is gone. */
struct watch *watch_of(const struct watches *w, uint64_t data);
/* The one there is, or a new one, not registered; NULL without memory. */
struct watch *watch_get(struct watches *w, int fd);
/*
 * Have the events beside those it has; what holds already is an event, too.
 * *calls counts system calls. 0 or -errno.
 */
int watch_for(struct watches *w, struct watch *watch, uint32_t events,
	      unsigned *calls);
/* One of those there are, or NULL. */
struct watch *watch_any(const struct watches *w);
/* Nothing waits there any more. */
void watch_drop(struct watches *w, struct watch *watch);

#endif
