/* SPDX-License-Identifier: MIT */
#include "echo.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>

enum {
	CHUNK = 256 << 10,
	EVENTS = 64,
	STALL_MS = 30000,
};

struct echo {
	pthread_t thread;
	struct tls_config config;
	struct tls_context *ctx;
	int commands[2]; /* peers come through this pipe; NULL: stop */
	bool stopping;
	unsigned peers;
	size_t expected;
	struct echo_report report;
};

struct peer {
	struct echo *echo;
	SSL *ssl; /* or: */
	const struct tls_secrets *secrets;
	int fd;
	struct tls_conn *conn;
	size_t off, len;
	uint8_t *buf;
};

__attribute__((format(printf, 2, 3))) static void say(char *words,
						      const char *format, ...)
{
	va_list args;

	if (words[0])
		return;
	va_start(args, format);
	vsnprintf(words, ECHO_WORDS, format, args);
	va_end(args);
}

/* ---- The server -------------------------------------------------------- */

static void end_peer(struct peer *p, ssize_t why)
{
	struct echo *e = p->echo;
	ssize_t lost;

	if (why < 0)
		say(e->report.words, "server: %zd, %s", why,
		    tls_conn_error(p->conn));
	lost = tls_close(p->conn, 1000);
	if (lost > 0)
		say(e->report.words, "server: %zd bytes lost", lost);
	close(p->fd);
	free(p->buf);
	free(p);
	e->peers--;
}

static void count(struct echo *e, size_t n)
{
	struct echo_report *r = &e->report;
	size_t before = r->bytes, half = e->expected / 2;

	r->bytes += n;
	if (before < half && r->bytes >= half)
		tls_context_stats(e->ctx, &r->middle, sizeof(r->middle));
	if (before < e->expected && r->bytes >= e->expected)
		tls_context_stats(e->ctx, &r->last, sizeof(r->last));
}

static void echo_some(struct peer *p)
{
	ssize_t n;

	if (!p->len) {
		n = tls_read(p->conn, p->buf, CHUNK);
		if (n == -EAGAIN)
			return;
		if (n <= 0) {
			end_peer(p, n);
			return;
		}
		p->off = 0;
		p->len = (size_t)n;
	}
	n = tls_write(p->conn, p->buf + p->off, p->len);
	if (n < 0 && n != -EAGAIN) {
		end_peer(p, n);
		return;
	}
	if (n > 0) {
		p->off += (size_t)n;
		p->len -= (size_t)n;
		count(p->echo, (size_t)n);
	}
	tls_conn_want(p->conn, p->len ? TLS_WRITABLE | TLS_CLOSED
				      : TLS_READABLE | TLS_CLOSED);
}

static void begin_peer(struct echo *e, struct peer *p)
{
	int ret;

	if (p->ssl)
		ret = tls_handoff(&p->conn, e->ctx, p->ssl);
	else
		ret = tls_handoff_secrets(&p->conn, e->ctx, p->fd, p->secrets);
	SSL_free(p->ssl);
	if (ret) {
		say(e->report.words, "server: %s", tls_last_error());
		close(p->fd);
		free(p->buf);
		free(p);
		return;
	}
	tls_conn_set_data(p->conn, p);
	e->peers++;
}

/* All there are, so that connections that come together start together. */
static void take_commands(struct echo *e)
{
	struct peer *p;

	while (read(e->commands[0], &p, sizeof(p)) == sizeof(p)) {
		if (p)
			begin_peer(e, p);
		else
			e->stopping = true;
	}
}

/* Returns whether there may be more to do. */
static bool drive(struct echo *e)
{
	struct tls_event events[EVENTS];
	int i, n = tls_context_wait(e->ctx, events, EVENTS, 0);

	if (n < 0)
		say(e->report.words, "server: %s", tls_last_error());
	for (i = 0; i < n; i++)
		echo_some(events[i].data);
	return n > 0;
}

static void *serve(void *arg)
{
	struct echo *e = arg;
	struct pollfd fds[2] = { { .fd = e->commands[0], .events = POLLIN } };

	if (tls_context_new(&e->ctx, &e->config)) {
		say(e->report.words, "server: %s", tls_last_error());
		return NULL;
	}
	fds[1] = (struct pollfd){ tls_context_fd(e->ctx), POLLIN, 0 };
	while (!e->stopping || e->peers) {
		bool busy = drive(e);

		if (poll(fds, 2, busy ? 0 : STALL_MS) == 0 && !busy) {
			say(e->report.words, "server: %u connections stalled",
			    e->peers);
			break;
		}
		if (fds[0].revents)
			take_commands(e);
	}
	tls_context_stats(e->ctx, &e->report.end, sizeof(e->report.end));
	tls_context_free(e->ctx);
	return NULL;
}

struct echo *echo_start(const struct tls_config *config, size_t expected)
{
	struct echo *e = calloc(1, sizeof(*e));

	if (!e || pipe(e->commands) ||
	    fcntl(e->commands[0], F_SETFL, O_NONBLOCK))
		abort();
	e->config = *config;
	e->config.kind = TLS_CONTEXT_LOOP;
	e->expected = expected;
	if (pthread_create(&e->thread, NULL, serve, e))
		abort();
	return e;
}

static void command(struct echo *e, struct peer *p)
{
	if (write(e->commands[1], &p, sizeof(p)) != sizeof(p))
		abort();
}

