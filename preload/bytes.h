/* SPDX-License-Identifier: MIT */
/* Bytes that come in at the end and leave at the start. */
#ifndef ASYNCTLS_BYTES_H
#define ASYNCTLS_BYTES_H

#include <stdint.h>
#include <stdlib.h>

struct bytes {
	uint8_t *bytes;
	size_t start, end, size;
};

static inline size_t bytes_len(const struct bytes *b)
{
	return b->end - b->start;
}

/* Room for len more at the end, to be written before end is moved; or NULL. */
static inline uint8_t *bytes_reserve(struct bytes *b, size_t len)
{
	uint8_t *bytes;

	if (b->start == b->end)
		b->start = b->end = 0;
	if (b->size - b->end >= len)
		return b->bytes + b->end;
	bytes = (uint8_t *)realloc(b->bytes, b->end + len);
	if (!bytes)
		return NULL;
	b->bytes = bytes;
	b->size = b->end + len;
	return bytes + b->end;
}

static inline void bytes_free(struct bytes *b)
{
	free(b->bytes);
	*b = (struct bytes){ 0 };
}

#endif
