/* SPDX-License-Identifier: MIT */
/* The public calls that neither write nor read: see call.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/call.h"
#include "api/takeover.h"
#include "base/error.h"
#include "base/sized.h"
#include "context/ctx_life.h"
#include "context/ctx_members.h"
#include "engine/engine_afalg.h"
#include "openssl/handoff.h"
#include "openssl/ticket.h"

/*
 * So often a call looks whether there is more to do before it returns; each
 * time is bounded itself.
 */
enum { PROCESS_ROUNDS = 4 };

/* ---- Contexts ---------------------------------------------------------- */

int tls_context_new(struct tls_context **ctx, const struct tls_config *config)
{
	int cancel = call_keep_thread(), ret = ctx_new(ctx, config);

	call_let_thread(cancel);
	return ret;
}

/*
 * The callbacks that are to have a client's tickets may take their time, and so
 * may the closing of a socket.
 */
static void close_singly(struct tls_context *ctx)
{
	struct list *node = ctx->conns.next, *next;

	for (; node != &ctx->conns; node = next) {
		struct tls_conn *conn =
			container_of(node, struct tls_conn, all);

		next = node->next;
		if (conn->tickets || conn->closes)
			tls_close(conn, 0);
	}
}

void tls_context_free(struct tls_context *ctx)
{
	int cancel;

	if (!ctx || ctx_enter(ctx))
		return;
	ctx_leave(ctx);
	cancel = call_keep_thread();
	close_singly(ctx);
	if (ctx_enter(ctx) == 0) {
		ctx_remove_all(ctx);
		ctx_leave(ctx);
		ctx_free(ctx);
	}
	call_let_thread(cancel);
}

int tls_context_adopt(struct tls_context *ctx)
{
	int cancel = call_keep_thread(), ret = ctx_adopt(ctx);

	call_let_thread(cancel);
	return ret;
}

void tls_context_wake(struct tls_context *ctx)
{
	if (*ctx->not_forked)
		alarm_wake(&ctx->alarm);
}

int tls_context_fd(const struct tls_context *ctx)
{
	int fd = ctx_look(ctx);

	if (fd)
		return fd;
	fd = ctx->poll_fd;
	ctx_look_away(ctx);
	return fd;
}

/*
 * What a peer sends is without end: the rest is for the next call, and the
 * descriptor polls readable.
 */
static void leave_the_rest(struct tls_context *ctx)
{
	ring_nudge(ctx->core.ring);
}

int tls_context_process(struct tls_context *ctx)
{
	int ret = ctx_enter(ctx);
	unsigned rounds = 0;

	if (ret)
		return ret;
	do {
		if (rounds == PROCESS_ROUNDS) {
			leave_the_rest(ctx);
			break;
		}
		rounds++;
		ctx_step(ctx);
		ctx_flush_held(ctx);
		ctx_submit(ctx);
	} while (!ctx_all_reaped(ctx));
	ctx->alarm.woken = false;
	ctx_limit_wait(ctx, -1);
	ret = ctx_error(ctx);
	ctx_leave(ctx);
	return ret;
}

/* Whether the application may sleep until its descriptor polls readable. */
static bool nothing_to_do(struct tls_context *ctx)
{
	ctx_submit(ctx);
	return list_empty(&ctx->ready) && ctx_all_reaped(ctx);
}

/* tls_context_wake() was called, and this is the wait that ends by it. */
static bool woken(struct tls_context *ctx)
{
	bool was = ctx->alarm.woken;

	ctx->alarm.woken = false;
	return was;
}

static int wait_for_events(struct tls_context *ctx, struct tls_event *events,
			   int max, int timeout_ms)
{
	uint64_t deadline = call_deadline(timeout_ms);
	unsigned rounds = 0; /* after the time-out */
	bool ended;
	int n;

	for (;;) {
		ctx_step(ctx);
		ctx_flush_held(ctx);
		if (ctx->error)
			return ctx_error(ctx);
		n = ctx_collect(ctx, events, max);
		ended = woken(ctx);
		if (n) {
			ctx_submit(ctx);
			return n;
		}
		if (ended) {
			if (!nothing_to_do(ctx))
				leave_the_rest(ctx);
			return 0;
		}
		/* waiting does the submitting */
		if (timeout_ms && ctx_block(ctx, NULL, 0, deadline))
			continue;
		if (nothing_to_do(ctx))
			return 0;
		if (++rounds == PROCESS_ROUNDS) {
			leave_the_rest(ctx);
			return 0;
		}
	}
}

