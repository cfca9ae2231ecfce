// SPDX-License-Identifier: MIT
/*
 * Each thread owns a context of the kind TLS_CONTEXT_LOOP and one epoll, which
 * holds the listening socket, the sockets still in their handshake, and the
 * context's descriptor: that one stands for every connection handed over.
 *
 * Accepting and handshakes are in server-accept.c, and know nothing of the
 * library; flags and other preparations are in server-setup.c.
 */
#define _GNU_SOURCE 1
#include "server-loop.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	EVENTS = 256,
	LOOK_MS = 1000,
	STOPPING_LOOK_MS = 10,
};

/* Set before the threads start, and constant from then on. */
static struct {
	const struct service *service;
	const struct server_options *options;
	SSL_CTX *ssl_ctx;
	int listener;
	int stop;      /* readable for good when it is time to stop */
	char name[64]; /* HOST:PORT */
	struct server_thread *threads;
	pthread_barrier_t ready;
} server;

/* ---- A connection's life ------------------------------------------------- */

/* From OpenSSL, which has done the handshake. */
static void hand_over(struct server_thread *t, const struct client *client)
{
	struct peer *p = calloc(1, server.service->peer_size);

	if (!p || tls_handoff(&p->conn, t->ctx, client->ssl)) {
		/* Gone with its Finished: OpenSSL's tickets found nobody. */
		if (gone(client->fd))
			warn_line("%s: went away at once", client->name);
		else
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
	p->thread = t;
	p->link = &t->peers;
	p->next = t->peers;
	if (p->next)
		p->next->link = &p->next;
	t->peers = p;
}

static void not_again(struct peer *p)
{
	if (!p->again_link)
		return;
	*p->again_link = p->again_next;
	if (p->again_next)
		p->again_next->again_link = p->again_link;
	p->again_link = NULL;
}

void peer_again(struct peer *p)
{
	struct server_thread *t = p->thread;

	not_again(p);
	p->again_link = &t->again;
	p->again_next = t->again;
	if (p->again_next)
		p->again_next->again_link = &p->again_next;
	t->again = p;
}

void peer_drop(struct peer *p)
{
	bool told = tls_conn_alert_sent(p->conn) > 0; /* no close_notify */
	ssize_t lost = tls_close(p->conn, 0);

	if (lost > 0)
		warn_line("%s: closed with %zd bytes unsent", p->name, lost);
	/* Only now: until tls_close() the library uses it. */
	if (told)
		leave(&p->thread->leavers, p->fd);
	else
		close(p->fd);
	if (server.service->dropped)
		server.service->dropped(p);
	not_again(p);
	*p->link = p->next;
	if (p->next)
		p->next->link = p->link;
	free(p);
}

/* ---- The event loop ------------------------------------------------------ */

/* Serve every connection that has an event. Returns whether any had one. */
static bool serve_events(struct server_thread *t)
{
	struct tls_event events[EVENTS];
	int i, n = tls_context_wait(t->ctx, events, EVENTS, 0);

	if (n < 0)
		die("tls_context_wait: %s", tls_last_error());
	for (i = 0; i < n; i++)
		server.service->advance(events[i].data);
	return n > 0;
}

/* And those that wait for nothing. Who asks again has its next turn later. */
static bool serve_again(struct server_thread *t)
{
	struct peer *p, *turn = t->again;
	bool any = turn;

	t->again = NULL;
	if (turn)
		turn->again_link = &turn;
	while ((p = turn)) {
		not_again(p);
		server.service->advance(p);
	}
	return any;
}

static void dispatch(struct server_thread *t, void *what)
{
	struct client client;

	if (what == t)
		return; /* the context's descriptor: serve_events() is next */
	if (what == &server.stop) {
		t->stop_ms = now_ms();
		/* Whoever comes now is to be refused, not to wait for nobody. */
		shutdown(server.listener, SHUT_RDWR);
	} else if (what == &t->leavers) {
		leavers_event(&t->leavers);
	} else if (acceptor_event(&t->acceptor, what, &client)) {
		hand_over(t, &client);
	}
}

static int look_interval(const struct server_thread *t)
{
	return t->stop_ms ? STOPPING_LOOK_MS : LOOK_MS;
}

static void look(struct server_thread *t)
{
	int64_t now = now_ms();
	struct peer *p, *next;

	if (now - t->looked_ms < look_interval(t))
		return;
	t->looked_ms = now;
	acceptor_look(&t->acceptor, now);
	leavers_look(&t->leavers, now);
	for (p = t->peers; p; p = next) {
		next = p->next;
		server.service->look(p);
	}
}

/* Whether there is something that look() may have to end. */
static bool look_after(const struct server_thread *t)
{
	return t->peers || t->acceptor.handshakes || t->leavers.first;
}

static void loop(struct server_thread *t)
{
	struct epoll_event ready[EVENTS];
	int i, n, ms;
	bool busy;

	while (!t->stop_ms || look_after(t)) {
		/*
		 * Sleep only after tls_context_wait() has found no event: it
		 * sends what is held back, and what has happened inside our
		 * own calls makes no descriptor readable.
		 */
		ms = look_after(t) ? look_interval(t) : -1;
		busy = serve_events(t);
		if (serve_again(t) || busy)
			ms = 0;
		n = epoll_wait(t->epoll, ready, EVENTS, ms);
		for (i = 0; i < n; i++)
			dispatch(t, ready[i].data.ptr);
		if (t->stop_ms)
			acceptor_close(&t->acceptor);
		look(t);
	}
}

/* ---- Threads and start --------------------------------------------------- */

static void *run(void *arg)
{
	struct server_thread *t = arg;
	char text[4096];

	/* Here and not in serve(): the context belongs to its creator. */
	if (tls_context_new(&t->ctx, &server.options->config))
		die("cannot create a context: %s", tls_last_error());
	if (t == server.threads) {
		tls_context_describe(t->ctx, text, sizeof(text));
		fputs(text, stdout);
	}
	t->epoll = new_epoll();
	watch(t->epoll, EPOLL_CTL_ADD, tls_context_fd(t->ctx), EPOLLIN, t);
	watch(t->epoll, EPOLL_CTL_ADD, server.stop, EPOLLIN | EPOLLONESHOT,
	      &server.stop);
	leavers_init(&t->leavers, t->epoll);
	acceptor_init(&t->acceptor, t->epoll, server.listener, server.ssl_ctx,
		      &t->leavers);
	if (pthread_barrier_wait(&server.ready)) { /* so it is in one thread */
		printf("listening on %s\n", server.name);
		fflush(stdout);
	}
	loop(t);
	tls_context_stats(t->ctx, &t->stats, sizeof(t->stats));
	tls_context_free(t->ctx);
	close(t->leavers.epoll);
	close(t->epoll);
	return NULL;
}

static void start_threads(unsigned count)
{
	unsigned i;

	server.threads = calloc(count, sizeof(*server.threads));
	if (!server.threads)
		die("cannot start: %s", strerror(errno));
	pthread_barrier_init(&server.ready, NULL, count);
	for (i = 0; i < count; i++)
		server.threads[i].id = start_thread(run, &server.threads[i]);
}

void serve(const struct server_options *o, SSL_CTX *ssl_ctx,
	   const struct service *service)
{
	struct tls_stats sum = { 0 };
	unsigned i;

	server.service = service;
	server.options = o;
	server.ssl_ctx = ssl_ctx;
	server.stop = prepare_process();
	if (tls_handoff_prepare(ssl_ctx))
		die("cannot prepare for hand-over: %s", tls_last_error());
	server.listener =
		listen_on(o->host, o->port, server.name, sizeof(server.name));
	start_threads(o->threads);
	for (i = 0; i < o->threads; i++) {
		pthread_join(server.threads[i].id, NULL);
		tls_stats_add(&sum, &server.threads[i].stats, sizeof(sum));
	}
	if (o->stats)
		stats_print(&sum);
	free(server.threads);
	close(server.listener);
}
