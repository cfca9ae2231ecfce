/* SPDX-License-Identifier: MIT */
/* Where plaintext comes from: the application's memory, in pieces. */
#ifndef ASYNCTLS_SOURCE_H
#define ASYNCTLS_SOURCE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct source {
	const struct iovec *iov; /* the piece under way */
	size_t skip;		 /* bytes of it that are taken */
	size_t left;		 /* bytes not yet taken, of all pieces */
};

/* len bytes, the sum of the pieces; they must stay as long as the source. */
static inline struct source source_pieces(const struct iovec *iov, size_t len)
{
	return (struct source){ .iov = iov, .left = len };
}

/* What comes next, *len bytes in one piece; 0 bytes only at the end. */
const uint8_t *source_piece(struct source *from, size_t *len);
/* Take len bytes of that piece. */
void source_skip(struct source *from, size_t len);
/* Take up to len bytes into buf, of as many pieces as that needs. */
size_t source_read(struct source *from, uint8_t *buf, size_t len);

#endif
