/* SPDX-License-Identifier: MIT */
#include "stream.h"

#include <errno.h>
#include <string.h>

#include <openssl/ssl.h>

#include "next.h"
#include "record/record.h"
#include "seal.h"
#include "tally.h"

/*
 * Answers of OpenSSL's, to KeyUpdates say, that a peer does not take: no more is
 * read of it before it does.
 */
enum { ANSWERS_MAX = 16 << 10 };

enum { RETURNED = SHADOW_GO_ON + 1 }; /* the connection, to OpenSSL */

static void give(struct stream *s, uint8_t *buf, size_t len, size_t *got,
		 bool peek)
{
	size_t n = min_size(len, s->plain_len);

	memcpy(buf, s->plain, n);
	*got = n;
	s->last = LAST_DONE;
	if (peek)
		return;
	if (SSL_get_options(s->ssl) & SSL_OP_CLEANSE_PLAINTEXT)
		explicit_bzero(s->plain, n);
	s->plain += n;
	s->plain_len -= n;
	if (!s->plain_len)
		inbox_rest(&s->in);
}

static int receive_failed(struct stream *s, int error)
{
	if (error != -ENODATA)
		errno = -error;
	if (error == -EAGAIN || error == -EINTR)
		return stream_want_read(s);
	if (!s->out.by_bio)
		BIO_clear_retry_flags(stream_rbio(s));
	s->failed = true;
	s->last = LAST_READ_FAILED;
	return error == -ENODATA && s->out.by_bio && !stream_since_3_2() ? 0 :
									   -1;
}

/* The kernel tells of an error once: it may have been told to a send. */
static int end_of_stream(struct stream *s)
{
	bool opened = outbox_open(&s->out);
	int error = outbox_error(&s->out);

	outbox_close(&s->out, opened);
	return error;
}

int stream_receive(struct stream *s, uint8_t **record, size_t *len)
{
	BIO *bio = s->out.by_bio ? stream_rbio(s) : NULL;
	bool unsent = s->out.left && !bio;
	int ret = inbox_record(&s->in, bio, record, len, !unsent);

	if (ret == -EAGAIN && unsent) {
		stream_send(s);
		ret = inbox_record(&s->in, bio, record, len, true);
	}
	return ret ? ret : end_of_stream(s);
}

static bool answers_pile_up(struct stream *s)
{
	if (s->unanswered < ANSWERS_MAX)
		return false;
	if (s->out.left && stream_send(s) == -EAGAIN)
		return true;
	s->unanswered = 0;
	return false;
}

/*
 * In TLS 1.2 a message begins a renegotiation, or refuses one. OpenSSL does not
 * know of an SSL_write() that is to be repeated: that comes first.
 */
static int begin_handshake(struct stream *s)
{
	if (s->repeat)
		return stream_want_write(s);
	stream_return(s);
	return RETURNED;
}

/* A record that is no data. */
static int judge(struct stream *s, const struct opened *opened)
{
	bool hello = opened->type == RECORD_HANDSHAKE &&
		     !s->rx->format->hides_type;
	int ret;

	if (hello) {
		s->plain = opened->content;
		s->plain_len = opened->len;
		s->shadow.rest_type = opened->type;
		return begin_handshake(s);
	}
	ret = shadow_content(s, opened->type, opened->content, opened->len);
	if (ret == SHADOW_GO_ON && opened->type == RECORD_HANDSHAKE &&
	    !(SSL_get_mode(s->ssl) & SSL_MODE_AUTO_RETRY))
		return stream_want_read(s);
	return ret;
}

/* 1: there is plaintext; SHADOW_GO_ON; RETURNED; or what SSL_read() returns. */
static int next_record(struct stream *s)
{
	struct opened opened = { 0 };
	uint8_t *record;
	size_t len;
	int ret;

	if (s->plain_len)
		return begin_handshake(s);
	ret = stream_receive(s, &record, &len);

	if (ret < 0)
		return receive_failed(s, ret);
	if (!ret)
		return shadow_eof(s);
	if (seal_open(s->rx, s->engine, s->rx_seq, record, len, &opened)) {
		ret = shadow_record(s, record, len);
		inbox_pass(&s->in, len);
		return ret;
	}
	s->rx_seq++;
	inbox_pass(&s->in, len);
	tally_add(rx_records, 1);
	if (opened.type != RECORD_DATA || !opened.len ||
	    shadow_in_message(&s->shadow)) {
		inbox_give_back(&s->in);
		return judge(s, &opened);
	}
	s->plain = opened.content;
	s->plain_len = opened.len;
	s->shadow.rest_type = RECORD_DATA;
	s->shadow.data_since = true;
	tally_add(rx_bytes, opened.len);
	return 1;
}

static int read_from_openssl(struct stream *s, void *buf, size_t len,
			     size_t *got, bool peek)
{
	int ret = peek ? NEXT(SSL_peek)(s->ssl, buf, (int)len) :
			 NEXT(SSL_read)(s->ssl, buf, (int)len);

	*got = ret > 0 ? (size_t)ret : 0;
	return ret > 0 ? 1 : ret;
}

/* It says that there is no BIO, and ends the connection. */
static int read_nothing(SSL *ssl)
{
	char byte;

	return NEXT(SSL_read)(ssl, &byte, 1);
}

int stream_read(struct stream *s, void *buf, size_t len, size_t *got,
		bool peek)
{
	int ret;

	*got = 0;
	if (SSL_get_shutdown(s->ssl) & SSL_RECEIVED_SHUTDOWN) {
		s->last = LAST_CLOSED;
		return 0;
	}
	if (!claim_holds(&s->claim))
		return stream_not_ours(s);
	if (SSL_in_init(s->ssl) || s->answers) {
		ret = stream_handshake(s);
		if (ret <= 0)
			return ret ? ret : -1;
	}
	while (!stream_pending(s)) {
		if (!stream_rbio(s))
			return shadow_call(s, read_nothing, true);
		if (answers_pile_up(s))
			return stream_want_write(s);
		ret = next_record(s);
		if (ret == RETURNED)
			return read_from_openssl(s, buf, len, got, peek);
		if (ret == 1 || ret == SHADOW_GO_ON)
			continue;
		inbox_rest(&s->in);
		return ret;
	}
	s->last = LAST_DONE;
	if (!len)
		return 0;
	give(s, buf, len, got, peek);
	return 1;
}
