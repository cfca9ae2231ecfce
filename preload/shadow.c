/* SPDX-License-Identifier: MIT */
#include "shadow.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/ssl.h>

#include "next.h"
#include "record/record.h"
#include "seal.h"
#include "stream.h"
#include "tally.h"

void shadow_init(struct shadow *shadow, uint64_t rx_seq, uint64_t tx_seq)
{
	shadow->rx_seq = rx_seq;
	shadow->tx_seq = tx_seq;
	shadow->rest_type = RECORD_DATA;
}

/* ---- Handshake messages ------------------------------------------------ */

/* Follow them; returns whether a KeyUpdate ended. */
static bool messages_add(struct shadow_messages *m, const uint8_t *content,
			 size_t len)
{
	const uint8_t *const end = content + len;
	bool updated = false;

	while (content < end || (m->have == 4 && !m->left)) {
		size_t n;

		if (m->have < sizeof(m->header)) {
			m->header[m->have++] = *content++;
			if (m->have == sizeof(m->header))
				m->left = (size_t)m->header[1] << 16 |
					  (size_t)m->header[2] << 8 |
					  m->header[3];
			continue;
		}
		n = min_size((size_t)(end - content), m->left);
		content += n;
		m->left -= n;
		if (m->left)
			continue;
		updated |= m->header[0] == MESSAGE_KEY_UPDATE;
		m->have = 0;
	}
	return updated;
}

static int next_keys(struct keygen **gen, uint64_t *ours, uint64_t *openssl)
{
	struct keygen *next;
	int ret = keygen_next(&next, *gen);

	if (ret)
		return ret;
	keygen_put(*gen);
	*gen = next;
	*ours = *openssl = 0;
	return 0;
}

static bool is_tls13(const struct stream *s)
{
	return s->rx->format->hides_type;
}

/* ---- What OpenSSL is to read ------------------------------------------- */

static int give_raw(struct shadow *shadow, const uint8_t *record, size_t len)
{
	uint8_t *to = bytes_reserve(&shadow->in, len);

	if (!to)
		return -ENOMEM;
	memcpy(to, record, len);
	shadow->in.end += len;
	return 0;
}

static int give_sealed(struct stream *s, uint8_t type, const uint8_t *content,
		       size_t len)
{
	struct shadow *shadow = &s->shadow;
	size_t wire_len = seal_len(s->rx, len);
	uint8_t *to = bytes_reserve(&shadow->in, wire_len);
	int ret;

	if (!to)
		return -ENOMEM;
	ret = seal_record(s->rx, s->engine, shadow->rx_seq, type, content, len,
			  to);
	if (ret)
		return ret;
	shadow->rx_seq++;
	shadow->in.end += wire_len;
	return 0;
}

/* ... and it may be what changes the keys. */
static int give_content(struct stream *s, uint8_t type, const uint8_t *content,
			size_t len)
{
	int ret = give_sealed(s, type, content, len);

	if (ret)
		return ret;
	if (type == RECORD_CHANGE_CIPHER_SPEC)
		s->shadow.rx_raw = true;
	if (type == RECORD_HANDSHAKE && is_tls13(s) &&
	    messages_add(&s->shadow.rx_messages, content, len))
		return next_keys(&s->rx, &s->rx_seq, &s->shadow.rx_seq);
	return 0;
}

/*
 * OpenSSL ends a connection after so many records in a row that say nothing: it
 * is told that there was data between.
 */
static int tell_of_data(struct stream *s)
{
	static const uint8_t some[1];

	if (!s->shadow.data_since || shadow_in_message(&s->shadow))
		return 0;
	s->shadow.data_since = false;
	return give_sealed(s, RECORD_DATA, some, sizeof(some));
}

/* The next record of the connection, translated. 1, 0 at the end, -errno. */
static int pull(struct stream *s)
{
	struct opened opened = { 0 };
	uint8_t *record;
	size_t len;
	int ret;

	if (s->plain_len) {
		len = s->plain_len;
		s->plain_len = 0;
		ret = give_content(s, s->shadow.rest_type, s->plain, len);
		return ret ? ret : 1;
	}
	ret = stream_receive(s, &record, &len);
	if (ret <= 0)
		return ret;
	if (s->shadow.rx_raw || seal_open(s->rx, s->engine, s->rx_seq, record,
					  len, &opened)) {
		ret = give_raw(&s->shadow, record, len);
	} else {
		s->rx_seq++;
		ret = give_content(s, opened.type, opened.content, opened.len);
	}
	inbox_pass(&s->in, len);
	inbox_give_back(&s->in);
	return ret ? ret : 1;
}

