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
static __thread uint64_t takeover_ns;

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
	uint64_t begin;

	if (!under_test)
		return ssl;
	begin = now_ns();
	if (tls_handoff(&conn, ctx, ssl))
		die("hand-over: %s", tls_last_error());
	SSL_free(ssl);
	takeover_ns += now_ns() - begin;
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

/* ---- Requests ------------------------------------------------------------ */

/* Returns 0, or -1 when the connection is over. */
static int answer(struct tls_conn *conn, size_t *got)
{
	char buf[4096];
	ssize_t n = tls_read(conn, buf, sizeof(buf));
	unsigned count;

	if (n == -EAGAIN)
		return 0;
	if (n <= 0)
		return -1;
	for (count = request_count(got, (size_t)n); count; count--) {
		n = tls_write(conn, response_bytes(), options.size);
		if (n != (ssize_t)options.size)
			die("write: %s", n < 0 ? tls_conn_error(conn)
					       : "no room for a response");
	}
	return 0;
}

static void serve(void **ends, const int *fds, unsigned n)
{
	size_t *got = calloc(n, sizeof(*got));
	struct tls_event events[256];
	unsigned i, open = n;
	int e, count;

	for (i = 0; i < n; i++) {
		net_nonblocking(fds[i]);
		tls_conn_set_data(ends[i], &got[i]);
	}
	while (open) {
		count = tls_context_wait(ctx, events, 256, -1);
		if (count < 0)
			die("%s", tls_last_error());
		for (e = 0; e < count; e++)
			if ((events[e].events & TLS_CLOSED) ||
			    answer(events[e].conn, events[e].data)) {
				tls_conn_want(events[e].conn, 0);
				open--;
			}
	}
	free(got);
}

static const char *more(void)
{
	static char json[4096 + 128], stats_json[4096];
	struct tls_stats stats;

	tls_context_stats(ctx, &stats, sizeof(stats));
	tls_stats_json(&stats, sizeof(stats), stats_json, sizeof(stats_json));
	snprintf(json, sizeof(json),
		 "\"engine\": \"%s\", \"context\": \"%s\", "
		 "\"takeovers_per_s\": %.0f, \"statistics\": %s",
		 options.engine, options.context,
		 (double)stats.connections * 1e9 / (double)takeover_ns,
		 stats_json);
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
	.serve = serve,
	.more = more,
};
