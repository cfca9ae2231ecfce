/* SPDX-License-Identifier: MIT */
/*
 * Bulk data one way. The clock runs from the first write after the handshake
 * until the peer has received the last byte; nothing is warmed up before.
 */
#include "bench.h"
#include "common.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER = 256 << 10 };

/* ---- Sending ------------------------------------------------------------- */

static void write_all(void *end, int epoll, const char *buf, size_t len)
{
	struct epoll_event event;
	ssize_t n;

	for (; len; buf += n, len -= (size_t)n) {
		n = contender.write(end, buf, len);
		if (n == -EAGAIN && epoll >= 0) {
			epoll_wait(epoll, &event, 1, -1);
			n = 0;
		} else if (n < 0) {
			die("write: %s", strerror((int)-n));
		}
	}
}

/* The time is asked each 256 KiB: it is not what is measured. */
static uint64_t write_for(void *end, int epoll, unsigned ms)
{
	uint64_t until = now_ns() + ms * 1000000ull, bytes = 0;
	static char buf[BUFFER];
	size_t n;

	do {
		for (n = 0; n < BUFFER; n += options.size)
			write_all(end, epoll, buf, options.size);
		bytes += n;
	} while (now_ns() < until);
	return bytes;
}

static void send_on(int fd, struct shared *shared, struct cost *cost)
{
	void *end = net_open(fd, SERVER, true);
	struct cost before = cost_now();
	int epoll = -1;

	if (options.epoll) {
		net_nonblocking(fd);
		epoll = new_epoll();
		watch(epoll, EPOLL_CTL_ADD, fd, EPOLLOUT | EPOLLET, NULL);
	}
	shared->begin_ns = now_ns();
	shared->bytes = write_for(end, epoll, options.ms);
	contender.finish(end);
	shutdown(fd, SHUT_WR);
	*cost = cost_since(before);
}

/* ---- The peers ----------------------------------------------------------- */

/* A receiver of raw bytes, which opens nothing. */
static void sink(int listener, struct shared *shared)
{
	static char buf[BUFFER];
	struct cost before;
	int fd;

	begin_peer();
	fd = net_connect(listener);
	net_open(fd, CLIENT, false);
	before = cost_now();
	while (recv(fd, buf, sizeof(buf), 0) > 0)
		;
	shared->end_ns = now_ns();
	shared->peer = cost_since(before);
}

static uint64_t read_all(void *end)
{
	static char buf[BUFFER];
	uint64_t bytes = 0;
	ssize_t n;

	while ((n = contender.read(end, buf, sizeof(buf))) > 0)
		bytes += (uint64_t)n;
	if (n < 0)
		die("read: %s", strerror((int)-n));
	return bytes;
}

static void receiver(int listener, struct shared *shared)
{
	struct cost before;
	uint64_t bytes;
	void *end;

	begin_peer();
	end = net_open(net_connect(listener), CLIENT, true);
	before = cost_now();
	bytes = read_all(end);
	shared->end_ns = now_ns();
	shared->peer = cost_since(before);
	if (bytes != shared->bytes)
		die("received %zu bytes, not %zu", (size_t)bytes,
		    (size_t)shared->bytes);
}

/* ---- One connection, or several threads each with its own ---------------- */

struct pair {
	int cpu, listener;
	pid_t peer;
	pthread_t thread;
	struct shared *shared;
	struct cost cost;
};

static void run_pair(struct pair *p)
{
	pin(p->cpu);
	contender.prepare();
	send_on(net_accept(p->listener), p->shared, &p->cost);
}

static void *pair_thread(void *pair)
{
	run_pair(pair);
	return NULL;
}

/* With several, the peer of each shares a processor with its thread. */
static void fork_pair(struct pair *p, void (*peer)(int, struct shared *),
		      struct shared *shared, int i)
{
	p->cpu = options.cpu + i;
	if (options.pairs > 1)
		options.peer_cpu = p->cpu;
	p->shared = shared;
	p->listener = net_listen();
	p->peer = fork_peer(peer, p->listener, shared);
}

static void bulk_pairs(struct shared *shared, struct cost *cost,
		       void (*peer)(int, struct shared *))
{
	struct pair *pairs = calloc(options.pairs, sizeof(*pairs));
	int i, n = (int)options.pairs;

	for (i = 0; i < n; i++)
		fork_pair(&pairs[i], peer, &shared[i], i);
	for (i = 1; i < n; i++)
		pairs[i].thread = start_thread(pair_thread, &pairs[i]);
	run_pair(&pairs[0]);
	*cost = pairs[0].cost; /* of the process, all its threads */
	for (i = 0; i < n; i++) {
		if (i)
			pthread_join(pairs[i].thread, NULL);
		wait_peer(pairs[i].peer);
	}
	shared_sum(shared, n);
	free(pairs);
}

void bulk_send(struct shared *shared, struct cost *cost)
{
	bulk_pairs(shared, cost, sink);
}

void bulk_both(struct shared *shared, struct cost *cost)
{
	bulk_pairs(shared, cost, receiver);
}

/* ---- Receiving ----------------------------------------------------------- */

/*
 * A sender that is never the bottleneck: it seals one long stream into memory,
 * and then only copies it into the socket.
 */
static void replay(int listener, struct shared *shared)
{
	static char buf[BUFFER];
	struct sealed s = { 0 };
	struct cost before;
	size_t done, n;
	void *end;
	int fd;

	begin_peer();
	fd = net_connect(listener);
	end = net_open(fd, CLIENT, false);
	for (done = 0; done < options.bytes; done += n) {
		n = options.bytes - done;
		n = n < options.size ? n : options.size;
		contender.seal(end, buf, n, &s);
	}
	before = cost_now();
	shared->begin_ns = now_ns();
	for (done = 0; done < s.len; done += n) {
		n = s.len - done < BUFFER ? s.len - done : BUFFER;
		n = (size_t)send(fd, s.bytes + done, n, MSG_NOSIGNAL);
		if (n == (size_t)-1)
			die("send: %s", strerror(errno));
	}
	shared->peer = cost_since(before);
}

void bulk_receive(struct shared *shared, struct cost *cost)
{
	static char buf[BUFFER];
	int listener = net_listen();
	pid_t peer = fork_peer(replay, listener, shared);
	struct cost before;
	ssize_t n;
	void *end;

	contender.prepare();
	end = net_open(net_accept(listener), SERVER, true);
	before = cost_now();
	while (shared->bytes < options.bytes) {
		n = contender.read(end, buf, sizeof(buf));
		if (n <= 0)
			die("read: %s", strerror((int)-n));
		shared->bytes += (uint64_t)n;
	}
	shared->end_ns = now_ns();
	*cost = cost_since(before);
	wait_peer(peer);
}
