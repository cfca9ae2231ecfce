/* SPDX-License-Identifier: MIT */
#include "context/worker.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "base/error.h"
#include "context/ctx.h"

/* What is left behind may have to wait so long for a busy application. */
enum { PATIENCE_NS = 2 * NS_PER_MS };
/* The mutex is not so fair that who knocks gets it when it is given up. */
enum { MAKE_WAY_NS = NS_PER_MS / 10 };

static void sleep_until(struct tls_context *ctx, uint64_t when)
{
	struct timespec ts = timespec_of(when);

	wake_send(&ctx->wake);
	pthread_cond_timedwait(&ctx->worker_wake, &ctx->lock, &ts);
}

static bool work_left(const struct tls_context *ctx)
{
	return !ctx->error &&
	       (!list_empty(&ctx->core.held) ||
		ctx->core.dispatch.flying_count || ctx_stuck(ctx) ||
		ctx->core.feed.drawn);
}

/* Wakes now and then only while the kernel engine has sockets to close. */
static void idle(struct tls_context *ctx)
{
	int64_t ns = ctx_limit_wait(ctx, -1);

	ctx->worker_idle = true;
	wake_send(&ctx->wake);
	if (ns < 0)
		pthread_cond_wait(&ctx->worker_wake, &ctx->lock);
	else
		sleep_until(ctx, now_ns() + (uint64_t)ns);
	ctx->worker_idle = false;
}

/* Stepping queues operations, and nobody else might come to submit them. */
static void step_and_submit(struct tls_context *ctx)
{
	ctx_step(ctx);
	ctx_submit(ctx);
}

/* For a completion, or for what the application holds back meanwhile. */
static void wait_in_the_ring(struct tls_context *ctx)
{
	ctx->worker_saw = ctx->core.held.prev;
	ctx->worker_waits = true;
	ctx_wait_ring(ctx, ctx_limit_wait(ctx, -1));
	ctx->worker_waits = false;
}

/*
 * The application has been away for a while: push what it left, and wait for
 * completions in its stead until all is sent or it comes back. A thread of its
 * own that waits in the library does that waiting better.
 */
static void run(struct tls_context *ctx)
{
	uint64_t seen = ctx->last_call;

	ctx->core.stats.deferred_run++;
	while (work_left(ctx) && seen == ctx->last_call && !ctx->stopping) {
		ctx_flush_held(ctx);
		step_and_submit(ctx);
		if (ctx->wake.callers) {
			idle(ctx);
			break;
		}
		if (ctx->knocking)
			sleep_until(ctx, now_ns() + MAKE_WAY_NS);
		if (work_left(ctx))
			wait_in_the_ring(ctx);
		step_and_submit(ctx);
	}
}

/*
 * It is not away, but not with what it left either. No waiting: completions
 * are its own business while it is there.
 */
static void run_beside(struct tls_context *ctx)
{
	ctx->core.stats.deferred_run++;
	ctx_flush_held(ctx);
	step_and_submit(ctx);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void *worker_main(void *arg)
{
	struct tls_context *ctx = arg;
	uint64_t since = 0; /* when work was first seen; 0: there was none */

	pthread_mutex_lock(&ctx->lock);
	while (!ctx->stopping) {
		uint64_t now = now_ns();

		if (!work_left(ctx)) {
			ctx->core.stats.deferred_cancelled += since != 0;
			since = 0;
			idle(ctx);
		} else if (now >= ctx->last_call + NS_PER_MS) {
			since = 0;
			run(ctx);
		} else if (since && now >= since + PATIENCE_NS) {
			since = now;
			run_beside(ctx);
		} else {
			since = since ? since : now;
			sleep_until(ctx, earlier(ctx->last_call + NS_PER_MS,
						 since + PATIENCE_NS));
		}
	}
	pthread_mutex_unlock(&ctx->lock);
	return NULL;
}

/*
 * It waits for completions, and what is held back now was not when it looked:
 * what was has been pushed since, and leaves the list by a completion.
 */
static bool overlooks(const struct tls_context *ctx)
{
	const struct list *held = &ctx->core.held;

	return ctx->worker_waits && !list_empty(held) &&
	       held->prev != ctx->worker_saw;
}

void worker_watch(struct tls_context *ctx)
{
	if (overlooks(ctx)) {
		ctx->worker_waits = false; /* once is enough */
		wake_all(&ctx->wake);
	}
	if (!ctx->worker_idle || !work_left(ctx))
		return;
	ctx->worker_idle = false; /* once is enough */
	ctx->core.stats.deferred_scheduled++;
	pthread_cond_signal(&ctx->worker_wake);
}

static int create(struct tls_context *ctx)
{
	sigset_t all, before;
	int err;

	/* The application's signals are for its own threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	err = pthread_create(&ctx->worker, NULL, worker_main, ctx);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err;
}

int worker_start(struct tls_context *ctx)
{
	pthread_condattr_t attr;
	int err;

	pthread_mutex_init(&ctx->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&ctx->worker_wake, &attr);
	pthread_condattr_destroy(&attr);
	err = create(ctx);
	if (err)
		return error_set(-err, "no thread for the worker: %s",
				 strerror(err));
	ctx->worker_runs = true;
	return 0;
}

void worker_stop(struct tls_context *ctx)
{
	if (!ctx->worker_runs)
		return;
	pthread_mutex_lock(&ctx->lock);
	ctx->stopping = true;
	pthread_cond_signal(&ctx->worker_wake);
	wake_all(&ctx->wake);
	wake_send(&ctx->wake);
	if (ctx->error)
		alarm_wake(&ctx->alarm);
	pthread_mutex_unlock(&ctx->lock);
	pthread_join(ctx->worker, NULL);
	pthread_cond_destroy(&ctx->worker_wake);
	pthread_mutex_destroy(&ctx->lock);
	ctx->worker_runs = false;
}
