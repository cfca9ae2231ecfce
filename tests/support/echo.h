/* SPDX-License-Identifier: MIT */
/*
 * An echo server on the library, in a thread that owns a TLS_CONTEXT_LOOP, and
 * clients for it. What goes wrong in a thread is told in words, by whatever
 * joins it: cmocka's asserts belong to the thread of the tests.
 */
#ifndef ASYNCTLS_TESTS_ECHO_H
#define ASYNCTLS_TESTS_ECHO_H

#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

#include "asynctls.h"

enum { ECHO_WORDS = 256 };

struct echo;

struct echo_report {
	size_t bytes;		 /* that came back */
	struct tls_stats middle; /* when half of what was expected had */
	struct tls_stats last;	 /* when all of it had */
	struct tls_stats end;	 /* after the last connection */
	char words[ECHO_WORDS];	 /* what failed first, or "" */
};

/* The context is of kind TLS_CONTEXT_LOOP whatever config says. */
struct echo *echo_start(const struct tls_config *config, size_t expected);
/*
 * Take a server's end after its handshake, or from secrets, which are only
 * pointed to. SSL and fd become echo's.
 */
void echo_serve(struct echo *e, SSL *ssl, int fd);
void echo_serve_secrets(struct echo *e, const struct tls_secrets *secrets,
			int fd);
/* Wait until every connection has ended, free everything. */
void echo_stop(struct echo *e, struct echo_report *report);

/*
 * Send len bytes, and receive the same. Through the library: one thread
 * writes, one reads, the descriptor blocks. Through OpenSSL: in this thread,
 * with a descriptor that does not. Both end with close_notify, and return NULL
 * or what went wrong.
 */
const char *echo_by_library(struct tls_conn *conn, const uint8_t *data,
			    size_t len);
const char *echo_by_openssl(SSL *ssl, const uint8_t *data, size_t len);

#endif
