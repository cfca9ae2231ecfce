/* SPDX-License-Identifier: MIT */
/* What https-files does with a connection. */
#ifndef EXAMPLES_HTTP_PEER_H
#define EXAMPLES_HTTP_PEER_H

#include "server-loop.h"

struct http_options {
	int root;	  /* the directory, open */
	int64_t idle_ms;  /* without a request, or taking any of the answer */
	int64_t grace_ms; /* for answers to end after SIGTERM */
};

/* What to serve() with; once in a process. */
const struct service *http_service(const struct http_options *o);

#endif
