/* SPDX-License-Identifier: MIT */
/* The public calls that write: blocking, and what to do in which order. */
#include <errno.h>
#include <limits.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/call.h"
#include "base/error.h"
#include "context/ctx_members.h"
#include "openssl/handoff.h"
#include "openssl/ticket.h"

/*
 * Who comes back to wait takes the sends of many connections along in one
 * system call; but an engine is not to lie idle, nor is a full send to leave
 * the cache.
 */
static bool worth_submitting(const struct tls_conn *conn)
{
	if (conn->core->dispatch.kernel)
		return true;
	return conn->tx.sending &&
	       (!ctx_comes_back(conn->ctx) || tx_due(&conn->tx));
}

static ssize_t write_some(struct tls_conn *conn, struct source *from, bool more)
{
	ssize_t n = conn_check_writing(conn);

	if (n)
		return n;
	n = tx_write(&conn->tx, from, more);
	if (!n && from->left && !from->error && tx_starved(&conn->tx))
		return error_set(-ENOMEM, "no memory for a record");
	if (!more && conn->tx.open && (n || !from->error))
		conn->sealing = true; /* there was no room for it */
	conn_advance(conn);
	if (worth_submitting(conn))
		ctx_submit(conn->ctx);
	return n <= 0 && conn->writing.error ? conn_check_writing(conn) : n;
}

/* Writes until all is taken, or there is no room and no waiting. */
static ssize_t write_all(struct tls_conn *conn, struct source *from,
			 unsigned flags)
{
	struct tls_context *ctx = conn->ctx;
	uint64_t epoch, deadline = 0;
	size_t done = 0;
	ssize_t n;

	for (;;) {
		epoch = ctx->wake.epoch;
		n = write_some(conn, from, flags & TLS_MORE);
		if (n < 0)
			return done ? (ssize_t)done : n;
		done += (size_t)n;
		if (!from->left || from->error)
			return done ? (ssize_t)done : from->error;
		ctx_step(ctx);
		if (n || epoch != ctx->wake.epoch)
			continue; /* what has completed may have made room */
		if (!call_waits(conn, flags, SO_SNDTIMEO, &deadline))
			break;
		conn_flush(conn);
		if (!ctx_block(ctx, conn, AWAIT_ROOM, deadline))
			break;
	}
	conn->wants_room = true;
	ctx_mark(ctx, conn);
	return done ? (ssize_t)done : -EAGAIN;
}

static ssize_t write_from(struct tls_conn *conn, struct source *from,
			  unsigned flags)
{
	uint64_t now = now_ns();

	if (!(flags & TLS_MORE) && now - conn->tx.last_write > NS_PER_MS)
		conn->flushing = true;
	conn->tx.last_write = now;
	return write_all(conn, from, flags);
}

ssize_t tls_send(struct tls_conn *conn, const void *buf, size_t len,
		 unsigned flags)
{
	const struct iovec iov = { (void *)(uintptr_t)buf, len };
	struct source from = source_pieces(&iov, len);
	ssize_t n;

	pthread_testcancel();
	n = ctx_enter_conn(conn);

	if (n)
		return n;
	if (flags & ~(TLS_MORE | TLS_DONTWAIT) || len > SSIZE_MAX)
		n = error_set(-EINVAL, "tls_send(): no such flags, or a "
				       "length over SSIZE_MAX");
	else
		n = write_from(conn, &from, flags);
	ctx_leave_conn(conn);
	return n;
}

ssize_t tls_write(struct tls_conn *conn, const void *buf, size_t len)
{
	return tls_send(conn, buf, len, 0);
}

/* The sum of the lengths, -1 if there is none that could be returned. */
static ssize_t total_of(const struct iovec *iov, int iovcnt)
{
	size_t total = 0;
	int i;

	if (iovcnt < 0)
		return -1;
	for (i = 0; i < iovcnt; i++) {
		if (iov[i].iov_len > SSIZE_MAX - total)
			return -1;
		total += iov[i].iov_len;
	}
	return (ssize_t)total;
}

ssize_t tls_writev(struct tls_conn *conn, const struct iovec *iov, int iovcnt)
{
	ssize_t n = ctx_enter_conn(conn), total;
	struct source from;

	if (n)
		return n;
	total = total_of(iov, iovcnt);
	from = source_pieces(iov, (size_t)total);
	if (total < 0)
		n = error_set(-EINVAL, "tls_writev(): a negative number of "
				       "buffers, or a length over SSIZE_MAX");
	else
		n = write_from(conn, &from, 0);
	ctx_leave_conn(conn);
	return n;
}

static ssize_t send_file(struct tls_conn *conn, int file_fd, off_t *offset,
			 size_t count)
{
	struct source from;
	off_t at;
	ssize_t n = conn_check_writing(conn);

	if (n)
		return n;
	n = source_file(&from, file_fd, offset, min_size(count, SSIZE_MAX));
	if (n)
		return n;
	at = from.at;
	n = write_from(conn, &from, 0);
	if (n > 0 && offset)
		*offset = at + n;
	else if (n > 0)
		lseek(file_fd, at + n, SEEK_SET);
	return n;
}

