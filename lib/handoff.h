/* SPDX-License-Identifier: MIT */
/*
 * What a connection of OpenSSL's is made of at this moment: secrets, sequence
 * numbers, bytes under way. The only part that knows <openssl/ssl.h>.
 *
 * handoff_prepare() hooks the keylog callback of an SSL_CTX. When a handshake
 * derives its secrets, a BIO callback is put (in front of any there is) on the
 * connection's read and write BIOs; it follows the record boundaries in both
 * directions from the point where each direction's application key begins,
 * counts records, and keeps the bytes of the latest one. handoff_take() turns
 * that into a struct handoff, or says why it will not; the caller proves it by
 * opening the latest record of each direction with the keys it was given, and
 * only then calls handoff_commit().
 */
#ifndef ASYNCTLS_HANDOFF_H
#define ASYNCTLS_HANDOFF_H

#include <stdbool.h>

#include "cipher.h"
#include "record.h"

struct ssl_st;
struct ssl_ctx_st;

/* One direction. */
struct handoff_side {
	uint8_t secret[CIPHER_SECRET_MAX];
	uint64_t seq; /* of the next record */
	/*
	 * The record before that, whole, as it was on the wire; proof_len 0
	 * if there was none under this secret (then seq is 0).
	 */
	uint8_t proof[RECORD_WIRE_MAX];
	size_t proof_len;
};

struct handoff {
	const struct cipher *cipher;
	int fd;
	bool is_server;
	struct handoff_side tx, rx;
	/* decrypted by OpenSSL, not yet read by the application */
	uint8_t plain[RECORD_PLAIN_MAX];
	size_t plain_len;
	/* taken from the socket, not yet a whole record */
	uint8_t sealed[RECORD_WIRE_MAX];
	size_t sealed_len;
};

/* 0, or -errno with *why set to static text. May be called twice. */
int handoff_prepare(struct ssl_ctx_st *ssl_ctx, const char **why);

/*
 * Fill h from the SSL, which stays as it was. 0, or -errno as tls_handoff()
 * documents, with *why set to static text. h is large: allocate it.
 */
int handoff_take(struct handoff *h, struct ssl_st *ssl, const char **why);

/*
 * The connection is ours: take the BIO callbacks off, wipe what was kept, and
 * mark the SSL as shut down so that SSL_free() sends nothing and keeps the
 * session resumable.
 */
void handoff_commit(struct ssl_st *ssl);

/* Wipe h. */
void handoff_wipe(struct handoff *h);

#endif