int tls_context_wait(struct tls_context *ctx, struct tls_event *events, int max,
		     int timeout_ms)
{
	int n;

	pthread_testcancel();
	n = ctx_enter(ctx);
	if (n)
		return n;
	if (max <= 0 || !events)
		n = error_set(-EINVAL, "tls_context_wait() needs room for at "
			      "least one event");
	else
		n = wait_for_events(ctx, events, max, timeout_ms);
	ctx->in_turn = n > 1;
	ctx->turn = pthread_self();
	ctx_leave(ctx);
	return n;
}

int tls_conn_want(struct tls_conn *conn, unsigned events)
{
	int ret = ctx_enter_conn(conn);

	if (ret)
		return ret;
	conn->wanted = events;
	ctx_leave_conn(conn);
	return 0;
}

static int describe_io(const struct tls_context *ctx, char *buf, size_t len)
{
	const char *why, *name = ring_name(ctx->core.ring, &why);

	return snprintf(buf, len, "sockets: %s%s%s\n", name,
			why ? "; not io_uring: " : "", why ? why : "");
}

int tls_context_describe(const struct tls_context *ctx, char *buf, size_t len)
{
	int ret = ctx_look(ctx);
	size_t at;

	if (ret)
		return ret;
	ret = describe_io(ctx, buf, len);
	at = min_size((size_t)ret, len);
	ret += choice_describe(&ctx->choice, len ? buf + at : NULL, len - at);
	ctx_look_away(ctx);
	return ret;
}

/* ---- Hand-over --------------------------------------------------------- */

int tls_handoff_prepare(struct ssl_ctx_st *ssl_ctx)
{
	const char *why = "";
	int ret = handoff_prepare(ssl_ctx, &why);

	return ret ? error_set(ret, "%s", why) : 0;
}

int tls_handoff_with(struct tls_conn **conn, struct tls_context *ctx,
		     struct ssl_st *ssl, const struct tls_options *options)
{
	int ret = ctx_enter(ctx);

	if (ret)
		return ret;
	ret = ctx_error(ctx);
	if (!ret)
		ret = takeover_ssl(conn, ctx, ssl, options);
	ctx_step(ctx);
	ctx_leave(ctx);
	return ret;
}

int tls_handoff(struct tls_conn **conn, struct tls_context *ctx,
		struct ssl_st *ssl)
{
	return tls_handoff_with(conn, ctx, ssl, NULL);
}

int tls_handoff_secrets(struct tls_conn **conn, struct tls_context *ctx, int fd,
			const struct tls_secrets *secrets)
{
	struct tls_secrets s;
	int ret = sized_take(&s, sizeof(s), secrets,
			     offsetof(struct tls_secrets, tx_seq),
			     "tls_secrets");

	if (!ret)
		ret = ctx_enter(ctx);
	if (ret)
		return ret;
	ret = ctx_error(ctx);
	if (!ret)
		ret = takeover_secrets(conn, ctx, fd, &s);
	ctx_step(ctx);
	ctx_leave(ctx);
	return ret;
}

/* ---- The shape of records ---------------------------------------------- */

int tls_conn_set_record_size(struct tls_conn *conn, size_t max)
{
	int ret = ctx_enter_conn(conn);

	if (ret)
		return ret;
	ret = conn_check_record_size(max);
	if (!ret)
		conn->tx.record_size = max;
	ctx_leave_conn(conn);
	return ret;
}

int tls_conn_set_padding(struct tls_conn *conn, size_t block)
{
	int ret = ctx_enter_conn(conn);

	if (ret)
		return ret;
	if (block > RECORD_PLAIN_MAX)
		ret = error_set(-EINVAL, "no record can be padded to a "
				"multiple of %zu bytes: at most %d", block,
				RECORD_PLAIN_MAX);
	else if (block > 1 && !conn->tx.gen->format->hides_type)
		ret = error_set(-EOPNOTSUPP, "records of TLS 1.2 have no "
				"padding");
	else
		conn->tx.pad_block = block;
	ctx_leave_conn(conn);
	return ret;
}

int tls_conn_set_send_window(struct tls_conn *conn, size_t bytes)
{
	int ret = ctx_enter_conn(conn);

	if (ret)
		return ret;
	if (bytes)
		conn->tx.window = bytes;
	else
		ret = error_set(-EINVAL, "a send window of 0 bytes would let "
				"nothing be written");
	ctx_leave_conn(conn);
	return ret;
}

/* ---- About a connection ------------------------------------------------ */

