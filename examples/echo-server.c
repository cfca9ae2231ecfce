// SPDX-License-Identifier: MIT
/*
 * echo-server: sends back what it receives, to any number of clients.
 *
 * Each thread owns a context of the kind TLS_CONTEXT_LOOP and one epoll, which
 * holds the listening socket, the sockets still in their handshake, and the
 * context's descriptor: that one stands for every connection handed over.
 *
 * Accepting and handshakes are in server-accept.c, and know nothing of the
 * library; flags and other preparations are in server-setup.c.
 */
#define _GNU_SOURCE 1
#include "server-accept.h"
#include "server-setup.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
	CHUNK = 65536,
	EVENTS = 256,
	ALL = TLS_READABLE | TLS_WRITABLE | TLS_CLOSED,
	DRAIN_MS = 5000, /* for all connections to end after SIGTERM */
	QUIET_MS = 50,   /* so long without data: all of it has arrived */
	TICK_MS = 10,    /* between looks at that, while draining */
};

struct peer {
	struct peer *next, **link;
	char name[64];
	int fd;
	struct tls_conn *conn;
	bool ending;      /* our close_notify is on its way: echo no more */
	int64_t moved_ms; /* when data moved last */
	size_t off, len;  /* what has been read but not yet written, of ... */
	char buf[CHUNK];
};

struct worker {
	pthread_t thread;
	struct tls_context *ctx;
	int epoll;
	struct acceptor acceptor;
	struct peer *peers;
	int64_t stop_ms; /* when SIGTERM came, else 0 */
	struct tls_stats stats;
};

/* Set before the threads start, and constant from then on. */
static struct server_options options;
static struct {
	SSL_CTX *ssl_ctx;
	int listener;
	int stop;      /* readable for good when it is time to stop */
	char name[64]; /* HOST:PORT */
	struct worker *workers;
	pthread_barrier_t ready;
} server;

/* ---- A connection's life ------------------------------------------------- */

/* From OpenSSL, which has done the handshake. */
static void hand_over(struct worker *w, const struct client *client)
{
	struct peer *p = calloc(1, sizeof(*p));

	if (!p || tls_handoff(&p->conn, w->ctx, client->ssl)) {
		warn_line("%s: hand-over: %s", client->name,
			  p ? tls_last_error() : strerror(ENOMEM));
		SSL_free(client->ssl);
		close(client->fd);
		free(p);
		return;
	}
	SSL_free(client->ssl); /* the connection needs it no more */
	tls_conn_set_data(p->conn, p);
	memcpy(p->name, client->name, sizeof(p->name));
	p->fd = client->fd;
	p->link = &w->peers;
	p->next = w->peers;
	if (p->next)
		p->next->link = &p->next;
	w->peers = p;
}

/* Close a connection and forget it, in whatever state it is. */
static void drop(struct peer *p)
{
	ssize_t lost = tls_close(p->conn, 0);

	if (lost > 0)
		warn_line("%s: closed with %zd bytes unsent", p->name, lost);
	close(p->fd); /* only now: until tls_close() the library uses it */
	*p->link = p->next;
	if (p->next)
		p->next->link = p->link;
	free(p);
}

/* Write what has been read. Returns how much of it was taken, or -errno. */
static ssize_t write_back(struct peer *p)
{
	ssize_t n = tls_write(p->conn, p->buf + p->off, p->len);

	if (n > 0) {
		p->off += (size_t)n;
		p->len -= (size_t)n;
	}
	/*
	 * Back-pressure: nothing more is read before the last has gone, and
	 * what the client sends meanwhile is no event. In time its TCP stops.
	 */
	tls_conn_want(p->conn, p->len > 0 ? ALL & ~TLS_READABLE : ALL);
	return n;
}

/* Returns how much has moved, 0 at the client's close_notify, or -errno. */
static ssize_t echo(struct peer *p)
{
	ssize_t n;

	if (p->len > 0)
		return write_back(p);
	n = tls_read(p->conn, p->buf, CHUNK);
	if (n <= 0 || p->ending)
		return n;
	p->off = 0;
	p->len = (size_t)n;
	return write_back(p);
}

/* Send close_notify. Returns how many bytes still have to leave before it. */
static ssize_t finish(struct peer *p)
{
	p->ending = true;
	return tls_shutdown(p->conn);
}

/* Do what a connection with an event allows now. */
static void advance(struct peer *p)
{
	ssize_t n = echo(p);

	if (n == -EAGAIN)
		return; /* an event tells when to come again */
	p->moved_ms = now_ms();
	if (n > 0)
		return; /* if there is more, so does an event */
	if (n == 0)
		n = finish(p);
	if (n > 0)
		return; /* TLS_WRITABLE tells when it has gone */
	if (n < 0)
		warn_line("%s: %s", p->name, tls_conn_error(p->conn));
	drop(p);
}

