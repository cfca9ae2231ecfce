/* SPDX-License-Identifier: MIT */
#include "openssl/proof.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "openssl/handoff.h"

/* Handshake messages in record after record. */
struct messages {
	uint8_t header[4];
	unsigned have;
	size_t left;
	bool asked;   /* a certificate is asked for */
	bool updated; /* a KeyUpdate is among them */
};

static void messages_add(struct messages *m, const uint8_t *content, size_t len)
{
	const uint8_t *const end = content + len;

	for (;;) {
		size_t n = min_size((size_t)(end - content), m->left);

		content += n;
		m->left -= n;
		if (content == end)
			return;
		m->header[m->have++] = *content++;
		if (m->have < sizeof(m->header))
			continue;
		m->have = 0;
		m->left = (size_t)m->header[1] << 16 |
			  (size_t)m->header[2] << 8 | m->header[3];
		m->asked |= m->header[0] == MESSAGE_CERTIFICATE_REQUEST;
		m->updated |= m->header[0] == MESSAGE_KEY_UPDATE;
	}
}

static bool messages_whole(const struct messages *m)
{
	return !m->have && !m->left;
}

static size_t wire_len(const uint8_t *record, size_t have)
{
	size_t len = RECORD_HEADER;

	if (have >= len)
		len += (size_t)record[3] << 8 | record[4];
	return len;
}

/* Open a whole record into room: what is in it, or -errno. */
static ssize_t open_record(const struct prover *p, struct keygen *gen,
			   const uint8_t *record, size_t len, uint64_t seq,
			   uint8_t *type, uint8_t **content)
{
	const struct record_format *format = gen->format;
	uint8_t aad[RECORD_AAD_MAX];
	struct aead_op op = { .aad = aad, .aad_len = format->aad_len };
	int alert, ret;

	if (record_parse_header(format, record, &alert) < 0)
		return -EPROTO;
	record_nonce(op.nonce, gen->iv,
		     record_nonce_number(format, record, seq));
	record_aad(format, aad, record[0], seq, len - RECORD_HEADER);
	op.in = record + format->prefix;
	op.in_len = len - format->prefix;
	op.out = p->room + format->aad_len;
	*content = op.out;
	ret = p->open(p->with, gen, &op);
	explicit_bzero(op.nonce, sizeof(op.nonce));
	if (ret)
		return ret;
	return record_content(format, record, *content, aead_op_out_len(&op),
			      RECORD_PLAIN_MAX, type);
}

/*
 * The last record has the end of a message which began before it, or so it
 * seems. A message begins where the key does, and after data.
 */
static int prove_run(const struct prover *p, struct keygen *gen,
		     const struct handoff_side *side)
{
	uint64_t seq = side->seq - side->proof_records;
	const uint8_t *record = side->proof;
	struct messages messages = { 0 };
	bool known = !seq;

	for (; seq < side->seq; seq++) {
		size_t len = wire_len(record, RECORD_HEADER);
		uint8_t type, *content;
		ssize_t n = open_record(p, gen, record, len, seq, &type,
					&content);

		if (n < 0)
			return (int)n;
		if (type == RECORD_HANDSHAKE && known) {
			messages_add(&messages, content, (size_t)n);
		} else if (type == RECORD_DATA) {
			messages = (struct messages){ 0 };
			known = true;
		}
		record += len;
	}
	if (!known)
		return -ENODATA;
	if (messages.updated)
		return -EPROTO;
	if (!messages_whole(&messages))
		return -ENOMSG;
	return messages.asked ? -EINPROGRESS : 0;
}

/*
 * The record before the next one must open, and leave things as they are. 0;
 * -EINPROGRESS if a certificate is asked for in it; -ENOMSG, -ENODATA: a
 * message has not ended, or nobody knows.
 */
static int prove(const struct prover *p, struct keygen *gen,
		 const struct handoff_side *side)
{
	struct messages messages = { 0 };
	uint8_t type, *content;
	ssize_t n;

	if (!side->proof_len)
		return 0;
	n = open_record(p, gen, side->proof + side->proof_last,
			side->proof_len - side->proof_last, side->seq - 1,
			&type, &content);
	if (n < 0)
		return (int)n;
	if (type != RECORD_HANDSHAKE)
		return 0;
	messages_add(&messages, content, (size_t)n);
	if (messages.updated || !messages_whole(&messages))
		return prove_run(p, gen, side);
	return messages.asked ? -EINPROGRESS : 0;
}

/*
 * What OpenSSL has read ahead begins with records of the handshake; ours are
 * those that open. That OpenSSL has not taken them yet is certain of one alone,
 * whole or not.
 */
static int find_ahead(const struct prover *p, struct keygen *gen,
		      struct handoff *h)
{
	size_t at = 0, first = 0, left = h->sealed_len, len, ours = 0;
	uint8_t type, *content;
	ssize_t n;

	for (; left && (len = wire_len(h->sealed + at, left)) <= left;
	     at += len, left -= len) {
		n = h->sealed[at] != RECORD_DATA ? -1 :
			open_record(p, gen, h->sealed + at, len, ours, &type,
				    &content);
		if (n == -ETIMEDOUT)
			return (int)n;
		if (n >= 0) {
			if (!ours++)
				first = at;
		} else if (ours) {
			return -EBUSY;
		}
	}
	if (ours + (left > 0) != 1)
		return -EBUSY;
	if (!ours)
		first = at;
	h->sealed_len -= first;
	memmove(h->sealed, h->sealed + first, h->sealed_len);
	return 0;
}

static int prove_all(const struct prover *p, struct keygen *tx,
		     struct keygen *rx, struct handoff *h, bool *ahead)
{
	int ret = prove(p, tx, &h->tx);

	if (!ret) {
		ret = prove(p, rx, &h->rx);
		/* OpenSSL has answered it, or would still be about it. */
		if (ret == -EINPROGRESS)
			ret = 0;
	}
	if (!ret && h->ahead) {
		ret = find_ahead(p, rx, h);
		*ahead = ret == -EBUSY;
	}
	explicit_bzero(p->room, RECORD_WIRE_MAX);
	return ret;
}

/* What is to be said about it. */
static int refuse(int ret, bool ahead, const char **why)
{
	if (ahead) {
		*why = "OpenSSL read several records ahead during the "
		       "handshake: call SSL_CTX_set_read_ahead(ctx, 0) before "
		       "it";
		return -EBUSY;
	}
	switch (ret) {
	case -ETIMEDOUT:
		*why = "the kernel driver did not open the latest record within "
		       "tls_config.deadline_ms, and there is no CPU engine to "
		       "do it: go on with SSL_read() and SSL_write(), or try "
		       "again";
		return ret;
	case -EINPROGRESS:
		*why = "the client was asked for a certificate: go on with "
		       "SSL_read() until it has come, then with SSL_write()";
		return -EBUSY;
	case -ENOMSG:
		*why = "half a handshake message has come: go on with "
		       "SSL_read() until the rest has";
		return -EBUSY;
	case -ENODATA:
		*why = "the latest handshake message is in more records than "
		       "can be looked at: go on with SSL_read() or SSL_write() "
		       "until there was data behind it";
		return -EBUSY;
	default:
		*why = "the latest record does not open under the key of the "
		       "handshake: was there a KeyUpdate before the hand-over? "
		       "Hand over right after the handshake";
		return -EPROTO;
	}
}

int proof_check(const struct prover *p, struct keygen *tx, struct keygen *rx,
		struct handoff *h, const char **why)
{
	bool ahead = false;
	int ret = prove_all(p, tx, rx, h, &ahead);

	return ret ? refuse(ret, ahead, why) : 0;
}
