/* SPDX-License-Identifier: MIT */
/*
 * What a connection of OpenSSL's is made of at this moment: secrets, sequence
 * numbers, bytes under way. This folder alone knows <openssl/ssl.h>: what goes by
 * before the hand-over (follow), and session tickets after it (ticket).
 *
 * handoff_prepare() hooks the keylog and the info callback of an SSL_CTX. A BIO
 * callback is put (in front of any there is) on the connection's read and write
 * BIOs; it follows the record boundaries in both directions from the point where
 * each direction's key begins, counts records, and keeps the bytes of the latest
 * one.
 *
 * In TLS 1.3 that point is when the application secret is logged. A KeyUpdate
 * that OpenSSL processes is logged as well and begins the count anew. In TLS 1.2
 * records are followed from the handshake's start, of which the info callback
 * tells, and the count begins at ChangeCipherSpec, again with each
 * renegotiation; the master secret is had from the session.
 *
 * handoff_take() turns that into a struct handoff, or says why it will not; the
 * caller proves it, and only then calls handoff_commit().
 *
 * The proof, for each side with proof_len > 0: the last record opens under
 * (secret, seq - 1), and if what is in it is a handshake record, that ends with
 * a message and has no KeyUpdate. A KeyUpdate there would mean a libcrypto that
 * does not log its new secrets, and secret and seq would be stale although the
 * record opens; half a message would mean that the rest of it is still to come.
 * Where a message began in a record before, those before the last one show it.
 * A side with proof_len 0 has seq 0 and nothing to prove: its secret was logged
 * after the last record that went by.
 */
#ifndef ASYNCTLS_HANDOFF_H
#define ASYNCTLS_HANDOFF_H

#include <stdbool.h>

#include "keys/keys.h"
#include "record/cipher.h"
#include "record/record.h"

struct bio_st;
struct handoff_session;
struct ssl_st;
struct ssl_ctx_st;

/* One direction. */
struct handoff_side {
	uint8_t secret[CIPHER_SECRET_MAX]; /* TLS 1.3 */
	uint64_t seq; /* of the next record */
	unsigned number; /* KeyUpdates before this secret */
	/*
	 * The records before that, whole, as they were on the wire, as many as
	 * are known and at least one; proof_len 0 if there was none under this
	 * secret (then seq is 0).
	 */
	uint8_t proof[RECORD_WIRE_MAX];
	size_t proof_len, proof_last; /* where the last one begins */
	unsigned proof_records;
};

struct handoff {
	const struct suite *suite;
	int fd; /* -1: BIOs of another kind, if follow_any_bio() allows that */
	bool is_server;
	size_t plain_max; /* content of a record, both ways (RFC 6066 4) */
	bool ignore_eof;  /* SSL_OP_IGNORE_UNEXPECTED_EOF is set */
	struct keys_tls12 tls12;
	uint8_t client_random[32];
	struct handoff_side tx, rx;
	/* decrypted by OpenSSL, not yet read by the application */
	uint8_t plain[RECORD_PLAIN_MAX];
	size_t plain_len;
	/* taken from the socket, not yet a whole record (plain_len is 0 then) */
	uint8_t sealed[RECORD_WIRE_MAX];
	size_t sealed_len;
	/*
	 * OpenSSL read ahead in the handshake and has not gone on since: of
	 * sealed, which is whole records and perhaps the start of one, only the
	 * end is under rx's secret, from seq 0 on, and of that OpenSSL has taken
	 * what it has, but at least one byte is not.
	 */
	bool ahead;
};

/*
 * 0, or -errno with *why set to static text. May be called again, and must be
 * after the application has set a keylog callback of its own. Not while
 * handshakes of this SSL_CTX run in other threads.
 */
int handoff_prepare(struct ssl_ctx_st *ssl_ctx, const char **why);

/*
 * Fill h from the SSL, which stays as it was. 0, or -errno as tls_handoff()
 * documents, with *why set to static text and h wiped. h is large: allocate it.
 */
int handoff_take(struct handoff *h, struct ssl_st *ssl, const char **why);

/*
 * The connection is ours: take the BIO callbacks off, wipe what was kept, and
 * mark the SSL as shut down so that SSL_free() sends nothing and keeps the
 * session resumable. Only after handoff_take() said 0.
 *
 * From now on no BIO of the SSL closes the descriptor. Returns that which would
 * have (BIO_CLOSE), with a reference, or NULL.
 */
struct bio_st *handoff_commit(struct ssl_st *ssl);
/*
 * The connection is ours, but the SSL is to look as if it were not: take the BIO
 * callbacks off, wipe what was kept, and no more. Or it is not to be taken at all.
 */
void handoff_leave(struct ssl_st *ssl);
/*
 * This one may close the descriptor again, which it does when it is freed: now,
 * unless the SSL is still there. NULL is fine.
 */
void handoff_give_back(struct bio_st *bio, int fd);

/*
 * The session of this SSL, of TLS 1.2, and the SSL_CTX that keeps it, with
 * references; NULL where none is kept, or there is no memory for that. Before
 * handoff_commit().
 */
struct handoff_session *handoff_session(struct ssl_st *ssl);
/*
 * Drop them. After a fatal alert the session must not be resumed (RFC 5246
 * 7.2.2): forget it then, which may call a callback of the application's.
 */
void handoff_session_end(struct handoff_session *session, bool forget);

/* Wipe h. */
void handoff_wipe(struct handoff *h);

#endif
