// SPDX-License-Identifier: MIT
#define _GNU_SOURCE 1
#include "http-file.h"
#include "http-response.h"

#include <ctype.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *reason(int status)
{
	switch (status) {
	case 200: return "OK";
	case 206: return "Partial Content";
	case 301: return "Moved Permanently";
	case 304: return "Not Modified";
	case 400: return "Bad Request";
	case 403: return "Forbidden";
	case 404: return "Not Found";
	case 405: return "Method Not Allowed";
	case 413: return "Content Too Large";
	case 414: return "URI Too Long";
	case 416: return "Range Not Satisfiable";
	case 431: return "Request Header Fields Too Large";
	case 501: return "Not Implemented";
	case 503: return "Service Unavailable";
	case 505: return "HTTP Version Not Supported";
	default: return "Internal Server Error";
	}
}

/* What is put into a head is bounded: see the sizes of its parts. */
static void __attribute__((format(printf, 2, 3)))
put(struct http_response *a, const char *format, ...)
{
	size_t room = sizeof(a->head) - a->head_len;
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(a->head + a->head_len, room, format, args);
	va_end(args);
	a->head_len += (size_t)n < room ? (size_t)n : room - 1;
}

static void begin(struct http_response *a, int status)
{
	char date[HTTP_DATE_LEN];

	http_date(time(NULL), date);
	a->head_len = 0;
	a->fd = -1;
	a->at = a->end = 0;
	put(a, "HTTP/1.1 %d %s\r\nDate: %s\r\n", status, reason(status), date);
	if (!a->keep_alive)
		put(a, "Connection: close\r\n");
}

/* The end of a head that stands for itself, with a line for people. */
static void finish_with_words(struct http_response *a, int status, bool body)
{
	put(a, "Content-Type: text/plain\r\nContent-Length: %zu\r\n\r\n",
	    strlen(reason(status)) + 5);
	if (body)
		put(a, "%d %s\n", status, reason(status));
}

void http_refuse(struct http_response *a, int status)
{
	a->keep_alive = false;
	begin(a, status);
	finish_with_words(a, status, true);
}

/* Of a directory, so that the links in its index lead below it. */
static void put_location(struct http_response *a, const char *path)
{
	const char *slash = strrchr(path, '/');

	/* "./": a name with a colon or of slashes must not look like a URL. */
	put(a, "Location: ./");
	for (path = slash ? slash + 1 : path; *path; path++)
		put(a, isalnum((unsigned char)*path) ? "%c" : "%%%02X",
		    (unsigned char)*path);
	put(a, "/\r\n");
}

static void answer_error(struct http_response *a, const struct http_request *r,
			 int status, const char *path)
{
	begin(a, status);
	if (status == 405)
		put(a, "Allow: GET, HEAD\r\n");
	if (status == 301)
		put_location(a, path);
	finish_with_words(a, status, !text_is(r->method, "HEAD"));
}

static void answer_file(struct http_response *a, const struct http_request *r,
			const struct http_file *f)
{
	char modified[HTTP_DATE_LEN];
	off_t at, end;
	int status = http_not_modified(r, f) ? 304
					     : http_range(r, f, &at, &end);

	begin(a, status);
	if (status == 416) {
		put(a, "Content-Range: bytes */%lld\r\n", (long long)f->size);
		finish_with_words(a, status, true);
		return;
	}
	http_date(f->modified, modified);
	put(a, "Last-Modified: %s\r\nETag: %s\r\nAccept-Ranges: bytes\r\n",
	    modified, f->etag);
	if (status == 206)
		put(a, "Content-Range: bytes %lld-%lld/%lld\r\n",
		    (long long)at, (long long)end - 1, (long long)f->size);
	if (status != 304)
		put(a, "Content-Type: %s\r\nContent-Length: %lld\r\n", f->type,
		    (long long)(end - at));
	put(a, "\r\n");
	if (status == 304 || text_is(r->method, "HEAD") || at == end)
		return;
	a->fd = f->fd;
	a->at = at;
	a->end = end;
}

void http_answer(struct http_response *a, int root,
		 const struct http_request *r, bool keep_alive)
{
	struct http_file file;
	char path[PATH_MAX];
	int err;

	/* A body would have to be read before the next request. */
	a->keep_alive = keep_alive && r->keep_alive && !r->has_body;
	if (!text_is(r->method, "GET") && !text_is(r->method, "HEAD"))
		err = -405;
	else if (r->has_body)
		err = -413;
	else
		err = http_target_path(r->target, path, sizeof(path));
	if (!err)
		err = http_file_open(&file, root, path);
	if (err) {
		answer_error(a, r, -err, path);
		return;
	}
	answer_file(a, r, &file);
	if (a->fd < 0)
		close(file.fd);
}
