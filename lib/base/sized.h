/* SPDX-License-Identifier: MIT */
/*
 * Structs of a program that was compiled with another release's header: ones
 * that begin with their size, and ones whose size is given beside them. Fields
 * are only ever added at the end.
 */
#ifndef ASYNCTLS_SIZED_H
#define ASYNCTLS_SIZED_H

#include <stddef.h>

/*
 * Copy a struct that begins with its size, as a size_t. An older, shorter one
 * leaves the rest of ours 0, which is to mean the default; of a longer one what
 * we do not know must be 0. 0; -EINVAL: NULL, or shorter than least, which no
 * release has had; -E2BIG: it asks for what this library does not know. name is
 * for the words.
 */
int sized_take(void *to, size_t our_size, const void *from, size_t least,
	       const char *name);
/* Copy to a struct of any size: what it has beyond ours becomes 0. */
void sized_give(void *to, size_t size, const void *from, size_t our_size);

#endif
