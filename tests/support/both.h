/* SPDX-License-Identifier: MIT */
/*
 * Both ends of a connection, from made-up secrets and without a handshake.
 * The descriptors are non-blocking TCP. A call that fails fails the test.
 */
#ifndef ASYNCTLS_TESTS_BOTH_H
#define ASYNCTLS_TESTS_BOTH_H

#include <stddef.h>
#include <stdint.h>

#include "asynctls.h"

struct both {
	struct tls_context *ctx;
	int fd[2];
	struct tls_conn *conn[2];
};

/* What the two ends know; valid for good. */
const struct tls_secrets *both_secrets(int end);

/* Both ends in one context. */
void both_open(struct both *b, struct tls_context *ctx);
/* At once, whatever is in flight. */
void both_close(struct both *b);

/* Send len bytes of the pattern from end 0 to end 1, and check them there. */
void both_transfer(struct both *b, size_t len);
/* The second half of that: len bytes were written and perhaps not flushed. */
void both_receive(struct both *b, size_t len);

#endif
