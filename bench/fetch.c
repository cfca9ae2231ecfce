/* SPDX-License-Identifier: MIT */
/*
 * Clients that ask a server of files for options.path, by HTTP/1.1, one request
 * at a time on each of options.conns connections.
 */
#include "clients.h"
#include "common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* The first response is opened, and tells how long each of them is. */
static size_t first_response(void *end, const char *request)
{
	static char buf[16 << 10];
	size_t got = 0, whole = 0;
	ssize_t n;

	if (contender.write(end, request, strlen(request)) < 0)
		die("cannot ask");
	while (!whole || got < whole) {
		n = contender.read(end, buf, sizeof(buf) - 1);
		if (n <= 0)
			die("no whole response");
		buf[n] = 0;
		if (!whole) {
			const char *length = strcasestr(buf, "Content-Length:");
			const char *body = strstr(buf, "\r\n\r\n");

			if (strncmp(buf, "HTTP/1.1 200", 12) || !length ||
			    !body)
				die("not a response with a file: %.60s", buf);
			whole = (size_t)(body + 4 - buf) +
				strtoul(length + 15, NULL, 10);
		}
		got += (size_t)n;
	}
	return whole;
}

void fetch(struct shared *shared, struct cost *cost)
{
	struct client *c = clients_new();
	size_t response = 0;
	char request[512];
	unsigned i;

	if (!options.port || !options.path)
		die_usage("fetch needs --port and --path");
	snprintf(request, sizeof(request),
		 "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", options.path);
	contender.prepare();
	for (i = 0; i < options.conns; i++) {
		c[i].fd = net_connect_port(options.port);
		c[i].end = net_open(c[i].fd, CLIENT, true);
		response = first_response(c[i].end, request);
		client_seal(&c[i], request, strlen(request));
	}
	if (options.wait) {
		puts("ready");
		fflush(stdout);
		getchar();
	}
	clients_run(c, response, shared);
	*cost = shared->peer;
}
