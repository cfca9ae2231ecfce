// SPDX-License-Identifier: MIT
/* GnuTLS as an end of pump.c's streams. */
#define _GNU_SOURCE 1
#include "../../examples/common.h"
#include "pump.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <gnutls/gnutls.h>

static gnutls_session_t session;
static gnutls_certificate_credentials_t credentials;
static unsigned padding, seed;
static int socket_fd;
static size_t padded; /* of the write begun */

static int must(int result, const char *what)
{
	if (result < 0)
		die("%s: %s", what, gnutls_strerror(result));
	return result;
}

static void gtls_open(const struct pump_options *o, int fd)
{
	char priority[256];
	const char *wrong;
	int n;

	snprintf(priority, sizeof(priority),
		 "NORMAL:-VERS-ALL:+VERS-TLS1.%c:-CIPHER-ALL:+%s:+AEAD",
		 o->tls12 ? '2' : '3', o->suite->cipher);
	padding = o->padding;
	seed = o->seed;
	socket_fd = fd;
	must(gnutls_certificate_allocate_credentials(&credentials), "memory");
	if (o->server)
		must(gnutls_certificate_set_x509_key_file(
			     credentials, o->cert, o->key, GNUTLS_X509_FMT_PEM),
		     "certificate");
	must(gnutls_init(&session,
			 (o->server ? GNUTLS_SERVER : GNUTLS_CLIENT)),
	     "memory");
	must(gnutls_priority_set_direct(session, priority, &wrong), priority);
	must(gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE,
				    credentials),
	     "credentials");
	gnutls_transport_set_int(session, fd);
	do
		n = gnutls_handshake(session);
	while (n < 0 && !gnutls_error_is_fatal(n));
	must(n, "handshake");
	pump_no_block(fd);
}

static ssize_t result(ssize_t n, const char *what)
{
	if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)
		return -EAGAIN;
	return must((int)n, what);
}

static ssize_t gtls_read(void *buf, size_t len)
{
	return result(gnutls_record_recv(session, buf, len), "receive");
}

static ssize_t gtls_write(const void *buf, size_t len)
{
	ssize_t n;

	if (!padding)
		return result(gnutls_record_send(session, buf, len), "send");
	/* Records of up to 16 KiB with their padding, which is random here. */
	if (len > 8192)
		len = 8192;
	if (!padded)
		padded = 1 + (unsigned)rand_r(&seed) % padding;
	n = result(gnutls_record_send2(session, buf, len, padded, 0), "send");
	if (n != -EAGAIN)
		padded = 0;
	return n;
}

static void gtls_update(void)
{
	int n;

	do { /* it may have to wait for the socket, but not for the peer */
		n = gnutls_session_key_update(session, GNUTLS_KU_PEER);
		if (n == GNUTLS_E_AGAIN)
			pump_poll(socket_fd, true);
	} while (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED);
	must(n, "KeyUpdate");
}

static int gtls_shutdown(void)
{
	return (int)result(gnutls_bye(session, GNUTLS_SHUT_WR), "close");
}

static void gtls_wait(bool writing)
{
	pump_poll(socket_fd, writing);
}

static void gtls_describe(char *buf, size_t len)
{
	snprintf(buf, len, "%s %s",
		 gnutls_protocol_get_name(gnutls_protocol_get_version(session)),
		 gnutls_cipher_get_name(gnutls_cipher_get(session)));
}

static void gtls_close(void)
{
	gnutls_deinit(session);
	gnutls_certificate_free_credentials(credentials);
}

int main(int argc, char **argv)
{
	static const struct library gnutls = {
		"GnuTLS " GNUTLS_VERSION, gtls_open, gtls_read, gtls_write,
		gtls_update, gtls_shutdown, gtls_wait, gtls_describe,
		gtls_close,
	};

	return pump_main(argc, argv, &gnutls);
}
