/* SPDX-License-Identifier: MIT */
/*
 * TLS records as bytes (RFC 8446 section 5): header, nonce, inner plaintext.
 * No state, no memory of its own, no I/O.
 */
#ifndef ASYNCTLS_RECORD_H
#define ASYNCTLS_RECORD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	RECORD_HEADER = 5,
	RECORD_TAG = 16,
	RECORD_NONCE = 12,
	RECORD_PLAIN_MAX = 1 << 14,
	RECORD_PLAIN_MIN = 64, /* as RFC 8449 4 has it; for limits only */
	RECORD_BODY_MAX = RECORD_PLAIN_MAX + 256, /* RFC 8446 5.2 */
	RECORD_WIRE_MAX = RECORD_HEADER + RECORD_BODY_MAX,
	/* what we send: header, plaintext, type byte, tag */
	RECORD_OVERHEAD = RECORD_HEADER + 1 + RECORD_TAG,
};

enum record_type {
	RECORD_CHANGE_CIPHER_SPEC = 20,
	RECORD_ALERT = 21,
	RECORD_HANDSHAKE = 22,
	RECORD_DATA = 23,
};

/* RFC 8446 4, those that come after the handshake */
enum record_message {
	MESSAGE_NEW_SESSION_TICKET = 4,
	MESSAGE_CERTIFICATE_REQUEST = 13,
	MESSAGE_KEY_UPDATE = 24,
};

/* KeyUpdateRequest, RFC 8446 4.6.3 */
enum record_key_update { UPDATE_NOT_REQUESTED, UPDATE_REQUESTED };

/* RFC 8446 6, those we send */
enum record_alert {
	ALERT_CLOSE_NOTIFY = 0,
	ALERT_UNEXPECTED_MESSAGE = 10,
	ALERT_BAD_RECORD_MAC = 20,
	ALERT_RECORD_OVERFLOW = 22,
	ALERT_ILLEGAL_PARAMETER = 47,
	ALERT_DECODE_ERROR = 50,
	ALERT_INTERNAL_ERROR = 80,
	ALERT_USER_CANCELED = 90,
	ALERT_NONE = -1,
};

enum { ALERT_LEVEL_WARNING = 1, ALERT_LEVEL_FATAL = 2 };

/* Write the header of a protected record whose body is body_len bytes. */
void record_put_header(uint8_t header[RECORD_HEADER], size_t body_len);

/*
 * The body length that a received header announces, or -EPROTO (no protected
 * record) or -EMSGSIZE (longer than 2^14 + 256) or -EBADMSG (too short to hold
 * a tag), with the alert that goes with it.
 */
ssize_t record_parse_header(const uint8_t header[RECORD_HEADER], int *alert);

/* The per-record nonce (RFC 8446 5.3). */
void record_nonce(uint8_t nonce[RECORD_NONCE], const uint8_t iv[RECORD_NONCE],
		  uint64_t seq);

/*
 * Split TLSInnerPlaintext: the length of the content before type byte and
 * padding, with the type; -EPROTO if there is no type byte (RFC 8446 5.4),
 * -EMSGSIZE if the content is longer than 2^14.
 */
ssize_t record_inner(const uint8_t *inner, size_t len, uint8_t *type);

/*
 * How many zeros go behind the content type of a record of len bytes to make
 * TLSInnerPlaintext a multiple of block (0: of nothing), or as long as it may
 * be, 2^14 + 1 bytes (RFC 8446 5.4).
 */
size_t record_padding(size_t len, size_t block);

/* As many zeros as that can be. */
extern const uint8_t record_zeros[RECORD_PLAIN_MAX];

#endif
