/* SPDX-License-Identifier: MIT */
#include "outbox.h"

#include <errno.h>
#include <string.h>

#include <openssl/bio.h>

void outbox_init(struct outbox *out, int fd)
{
	*out = (struct outbox){ .by_bio = fd < 0 };
	hold_init(&out->held, fd);
}

void outbox_free(struct outbox *out)
{
	hold_finish(&out->held);
	hold_destroy(&out->held);
	bytes_free(&out->bytes);
}

bool outbox_open(struct outbox *out)
{
	if (out->open)
		return false;
	out->open = true;
	if (!out->by_bio)
		hold_take(&out->held);
	return true;
}

void outbox_close(struct outbox *out, bool opened)
{
	if (!opened)
		return;
	out->open = false;
	out->left = outbox_len(out) > 0;
	if (!out->by_bio)
		hold_leave(&out->held);
}

static void less_room(struct outbox *out, size_t len)
{
	out->room -= min_size(out->room, len);
}

size_t outbox_len(const struct outbox *out)
{
	return out->by_bio ? bytes_len(&out->bytes) : hold_len(&out->held);
}

uint8_t *outbox_reserve(struct outbox *out, size_t len)
{
	return out->by_bio ? bytes_reserve(&out->bytes, len) :
			     hold_reserve(&out->held, len);
}

void outbox_added(struct outbox *out, size_t len)
{
	if (out->by_bio)
		out->bytes.end += len;
	else
		out->held.end += len;
	less_room(out, len);
}

size_t outbox_room(struct outbox *out)
{
	/* what the kernel needs beside the bytes of a send; worth asking again */
	enum { OVERHEAD = 4096, LITTLE = 64 << 10 };

	if (out->by_bio)
		return 0;
	less_room(out, OVERHEAD);
	if (out->room < LITTLE)
		out->room = hold_room_of(&out->held);
	return min_size(out->room, HOLD_MAX);
}

static int write_bio(struct bytes *bytes, BIO *bio)
{
	while (bytes_len(bytes)) {
		int n;

		if (!bio)
			return -EIO;
		errno = 0;
		n = BIO_write(bio, bytes->bytes + bytes->start,
			      (int)bytes_len(bytes));
		if (n <= 0 && BIO_should_retry(bio))
			return -EAGAIN;
		if (n <= 0) {
			bytes->start = bytes->end = 0;
			return errno ? -errno : -EIO;
		}
		bytes->start += (size_t)n;
	}
	return 0;
}

int outbox_send(struct outbox *out, BIO *bio)
{
	return out->by_bio ? write_bio(&out->bytes, bio) :
			     hold_send(&out->held);
}

/* What is not owed, into bytes that are out of the way. 0 or -errno. */
static int take_rest(struct outbox *out, struct bytes *rest)
{
	struct held *h = &out->held;
	size_t len;
	uint8_t *to;

	if (out->by_bio) {
		*rest = out->bytes;
		out->bytes = (struct bytes){ 0 };
		return 0;
	}
	hold_take(h);
	len = hold_len(h) - h->owed;
	to = len ? bytes_reserve(rest, len) : NULL;
	if (to) {
		memcpy(to, h->bytes + h->end - len, len);
		rest->end += len;
	}
	if (to || !len)
		h->end -= len;
	hold_leave(h);
	return to || !len ? 0 : -ENOMEM;
}

/* Whoever finds it there repeats a call for it. */
static int put_rest(struct outbox *out, struct bytes *rest)
{
	size_t len = bytes_len(rest);
	uint8_t *to;

	if (out->by_bio) {
		out->bytes = *rest;
		*rest = (struct bytes){ 0 };
		return 0;
	}
	hold_take(&out->held);
	to = len ? hold_reserve(&out->held, len) : NULL;
	if (to) {
		memcpy(to, rest->bytes + rest->start, len);
		out->held.end += len;
	}
	out->held.refused = true;
	hold_leave(&out->held);
	return to || !len ? 0 : -ENOMEM;
}

int outbox_move(struct outbox *out, int fd)
{
	struct bytes rest = { 0 };
	int error = take_rest(out, &rest);

	hold_finish(&out->held);
	out->by_bio = fd < 0;
	out->room = 0;
	hold_init(&out->held, fd);
	if (!error)
		error = put_rest(out, &rest);
	out->left = outbox_len(out) > 0;
	bytes_free(&rest);
	return error;
}

int outbox_error(const struct outbox *out)
{
	return out->by_bio ? 0 : out->held.error;
}
