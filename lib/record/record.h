/* SPDX-License-Identifier: MIT */
/*
 * TLS records as bytes: header, nonce, AAD, what is inside (RFC 8446 section 5;
 * RFC 5246 6.2.3.3 with RFC 5288, 6655 and 7905 for TLS 1.2). No state, no
 * memory of its own, no I/O. This folder is what RFCs say of a record and nothing
 * else: the AEADs and suites (cipher), and where plaintext comes from (source).
 *
 *	TLS 1.3			header | sealed(content type zeros) tag
 *	TLS 1.2, GCM and CCM	header nonce[8] | sealed(content) tag
 *	TLS 1.2, ChaCha20	header | sealed(content) tag
 */
#ifndef ASYNCTLS_RECORD_H
#define ASYNCTLS_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "record/cipher.h"

enum {
	RECORD_HEADER = 5,
	RECORD_TAG = 16,
	RECORD_NONCE = 12,
	RECORD_SALT = 4,     /* TLS 1.2, GCM and CCM: secret part of a nonce */
	RECORD_EXPLICIT = 8, /* ... and the part on the wire */
	RECORD_AAD_MAX = 13,
	RECORD_PLAIN_MAX = 1 << 14,
	RECORD_PLAIN_MIN = 64, /* as RFC 8449 4 has it; for limits only */
	/* what a peer may send: RFC 8446 5.2, RFC 5246 6.2.3 */
	RECORD_BODY_MAX_TLS13 = RECORD_PLAIN_MAX + 256,
	RECORD_BODY_MAX = RECORD_PLAIN_MAX + 2048,
	RECORD_WIRE_MAX = RECORD_HEADER + RECORD_BODY_MAX,
	/* TLS 1.3: what is not content or padding in a record */
	RECORD_OVERHEAD = RECORD_HEADER + 1 + RECORD_TAG,
	/* what we send, of any format, and room before it for the AAD */
	RECORD_SENT_MAX = RECORD_AAD_MAX + RECORD_EXPLICIT + RECORD_PLAIN_MAX +
			  RECORD_TAG,
};

enum record_type {
	RECORD_CHANGE_CIPHER_SPEC = 20,
	RECORD_ALERT = 21,
	RECORD_HANDSHAKE = 22,
	RECORD_DATA = 23,
};

/* RFC 8446 4, those that come after the handshake */
enum record_message {
	MESSAGE_HELLO_REQUEST = 0, /* TLS 1.2 */
	MESSAGE_CLIENT_HELLO = 1,
	MESSAGE_NEW_SESSION_TICKET = 4,
	MESSAGE_CERTIFICATE_REQUEST = 13,
	MESSAGE_KEY_UPDATE = 24,
};

/* A NewSessionTicket's body with each of its vectors full (RFC 8446 4.6.1). */
enum { MESSAGE_TICKET_MAX = 4 + 4 + 1 + 255 + 2 + 65535 + 2 + 65534 };

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
	ALERT_NO_RENEGOTIATION = 100,
	ALERT_NONE = -1,
};

enum { ALERT_LEVEL_WARNING = 1, ALERT_LEVEL_FATAL = 2 };

/* How a version of TLS protects records with an AEAD. */
struct record_format {
	bool hides_type; /* behind the content, with padding: TLS 1.3 */
	uint8_t prefix;  /* bytes before what is sealed: header, nonce */
	uint8_t aad_len;
	uint8_t overhead; /* bytes of a record beside content and padding */
	uint16_t body_max;
};

const struct record_format *record_format(const struct suite *suite);

/* Bytes of a nonce that are derived with the keys: all but those on the wire. */
size_t record_iv_len(const struct record_format *format);

/*
 * Bytes that must be free before a record's first one while it is sealed, for
 * an engine that puts the AAD before what it seals.
 */
size_t record_lead(const struct record_format *format);

/*
 * Write what precedes the sealed bytes of a record: format->prefix bytes.
 * number is the part of its nonce that is on the wire, if one is; body_len what
 * the header announces.
 */
void record_put_prefix(const struct record_format *format, uint8_t *wire,
		       uint8_t type, uint64_t number, size_t body_len);

/*
 * The body length that a received header announces, or -EPROTO (no protected
 * record) or -EMSGSIZE (longer than allowed) or -EBADMSG (too short to hold
 * nonce and tag), with the alert that goes with it.
 */
ssize_t record_parse_header(const struct record_format *format,
			    const uint8_t header[RECORD_HEADER], int *alert);

/*
 * Write the additional data of a record, format->aad_len bytes. type and
 * body_len are those of its header.
 */
void record_aad(const struct record_format *format, uint8_t *aad, uint8_t type,
		uint64_t seq, size_t body_len);

/*
 * The per-record nonce: iv xor number (RFC 8446 5.3, RFC 7905 2). Where a part
 * of it is on the wire, the rest of iv is zero, so that the same comes to iv
 * followed by number (RFC 5288 3, RFC 6655 3).
 */
void record_nonce(uint8_t nonce[RECORD_NONCE], const uint8_t iv[RECORD_NONCE],
		  uint64_t number);

/* That number for a record received: what is on the wire, else seq. */
uint64_t record_nonce_number(const struct record_format *format,
			     const uint8_t *wire, uint64_t seq);

/*
 * Content and type of what was opened, the record's header being given: the
 * content's length; -EPROTO if there is no type, -EMSGSIZE if the content is
 * longer than max, or with type byte and padding longer than max + 1 (RFC 8446
 * 5.4).
 */
ssize_t record_content(const struct record_format *format,
		       const uint8_t header[RECORD_HEADER],
		       const uint8_t *inner, size_t len, size_t max,
		       uint8_t *type);

/*
 * How many zeros go behind the content type of a record of len bytes to make
 * TLSInnerPlaintext a multiple of block (0: of nothing), or as long as it may
 * be, max + 1 bytes (RFC 8446 5.4).
 */
size_t record_padding(size_t len, size_t block, size_t max);

/* As many zeros as that can be. */
extern const uint8_t record_zeros[RECORD_PLAIN_MAX];

#endif
