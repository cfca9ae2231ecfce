/* SPDX-License-Identifier: MIT */
/*
 * Memory for keys: in mappings of its own that are not in core dumps, are empty
 * in a forked child, and are locked against being swapped out as far as
 * RLIMIT_MEMLOCK allows (where it does not, nothing is said). Shared by all
 * contexts of the process; may be called in any thread.
 */
#ifndef ASYNCTLS_SECRET_H
#define ASYNCTLS_SECRET_H

#include <stddef.h>
#include <stdint.h>

enum { SECRET_MAX = 16 << 10 };

/*
 * Children are to find it as it was: for a process that has rules of its own for
 * who uses keys after a fork(). Before the first secret_alloc().
 */
void secret_keep_in_children(void);

/* size bytes, zeroed, aligned to 64, or to 16 if size is less; NULL: no memory.
 */
void *secret_alloc(size_t size);
/* The size it was allocated with. Wipes. NULL is fine. */
void secret_free(void *ptr, size_t size);

/* Of all the process: what there is, and what was done. */
struct secret_counts {
	unsigned chunks;    /* mappings of 64 KiB now */
	uint64_t looked_at; /* of them, by all allocations so far */
};
struct secret_counts secret_counts(void);

#endif
