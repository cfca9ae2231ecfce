/* SPDX-License-Identifier: MIT */
/*
 * Session tickets that arrive after the hand-over (RFC 8446 4.6.1), for a
 * client that wants to resume.
 *
 * OpenSSL alone can make a session of a NewSessionTicket, since it alone has
 * the resumption secret, and it takes one from a record and in no other way.
 * But its read state stands where the hand-over left it. So a ticket is sealed
 * once more, in a record with the sequence number that OpenSSL expects next
 * under the key it still has, and SSL_read() finds that in a memory BIO; then
 * the SSL_CTX's callback for new sessions is called as ever.
 *
 * The peer has sealed a record with this key and number, perhaps another one.
 * Twice the same nonce gives nothing away here: this record never leaves this
 * file.
 *
 * All but tickets_feed() and tickets_free() belong under the lock of the
 * context.
 */
#ifndef ASYNCTLS_TICKET_H
#define ASYNCTLS_TICKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"
#include "keys/keys.h"

struct ssl_st;
struct tickets; /* of one connection */

enum { TICKETS_WAIT_MAX = 32 << 10 }; /* bytes of messages, not yet fed */

/* Is this a client, of TLS 1.3, whose SSL_CTX keeps client sessions? */
bool tickets_wanted(struct ssl_st *ssl);

/*
 * For an SSL which is being handed over and holds no part of a record, with
 * the generation and sequence number of the next record it would read, and the
 * content it takes in one at most. Takes references. NULL: no memory.
 */
struct tickets *tickets_new(struct ssl_st *ssl, struct keygen *gen,
			    uint64_t seq, size_t plain_max);
/* Drop the key generation; nothing is sealed from now on. */
void tickets_let_go(struct tickets *t);
/*
 * After that. Drops the reference to the SSL, which may call the application's
 * callbacks.
 */
void tickets_free(struct tickets *t);

/*
 * A message begins: its header, and how many bytes will follow; then those, in
 * pieces. What would be more than TICKETS_WAIT_MAX, or finds no memory, is
 * left out. t may be NULL: nobody wants it.
 */
void tickets_begin(struct tickets *t, const uint8_t header[4], size_t len);
void tickets_add(struct tickets *t, const uint8_t *bytes, size_t len);

/*
 * Seal what waits with this engine, a synchronous one. Returns whether
 * tickets_feed() is to be called now; until that has returned, false.
 */
bool tickets_seal(struct tickets *t, struct engine *engine);
/*
 * Have OpenSSL read it. Calls the application's callback for sessions in this
 * thread, and no other: it may have done away with what they need, its SSL.
 */
void tickets_feed(struct tickets *t, int fd);

#endif
