/* SPDX-License-Identifier: MIT */
/*
 * Connections handed over for good, with OpenSSL at the other end. Blocking
 * sockets; a call that fails fails the test.
 */
#ifndef ASYNCTLS_TESTS_HANDED_H
#define ASYNCTLS_TESTS_HANDED_H

#include <openssl/ssl.h>

#include "asynctls.h"

struct tls_conn *handed_over(struct tls_context *ctx, SSL *ssl);
/* tls_handoff() must fail so, with these words. */
void handed_declined(struct tls_context *ctx, SSL *ssl, int error,
		     const char *words);

/* This comes out of tls_read(). */
void handed_hears(struct tls_conn *conn, const char *what);
/* Write it, and have it read by the peer. */
void handed_says(struct tls_conn *conn, SSL *peer, const char *what);

#endif
