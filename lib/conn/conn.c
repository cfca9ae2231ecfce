/* SPDX-License-Identifier: MIT */
#include "conn/conn.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

/*
 * As many records that change nothing (empty ones, warnings, attempts to
 * renegotiate, tickets), and KeyUpdates, without data between them are a
 * nuisance or an attack. OpenSSL and BoringSSL have the same number.
 */
enum { MAX_TRIFLES = 32 };

/* Records of ours that a peer's KeyUpdates may yet refer to, at most. */
enum { MAX_PROMPTS = 1 << 14 };

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

void conn_limit(struct tls_conn *conn, size_t plain_max)
{
	conn->rx.plain_max = plain_max;
	conn->tx.plain_max = plain_max;
}

int conn_check_record_size(size_t max)
{
	if (max >= RECORD_PLAIN_MIN && max <= RECORD_PLAIN_MAX)
		return 0;
	return error_set(-EINVAL, "records of at most %zu bytes: the limit may "
			 "be %d to %d", max, RECORD_PLAIN_MIN, RECORD_PLAIN_MAX);
}

static bool is_tls12(const struct tls_conn *conn)
{
	return conn->rx.gen->suite->version == CIPHER_TLS12;
}

/* ---- Errors ------------------------------------------------------------ */

/* About what the peer has sent, before it is known to end the connection. */
__attribute__((format(printf, 2, 3))) static void
say(struct tls_conn *conn, const char *format, ...)
{
	char *words = conn->reading.words;
	va_list args;

	if (words[0])
		return;
	va_start(args, format);
	vsnprintf(words, sizeof(conn->reading.words), format, args);
	va_end(args);
}

static void set_error(struct tls_conn *conn, struct fault *fault, int error)
{
	if (!conn->reading.error && !conn->writing.error)
		conn->core->stats.connections_failed++;
	fault->error = error;
}

static void end_reading(struct tls_conn *conn, int error, const char *words)
{
	set_error(conn, &conn->reading, error);
	say(conn, "%s", words);
}

/* alert goes out behind what was written before. */
static void end_writing(struct tls_conn *conn, int error, int alert)
{
	if (conn->writing.error)
		return;
	set_error(conn, &conn->writing, error);
	conn->shut = true;
	if (alert != ALERT_NONE && conn->alert_sent == ALERT_NONE)
		conn->alert_due = alert;
}

/* A connection's end that a send has told of, a receive no longer knows. */
static int read_error(const struct tls_conn *conn)
{
	if (conn->rx.error == -ENODATA && conn->tx.error &&
	    conn->tx.error != -EPIPE)
		return conn->tx.error;
	return conn->rx.error;
}

static void fail_read(struct tls_conn *conn)
{
	const struct rx *rx = &conn->rx;
	int error = read_error(conn);

	switch (error) {
	case -EBADMSG:
		say(conn, "record %llu from the peer did not authenticate",
		    (unsigned long long)(rx->seq - queue_count(&rx->queue)));
		break;
	case -EMSGSIZE:
		say(conn, "the peer sent a record longer than TLS allows");
		break;
	case -ENODATA:
		say(conn, "the stream ended without close_notify: what was "
			  "read may be truncated");
		break;
	case -ECONNRESET:
		say(conn, "the connection was reset: what was read may be "
			  "truncated");
		break;
	case -EPROTO:
		say(conn, "the peer sent something that is no %s record at "
			  "this place", suite_version(rx->gen->suite));
		break;
	case -EIO:
		say(conn, "no engine could open a record");
		break;
	case -EKEYEXPIRED:
		say(conn, "the peer sent as many records under one key as can "
			  "be numbered");
		break;
	default:
		say(conn, "receiving failed: %s", strerror(-error));
		break;
	}
	set_error(conn, &conn->reading, error);
	if (error != -ENODATA)
		end_writing(conn, error, rx->alert);
}

/* Has TCP ended? Then a receive, too, comes to an end, after what is there. */
static bool ends_reading_itself(int error)
{
	switch (error) {
	case -EPIPE: /* or our side alone was shut down */
	case -ECONNRESET:
	case -ECONNABORTED:
	case -ETIMEDOUT:
	case -EHOSTUNREACH:
	case -ENETUNREACH:
		return true;
	}
	return false;
}

/*
 * Where nothing else would end a read that waits for an answer to what was not
 * sent, this does.
 */
static void fail_write(struct tls_conn *conn)
{
	struct fault *fault = &conn->writing;

	if (conn->tx.error == -EIO)
		snprintf(fault->words, sizeof(fault->words),
			 "no engine could seal a record");
	else
		snprintf(fault->words, sizeof(fault->words),
			 "sending failed: %s", strerror(-conn->tx.error));
	end_writing(conn, conn->tx.error, ALERT_NONE);
	if (!ends_reading_itself(conn->tx.error) && !conn->reading.error &&
	    !conn->rx.closed)
		end_reading(conn, conn->tx.error, fault->words);
}

