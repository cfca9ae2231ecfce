/* SPDX-License-Identifier: MIT */
/*
 * What ends a wait though no connection has anything: another thread or a
 * signal handler, and the time. Each is a descriptor that the ring polls, so
 * that it wakes who waits in the ring and who polls its descriptor, and costs
 * nothing until then.
 */
#ifndef ASYNCTLS_ALARM_H
#define ASYNCTLS_ALARM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/own.h"
#include "io/ring.h"

struct alarm {
	struct ring *ring;
	/*
	 * A pipe, since what an eventfd wakes signals another one (the ring's)
	 * late, on some kernels never.
	 */
	struct own_fd wake[2];
	atomic_bool asked; /* there is something in it */
	struct ring_op wake_op;
	bool wake_polled; /* or is to be polled again, when false */
	bool woken;	  /* not yet reported */
	bool lost; /* somebody has closed the pipe, and what not besides */
	struct own_fd timer; /* none in a worker context */
	struct ring_op timer_op;
	bool timer_polled;
	uint64_t timer_at; /* when it goes off, now_ns() time */
};

/* Before alarm_start(), so that alarm_end() may follow. */
void alarm_init(struct alarm *alarm);
/*
 * Queues an operation, and more when it has gone off. timed: alarm_set() may
 * follow. 0 or -errno.
 */
int alarm_start(struct alarm *alarm, struct ring *ring, bool timed);
void alarm_end(struct alarm *alarm);

/* Async-signal-safe. */
void alarm_wake(struct alarm *alarm);
/* Poll again what has gone off. */
void alarm_rearm(struct alarm *alarm);
/* The ring will be new, and nothing polled in it. */
void alarm_forget(struct alarm *alarm);

/*
 * Go off at that time or before, now being now: has no effect where it does
 * already. May queue an operation. False: it cannot.
 */
bool alarm_set(struct alarm *alarm, uint64_t when, uint64_t now);
/* Has what alarm_set() queued been started? */
bool alarm_watched(const struct alarm *alarm);

#endif
