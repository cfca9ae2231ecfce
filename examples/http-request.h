/* SPDX-License-Identifier: MIT */
/* The head of an HTTP/1.1 request (RFC 9112), read strictly. No I/O. */
#ifndef EXAMPLES_HTTP_REQUEST_H
#define EXAMPLES_HTTP_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

enum { HTTP_HEAD_MAX = 8192 }; /* request line and fields together */

/* A piece of the head, not terminated; at is NULL where there was none. */
struct text {
	const char *at;
	size_t len;
};

struct http_request {
	struct text method, target;
	struct text range, if_range, if_modified_since, if_none_match;
	bool version_1_1; /* else 1.0 */
	bool keep_alive;
	bool has_body; /* which is not read: the connection must be closed */
};

/*
 * Read a head from the len bytes at buf, which it keeps pointing to. Returns its
 * length, 0 if it is not complete yet, or -STATUS if it never will be, or is
 * wrong: 400, 414 (target too long), 431 (head too long), 501 (a transfer
 * coding) or 505 (version).
 */
int http_request_parse(struct http_request *r, const char *buf, size_t len);

/* Whether a is the same as the string b. */
bool text_is(struct text a, const char *b);

/*
 * Write the path that a target names, relative to a root directory, decoded and
 * without the query, to path. Returns 0, or -STATUS: 400 or 414.
 */
int http_target_path(struct text target, char *path, size_t size);

#endif
