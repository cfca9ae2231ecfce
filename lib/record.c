/* SPDX-License-Identifier: MIT */
#include "record.h"

#include <errno.h>
#include <string.h>

void record_put_header(uint8_t header[RECORD_HEADER], size_t body_len)
{
	header[0] = RECORD_DATA;
	header[1] = 3;
	header[2] = 3;
	header[3] = (uint8_t)(body_len >> 8);
	header[4] = (uint8_t)body_len;
}

ssize_t record_parse_header(const uint8_t header[RECORD_HEADER], int *alert)
{
	size_t body_len = (size_t)header[3] << 8 | header[4];

	if (header[0] != RECORD_DATA) {
		*alert = ALERT_UNEXPECTED_MESSAGE;
		return -EPROTO;
	}
	if (header[1] != 3 || header[2] != 3) {
		*alert = ALERT_DECODE_ERROR;
		return -EPROTO;
	}
	if (body_len > RECORD_BODY_MAX) {
		*alert = ALERT_RECORD_OVERFLOW;
		return -EMSGSIZE;
	}
	if (body_len < RECORD_TAG) {
		*alert = ALERT_BAD_RECORD_MAC;
		return -EBADMSG;
	}
	return (ssize_t)body_len;
}

void record_nonce(uint8_t nonce[RECORD_NONCE], const uint8_t iv[RECORD_NONCE],
		  uint64_t seq)
{
	memcpy(nonce, iv, RECORD_NONCE);
	for (int i = RECORD_NONCE - 1; seq; i--, seq >>= 8)
		nonce[i] ^= (uint8_t)seq;
}

ssize_t record_inner(const uint8_t *inner, size_t len, uint8_t *type)
{
	while (len && !inner[len - 1])
		len--;
	if (!len)
		return -EPROTO;
	len--;
	if (len > RECORD_PLAIN_MAX)
		return -EMSGSIZE;
	*type = inner[len];
	return (ssize_t)len;
}

const uint8_t record_zeros[RECORD_PLAIN_MAX];

size_t record_padding(size_t len, size_t block)
{
	size_t room = RECORD_PLAIN_MAX - len;
	size_t over = block ? (len + 1) % block : 0;

	if (!over)
		return 0;
	return block - over < room ? block - over : room;
}