int tls_conn_fd(const struct tls_conn *conn)
{
	int fd = ctx_look(conn->ctx);

	if (fd)
		return fd;
	fd = conn->fd;
	ctx_look_away(conn->ctx);
	return fd;
}

void tls_conn_set_data(struct tls_conn *conn, void *data)
{
	if (ctx_look(conn->ctx))
		return;
	conn->data = data;
	ctx_look_away(conn->ctx);
}

void *tls_conn_data(const struct tls_conn *conn)
{
	void *data;

	if (ctx_look(conn->ctx))
		return NULL;
	data = conn->data;
	ctx_look_away(conn->ctx);
	return data;
}

/* Words are written once: once they are there, nobody touches them. */
const char *tls_conn_error(const struct tls_conn *conn)
{
	const char *words = "";

	if (ctx_look(conn->ctx))
		return "";
	if (conn->reading.error || conn->writing.error)
		words = conn_words(conn);
	ctx_look_away(conn->ctx);
	return words;
}

int tls_conn_alert_sent(const struct tls_conn *conn)
{
	int alert;

	if (ctx_look(conn->ctx))
		return ALERT_NONE;
	alert = conn->alert_sent;
	ctx_look_away(conn->ctx);
	return alert;
}

int tls_conn_alert_received(const struct tls_conn *conn)
{
	int alert;

	if (ctx_look(conn->ctx))
		return ALERT_NONE;
	alert = conn->alert_received;
	ctx_look_away(conn->ctx);
	return alert;
}

static int describe(const struct tls_conn *conn, char *buf, size_t len)
{
	const struct suite *suite = conn->tx.gen->suite;
	const struct cipher *cipher = suite->cipher;
	const struct engine *e = dispatch_engine(&conn->core->dispatch, cipher);

	return snprintf(buf, len, "%s %s, %s %s", suite_version(suite),
			suite->name, e->ops->name, e->ops->driver(e, cipher));
}

int tls_conn_describe(const struct tls_conn *conn, char *buf, size_t len)
{
	int ret = ctx_look(conn->ctx);

	if (ret)
		return ret;
	ret = describe(conn, buf, len);
	ctx_look_away(conn->ctx);
	return ret;
}

/* ---- Statistics -------------------------------------------------------- */

static void add_connection(struct tls_stats *s, const struct tls_conn *conn)
{
	tls_stats_add(s, &conn->account.stats, sizeof(*s));
	s->tx_in_flight_now += conn->tx.queue.in_flight;
	s->rx_in_flight_now += conn->rx.queue.in_flight;
}

static void add_connections(struct tls_stats *s, const struct list *all)
{
	const struct list *node;

	for (node = all->next; node != all; node = node->next)
		add_connection(s, container_of(node, struct tls_conn, all));
}

static void add_context(struct tls_stats *s, struct tls_context *ctx)
{
	struct core *core = &ctx->core;
	struct afalg_stats a = { 0 };

	if (ctx->choice.kernel_in_use)
		engine_afalg_stats(ctx->choice.kernel, &a);
	tls_stats_add(s, &core->stats, sizeof(*s));
	add_connections(s, &ctx->conns);
	add_connections(s, &ctx->gone);
	s->enters = ring_enters(core->ring);
	s->allocations = core->tx_pool.allocations + core->rx_pool.allocations +
			 core->slots.pool.allocations + a.allocations;
	s->op_sockets_now = a.sockets_now;
	s->op_sockets_peak = a.sockets_peak;
	s->memory_now = core->tx_pool.held + core->rx_pool.held;
	s->memory_peak = core->tx_pool.held_peak + core->rx_pool.held_peak;
	s->memory_parked = core->tx_pool.parked + core->rx_pool.parked;
}

int tls_context_stats(struct tls_context *ctx, struct tls_stats *stats,
		      size_t size)
{
	struct tls_stats s = { 0 };
	int ret = ctx_enter(ctx);

	if (ret)
		return ret;
	add_context(&s, ctx);
	ctx_leave(ctx);
	sized_give(stats, size, &s, sizeof(s));
	return 0;
}

int tls_conn_stats(struct tls_conn *conn, struct tls_stats *stats, size_t size)
{
	struct tls_stats s = { 0 };
	int ret = ctx_look(conn->ctx);

	if (ret)
		return ret;
	add_connection(&s, conn);
	s.memory_now = conn->tx.memory.held + conn->rx.memory.held;
	ctx_look_away(conn->ctx);
	sized_give(stats, size, &s, sizeof(s));
	return 0;
}
