/* SPDX-License-Identifier: MIT */
/* Two connections of ours that talk to each other, each in its own context. */
#ifndef TESTS_ENDS_H
#define TESTS_ENDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "asynctls.h"

struct fake_engine;

struct end_options {
	enum tls_context_kind kind;
	uint16_t suite; /* 0: TLS_AES_128_GCM */
	size_t max_memory;
	struct fake_engine *fake; /* in the kernel engine's place */
};

struct end {
	struct tls_context *ctx;
	struct tls_conn *conn;
	int fd;
};

/*
 * Take fd over as end 0 or 1 of a connection; 0 is the server. NULL, or what
 * went wrong in words. These may be called in any thread.
 */
const char *end_take(struct tls_conn **conn, struct tls_context *ctx, int fd,
		     int side, uint16_t suite);
/* The same with a context of its own. */
const char *end_open(struct end *end, int fd, int side,
		     const struct end_options *options);
/* Skips what is NULL already. */
void end_close(struct end *end);

struct ends_options {
	struct end_options end[2];
	bool blocking;
	bool tcp;
};

/* Both, in this thread. */
void ends_new(struct end end[2], const struct ends_options *options);
void ends_free(struct end end[2]);

/* Numbers that look random, the same in each run. */
struct dice {
	uint64_t state;
};
/* From 1 to max, small ones and large ones alike. */
size_t dice_size(struct dice *dice, size_t max);

#endif
