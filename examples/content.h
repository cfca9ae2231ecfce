/* SPDX-License-Identifier: MIT */
/* What echo-client sends: a file, or made-up bytes. */
#ifndef EXAMPLES_CONTENT_H
#define EXAMPLES_CONTENT_H

#include <stddef.h>
#include <stdint.h>

enum { CHUNK = 65536 };

/* Made-up bytes take turns in a buffer of the caller's, one per thread. */
typedef uint64_t content_scratch[CHUNK / sizeof(uint64_t)];

/* Use a file, and return its size; or made-up bytes without end. */
uint64_t content_open(const char *file);
void content_make(void);

/* What stands at offset: as many as *len bytes, up to the next chunk. */
const char *content(uint64_t offset, uint64_t *len, content_scratch scratch);

/* Exits with a message unless buf holds what stands at offset. */
void content_compare(const char *buf, uint64_t offset, uint64_t len,
		     content_scratch scratch);

#endif