static void wear_out(struct tls_conn *conn)
{
	struct fault *fault = &conn->writing;

	snprintf(fault->words, sizeof(fault->words),
		 "as many records were sent as one key is good for, and "
		 "TLS 1.2 has no other");
	end_writing(conn, -EKEYEXPIRED, ALERT_CLOSE_NOTIFY);
}

static const char *words_of(const struct fault *fault,
			    const struct fault *other)
{
	if (!fault->error)
		return "";
	return fault->words[0] ? fault->words : other->words;
}

const char *conn_words(const struct tls_conn *conn)
{
	if (conn->reading.error)
		return conn->reading.words;
	return words_of(&conn->writing, &conn->reading);
}

int conn_say_reading(const struct tls_conn *conn)
{
	return error_set(conn->reading.error, "%s", conn->reading.words);
}

int conn_check_writing(const struct tls_conn *conn)
{
	if (conn->writing.error)
		return error_set(conn->writing.error, "%s",
				 words_of(&conn->writing, &conn->reading));
	if (conn->shut)
		return error_set(-EPIPE, "nothing can be written after "
				 "tls_shutdown()");
	return 0;
}

void conn_ignore_eof(struct tls_conn *conn, bool ignore)
{
	conn->rx.ignore_eof = ignore;
	/* it may have been noticed already, but not by the application */
	if (!ignore || conn->reading.error != -ENODATA || conn->end_read)
		return;
	conn->rx.error = conn->reading.error = 0;
	conn->rx.closed = true;
}

void conn_break(struct tls_conn *conn, int error, const char *words)
{
	struct fault *fault = &conn->writing;

	if (!conn->reading.error && !conn->rx.closed)
		end_reading(conn, error, words);
	if (!fault->error)
		snprintf(fault->words, sizeof(fault->words), "%s", words);
	end_writing(conn, error, ALERT_NONE);
	if (!conn->tx.error)
		conn->tx.error = error;
}

/* ---- Records that are no data ------------------------------------------ */

/* Of what changes nothing, without data between. */
static bool too_many(struct tls_conn *conn)
{
	const uint64_t *rx_bytes = conn->account.stats.rx_bytes;
	uint64_t data = rx_bytes[TLS_BY_CPU] + rx_bytes[TLS_BY_KERNEL];

	if (data != conn->rx_data)
		conn->updates = 0;
	conn->rx_data = data;
	return ++conn->updates > MAX_TRIFLES;
}

/* Some things may be sent without effect, but not for ever. */
static int take_trifle(struct tls_conn *conn)
{
	if (!too_many(conn))
		return 0;
	say(conn, "the peer sent more than %d empty records, warnings or "
		  "tickets without data between them", MAX_TRIFLES);
	return -EPROTO;
}

/*
 * Is it no more than a warning? By its level (RFC 5246 7.2); but TLS 1.3 has
 * none but user_canceled, with close_notify to follow (RFC 8446 6.1).
 */
static bool only_warns(const struct tls_conn *conn, const uint8_t alert[2])
{
	if (!is_tls12(conn))
		return alert[1] == ALERT_USER_CANCELED;
	return alert[0] == ALERT_LEVEL_WARNING &&
	       alert[1] != ALERT_CLOSE_NOTIFY;
}

static int take_alert(struct tls_conn *conn, const uint8_t *content, size_t len,
		      int *alert)
{
	bool warns;

	if (len != 2) {
		*alert = ALERT_DECODE_ERROR;
		say(conn, "the peer sent an alert of %zu bytes", len);
		return -EPROTO;
	}
	warns = only_warns(conn, content);
	/* of a peer that has met an error, that is better known (5.1, 6.2) */
	if (conn->rx.in_message && !is_tls12(conn) &&
	    (warns || content[1] == ALERT_CLOSE_NOTIFY)) {
		say(conn, "the peer sent an alert inside a handshake message");
		return -EPROTO;
	}
	if (warns)
		return take_trifle(conn);
	*alert = ALERT_NONE;
	conn->alert_received = content[1];
	if (content[1] == ALERT_CLOSE_NOTIFY) {
		conn->rx.closed = true;
		return 0;
	}
	say(conn, "the peer ended the connection with alert %d", content[1]);
	return -EPROTO;
}

/*
 * Neither a HelloRequest nor a ClientHello is followed: a warning says so,
 * once (RFC 5246 7.2.2), and it goes on.
 */
static int refuse_renegotiation(struct tls_conn *conn)
{
	conn->refusal_due |= !conn->refused;
	conn->refused = true;
	return take_trifle(conn);
}

