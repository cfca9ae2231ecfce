/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "evp_record.h"
#include "handoff_check.h"
#include "keys/keys.h"

void prepare_for_handoff(SSL_CTX *ctx)
{
	const char *why = "";

	assert_int_equal(handoff_prepare(ctx, &why), 0);
}

void prepare_without_security_level(SSL_CTX *ctx)
{
	prepare_for_handoff(ctx);
	SSL_CTX_set_security_level(ctx, 0);
}

void limit_fragments(SSL *server, SSL *client)
{
	(void)server;
	assert_int_equal(SSL_set_tlsext_max_fragment_length(
				 client, TLSEXT_max_fragment_length_512), 1);
}

void open_pair(struct tls_pair *pair, struct tls_pair_options options)
{
	assert_int_equal(tls_pair_new(pair, &options), 0);
}

/* ---- Records by libcrypto ---------------------------------------------- */

/* The keys of both directions. */
static void make_keys(const struct handoff *h, struct keygen **tx,
		      struct keygen **rx)
{
	if (h->suite->version == CIPHER_TLS12) {
		assert_int_equal(keygen_new_tls12(h->is_server ? rx : tx,
						  h->is_server ? tx : rx,
						  h->suite, &h->tls12), 0);
		return;
	}
	assert_int_equal(keygen_new(tx, h->suite, h->tx.secret), 0);
	assert_int_equal(keygen_new(rx, h->suite, h->rx.secret), 0);
}

/* The content of a record, or -1 if it does not authenticate. */
static ssize_t open_record(const struct keygen *gen, uint64_t seq,
			   const uint8_t *wire, uint8_t *content, uint8_t *type)
{
	ssize_t n = evp_open(gen, seq, wire, content);

	if (n < 0)
		return n;
	return record_content(gen->format, wire, content, (size_t)n,
			      RECORD_PLAIN_MAX, type);
}

/* ---- Taking ------------------------------------------------------------ */

static void assert_proved(const struct keygen *gen,
			  const struct handoff_side *side)
{
	uint8_t *content = malloc(RECORD_BODY_MAX), type;

	assert_int_equal(side->seq == 0, side->proof_len == 0);
	assert_non_null(content);
	if (side->seq)
		assert_true(open_record(gen, side->seq - 1,
					side->proof + side->proof_last,
					content, &type) >= 0);
	free(content);
}

static void assert_both_proved(const struct handoff *h)
{
	struct keygen *tx, *rx;

	make_keys(h, &tx, &rx);
	assert_proved(tx, &h->tx);
	assert_proved(rx, &h->rx);
	keygen_put(tx);
	keygen_put(rx);
}

struct handoff *take(SSL *ssl)
{
	struct handoff *h = malloc(sizeof(*h));
	const char *why = "nothing said";
	int error;

	assert_non_null(h);
	error = handoff_take(h, ssl, &why);
	if (error)
		fail_msg("handoff_take: %d, %s", error, why);
	assert_int_equal(h->fd, SSL_get_fd(ssl));
	assert_int_equal(
		h->suite->number,
		SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(ssl)));
	assert_both_proved(h);
	return h;
}

void drop(struct handoff *h)
{
	handoff_wipe(h);
	free(h);
}

void assert_refused(SSL *ssl, int error, const char *words)
{
	struct handoff *h = malloc(sizeof(*h));
	static const struct handoff nothing;
	const char *why = NULL;

	assert_non_null(h);
	assert_int_equal(handoff_take(h, ssl, &why), error);
	assert_non_null(why);
	if (!strstr(why, words))
		fail_msg("\"%s\" has no \"%s\"", why, words);
	assert_memory_equal(h, &nothing, sizeof(nothing));
	free(h);
}

/* ---- Going on ---------------------------------------------------------- */

