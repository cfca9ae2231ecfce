/* SPDX-License-Identifier: MIT */
#include "inbox.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <openssl/bio.h>

#include "base/util.h"
#include "tally.h"

enum { CACHED = 8 /* of a thread */ };

/* Warm memory: most connections need it only while they are being read. */
static _Thread_local struct {
	uint8_t *buffers[CACHED];
	unsigned count;
} cache;

static uint8_t *buffer_new(void)
{
	return cache.count ? cache.buffers[--cache.count] : malloc(INBOX_SIZE);
}

static pthread_key_t key;
static bool have_key;

static void thread_ends(void *arg)
{
	(void)arg;
	while (cache.count)
		free(cache.buffers[--cache.count]);
}

static void make_key(void)
{
	have_key = pthread_key_create(&key, thread_ends) == 0;
}

/* Is what is kept freed when this thread ends? */
static bool may_keep(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	if (cache.count)
		return true;
	pthread_once(&once, make_key);
	return have_key && pthread_setspecific(key, &cache) == 0;
}

static void buffer_free(uint8_t *bytes)
{
	if (cache.count < CACHED && may_keep())
		cache.buffers[cache.count++] = bytes;
	else
		free(bytes);
}

static bool is_tcp(int fd)
{
	int protocol = 0;
	socklen_t len = sizeof(protocol);

	return !getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) &&
	       protocol == IPPROTO_TCP;
}

void inbox_init(struct inbox *in, int fd, bool ahead, bool hides_type)
{
	*in = (struct inbox){ .fd = fd, .hides_type = hides_type };
	inbox_ahead(in, ahead);
}

void inbox_ahead(struct inbox *in, bool ahead)
{
	in->how = ahead && in->fd >= 0 ? INBOX_AHEAD :
		  is_tcp(in->fd) ? INBOX_PEEK :
				   INBOX_EXACT;
}

void inbox_free(struct inbox *in)
{
	if (in->bytes)
		explicit_bzero(in->bytes + in->start, in->end - in->start);
	free(in->bytes);
	in->bytes = NULL;
	in->put_by = false;
	in->start = in->end = in->owed = 0;
}

/* OpenSSL waits for no body behind any other. */
static bool may_be_header(const struct inbox *in, const uint8_t *header)
{
	return (header[0] == RECORD_DATA || !in->hides_type) &&
	       header[1] == 3 && header[2] == 3 &&
	       ((size_t)header[3] << 8 | header[4]) <= RECORD_BODY_MAX;
}

/* How long the record at the front is, as far as that is known: 0. */
static size_t front_len(const struct inbox *in, size_t at)
{
	const uint8_t *header = in->bytes + at;

	if (in->end - at < RECORD_HEADER)
		return 0;
	if (!may_be_header(in, header))
		return RECORD_HEADER;
	return RECORD_HEADER + ((size_t)header[3] << 8 | header[4]);
}

static bool is_whole(const struct inbox *in, size_t at)
{
	size_t len = front_len(in, at);

	return len && in->end - at >= len;
}

/*
 * Remove what was only looked at from the socket, but for the last so many bytes.
 * It is there, so that this does not wait, or fail.
 */
static void settle(struct inbox *in, size_t but)
{
	while (in->owed > but) {
		ssize_t n = recv(in->fd, NULL, in->owed - but,
				 MSG_TRUNC | MSG_DONTWAIT);

		tally_add(receives, 1);
		if (n <= 0 && !(n < 0 && errno == EINTR))
			break;
		if (n > 0)
			in->owed -= (size_t)n;
	}
}

/* Bytes to ask for now. */
static size_t wanted(const struct inbox *in)
{
	size_t len = front_len(in, in->start), have = in->end - in->start;

	if (in->how == INBOX_AHEAD)
		return INBOX_SIZE - in->end;
	/* so many that no part of one is looked at in vain */
	if (in->how == INBOX_PEEK && in->usual)
		return INBOX_SIZE / in->usual * in->usual - in->end;
	if (in->how == INBOX_PEEK)
		return INBOX_SIZE - in->end;
	return (len ? len : RECORD_HEADER) - have;
}

