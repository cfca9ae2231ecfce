/* SPDX-License-Identifier: MIT */
/*
 * What a connection costs in memory: as many as asked for, first idle after
 * their handshake, then each with as much written as it takes from a peer that
 * does not read. Kernel memory, the same for all, is not counted.
 */
#include "bench.h"
#include "common.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static double resident(void)
{
	unsigned long total, pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	malloc_trim(0);
	if (!f || fscanf(f, "%lu %lu", &total, &pages) != 2)
		die("cannot read /proc/self/statm");
	fclose(f);
	return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static void peers(int listener, struct shared *shared)
{
	unsigned i;

	(void)shared;
	begin_peer();
	for (i = 0; i < options.conns; i++)
		net_open(net_connect(listener), CLIENT, false);
	pause(); /* until the parent kills it */
}

void memory(struct shared *shared, struct cost *cost)
{
	void **ends = calloc(options.conns, sizeof(*ends));
	int fd, i, listener = net_listen(), n = (int)options.conns;
	pid_t peer = fork_peer(peers, listener, shared);
	static char buf[16 << 10];
	double before = 0;

	if (n < 2)
		die_usage("memory is told by the second of --conns on");
	*cost = cost_now();
	contender.prepare();
	/* What the library allocates once is no connection's. */
	for (i = 0; i < n; i++) {
		if (i == 1)
			before = resident();
		fd = net_accept(listener);
		ends[i] = net_open(fd, SERVER, true);
		net_nonblocking(fd);
	}
	shared->idle_bytes = (resident() - before) / (n - 1);
	for (i = 0; i < n; i++)
		while (contender.write(ends[i], buf, sizeof(buf)) > 0)
			;
	shared->active_bytes = (resident() - before) / (n - 1);
	*cost = cost_since(*cost);
	signal(SIGCHLD, SIG_DFL);
	kill(peer, SIGKILL);
	waitpid(peer, NULL, 0);
}