/* ---- What OpenSSL writes ----------------------------------------------- */

static int take_record(struct stream *s, uint8_t *record, size_t len)
{
	struct shadow *shadow = &s->shadow;
	struct opened opened = { 0 };
	int ret;

	if (shadow->tx_raw)
		return stream_put_raw(s, record, len);
	ret = seal_open(s->tx, s->engine, shadow->tx_seq, record, len,
			&opened);
	/*
	 * OpenSSL answers a CertificateRequest behind its own close_notify with
	 * keys that nobody has.
	 */
	if (ret == -EBADMSG && SSL_get_shutdown(s->ssl) & SSL_SENT_SHUTDOWN)
		return 0;
	if (ret)
		return ret;
	shadow->tx_seq++;
	ret = stream_put(s, opened.type, opened.content, opened.len);
	if (ret)
		return ret;
	s->unanswered += len;
	if (opened.type == RECORD_CHANGE_CIPHER_SPEC)
		shadow->tx_raw = true;
	if (opened.type == RECORD_HANDSHAKE && is_tls13(s) &&
	    messages_add(&shadow->tx_messages, opened.content, opened.len))
		return next_keys(&s->tx, &s->tx_seq, &shadow->tx_seq);
	return 0;
}

static size_t whole_len(const struct bytes *b)
{
	const uint8_t *header = b->bytes + b->start;

	if (bytes_len(b) < RECORD_HEADER)
		return SIZE_MAX;
	return RECORD_HEADER + ((size_t)header[3] << 8 | header[4]);
}

static int take_all(struct stream *s)
{
	struct bytes *out = &s->shadow.out;
	size_t len;
	int ret;

	while ((len = whole_len(out)) <= bytes_len(out)) {
		ret = take_record(s, out->bytes + out->start, len);
		if (ret)
			return ret;
		out->start += len;
	}
	return 0;
}

/* ---- The BIO ----------------------------------------------------------- */

/* SSL_get_error() asks the BIO what was to be tried again. */
static void copy_flags(BIO *to, BIO *from)
{
	if (!to)
		return;
	BIO_clear_retry_flags(to);
	BIO_set_flags(to, BIO_get_retry_flags(from));
}

/* Has a record gone that OpenSSL does not know of? */
static bool is_untouched(const struct stream *s)
{
	return s->tx_seq == s->shadow.tx_seq && s->rx_seq == s->shadow.rx_seq &&
	       !s->shadow.touched && !s->plain_len && !s->in.bytes &&
	       !s->out.left && !bytes_len(&s->shadow.in);
}

/*
 * OpenSSL is in a call that has passed us by. true: it has the program's BIOs
 * again, and so this is an operation of theirs.
 */
static bool passed_by(struct stream *s)
{
	if (s->shadow.calling || s->shadow.stays)
		return false;
	if (is_untouched(s)) {
		shadow_step_aside(s);
		s->shadow.stays = true;
		tally_add(returned, 1);
		return true;
	}
	stream_return(s);
	return false;
}

static int read_for(struct stream *s, BIO *bio, char *out, int len)
{
	struct bytes *in = &s->shadow.in;
	size_t n;
	int ret = -EAGAIN;

	if (!bytes_len(in) && s->shadow.eof)
		return 0;
	if (!bytes_len(in) && s->shadow.pulls) {
		ret = pull(s);
		s->shadow.eof = !ret;
		if (!ret)
			return 0;
	}
	if (!bytes_len(in)) {
		if (ret != -ENODATA)
			errno = -ret;
		if (s->out.by_bio && s->shadow.pulls)
			copy_flags(bio, stream_rbio(s));
		else if (ret == -EAGAIN || ret == -EINTR)
			BIO_set_retry_read(bio);
		return -1;
	}
	n = min_size((size_t)len, bytes_len(in));
	memcpy(out, in->bytes + in->start, n);
	in->start += n;
	return (int)n;
}

static int bio_read(BIO *bio, char *out, int len)
{
	struct stream *s = BIO_get_data(bio);
	int ret;

	BIO_clear_retry_flags(bio);
	if (!s)
		return 0;
	if (passed_by(s))
		return BIO_read(stream_rbio(s), out, len);
	ret = read_for(s, bio, out, len);
	copy_flags(stream_rbio(s), bio);
	return ret;
}

