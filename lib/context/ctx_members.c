/* SPDX-License-Identifier: MIT */
#include "context/ctx_members.h"

#include <unistd.h>

void ctx_add(struct tls_context *ctx, struct tls_conn *conn)
{
	conn->ctx = ctx;
	list_move_tail(&ctx->conns, &conn->all);
	ctx->core.stats.connections++;
	ctx->core.stats.connections_now++;
	list_add_once(&ctx->core.todo, &conn->todo);
}

static bool in_flight(const struct tls_conn *conn)
{
	return conn->rx.receiving || conn->tx.sending;
}

static void cancel(struct tls_context *ctx, struct tls_conn *conn)
{
	if (conn->rx.receiving)
		ring_cancel(ctx->core.ring, &conn->rx.recv_op);
	if (conn->tx.sending)
		ring_cancel(ctx->core.ring, &conn->tx.send_op);
}

/* Nothing is to be started again that is cancelled now. */
static void begin_closing(struct tls_conn *conn)
{
	conn->closing = true;
	rx_stop(&conn->rx);
	tx_stop(&conn->tx);
	list_remove(&conn->held);
}

/*
 * A receive left in flight would keep the socket open after the application
 * has closed its descriptor, and a send would read memory that is gone. Where
 * the ring has broken down, that is for ctx_free().
 */
static void end_operations(struct tls_context *ctx, struct tls_conn *conn)
{
	begin_closing(conn);
	while (in_flight(conn) && !ctx->error) {
		cancel(ctx, conn);
		ctx_submit(ctx);
		if (in_flight(conn))
			ctx_block(ctx, conn, 0, now_ns() + NS_PER_MS);
	}
}

/* It is the context's no more, but to be released. */
static void let_go(struct tls_context *ctx, struct tls_conn *conn)
{
	list_remove(&conn->ready);
	ring_forget(ctx->core.ring, conn->fd);
	ctx->worker_saw = NULL; /* the memory may become another's */
	list_move_tail(&ctx->gone, &conn->all);
	ctx->core.stats.connections_now--;
	conn->gone = true;
	ctx_release(conn);
}

ssize_t ctx_remove(struct tls_context *ctx, struct tls_conn *conn)
{
	ssize_t ret;

	end_operations(ctx, conn);
	ret = conn->writing.error ? conn_check_writing(conn) :
				    (ssize_t)conn->tx.unsent;
	let_go(ctx, conn);
	ctx_step(ctx); /* others may wait for its memory */
	return ret;
}

/* Returns whether there was anything to be cancelled. */
static bool cancel_all(struct tls_context *ctx, const struct list *conns)
{
	struct list *node;
	bool any = false;

	for (node = conns->next; node != conns; node = node->next) {
		struct tls_conn *conn =
			container_of(node, struct tls_conn, all);

		cancel(ctx, conn);
		any |= in_flight(conn);
	}
	return any;
}

static void remove_some(struct tls_context *ctx, struct list *conns)
{
	struct list *node;

	ctx_submit(ctx);
	for (node = conns->next; node != conns; node = node->next)
		begin_closing(container_of(node, struct tls_conn, all));
	while (cancel_all(ctx, conns) && !ctx->error) {
		if (ring_submit(ctx->core.ring) || !ctx_step(ctx))
			ctx_block(ctx, NULL, 0, now_ns() + NS_PER_MS);
	}
	while (!list_empty(conns)) {
		struct tls_conn *conn =
			container_of(conns->next, struct tls_conn, all);

		descriptor_release(&conn->descriptor);
		let_go(ctx, conn);
	}
}

/*
 * So many at a time share system calls, and their alerts memory. The latest
 * first: the kernel looks for operations in lists that begin with those.
 */
void ctx_remove_all(struct tls_context *ctx)
{
	enum { AT_ONCE = 128 };
	struct list some;

	while (!list_empty(&ctx->conns)) {
		unsigned n = 0;

		list_init(&some);
		while (n++ < AT_ONCE && !list_empty(&ctx->conns)) {
			struct list *last = ctx->conns.prev;

			conn_shutdown(container_of(last, struct tls_conn, all));
			list_move_tail(&some, last);
		}
		remove_some(ctx, &some);
	}
}

static bool store(struct tls_context *ctx, struct tls_conn *conn,
		  struct tls_event *event)
{
	unsigned events = conn_events(conn);

	if (!events) {
		list_remove(&conn->ready);
		if (conn->wants_room) /* somebody else has had it */
			tx_await_memory(&conn->tx);
		return false;
	}
	*event = (struct tls_event){ conn, conn->data, events };
	if (events & TLS_WRITABLE)
		conn->wants_room = conn->wants_flush = false;
	if (events & TLS_CLOSED) {
		conn->end_told |= conn->reading.error || conn->rx.closed;
		conn->fault_told |= conn->writing.error != 0;
	}
	list_move_tail(&ctx->ready, &conn->ready);
	return true;
}

static void clear_signal(struct tls_context *ctx)
{
	uint64_t count;

	if (ctx->signalled && !ctx->error)
		ctx->signalled =
			read(ctx->event.fd, &count, sizeof(count)) < 0;
}

int ctx_collect(struct tls_context *ctx, struct tls_event *events, int max)
{
	struct list *node;
	int n = 0;

	clear_signal(ctx);
	/* connections stored queue up again behind the mark */
	list_move_tail(&ctx->ready, &ctx->ready_end);
	while (n < max && (node = ctx->ready.next) != &ctx->ready_end)
		n += store(ctx, container_of(node, struct tls_conn, ready),
			   &events[n]);
	list_remove(&ctx->ready_end);
	return n;
}
