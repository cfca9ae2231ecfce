/* SPDX-License-Identifier: MIT */
#include "conn.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "error.h"

enum {
	MESSAGE_NEW_SESSION_TICKET = 4,
	MESSAGE_KEY_UPDATE = 24,
};

void conn_init(struct tls_conn *conn, struct core *core, int fd,
	       bool is_server)
{
	*conn = (struct tls_conn){
		.core = core,
		.fd = fd,
		.is_server = is_server,
		.wanted = TLS_READABLE | TLS_WRITABLE | TLS_CLOSED,
		.alert_sent = ALERT_NONE,
		.alert_received = ALERT_NONE,
		.alert_due = ALERT_NONE,
	};
	list_init(&conn->all);
	list_init(&conn->todo);
	list_init(&conn->held);
	list_init(&conn->ready);
}

int conn_check_record_size(size_t max)
{
	if (max >= RECORD_PLAIN_MIN && max <= RECORD_PLAIN_MAX)
		return 0;
	return error_set(-EINVAL, "records of at most %zu bytes: the limit may "
			 "be %d to %d", max, RECORD_PLAIN_MIN, RECORD_PLAIN_MAX);
}

/* ---- Errors ------------------------------------------------------------ */

__attribute__((format(printf, 2, 3))) static void
say(struct tls_conn *conn, const char *format, ...)
{
	va_list args;

	if (conn->words[0])
		return;
	va_start(args, format);
	vsnprintf(conn->words, sizeof(conn->words), format, args);
	va_end(args);
}

/* The first error stays; alert goes out behind what was written before. */
static void fail(struct tls_conn *conn, int error, int alert)
{
	if (conn->error)
		return;
	conn->error = error;
	conn->shut = true;
	conn->core->stats.connections_failed++;
	if (alert != ALERT_NONE && conn->alert_sent == ALERT_NONE)
		conn->alert_due = alert;
}

static void fail_read(struct tls_conn *conn)
{
	const struct rx *rx = &conn->rx;

	switch (rx->error) {
	case -EBADMSG:
		say(conn, "record %llu from the peer did not authenticate",
		    (unsigned long long)(rx->seq - queue_count(&rx->queue)));
		break;
	case -EMSGSIZE:
		say(conn, "the peer sent a record longer than TLS allows");
		break;
	case -ECONNRESET:
		say(conn, "the connection ended without close_notify: what was "
			  "read may be truncated");
		break;
	case -EPROTO:
		say(conn, "the peer sent something that is no TLS 1.3 record "
			  "at this place");
		break;
	case -EIO:
		say(conn, "no engine could open a record");
		break;
	default:
		say(conn, "receiving failed: %s", strerror(-rx->error));
		break;
	}
	fail(conn, rx->error, rx->alert);
}

static void fail_write(struct tls_conn *conn)
{
	if (conn->tx.error == -EIO)
		say(conn, "no engine could seal a record");
	else
		say(conn, "sending failed: %s", strerror(-conn->tx.error));
	fail(conn, conn->tx.error, ALERT_NONE);
}

/* ---- Records that are no data ------------------------------------------ */

static int take_alert(struct tls_conn *conn, const uint8_t *content, size_t len,
		      int *alert)
{
	*alert = ALERT_DECODE_ERROR;
	if (len != 2) {
		say(conn, "the peer sent an alert of %zu bytes", len);
		return -EPROTO;
	}
	*alert = ALERT_NONE;
	/* a warning in TLS 1.3, with close_notify to follow (RFC 8446 6.1) */
	if (content[1] == ALERT_USER_CANCELED)
		return 0;
	conn->alert_received = content[1];
	if (content[1] == ALERT_CLOSE_NOTIFY) {
		conn->rx.closed = true;
		return 0;
	}
	say(conn, "the peer ended the connection with alert %d", content[1]);
	return -EPROTO;
}

static int take_message(struct tls_conn *conn, uint8_t message)
{
	if (message == MESSAGE_NEW_SESSION_TICKET && !conn->is_server) {
		tickets_begin(conn->tickets, conn->message,
			      conn->message_left);
		return 0;
	}
	if (message == MESSAGE_KEY_UPDATE)
		say(conn, "the peer sent a KeyUpdate, which this version does "
			  "not carry");
	else
		say(conn, "the peer sent handshake message %d after the "
			  "handshake", message);
	return -EPROTO;
}

