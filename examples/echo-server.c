// SPDX-License-Identifier: MIT
/*
 * echo-server: sends back what it receives, to any number of clients.
 *
 * Each thread owns a context of the kind TLS_CONTEXT_LOOP and one epoll, which
 * holds the listening socket, the sockets still in their handshake, and the
 * context's descriptor: that one stands for every connection handed over.
 */
#define _GNU_SOURCE 1
#include "server-setup.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

enum {
	CHUNK = 65536,
	EVENTS = 256,
	DRAIN_MS = 5000, /* for all connections to end after SIGTERM */
	QUIET_MS = 50,   /* so long without data: all of it has arrived */
	TICK_MS = 10,
	HELD_MS = 1,
	RETRY_MS = 100, /* between attempts to accept without descriptors */
};

struct peer {
	struct peer *next, **link;
	char name[64];
	int fd;
	SSL *ssl;              /* during the handshake */
	struct tls_conn *conn; /* after it */
	char *buf;             /* CHUNK bytes, of which ... */
	size_t off, len;       /* ... these were read but not yet written */
	int64_t moved_ms;      /* when data moved last */
	bool ending; /* our close_notify is on its way: echo no more */
	bool eof;    /* the peer's has arrived */
};

struct worker {
	pthread_t thread;
	struct tls_context *ctx;
	int epoll;
	bool first;
	struct peer *peers;
	bool short_of_fds;
	int64_t retry_ms; /* when to listen again, 0 while listening */
	int64_t stop_ms;  /* when SIGTERM came, else 0 */
	struct tls_stats stats;
};

/* Set before the threads start, and constant from then on. */
static struct server_options options;
static struct {
	SSL_CTX *ssl_ctx;
	int listener;
	int stop; /* an eventfd: readable for good when it is time to stop */
	pthread_barrier_t ready;
} server;

static void watch(struct worker *w, int op, int fd, uint32_t events, void *what)
{
	struct epoll_event event = { .events = events, .data.ptr = what };

	if (epoll_ctl(w->epoll, op, fd, &event))
		die("epoll_ctl: %s", strerror(errno));
}

/* Close a connection and forget it, in whatever state it is. */
static void drop(struct peer *p)
{
	ssize_t lost = tls_close(p->conn, 0);

	if (lost > 0)
		warn_line("%s: closed with %zd bytes unsent", p->name, lost);
	SSL_free(p->ssl);
	close(p->fd);
	*p->link = p->next;
	if (p->next)
		p->next->link = p->link;
	free(p->buf);
	free(p);
}

/* ---- Data, by the library ------------------------------------------------ */

/* Returns how many bytes were sent, 0 at the peer's close_notify, or -errno. */
static ssize_t echo(struct peer *p)
{
	ssize_t n;

	/* Back-pressure: nothing more is read before the last has gone. */
	if (p->len == 0) {
		n = tls_read(p->conn, p->buf, CHUNK);
		if (n <= 0 || p->ending)
			return n;
		p->off = 0;
		p->len = (size_t)n;
	}
	n = tls_write(p->conn, p->buf + p->off, p->len);
	if (n > 0) {
		p->off += (size_t)n;
		p->len -= (size_t)n;
	}
	return n;
}

/* Send close_notify. Returns how many bytes still have to leave before it. */
static ssize_t finish(struct peer *p)
{
	if (p->ending)
		return tls_flush(p->conn);
	p->ending = true;
	return tls_shutdown(p->conn);
}

/* Do what a connection allows now. Returns false if that was nothing. */
static bool advance(struct peer *p)
{
	const char *words;
	ssize_t n = 0;

	if (!p->eof) {
		n = echo(p);
		if (n == -EAGAIN)
			return false;
		p->moved_ms = now_ms();
		if (n > 0)
			return true;
		p->eof = true;
	}
	if (n == 0)
		n = finish(p);
	if (n > 0)
		return false; /* WRITABLE tells when it has gone */
	if (n < 0) {
		words = tls_conn_error(p->conn);
		warn_line("%s: %s", p->name,
			  *words ? words : strerror(-(int)n));
	}
	drop(p);
	return true;
}

/*
 * Serve every connection with an event. Returns how many milliseconds epoll
 * may sleep after it: without limit only when there was no event, since what
 * was just read or written may have brought new ones.
 */