/* A message's header has come. */
static int begin_message(struct tls_conn *conn, uint8_t message, size_t len,
			 int *alert)
{
	if (is_tls12(conn) && message == (conn->is_server ?
						  MESSAGE_CLIENT_HELLO :
						  MESSAGE_HELLO_REQUEST))
		return refuse_renegotiation(conn);
	if (is_tls12(conn)) {
		say(conn, "the peer sent handshake message %d after the "
			  "handshake", message);
		return -EPROTO;
	}
	if (message == MESSAGE_NEW_SESSION_TICKET && !conn->is_server &&
	    len <= MESSAGE_TICKET_MAX) {
		tickets_begin(conn->tickets, conn->message, len);
		return take_trifle(conn);
	}
	if (message == MESSAGE_KEY_UPDATE && len == 1)
		return 0;
	if (message == MESSAGE_KEY_UPDATE) {
		*alert = ALERT_DECODE_ERROR;
		say(conn, "the peer sent a KeyUpdate of %zu bytes", len);
	} else if (message == MESSAGE_NEW_SESSION_TICKET && !conn->is_server) {
		*alert = ALERT_DECODE_ERROR;
		say(conn, "the peer sent a NewSessionTicket of %zu bytes",
		    len);
	} else if (message == MESSAGE_CERTIFICATE_REQUEST && !conn->is_server) {
		say(conn, "the peer asked for a certificate after the "
			  "handshake, which only OpenSSL could send");
	} else {
		say(conn, "the peer sent handshake message %d after the "
			  "handshake", message);
	}
	return -EPROTO;
}

/*
 * Answers without data between are no nuisance: each KeyUpdate we asked with
 * allows for one.
 */
static bool an_answer(struct tls_conn *conn)
{
	if (!conn->tx.asked)
		return false;
	conn->tx.asked--;
	return true;
}

/*
 * A peer that reads much under one key may ask for the next with every record
 * of ours that it reads (Java's does) until it has it: one for each is no
 * nuisance either.
 */
static bool was_prompted(struct tls_conn *conn)
{
	uint64_t prompts = conn->tx.data_given - conn->data_paid;

	if (!prompts)
		return false;
	if (prompts > MAX_PROMPTS)
		conn->data_paid = conn->tx.data_given - MAX_PROMPTS;
	conn->data_paid++;
	return true;
}

/* RFC 8446 4.6.3; last: nothing is behind it in its record (5.1). */
static int take_key_update(struct tls_conn *conn, uint8_t request, bool last,
			   int *alert)
{
	int ret;

	if (request > UPDATE_REQUESTED) {
		*alert = ALERT_ILLEGAL_PARAMETER;
		say(conn, "the peer sent a KeyUpdate that asks for %d",
		    request);
		return -EPROTO;
	}
	if (!last) {
		say(conn, "the peer sent a KeyUpdate that does not end its "
			  "record");
		return -EPROTO;
	}
	if (too_many(conn) && !an_answer(conn) && !was_prompted(conn)) {
		say(conn, "the peer sent more than %d KeyUpdates without data "
			  "between them", MAX_TRIFLES);
		return -EPROTO;
	}
	ret = rx_update_keys(&conn->rx);
	if (ret) {
		*alert = ALERT_INTERNAL_ERROR;
		say(conn, "the peer's next keys could not be derived: %s",
		    strerror(-ret));
		return ret;
	}
	conn->update_asked = false;
	/*
	 * One that the peer cannot have read yet answers all it has asked so
	 * far; it may have read one that a send was given.
	 */
	if (request == UPDATE_REQUESTED && !conn->tx.updates && !conn->shut)
		tx_update_keys(&conn->tx, false);
	return 0;
}

/*
 * Messages may share a record or be spread over several (RFC 8446 5.1).
 */
static int take_handshake(struct tls_conn *conn, const uint8_t *content,
			  size_t len, int *alert)
{
	const uint8_t *const end = content + len;
	int ret = 0;

	while (content < end && !ret) {
		size_t n = min_size((size_t)(end - content),
				    conn->message_left);

		if (n && conn->message[0] == MESSAGE_KEY_UPDATE)
			ret = take_key_update(conn, *content,
					      content + 1 == end, alert);
		else if (n)
			tickets_add(conn->tickets, content, n);
		content += n;
		conn->message_left -= n;
		if (content == end || ret)
			break;
		conn->message[conn->message_have++] = *content++;
		if (conn->message_have < sizeof(conn->message))
			continue;
		conn->message_have = 0;
		conn->message_left = (size_t)conn->message[1] << 16 |
				     (size_t)conn->message[2] << 8 |
				     conn->message[3];
		ret = begin_message(conn, conn->message[0], conn->message_left,
				    alert);
	}
	return ret;
}

