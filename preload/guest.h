/* SPDX-License-Identifier: MIT */
/*
 * An SSL of the program's, from SSL_new() to SSL_free(): prepared, so that it can
 * be taken over after its handshake; then taken over, or left to OpenSSL, for a
 * reason.
 */
#ifndef ASYNCTLS_GUEST_H
#define ASYNCTLS_GUEST_H

#include <stdbool.h>
#include <stddef.h>

#include <openssl/ssl.h>

#include "stream.h"

typedef void (*guest_info)(const SSL *ssl, int where, int ret);

enum guest_state { GUEST_WAITS, GUEST_TAKEN, GUEST_LEFT };

struct guest {
	enum guest_state state;
	struct stream *stream; /* once it was taken over */
	unsigned tries;
	bool read_ahead; /* the program wants it; not during the handshake */
	guest_info info; /* the program's, of the SSL itself */
	/* what there is no call to ask for */
	const char *against; /* why it cannot be taken over, or NULL */
	size_t max_send, split_send; /* 0: never set */
};

/* What a program sets on an SSL_CTX and no call tells, for each of its SSLs. */
struct guest_house {
	const char *against;
	size_t max_send, split_send;
};

/* Off: all calls are OpenSSL's, nothing is prepared. */
void guest_start(bool on);
bool guest_is_on(void);

/*
 * Before the first SSL_CTX: what OpenSSL counts (ex_data) it counts in the
 * library context that is this thread's default, and while an SSL_CTX is being
 * configured that is another.
 */
void guest_expect(void);
/* The SSL_CTX of handshakes to come; NULL is fine. */
void guest_prepare_ctx(SSL_CTX *ctx);
/* NULL: no memory, or it is not wanted. */
struct guest_house *guest_house(SSL_CTX *ctx);
/* A new SSL, of a SSL_CTX that was prepared. */
void guest_prepare(SSL *ssl);
/* It may be used for another connection: SSL_clear(). */
void guest_forget(SSL *ssl);

struct guest *guest_of(const SSL *ssl);

/*
 * The SSL's stream, if it is, or now becomes, one that was taken over; else
 * NULL, and the call is OpenSSL's. Also NULL once it has been returned.
 */
struct stream *guest_stream(SSL *ssl);
/* The same, but nothing is taken over by it. */
struct stream *guest_taken(const SSL *ssl);
/* After a call of OpenSSL's that may have ended the handshake. */
void guest_try(SSL *ssl);

/* The callback that SSL_set_info_callback() really sets. */
void guest_call_info(const SSL *ssl, int where, int ret);

#endif
