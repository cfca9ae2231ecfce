/* SPDX-License-Identifier: MIT */
/*
 * Requests of 64 bytes, each answered by options.size bytes, one at a time on
 * each of options.conns connections.
 *
 * The server is what is measured. Its clients seal all their requests before
 * the clock runs and do not open the responses, only count their bytes: they
 * cost what clients without TLS cost, whatever the library.
 */
#include "bench.h"
#include "common.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, PER_MS = 300 };

static int new_epoll(void)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	if (epoll < 0)
		die("epoll: %s", strerror(errno));
	return epoll;
}

static void watch(int epoll, int op, int fd, uint32_t events, void *what)
{
	struct epoll_event event = { .events = events, .data.ptr = what };

	if (epoll_ctl(epoll, op, fd, &event))
		die("epoll_ctl: %s", strerror(errno));
}

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

/* ---- The clients --------------------------------------------------------- */

struct asking {
	int fd;
	struct sealed requests;
	unsigned next, count; /* of requests */
	size_t got;	      /* of the response, as it is on the wire */
	uint64_t begin_ns;
};

struct latencies {
	uint32_t *ns;
	size_t count, size;
};

/* A response as one record, the way all of the libraries send it. */
static size_t response_on_the_wire(void)
{
	bool chacha = strstr(options.cipher->flag, "chacha");
	size_t explicit_nonce = chacha ? 0 : 8;

	if (contender.plain)
		return options.size;
	return 5 + options.size + 16 +
	       (options.version == 13 ? 1 : explicit_nonce);
}

static void seal_requests(struct asking *a, void *end)
{
	char request[REQUEST] = { 0 };
	unsigned i;

	a->count = options.ms * PER_MS / options.conns + 8;
	for (i = 0; i < a->count; i++)
		contender.seal(end, request, sizeof(request), &a->requests);
}

/* Returns false when there are no more. */
static bool ask(struct asking *a)
{
	size_t len = a->requests.len / a->count;

	if (a->next == a->count)
		return false;
	a->got = 0;
	a->begin_ns = now_ns();
	if (send(a->fd, a->requests.bytes + a->next++ * len, len,
		 MSG_NOSIGNAL) != (ssize_t)len)
		die("send: %s", strerror(errno));
	return true;
}

static void answered(struct latencies *l, uint64_t ns)
{
	if (l->count == l->size) {
		l->size = 2 * l->size + (1 << 16);
		l->ns = realloc(l->ns, l->size * sizeof(*l->ns));
		if (!l->ns)
			die("no memory for latencies");
	}
	l->ns[l->count++] = ns < UINT32_MAX ? (uint32_t)ns : UINT32_MAX;
}

/* Returns false when the connection has no more requests. */
static bool take_response(struct asking *a, size_t whole, struct latencies *l)
{
	static char buf[64 << 10];
	ssize_t n = recv(a->fd, buf, sizeof(buf), 0);

	if (n <= 0)
		die("the server closed a connection");
	a->got += (size_t)n;
	if (a->got > whole)
		die("a response of %zu bytes instead of %zu", a->got, whole);
	if (a->got < whole)
		return true;
	answered(l, now_ns() - a->begin_ns);
	return ask(a);
}

static void ask_for(struct asking *asking, int epoll, struct latencies *l,
		    uint64_t until)
{
	size_t whole = response_on_the_wire();
	struct epoll_event events[EVENTS];
	unsigned i;
	int got, n;

	for (i = 0; i < options.conns; i++)
		ask(&asking[i]);
	while (now_ns() < until) {
		got = epoll_wait(epoll, events, EVENTS, 1000);
		if (got == 0)
			die("no response for a second");
		for (n = 0; n < got; n++)
			if (!take_response(events[n].data.ptr, whole, l))
				return;
	}
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void report(const struct latencies *l, struct shared *shared)
{
	static const double parts[] = { .5, .99, .999 };
	size_t i;

	if (!l->count)
		die("no request was answered");
	qsort(l->ns, l->count, sizeof(*l->ns), compare);
	for (i = 0; i < 3; i++)
		shared->percentiles[i] =
			l->ns[(size_t)((double)(l->count - 1) * parts[i])] /
			1e3;
	shared->requests = l->count;
	shared->bytes = l->count * options.size;
}

static void clients(int listener, struct shared *shared)
{
	struct asking *asking = calloc(options.conns, sizeof(*asking));
	struct latencies l = { 0 };
	struct cost before;
	int epoll = new_epoll();
	void **ends = calloc(options.conns, sizeof(*ends));
	unsigned i;

	begin_peer();
	for (i = 0; i < options.conns; i++) {
		asking[i].fd = net_connect(listener);
		ends[i] = net_open(asking[i].fd, CLIENT, false);
		watch(epoll, EPOLL_CTL_ADD, asking[i].fd, EPOLLIN, &asking[i]);
	}
	for (i = 0; i < options.conns; i++)
		seal_requests(&asking[i], ends[i]);
	before = cost_now();
	shared->begin_ns = now_ns();
	ask_for(asking, epoll, &l, shared->begin_ns + options.ms * 1000000ull);
	shared->end_ns = now_ns();
	shared->peer = cost_since(before);
	report(&l, shared);
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
