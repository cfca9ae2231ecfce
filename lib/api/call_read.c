/* SPDX-License-Identifier: MIT */
/* The public calls that read: blocking, and what to do in which order. */
#include <errno.h>
#include <limits.h>
#include <sys/socket.h>

#include "api/call.h"
#include "base/error.h"
#include "openssl/ticket.h"

static bool more_to_read(const struct tls_conn *conn)
{
	return rx_readable(&conn->rx) || conn_read_status(conn) != -EAGAIN;
}

/* Make something readable if that takes no waiting. */
static void gather_reads(struct tls_conn *conn)
{
	struct tls_context *ctx = conn->ctx;

	if (!more_to_read(conn))
		ctx_step(ctx);
	if (!more_to_read(conn))
		ctx_submit(ctx);
}

/* The connection has just been given or relieved of something. */
static void settle(struct tls_conn *conn)
{
	struct tls_context *ctx = conn->ctx;

	conn_advance(conn);
	ctx_settle(ctx);
	ctx_mark(ctx, conn);
}

static ssize_t read_some(struct tls_conn *conn, void *buf, size_t len)
{
	size_t n = rx_read(&conn->rx, buf, len);

	settle(conn);
	if (n)
		return (ssize_t)n;
	if (conn_read_status(conn) != -EAGAIN)
		conn->end_read = true;
	return conn->reading.error ? conn_say_reading(conn)
				   : conn_read_status(conn);
}

static ssize_t peek_some(struct tls_conn *conn, void *buf, size_t len)
{
	size_t n = rx_peek(&conn->rx, buf, len);

	if (conn->rx.error || conn->rx.closed)
		settle(conn);
	if (n)
		return (ssize_t)n;
	return conn->reading.error ? conn_say_reading(conn)
				   : conn_read_status(conn);
}

static ssize_t read_wait(struct tls_conn *conn, void *buf, size_t len,
			 unsigned flags)
{
	uint64_t deadline = 0;
	bool in_time = true;
	ssize_t n;

	conn_flush(conn);
	if (conn->tx.sending)
		ctx_submit(conn->ctx);
	gather_reads(conn);
	do {
		while (in_time && !more_to_read(conn) &&
		       call_waits(conn, flags, SO_RCVTIMEO, &deadline))
			in_time = ctx_block(conn->ctx, conn, AWAIT_READ,
					    deadline);
		n = flags & TLS_PEEK ? peek_some(conn, buf, len)
				     : read_some(conn, buf, len);
		/* what was in the socket may be no data: see feed.h */
	} while (n == -EAGAIN && in_time &&
		 call_waits(conn, flags, SO_RCVTIMEO, &deadline));
	return n;
}

ssize_t tls_recv(struct tls_conn *conn, void *buf, size_t len, unsigned flags)
{
	struct tls_context *ctx = conn->ctx;
	bool feed;
	ssize_t n;

	pthread_testcancel();
	n = ctx_enter_conn(conn);
	if (n)
		return n;
	if (flags & ~(TLS_DONTWAIT | TLS_PEEK))
		n = error_set(-EINVAL, "tls_recv(): no such flags");
	else if (len)
		n = read_wait(conn, buf, min_size(len, SSIZE_MAX), flags);
	feed = tickets_seal(conn->tickets, ctx->core.dispatch.cpu);
	ctx_leave_conn(conn);
	if (feed) {
		int cancel = call_keep_thread();

		tickets_feed(conn->tickets, conn->fd);
		call_let_thread(cancel);
	}
	return n;
}

ssize_t tls_read(struct tls_conn *conn, void *buf, size_t len)
{
	return tls_recv(conn, buf, len, 0);
}

int tls_conn_ignore_eof(struct tls_conn *conn, int ignore)
{
	int ret = ctx_enter_conn(conn);

	if (ret)
		return ret;
	conn_ignore_eof(conn, ignore);
	ctx_leave_conn(conn);
	return 0;
}

/* What is under way might be, or bring, what is asked for. */
static void stop_receiving(struct tls_conn *conn)
{
	struct tls_context *ctx = conn->ctx;

	while ((conn->rx.receiving || conn->rx.queue.in_flight) &&
	       !ctx->error) {
		if (conn->rx.receiving)
			ring_cancel(ctx->core.ring, &conn->rx.recv_op);
		ctx_submit(ctx);
		if (conn->rx.receiving || conn->rx.queue.in_flight)
			ctx_block(ctx, conn, 0, now_ns() + NS_PER_MS);
	}
}

ssize_t tls_conn_leftover(struct tls_conn *conn, void *buf, size_t len)
{
	ssize_t n = ctx_enter_conn(conn);

	if (n)
		return n;
	if (conn->alert_received != ALERT_CLOSE_NOTIFY) {
		n = error_set(-EINVAL,
			      "tls_conn_leftover(): read until the "
			      "peer's close_notify, when tls_read() returns 0");
	} else {
		stop_receiving(conn);
		n = (ssize_t)rx_leftover(&conn->rx, buf,
					 min_size(len, SSIZE_MAX));
	}
	ctx_leave_conn(conn);
	return n;
}