/* ---- The event loop ------------------------------------------------------ */

/* Serve every connection that has an event. Returns whether any had one. */
static bool serve(struct worker *w)
{
	struct tls_event events[EVENTS];
	int i, n = tls_context_wait(w->ctx, events, EVENTS, 0);

	if (n < 0)
		die("tls_context_wait: %s", tls_last_error());
	for (i = 0; i < n; i++)
		advance(events[i].data);
	return n > 0;
}

static void dispatch(struct worker *w, void *what)
{
	struct client client;

	if (what == w)
		return; /* the context's descriptor: serve() comes next */
	if (what == &server.stop)
		w->stop_ms = now_ms();
	else if (acceptor_event(&w->acceptor, what, &client))
		hand_over(w, &client);
}

/*
 * After SIGTERM: what has already been received is echoed, then close_notify
 * sent, and what the client still sends is read and dropped. Closing with
 * bytes unread would reset the connection and lose the echo on its way.
 */
static void drain(struct worker *w)
{
	int64_t now = now_ms(), quiet = now - QUIET_MS;
	bool late = now > w->stop_ms + DRAIN_MS / 2;
	struct peer *p, *next;

	acceptor_close(&w->acceptor);
	for (p = w->peers; p; p = next) {
		next = p->next;
		if (now > w->stop_ms + DRAIN_MS)
			drop(p);
		else if (!p->ending && p->len == 0 &&
			 (late || (p->moved_ms < quiet && w->stop_ms < quiet)))
			finish(p);
	}
}

static void loop(struct worker *w)
{
	struct epoll_event ready[EVENTS];
	int i, n, ms;

	while (!w->stop_ms || w->peers) {
		/*
		 * Sleep only after tls_context_wait() has found no event: it
		 * sends what is held back, and what has happened inside our
		 * own calls makes no descriptor readable.
		 */
		ms = w->stop_ms ? TICK_MS : -1;
		if (serve(w))
			ms = 0;
		n = epoll_wait(w->epoll, ready, EVENTS, ms);
		for (i = 0; i < n; i++)
			dispatch(w, ready[i].data.ptr);
		if (w->stop_ms)
			drain(w);
	}
}

/* ---- Threads and start --------------------------------------------------- */

static void *run(void *arg)
{
	struct worker *w = arg;
	char text[4096];

	/* Here and not in main(): the context belongs to its creator. */
	if (tls_context_new(&w->ctx, &options.config))
		die("cannot create a context: %s", tls_last_error());
	if (w == server.workers) {
		tls_context_describe(w->ctx, text, sizeof(text));
		fputs(text, stdout);
	}
	w->epoll = new_epoll();
	watch(w->epoll, EPOLL_CTL_ADD, tls_context_fd(w->ctx), EPOLLIN, w);
	watch(w->epoll, EPOLL_CTL_ADD, server.stop, EPOLLIN | EPOLLONESHOT,
	      &server.stop);
	acceptor_init(&w->acceptor, w->epoll, server.listener, server.ssl_ctx);
	if (pthread_barrier_wait(&server.ready)) { /* so it is in one thread */
		printf("listening on %s\n", server.name);
		fflush(stdout);
	}
	loop(w);
	tls_context_stats(w->ctx, &w->stats, sizeof(w->stats));
	tls_context_free(w->ctx);
	close(w->epoll);
	return NULL;
}

static void start_threads(void)
{
	unsigned t;

	server.workers = calloc(options.threads, sizeof(*server.workers));
	if (!server.workers)
		die("cannot start: %s", strerror(errno));
	pthread_barrier_init(&server.ready, NULL, options.threads);
	for (t = 0; t < options.threads; t++)
		server.workers[t].thread =
			start_thread(run, &server.workers[t]);
}

int main(int argc, char **argv)
{
	struct tls_stats sum = { 0 };
	unsigned t;

	server_options(&options, argc, argv);
	server.stop = prepare_process();
	server.ssl_ctx = server_ssl_ctx(&options);
	if (tls_handoff_prepare(server.ssl_ctx))
		die("cannot prepare for hand-over: %s", tls_last_error());
	server.listener = listen_on(options.host, options.port, server.name,
				    sizeof(server.name));
	start_threads();
	for (t = 0; t < options.threads; t++) {
		pthread_join(server.workers[t].thread, NULL);
		tls_stats_add(&sum, &server.workers[t].stats);
	}
	if (options.stats)
		stats_print(&sum);
	free(server.workers);
	SSL_CTX_free(server.ssl_ctx);
	return 0;
}
