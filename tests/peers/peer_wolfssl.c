// SPDX-License-Identifier: MIT
/* wolfSSL as an end of pump.c's streams. */
#define _GNU_SOURCE 1
#include "pump.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>

static WOLFSSL_CTX *ssl_ctx;
static WOLFSSL *ssl;

static _Noreturn void fail(const char *what, int error)
{
	char words[WOLFSSL_MAX_ERROR_SZ];

	fprintf(stderr, "wolfSSL: %s: %s\n", what,
		wolfSSL_ERR_error_string((unsigned long)error, words));
	exit(1);
}

static void wolf_open(const struct pump_options *o, int fd)
{
	int n;

	wolfSSL_Init();
	ssl_ctx = wolfSSL_CTX_new(o->tls12 ? wolfTLSv1_2_method_ex(NULL)
					   : wolfTLSv1_3_method_ex(NULL));
	wolfSSL_CTX_set_verify(ssl_ctx, WOLFSSL_VERIFY_NONE, NULL);
	if (wolfSSL_CTX_set_cipher_list(ssl_ctx, o->tls12 ? o->suite->tls12
							  : o->suite->tls13) !=
	    WOLFSSL_SUCCESS)
		fail("cipher", 0);
	if (o->server &&
	    (wolfSSL_CTX_use_certificate_chain_file(ssl_ctx, o->cert) !=
		     WOLFSSL_SUCCESS ||
	     wolfSSL_CTX_use_PrivateKey_file(ssl_ctx, o->key,
					     WOLFSSL_FILETYPE_PEM) !=
		     WOLFSSL_SUCCESS))
		fail("certificate", 0);
	ssl = wolfSSL_new(ssl_ctx);
	wolfSSL_set_fd(ssl, fd);
	n = o->server ? wolfSSL_accept(ssl) : wolfSSL_connect(ssl);
	if (n != WOLFSSL_SUCCESS)
		fail("handshake", wolfSSL_get_error(ssl, n));
	pump_no_block(fd);
	wolfSSL_set_using_nonblock(ssl, 1);
}

static ssize_t result(int n, const char *what)
{
	int error = n > 0 ? 0 : wolfSSL_get_error(ssl, n);

	if (n > 0)
		return n;
	if (error == WOLFSSL_ERROR_ZERO_RETURN)
		return 0;
	if (error == WOLFSSL_ERROR_WANT_READ ||
	    error == WOLFSSL_ERROR_WANT_WRITE)
		return -EAGAIN;
	fail(what, error);
}

static ssize_t wolf_read(void *buf, size_t len)
{
	return result(wolfSSL_read(ssl, buf, (int)len), "receive");
}

static ssize_t wolf_write(const void *buf, size_t len)
{
	return result(wolfSSL_write(ssl, buf, (int)len), "send");
}

static void wolf_update(void)
{
	int n;

	do {
		n = wolfSSL_update_keys(ssl);
		if (n == WOLFSSL_ERROR_WANT_WRITE)
			pump_poll(wolfSSL_get_fd(ssl), true);
	} while (n == WOLFSSL_ERROR_WANT_WRITE);
	if (n != WOLFSSL_SUCCESS)
		fail("KeyUpdate", n);
}

static int wolf_shutdown(void)
{
	int n = wolfSSL_shutdown(ssl);

	if (n == WOLFSSL_SUCCESS || n == WOLFSSL_SHUTDOWN_NOT_DONE)
		return 0;
	return (int)result(n, "close");
}

static void wolf_wait(bool writing)
{
	pump_poll(wolfSSL_get_fd(ssl), writing);
}

static void wolf_describe(char *buf, size_t len)
{
	snprintf(buf, len, "%s %s", wolfSSL_get_version(ssl),
		 wolfSSL_get_cipher_name(ssl));
}

static void wolf_close(void)
{
	wolfSSL_free(ssl);
	wolfSSL_CTX_free(ssl_ctx);
	wolfSSL_Cleanup();
}

int main(int argc, char **argv)
{
	static const struct library wolfssl = {
		"wolfSSL " LIBWOLFSSL_VERSION_STRING, wolf_open, wolf_read,
		wolf_write, wolf_update, wolf_shutdown, wolf_wait,
		wolf_describe, wolf_close,
	};

	return pump_main(argc, argv, &wolfssl);
}
