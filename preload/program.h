/* SPDX-License-Identifier: MIT */
/* asynctls-run: the program that is to be run, and whether it is one that a
 * preloaded library can do something for. */
#ifndef ASYNCTLS_PROGRAM_H
#define ASYNCTLS_PROGRAM_H

#include <limits.h>
#include <stddef.h>

/* Where execvp() would find it. 0, or -ENOENT, -EACCES as it would say. */
int program_find(const char *name, char path[PATH_MAX]);

/*
 * Why nothing can be done for the file at path, a script's interpreter being
 * looked at in its place: words, with what to do. NULL: nothing speaks against
 * it; it may yet have no connection of OpenSSL's.
 */
const char *program_objection(const char *path);

#endif