/* For good: then OpenSSL waits for the socket itself. */
static int send_now(struct stream *s, BIO *bio)
{
	int ret = stream_send(s);

	if (!ret)
		return 0;
	errno = -ret;
	if (ret == -EAGAIN || ret == -EINTR)
		BIO_set_retry_write(bio);
	return -1;
}

static int write_for(struct stream *s, BIO *bio, const char *in, int len)
{
	struct bytes *out = &s->shadow.out;
	uint8_t *to;
	bool opened;
	int ret;

	if (!claim_holds(&s->claim)) {
		stream_not_ours(s);
		return -1;
	}
	if (s->shadow.full)
		BIO_set_retry_write(bio);
	if (s->shadow.full ||
	    (s->shadow.stays && s->out.left && send_now(s, bio)))
		return -1;
	to = bytes_reserve(out, (size_t)len);
	if (!to) {
		errno = ENOMEM;
		return -1;
	}
	memcpy(to, in, (size_t)len);
	out->end += (size_t)len;
	opened = outbox_open(&s->out);
	ret = take_all(s);
	outbox_close(&s->out, opened);
	if (ret) {
		errno = -ret;
		return -1;
	}
	if (s->shadow.stays)
		stream_send(s);
	return len;
}

static int bio_write(BIO *bio, const char *in, int len)
{
	struct stream *s = BIO_get_data(bio);
	int ret;

	BIO_clear_retry_flags(bio);
	if (!s)
		return len;
	if (passed_by(s))
		return BIO_write(stream_wbio(s), in, len);
	ret = write_for(s, bio, in, len);
	copy_flags(stream_wbio(s), bio);
	return ret;
}

static bool sends(struct stream *s)
{
	int error = stream_send(s);

	if (!error || error == -EAGAIN || error == -EINTR)
		return true;
	errno = -error;
	s->shadow.error = error;
	return false;
}

/* OpenSSL does so behind an alert or a handshake message. */
static int flush(struct stream *s, BIO *bio)
{
	int ret;

	if (!s->out.by_bio)
		return sends(s) ? 1 : -1;
	if (!sends(s))
		return -1;
	/* OpenSSL looks for a reason to try again where it writes alone */
	if (outbox_len(&s->out))
		return 1;
	ret = (int)BIO_flush(stream_wbio(s));
	copy_flags(bio, stream_wbio(s));
	return ret;
}

static long bio_ctrl(BIO *bio, int command, long number, void *where)
{
	struct stream *s = BIO_get_data(bio);

	if (!s)
		return 0;
	switch (command) {
	case BIO_CTRL_EOF:
		return s->shadow.eof;
	case BIO_CTRL_FLUSH:
		return flush(s, bio);
	case BIO_CTRL_WPENDING:
		return BIO_ctrl(stream_wbio(s), command, number, where);
	case BIO_CTRL_PUSH:
	case BIO_CTRL_POP:
	case BIO_CTRL_DUP:
		return 0;
	default: /* a BIO with the SSL in it hands all to that which reads */
		return BIO_ctrl(stream_rbio(s), command, number, where);
	}
}

static int bio_create(BIO *bio)
{
	BIO_set_init(bio, 1);
	return 1;
}

static BIO_METHOD *method;

static void make_method(void)
{
	int type = BIO_get_new_index();

	if (type < 0)
		return;
	type |= BIO_TYPE_DESCRIPTOR | BIO_TYPE_SOURCE_SINK;
	method = BIO_meth_new(type, "libasynctls");
	if (!method)
		return;
	BIO_meth_set_read(method, bio_read);
	BIO_meth_set_write(method, bio_write);
	BIO_meth_set_ctrl(method, bio_ctrl);
	BIO_meth_set_create(method, bio_create);
}

static BIO *bio_of(struct stream *s)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct shadow *shadow = &s->shadow;

	pthread_once(&once, make_method);
	if (!shadow->bio && method) {
		shadow->bio = BIO_new(method);
		if (shadow->bio)
			BIO_set_data(shadow->bio, s);
	}
	return shadow->bio;
}

/* ---- In place of the program's ----------------------------------------- */

bool shadow_ready(struct stream *s)
{
	return bio_of(s);
}

