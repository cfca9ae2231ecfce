// SPDX-License-Identifier: MIT
#define _GNU_SOURCE 1
#include "server-accept.h"
#include "server-setup.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <openssl/err.h>

enum {
	RETRY_MS = 100, /* between attempts to accept without descriptors */
	HANDSHAKE_MS = 30000, /* for a handshake */
};

struct handshake {
	struct handshake *next, **link;
	struct client client;
	int64_t start_ms;
};

static void listen_from_now(struct acceptor *a)
{
	/* Exclusive: a client wakes one thread, not all of them. */
	watch(a->epoll, EPOLL_CTL_ADD, a->listener, EPOLLIN | EPOLLEXCLUSIVE,
	      &a->listener);
}

void acceptor_init(struct acceptor *a, int epoll, int listener,
		   SSL_CTX *ssl_ctx, struct leavers *leavers)
{
	*a = (struct acceptor){
		.epoll = epoll,
		.listener = listener,
		.ssl_ctx = ssl_ctx,
		.leavers = leavers,
		.timer = timerfd_create(CLOCK_MONOTONIC,
					TFD_NONBLOCK | TFD_CLOEXEC),
	};
	if (a->timer < 0)
		die("timerfd_create: %s", strerror(errno));
	watch(a->epoll, EPOLL_CTL_ADD, a->timer, EPOLLIN, &a->timer);
	listen_from_now(a);
}

static void forget(struct handshake *h)
{
	*h->link = h->next;
	if (h->next)
		h->next->link = h->link;
	free(h);
}

/* OpenSSL has told the client, with an alert. */
static void refuse(struct acceptor *a, struct handshake *h)
{
	watch(a->epoll, EPOLL_CTL_DEL, h->client.fd, 0, NULL);
	SSL_free(h->client.ssl);
	leave(a->leavers, h->client.fd);
	forget(h);
}

static void drop(struct handshake *h)
{
	SSL_free(h->client.ssl);
	close(h->client.fd);
	forget(h);
}

void acceptor_look(struct acceptor *a, int64_t now)
{
	struct handshake *h, *next;

	for (h = a->handshakes; h; h = next) {
		next = h->next;
		if (now - h->start_ms < HANDSHAKE_MS)
			continue;
		warn_line("%s: handshake: not finished in %d s",
			  h->client.name, HANDSHAKE_MS / 1000);
		drop(h);
	}
}

void acceptor_close(struct acceptor *a)
{
	if (a->closed)
		return;
	a->closed = true;
	/* Not watched while the timer runs: no matter. */
	epoll_ctl(a->epoll, EPOLL_CTL_DEL, a->listener, NULL);
	close(a->timer);
	while (a->handshakes)
		drop(a->handshakes);
}

static void accept_failed(struct acceptor *a)
{
	static const struct itimerspec later = {
		.it_value.tv_nsec = RETRY_MS * 1000000L,
	};

	if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED ||
	    errno == EINVAL) /* it was shut down, and acceptor_close() is next */
		return;
	if (!a->short_of_fds)
		warn_line("accept: %s; new clients wait", strerror(errno));
	a->short_of_fds = true;
	/* The socket stays readable: look away, or the loop would spin. */
	watch(a->epoll, EPOLL_CTL_DEL, a->listener, 0, NULL);
	timerfd_settime(a->timer, 0, &later, NULL);
}

static void listen_again(struct acceptor *a)
{
	uint64_t expirations;

	if (read(a->timer, &expirations, sizeof(expirations)) > 0)
		listen_from_now(a);
}

static void begin_handshake(struct acceptor *a, int fd,
			    const struct sockaddr *addr)
{
	struct handshake *h = calloc(1, sizeof(*h));
	int on = 1;

	if (!h) {
		warn_line("accept: %s", strerror(errno));
		close(fd);
		return;
	}
	/* The library gathers records; Nagle would only delay the last one. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	h->client.fd = fd;
	h->start_ms = now_ms();
	name_address(addr, h->client.name, sizeof(h->client.name));
	h->link = &a->handshakes;
	h->next = a->handshakes;
	if (h->next)
		h->next->link = &h->next;
	a->handshakes = h;
	watch(a->epoll, EPOLL_CTL_ADD, fd, EPOLLIN, h);
	h->client.ssl = SSL_new(a->ssl_ctx);
	if (!h->client.ssl || !SSL_set_fd(h->client.ssl, fd)) {
		warn_line("%s: %s", h->client.name, openssl_words());
		drop(h);
	}
}

/* One at a time, so that threads share a rush of clients. */
static void accept_one(struct acceptor *a)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	int fd = accept4(a->listener, (struct sockaddr *)&addr, &len,
			 SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0) {
		accept_failed(a);
		return;
	}
	a->short_of_fds = false;
	begin_handshake(a, fd, (struct sockaddr *)&addr);
}

static bool go_on(struct acceptor *a, struct handshake *h, struct client *done)
{
	struct client *c = &h->client;
	int n;

	errno = 0;
	ERR_clear_error();
	n = SSL_accept(c->ssl);
	if (n == 1) {
		watch(a->epoll, EPOLL_CTL_DEL, c->fd, 0, NULL);
		*done = *c;
		forget(h);
		return true;
	}
	switch (SSL_get_error(c->ssl, n)) {
	case SSL_ERROR_WANT_READ:
		watch(a->epoll, EPOLL_CTL_MOD, c->fd, EPOLLIN, h);
		return false;
	case SSL_ERROR_WANT_WRITE:
		watch(a->epoll, EPOLL_CTL_MOD, c->fd, EPOLLOUT, h);
		return false;
	}
	warn_line("%s: handshake: %s", c->name, openssl_words());
	refuse(a, h);
	return false;
}

bool acceptor_event(struct acceptor *a, void *what, struct client *done)
{
	if (what == &a->listener)
		accept_one(a);
	else if (what == &a->timer)
		listen_again(a);
	else
		return go_on(a, what, done);
	return false;
}
