/* SPDX-License-Identifier: MIT */
/*
 * What OpenSSL would do. The SSL of a connection that was taken over stands
 * where it stood then, with the same keys but other sequence numbers. A record
 * that is no data is sealed again under the number that OpenSSL expects next, and
 * OpenSSL reads it, from a BIO of ours; what it writes in answer is opened under
 * its number and sealed again under ours. So it is OpenSSL that raises errors,
 * sends alerts, changes keys, keeps sessions, calls callbacks.
 *
 * Its records never leave the process: twice the same nonce gives nothing away.
 *
 * For that a BIO of ours stands in place of the program's. A call of OpenSSL's
 * that has passed us by (by a pointer to libssl's own function, or a BIO with the
 * SSL in it) comes to it, too: from then on, as after shadow_stay(), every record
 * of the connection goes through it, or, if none of ours has gone yet, OpenSSL has
 * the program's back.
 */
#ifndef ASYNCTLS_SHADOW_H
#define ASYNCTLS_SHADOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"

struct bio_st;
struct ssl_st;
struct stream;

/* Handshake messages, as they go by in records: where they begin and end. */
struct shadow_messages {
	uint8_t header[4];
	unsigned have;
	size_t left;
};

struct shadow {
	struct bio_st *bio; /* made when it is first needed */
	/* the program's, while ours stands in their place */
	struct bio_st *rbio, *wbio;
	bool standing;
	bool stays; /* OpenSSL does everything */
	bool calling; /* it is in a call of ours */
	bool touched; /* there was one */
	uint64_t rx_seq, tx_seq; /* OpenSSL's */
	struct shadow_messages rx_messages, tx_messages;
	struct bytes in; /* for OpenSSL to read */
	struct bytes out; /* what it wrote of a record so far */
	uint8_t rest_type; /* of what the stream has left of a record */
	bool pulls;    /* when that is empty, the next record is received */
	bool eof;      /* the stream has ended */
	int error; /* -errno of a send of what OpenSSL wrote in the last call */
	bool full; /* as if nothing could be written */
	bool data_since; /* data went by since OpenSSL last saw a record */
	/* other keys than ours are in use: nothing is to be translated */
	bool rx_raw, tx_raw;
};

void shadow_init(struct shadow *shadow, uint64_t rx_seq, uint64_t tx_seq);
/* The SSL is going. */
void shadow_free(struct stream *s);

/* Have a BIO to put there: false, no memory. */
bool shadow_ready(struct stream *s);
/* Put it there; and the program's again. */
void shadow_stand(struct stream *s);
void shadow_step_aside(struct stream *s);
/* OpenSSL does everything from now on. */
void shadow_stay(struct stream *s);

/* Is a handshake message of the peer's under way? */
static inline bool shadow_in_message(const struct shadow *shadow)
{
	return shadow->rx_messages.have || shadow->rx_messages.left;
}

enum {
	SHADOW_GO_ON = 2, /* OpenSSL has taken it, and nothing has come of it */
};

/*
 * OpenSSL's opinion of a record that is no data, or could not be opened: of
 * content of this type; or of a record as it is; or of the end of the stream.
 * SHADOW_GO_ON, or what SSL_read() returned.
 */
int shadow_content(struct stream *s, uint8_t type, const uint8_t *content,
		   size_t len);
int shadow_record(struct stream *s, const uint8_t *record, size_t len);
int shadow_eof(struct stream *s);

/* Have OpenSSL do something, which may receive records (pulls). */
int shadow_call(struct stream *s, int (*call)(struct ssl_st *ssl), bool pulls);

#endif
