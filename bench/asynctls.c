/* SPDX-License-Identifier: MIT */
/* bench-asynctls: this library, after a handshake by OpenSSL. */
#include "bench.h"
#include "common.h"
#include "openssl_end.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static __thread SSL_CTX *ssl_ctx[2];
static __thread struct tls_context *ctx;

static struct tls_config config(void)
{
	struct tls_config c = TLS_CONFIG_INIT;

	if (!strcmp(options.context, "loop"))
		c.kind = TLS_CONTEXT_LOOP;
	else if (!strcmp(options.context, "worker"))
		c.kind = TLS_CONTEXT_WORKER;
	else
		die_usage("--context wants loop or worker");
	parse_engine_flag(&c, 'e', options.engine);
	return c;
}

static void prepare(void)
{
	struct tls_config c = config();
	int side;

	if (tls_context_new(&ctx, &c))
		die("%s", tls_last_error());
	for (side = SERVER; side <= CLIENT; side++) {
		ssl_ctx[side] = openssl_ctx(side);
		if (tls_handoff_prepare(ssl_ctx[side]))
			die("%s", tls_last_error());
	}
}

static void *open_end(int fd, enum side side, bool under_test)
{
	SSL *ssl = openssl_open(ssl_ctx[side], fd, side);
	struct tls_conn *conn;

	if (!under_test)
		return ssl;
	if (tls_handoff(&conn, ctx, ssl))
		die("hand-over: %s", tls_last_error());
	SSL_free(ssl);
	return conn;
}

static ssize_t write_end(void *end, const void *buf, size_t len)
{
	return tls_write(end, buf, len);
}

static ssize_t read_end(void *end, void *buf, size_t len)
{
	return tls_read(end, buf, len);
}

static void finish(void *end)
{
	if (tls_shutdown(end))
		die("close_notify: %s", tls_conn_error(end));
}

static void close_end(void *end)
{
	tls_close(end, 0);
}

static const char *library(void)
{
	static char words[64];

	snprintf(words, sizeof(words), "libasynctls %d.%d.%d",
		 ASYNCTLS_VERSION_MAJOR, ASYNCTLS_VERSION_MINOR,
		 ASYNCTLS_VERSION_PATCH);
	return words;
}

static const char *statistics(void)
{
	static char json[4096];
	struct tls_stats stats;

	tls_context_stats(ctx, &stats, sizeof(stats));
	tls_stats_json(&stats, json, sizeof(json));
	return json;
}

const struct contender contender = {
	.name = "asynctls",
	.library = library,
	.prepare = prepare,
	.open = open_end,
	.write = write_end,
	.read = read_end,
	.finish = finish,
	.seal = openssl_seal,
	.close = close_end,
	.statistics = statistics,
};