int conn_control(struct rx *rx, uint8_t type, const uint8_t *content,
		 size_t len, int *alert)
{
	struct tls_conn *conn = container_of(rx, struct tls_conn, rx);
	int ret;

	*alert = ALERT_UNEXPECTED_MESSAGE;
	if (type == RECORD_ALERT && len)
		return take_alert(conn, content, len, alert);
	if (type == RECORD_DATA && !rx->in_message)
		return take_trifle(conn);
	if (type == RECORD_DATA) {
		say(conn, "the peer sent data inside a handshake message");
		return -EPROTO;
	}
	if (type != RECORD_HANDSHAKE || !len) {
		say(conn, "the peer sent an empty record or one of type %d",
		    type);
		return -EPROTO;
	}
	ret = take_handshake(conn, content, len, alert);
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

static void send_due_refusal(struct tls_conn *conn)
{
	if (!conn->refusal_due || conn->shut || conn->tx.error)
		return;
	if (tx_alert(&conn->tx, ALERT_LEVEL_WARNING, ALERT_NO_RENEGOTIATION))
		return;
	conn->refusal_due = false;
	conn->flushing = true;
}

static void send_due_update(struct tls_conn *conn)
{
	if (!conn->tx.update_due || conn->shut)
		return; /* after close_notify there is nothing to protect */
	if (tx_send_update(&conn->tx) == 0)
		conn->flushing = true;
}

static bool is_fatal(int alert)
{
	return alert != ALERT_NONE && alert != ALERT_CLOSE_NOTIFY;
}

bool conn_alerted(const struct tls_conn *conn)
{
	return is_fatal(conn->alert_received) || is_fatal(conn->alert_sent) ||
	       is_fatal(conn->alert_due);
}

bool conn_flushed(const struct tls_conn *conn)
{
	return conn->tx.error ||
	       (!conn->tx.held && !(conn->sealing && conn->tx.open_len) &&
		conn->alert_due == ALERT_NONE &&
		(!conn->tx.update_due || conn->shut));
}

static void push(struct tls_conn *conn)
{
	if (tx_worn_out(&conn->tx) && !conn->writing.error)
		wear_out(conn);
	send_due_update(conn);
	send_due_refusal(conn);
	send_due_alert(conn);
	if (conn->sealing && tx_seal_open(&conn->tx) == 0)
		conn->sealing = false;
	if (conn->flushing || tx_due(&conn->tx))
		tx_push(&conn->tx);
	if (conn->tx.error && !conn->writing.error)
		fail_write(conn);
	if (conn_flushed(conn))
		conn->flushing = false;
	if (conn->tx.held && !conn->tx.error)
		list_add_once(&conn->core->held, &conn->held);
	else
		list_remove(&conn->held);
}

/*
 * The peer is to stay within the limits of the cipher; if it has an eye on them
 * itself, it is sooner.
 */
static void ask_for_update(struct tls_conn *conn)
{
	const struct rx *rx = &conn->rx;
	uint64_t limit = conn->tx.record_limit;

	if (is_tls12(conn) || conn->update_asked || conn->shut || rx->closed ||
	    rx->eof || rx->seq - queue_count(&rx->queue) < limit + limit / 4)
		return;
	conn->update_asked = true;
	tx_update_keys(&conn->tx, true);
}

void conn_advance(struct tls_conn *conn)
{
	if (conn->closing)
		return;
	if (!conn->reading.error) {
		rx_advance(&conn->rx);
		ask_for_update(conn);
	}
	if (conn->rx.error && !conn->reading.error)
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

int conn_update_keys(struct tls_conn *conn, bool request)
{
	int ret = conn_check_writing(conn);

	if (ret)
		return ret;
	if (is_tls12(conn))
		return error_set(-EOPNOTSUPP, "TLS 1.2 has no KeyUpdate");
	tx_update_keys(&conn->tx, request);
	push(conn);
	return 0;
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
	if (conn->reading.error)
		return conn->reading.error;
	return conn->rx.closed ? 0 : -EAGAIN;
}

unsigned conn_events(const struct tls_conn *conn)
{
	bool ended = conn->reading.error || conn->rx.closed;
	bool failed = conn->writing.error;
	unsigned events = 0;

	if (rx_readable(&conn->rx) || (ended && !conn->end_read))
		events |= TLS_READABLE;
	if ((ended && !conn->end_told) || (failed && !conn->fault_told))
		events |= TLS_CLOSED;
	if ((conn->wants_room && (failed || tx_room(&conn->tx))) ||
	    (conn->wants_flush && conn_flushed(conn)))
		events |= TLS_WRITABLE;
	return events & conn->wanted;
}
