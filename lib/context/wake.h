/* SPDX-License-Identifier: MIT */
/*
 * Who waits for what in a TLS_CONTEXT_WORKER, and who tells them: all of it is
 * decided here. tests/model/wake.pml is a model of this file, which a program
 * goes through; what is changed here is to be changed there.
 *
 * Every call holds the lock, except while it waits in the ring. Then another
 * thread may reap what it waits for, or bring it about by a call of its own.
 * 1. Who waits looks, says what for (conn->awaited), and gives the lock up in
 *    one hold of it: wake_wait().
 * 2. Who may have changed a connection says so, whatever else it means for it:
 *    wake_conn(). Who has reaped says so: wake_reaped().
 * 3. Where that concerns waiters, a new epoch begins, and those of earlier ones
 *    are stale until each has come back. As long as one is, nobody gives up the
 *    lock without a wake in the ring that no reap since can have taken away:
 *    wake_send().
 *
 * In a TLS_CONTEXT_LOOP nobody waits but its owner, and nothing is sent.
 */
#ifndef ASYNCTLS_WAKE_H
#define ASYNCTLS_WAKE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct ring;
struct tls_conn;

/* What a call may wait for: bits of conn->awaited. */
enum {
	AWAIT_READ = 1,	   /* data, or the end */
	AWAIT_ROOM = 2,	   /* that a write takes something, or fails */
	AWAIT_FLUSHED = 4, /* that the socket has all, or sending fails */
};

struct wake {
	struct ring *ring;
	unsigned waiters;   /* threads in ring_wait() without the lock */
	unsigned callers;   /* ... of the application's */
	unsigned listeners; /* ... for events of any connection */
	unsigned stale;	    /* ... that an epoch has overtaken */
	uint64_t epoch;	    /* in a loop too */
	bool sent; /* a wake for the stale ones is in the ring */
};

/* A reap has delivered count completions. */
void wake_reaped(struct wake *wake, unsigned count);
/* Is what somebody waits for there now? Then a new epoch begins. */
void wake_conn(struct wake *wake, struct tls_conn *conn);
/* A connection has an event that was not reported before. */
void wake_listeners(struct wake *wake);
/* Everybody, whatever for. */
void wake_all(struct wake *wake);

/* Before the lock is given up, however. */
void wake_send(struct wake *wake);
/* ring_wait() without the lock. */
void wake_wait(struct wake *wake, pthread_mutex_t *lock, int64_t ns);

#endif
