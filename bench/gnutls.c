/* SPDX-License-Identifier: MIT */
/* bench-gnutls: gnutls_record_send() and gnutls_record_recv(). */
#include "bench.h"
#include "certificate.h"
#include "common.h"

#include <errno.h>
#include <stdio.h>

#include <gnutls/gnutls.h>

static __thread gnutls_certificate_credentials_t credentials;

static void check(int n)
{
	if (n < 0)
		die("GnuTLS: %s", gnutls_strerror(n));
}

static void prepare(void)
{
	gnutls_datum_t pair[2] = { 0 };
	EVP_PKEY *key;
	X509 *cert;

	key = EVP_EC_gen("P-256");
	cert = key ? certificate_new(key) : NULL;
	if (!cert)
		die("certificate: %s", openssl_words());
	pair[0].size = (unsigned)i2d_X509(cert, &pair[0].data);
	pair[1].size = (unsigned)i2d_PrivateKey(key, &pair[1].data);
	check(gnutls_certificate_allocate_credentials(&credentials));
	check(gnutls_certificate_set_x509_key_mem(
		credentials, &pair[0], &pair[1], GNUTLS_X509_FMT_DER));
	OPENSSL_free(pair[0].data);
	OPENSSL_free(pair[1].data);
	X509_free(cert);
	EVP_PKEY_free(key);
}

static void *open_end(int fd, enum side side, bool under_test)
{
	gnutls_session_t session;
	char priority[128];
	int n;

	(void)under_test;
	snprintf(priority, sizeof(priority),
		 "NORMAL:-VERS-ALL:+VERS-TLS1.%d:-CIPHER-ALL:+%s",
		 options.version - 10, options.cipher->gnutls);
	check(gnutls_init(&session,
			  (side == SERVER ? GNUTLS_SERVER : GNUTLS_CLIENT) |
				  GNUTLS_NO_TICKETS));
	check(gnutls_priority_set_direct(session, priority, NULL));
	check(gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE,
				     credentials));
	gnutls_transport_set_int(session, fd);
	do
		n = gnutls_handshake(session);
	while (n < 0 && !gnutls_error_is_fatal(n));
	check(n);
	return session;
}

static ssize_t result(ssize_t n)
{
	if (n >= 0)
		return n;
	return gnutls_error_is_fatal((int)n) ? -ECONNRESET : -EAGAIN;
}

static ssize_t write_end(void *end, const void *buf, size_t len)
{
	return result(gnutls_record_send(end, buf, len));
}

static ssize_t read_end(void *end, void *buf, size_t len)
{
	return result(gnutls_record_recv(end, buf, len));
}

static void finish(void *end)
{
	gnutls_bye(end, GNUTLS_SHUT_WR);
}

static void close_end(void *end)
{
	gnutls_deinit(end);
}

static ssize_t to_memory(gnutls_transport_ptr_t sealed, const void *bytes,
			 size_t len)
{
	sealed_add(sealed, bytes, len);
	return (ssize_t)len;
}

static void seal(void *end, const void *buf, size_t len, struct sealed *s)
{
	gnutls_transport_set_ptr(end, s);
	gnutls_transport_set_push_function(end, to_memory);
	while (len) {
		ssize_t n = gnutls_record_send(end, buf, len);

		check((int)n);
		buf = (const char *)buf + n;
		len -= (size_t)n;
	}
}

static const char *library(void)
{
	static char words[64];

	snprintf(words, sizeof(words), "GnuTLS %s", gnutls_check_version(NULL));
	return words;
}

const struct contender contender = {
	.name = "gnutls",
	.library = library,
	.prepare = prepare,
	.open = open_end,
	.write = write_end,
	.read = read_end,
	.finish = finish,
	.seal = seal,
	.close = close_end,
};
