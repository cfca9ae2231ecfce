/* SPDX-License-Identifier: MIT */
#include "clients.h"
#include "common.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { EVENTS = 256, PER_MS = 300 };

struct latencies {
	uint32_t *ns;
	size_t count, size;
};

struct client *clients_new(void)
{
	struct client *clients = calloc(options.conns, sizeof(*clients));

	if (!clients)
		die("no memory for clients");
	return clients;
}

void client_seal(struct client *c, const char *request, size_t len)
{
	unsigned i;

	c->count = options.ms * PER_MS / options.conns + 8;
	for (i = 0; i < c->count; i++)
		contender.seal(c->end, request, len, &c->requests);
}

/* Returns false when there are no more. */
static bool ask(struct client *c)
{
	size_t len = c->requests.len / c->count;

	if (c->next == c->count)
		return false;
	c->got = 0;
	c->begin_ns = now_ns();
	if (send(c->fd, c->requests.bytes + c->next++ * len, len,
		 MSG_NOSIGNAL) != (ssize_t)len)
		die("send: %s", strerror(errno));
	return true;
}

/* What a record has beside the plaintext: nonce, type, tag. */
static size_t overhead(void)
{
	if (options.version == 13)
		return 1 + 16;
	return strstr(options.cipher->flag, "chacha") ? 16 : 8 + 16;
}

static void count_records(struct client *c, const uint8_t *p, size_t n)
{
	size_t part;

	while (n) {
		if (!c->record_left) {
			c->header[c->header_got++] = *p++;
			n--;
			if (c->header_got < sizeof(c->header))
				continue;
			c->header_got = 0;
			c->record_left = c->header[3] << 8 | c->header[4];
			c->got += c->record_left - overhead();
		}
		part = n < c->record_left ? n : c->record_left;
		c->record_left -= part;
		p += part;
		n -= part;
	}
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

/* Returns false when the client has no more requests. */
static bool take_response(struct client *c, size_t whole, struct latencies *l)
{
	static uint8_t buf[64 << 10];
	ssize_t n = recv(c->fd, buf, sizeof(buf), 0);

	if (n <= 0)
		die("the server closed a connection");
	if (contender.plain)
		c->got += (size_t)n;
	else
		count_records(c, buf, (size_t)n);
	if (c->got > whole)
		die("a response of %zu bytes instead of %zu", c->got, whole);
	if (c->got < whole || c->record_left)
		return true;
	answered(l, now_ns() - c->begin_ns);
	return ask(c);
}

static void ask_for(struct client *clients, size_t response, int epoll,
		    struct latencies *l, uint64_t until)
{
	struct epoll_event events[EVENTS];
	unsigned i;
	int got, n;

	for (i = 0; i < options.conns; i++)
		ask(&clients[i]);
	while (now_ns() < until) {
		got = epoll_wait(epoll, events, EVENTS, 10000);
		if (got == 0)
			die("no response for 10 seconds");
		for (n = 0; n < got; n++)
			if (!take_response(events[n].data.ptr, response, l))
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
}

void clients_run(struct client *clients, size_t response, struct shared *shared)
{
	struct latencies l = { 0 };
	struct cost before;
	int epoll = new_epoll();
	unsigned i;

	for (i = 0; i < options.conns; i++)
		watch(epoll, EPOLL_CTL_ADD, clients[i].fd, EPOLLIN,
		      &clients[i]);
	before = cost_now();
	shared->begin_ns = now_ns();
	ask_for(clients, response, epoll, &l,
		shared->begin_ns + options.ms * 1000000ull);
	shared->end_ns = now_ns();
	shared->peer = cost_since(before);
	report(&l, shared);
	shared->bytes = l.count * response;
	for (i = 0; i < options.conns; i++) /* responses that were cut off */
		if (clients[i].got < response)
			shared->bytes += clients[i].got;
}
