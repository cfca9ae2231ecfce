/* SPDX-License-Identifier: MIT */
#include "io/bell.h"

#include <unistd.h>

void bell_init(struct bell *bell)
{
	*bell = (struct bell){ .pipe = { { .fd = -1 }, { .fd = -1 } } };
	pthread_mutex_init(&bell->guard, NULL);
}

int bell_open(struct bell *bell)
{
	return own_pipe(bell->pipe);
}

void bell_close(struct bell *bell)
{
	own_fd_close(&bell->pipe[0]);
	own_fd_close(&bell->pipe[1]);
	pthread_mutex_destroy(&bell->guard);
}

unsigned bell_ring(struct bell *bell)
{
	unsigned calls = 0;

	pthread_mutex_lock(&bell->guard);
	bell->rung++;
	bell->owed = bell->waiters;
	if (!bell->sounds && own_fd_is_ours(&bell->pipe[1])) {
		calls++;
		bell->sounds = write(bell->pipe[1].fd, "", 1) == 1;
	}
	pthread_mutex_unlock(&bell->guard);
	return calls;
}

unsigned bell_hush(struct bell *bell)
{
	unsigned calls = 0;
	char buf[16];

	if (!bell->sounds)
		return 0;
	pthread_mutex_lock(&bell->guard);
	if (!bell->owed && own_fd_is_ours(&bell->pipe[0])) {
		calls++;
		if (read(bell->pipe[0].fd, buf, sizeof(buf)) > 0)
			bell->sounds = false;
	}
	pthread_mutex_unlock(&bell->guard);
	return calls;
}

uint64_t bell_begin_wait(struct bell *bell)
{
	uint64_t rung;

	pthread_mutex_lock(&bell->guard);
	rung = bell->rung;
	bell->waiters++;
	pthread_mutex_unlock(&bell->guard);
	return rung;
}

void bell_end_wait(struct bell *bell, uint64_t rung)
{
	pthread_mutex_lock(&bell->guard);
	bell->waiters--;
	if (rung != bell->rung && bell->owed)
		bell->owed--;
	pthread_mutex_unlock(&bell->guard);
}
