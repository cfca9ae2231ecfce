/* SPDX-License-Identifier: MIT */
/*
 * The secrets that KeyUpdates make, as lines of the NSS key log format (RFC
 * 9850), into a file that the application asked for.
 */
#ifndef ASYNCTLS_KEYLOG_H
#define ASYNCTLS_KEYLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/own.h"

enum { KEYLOG_RANDOM = 32 };

/* What names a connection's secrets. */
struct keylog {
	const struct own_fd *file; /* somebody else's to close */
	uint8_t client_random[KEYLOG_RANDOM];
};

/* To append to; a descriptor or -errno, -ENXIO for a FIFO without a reader. */
int keylog_open(const char *path);

/*
 * Append "CLIENT_TRAFFIC_SECRET_number client_random secret", or SERVER_ if it
 * is not the client that sends with it. A write that fails is not reported, nor
 * is there a signal, and a FIFO that is full is not waited for.
 */
void keylog_write(const struct keylog *log, bool client, unsigned number,
		  const uint8_t *secret, size_t len);

#endif