ssize_t tls_sendfile(struct tls_conn *conn, int file_fd, off_t *offset,
		     size_t count)
{
	ssize_t n = ctx_enter_conn(conn);

	if (n)
		return n;
	n = send_file(conn, file_fd, offset, count);
	ctx_leave_conn(conn);
	return n;
}

/* Push until everything is with the socket, or the deadline (0: no waiting). */
static void push_until(struct tls_conn *conn, uint64_t deadline, bool despite)
{
	struct tls_context *ctx = conn->ctx;

	for (;;) {
		conn_flush(conn);
		ctx_submit(ctx);
		if (!conn_flushed(conn))
			ctx_step(ctx); /* who calls again sees it end */
		if (conn_flushed(conn) || tx_starved(&conn->tx) ||
		    deadline == 0 || (conn->writing.error && !despite) ||
		    !ctx_block(ctx, conn, AWAIT_FLUSHED, deadline))
			return;
	}
}

/* How a flush of the descriptor's own kind waits. */
static uint64_t own_deadline(const struct tls_conn *conn)
{
	return call_may_wait(conn) ? call_socket_deadline(conn, SO_SNDTIMEO)
				   : 0;
}

/*
 * Only a send that has ended tells how far it came. The next goes on there, but
 * later: the socket might take more of it than it did of this one, and the
 * count would be old when it is returned.
 */
static void stop_send(struct tls_conn *conn)
{
	struct tls_context *ctx = conn->ctx;

	conn->tx.paused = true;
	while (conn->tx.sending && !ctx->error) {
		ring_cancel(ctx->core.ring, &conn->tx.send_op);
		ctx_submit(ctx);
		if (conn->tx.sending)
			ctx_block(ctx, conn, 0, now_ns() + NS_PER_MS);
	}
	conn->tx.paused = false;
}

static ssize_t flush_until(struct tls_conn *conn, uint64_t deadline,
			   bool exactly)
{
	push_until(conn, deadline, false);
	if (exactly && !conn_flushed(conn))
		stop_send(conn);
	if (conn->writing.error)
		return conn_check_writing(conn);
	if (!conn_flushed(conn)) {
		if (tx_starved(&conn->tx))
			return error_set(-ENOMEM, "no memory for a record");
		conn->wants_flush = true;
		ctx_mark(conn->ctx, conn);
	}
	return (ssize_t)conn->tx.unsent;
}

ssize_t tls_flush(struct tls_conn *conn)
{
	ssize_t n = ctx_enter_conn(conn);

	if (n)
		return n;
	n = flush_until(conn, own_deadline(conn), false);
	ctx_leave_conn(conn);
	return n;
}

ssize_t tls_flush_timeout(struct tls_conn *conn, int timeout_ms)
{
	ssize_t n = ctx_enter_conn(conn);

	if (n)
		return n;
	n = flush_until(conn, timeout_ms ? call_deadline(timeout_ms) : 0, true);
	ctx_leave_conn(conn);
	return n;
}

ssize_t tls_shutdown(struct tls_conn *conn)
{
	ssize_t n = ctx_enter_conn(conn);

	if (n)
		return n;
	conn_shutdown(conn);
	n = flush_until(conn, own_deadline(conn), false);
	ctx_leave_conn(conn);
	return n;
}

ssize_t tls_close(struct tls_conn *conn, int timeout_ms)
{
	struct tls_context *ctx;
	struct descriptor descriptor;
	struct handoff_session *session;
	struct bio_st *closes;
	struct tickets *tickets;
	bool feed, alerted;
	int fd, cancel;
	ssize_t n;

	if (!conn)
		return 0;
	ctx = conn->ctx;
	n = ctx_enter(ctx);
	if (n)
		return n;
	conn_shutdown(conn);
	push_until(conn, call_deadline(timeout_ms), true);
	tickets = conn->tickets;
	conn->tickets = NULL;
	feed = tickets_seal(tickets, ctx->core.dispatch.cpu);
	tickets_let_go(tickets);
	descriptor = conn->descriptor;
	closes = conn->closes;
	session = conn->session;
	alerted = conn_alerted(conn);
	fd = conn->fd;
	n = ctx_remove(ctx, conn);
	ctx_leave(ctx);
	cancel = call_keep_thread();
	if (feed)
		tickets_feed(tickets, fd);
	handoff_session_end(session, alerted);
	descriptor_release(&descriptor);
	handoff_give_back(closes, fd); /* close(2) may linger */
	tickets_free(tickets);
	call_let_thread(cancel);
	return n;
}

int tls_conn_update_keys(struct tls_conn *conn, unsigned flags)
{
	int ret = ctx_enter_conn(conn);

	if (ret)
		return ret;
	if (flags & ~TLS_UPDATE_REQUESTED)
		ret = error_set(-EINVAL, "tls_conn_update_keys(): no such "
					 "flags");
	else
		ret = conn_update_keys(conn, flags & TLS_UPDATE_REQUESTED);
	ctx_leave_conn(conn);
	return ret;
}