void shadow_stand(struct stream *s)
{
	struct shadow *shadow = &s->shadow;

	if (shadow->standing)
		return;
	shadow->rbio = NEXT(SSL_get_rbio)(s->ssl);
	shadow->wbio = NEXT(SSL_get_wbio)(s->ssl);
	if (shadow->rbio) {
		BIO_up_ref(shadow->rbio);
		BIO_up_ref(shadow->bio);
		NEXT(SSL_set0_rbio)(s->ssl, shadow->bio);
	}
	if (shadow->wbio) {
		BIO_up_ref(shadow->wbio);
		BIO_up_ref(shadow->bio);
		NEXT(SSL_set0_wbio)(s->ssl, shadow->bio);
	}
	shadow->standing = true;
}

void shadow_step_aside(struct stream *s)
{
	struct shadow *shadow = &s->shadow;

	if (!shadow->standing)
		return;
	NEXT(SSL_set0_rbio)(s->ssl, shadow->rbio);
	NEXT(SSL_set0_wbio)(s->ssl, shadow->wbio);
	shadow->rbio = shadow->wbio = NULL;
	shadow->standing = false;
}

void shadow_stay(struct stream *s)
{
	s->shadow.stays = s->shadow.pulls = true;
}

void shadow_free(struct stream *s)
{
	struct shadow *shadow = &s->shadow;

	if (shadow->bio)
		BIO_set_data(shadow->bio, NULL);
	if (shadow->standing) {
		/* the SSL is going, and the program's BIOs go with it */
		BIO_free_all(shadow->rbio);
		BIO_free_all(shadow->wbio);
	}
	BIO_free(shadow->bio);
	bytes_free(&shadow->in);
	bytes_free(&shadow->out);
}

/* ---- OpenSSL's opinion ------------------------------------------------- */

/*
 * What OpenSSL has set beside reading and writing; by SSL_get_rbio(), which is
 * ours, at the program's, or else at this.
 */
static void show_flags(struct stream *s)
{
	if (!BIO_get_retry_flags(s->shadow.bio))
		return;
	copy_flags(s->shadow.rbio, s->shadow.bio);
	if (s->shadow.wbio != s->shadow.rbio)
		copy_flags(s->shadow.wbio, s->shadow.bio);
}

int shadow_call(struct stream *s, int (*call)(SSL *ssl), bool pulls)
{
	bool was = s->shadow.calling;
	int ret;

	s->last = LAST_OPENSSL;
	s->shadow.touched = s->shadow.calling = true;
	s->shadow.pulls = pulls;
	BIO_clear_retry_flags(s->shadow.bio);
	s->shadow.error = 0;
	ret = call(s->ssl);
	if (s->out.left)
		sends(s);
	s->answers = pulls && s->out.by_bio && s->out.left;
	s->shadow.pulls = s->shadow.stays;
	s->shadow.calling = was;
	if (!s->shadow.stays)
		show_flags(s);
	return ret;
}

/* Until there is no more: data that was made up, too. */
static int read_all(SSL *ssl)
{
	uint8_t dropped[64];
	int ret;

	do
		ret = NEXT(SSL_read)(ssl, dropped, sizeof(dropped));
	while (ret > 0);
	return ret;
}

static int ask(struct stream *s)
{
	int ret = shadow_call(s, read_all, false);

	if (!bytes_len(&s->shadow.in) && !s->shadow.eof && !s->shadow.stays &&
	    NEXT(SSL_want)(s->ssl) == SSL_READING &&
	    BIO_should_read(stream_rbio(s)) &&
	    !(SSL_get_shutdown(s->ssl) & SSL_RECEIVED_SHUTDOWN))
		return SHADOW_GO_ON;
	s->failed |= !(SSL_get_shutdown(s->ssl) & SSL_RECEIVED_SHUTDOWN) ||
		     SSL_in_init(s->ssl);
	return ret;
}

static int out_of_memory(struct stream *s)
{
	return stream_failed(s, -ENOMEM);
}

int shadow_content(struct stream *s, uint8_t type, const uint8_t *content,
		   size_t len)
{
	if (tell_of_data(s) || give_content(s, type, content, len))
		return out_of_memory(s);
	return ask(s);
}

int shadow_record(struct stream *s, const uint8_t *record, size_t len)
{
	if (give_raw(&s->shadow, record, len))
		return out_of_memory(s);
	return ask(s);
}

int shadow_eof(struct stream *s)
{
	s->shadow.eof = true;
	return ask(s);
}
