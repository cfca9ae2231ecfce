// SPDX-License-Identifier: MIT
/*
 * echo-server: sends back what it receives, to any number of clients.
 *
 * What a server does with a connection is here. Where connections come from,
 * contexts, threads and the event loop are in server-loop.c: read that next.
 */
#define _GNU_SOURCE 1
#include "server-loop.h"

#include <errno.h>

enum {
	CHUNK = 65536,
	ALL = TLS_READABLE | TLS_WRITABLE | TLS_CLOSED,
	DRAIN_MS = 5000, /* for all connections to end after SIGTERM */
	QUIET_MS = 50,   /* so long without data: all of it has arrived */
};

struct echo_peer {
	struct peer peer;
	bool ending;      /* our close_notify is on its way: echo no more */
	int64_t moved_ms; /* when data moved last */
	size_t off, len;  /* what has been read but not yet written, of ... */
	char buf[CHUNK];
};

/* Write what has been read. Returns how much of it was taken, or -errno. */
static ssize_t write_back(struct echo_peer *e)
{
	ssize_t n = tls_write(e->peer.conn, e->buf + e->off, e->len);

	if (n > 0) {
		e->off += (size_t)n;
		e->len -= (size_t)n;
	}
	/*
	 * Back-pressure: nothing more is read before the last has gone, and
	 * what the client sends meanwhile is no event. In time its TCP stops.
	 */
	tls_conn_want(e->peer.conn, e->len > 0 ? ALL & ~TLS_READABLE : ALL);
	return n;
}

/* Returns how much has moved, 0 at the client's close_notify, or -errno. */
static ssize_t echo(struct echo_peer *e)
{
	ssize_t n;

	if (e->len > 0)
		return write_back(e);
	n = tls_read(e->peer.conn, e->buf, CHUNK);
	if (n <= 0 || e->ending)
		return n;
	e->off = 0;
	e->len = (size_t)n;
	return write_back(e);
}

/* Send close_notify. Returns how many bytes still have to leave before it. */
static ssize_t finish(struct echo_peer *e)
{
	e->ending = true;
	return tls_shutdown(e->peer.conn);
}

/* Do what a connection with an event allows now. */
static void advance(struct peer *p)
{
	struct echo_peer *e = (struct echo_peer *)p;
	ssize_t n = echo(e);

	if (n == -EAGAIN)
		return; /* an event tells when to come again */
	e->moved_ms = now_ms();
	if (n > 0)
		return; /* if there is more, so does an event */
	if (n == 0)
		n = finish(e);
	if (n > 0)
		return; /* TLS_WRITABLE tells when it has gone */
	if (n < 0)
		warn_line("%s: %s", p->name, tls_conn_error(p->conn));
	peer_drop(p);
}

/*
 * After SIGTERM: what has already been received is echoed, then close_notify
 * sent, and what the client still sends is read and dropped. Closing with
 * bytes unread would reset the connection and lose the echo on its way.
 */
static void look(struct peer *p)
{
	struct echo_peer *e = (struct echo_peer *)p;
	int64_t now = now_ms(), quiet = now - QUIET_MS;
	int64_t stop = p->thread->stop_ms;

	if (!stop)
		return;
	if (now > stop + DRAIN_MS)
		peer_drop(p);
	else if (!e->ending && e->len == 0 &&
		 (now > stop + DRAIN_MS / 2 ||
		  (e->moved_ms < quiet && stop < quiet)))
		finish(e);
}

int main(int argc, char **argv)
{
	static const struct server_program program = {
		.usage = "usage: echo-server --cert FILE --key FILE --port N "
			 "[options]\n"
			 "Send back whatever TLS clients send, until "
			 "SIGTERM.\n",
	};
	static const struct service service = {
		.peer_size = sizeof(struct echo_peer),
		.advance = advance,
		.look = look,
	};
	static struct server_options options;
	SSL_CTX *ssl_ctx;

	server_options(&options, &program, argc, argv);
	ssl_ctx = server_ssl_ctx(&options);
	serve(&options, ssl_ctx, &service);
	SSL_CTX_free(ssl_ctx);
	return 0;
}
