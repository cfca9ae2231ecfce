/* SPDX-License-Identifier: MIT */
/*
 * A connection of ours and OpenSSL at the other end, in one thread, both
 * sending and receiving all the time, and both updating keys at random: with
 * and without asking the other.
 */
#ifndef TESTS_REKEYING_H
#define TESTS_REKEYING_H

#include <stddef.h>

#include "asynctls.h"
#include "tls_pair.h"

struct rekeying {
	struct tls_context *ctx;
	struct tls_pair pair;
	struct tls_conn *conn;
	SSL *peer;
	size_t len;   /* to be carried each way */
	size_t every; /* bytes from one KeyUpdate to the next, about */
	void (*step)(void); /* called now and then, or NULL */
	unsigned ours, theirs; /* KeyUpdates asked for */
};

/*
 * Make a pair with this suite and hand one end over to ctx. Then stream,
 * checking every byte, and see close_notify both ways; the test fails if
 * anything is wrong.
 */
void rekeying_open(struct rekeying *r, const char *suite, bool we_are_client);
void rekeying_stream(struct rekeying *r);
void rekeying_close(struct rekeying *r);

#endif
