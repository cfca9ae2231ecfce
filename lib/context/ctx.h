/* SPDX-License-Identifier: MIT */
/*
 * The context: joins connections, ring and engines, and is where completions
 * are acted upon and where calls wait. What is built on that: ctx_members.h,
 * worker.h, ctx_gate.h and ctx_life.h.
 *
 * Of the two kinds, TLS_CONTEXT_LOOP has one thread and no lock. In a
 * TLS_CONTEXT_WORKER every call holds the lock, except while it waits in the
 * ring: see wake.h.
 */
#ifndef ASYNCTLS_CTX_H
#define ASYNCTLS_CTX_H

#include <pthread.h>

#include "base/own.h"
#include "conn/conn.h"
#include "conn/core.h"
#include "context/wake.h"
#include "engine/choice.h"
#include "io/alarm.h"

struct tls_context {
	struct core core;
	struct choice choice;
	enum tls_context_kind kind;
	struct thread *_Atomic owner; /* of a TLS_CONTEXT_LOOP */
	struct list conns;
	struct list gone; /* closed, but an engine has records of theirs */
	struct list ready;     /* connections that had an event lately */
	struct list ready_end; /* marks the end of a turn through them */
	uint32_t *not_forked;  /* in a page that a fork() wipes */
	uint64_t last_trim;    /* of the kernel engine's idle sockets */

	/* TLS_CONTEXT_WORKER only */
	pthread_mutex_t lock;
	pthread_cond_t worker_wake;
	pthread_t worker;
	bool worker_runs;
	bool worker_idle; /* waits for worker_wake without a time limit */
	bool stopping;
	/* the thread that tls_context_wait() gave several events, if in_turn */
	pthread_t turn;
	bool in_turn;
	uint64_t last_call; /* when the application last left the library */
	struct wake wake;
	struct alarm alarm;
	int error; /* lasting, of the ring: nothing moves any more */
	bool worker_waits; /* in the ring, for completions */
	struct list *worker_saw; /* the last of core.held then */
	_Atomic unsigned knocking; /* threads that wait for the lock */
	int poll_fd; /* of poll; in a loop the ring's */
	struct own_fd poll;  /* a worker's epoll of the ring and event */
	struct own_fd event; /* signalled for connections made ready in passing */
	bool signalled;
};

/*
 * 0, or with words the context's lasting error: after that no operation starts
 * or ends, and every connection has failed with it.
 */
int ctx_error(const struct tls_context *ctx);

/* Nothing that anybody waits for will come: the ring's lasting error. */
void ctx_break_down(struct tls_context *ctx, int error);

/* Note that a connection may have events to report. */
void ctx_mark(struct tls_context *ctx, struct tls_conn *conn);
/* Free a connection of which nothing is in flight. */
void ctx_destroy_conn(struct tls_conn *conn);
/*
 * Free a connection that is closed, but for what an engine writes to: that stays
 * its own until the engine is done, and is counted until then. (Operations of a
 * ring that broke down are never done.)
 */
void ctx_release(struct tls_conn *conn);

/*
 * Act on what has completed; returns how much that was. Never waits, and leaves
 * what comes faster than it is done to the next call.
 */
unsigned ctx_step(struct tls_context *ctx);
/* The same without asking the kernel for what may have come meanwhile. */
unsigned ctx_settle(struct tls_context *ctx);
/*
 * False if ctx_step() has more to do. While another thread is being woken the
 * wake itself lies in the ring: that thread will see to it, and to the rest.
 */
bool ctx_all_reaped(struct tls_context *ctx);
/* Start what is queued, and act on what completes at once; no longer either. */
void ctx_submit(struct tls_context *ctx);
/*
 * After that: did the kernel take less than there was? Then it is to be tried
 * again soon, though nothing completes.
 */
bool ctx_stuck(const struct tls_context *ctx);
/* Push what every connection holds back. */
void ctx_flush_held(struct tls_context *ctx);

/*
 * Wait for a completion until deadline (now_ns() time, UINT64_MAX for none),
 * then act on it. Returns false when the deadline has passed. What the caller
 * waits for must not have been acted upon since it last looked: it looks, and
 * calls this, with no ctx_step() or ctx_submit() in between. It is AWAIT_ bits
 * of a connection; without one, an event of any, or any completion.
 */
bool ctx_block(struct tls_context *ctx, struct tls_conn *conn, unsigned await,
	       uint64_t deadline);

/*
 * Only the waiting: ring_wait() for at most ns nanoseconds (-1: no limit),
 * with the lock given up meanwhile.
 */
void ctx_wait_ring(struct tls_context *ctx, int64_t ns);

/*
 * How long to wait at most, where ns would do (-1: no limit): until what the
 * kernel did not take is to be tried again, the record longest with the kernel
 * engine is overdue, or its idle sockets are to be closed, which is done here
 * every CTX_TRIM_NS.
 */
enum { CTX_TRIM_NS = 100 * NS_PER_MS };
int64_t ctx_limit_wait(struct tls_context *ctx, int64_t ns);

#endif
