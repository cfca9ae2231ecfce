/* SPDX-License-Identifier: MIT */
#include "context/ctx.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "engine/engine_afalg.h"

/*
 * So often completions are reaped in one go: a peer who sends fast enough must
 * not keep a call for ever.
 */
enum { ROUNDS = 8 };

static void signal_app(struct tls_context *ctx)
{
	const uint64_t one = 1;

	if (ctx->kind != TLS_CONTEXT_WORKER || ctx->signalled)
		return;
	if (ctx->error && !own_fd_is_ours(&ctx->event))
		return;
	ctx->signalled = write(ctx->event.fd, &one, sizeof(one)) > 0;
}

void ctx_mark(struct tls_context *ctx, struct tls_conn *conn)
{
	wake_conn(&ctx->wake, conn);
	if (!list_empty(&conn->ready) || !conn_events(conn))
		return;
	list_add_once(&ctx->ready, &conn->ready);
	signal_app(ctx);
	/* a thread in tls_context_wait() sleeps on the ring, not on that */
	wake_listeners(&ctx->wake);
}

void ctx_destroy_conn(struct tls_conn *conn)
{
	list_remove(&conn->all);
	list_remove(&conn->todo);
	tx_destroy(&conn->tx);
	rx_destroy(&conn->rx);
	tls_stats_add(&conn->core->stats, &conn->account.stats,
		      sizeof(struct tls_stats));
	free(conn->keylog);
	free(conn);
}

void ctx_release(struct tls_conn *conn)
{
	if (!conn->tx.queue.in_flight && !conn->rx.queue.in_flight &&
	    !conn->tx.sending && !conn->rx.receiving)
		ctx_destroy_conn(conn);
}

static void advance_all(struct tls_context *ctx)
{
	struct list todo, *node;

	list_take_all(&todo, &ctx->core.todo);
	while ((node = list_take(&todo))) {
		struct tls_conn *conn =
			container_of(node, struct tls_conn, todo);

		if (conn->gone) {
			ctx_release(conn);
			continue;
		}
		conn_advance(conn);
		ctx_mark(ctx, conn);
	}
}

/* Who waits for memory, or for the rest of a record, is not forgotten. */
static void look_at_waiting(struct tls_context *ctx)
{
	uint64_t now = now_ns();

	if (now - ctx->core.looked < FEED_LOOK_NS)
		return;
	ctx->core.looked = now;
	feed_look(&ctx->core);
	tx_serve(&ctx->core);
}

static bool has_waiting(const struct core *core)
{
	return !list_empty(&core->thirsty) || !list_empty(&core->feed.parts);
}

/* Whom that serves is on core->todo. */
static void share_memory(struct tls_context *ctx)
{
	feed_serve(&ctx->core);
	if (ctx->core.tx_pool.gave_back && !list_empty(&ctx->core.thirsty))
		tx_serve(&ctx->core);
	else if (has_waiting(&ctx->core))
		look_at_waiting(ctx);
}

int ctx_error(const struct tls_context *ctx)
{
	if (!ctx->error)
		return 0;
	return error_set(ctx->error, "the kernel takes no more work from this "
			 "context (%s: %s): has a sandbox forbidden it, or "
			 "closefrom() closed its descriptor? Free it and create "
			 "another", ring_name(ctx->core.ring, NULL),
			 strerror(-ctx->error));
}

void ctx_break_down(struct tls_context *ctx, int error)
{
	struct list *node;
	char words[100];

	ctx->error = error;
	snprintf(words, sizeof(words), "the kernel takes no more work from the "
		 "context (%s: %s)", ring_name(ctx->core.ring, NULL),
		 strerror(-error));
	for (node = ctx->conns.next; node != &ctx->conns; node = node->next) {
		struct tls_conn *conn =
			container_of(node, struct tls_conn, all);

		conn_break(conn, error, words);
		ctx_mark(ctx, conn);
	}
	/* who sleeps in the ring already is not refused, nor woken by it */
	wake_all(&ctx->wake);
	alarm_wake(&ctx->alarm);
	signal_app(ctx);
	ring_nudge(ctx->core.ring);
}

/* What has completed, and what follows from it. */
static unsigned step_once(struct tls_context *ctx)
{
	struct dispatch *d = &ctx->core.dispatch;
	bool woken = ctx->alarm.woken;
	unsigned n = ring_reap(ctx->core.ring);

	wake_reaped(&ctx->wake, n);
	if (ring_error(ctx->core.ring) && !ctx->error)
		ctx_break_down(ctx, ring_error(ctx->core.ring));
	else if (ctx->alarm.lost && !ctx->error)
		ctx_break_down(ctx, -EBADF);
	if (ctx->alarm.woken && !woken)
		signal_app(ctx); /* if nobody waits, by the descriptor */
	if (d->flying_count)
		dispatch_expire(d, now_ns());
	share_memory(ctx);
	advance_all(ctx);
	return n;
}

unsigned ctx_step(struct tls_context *ctx)
{
	ring_look(ctx->core.ring);
	return ctx_settle(ctx);
}

unsigned ctx_settle(struct tls_context *ctx)
{
	unsigned total = 0, n, rounds = 0;

	do {
		n = step_once(ctx);
		total += n;
	} while (n && ++rounds < ROUNDS);
	return total;
}