static int drive(struct worker *w)
{
	struct tls_event events[EVENTS];
	bool busy = false;
	int i, n;

	n = tls_context_wait(w->ctx, events, EVENTS, 0);
	if (n < 0)
		die("tls_context_wait: %s", tls_last_error());
	if (n == 0)
		return -1;
	for (i = 0; i < n; i++)
		busy |= advance(events[i].data);
	/* Connections that are readable but held back by their writes. */
	return busy ? 0 : HELD_MS;
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

	for (p = w->peers; p; p = next) {
		next = p->next;
		if (!p->conn || now > w->stop_ms + DRAIN_MS)
			drop(p);
		else if (!p->ending && p->len == 0 &&
			 (late || (p->moved_ms < quiet && w->stop_ms < quiet)))
			finish(p);
	}
}

/* ---- Handshakes, by OpenSSL ---------------------------------------------- */

static void hand_over(struct worker *w, struct peer *p)
{
	watch(w, EPOLL_CTL_DEL, p->fd, 0, NULL);
	p->buf = malloc(CHUNK);
	if (!p->buf || tls_handoff(&p->conn, w->ctx, p->ssl)) {
		warn_line("%s: hand-over: %s", p->name,
			  p->buf ? tls_last_error() : strerror(ENOMEM));
		drop(p);
		return;
	}
	tls_conn_set_data(p->conn, p);
	SSL_free(p->ssl);
	p->ssl = NULL;
}

static void handshake(struct worker *w, struct peer *p)
{
	int n;

	errno = 0;
	ERR_clear_error();
	n = SSL_accept(p->ssl);
	if (n == 1) {
		hand_over(w, p);
		return;
	}
	switch (SSL_get_error(p->ssl, n)) {
	case SSL_ERROR_WANT_READ:
		watch(w, EPOLL_CTL_MOD, p->fd, EPOLLIN, p);
		return;
	case SSL_ERROR_WANT_WRITE:
		watch(w, EPOLL_CTL_MOD, p->fd, EPOLLOUT, p);
		return;
	}
	warn_line("%s: handshake: %s", p->name, openssl_words());
	drop(p);
}

static void listen_from_now(struct worker *w)
{
	w->retry_ms = 0;
	/* Exclusive: a client wakes one thread, not all of them. */
	watch(w, EPOLL_CTL_ADD, server.listener, EPOLLIN | EPOLLEXCLUSIVE,
	      &server.listener);
}

static void accept_failed(struct worker *w)
{
	if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
		return;
	if (!w->short_of_fds)
		warn_line("accept: %s; new clients wait", strerror(errno));
	w->short_of_fds = true;
	/* The socket stays readable: look away, or the loop would spin. */
	watch(w, EPOLL_CTL_DEL, server.listener, 0, NULL);
	w->retry_ms = now_ms() + RETRY_MS;
}

/* One at a time, so that threads share a rush of clients. */
static void accept_one(struct worker *w)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	struct peer *p;
	int fd, on = 1;

	fd = accept4(server.listener, (struct sockaddr *)&addr, &len,
		     SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) {
		accept_failed(w);
		return;
	}
	w->short_of_fds = false;
	/* The library gathers records; Nagle would only delay the last one. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	p = calloc(1, sizeof(*p));
	if (!p) {
		warn_line("accept: %s", strerror(errno));
		close(fd);
		return;
	}
	p->fd = fd;
	p->link = &w->peers;
	p->next = w->peers;
	if (p->next)
		p->next->link = &p->next;
	w->peers = p;
	name_address((struct sockaddr *)&addr, p->name, sizeof(p->name));
	watch(w, EPOLL_CTL_ADD, fd, EPOLLIN, p);
	p->ssl = SSL_new(server.ssl_ctx);
	if (!p->ssl || !SSL_set_fd(p->ssl, fd)) {
		warn_line("%s: %s", p->name, openssl_words());
		drop(p);
		return;
	}
	SSL_set_accept_state(p->ssl);
}

/* ---- Threads and start --------------------------------------------------- */

