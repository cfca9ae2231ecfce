/* SPDX-License-Identifier: MIT */
/*
 * bench-kcapi: the kernel's drivers by libkcapi's own calls, one record at a
 * time: its asynchronous ones take one IV for all records, which TLS cannot
 * use. There is no handshake, and a key of zeros: the sink opens nothing. It
 * can only send.
 */
#include "bench.h"
#include "common.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <kcapi.h>

enum { HEADER = 5, RECORD = 16 << 10, TAG = 16 };

struct end {
	struct kcapi_handle *aead;
	int fd;
	uint64_t seq;
	uint8_t record[HEADER + RECORD + 1 + TAG];
};

static const char *library(void)
{
	return "libkcapi, AF_ALG gcm(aes)";
}

static void prepare(void)
{
}

static void *open_end(int fd, enum side side, bool under_test)
{
	static const uint8_t key[16];
	struct end *e = aligned_alloc(64, (sizeof(*e) + 63) / 64 * 64);

	(void)side;
	if (!under_test)
		return e;
	memset(e, 0, sizeof(*e));
	e->fd = fd;
	if (kcapi_aead_init(&e->aead, "gcm(aes)", 0) ||
	    kcapi_aead_setkey(e->aead, key, sizeof(key)) ||
	    kcapi_aead_settaglen(e->aead, TAG))
		die("libkcapi cannot use gcm(aes) here");
	kcapi_aead_setassoclen(e->aead, HEADER);
	return e;
}

static void send_all(int fd, const uint8_t *bytes, size_t len)
{
	ssize_t n;

	for (; len; bytes += n, len -= (size_t)n) {
		n = send(fd, bytes, len, 0);
		if (n < 0)
			die("send: %s", strerror(errno));
	}
}

static ssize_t write_end(void *end, const void *buf, size_t len)
{
	struct end *e = end;
	size_t body, whole;
	uint8_t iv[12] = { 0 };

	len = len < RECORD ? len : RECORD;
	body = len + 1 + TAG;
	whole = HEADER + body;
	memcpy(e->record, (uint8_t[]){ 23, 3, 3, body >> 8, body & 255 },
	       HEADER);
	memcpy(e->record + HEADER, buf, len);
	e->record[HEADER + len] = 23;
	memcpy(iv + 4, &e->seq, sizeof(e->seq));
	e->seq++;
	if (kcapi_aead_encrypt(e->aead, e->record, whole - TAG, iv, e->record,
			       whole, KCAPI_ACCESS_SENDMSG) != (ssize_t)whole)
		die("libkcapi sealed less than a record");
	send_all(e->fd, e->record, whole);
	return (ssize_t)len;
}

static ssize_t read_end(void *end, void *buf, size_t len)
{
	(void)end;
	(void)buf;
	(void)len;
	die_usage("bench-kcapi can only send");
}

static void seal(void *end, const void *buf, size_t len, struct sealed *s)
{
	(void)end;
	(void)buf;
	(void)len;
	(void)s;
	die_usage("bench-kcapi can only send");
}

static void finish(void *end)
{
	(void)end;
}

static void close_end(void *end)
{
	struct end *e = end;

	kcapi_aead_destroy(e->aead);
	free(e);
}

const struct contender contender = {
	.name = "kcapi",
	.library = library,
	.prepare = prepare,
	.open = open_end,
	.write = write_end,
	.read = read_end,
	.finish = finish,
	.seal = seal,
	.close = close_end,
};
