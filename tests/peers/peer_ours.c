// SPDX-License-Identifier: MIT
/* This library as an end of pump.c's streams: by its public calls alone. */
#define _GNU_SOURCE 1
#include "../../examples/common.h"
#include "pump.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/ssl.h>

static struct tls_context *ctx;
static struct tls_conn *conn;
static unsigned update_flags;
static unsigned turn; /* the calls that write take turns */

static SSL_CTX *make_ssl_ctx(const struct pump_options *o)
{
	SSL_CTX *ssl_ctx = SSL_CTX_new(TLS_method());
	int version = o->tls12 ? TLS1_2_VERSION : TLS1_3_VERSION;

	if (!ssl_ctx || !SSL_CTX_set_min_proto_version(ssl_ctx, version) ||
	    !SSL_CTX_set_max_proto_version(ssl_ctx, version) ||
	    !(o->tls12 ? SSL_CTX_set_cipher_list(ssl_ctx, o->suite->tls12)
		       : SSL_CTX_set_ciphersuites(ssl_ctx, o->suite->tls13)))
		die("OpenSSL: %s", openssl_words());
	if (o->server &&
	    (SSL_CTX_use_certificate_chain_file(ssl_ctx, o->cert) != 1 ||
	     SSL_CTX_use_PrivateKey_file(ssl_ctx, o->key, 1) != 1))
		die("OpenSSL: %s", openssl_words());
	return ssl_ctx;
}

static void ours_open(const struct pump_options *o, int fd)
{
	struct tls_config config = TLS_CONFIG_INIT;
	SSL_CTX *ssl_ctx = make_ssl_ctx(o);
	SSL *ssl;

	update_flags = o->unanswered ? 0 : TLS_UPDATE_REQUESTED;
	config.kind = o->worker ? TLS_CONTEXT_WORKER : TLS_CONTEXT_LOOP;
	if (tls_context_new(&ctx, &config) || tls_handoff_prepare(ssl_ctx))
		die("%s", tls_last_error());
	ssl = SSL_new(ssl_ctx);
	SSL_set_fd(ssl, fd);
	if ((o->server ? SSL_accept(ssl) : SSL_connect(ssl)) != 1)
		die("handshake: %s", openssl_words());
	pump_no_block(fd);
	if (tls_handoff(&conn, ctx, ssl))
		die("hand-over: %s", tls_last_error());
	if (tls_conn_set_padding(conn, o->padding))
		die("%s", tls_last_error());
	SSL_free(ssl);
	SSL_CTX_free(ssl_ctx);
}

static ssize_t taken(ssize_t n)
{
	if (n < 0 && n != -EAGAIN)
		die("%s", tls_conn_error(conn));
	return n;
}

static ssize_t ours_read(void *buf, size_t len)
{
	return taken(tls_read(conn, buf, len));
}

static ssize_t ours_write(const void *buf, size_t len)
{
	struct iovec iov[2] = {
		{ (void *)buf, len / 3 },
		{ (char *)buf + len / 3, len - len / 3 },
	};

	switch (turn++ % 3) {
	case 0:
		return taken(tls_write(conn, buf, len));
	case 1:
		return taken(tls_writev(conn, iov, 2));
	default:
		return taken(tls_send(conn, buf, len, TLS_MORE));
	}
}

static void ours_update(void)
{
	if (tls_conn_update_keys(conn, update_flags))
		die("%s", tls_conn_error(conn));
}

static int ours_shutdown(void)
{
	return taken(tls_shutdown(conn)) == 0 ? 0 : -EAGAIN;
}

static void ours_wait(bool writing)
{
	struct tls_event event;

	(void)writing;
	taken(tls_flush(conn)); /* what TLS_MORE has left open */
	if (tls_context_wait(ctx, &event, 1, -1) < 0)
		die("%s", tls_last_error());
}

static void ours_describe(char *buf, size_t len)
{
	tls_conn_describe(conn, buf, len);
}

static void ours_close(void)
{
	if (tls_close(conn, 10000))
		die("closed with something unsent");
	tls_context_free(ctx);
}

int main(int argc, char **argv)
{
	static const struct library ours = {
		"libasynctls", ours_open, ours_read, ours_write, ours_update,
		ours_shutdown, ours_wait, ours_describe, ours_close,
	};

	return pump_main(argc, argv, &ours);
}