static void stop(struct worker *w)
{
	w->stop_ms = now_ms();
	watch(w, EPOLL_CTL_DEL, server.stop, 0, NULL);
	if (!w->retry_ms)
		watch(w, EPOLL_CTL_DEL, server.listener, 0, NULL);
}

static void dispatch(struct worker *w, void *what)
{
	if (what == w)
		return; /* the context's descriptor: drive() comes anyway */
	if (what == &server.stop)
		stop(w);
	else if (what != &server.listener)
		handshake(w, what);
	else if (!w->stop_ms)
		accept_one(w);
}

static int at_most(int limit_ms, int ms)
{
	return ms < 0 || ms > limit_ms ? limit_ms : ms;
}

static void loop(struct worker *w)
{
	struct epoll_event ready[EVENTS];
	int i, n, ms;

	while (!w->stop_ms || w->peers) {
		/* Before every sleep: what is held back leaves only here. */
		ms = drive(w);
		if (w->stop_ms)
			ms = at_most(TICK_MS, ms);
		else if (w->retry_ms)
			ms = at_most(RETRY_MS, ms);
		n = epoll_wait(w->epoll, ready, EVENTS, ms);
		for (i = 0; i < n; i++)
			dispatch(w, ready[i].data.ptr);
		if (w->stop_ms)
			drain(w);
		else if (w->retry_ms && w->retry_ms <= now_ms())
			listen_from_now(w);
	}
}

static void describe(const struct tls_context *ctx)
{
	char text[4096];

	tls_context_describe(ctx, text, sizeof(text));
	fputs(text, stdout);
}

static void *run(void *arg)
{
	struct worker *w = arg;

	/* Here and not in main(): the context belongs to its creator. */
	if (tls_context_new(&w->ctx, &options.config))
		die("cannot create a context: %s", tls_last_error());
	w->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (w->epoll < 0)
		die("epoll_create1: %s", strerror(errno));
	listen_from_now(w);
	watch(w, EPOLL_CTL_ADD, server.stop, EPOLLIN, &server.stop);
	watch(w, EPOLL_CTL_ADD, tls_context_fd(w->ctx), EPOLLIN, w);
	if (w->first)
		describe(w->ctx);
	pthread_barrier_wait(&server.ready);
	loop(w);
	tls_context_stats(w->ctx, &w->stats, sizeof(w->stats));
	tls_context_free(w->ctx);
	close(w->epoll);
	return NULL;
}

static struct worker *start_threads(void)
{
	struct worker *workers = calloc(options.threads, sizeof(*workers));
	unsigned t;

	server.stop = eventfd(0, EFD_CLOEXEC);
	if (!workers || server.stop < 0)
		die("cannot start: %s", strerror(errno));
	pthread_barrier_init(&server.ready, NULL, options.threads + 1);
	for (t = 0; t < options.threads; t++) {
		workers[t].first = t == 0;
		errno = pthread_create(&workers[t].thread, NULL, run,
				       &workers[t]);
		if (errno)
			die("cannot start a thread: %s", strerror(errno));
	}
	pthread_barrier_wait(&server.ready);
	return workers;
}

static void print_stats(const struct worker *workers)
{
	struct tls_stats sum = { 0 };
	char json[4096];
	unsigned t;

	for (t = 0; t < options.threads; t++)
		stats_add(&sum, &workers[t].stats);
	tls_stats_json(&sum, json, sizeof(json));
	puts(json);
}

int main(int argc, char **argv)
{
	struct worker *workers;
	sigset_t signals;
	char name[64];
	unsigned t;
	int sig;

	server_options(&options, argc, argv);
	allow_many_descriptors();
	signal(SIGPIPE, SIG_IGN);
	/* In every thread, so that only sigwait() sees them. */
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);

	server.ssl_ctx = server_ssl_ctx(&options);
	server.listener =
		listen_on(options.host, options.port, name, sizeof(name));
	workers = start_threads();
	printf("listening on %s\n", name);
	fflush(stdout);

	sigwait(&signals, &sig);
	eventfd_write(server.stop, 1);
	for (t = 0; t < options.threads; t++)
		pthread_join(workers[t].thread, NULL);
	if (options.stats)
		print_stats(workers);
	free(workers);
	SSL_CTX_free(server.ssl_ctx);
	close(server.listener);
	close(server.stop);
	return 0;
}
