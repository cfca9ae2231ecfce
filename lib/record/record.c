/* SPDX-License-Identifier: MIT */
#include "record/record.h"

#include <errno.h>
#include <string.h>

static const struct record_format tls13 = {
	.hides_type = true,
	.prefix = RECORD_HEADER,
	.aad_len = RECORD_HEADER,
	.overhead = RECORD_OVERHEAD,
	.body_max = RECORD_BODY_MAX_TLS13,
};

static const struct record_format tls12 = {
	.prefix = RECORD_HEADER,
	.aad_len = RECORD_AAD_MAX,
	.overhead = RECORD_HEADER + RECORD_TAG,
	.body_max = RECORD_BODY_MAX,
};

static const struct record_format tls12_explicit = {
	.prefix = RECORD_HEADER + RECORD_EXPLICIT,
	.aad_len = RECORD_AAD_MAX,
	.overhead = RECORD_HEADER + RECORD_EXPLICIT + RECORD_TAG,
	.body_max = RECORD_BODY_MAX,
};

const struct record_format *record_format(const struct suite *suite)
{
	if (suite->version == CIPHER_TLS13)
		return &tls13;
	return suite->cipher->id == CIPHER_CHACHA20_POLY1305 ? &tls12 :
							       &tls12_explicit;
}

size_t record_iv_len(const struct record_format *format)
{
	return (size_t)(RECORD_NONCE + RECORD_HEADER) - format->prefix;
}

size_t record_lead(const struct record_format *format)
{
	return format->aad_len > format->prefix ?
		       (size_t)(format->aad_len - format->prefix) :
		       0;
}

static void put_number(uint8_t bytes[8], uint64_t number)
{
	for (int i = 7; i >= 0; i--, number >>= 8)
		bytes[i] = (uint8_t)number;
}

static void put_header(uint8_t header[RECORD_HEADER], uint8_t type,
		       size_t len)
{
	header[0] = type;
	header[1] = 3;
	header[2] = 3;
	header[3] = (uint8_t)(len >> 8);
	header[4] = (uint8_t)len;
}

void record_put_prefix(const struct record_format *format, uint8_t *wire,
		       uint8_t type, uint64_t number, size_t body_len)
{
	put_header(wire, format->hides_type ? RECORD_DATA : type, body_len);
	if (format->prefix > RECORD_HEADER)
		put_number(wire + RECORD_HEADER, number);
}

/* Types there are outside; in TLS 1.2 the alerts and messages as well. */
static bool type_fits(const struct record_format *format, uint8_t type)
{
	if (format->hides_type)
		return type == RECORD_DATA;
	return type >= RECORD_ALERT && type <= RECORD_DATA;
}

ssize_t record_parse_header(const struct record_format *format,
			    const uint8_t header[RECORD_HEADER], int *alert)
{
	size_t body_len = (size_t)header[3] << 8 | header[4];

	if (!type_fits(format, header[0])) {
		*alert = ALERT_UNEXPECTED_MESSAGE;
		return -EPROTO;
	}
	if (header[1] != 3 || header[2] != 3) {
		*alert = ALERT_DECODE_ERROR;
		return -EPROTO;
	}
	if (body_len > format->body_max) {
		*alert = ALERT_RECORD_OVERFLOW;
		return -EMSGSIZE;
	}
	if (body_len + RECORD_HEADER < (size_t)format->prefix + RECORD_TAG) {
		*alert = ALERT_BAD_RECORD_MAC;
		return -EBADMSG;
	}
	return (ssize_t)body_len;
}

void record_aad(const struct record_format *format, uint8_t *aad, uint8_t type,
		uint64_t seq, size_t body_len)
{
	if (format->hides_type) {
		put_header(aad, RECORD_DATA, body_len);
		return;
	}
	put_number(aad, seq);
	put_header(aad + 8, type,
		   body_len - ((size_t)format->overhead - RECORD_HEADER));
}

void record_nonce(uint8_t nonce[RECORD_NONCE], const uint8_t iv[RECORD_NONCE],
		  uint64_t number)
{
	memcpy(nonce, iv, RECORD_NONCE);
	for (int i = RECORD_NONCE - 1; number; i--, number >>= 8)
		nonce[i] ^= (uint8_t)number;
}

uint64_t record_nonce_number(const struct record_format *format,
			     const uint8_t *wire, uint64_t seq)
{
	if (format->prefix == RECORD_HEADER)
		return seq;
	seq = 0;
	for (int i = 0; i < RECORD_EXPLICIT; i++)
		seq = seq << 8 | wire[RECORD_HEADER + i];
	return seq;
}

ssize_t record_content(const struct record_format *format,
		       const uint8_t header[RECORD_HEADER],
		       const uint8_t *inner, size_t len, size_t max,
		       uint8_t *type)
{
	*type = header[0];
	if (format->hides_type) {
		if (len > max + 1)
			return -EMSGSIZE;
		while (len && !inner[len - 1])
			len--;
		if (!len)
			return -EPROTO;
		*type = inner[--len];
	}
	return len > max ? -EMSGSIZE : (ssize_t)len;
}

const uint8_t record_zeros[RECORD_PLAIN_MAX];

size_t record_padding(size_t len, size_t block, size_t max)
{
	size_t room = max > len ? max - len : 0;
	size_t over = block ? (len + 1) % block : 0;

	if (!over)
		return 0;
	return block - over < room ? block - over : room;
}