/*
 * Messages may share a record or be spread over several (RFC 8446 5.1). Only
 * the four header bytes are looked at.
 */
static int take_handshake(struct tls_conn *conn, const uint8_t *content,
			  size_t len)
{
	while (len) {
		size_t skip = min_size(len, conn->message_left);
		int ret;

		if (skip)
			tickets_add(conn->tickets, content, skip);
		content += skip;
		len -= skip;
		conn->message_left -= skip;
		if (!len)
			break;
		conn->message[conn->message_have++] = *content++;
		len--;
		if (conn->message_have < 4)
			continue;
		conn->message_have = 0;
		conn->message_left = (size_t)conn->message[1] << 16 |
				     (size_t)conn->message[2] << 8 |
				     conn->message[3];
		ret = take_message(conn, conn->message[0]);
		if (ret)
			return ret;
	}
	return 0;
}

int conn_control(struct rx *rx, uint8_t type, const uint8_t *content,
		 size_t len, int *alert)
{
	struct tls_conn *conn = container_of(rx, struct tls_conn, rx);
	int ret;

	*alert = ALERT_UNEXPECTED_MESSAGE;
	if (type == RECORD_ALERT)
		return take_alert(conn, content, len, alert);
	if (type == RECORD_DATA) {
		say(conn, "the peer sent data inside a handshake message");
		return -EPROTO;
	}
	if (type != RECORD_HANDSHAKE || !len) {
		say(conn, "the peer sent an empty record or one of type %d",
		    type);
		return -EPROTO;
	}
	ret = take_handshake(conn, content, len);
	rx->in_message = conn->message_have || conn->message_left;
	return ret;
}

/* ---- Moving on --------------------------------------------------------- */

static void send_due_alert(struct tls_conn *conn)
{
	uint8_t level = conn->alert_due == ALERT_CLOSE_NOTIFY ?
				ALERT_LEVEL_WARNING :
				ALERT_LEVEL_FATAL;

	if (conn->alert_due == ALERT_NONE || conn->tx.error)
		return;
	if (tx_alert(&conn->tx, level, (uint8_t)conn->alert_due))
		return; /* no room yet */
	conn->alert_sent = conn->alert_due;
	conn->alert_due = ALERT_NONE;
	conn->flushing = true;
}

bool conn_flushed(const struct tls_conn *conn)
{
	return conn->tx.error ||
	       (!conn->tx.held && !(conn->sealing && conn->tx.open_len) &&
		conn->alert_due == ALERT_NONE);
}

static void push(struct tls_conn *conn)
{
	send_due_alert(conn);
	if (conn->sealing && tx_seal_open(&conn->tx) == 0)
		conn->sealing = false;
	if (conn->flushing || tx_due(&conn->tx))
		tx_push(&conn->tx);
	if (conn->tx.error && !conn->error)
		fail_write(conn);
	if (conn_flushed(conn))
		conn->flushing = false;
	if (conn->tx.held && !conn->tx.error)
		list_add_once(&conn->core->held, &conn->held);
	else
		list_remove(&conn->held);
}

void conn_advance(struct tls_conn *conn)
{
	if (conn->closing)
		return;
	if (!conn->error)
		rx_advance(&conn->rx);
	if (conn->rx.error && !conn->error)
		fail_read(conn);
	push(conn);
}

void conn_push(struct tls_conn *conn)
{
	conn->flushing = true;
	push(conn);
}

void conn_flush(struct tls_conn *conn)
{
	conn->sealing = true;
	conn_push(conn);
}

void conn_shutdown(struct tls_conn *conn)
{
	if (!conn->shut) {
		conn->shut = true;
		conn->alert_due = ALERT_CLOSE_NOTIFY;
	}
	conn_flush(conn);
}

int conn_read_status(const struct tls_conn *conn)
{
	if (conn->error)
		return conn->error;
	return conn->rx.closed ? 0 : -EAGAIN;
}

unsigned conn_events(const struct tls_conn *conn)
{
	bool ended = conn->error || conn->rx.closed;
	unsigned events = 0;

	if (rx_readable(&conn->rx) || (ended && !conn->end_read))
		events |= TLS_READABLE;
	if (ended && !conn->end_told)
		events |= TLS_CLOSED;
	if ((conn->wants_room && (conn->error || tx_room(&conn->tx))) ||
	    (conn->wants_flush && conn_flushed(conn)))
		events |= TLS_WRITABLE;
	return events & conn->wanted;
}
