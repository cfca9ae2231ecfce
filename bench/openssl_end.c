/* SPDX-License-Identifier: MIT */
#include "certificate.h"
#include "common.h"
#include "openssl_end.h"

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>

static void set_protocol(SSL_CTX *ctx)
{
	int version = options.version == 12 ? TLS1_2_VERSION : TLS1_3_VERSION;
	int ok = SSL_CTX_set_min_proto_version(ctx, version) &&
		 SSL_CTX_set_max_proto_version(ctx, version);

	if (ok && options.version == 12)
		ok = SSL_CTX_set_cipher_list(ctx, options.cipher->suite2);
	else if (ok)
		ok = SSL_CTX_set_ciphersuites(ctx, options.cipher->suite);
	if (!ok)
		die("OpenSSL: cipher or version: %s", openssl_words());
}

SSL_CTX *openssl_ctx(enum side side)
{
	SSL_CTX *ctx = SSL_CTX_new(side == SERVER ? TLS_server_method()
						  : TLS_client_method());
	EVP_PKEY *key;
	X509 *cert;

	if (!ctx)
		die("OpenSSL: %s", openssl_words());
	set_protocol(ctx);
	/* No tickets: they would be records between the data. */
	SSL_CTX_set_num_tickets(ctx, 0);
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
	if (side == CLIENT)
		return ctx;
	key = EVP_EC_gen("P-256");
	cert = key ? certificate_new(key) : NULL;
	if (!cert || SSL_CTX_use_certificate(ctx, cert) != 1 ||
	    SSL_CTX_use_PrivateKey(ctx, key) != 1)
		die("OpenSSL: %s", openssl_words());
	X509_free(cert);
	EVP_PKEY_free(key);
	return ctx;
}

SSL *openssl_open(SSL_CTX *ctx, int fd, enum side side)
{
	SSL *ssl = SSL_new(ctx);

	if (!ssl || !SSL_set_fd(ssl, fd) ||
	    (side == SERVER ? SSL_accept(ssl) : SSL_connect(ssl)) != 1)
		die("handshake: %s", openssl_words());
	return ssl;
}

void openssl_seal(void *end, const void *buf, size_t len, struct sealed *s)
{
	SSL *ssl = end;
	BIO *memory = SSL_get_wbio(ssl);
	char *bytes;

	if (BIO_method_type(memory) != BIO_TYPE_MEM) {
		memory = BIO_new(BIO_s_mem());
		if (!memory)
			die("OpenSSL: %s", openssl_words());
		SSL_set0_wbio(ssl, memory);
	}
	if (SSL_write(ssl, buf, (int)len) != (int)len)
		die("SSL_write: %s", openssl_words());
	len = (size_t)BIO_get_mem_data(memory, &bytes);
	sealed_add(s, bytes, len);
	(void)BIO_reset(memory);
}

const char *openssl_library(void)
{
	return OpenSSL_version(OPENSSL_VERSION);
}
