/* SPDX-License-Identifier: MIT */
#include "stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "next.h"
#include "seal.h"
#include "tally.h"

static int set_plain(struct stream *s, const uint8_t *plain, size_t len)
{
	if (!len)
		return 0;
	s->in.bytes = malloc(INBOX_SIZE);
	if (!s->in.bytes)
		return -ENOMEM;
	memcpy(s->in.bytes, plain, len);
	s->plain = s->in.bytes;
	s->plain_len = len;
	return 0;
}

struct stream *stream_new(const struct stream_start *start)
{
	struct stream *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->ssl = start->ssl;
	s->engine = start->engine;
	s->fd = start->fd;
	s->tx = start->tx;
	s->rx = start->rx;
	s->tx_seq = start->tx_seq;
	s->rx_seq = start->rx_seq;
	s->tx_most = s->tx_max = start->tx_most;
	inbox_init(&s->in, start->fd, start->read_ahead,
		   start->rx->format->hides_type);
	outbox_init(&s->out, start->fd);
	shadow_init(&s->shadow, start->rx_seq, start->tx_seq);
	if (!claim_new(&s->claim) || !shadow_ready(s) ||
	    set_plain(s, start->plain, start->plain_len)) {
		claim_free(&s->claim);
		shadow_free(s);
		free(s);
		return NULL;
	}
	return s;
}

void stream_free(struct stream *s)
{
	if (!s)
		return;
	if (s->failed)
		tally_add(failed, 1);
	outbox_free(&s->out);
	shadow_free(s);
	inbox_free(&s->in);
	claim_free(&s->claim);
	keygen_put(s->tx);
	keygen_put(s->rx);
	free(s);
}

void stream_limit(struct stream *s, size_t max_send, size_t split_send)
{
	s->tx_max = s->tx_most;
	if (max_send && max_send < s->tx_max)
		s->tx_max = max_send;
	if (split_send && split_send < s->tx_max)
		s->tx_max = split_send;
}

BIO *stream_rbio(const struct stream *s)
{
	return s->shadow.standing ? s->shadow.rbio :
				    NEXT(SSL_get_rbio)(s->ssl);
}

BIO *stream_wbio(const struct stream *s)
{
	return s->shadow.standing ? s->shadow.wbio :
				    NEXT(SSL_get_wbio)(s->ssl);
}

int stream_send(struct stream *s)
{
	bool opened = outbox_open(&s->out);
	int error = outbox_send(&s->out, stream_wbio(s));

	outbox_close(&s->out, opened);
	return error;
}

int stream_put_raw(struct stream *s, const uint8_t *record, size_t len)
{
	uint8_t *to = outbox_reserve(&s->out, len);

	if (!to)
		return -ENOMEM;
	memcpy(to, record, len);
	outbox_added(&s->out, len);
	return 0;
}

int stream_put(struct stream *s, uint8_t type, const uint8_t *content,
	       size_t len)
{
	size_t wire_len = seal_len(s->tx, len);
	uint8_t *wire = outbox_reserve(&s->out, wire_len);
	int ret;

	if (!wire)
		return -ENOMEM;
	ret = seal_record(s->tx, s->engine, s->tx_seq, type, content, len,
			  wire);
	if (ret)
		return ret;
	s->tx_seq++;
	outbox_added(&s->out, wire_len);
	tally_add(tx_records, 1);
	tally_add(tx_bytes, len);
	return 0;
}

/* A relative of this process goes on with the connection, since a fork(). */
int stream_not_ours(struct stream *s)
{
	s->last = LAST_DONE;
	tally_add(refused_fork, 1);
	ERR_new();
	ERR_set_debug(__FILE__, __LINE__, __func__);
	ERR_set_error(ERR_LIB_USER, ERR_R_SHOULD_NOT_HAVE_BEEN_CALLED,
		      "libasynctls: after fork() another process went on with "
		      "this connection, and a nonce must not be used twice");
	return -1;
}

/* As OpenSSL leaves the BIO; programs look at that, too. */
int stream_want_read(struct stream *s)
{
	BIO *bio = stream_rbio(s);

	if (bio && !s->out.by_bio) {
		BIO_clear_retry_flags(bio);
		BIO_set_retry_read(bio);
	}
	s->last = LAST_WANT_READ;
	return -1;
}

int stream_want_write(struct stream *s)
{
	BIO *bio = stream_wbio(s);

	if (bio && !s->out.by_bio) {
		BIO_clear_retry_flags(bio);
		BIO_set_retry_write(bio);
	}
	s->last = LAST_WANT_WRITE;
	return -1;
}

