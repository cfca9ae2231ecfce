/* SPDX-License-Identifier: MIT */
/* Writing to files that the program knows nothing of. */
#ifndef ASYNCTLS_QUIET_H
#define ASYNCTLS_QUIET_H

#include <stddef.h>

/*
 * write() without the signals that it sends, to this thread: SIGPIPE for a FIFO
 * whose reader has gone, SIGXFSZ for a file that may not grow. What cannot be
 * written is lost.
 */
void quiet_write(int fd, const char *bytes, size_t len);

#endif
