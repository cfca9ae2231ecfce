/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <openssl/evp.h>

#include "handoff_check.h"
#include "keys.h"

void prepare_for_handoff(SSL_CTX *ctx)
{
	const char *why = "";

	assert_int_equal(handoff_prepare(ctx, &why), 0);
}

void open_pair(struct tls_pair *pair, struct tls_pair_options options)
{
	assert_int_equal(tls_pair_new(pair, &options), 0);
}

/* ---- Records by libcrypto ---------------------------------------------- */

static EVP_CIPHER_CTX *begin(const struct cipher *cipher, const uint8_t *secret,
			     uint64_t seq, int seal, const uint8_t *header)
{
	static const char *const names[] = {
		[CIPHER_AES_128_GCM] = "AES-128-GCM",
		[CIPHER_AES_256_GCM] = "AES-256-GCM",
		[CIPHER_CHACHA20_POLY1305] = "ChaCha20-Poly1305",
	};
	EVP_CIPHER *evp = EVP_CIPHER_fetch(NULL, names[cipher->id], NULL);
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	uint8_t nonce[RECORD_NONCE];
	struct keygen *gen;
	int n;

	assert_int_equal(keygen_new(&gen, cipher, secret), 0);
	record_nonce(nonce, gen->iv, seq);
	assert_int_equal(
		EVP_CipherInit_ex2(ctx, evp, gen->key, nonce, seal, NULL), 1);
	assert_int_equal(EVP_CipherUpdate(ctx, NULL, &n, header, RECORD_HEADER),
			 1);
	keygen_put(gen);
	EVP_CIPHER_free(evp);
	return ctx;
}

ssize_t open_with_evp(const struct cipher *cipher, const uint8_t *secret,
		      uint64_t seq, const uint8_t *wire, size_t len,
		      uint8_t *content, uint8_t *type)
{
	size_t inner_len = len - RECORD_HEADER - RECORD_TAG;
	EVP_CIPHER_CTX *ctx;
	int n, ok, alert;

	assert_int_equal(record_parse_header(wire, &alert),
			 len - RECORD_HEADER);
	ctx = begin(cipher, secret, seq, 0, wire);
	assert_int_equal(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG,
					     RECORD_TAG,
					     (void *)(wire + len - RECORD_TAG)),
			 1);
	assert_int_equal(EVP_CipherUpdate(ctx, content, &n,
					  wire + RECORD_HEADER, (int)inner_len),
			 1);
	ok = EVP_CipherFinal_ex(ctx, content + n, &n);
	EVP_CIPHER_CTX_free(ctx);
	return ok == 1 ? record_inner(content, inner_len, type) : -1;
}

size_t seal_with_evp(const struct cipher *cipher, const uint8_t *secret,
		     uint64_t seq, uint8_t type, const void *content,
		     size_t len, uint8_t *wire)
{
	uint8_t *out = wire + RECORD_HEADER;
	EVP_CIPHER_CTX *ctx;
	int n;

	record_put_header(wire, len + 1 + RECORD_TAG);
	ctx = begin(cipher, secret, seq, 1, wire);
	assert_int_equal(EVP_CipherUpdate(ctx, out, &n, content, (int)len), 1);
	out += n;
	assert_int_equal(EVP_CipherUpdate(ctx, out, &n, &type, 1), 1);
	out += n;
	assert_int_equal(EVP_CipherFinal_ex(ctx, out, &n), 1);
	assert_int_equal(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG,
					     RECORD_TAG, out),
			 1);
	EVP_CIPHER_CTX_free(ctx);
	return len + RECORD_OVERHEAD;
}

/* ---- Taking ------------------------------------------------------------ */

static void assert_proved(const struct cipher *cipher,
			  const struct handoff_side *side)
{
	uint8_t *content = malloc(RECORD_BODY_MAX), type;

	assert_int_equal(side->seq == 0, side->proof_len == 0);
	assert_non_null(content);
	if (side->seq)
		assert_true(open_with_evp(cipher, side->secret, side->seq - 1,
					  side->proof, side->proof_len, content,
					  &type) >= 0);
	free(content);
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
		h->cipher->suite,
		SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(ssl)));
	assert_proved(h->cipher, &h->tx);
	assert_proved(h->cipher, &h->rx);
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
	uint8_t wire[RECORD_WIRE_MAX];
	size_t n = seal_with_evp(h->cipher, h->tx.secret, h->tx.seq++, type,
				 content, len, wire);

	assert_int_equal(send(h->fd, wire, n, MSG_NOSIGNAL), n);
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
	uint8_t type;
	ssize_t n;
	int alert;

	do {
		fill(h, RECORD_HEADER);
		n = record_parse_header(h->sealed, &alert);
		assert_true(n > 0);
		fill(h, RECORD_HEADER + (size_t)n);
		n = open_with_evp(h->cipher, h->rx.secret, h->rx.seq++,
				  h->sealed, h->sealed_len, content, &type);
		assert_true(n >= 0);
		h->sealed_len = 0;
	} while (type != RECORD_DATA);
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
