/* SPDX-License-Identifier: MIT */
/* How a public call comes in and goes out: lock, owner, fork, worker. */
#ifndef ASYNCTLS_CTX_GATE_H
#define ASYNCTLS_CTX_GATE_H

#include "context/ctx.h"

/*
 * Around every public call. ctx_enter() returns 0 or -EPERM (in a forked
 * child, or in another thread than a loop's own). In between, the thread is not
 * cancelled: it would leave the lock held. ctx_leave() submits what is
 * queued, in a worker context, and has the worker watch what is left behind.
 */
int ctx_enter(struct tls_context *ctx);
/* -EPERM, with words. */
int ctx_refuse_fork(void);
void ctx_leave(struct tls_context *ctx);
/*
 * The same around a call that concerns a connection, and may change what is
 * waited for or to be reported of it.
 */
int ctx_enter_conn(struct tls_conn *conn);
void ctx_leave_conn(struct tls_conn *conn);
/*
 * The same around a call that only looks: it leaves nothing to be submitted,
 * and does not count as the application's coming by.
 */
int ctx_look(const struct tls_context *ctx);
void ctx_look_away(const struct tls_context *ctx);

/*
 * Is the caller a thread that calls tls_context_wait() soon? What it queues may
 * be left to that call, so that many connections share a system call: a loop's
 * owner, and who has several events to handle. (The worker submits what is left
 * too long.)
 */
bool ctx_comes_back(const struct tls_context *ctx);

#endif
