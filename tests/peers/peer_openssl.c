// SPDX-License-Identifier: MIT
/* OpenSSL as an end of pump.c's streams. */
#define _GNU_SOURCE 1
#include "../../examples/common.h"
#include "pump.h"

#include <errno.h>
#include <stdio.h>

#include <openssl/ssl.h>

static SSL_CTX *ssl_ctx;
static SSL *ssl;
static bool unfinished; /* SSL_write() is to be called again */

static void ossl_open(const struct pump_options *o, int fd)
{
	int version = o->tls12 ? TLS1_2_VERSION : TLS1_3_VERSION;

	ssl_ctx = SSL_CTX_new(TLS_method());
	if (!SSL_CTX_set_min_proto_version(ssl_ctx, version) ||
	    !SSL_CTX_set_max_proto_version(ssl_ctx, version) ||
	    !(o->tls12 ? SSL_CTX_set_cipher_list(ssl_ctx, o->suite->tls12)
		       : SSL_CTX_set_ciphersuites(ssl_ctx, o->suite->tls13)))
		die("set-up: %s", openssl_words());
	if (o->server &&
	    (SSL_CTX_use_certificate_chain_file(ssl_ctx, o->cert) != 1 ||
	     SSL_CTX_use_PrivateKey_file(ssl_ctx, o->key, 1) != 1))
		die("certificate: %s", openssl_words());
	if (o->padding && !SSL_CTX_set_block_padding(ssl_ctx, o->padding))
		die("padding: %s", openssl_words());
	SSL_CTX_set_mode(ssl_ctx, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					  SSL_MODE_ENABLE_PARTIAL_WRITE);
	ssl = SSL_new(ssl_ctx);
	SSL_set_fd(ssl, fd);
	if ((o->server ? SSL_accept(ssl) : SSL_connect(ssl)) != 1)
		die("handshake: %s", openssl_words());
	pump_no_block(fd);
}

static ssize_t result(int n)
{
	switch (SSL_get_error(ssl, n)) {
	case SSL_ERROR_NONE:
		return n;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return -EAGAIN;
	}
	die("%s", openssl_words());
}

/*
 * A defect of OpenSSL, 3.0 to 3.6: with a KeyUpdate to answer, and its own write
 * unfinished, SSL_read() sends the answer when it meets another KeyUpdate: in the
 * middle of that write, and fails with "bad length". So read on when it has
 * been sent, which is with the next write.
 */
static ssize_t ossl_read(void *buf, size_t len)
{
	if (unfinished && SSL_get_key_update_type(ssl) != SSL_KEY_UPDATE_NONE)
		return -EAGAIN;
	return result(SSL_read(ssl, buf, (int)len));
}

static ssize_t ossl_write(const void *buf, size_t len)
{
	ssize_t n = result(SSL_write(ssl, buf, (int)len));

	unfinished = n == -EAGAIN;
	return n;
}

static void ossl_update(void)
{
	/* Not while one is under way: it takes a few reads and writes. */
	if (SSL_get_key_update_type(ssl) == SSL_KEY_UPDATE_NONE &&
	    !SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED))
		die("KeyUpdate: %s", openssl_words());
}

static int ossl_shutdown(void)
{
	int n = SSL_shutdown(ssl);

	return n >= 0 || result(n) >= 0 ? 0 : -EAGAIN;
}

static void ossl_wait(bool writing)
{
	pump_poll(SSL_get_fd(ssl), writing);
}

static void ossl_describe(char *buf, size_t len)
{
	snprintf(buf, len, "%s %s", SSL_get_version(ssl),
		 SSL_get_cipher_name(ssl));
}

static void ossl_close(void)
{
	SSL_free(ssl);
	SSL_CTX_free(ssl_ctx);
}

int main(int argc, char **argv)
{
	static const struct library openssl = {
		OPENSSL_VERSION_TEXT, ossl_open, ossl_read, ossl_write,
		ossl_update, ossl_shutdown, ossl_wait, ossl_describe,
		ossl_close,
	};

	return pump_main(argc, argv, &openssl);
}
