/* SPDX-License-Identifier: MIT */
/*
 * Asynchronous reads of AF_ALG's operation sockets without io_uring: Linux AIO,
 * whose completions make an eventfd readable. (Of sockets, AF_ALG's alone do not
 * wait in the call.)
 */
#ifndef ASYNCTLS_AIO_H
#define ASYNCTLS_AIO_H

#include <libaio.h>
#include <stdbool.h>
#include <stddef.h>

struct aio {
	io_context_t context;
	int event; /* polls readable when something has completed; -1 */
	unsigned in_flight;
};

/* One read; data comes back with its completion. */
struct aio_read {
	int fd;
	void *buf;
	size_t len;
	void *data;
};

enum { AIO_BATCH = 64 };

/* 0 or -errno: -EAGAIN if fs.aio-max-nr is reached. */
int aio_start(struct aio *aio);
/*
 * What is in flight is left to the kernel, and the context then, until the
 * process ends: to take it down would wait for the driver, however long. Not
 * ours: the event's number may be another descriptor's by now.
 */
void aio_end(struct aio *aio, bool ours);
/* How many of them were taken, one at least, or the first one's -errno. */
int aio_submit(struct aio *aio, const struct aio_read *reads, int count);
/* Up to AIO_BATCH that have completed; how many, without waiting. */
int aio_reap(struct aio *aio, struct io_event *events);

#endif
