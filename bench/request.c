/* SPDX-License-Identifier: MIT */
/*
 * Requests of 64 bytes, each answered by options.size bytes, one at a time on
 * each of options.conns connections. The server is what is measured.
 */
#include "clients.h"
#include "common.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

enum { EVENTS = 256 };

unsigned request_count(size_t *got, size_t n)
{
	unsigned count;

	*got += n;
	count = (unsigned)(*got / REQUEST);
	*got %= REQUEST;
	return count;
}

const char *response_bytes(void)
{
	static char bytes[RESPONSE_MAX];

	return bytes;
}

/* ---- The server, for libraries which use an epoll loop ------------------- */

struct served {
	void *end;
	int fd;
	size_t got;  /* of the request */
	size_t owed; /* of responses */
	bool blocked;
};

/* Returns 0, or -1 when the connection is over. */
static int respond(struct served *s, int epoll)
{
	bool blocked = s->blocked;
	ssize_t n;

	while (s->owed) {
		size_t at = s->owed % options.size;

		n = contender.write(s->end, response_bytes(),
				    at ? at : options.size);
		if (n < 0 && n != -EAGAIN)
			return -1;
		if (n < 0)
			break;
		s->owed -= (size_t)n;
	}
	s->blocked = s->owed;
	if (s->blocked != blocked)
		watch(epoll, EPOLL_CTL_MOD, s->fd,
		      s->blocked ? EPOLLOUT : EPOLLIN, s);
	return 0;
}

static int serve_event(struct served *s, int epoll)
{
	char buf[4096];
	ssize_t n;

	if (!s->blocked) {
		n = contender.read(s->end, buf, sizeof(buf));
		if (n == -EAGAIN)
			return 0;
		if (n <= 0)
			return -1;
		s->owed += request_count(&s->got, (size_t)n) * options.size;
	}
	return respond(s, epoll);
}

static void serve_epoll(void **ends, const int *fds, unsigned n)
{
	struct served *served = calloc(n, sizeof(*served));
	struct epoll_event events[EVENTS];
	int epoll = new_epoll(), got, i;
	unsigned open = n;

	for (i = 0; i < (int)n; i++) {
		served[i].end = ends[i];
		served[i].fd = fds[i];
		net_nonblocking(fds[i]);
		watch(epoll, EPOLL_CTL_ADD, fds[i], EPOLLIN, &served[i]);
	}
	while (open) {
		got = epoll_wait(epoll, events, EVENTS, -1);
		for (i = 0; i < got; i++) {
			struct served *s = events[i].data.ptr;

			if (serve_event(s, epoll)) {
				watch(epoll, EPOLL_CTL_DEL, s->fd, 0, NULL);
				open--;
			}
		}
	}
	free(served);
}

/* ---- Both -----------------------------------------------------------------
 */

static void clients(int listener, struct shared *shared)
{
	struct client *c = clients_new();
	char request[REQUEST] = { 0 };
	unsigned i;

	begin_peer();
	for (i = 0; i < options.conns; i++) {
		c[i].fd = net_connect(listener);
		c[i].end = net_open(c[i].fd, CLIENT, false);
	}
	for (i = 0; i < options.conns; i++)
		client_seal(&c[i], request, sizeof(request));
	clients_run(c, options.size, shared);
}

void request_response(struct shared *shared, struct cost *cost)
{
	int i, listener = net_listen(), n = (int)options.conns;
	pid_t peer = fork_peer(clients, listener, shared);
	void **ends = calloc(options.conns, sizeof(*ends));
	int *fds = calloc(options.conns, sizeof(*fds));
	struct cost before;

	contender.prepare();
	for (i = 0; i < n; i++) {
		fds[i] = net_accept(listener);
		ends[i] = net_open(fds[i], SERVER, true);
	}
	before = cost_now();
	if (contender.serve)
		contender.serve(ends, fds, options.conns);
	else
		serve_epoll(ends, fds, options.conns);
	*cost = cost_since(before);
	wait_peer(peer);
}
