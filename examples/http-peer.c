// SPDX-License-Identifier: MIT
#define _GNU_SOURCE 1
#include "http-peer.h"
#include "http-response.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

enum {
	ALL = TLS_READABLE | TLS_WRITABLE | TLS_CLOSED,
	RECORD = 16384,
	TURN = 32 * RECORD, /* bytes of a file before others have a turn */
	REQUESTS = 16,	    /* answers before others have a turn */
	LINGER_MS = 2000,   /* for the client to end, too */
	QUIET_MS = 50,	    /* after SIGTERM: so long without a request */
	HEAD_MS = 1000,	    /* ... or with a part of one */
};

enum state {
	READING, /* a request's head, or waiting for one */
	SENDING, /* the answer */
	ENDING,	 /* our close_notify, and waiting for the client's */
};

struct http_peer {
	struct peer peer;
	enum state state;
	int64_t since_ms; /* the state began, or the client took something */
	uint64_t acked;	  /* bytes that the client had taken by then */
	size_t in_len;
	char in[HTTP_HEAD_MAX];
	size_t head_sent;
	struct http_response answer; /* while SENDING */
};

/* Set before the threads start, and constant from then on. */
static struct http_options options;

/* ---- A connection's life ------------------------------------------------- */

static void enter(struct http_peer *h, enum state state)
{
	h->state = state;
	h->since_ms = now_ms();
	/* While an answer is under way, what else the client sends waits. */
	tls_conn_want(h->peer.conn,
		      state == SENDING ? ALL & ~TLS_READABLE : ALL);
}

/* Returns 1, or 0 if the head is not complete. */
static int take_request(struct http_peer *h)
{
	struct http_request request;
	int n = http_request_parse(&request, h->in, h->in_len);

	if (n == 0)
		return 0;
	if (n < 0) {
		http_refuse(&h->answer, -n);
		n = (int)h->in_len;
	} else {
		http_answer(&h->answer, options.root, &request,
			    !h->peer.thread->stop_ms);
	}
	h->in_len -= (size_t)n;
	memmove(h->in, h->in + n, h->in_len);
	h->head_sent = 0;
	enter(h, SENDING);
	return 1;
}

/* Returns 1 once there is a request, 0 at the end, or -errno. */
static ssize_t receive(struct http_peer *h)
{
	ssize_t n;

	while (!take_request(h)) {
		n = tls_read(h->peer.conn, h->in + h->in_len,
			     sizeof(h->in) - h->in_len);
		if (n <= 0)
			return n;
		h->in_len += (size_t)n;
	}
	return 1;
}

static ssize_t send_head(struct http_peer *h)
{
	struct http_response *a = &h->answer;
	ssize_t n;

	/* TLS_MORE: the file begins in the same record. */
	n = tls_send(h->peer.conn, a->head + h->head_sent,
		     a->head_len - h->head_sent, a->fd >= 0 ? TLS_MORE : 0);
	if (n > 0)
		h->head_sent += (size_t)n;
	return n;
}

/* Sends what is left of a slice of the file, which ends where a record does. */
static ssize_t send_body(struct http_peer *h, off_t slice)
{
	struct http_response *a = &h->answer;
	off_t left = a->end - a->at;
	ssize_t n;

	n = tls_sendfile(h->peer.conn, a->fd, &a->at,
			 (size_t)(left < slice ? left : slice));
	if (n == 0) {
		warn_line("%s: a file has become shorter while it was sent",
			  h->peer.name);
		return -ENODATA;
	}
	return n;
}

/* Returns 1 when the answer is complete, 0 if its turn is over, or -errno. */
static ssize_t answer(struct http_peer *h)
{
	struct http_response *a = &h->answer;
	off_t turn = TURN, begin = a->at;
	ssize_t n = 1;

	if (!h->head_sent)
		turn -= (off_t)a->head_len;
	while (n > 0 && h->head_sent < a->head_len)
		n = send_head(h);
	while (n > 0 && a->fd >= 0 && a->at < a->end) {
		if (a->at - begin >= turn)
			return 0;
		n = send_body(h, turn - (a->at - begin));
	}
	if (n <= 0)
		return n;
	if (a->fd >= 0)
		close(a->fd);
	a->fd = -1;
	return 1;
}

