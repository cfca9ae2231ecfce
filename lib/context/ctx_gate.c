/* SPDX-License-Identifier: MIT */
#include "context/ctx_gate.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>

#include "base/error.h"
#include "base/thread.h"
#include "context/worker.h"

/* before the call under way */
static _Thread_local int cancel_state THREAD_NEAR;

int ctx_refuse_fork(void)
{
	return error_set(-EPERM, "this process was forked from the one the "
			 "context belongs to");
}

/* The worker makes way for those who knock; the mutex alone is not so fair. */
static void lock(struct tls_context *ctx)
{
	if (pthread_mutex_trylock(&ctx->lock) == 0)
		return;
	ctx->knocking++;
	pthread_mutex_lock(&ctx->lock);
	ctx->knocking--;
}

int ctx_enter(struct tls_context *ctx)
{
	if (!*ctx->not_forked)
		return ctx_refuse_fork();
	if (ctx->kind == TLS_CONTEXT_LOOP && !thread_is_mine(ctx->owner))
		return error_set(-EPERM, "a TLS_CONTEXT_LOOP belongs to the "
				 "thread that created it: if that has ended, "
				 "tls_context_adopt()");
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	if (ctx->kind == TLS_CONTEXT_WORKER)
		lock(ctx);
	return 0;
}

/* The lock is as mutable as the state that it protects. */
static struct tls_context *mutable(const struct tls_context *ctx)
{
	return (struct tls_context *)(uintptr_t)ctx;
}

int ctx_look(const struct tls_context *ctx)
{
	return ctx_enter(mutable(ctx));
}

void ctx_look_away(const struct tls_context *ctx)
{
	if (ctx->kind == TLS_CONTEXT_WORKER)
		pthread_mutex_unlock(&mutable(ctx)->lock);
	pthread_setcancelstate(cancel_state, NULL);
}

bool ctx_comes_back(const struct tls_context *ctx)
{
	return ctx->kind == TLS_CONTEXT_LOOP ||
	       (ctx->in_turn && pthread_equal(ctx->turn, pthread_self()));
}

static void leave_worker(struct tls_context *ctx)
{
	if (ctx->core.dispatch.kernel || !ctx_comes_back(ctx))
		ctx_submit(ctx);
	ctx->last_call = now_ns();
	worker_watch(ctx);
	wake_send(&ctx->wake);
}

void ctx_leave(struct tls_context *ctx)
{
	if (ctx->kind == TLS_CONTEXT_WORKER)
		leave_worker(ctx);
	ctx_look_away(ctx);
}

int ctx_enter_conn(struct tls_conn *conn)
{
	return ctx_enter(conn->ctx);
}

void ctx_leave_conn(struct tls_conn *conn)
{
	ctx_mark(conn->ctx, conn);
	ctx_leave(conn->ctx);
}
