/* SPDX-License-Identifier: MIT */
/* bench-openssl: SSL_write() and SSL_read(). */
#include "bench.h"
#include "common.h"
#include "openssl_end.h"

#include <errno.h>
#include <string.h>

static __thread SSL_CTX *ctx[2];

static void prepare(void)
{
	ctx[SERVER] = openssl_ctx(SERVER);
	ctx[CLIENT] = openssl_ctx(CLIENT);
	if (options.ktls)
		SSL_CTX_set_options(ctx[SERVER], SSL_OP_ENABLE_KTLS);
}

static void *open_end(int fd, enum side side, bool under_test)
{
	SSL *ssl = openssl_open(ctx[side], fd, side);

	if (under_test && options.ktls && !BIO_get_ktls_send(SSL_get_wbio(ssl)))
		die("the kernel does not take over the sending (kTLS)");
	if (options.epoll)
		SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE |
					  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	if (!strcmp(options.workload, "memory"))
		SSL_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
	return ssl;
}

static ssize_t result(SSL *ssl, int n)
{
	if (n > 0)
		return n;
	switch (SSL_get_error(ssl, n)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	}
	return -ECONNRESET;
}

static ssize_t write_end(void *end, const void *buf, size_t len)
{
	return result(end, SSL_write(end, buf, (int)len));
}

static ssize_t read_end(void *end, void *buf, size_t len)
{
	return result(end, SSL_read(end, buf, (int)len));
}

static void finish(void *end)
{
	SSL_shutdown(end);
}

static void close_end(void *end)
{
	SSL_free(end);
}

const struct contender contender = {
	.name = "openssl",
	.library = openssl_library,
	.prepare = prepare,
	.open = open_end,
	.write = write_end,
	.read = read_end,
	.finish = finish,
	.seal = openssl_seal,
	.close = close_end,
};
