// SPDX-License-Identifier: MIT
#define _GNU_SOURCE 1
#include "http-file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- Opening ------------------------------------------------------------- */

static const char *media_type(const char *path)
{
	static const char *const types[][2] = {
		{ "css", "text/css" },
		{ "gif", "image/gif" },
		{ "gz", "application/gzip" },
		{ "htm", "text/html" },
		{ "html", "text/html" },
		{ "ico", "image/x-icon" },
		{ "jpeg", "image/jpeg" },
		{ "jpg", "image/jpeg" },
		{ "js", "text/javascript" },
		{ "json", "application/json" },
		{ "md", "text/markdown" },
		{ "mp3", "audio/mpeg" },
		{ "mp4", "video/mp4" },
		{ "pdf", "application/pdf" },
		{ "png", "image/png" },
		{ "svg", "image/svg+xml" },
		{ "tar", "application/x-tar" },
		{ "txt", "text/plain" },
		{ "wasm", "application/wasm" },
		{ "webm", "video/webm" },
		{ "webp", "image/webp" },
		{ "woff2", "font/woff2" },
		{ "xml", "text/xml" },
		{ "zip", "application/zip" },
	};
	const char *name = strrchr(path, '/'), *dot;
	size_t i;

	dot = strrchr(name ? name : path, '.');
	for (i = 0; dot && i < sizeof(types) / sizeof(*types); i++)
		if (!strcasecmp(dot + 1, types[i][0]))
			return types[i][1];
	return "application/octet-stream";
}

/* The kernel sees to it that the path stays below the root. */
static int open_beneath(int root, const char *path)
{
	struct open_how how = {
		/* Not to wait for somebody to open the other end of a FIFO. */
		.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
	};
	int tries, fd = -1;

	/* EAGAIN: something was renamed while ".." was followed. */
	for (tries = 0; tries < 10; tries++) {
		fd = (int)syscall(SYS_openat2, root, *path ? path : ".", &how,
				  sizeof(how));
		if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
			break;
	}
	return fd;
}

static int status_of_errno(void)
{
	switch (errno) {
	case EACCES:
	case EPERM:
		return -403;
	case ENOENT:
	case ENOTDIR:
	case ENAMETOOLONG:
	case ELOOP:
	case EXDEV: /* outside of the root */
	case ENXIO: /* a socket, or a device */
		return -404;
	case EMFILE:
	case ENFILE:
	case ENOMEM:
	case EAGAIN:
		return -503;
	}
	return -500;
}

static int open_index(struct http_file *f, int root, const char *path,
		      struct stat *st)
{
	char index[PATH_MAX];
	size_t len = strlen(path);

	close(f->fd);
	f->fd = -1;
	if (len && path[len - 1] != '/')
		return -301;
	if (snprintf(index, sizeof(index), "%sindex.html", path) >=
	    (int)sizeof(index))
		return -404;
	f->type = "text/html";
	f->fd = open_beneath(root, index);
	if (f->fd < 0 || fstat(f->fd, st))
		return status_of_errno();
	return 0;
}

int http_file_open(struct http_file *f, int root, const char *path)
{
	struct stat st;
	int err = 0;

	f->type = media_type(path);
	f->fd = open_beneath(root, path);
	if (f->fd < 0 || fstat(f->fd, &st))
		err = status_of_errno();
	else if (S_ISDIR(st.st_mode))
		err = open_index(f, root, path, &st);
	if (!err && !S_ISREG(st.st_mode))
		err = -404;
	if (err) {
		if (f->fd >= 0)
			close(f->fd);
		f->fd = -1;
		return err;
	}
	f->size = st.st_size;
	f->modified = st.st_mtim.tv_sec;
	snprintf(f->etag, sizeof(f->etag), "\"%llx-%llx\"",
		 (unsigned long long)st.st_mtim.tv_sec * 1000000000 +
			 (unsigned long long)st.st_mtim.tv_nsec,
		 (unsigned long long)st.st_size);
	return 0;
}

/* ---- Conditions and ranges ----------------------------------------------- */

void http_date(time_t t, char buf[HTTP_DATE_LEN])
{
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(buf, HTTP_DATE_LEN, "%a, %d %b %Y %H:%M:%S GMT", &tm);
}

/* In one of the three forms of RFC 9110 5.6.7. -1: no date. */
static time_t parse_date(struct text t)
{
	static const char *const forms[] = {
		"%a, %d %b %Y %H:%M:%S GMT",
		"%a, %d-%b-%y %H:%M:%S GMT",
		"%a %b %e %H:%M:%S %Y",
	};
	char text[64];
	const char *end;
	struct tm tm;
	size_t i;

	if (t.len >= sizeof(text))
		return -1;
	memcpy(text, t.at, t.len);
	text[t.len] = '\0';
	for (i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
		memset(&tm, 0, sizeof(tm));
		end = strptime(text, forms[i], &tm);
		if (end && !*end)
			return timegm(&tm);
	}
	return -1;
}

bool http_not_modified(const struct http_request *r, const struct http_file *f)
{
	time_t since;

	if (r->if_none_match.at)
		return text_is(r->if_none_match, "*") ||
		       memmem(r->if_none_match.at, r->if_none_match.len,
			      f->etag, strlen(f->etag));
	if (!r->if_modified_since.at)
		return false;
	since = parse_date(r->if_modified_since);
	return since != -1 && f->modified <= since;
}

/* Digits, of which there may be none (-1). False: something else, too. */
static bool parse_position(struct text t, off_t *value)
{
	size_t i;

	*value = t.len ? 0 : -1;
	for (i = 0; i < t.len; i++) {
		if (t.at[i] < '0' || t.at[i] > '9')
			return false;
		if (*value > (INT64_MAX - 9) / 10)
			return false;
		*value = *value * 10 + (t.at[i] - '0');
	}
	return true;
}

/* Cut "bytes=FIRST-LAST" in two. False: not that, or several. */
static bool parse_range(struct text t, off_t *first, off_t *last)
{
	static const char unit[] = "bytes=";
	const size_t skip = sizeof(unit) - 1;
	const char *dash;
	size_t before;

	if (t.len < skip || strncasecmp(t.at, unit, skip))
		return false;
	t = (struct text){ t.at + skip, t.len - skip };
	dash = memchr(t.at, '-', t.len);
	if (!dash)
		return false;
	before = (size_t)(dash - t.at);
	return parse_position((struct text){ t.at, before }, first) &&
	       parse_position((struct text){ dash + 1, t.len - before - 1 },
			      last) &&
	       (*first >= 0 || *last >= 0) &&
	       (*first < 0 || *last < 0 || *first <= *last);
}

/* RFC 9110 13.1.5: a part, if it is still a part of the same file. */
static bool is_same(struct text validator, const struct http_file *f)
{
	char modified[HTTP_DATE_LEN];

	http_date(f->modified, modified);
	return text_is(validator, f->etag) || text_is(validator, modified);
}

int http_range(const struct http_request *r, const struct http_file *f,
	       off_t *at, off_t *end)
{
	off_t first, last;

	*at = 0;
	*end = f->size;
	if (!r->range.at || !text_is(r->method, "GET") ||
	    (r->if_range.at && !is_same(r->if_range, f)) ||
	    !parse_range(r->range, &first, &last))
		return 200;
	if (first < 0) { /* the last so many */
		if (last == 0 || f->size == 0)
			return 416;
		*at = last < f->size ? f->size - last : 0;
		return 206;
	}
	if (first >= f->size)
		return 416;
	*at = first;
	if (last >= 0 && last < f->size - 1)
		*end = last + 1;
	return 206;
}