bool stream_since_3_2(void)
{
	return OpenSSL_version_num() >= 0x30200000ul;
}

int stream_failed(struct stream *s, int error)
{
	errno = -error;
	if (error == -EAGAIN || error == -EINTR)
		return stream_want_write(s);
	s->failed = true;
	s->last = LAST_WRITE_FAILED;
	if (stream_since_3_2())
		ERR_raise_data(ERR_LIB_SYS, -error,
			       "tls_retry_write_records failure");
	return -1;
}

bool stream_has_pending(const struct stream *s)
{
	/* OpenSSL does not count a header alone */
	return s->plain_len || (inbox_has(&s->in) != 0 &&
				inbox_has(&s->in) != RECORD_HEADER);
}

/* ---- What OpenSSL does ------------------------------------------------- */

static int real_handshake(SSL *ssl)
{
	return NEXT(SSL_do_handshake)(ssl);
}

static int real_shutdown(SSL *ssl)
{
	return NEXT(SSL_shutdown)(ssl);
}

int stream_answer(struct stream *s)
{
	int error;

	if (!s->answers)
		return 1;
	error = stream_send(s);
	if (error)
		return stream_failed(s, error);
	s->answers = false;
	(void)BIO_flush(stream_wbio(s));
	return 1;
}

/* A KeyUpdate that is due, say. */
int stream_handshake(struct stream *s)
{
	int ret;

	if (!claim_holds(&s->claim))
		return stream_not_ours(s);
	if (stream_answer(s) < 0)
		return -1;
	s->last = LAST_OPENSSL;
	if (!SSL_in_init(s->ssl))
		return 1;
	ret = shadow_call(s, real_handshake, true);
	return ret == 1 ? stream_answer(s) : ret;
}

static int real_empty_write(SSL *ssl)
{
	return NEXT(SSL_write)(ssl, "", 0);
}

int stream_before_data(struct stream *s)
{
	const struct keygen *tx = s->tx;
	const uint64_t seq = s->tx_seq;
	int ret;

	if (stream_answer(s) < 0)
		return -1;
	if (!SSL_in_init(s->ssl) && !s->tickets &&
	    SSL_get_key_update_type(s->ssl) == SSL_KEY_UPDATE_NONE)
		return 1;
	ret = shadow_call(s, real_empty_write, true);
	if (ret < 0)
		return ret;
	/* of a KeyUpdate and tickets, or of two, some may yet be left */
	if (s->tx == tx && s->tx_seq == seq)
		s->tickets = false;
	return stream_answer(s);
}

/* What is held comes before close_notify, and both must have left. */
static int finish_sending(struct stream *s, int ret)
{
	int error = stream_send(s);

	s->closing = error != 0;
	return error ? stream_failed(s, error) : ret;
}

/*
 * A relative has gone on: there is nothing to be said in its stream, and as a
 * program does that when it lets go, no error for it to find later.
 */
static int shut_down_for_us(struct stream *s)
{
	SSL_set_shutdown(s->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	s->last = LAST_DONE;
	tally_add(refused_fork, 1);
	return 1;
}

int stream_shutdown(struct stream *s)
{
	const int both = SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN;
	int ret;

	/* not a byte: of a connection that a relative goes on with, perhaps */
	if (SSL_get_quiet_shutdown(s->ssl)) {
		s->last = LAST_OPENSSL;
		return NEXT(SSL_shutdown)(s->ssl);
	}
	if (!claim_holds(&s->claim))
		return shut_down_for_us(s);
	/* one that was sealed, and could not be sent */
	if (s->closing && s->out.left &&
	    SSL_get_shutdown(s->ssl) & SSL_SENT_SHUTDOWN) {
		s->last = LAST_DONE;
		ret = finish_sending(s, SSL_get_shutdown(s->ssl) == both);
		if (ret >= 0 && s->out.by_bio && !stream_since_3_2())
			(void)BIO_flush(stream_wbio(s));
		return ret;
	}
	s->last = LAST_OPENSSL;
	ret = shadow_call(s, real_shutdown, true);
	s->answers = false;
	if (ret < 0)
		return ret;
	if (s->shadow.error)
		return stream_failed(s, s->shadow.error);
	return finish_sending(s, ret);
}

void stream_return(struct stream *s)
{
	stream_send(s);
	s->last = LAST_OPENSSL;
	shadow_stay(s);
	tally_add(returned, 1);
}
