/* SPDX-License-Identifier: MIT */
/*
 * The part of the servers that is the same for all: threads, a context and an
 * event loop in each, hand-over.
 */
#ifndef EXAMPLES_SERVER_LOOP_H
#define EXAMPLES_SERVER_LOOP_H

#include "server-accept.h"
#include "server-setup.h"

/* A connection handed over. A server's own struct begins with this one. */
struct peer {
	struct peer *next, **link;
	struct peer *again_next, **again_link;
	struct server_thread *thread;
	char name[64];
	int fd;
	struct tls_conn *conn;
};

struct server_thread {
	pthread_t id;
	struct tls_context *ctx;
	int epoll;
	struct acceptor acceptor;
	struct leavers leavers;
	struct peer *peers;
	struct peer *again; /* those that go on without an event */
	int64_t stop_ms;    /* when SIGTERM came, else 0 */
	int64_t looked_ms;  /* when look() was called last */
	struct tls_stats stats;
};

/* What a server does with its connections, in the thread that owns them. */
struct service {
	size_t peer_size; /* of its own struct, which begins as zeros */
	/* Do what a connection with an event allows now. */
	void (*advance)(struct peer *p);
	/*
	 * Called for every connection once a second, and after SIGTERM every
	 * 10 ms until none is left: for time-outs, and for ending them.
	 */
	void (*look)(struct peer *p);
	/* Called by peer_drop(); may be NULL. */
	void (*dropped)(struct peer *p);
};

/* Serve until SIGTERM. Exits with a message if it cannot start. */
void serve(const struct server_options *o, SSL_CTX *ssl_ctx,
	   const struct service *service);

/*
 * Call advance() again on the next turn, event or not: for a connection that
 * could go on but has had its share of this turn.
 */
void peer_again(struct peer *p);

/*
 * Close a connection and forget it, in whatever state it is. A client that was
 * sent an alert has a moment to read it.
 */
void peer_drop(struct peer *p);

#endif
