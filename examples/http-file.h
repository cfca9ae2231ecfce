/* SPDX-License-Identifier: MIT */
/* The files below a directory, as a web server sees them. */
#ifndef EXAMPLES_HTTP_FILE_H
#define EXAMPLES_HTTP_FILE_H

#include <sys/types.h>
#include <time.h>

#include "http-request.h"

struct http_file {
	int fd;
	off_t size;
	time_t modified;
	const char *type; /* its media type */
	char etag[40];	  /* with its quotes */
};

/*
 * Open the file that path names below the directory root, or the index.html of
 * a directory. Nothing outside can be reached, by ".." or symbolic links.
 * Returns 0, or -STATUS: 301 (a directory without a slash behind it), 403, 404,
 * 500 or 503 (no descriptor, no memory).
 */
int http_file_open(struct http_file *f, int root, const char *path);

/* Whether the client has this file already (RFC 9110 13.1). */
bool http_not_modified(const struct http_request *r, const struct http_file *f);

/*
 * What the client wants of the file: 200 (all), 206 or 416. A request for
 * several ranges gets all, as RFC 9110 14.2 allows.
 */
int http_range(const struct http_request *r, const struct http_file *f,
	       off_t *at, off_t *end);

enum { HTTP_DATE_LEN = 30 };
/* Write a date such as "Sun, 06 Nov 1994 08:49:37 GMT" to buf. */
void http_date(time_t t, char buf[HTTP_DATE_LEN]);

#endif