/* ---- The end of a connection --------------------------------------------- */

/*
 * Read and forget what the client still sends: closing with bytes unread would
 * reset the connection and lose what is on its way.
 */
static void linger(struct http_peer *h)
{
	struct tls_conn *conn = h->peer.conn;
	char unwanted[RECORD];
	ssize_t left = tls_shutdown(conn), n;

	n = tls_read(conn, unwanted, sizeof(unwanted));
	if (left < 0 || (n < 0 && n != -EAGAIN) || (n == 0 && left == 0))
		peer_drop(&h->peer);
	/* TLS_WRITABLE tells when what is left has gone. */
}

static void end(struct http_peer *h)
{
	enter(h, ENDING);
	linger(h);
}

static void fail(struct http_peer *h, ssize_t error)
{
	const char *words = tls_conn_error(h->peer.conn);

	/* That clients go away as they please is no news. */
	if (error != -ECONNRESET && error != -EPIPE && error != -ENODATA)
		warn_line("%s: %s", h->peer.name,
			  *words ? words : tls_last_error());
	peer_drop(&h->peer);
}

/* ---- What the loop calls ------------------------------------------------- */

static void advance(struct peer *p)
{
	struct http_peer *h = (struct http_peer *)p;
	ssize_t n = 1;
	int i;

	for (i = 0; i < REQUESTS; i++) {
		if (h->state == ENDING) {
			linger(h);
			return;
		}
		if (h->state == READING && (n = receive(h)) == 0) {
			end(h);
			return;
		}
		if (n > 0)
			n = answer(h);
		if (n <= 0)
			break;
		enter(h, h->answer.keep_alive ? READING : ENDING);
	}
	if (n >= 0)
		peer_again(p);
	else if (n != -EAGAIN)
		fail(h, n);
}

/* Whether the client has taken anything since it was last asked. */
static bool takes(struct http_peer *h)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);
	bool more;

	getsockopt(h->peer.fd, IPPROTO_TCP, TCP_INFO, &info, &len);
	more = info.tcpi_bytes_acked != h->acked;
	h->acked = info.tcpi_bytes_acked;
	return more;
}

/* How long it may do nothing while we wait for it to take data, or to end. */
static int64_t patience(struct http_peer *h)
{
	if (h->state == ENDING && tls_shutdown(h->peer.conn) == 0)
		return LINGER_MS;
	return options.idle_ms;
}

/* Cut it off. */
static void give_up(struct http_peer *h, const char *why)
{
	long long left = h->answer.end - h->answer.at;

	if (h->state == SENDING)
		warn_line("%s: %s, with %lld bytes of a file to go",
			  h->peer.name, why, left);
	peer_drop(&h->peer);
}

static void look(struct peer *p)
{
	struct http_peer *h = (struct http_peer *)p;
	int64_t now = now_ms(), stop = p->thread->stop_ms;
	int64_t since = h->since_ms > stop ? h->since_ms : stop;

	if (!h->since_ms)
		h->since_ms = now; /* it is new */
	else if (stop && now - stop > options.grace_ms)
		give_up(h, "time is up after SIGTERM");
	else if (h->state == READING) {
		if (now - h->since_ms > options.idle_ms ||
		    (stop && now - since > (h->in_len ? HEAD_MS : QUIET_MS)))
			end(h);
	} else if (now - h->since_ms > patience(h)) {
		if (takes(h))
			h->since_ms = now;
		else
			give_up(h, "the client takes no more");
	}
}

static void dropped(struct peer *p)
{
	struct http_peer *h = (struct http_peer *)p;

	if (h->state == SENDING && h->answer.fd >= 0)
		close(h->answer.fd);
}

const struct service *http_service(const struct http_options *o)
{
	static const struct service service = {
		.peer_size = sizeof(struct http_peer),
		.advance = advance,
		.look = look,
		.dropped = dropped,
	};

	options = *o;
	return &service;
}