static void serve_peer(struct echo *e, struct peer peer)
{
	struct peer *p = malloc(sizeof(*p));

	if (!p)
		abort();
	*p = peer;
	p->echo = e;
	p->buf = malloc(CHUNK);
	command(e, p);
}

void echo_serve(struct echo *e, SSL *ssl, int fd)
{
	serve_peer(e, (struct peer){ .ssl = ssl, .fd = fd });
}

void echo_serve_secrets(struct echo *e, const struct tls_secrets *secrets,
			int fd)
{
	serve_peer(e, (struct peer){ .secrets = secrets, .fd = fd });
}

void echo_stop(struct echo *e, struct echo_report *report)
{
	command(e, NULL);
	pthread_join(e->thread, NULL);
	close(e->commands[0]);
	close(e->commands[1]);
	*report = e->report;
	free(e);
}

/* ---- A client on the library ------------------------------------------- */

struct stream {
	struct tls_conn *conn;
	const uint8_t *data;
	size_t len;
	char words[ECHO_WORDS];
};

static void *write_all(void *arg)
{
	struct stream *s = arg;
	size_t done = 0;
	ssize_t n = 0;

	while (done < s->len && n >= 0) {
		size_t part = s->len - done < CHUNK ? s->len - done : CHUNK;

		n = tls_write(s->conn, s->data + done, part);
		if (n >= 0)
			done += (size_t)n;
	}
	if (n >= 0)
		n = tls_shutdown(s->conn);
	if (n < 0)
		say(s->words, "client, writing: %zd, %s", n,
		    tls_conn_error(s->conn));
	return NULL;
}

static void read_all(struct stream *s)
{
	uint8_t *buf = malloc(CHUNK);
	size_t done = 0;
	ssize_t n = 0;

	while (buf && (n = tls_read(s->conn, buf, CHUNK)) > 0) {
		if ((size_t)n > s->len - done ||
		    memcmp(buf, s->data + done, (size_t)n)) {
			say(s->words, "client: wrong bytes from %zu on", done);
			break;
		}
		done += (size_t)n;
	}
	if (!buf || n < 0)
		say(s->words, "client, reading: %zd, %s", n,
		    tls_conn_error(s->conn));
	else if (done != s->len)
		say(s->words, "client: the end came after %zu bytes", done);
	free(buf);
}

const char *echo_by_library(struct tls_conn *conn, const uint8_t *data,
			    size_t len)
{
	static char words[ECHO_WORDS];
	struct stream in = { .conn = conn, .data = data, .len = len };
	struct stream out = in;
	pthread_t writer;

	if (pthread_create(&writer, NULL, write_all, &out))
		abort();
	read_all(&in);
	pthread_join(writer, NULL);
	snprintf(words, sizeof(words), "%s",
		 in.words[0] ? in.words : out.words);
	return words[0] ? words : NULL;
}

/* ---- A client on OpenSSL ----------------------------------------------- */

/* Nothing for now is 0, and so is the end: SSL_get_shutdown() knows. */
static size_t checked(struct stream *s, SSL *ssl, int n, const char *what)
{
	if (n > 0)
		return (size_t)n;
	switch (SSL_get_error(ssl, n)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	}
	say(s->words, "%s: %s", what,
	    ERR_reason_error_string(ERR_peek_error()));
	ERR_clear_error();
	return 0;
}

static size_t openssl_writes(struct stream *s, SSL *ssl, size_t put)
{
	size_t n = s->len - put < CHUNK ? s->len - put : CHUNK;

	if (n == 0)
		return 0;
	n = checked(s, ssl, SSL_write(ssl, s->data + put, (int)n), "SSL_write");
	if (put + n == s->len)
		SSL_shutdown(ssl);
	return n;
}

static size_t openssl_reads(struct stream *s, SSL *ssl, size_t got,
			    uint8_t *buf)
{
	size_t n = checked(s, ssl, SSL_read(ssl, buf, CHUNK), "SSL_read");

	if (n > s->len - got || memcmp(buf, s->data + got, n))
		say(s->words, "OpenSSL: wrong bytes from %zu on", got);
	return n;
}

static void openssl_echo(struct stream *s, SSL *ssl, uint8_t *buf)
{
	struct pollfd fd = { .fd = SSL_get_fd(ssl) };
	size_t put = 0, got = 0, n, m;

	while (!s->words[0]) {
		n = openssl_writes(s, ssl, put);
		m = openssl_reads(s, ssl, got, buf);
		put += n;
		got += m;
		if (SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN)
			break;
		fd.events = put < s->len ? POLLIN | POLLOUT : POLLIN;
		if (!n && !m && poll(&fd, 1, STALL_MS) == 0)
			say(s->words, "OpenSSL: stalled");
	}
	if (got != s->len)
		say(s->words, "OpenSSL: the end came after %zu bytes", got);
}

const char *echo_by_openssl(SSL *ssl, const uint8_t *data, size_t len)
{
	static char words[ECHO_WORDS];
	struct stream s = { .data = data, .len = len };
	uint8_t *buf = malloc(CHUNK);

	SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE |
				  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	openssl_echo(&s, ssl, buf);
	free(buf);
	snprintf(words, sizeof(words), "%s", s.words);
	return words[0] ? words : NULL;
}
