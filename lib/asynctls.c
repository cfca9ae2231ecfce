/* SPDX-License-Identifier: MIT */
/* The public calls: arguments, blocking, and what to do in which order. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "ctx.h"
#include "engine_afalg.h"
#include "error.h"
#include "handoff.h"
#include "sized.h"
#include "takeover.h"
#include "ticket.h"

/*
 * So often a call looks whether there is more to do before it returns; each
 * time is bounded itself.
 */
enum { PROCESS_ROUNDS = 4 };

/* ---- Contexts ---------------------------------------------------------- */

int tls_context_new(struct tls_context **ctx, const struct tls_config *config)
{
	return ctx_new(ctx, config);
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
	if (!ctx || ctx_enter(ctx))
		return;
	ctx_leave(ctx);
	close_singly(ctx);
	if (ctx_enter(ctx))
		return;
	ctx_remove_all(ctx);
	ctx_leave(ctx);
	ctx_free(ctx);
}

int tls_context_adopt(struct tls_context *ctx)
{
	int cancel, ret;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	ret = ctx_adopt(ctx);
	pthread_setcancelstate(cancel, NULL);
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

static uint64_t deadline_of(int timeout_ms)
{
	if (timeout_ms < 0)
		return UINT64_MAX;
	return now_ns() + (uint64_t)timeout_ms * NS_PER_MS;
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
	uint64_t deadline = deadline_of(timeout_ms);
	unsigned rounds = 0; /* after the time-out */
	int n;

	for (;;) {
		ctx_step(ctx);
		ctx_flush_held(ctx);
		if (ctx->error)
			return ctx_error(ctx);
		n = ctx_collect(ctx, events, max);
		if (woken(ctx) || n) {
			ctx_submit(ctx);
			return n;
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
	int n = ctx_enter(ctx);

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

int tls_context_describe(const struct tls_context *ctx, char *buf, size_t len)
{
	int ret = ctx_look(ctx);

	if (ret)
		return ret;
	ret = choice_describe(&ctx->choice, buf, len);
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

/* ---- Writing ----------------------------------------------------------- */

static bool may_wait(const struct tls_conn *conn)
{
	int flags = fcntl(conn->fd, F_GETFL);

	return flags >= 0 && !(flags & O_NONBLOCK);
}

/* When a call that begins to wait must end: SO_RCVTIMEO or SO_SNDTIMEO. */
static uint64_t socket_deadline(const struct tls_conn *conn, int option)
{
	struct timeval tv = { 0 };
	socklen_t len = sizeof(tv);

	if (getsockopt(conn->fd, SOL_SOCKET, option, &tv, &len) ||
	    (!tv.tv_sec && !tv.tv_usec))
		return UINT64_MAX;
	return now_ns() + (uint64_t)tv.tv_sec * 1000 * NS_PER_MS +
	       (uint64_t)tv.tv_usec * 1000;
}

/* Would the descriptor's own call wait? *deadline is 0 until it is known. */
static bool waits(const struct tls_conn *conn, unsigned flags, int option,
		  uint64_t *deadline)
{
	if (*deadline)
		return true;
	if (flags & TLS_DONTWAIT || !may_wait(conn))
		return false;
	*deadline = socket_deadline(conn, option);
	return true;
}

/* The connection has just been given or relieved of something. */
static void settle(struct tls_conn *conn)
{
	struct tls_context *ctx = conn->ctx;

	conn_advance(conn);
	ctx_step(ctx);
	ctx_mark(ctx, conn);
}

/*
 * Who comes back to wait takes the sends of many connections along in one system
 * call; but an engine is not to lie idle, nor is a full send to leave the cache.
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
		if (!waits(conn, flags, SO_SNDTIMEO, &deadline))
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
	ssize_t n = ctx_enter_conn(conn);

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
		    deadline == 0 ||
		    (conn->writing.error && !despite) ||
		    !ctx_block(ctx, conn, AWAIT_FLUSHED, deadline))
			return;
	}
}

/* How a flush of the descriptor's own kind waits. */
static uint64_t own_deadline(const struct tls_conn *conn)
{
	return may_wait(conn) ? socket_deadline(conn, SO_SNDTIMEO) : 0;
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
	n = flush_until(conn, timeout_ms ? deadline_of(timeout_ms) : 0, true);
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
	ssize_t n;
	int fd;

	if (!conn)
		return 0;
	ctx = conn->ctx;
	n = ctx_enter(ctx);
	if (n)
		return n;
	conn_shutdown(conn);
	push_until(conn, deadline_of(timeout_ms), true);
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
	if (feed)
		tickets_feed(tickets, fd);
	handoff_session_end(session, alerted);
	descriptor_release(&descriptor);
	handoff_give_back(closes, fd); /* close(2) may linger */
	tickets_free(tickets);
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

/* ---- Reading ----------------------------------------------------------- */

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

static ssize_t read_some(struct tls_conn *conn, void *buf, size_t len)
{
	size_t n = rx_read(&conn->rx, buf, len);

	settle(conn);
	if (n)
		return (ssize_t)n;
	if (conn_read_status(conn) != -EAGAIN)
		conn->end_read = true;
	return conn->reading.error ? conn_say_reading(conn) :
				     conn_read_status(conn);
}

static ssize_t peek_some(struct tls_conn *conn, void *buf, size_t len)
{
	size_t n = rx_peek(&conn->rx, buf, len);

	if (conn->rx.error || conn->rx.closed)
		settle(conn);
	if (n)
		return (ssize_t)n;
	return conn->reading.error ? conn_say_reading(conn) :
				     conn_read_status(conn);
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
		       waits(conn, flags, SO_RCVTIMEO, &deadline))
			in_time = ctx_block(conn->ctx, conn, AWAIT_READ,
					    deadline);
		n = flags & TLS_PEEK ? peek_some(conn, buf, len) :
				       read_some(conn, buf, len);
		/* what was in the socket may be no data: see feed.h */
	} while (n == -EAGAIN && in_time &&
		 waits(conn, flags, SO_RCVTIMEO, &deadline));
	return n;
}

ssize_t tls_recv(struct tls_conn *conn, void *buf, size_t len, unsigned flags)
{
	struct tls_context *ctx = conn->ctx;
	ssize_t n = ctx_enter_conn(conn);
	bool feed;

	if (n)
		return n;
	if (flags & ~(TLS_DONTWAIT | TLS_PEEK))
		n = error_set(-EINVAL, "tls_recv(): no such flags");
	else if (len)
		n = read_wait(conn, buf, min_size(len, SSIZE_MAX), flags);
	feed = tickets_seal(conn->tickets, ctx->core.dispatch.cpu);
	ctx_leave_conn(conn);
	if (feed)
		tickets_feed(conn->tickets, conn->fd);
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
		n = error_set(-EINVAL, "tls_conn_leftover(): read until the "
			      "peer's close_notify, when tls_read() returns 0");
	} else {
		stop_receiving(conn);
		n = (ssize_t)rx_leftover(&conn->rx, buf,
					 min_size(len, SSIZE_MAX));
	}
	ctx_leave_conn(conn);
	return n;
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
