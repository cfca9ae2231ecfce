// SPDX-License-Identifier: MIT
/* Mbed TLS, 2.28 or 3, as an end of pump.c's streams: TLS 1.2 only, as 2.28. */
#define _GNU_SOURCE 1
#include "pump.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>

static mbedtls_ssl_context ssl;
static mbedtls_ssl_config config;
static mbedtls_entropy_context entropy;
static mbedtls_ctr_drbg_context drbg;
static mbedtls_x509_crt cert;
static mbedtls_pk_context key;
static mbedtls_net_context net;

static int must(int result, const char *what)
{
	char words[128];

	if (result >= 0)
		return result;
	mbedtls_strerror(result, words, sizeof(words));
	fprintf(stderr, "Mbed TLS: %s: %s\n", what, words);
	exit(1);
}

static int parse_key(const char *path)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
	return mbedtls_pk_parse_keyfile(&key, path, NULL,
					mbedtls_ctr_drbg_random, &drbg);
#else
	return mbedtls_pk_parse_keyfile(&key, path, NULL);
#endif
}

static void mbed_open(const struct pump_options *o, int fd)
{
	static int suites[2];

	if (!o->tls12)
		must(MBEDTLS_ERR_SSL_FEATURE_UNAVAILABLE, "TLS 1.3");
	mbedtls_ssl_init(&ssl);
	mbedtls_ssl_config_init(&config);
	mbedtls_entropy_init(&entropy);
	mbedtls_ctr_drbg_init(&drbg);
	mbedtls_x509_crt_init(&cert);
	mbedtls_pk_init(&key);
	must(mbedtls_ctr_drbg_seed(&drbg, mbedtls_entropy_func, &entropy, NULL,
				   0),
	     "random numbers");
	must(mbedtls_ssl_config_defaults(
		     &config,
		     o->server ? MBEDTLS_SSL_IS_SERVER : MBEDTLS_SSL_IS_CLIENT,
		     MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT),
	     "set-up");
	mbedtls_ssl_conf_rng(&config, mbedtls_ctr_drbg_random, &drbg);
	mbedtls_ssl_conf_authmode(&config, MBEDTLS_SSL_VERIFY_NONE);
#if MBEDTLS_VERSION_NUMBER >= 0x03020000
	mbedtls_ssl_conf_max_tls_version(&config, MBEDTLS_SSL_VERSION_TLS1_2);
#endif
	suites[0] = mbedtls_ssl_get_ciphersuite_id(o->suite->tls12_iana);
	mbedtls_ssl_conf_ciphersuites(&config, suites);
	if (o->server) {
		must(mbedtls_x509_crt_parse_file(&cert, o->cert),
		     "certificate");
		must(parse_key(o->key), "key");
		must(mbedtls_ssl_conf_own_cert(&config, &cert, &key),
		     "certificate");
	}
	must(mbedtls_ssl_setup(&ssl, &config), "set-up");
	net.fd = fd;
	mbedtls_ssl_set_bio(&ssl, &net, mbedtls_net_send, mbedtls_net_recv,
			    NULL);
	must(mbedtls_ssl_handshake(&ssl), "handshake");
	pump_no_block(fd);
}

static ssize_t result(int n, const char *what)
{
	if (n == MBEDTLS_ERR_SSL_WANT_READ || n == MBEDTLS_ERR_SSL_WANT_WRITE)
		return -EAGAIN;
	return must(n, what);
}

static ssize_t mbed_read(void *buf, size_t len)
{
	int n = mbedtls_ssl_read(&ssl, buf, len);

	if (n == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY)
		return 0;
	if (n == 0)
		n = MBEDTLS_ERR_SSL_CONN_EOF;
	return result(n, "receive");
}

static ssize_t mbed_write(const void *buf, size_t len)
{
	return result(mbedtls_ssl_write(&ssl, buf, len), "send");
}

static int mbed_shutdown(void)
{
	return (int)result(mbedtls_ssl_close_notify(&ssl), "close");
}

static void mbed_wait(bool writing)
{
	pump_poll(net.fd, writing);
}

static void mbed_describe(char *buf, size_t len)
{
	snprintf(buf, len, "%s %s", mbedtls_ssl_get_version(&ssl),
		 mbedtls_ssl_get_ciphersuite(&ssl));
}

static void mbed_close(void)
{
	mbedtls_ssl_free(&ssl);
	mbedtls_ssl_config_free(&config);
	mbedtls_ctr_drbg_free(&drbg);
	mbedtls_entropy_free(&entropy);
	mbedtls_x509_crt_free(&cert);
	mbedtls_pk_free(&key);
}

int main(int argc, char **argv)
{
	static const struct library mbedtls = {
		MBEDTLS_VERSION_STRING_FULL, mbed_open, mbed_read, mbed_write,
		NULL, mbed_shutdown, mbed_wait, mbed_describe, mbed_close,
	};

	return pump_main(argc, argv, &mbedtls);
}
