/* SPDX-License-Identifier: MIT */
/* The part of a server before the library: accepting, and OpenSSL. */
#ifndef EXAMPLES_SERVER_ACCEPT_H
#define EXAMPLES_SERVER_ACCEPT_H

#include <stdbool.h>

#include <openssl/ssl.h>

#include "server-leave.h"

/* A client whose handshake is done. */
struct client {
	char name[64];
	int fd;
	SSL *ssl;
};

/*
 * One thread's share of a listening socket, and its handshakes under way. Adds
 * descriptors of its own to the thread's epoll.
 */
struct acceptor {
	int epoll;
	int listener;
	SSL_CTX *ssl_ctx;
	struct leavers *leavers;
	int timer; /* when to look at the listener again */
	bool short_of_fds;
	bool closed;
	struct handshake *handshakes;
};

/* leavers gets whose handshake failed. Exits with a message when it fails. */
void acceptor_init(struct acceptor *a, int epoll, int listener,
		   SSL_CTX *ssl_ctx, struct leavers *leavers);

/*
 * Act on an event of the epoll, given its data.ptr. Returns true when that was
 * the last of a handshake: then the client is the caller's.
 */
bool acceptor_event(struct acceptor *a, void *what, struct client *done);

/* Drop whose handshake takes too long; now is now_ms(). */
void acceptor_look(struct acceptor *a, int64_t now);

/*
 * Accept no more, and drop what has not finished its handshake. More calls do
 * no harm. Leaves the listener and the epoll open.
 */
void acceptor_close(struct acceptor *a);

#endif
