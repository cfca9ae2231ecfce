/* SPDX-License-Identifier: MIT */
/*
 * Two ends of a TLS connection made by OpenSSL in this process, for tests.
 * Calls return 0, or -1 after saying on stderr what went wrong.
 */
#ifndef ASYNCTLS_TESTS_TLS_PAIR_H
#define ASYNCTLS_TESTS_TLS_PAIR_H

#include <stdbool.h>
#include <stddef.h>

#include <openssl/ssl.h>

/* Everything zero: TLS 1.3, default suite and tickets, TCP, blocking. */
struct tls_pair_options {
	const char *suite; /* by OpenSSL's name, before TLS 1.3 a list */
	int version;       /* the only one spoken; 0: the suite's, else 1.3 */
	bool set_tickets;
	size_t tickets;    /* that the server sends, if set_tickets */
	bool unix_sockets; /* a socketpair instead of TCP over 127.0.0.1 */
	bool nonblocking;  /* left so after the handshake */
	bool psk;	   /* both have a key for TLS 1.2's PSK suites */
	bool client_cert;  /* the server asks for one, the client has one */
	/*
	 * Put a relay between the ends which carries at most that many bytes
	 * per step and direction, see tls_pair_step(). With unix_sockets.
	 */
	size_t trickle;
	/* Called for each SSL_CTX, and with both SSLs, before the handshake. */
	void (*prepare_ctx)(SSL_CTX *ctx);
	void (*prepare)(SSL *server, SSL *client);
	/* Take these contexts (another reference) instead of making some. */
	SSL_CTX *sctx, *cctx;
	SSL_SESSION *session; /* to be resumed */
};

struct tls_pair {
	int fd[2]; /* server's, client's */
	SSL *server, *client;
	SSL_CTX *sctx, *cctx;
	size_t trickle;
	int relay[2]; /* the relay's ends towards server and client, or -1 */
};

/* Everything up to the handshake; the descriptors are non-blocking. */
int tls_pair_open(struct tls_pair *pair,
		  const struct tls_pair_options *options);
/* Finish the handshake, both ends, whatever has been done of it. */
int tls_pair_handshake(struct tls_pair *pair);
/* Both, and then blocking descriptors unless asked otherwise. */
int tls_pair_new(struct tls_pair *pair, const struct tls_pair_options *options);
/* Frees and closes what is left: fields set to NULL or -1 are skipped. */
void tls_pair_free(struct tls_pair *pair);

/* Let the relay carry one step's bytes; returns how many. */
size_t tls_pair_step(struct tls_pair *pair);
/* Let it carry all there is, in large steps from now on. */
void tls_pair_carry(struct tls_pair *pair);

int tls_pair_set_blocking(struct tls_pair *pair, bool blocking);

#endif
