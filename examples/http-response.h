/* SPDX-License-Identifier: MIT */
/* From a request to what is to be sent. */
#ifndef EXAMPLES_HTTP_RESPONSE_H
#define EXAMPLES_HTTP_RESPONSE_H

#include <sys/types.h>

#include "http-request.h"

struct http_response {
	char head[2048]; /* status line and fields, and a short text */
	size_t head_len;
	int fd; /* the file whose bytes from at to end follow, or -1 */
	off_t at, end;
	bool keep_alive; /* what the head says of it */
};

/*
 * Answer a request for a file below the directory root. The caller closes fd.
 * keep_alive: whether to keep the connection if the client wants that.
 */
void http_answer(struct http_response *a, int root,
		 const struct http_request *r, bool keep_alive);

/* The answer to what is no request: a status, and the end. */
void http_refuse(struct http_response *a, int status);

#endif