/* As OpenSSL would. */
static int fill_from_bio(struct inbox *in, BIO *bio)
{
	int n;

	errno = 0;
	n = BIO_read(bio, in->bytes + in->end, (int)wanted(in));
	if (n > 0) {
		in->end += (size_t)n;
		return 1;
	}
	if (BIO_should_retry(bio))
		return -EAGAIN;
	if (BIO_eof(bio))
		return 0;
	if (!n)
		return -ENODATA;
	return errno ? -errno : -EIO;
}

static int fill_from_socket(struct inbox *in, bool wait)
{
	int flags = in->how == INBOX_PEEK ? MSG_PEEK : 0;
	ssize_t n;

	if (!wait)
		flags |= MSG_DONTWAIT;
	n = recv(in->fd, in->bytes + in->end, wanted(in), flags);
	tally_add(receives, 1);
	if (n <= 0)
		return n ? -errno : 0;
	in->end += (size_t)n;
	if (in->how == INBOX_PEEK)
		in->owed = (size_t)n;
	/* the start of a record is nothing that one could read */
	if (!is_whole(in, in->start))
		settle(in, 0);
	return 1;
}

/*
 * The rest of a record may be long in coming, on many connections: that takes
 * no more memory than there are bytes.
 */
static void put_by(struct inbox *in)
{
	size_t len = in->end - in->start;
	uint8_t *bytes;

	if (in->put_by || !len || in->owed)
		return;
	bytes = malloc(len);
	if (!bytes)
		return;
	memcpy(bytes, in->bytes + in->start, len);
	buffer_free(in->bytes);
	in->bytes = bytes;
	in->start = 0;
	in->end = len;
	in->put_by = true;
}

static bool take_up(struct inbox *in)
{
	uint8_t *bytes = buffer_new();

	if (!bytes)
		return false;
	memcpy(bytes, in->bytes, in->end);
	free(in->bytes);
	in->bytes = bytes;
	in->put_by = false;
	return true;
}

static int fill(struct inbox *in, BIO *bio, bool wait)
{
	if (in->put_by && !take_up(in))
		return -ENOMEM;
	if (in->start) {
		memmove(in->bytes, in->bytes + in->start, in->end - in->start);
		in->end -= in->start;
		in->start = 0;
	}
	return bio ? fill_from_bio(in, bio) : fill_from_socket(in, wait);
}

void inbox_move(struct inbox *in, int fd)
{
	size_t len = in->end - in->start;
	bool ahead = in->how == INBOX_AHEAD;

	settle(in, len);
	in->end -= min_size(in->owed, len);
	in->owed = 0;
	inbox_rest(in);
	in->fd = fd;
	inbox_ahead(in, ahead);
}

int inbox_record(struct inbox *in, BIO *bio, uint8_t **record, size_t *len,
		 bool wait)
{
	int ret;

	if (!in->bytes)
		in->bytes = buffer_new();
	if (!in->bytes)
		return -ENOMEM;
	while (!is_whole(in, in->start)) {
		ret = fill(in, bio, wait);
		if (ret <= 0) {
			inbox_rest(in);
			put_by(in);
			return ret;
		}
	}
	*record = in->bytes + in->start;
	*len = front_len(in, in->start);
	return 1;
}

void inbox_pass(struct inbox *in, size_t len)
{
	in->start += len;
	in->usual = len;
	if (!is_whole(in, in->start))
		inbox_give_back(in);
}

void inbox_give_back(struct inbox *in)
{
	if (!in->owed)
		return;
	settle(in, in->end - in->start);
	in->end = in->start;
	in->owed = 0;
}

void inbox_rest(struct inbox *in)
{
	if (!in->bytes || in->start != in->end)
		return;
	buffer_free(in->bytes);
	in->bytes = NULL;
	in->start = in->end = 0;
}
