/* SPDX-License-Identifier: MIT */
/* The part of echo-client that is not about the library. */
#ifndef EXAMPLES_CLIENT_SETUP_H
#define EXAMPLES_CLIENT_SETUP_H

#include <stdbool.h>

#include <openssl/ssl.h>

#include "common.h"

struct client_options {
	const char *host, *port, *file, *tls, *cipher, *ca;
	uint64_t bytes;
	bool bytes_given;
	bool resume;
	unsigned timeout;
	struct tls_config config;
};

/* All of these exit with a message when they fail. */
void client_options(struct client_options *o, int argc, char **argv);
SSL_CTX *client_ssl_ctx(const struct client_options *o);

/*
 * Connect, and do the handshake, with the latest session there is. The
 * descriptor is the caller's to close.
 */
SSL *client_connect(const struct client_options *o, SSL_CTX *ssl_ctx);

/*
 * Read and forget what the server sends, until it has ended, or sent nothing
 * for so long, or has had enough bytes and time.
 */
void client_drop(int fd, int quiet_ms);

/*
 * Before exiting after an alert of ours: end our direction, and drop what
 * comes until the server ends, too. A socket closed with
 * bytes unread resets the connection, and the server loses the alert.
 */
void client_leave(int fd);

/*
 * A line on a terminal that says how far we are. Each call gives the process
 * so many seconds until the next one, or it exits with a message.
 */
void progress(uint64_t done, uint64_t total, unsigned timeout);
void progress_end(void);

#endif
