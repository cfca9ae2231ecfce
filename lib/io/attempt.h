/* SPDX-License-Identifier: MIT */
/*
 * Calls on a socket that do not wait, for a ring without io_uring. Each returns
 * a count or -errno, -EAGAIN where it would have waited.
 */
#ifndef ASYNCTLS_ATTEMPT_H
#define ASYNCTLS_ATTEMPT_H

#include <stddef.h>
#include <sys/socket.h>

/* What is to be sent: msg, or where that is NULL buf. */
struct outgoing {
	int fd;
	const void *buf;
	const struct msghdr *msg;
	size_t len; /* of it all */
};

size_t attempt_total(const struct msghdr *msg);
/*
 * As MSG_WAITALL does: all behind the first *sent bytes, which are counted on; or
 * that count where an error comes in between. *calls counts system calls.
 */
long attempt_send(const struct outgoing *out, size_t *sent, unsigned *calls);
long attempt_receive(int fd, void *buf, size_t len, unsigned *calls);

#endif
