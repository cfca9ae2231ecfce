/* SPDX-License-Identifier: MIT */
/*
 * What ends waits in a ring without io_uring: a byte in a pipe that its epoll
 * watches. It stays until everybody has woken who waited when it was put there:
 * else one who reaps could take it from under a sleeper's eyes.
 */
#ifndef ASYNCTLS_BELL_H
#define ASYNCTLS_BELL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/own.h"

struct bell {
	struct own_fd pipe[2];
	pthread_mutex_t guard;
	uint64_t rung;	  /* so often */
	unsigned waiters; /* threads that wait */
	unsigned owed;	  /* ... since before it was rung last */
	bool sounds;	  /* there is a byte in the pipe */
};

/* Before bell_open(), so that bell_close() may follow. */
void bell_init(struct bell *bell);
/* 0 or -errno; bell->pipe[0] is to be watched. */
int bell_open(struct bell *bell);
void bell_close(struct bell *bell);

/* How many system calls that took. */
unsigned bell_ring(struct bell *bell);
/* Take the byte, unless somebody has yet to see it. The same. */
unsigned bell_hush(struct bell *bell);

/* Around a wait; the end wants what the beginning returned. */
uint64_t bell_begin_wait(struct bell *bell);
void bell_end_wait(struct bell *bell, uint64_t rung);

#endif
