/* SPDX-License-Identifier: MIT */
#include "stream.h"

#include <errno.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "next.h"
#include "seal.h"

static int refuse(struct stream *s)
{
	s->last = LAST_DONE;
	ERR_raise(ERR_LIB_SSL, SSL_R_PROTOCOL_IS_SHUTDOWN);
	return -1;
}

static int write_less(SSL *ssl)
{
	static const char two[2];

	NEXT(SSL_write)(ssl, two, 2);
	return NEXT(SSL_write)(ssl, two, 1);
}

static int write_other(SSL *ssl)
{
	static const char two[2], other[2];

	NEXT(SSL_write)(ssl, two, 2);
	return NEXT(SSL_write)(ssl, other, 2);
}

/* Have OpenSSL meet the same: it ends the connection. */
static int refuse_retry(struct stream *s, bool less)
{
	int ret;

	s->shadow.full = true;
	ret = shadow_call(s, less ? write_less : write_other, false);
	s->shadow.full = false;
	return ret;
}

/* It says that there is no BIO, and ends the connection. */
static int write_nowhere(SSL *ssl)
{
	static const char some[16];

	return NEXT(SSL_write)(ssl, some, sizeof(some));
}

/*
 * Is this the call that was to be repeated? It may end earlier, or later, than
 * the one before, but not before what is sealed of that.
 */
static bool is_repeated(const struct stream *s, const uint8_t *buf, size_t len)
{
	return len >= s->write_done &&
	       (!s->write_done || buf == s->write_buf ||
		SSL_get_mode(s->ssl) & SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

/* Not all of it is with the kernel: it is to be called again. */
static int again(struct stream *s, const uint8_t *buf, int error)
{
	s->write_buf = buf;
	s->repeat = true;
	s->budget = 0;
	return stream_failed(s, error);
}

/* What may be held without waiting for the socket later. */
static void look_for_room(struct stream *s)
{
	s->budget = outbox_room(&s->out);
}

/*
 * Make room for a record of so many bytes: as much as is certain to go into the
 * socket. With less than a record it is tried.
 */
static int make_room(struct stream *s, size_t wire_len)
{
	int error;

	if (!outbox_len(&s->out))
		look_for_room(s);
	if (outbox_len(&s->out) + wire_len <= s->budget)
		return 0;
	error = outbox_send(&s->out, stream_wbio(s));
	if (error)
		return error;
	look_for_room(s);
	return 0;
}

static int put_all(struct stream *s, const uint8_t *buf, size_t len)
{
	const bool partly = SSL_get_mode(s->ssl) & SSL_MODE_ENABLE_PARTIAL_WRITE;
	int ret;

	while (s->write_done < len) {
		size_t n = min_size(len - s->write_done, s->tx_max);

		ret = make_room(s, seal_len(s->tx, n));
		if (!ret)
			ret = stream_put(s, RECORD_DATA, buf + s->write_done,
					 n);
		if (ret)
			return ret;
		s->write_done += n;
		if (outbox_len(&s->out) > s->budget)
			ret = outbox_send(&s->out, stream_wbio(s));
		if (ret || partly)
			return ret;
	}
	return 0;
}

static int write_held(struct stream *s, const uint8_t *buf, size_t len,
		      size_t *done)
{
	int ret = 0;

	if (s->repeat || outbox_error(&s->out))
		ret = outbox_send(&s->out, stream_wbio(s));

	/* one that went out meanwhile counts, as it does with OpenSSL */
	if (!ret && !(s->write_done && SSL_get_mode(s->ssl) &
				       SSL_MODE_ENABLE_PARTIAL_WRITE))
		ret = put_all(s, buf, len);
	if (ret)
		return again(s, buf, ret);
	*done = s->write_done;
	s->write_done = 0;
	s->repeat = false;
	s->last = LAST_DONE;
	return 1;
}

int stream_write(struct stream *s, const void *buf, size_t len, size_t *done)
{
	bool opened;
	int ret;

	*done = 0;
	if (SSL_get_shutdown(s->ssl) & SSL_SENT_SHUTDOWN)
		return refuse(s);
	if (!claim_holds(&s->claim))
		return stream_not_ours(s);
	if (!stream_wbio(s))
		return shadow_call(s, write_nowhere, false);
	if (s->repeat && !is_repeated(s, buf, len))
		return refuse_retry(s, len < s->write_done);
	if (!s->repeat) {
		ret = stream_before_data(s);
		if (ret < 0)
			return ret;
	}
	opened = outbox_open(&s->out);
	ret = write_held(s, buf, len, done);
	outbox_close(&s->out, opened);
	return ret;
}
