/* SPDX-License-Identifier: MIT */
/* Ends of a connection made by OpenSSL: for itself, and for libasynctls. */
#ifndef BENCH_OPENSSL_END_H
#define BENCH_OPENSSL_END_H

#include <openssl/ssl.h>

#include "bench.h"

/* A context of the version and suite asked for; exits when it fails. */
SSL_CTX *openssl_ctx(enum side side);
/* A finished handshake on fd. */
SSL *openssl_open(SSL_CTX *ctx, int fd, enum side side);
/* struct contender's, of an SSL. */
void openssl_seal(void *end, const void *buf, size_t len, struct sealed *s);
const char *openssl_library(void);

#endif
