/* SPDX-License-Identifier: MIT */
/*
 * Where plaintext comes from: the application's memory, in pieces, or a file.
 * A file is read, never mapped: what is sealed must not change any more, and a
 * file that somebody truncates must not be our SIGBUS.
 */
#ifndef ASYNCTLS_SOURCE_H
#define ASYNCTLS_SOURCE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct source {
	size_t left;		 /* bytes not yet taken, of all pieces */
	const struct iovec *iov; /* the piece under way; NULL: a file */
	size_t skip;		 /* bytes of it that are taken */
	int fd;
	off_t at;  /* where the file is read on */
	int error; /* what reading it came to, with words */
};

/* len bytes, the sum of the pieces; they must stay as long as the source. */
static inline struct source source_pieces(const struct iovec *iov, size_t len)
{
	return (struct source){ .iov = iov, .left = len };
}

/*
 * count bytes of a file from *offset on, or from its position if offset is
 * NULL. 0, or -errno with words: it cannot be read from a place of one's choice.
 */
int source_file(struct source *from, int fd, const off_t *offset, size_t count);

/* What comes next, *len bytes in one piece; 0 at the end and of a file. */
const uint8_t *source_piece(struct source *from, size_t *len);
/* Take len bytes of that piece. */
void source_skip(struct source *from, size_t len);
/*
 * Take up to len bytes into buf, of as many pieces as that needs. Fewer when
 * nothing is left, which the end of a file brings about, or an error.
 */
size_t source_read(struct source *from, uint8_t *buf, size_t len);

#endif