void send_record(struct handoff *h, uint8_t type, const void *content,
		 size_t len)
{
	uint8_t wire[RECORD_WIRE_MAX], inner[RECORD_PLAIN_MAX + 1];
	struct keygen *tx, *rx;
	size_t n;

	make_keys(h, &tx, &rx);
	memcpy(inner, content, len);
	inner[len] = type;
	n = evp_seal(tx, h->tx.seq++, type, inner,
		     len + tx->format->hides_type, wire);
	assert_int_equal(send(h->fd, wire, n, MSG_NOSIGNAL), n);
	keygen_put(tx);
	keygen_put(rx);
}

/* Bring h->sealed to len bytes. */
static void fill(struct handoff *h, size_t len)
{
	while (h->sealed_len < len) {
		ssize_t n = recv(h->fd, h->sealed + h->sealed_len,
				 len - h->sealed_len, 0);

		assert_true(n > 0);
		h->sealed_len += (size_t)n;
	}
}

size_t receive_data(struct handoff *h, uint8_t *content)
{
	struct keygen *tx, *rx;
	uint8_t type;
	ssize_t n;
	int alert;

	make_keys(h, &tx, &rx);
	do {
		fill(h, RECORD_HEADER);
		n = record_parse_header(rx->format, h->sealed, &alert);
		assert_true(n > 0);
		fill(h, RECORD_HEADER + (size_t)n);
		n = open_record(rx, h->rx.seq++, h->sealed, content, &type);
		assert_true(n >= 0);
		h->sealed_len = 0;
	} while (type != RECORD_DATA);
	keygen_put(tx);
	keygen_put(rx);
	return (size_t)n;
}

void assert_goes_on(struct handoff *h, SSL *peer)
{
	uint8_t content[RECORD_BODY_MAX];

	send_record(h, RECORD_DATA, "ping", 4);
	hear(peer, "ping");
	say(peer, "pong");
	assert_int_equal(receive_data(h, content), 4);
	assert_memory_equal(content, "pong", 4);
}

void assert_hand_over(SSL *ssl, SSL *peer)
{
	struct handoff *h = take(ssl);

	handoff_commit(ssl);
	assert_goes_on(h, peer);
	drop(h);
}

void assert_either_end(struct tls_pair_options options)
{
	struct tls_pair pair;

	open_pair(&pair, options);
	assert_hand_over(pair.server, pair.client);
	tls_pair_free(&pair);
	open_pair(&pair, options);
	assert_hand_over(pair.client, pair.server);
	tls_pair_free(&pair);
}

static void check_steps(const struct tls_pair_options *options)
{
	struct tls_pair pair;
	struct handoff *server, *client;
	uint8_t content[RECORD_BODY_MAX];

	open_pair(&pair, *options);
	server = take(pair.server);
	client = take(pair.client);
	/* tickets, or a Finished */
	assert_int_equal(server->tx.seq, 1);
	send_record(server, RECORD_DATA, "ping", 4);
	send_record(client, RECORD_DATA, "pong", 4);
	tls_pair_carry(&pair);
	assert_int_equal(receive_data(client, content), 4);
	assert_int_equal(receive_data(server, content), 4);
	drop(server);
	drop(client);
	tls_pair_free(&pair);
}

void assert_small_steps(struct tls_pair_options options)
{
	static const size_t steps[] = { 2, 3, 5, 7, 64 };

	options.unix_sockets = true;
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		options.trickle = steps[i];
		check_steps(&options);
	}
}

void say(SSL *from, const char *what)
{
	assert_int_equal(SSL_write(from, what, (int)strlen(what)),
			 strlen(what));
}

void hear(SSL *to, const char *what)
{
	size_t len = strlen(what), got = 0;
	char buf[256];

	assert_true(len <= sizeof(buf));
	while (got < len) {
		int n = SSL_read(to, buf + got, (int)(len - got));

		/* without SSL_MODE_AUTO_RETRY, after a ticket */
		if (n < 0 && SSL_get_error(to, n) == SSL_ERROR_WANT_READ)
			continue;
		assert_true(n > 0);
		got += (size_t)n;
	}
	assert_memory_equal(buf, what, len);
}

void assert_still_usable(SSL *a, SSL *b)
{
	say(a, "still");
	hear(b, "still");
	say(b, "usable");
	hear(a, "usable");
}
