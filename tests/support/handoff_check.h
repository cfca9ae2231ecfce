/* SPDX-License-Identifier: MIT */
/*
 * What tests of the hand-over assert: that secrets and sequence numbers are
 * right, by sealing and opening real records with libcrypto's AEADs.
 */
#ifndef ASYNCTLS_TESTS_HANDOFF_CHECK_H
#define ASYNCTLS_TESTS_HANDOFF_CHECK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <openssl/ssl.h>

#include "openssl/handoff.h"
#include "tls_pair.h"

void prepare_for_handoff(SSL_CTX *ctx);
/* Have the client ask for records of at most 512 bytes (RFC 6066 4). */
void limit_fragments(SSL *server, SSL *client);
/* ... and offer what OpenSSL 3.2 and later leave out by default (CCM_8). */
void prepare_without_security_level(SSL_CTX *ctx);
/* Among the initializers of struct tls_pair_options. */
#define PREPARED .prepare_ctx = prepare_for_handoff

/* tls_pair_new(), which must succeed. */
void open_pair(struct tls_pair *pair, struct tls_pair_options options);

/* handoff_take() must succeed and be proved. Free with drop(). */
struct handoff *take(SSL *ssl);
void drop(struct handoff *h);

/*
 * Play the part of the library: read and write records from where h says, with
 * OpenSSL at the other end. Sockets must be blocking.
 */
void assert_goes_on(struct handoff *h, SSL *peer);

/* Hand one end over for good and let it talk to OpenSSL at the other. */
void assert_hand_over(SSL *ssl, SSL *peer);
/* Both ends of such a pair, in turn. */
void assert_either_end(struct tls_pair_options options);

/* Such a handshake, a few bytes at a time, and both ends handed over. */
void assert_small_steps(struct tls_pair_options options);

/* Seal or open one record in h's name, as above. */
void send_record(struct handoff *h, uint8_t type, const void *content,
		 size_t len);
/* The next record of application data; others before it are passed over. */
size_t receive_data(struct handoff *h, uint8_t *content);

/* handoff_take() must fail so, with these words in its reason. */
void assert_refused(SSL *ssl, int error, const char *words);

/* Data goes to and fro between OpenSSL at both ends. Blocking sockets. */
void assert_still_usable(SSL *a, SSL *b);
void say(SSL *from, const char *what);
void hear(SSL *to, const char *what);

#endif
