/* SPDX-License-Identifier: MIT */
/*
 * What goes by between OpenSSL and its BIOs, from the handshake on: secrets as
 * they are logged, and records as they are read and written. What the hand-over
 * knows of an SSL it has from here.
 */
#ifndef ASYNCTLS_FOLLOW_H
#define ASYNCTLS_FOLLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

#include "record/cipher.h"
#include "record/record.h"

enum {
	FOLLOW_RANDOM = 32,
	/*
	 * So many records at most are kept of a direction: what a handshake
	 * message may be spread over.
	 */
	FOLLOW_RECENT = 32,
};

/* A record as it goes by. */
struct follow_wire {
	uint8_t *bytes;
	size_t len, size;
};

/* One direction, from the moment OpenSSL began to use its key. */
struct follow_side {
	bool known;   /* that was seen, or lost */
	bool logged;  /* TLS 1.3: when its secret was */
	bool stalled; /* OpenSSL holds bytes that the socket did not take */
	bool ahead;   /* one read went past the end of a record */
	/*
	 * Records that ended in the latest read. OpenSSL reads when it has no
	 * whole one left: all before these it has taken.
	 */
	unsigned fresh;
	bool keeps_tail;
	bool at_start; /* of what a server receives: may be of SSLv2's form */
	int lost; /* -errno if the records could not be followed, and why */
	const char *lost_why;
	uint8_t secret[CIPHER_SECRET_MAX];
	size_t secret_len;
	uint64_t seq;
	unsigned number; /* KeyUpdates before */
	struct follow_wire current;
	/* whole ones before it, in RECORD_WIRE_MAX bytes; the latest always */
	struct follow_wire recent;
	unsigned recents;
	size_t latest; /* where that one begins */
	/*
	 * Received in the handshake, no more than OpenSSL can hold of it; from
	 * the start on only where OpenSSL has read ahead then: what it has of
	 * this side's is the end of that.
	 */
	struct follow_wire tail;
	/* The BIO's own count at the start, and what we have seen since. */
	uint64_t base, seen;
	BIO *bio;
	struct hook *hook;
};

struct follow {
	uint8_t random[FOLLOW_RANDOM]; /* the client's: which handshake this is
					*/
	bool logged;                   /* TLS 1.3: made when secrets were */
	/* the SSL's at the start, whose cache has the session; it keeps it */
	SSL_CTX *session_ctx;
	struct follow_side tx, rx;
};

/*
 * Call tls_handoff_prepare()'s callbacks from now on. 0, or -errno with *why
 * set to static text. See handoff_prepare().
 */
int follow_prepare(SSL_CTX *ssl_ctx, const char **why);

/* The callback for information of the SSL itself has been called. */
void follow_info(const SSL *ssl, int where);

/*
 * What the application has set, where this is what is set: itself, or the one
 * that one of ours stands in front of.
 */
typedef void (*follow_info_fn)(const SSL *ssl, int where, int ret);
SSL_CTX_keylog_cb_func follow_keylog_of(const SSL_CTX *ssl_ctx,
					SSL_CTX_keylog_cb_func set);
follow_info_fn follow_info_of(const SSL_CTX *ssl_ctx, follow_info_fn set);

/*
 * What is known of an SSL: 0; *follow is NULL if nothing is. -ENOMEM: there was
 * no memory for it when it was to be had.
 */
int follow_find(const struct follow **follow, const SSL *ssl);
/* Stop, wipe what was kept, and take the callbacks off the BIOs. */
void follow_end(SSL *ssl);

/* Does all that this side reads or writes through this BIO go by here? */
bool follow_sees(const struct follow_side *side, const BIO *bio);
/*
 * Is this a BIO of a kind that is followed: one of a descriptor, or, after
 * follow_any_bio() in this process, any?
 */
bool follow_bio(BIO *bio);
bool follow_has_descriptor(BIO *bio);
void follow_any_bio(void);
/* What follow_prepare() needs of OpenSSL once; false: no memory. */
bool follow_start(void);

#endif
