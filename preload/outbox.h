/* SPDX-License-Identifier: MIT */
/*
 * Sealed records on their way out: held for the socket (hold.h), or, where the
 * SSL has a BIO of another kind, written to that as soon as OpenSSL would.
 */
#ifndef ASYNCTLS_OUTBOX_H
#define ASYNCTLS_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"
#include "hold.h"

struct bio_st;

struct outbox {
	bool by_bio;
	bool open; /* between hold_take() and hold_leave() */
	bool left; /* something was there when that ended */
	/*
	 * What the socket takes at least: as it said once, less what was added
	 * since. Acknowledgements only make it more.
	 */
	size_t room;
	struct held held;
	struct bytes bytes;
};

/* fd -1: through a BIO. */
void outbox_init(struct outbox *out, int fd);
/* Sends what is owed, and is empty. */
void outbox_free(struct outbox *out);

/*
 * Another socket takes the place of this one, or -1: a BIO. What the program was
 * told is written goes to the old one; the rest of a record for which it was not
 * comes along. 0 or -errno.
 */
int outbox_move(struct outbox *out, int fd);

/*
 * Pairs, that may be nested: outbox_close() takes what outbox_open() returned.
 * The calls below belong between them.
 */
bool outbox_open(struct outbox *out);
void outbox_close(struct outbox *out, bool opened);

size_t outbox_len(const struct outbox *out);
/* Room for a record of so many bytes, and that they are there. NULL: no memory */
uint8_t *outbox_reserve(struct outbox *out, size_t len);
void outbox_added(struct outbox *out, size_t len);
/* How much may be kept here, if there is nothing, without waiting for the socket
 * later. */
size_t outbox_room(struct outbox *out);
/* 0, -EAGAIN or -EINTR where some is left, or another -errno. */
int outbox_send(struct outbox *out, struct bio_st *bio);
/* -errno of a send that was not told yet, or 0. */
int outbox_error(const struct outbox *out);

#endif
