// SPDX-License-Identifier: MIT
/*
 * Strict: what RFC 9112 lets a server refuse is refused (bare line feeds, folded
 * fields, space before a colon), so that no proxy in front can read a request
 * otherwise than this does. Debian has no library that is looked after and does
 * this: http-parser ended in 2020, and its successor is not packaged for C.
 */
#define _GNU_SOURCE 1
#include "http-request.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

/* ---- Characters ---------------------------------------------------------- */

static bool is_token_char(char c)
{
	return isalnum((unsigned char)c) ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_token(struct text t)
{
	size_t i;

	for (i = 0; i < t.len; i++)
		if (!is_token_char(t.at[i]))
			return false;
	return t.len > 0;
}

/* A field's value: no control characters, but tabs. */
static bool is_value(struct text t)
{
	size_t i;

	for (i = 0; i < t.len; i++) {
		unsigned char c = (unsigned char)t.at[i];

		if ((c < ' ' && c != '\t') || c == 127)
			return false;
	}
	return true;
}

static bool is_graphic(struct text t)
{
	size_t i;

	for (i = 0; i < t.len; i++)
		if (t.at[i] <= ' ' || t.at[i] >= 127)
			return false;
	return t.len > 0;
}

bool text_is(struct text a, const char *b)
{
	return a.len == strlen(b) && !memcmp(a.at, b, a.len);
}

static bool text_is_nocase(struct text a, const char *b)
{
	return a.len == strlen(b) && !strncasecmp(a.at, b, a.len);
}

static struct text trimmed(struct text t)
{
	while (t.len && (*t.at == ' ' || *t.at == '\t')) {
		t.at++;
		t.len--;
	}
	while (t.len && (t.at[t.len - 1] == ' ' || t.at[t.len - 1] == '\t'))
		t.len--;
	return t;
}

/* Cut t at the first c; what comes before it is returned. False: none. */
static bool cut(struct text *t, char c, struct text *before)
{
	const char *found = t->len ? memchr(t->at, c, t->len) : NULL;

	if (!found)
		return false;
	*before = (struct text){ t->at, (size_t)(found - t->at) };
	t->len -= before->len + 1;
	t->at = found + 1;
	return true;
}

/* Whether the list in t, separated by commas, has a member. */
static bool has_member(struct text t, const char *member)
{
	struct text one;

	while (cut(&t, ',', &one))
		if (text_is_nocase(trimmed(one), member))
			return true;
	return text_is_nocase(trimmed(t), member);
}

/* ---- Lines --------------------------------------------------------------- */

static int request_line(struct http_request *r, struct text line)
{
	if (!cut(&line, ' ', &r->method) || !cut(&line, ' ', &r->target) ||
	    !is_token(r->method) || !is_graphic(r->target))
		return -400;
	r->version_1_1 = text_is(line, "HTTP/1.1");
	r->keep_alive = r->version_1_1;
	if (r->version_1_1 || text_is(line, "HTTP/1.0"))
		return 0;
	if (line.len == 8 && !memcmp(line.at, "HTTP/", 5) &&
	    isdigit((unsigned char)line.at[5]) && line.at[6] == '.' &&
	    isdigit((unsigned char)line.at[7]))
		return -505;
	return -400;
}

static int content_length(struct http_request *r, struct text value)
{
	size_t i;

	for (i = 0; i < value.len; i++) {
		if (!isdigit((unsigned char)value.at[i]))
			return -400;
		if (value.at[i] != '0')
			r->has_body = true;
	}
	return value.len ? 0 : -400;
}

/* Where to keep a field of which there may be one at most, or NULL. */
static struct text *single(struct http_request *r, struct text name)
{
	if (text_is_nocase(name, "Range"))
		return &r->range;
	if (text_is_nocase(name, "If-Range"))
		return &r->if_range;
	if (text_is_nocase(name, "If-Modified-Since"))
		return &r->if_modified_since;
	if (text_is_nocase(name, "If-None-Match"))
		return &r->if_none_match;
	return NULL;
}

static int field(struct http_request *r, struct text line, unsigned *hosts)
{
	struct text name, value, *place;

	if (!cut(&line, ':', &name) || !is_token(name))
		return -400;
	value = trimmed(line);
	if (!is_value(value))
		return -400;
	place = single(r, name);
	if (place) {
		if (place->at)
			return -400;
		*place = value;
	} else if (text_is_nocase(name, "Host")) {
		++*hosts;
	} else if (text_is_nocase(name, "Content-Length")) {
		return content_length(r, value);
	} else if (text_is_nocase(name, "Transfer-Encoding")) {
		r->has_body = true;
		return text_is_nocase(value, "chunked") ? 0 : -501;
	} else if (text_is_nocase(name, "Connection") &&
		   has_member(value, "close")) {
		r->keep_alive = false;
	}
	return 0;
}

/* ---- The whole head ------------------------------------------------------ */

/* The next line without its CR LF, or -STATUS. */
static int next_line(struct text *head, struct text *line)
{
	if (!cut(head, '\n', line) || !line->len ||
	    line->at[line->len - 1] != '\r')
		return -400;
	line->len--;
	return memchr(line->at, '\r', line->len) ? -400 : 0;
}

/* It is not complete: may it still become so? */
static int incomplete(const char *buf, size_t len, bool full)
{
	const char *end = memchr(buf, '\n', len);

	if (end && (end == buf || end[-1] != '\r'))
		return -400;
	if (!full)
		return 0;
	return end ? -431 : -414;
}

int http_request_parse(struct http_request *r, const char *buf, size_t len)
{
	size_t max = len < HTTP_HEAD_MAX ? len : HTTP_HEAD_MAX, blank = 0;
	const char *end;
	struct text head, line;
	unsigned hosts = 0;
	int err;

	*r = (struct http_request){ 0 };
	/* RFC 9112 2.2: an empty line before a request is to be ignored. */
	if (len >= 2 && !memcmp(buf, "\r\n", 2))
		blank = 2;
	end = memmem(buf + blank, max - blank, "\r\n\r\n", 4);
	if (!end)
		return incomplete(buf + blank, max - blank,
				  len >= HTTP_HEAD_MAX);
	head = (struct text){ buf + blank, (size_t)(end + 2 - buf) - blank };
	err = next_line(&head, &line);
	if (!err)
		err = request_line(r, line);
	while (!err && head.len) {
		err = next_line(&head, &line);
		if (!err)
			err = field(r, line, &hosts);
	}
	/* RFC 9112 3.2: exactly one Host; HTTP/1.0 did not have it. */
	if (!err && (hosts > 1 || (hosts == 0 && r->version_1_1)))
		err = -400;
	return err ? err : (int)(end + 4 - buf);
}

/* ---- The target ---------------------------------------------------------- */

static int hex(char c)
{
	const char *digits = "0123456789abcdef";
	const char *found = c ? strchr(digits, tolower((unsigned char)c)) : NULL;

	return found ? (int)(found - digits) : -1;
}

/* RFC 9112 3.2.2: to be accepted, although only proxies are asked so. */
static struct text without_authority(struct text target)
{
	static const char *const schemes[] = { "https://", "http://" };
	const char *slash;
	size_t i, skip;

	for (i = 0; i < 2; i++) {
		skip = strlen(schemes[i]);
		if (target.len < skip ||
		    strncasecmp(target.at, schemes[i], skip))
			continue;
		slash = memchr(target.at + skip, '/', target.len - skip);
		if (!slash)
			return (struct text){ "/", 1 };
		return (struct text){
			slash, target.len - (size_t)(slash - target.at)
		};
	}
	return target;
}

int http_target_path(struct text target, char *path, size_t size)
{
	struct text query;
	size_t i, n = 0;

	target = without_authority(target);
	if (target.len < 1 || *target.at != '/')
		return -400;
	query = target;
	cut(&query, '?', &target);
	/* Below the root, however many slashes it begins with. */
	for (i = 0; i < target.len && target.at[i] == '/'; i++)
		;
	for (; i < target.len; i++) {
		char c = target.at[i];

		if (c == '%') {
			int high = i + 2 < target.len ? hex(target.at[i + 1])
						      : -1;
			int low = high >= 0 ? hex(target.at[i + 2]) : -1;

			if (low < 0 || !(high | low))
				return -400;
			c = (char)(high << 4 | low);
			i += 2;
		}
		if (n + 1 >= size)
			return -414;
		path[n++] = c;
	}
	path[n] = '\0';
	return 0;
}
