/* SPDX-License-Identifier: MIT */
#include "rekeying.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "wire.h"

enum { CHUNK = 100000 };

struct flow {
	size_t sent, received, updated;
	size_t again; /* of a write to be repeated as it was */
	uint8_t out[CHUNK], in[CHUNK];
};

static void prepare(SSL_CTX *ctx)
{
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
				      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	assert_int_equal(tls_handoff_prepare(ctx), 0);
}

void rekeying_open(struct rekeying *r, const char *suite, bool we_are_client)
{
	const struct tls_pair_options options = { .suite = suite,
						  .nonblocking = true,
						  .prepare_ctx = prepare };
	SSL **end;

	assert_int_equal(tls_pair_new(&r->pair, &options), 0);
	end = we_are_client ? &r->pair.client : &r->pair.server;
	r->peer = we_are_client ? r->pair.server : r->pair.client;
	if (tls_handoff(&r->conn, r->ctx, *end))
		fail_msg("%s", tls_last_error());
	SSL_free(*end);
	*end = NULL;
	r->ours = r->theirs = 0;
}

/* Up to a CHUNK of the pattern, of random length. */
static size_t next_piece(const struct rekeying *r, struct flow *f)
{
	size_t left = r->len - f->sent;
	size_t len = 1 + (size_t)rand() % CHUNK;

	if (len > left)
		len = left;
	pattern_fill(f->out, f->sent, len);
	return len;
}

static bool update_now(const struct rekeying *r, struct flow *f)
{
	if (f->sent - f->updated < (size_t)rand() % (2 * r->every) + 1)
		return false;
	f->updated = f->sent;
	return true;
}

static bool we_send(struct rekeying *r, struct flow *f)
{
	size_t len = next_piece(r, f);
	ssize_t n;

	if (!len)
		return false;
	n = tls_send(r->conn, f->out, len, rand() % 4 ? 0 : TLS_MORE);
	if (n < 0 && n != -EAGAIN)
		fail_msg("write: %s", tls_conn_error(r->conn));
	f->sent += n > 0 ? (size_t)n : 0;
	if (update_now(r, f)) {
		assert_int_equal(tls_conn_update_keys(r->conn, rand() & 1), 0);
		r->ours++;
	}
	if (f->sent == r->len)
		assert_true(tls_flush(r->conn) >= 0);
	return n > 0;
}

static bool we_receive(struct rekeying *r, struct flow *f)
{
	ssize_t n = tls_read(r->conn, f->in, 1 + (size_t)rand() % CHUNK);

	if (n < 0 && n != -EAGAIN)
		fail_msg("read: %s", tls_conn_error(r->conn));
	if (n <= 0)
		return false;
	pattern_check(f->in, f->received, (size_t)n);
	f->received += (size_t)n;
	return true;
}

static bool wants_more(SSL *ssl, int n, const char *what)
{
	int error = SSL_get_error(ssl, n);

	if (n > 0)
		return true;
	if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
		fail_msg("OpenSSL's %s: error %d", what, error);
	return false;
}

static bool they_send(struct rekeying *r, struct flow *f)
{
	size_t len = f->again ? f->again : next_piece(r, f);
	int n;

	if (!len)
		return false;
	pattern_fill(f->out, f->sent, len);
	n = SSL_write(r->peer, f->out, (int)len);
	f->again = n > 0 ? 0 : len;
	if (!wants_more(r->peer, n, "write"))
		return false;
	f->sent += (size_t)n;
	if (update_now(r, f)) {
		assert_int_equal(SSL_key_update(r->peer,
						rand() & 1 ?
						SSL_KEY_UPDATE_REQUESTED :
						SSL_KEY_UPDATE_NOT_REQUESTED),
				 1);
		r->theirs++;
	}
	return true;
}

static bool they_receive(struct rekeying *r, struct flow *f)
{
	int n = SSL_read(r->peer, f->in, 1 + rand() % CHUNK);

	if (!wants_more(r->peer, n, "read"))
		return false;
	pattern_check(f->in, f->received, (size_t)n);
	f->received += (size_t)n;
	return true;
}

void rekeying_stream(struct rekeying *r)
{
	struct flow *us = calloc(1, sizeof(*us));
	struct flow *them = calloc(1, sizeof(*them));
	struct tls_event event;

	while (us->received < r->len || them->received < r->len) {
		bool moved = we_send(r, us);

		if (r->step)
			r->step();
		moved |= they_send(r, them);
		moved |= we_receive(r, us);
		moved |= they_receive(r, them);
		if (tls_context_wait(r->ctx, &event, 1,
				     moved || r->step ? 0 : 5) < 0)
			fail_msg("%s", tls_last_error());
	}
	free(us);
	free(them);
}

void rekeying_close(struct rekeying *r)
{
	struct tls_event event;
	char byte;
	int n;

	assert_true(tls_shutdown(r->conn) >= 0);
	do {
		if (r->step)
			r->step();
		tls_context_wait(r->ctx, &event, 1, 1);
		n = SSL_read(r->peer, &byte, 1);
	} while (n < 0 && SSL_get_error(r->peer, n) == SSL_ERROR_WANT_READ);
	assert_int_equal(SSL_get_error(r->peer, n), SSL_ERROR_ZERO_RETURN);
	while ((n = SSL_shutdown(r->peer)) < 0)
		assert_int_equal(SSL_get_error(r->peer, n),
				 SSL_ERROR_WANT_WRITE);
	while ((n = (int)tls_read(r->conn, &byte, 1)) == -EAGAIN) {
		if (r->step)
			r->step();
		tls_context_wait(r->ctx, &event, 1, 1);
	}
	if (n)
		fail_msg("%s", tls_conn_error(r->conn));
	assert_int_equal(tls_close(r->conn, 1000), 0);
	tls_pair_free(&r->pair);
}