bool ctx_stuck(const struct tls_context *ctx)
{
	return ring_unsubmitted(ctx->core.ring) || !list_empty(&ctx->core.todo);
}

/*
 * A loop sleeps by its descriptor, which is to tell when something must be done
 * at a time. In a worker context the worker will see to it.
 */
static void set_alarm(struct tls_context *ctx)
{
	int64_t ns = ctx_limit_wait(ctx, ctx_stuck(ctx) ? NS_PER_MS : -1);
	uint64_t now;

	if (ns < 0 || ctx->error)
		return;
	now = now_ns();
	if (!alarm_set(&ctx->alarm, now + (uint64_t)ns, now) ||
	    (ring_submit(ctx->core.ring) && !alarm_watched(&ctx->alarm)))
		ring_nudge(ctx->core.ring);
}

bool ctx_all_reaped(struct tls_context *ctx)
{
	if (ctx->kind == TLS_CONTEXT_LOOP)
		set_alarm(ctx);
	return ctx->wake.stale || ring_listen(ctx->core.ring);
}

void ctx_submit(struct tls_context *ctx)
{
	unsigned rounds = 0;

	while (ring_unsubmitted(ctx->core.ring) && rounds++ < ROUNDS) {
		if (ring_submit(ctx->core.ring) && !ctx_step(ctx))
			break; /* the kernel takes nothing more for now */
		step_once(ctx);
	}
}

void ctx_flush_held(struct tls_context *ctx)
{
	struct list held, *node;

	list_take_all(&held, &ctx->core.held);
	while ((node = list_take(&held))) {
		struct tls_conn *conn =
			container_of(node, struct tls_conn, held);

		conn_push(conn);
		ctx_mark(ctx, conn);
	}
}

void ctx_wait_ring(struct tls_context *ctx, int64_t ns)
{
	if (ctx->kind == TLS_CONTEXT_LOOP) {
		ring_wait(ctx->core.ring, ns);
		return;
	}
	wake_wait(&ctx->wake, &ctx->lock, ns);
}

/* Of two waits, -1: for ever. */
static int64_t shorter(int64_t a, int64_t b)
{
	if (a < 0 || b < 0)
		return a < 0 ? b : a;
	return a < b ? a : b;
}

static int64_t tend_memory(struct tls_context *ctx, int64_t ns)
{
	struct core *core = &ctx->core;
	uint64_t now = now_ns();
	bool left = pool_trim(&core->tx_pool, now);

	left |= pool_trim(&core->rx_pool, now);
	left |= pool_trim(&core->slots.pool, now);
	left |= feed_trim(core, now);
	if (left)
		ns = shorter(ns, POOL_TRIM_NS);
	if (!has_waiting(core))
		return ns;
	look_at_waiting(ctx);
	return shorter(ns, FEED_LOOK_NS);
}

int64_t ctx_limit_wait(struct tls_context *ctx, int64_t ns)
{
	struct afalg_stats stats;
	uint64_t now, due;

	if (ctx->error)
		return ns;
	ns = tend_memory(ctx, ns);
	/* a loop's waiting submits what is queued */
	if (ctx->kind == TLS_CONTEXT_LOOP ? !list_empty(&ctx->core.todo) :
					    ctx_stuck(ctx))
		ns = shorter(ns, NS_PER_MS);
	if (!ctx->core.dispatch.kernel)
		return ns;
	now = now_ns();
	due = dispatch_due(&ctx->core.dispatch);
	if (due != UINT64_MAX)
		ns = shorter(ns, due > now ? (int64_t)(due - now) : 0);
	if (!ctx->choice.kernel_in_use)
		return ns;
	if (now - ctx->last_trim >= CTX_TRIM_NS) {
		engine_afalg_trim(ctx->choice.kernel);
		ctx->last_trim = now;
	}
	engine_afalg_stats(ctx->choice.kernel, &stats);
	return stats.transforms ? shorter(ns, CTX_TRIM_NS) : ns;
}

/* Wait with the lock given up, and say for what. */
static void wait_for(struct tls_context *ctx, struct tls_conn *conn,
		     unsigned await, int64_t ns)
{
	struct wake *wake = &ctx->wake;

	if (conn)
		conn->awaited |= await;
	wake->listeners += !conn;
	wake->callers++;
	ctx_wait_ring(ctx, ctx_limit_wait(ctx, ns));
	wake->callers--;
	wake->listeners -= !conn;
}

bool ctx_block(struct tls_context *ctx, struct tls_conn *conn, unsigned await,
	       uint64_t deadline)
{
	uint64_t now = now_ns();
	int64_t ns = -1;

	if (ctx->error)
		return false;
	if (deadline != UINT64_MAX) {
		if (now >= deadline)
			return false;
		ns = (int64_t)(deadline - now);
	}
	if (ctx->kind == TLS_CONTEXT_WORKER) {
		uint64_t epoch = ctx->wake.epoch;

		if (conn)
			ctx_mark(ctx, conn); /* the caller has changed it */
		ctx_submit(ctx);
		ctx_settle(ctx);
		if (epoch != ctx->wake.epoch)
			return true; /* maybe what the caller waits for */
	}
	wait_for(ctx, conn, await, ns);
	ctx_settle(ctx);
	return true;
}
