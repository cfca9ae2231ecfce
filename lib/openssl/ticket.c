/* SPDX-License-Identifier: MIT */
#include "openssl/ticket.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/ssl.h>

#include "base/util.h"
#include "openssl/reread.h"
#include "record/record.h"

enum { HEADER = 4, RANDOM = 32 };
enum { SHUT = SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN };

struct tickets {
	SSL *ssl;
	uint8_t random[RANDOM]; /* the client's: which handshake this is */
	struct keygen *gen;
	uint64_t seq;
	size_t plain_max; /* content of a record */
	uint8_t *waiting; /* messages */
	size_t len, room;
	size_t left;         /* of the last one, still to come */
	bool skipping;       /* ... and not to be kept */
	atomic_bool refused; /* OpenSSL wants no more */
	/* between tickets_seal() and the end of tickets_feed() */
	atomic_bool feeding;
	uint8_t *sealed;
	size_t sealed_len;
};

bool tickets_wanted(SSL *ssl)
{
	long mode = SSL_CTX_get_session_cache_mode(SSL_get_SSL_CTX(ssl));

	return !SSL_is_server(ssl) && SSL_version(ssl) == TLS1_3_VERSION &&
	       (mode & SSL_SESS_CACHE_CLIENT);
}

struct tickets *tickets_new(SSL *ssl, struct keygen *gen, uint64_t seq,
			    size_t plain_max)
{
	struct tickets *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	SSL_up_ref(ssl);
	t->ssl = ssl;
	SSL_get_client_random(ssl, t->random, RANDOM);
	t->gen = keygen_get(gen);
	t->seq = seq;
	t->plain_max = plain_max;
	SSL_free_buffers(ssl);
	atomic_init(&t->refused, false);
	atomic_init(&t->feeding, false);
	return t;
}

void tickets_let_go(struct tickets *t)
{
	if (!t)
		return;
	keygen_put(t->gen);
	t->gen = NULL;
}

static void wipe(uint8_t *bytes, size_t len)
{
	if (bytes)
		OPENSSL_cleanse(bytes, len);
	free(bytes);
}

void tickets_free(struct tickets *t)
{
	if (!t)
		return;
	wipe(t->waiting, t->room);
	wipe(t->sealed, t->sealed_len);
	SSL_free(t->ssl);
	free(t);
}

/* ---- What arrives ------------------------------------------------------ */

static bool reserve(struct tickets *t, size_t more)
{
	size_t room = t->room ? t->room : 512;
	uint8_t *bytes;

	if (more > TICKETS_WAIT_MAX - t->len)
		return false;
	while (room < t->len + more)
		room *= 2;
	if (room == t->room)
		return true;
	bytes = malloc(room);
	if (!bytes)
		return false;
	if (t->len)
		memcpy(bytes, t->waiting, t->len);
	wipe(t->waiting, t->room);
	t->waiting = bytes;
	t->room = room;
	return true;
}

static void append(struct tickets *t, const uint8_t *bytes, size_t len)
{
	if (len)
		memcpy(t->waiting + t->len, bytes, len);
	t->len += len;
}

void tickets_begin(struct tickets *t, const uint8_t header[4], size_t len)
{
	if (!t)
		return;
	t->left = len;
	t->skipping = atomic_load(&t->refused) || !reserve(t, HEADER + len);
	if (!t->skipping)
		append(t, header, HEADER);
}

void tickets_add(struct tickets *t, const uint8_t *bytes, size_t len)
{
	if (!t)
		return;
	t->left -= len;
	if (!t->skipping)
		append(t, bytes, len);
}

/* ---- Sealing ----------------------------------------------------------- */

static bool seal(struct tickets *t, struct engine *engine,
		 const uint8_t *content, size_t len)
{
	uint8_t *wire = t->sealed + t->sealed_len;
	struct aead_op op = {
		.seal = true,
		.has_tail = true,
		.tail = RECORD_HANDSHAKE,
		.aad = wire,
		.aad_len = RECORD_HEADER,
		.in = content,
		.in_len = len,
		.out = wire + RECORD_HEADER,
	};
	bool done;

	record_put_prefix(t->gen->format, wire, RECORD_HANDSHAKE, t->seq,
			  len + 1 + RECORD_TAG);
	record_nonce(op.nonce, t->gen->iv, t->seq);
	done = keygen_submit(t->gen, engine, &op) == ENGINE_DONE && !op.result;
	explicit_bzero(op.nonce, sizeof(op.nonce));
	if (!done)
		return false;
	t->seq++;
	t->sealed_len += len + RECORD_OVERHEAD;
	return true;
}

static bool seal_all(struct tickets *t, struct engine *engine)
{
	size_t done, n;

	for (done = 0; done < t->len; done += n) {
		n = min_size(t->len - done, t->plain_max);
		if (!seal(t, engine, t->waiting + done, n))
			return false;
	}
	return true;
}

bool tickets_seal(struct tickets *t, struct engine *engine)
{
	size_t records;

	if (!t || !t->len || t->left || atomic_load(&t->feeding))
		return false;
	records = t->len / t->plain_max + 1;
	t->sealed = malloc(t->len + records * RECORD_OVERHEAD);
	if (!t->sealed)
		return false; /* another time */
	t->sealed_len = 0;
	if (!seal_all(t, engine))
		atomic_store(&t->refused, true);
	wipe(t->waiting, t->room);
	t->waiting = NULL;
	t->len = t->room = 0;
	atomic_store(&t->feeding, true);
	return true;
}

/* ---- Feeding ----------------------------------------------------------- */

/* The application may have taken the SSL for another connection since. */
static bool still_ours(SSL *ssl, const struct tickets *t)
{
	uint8_t random[RANDOM];

	return SSL_get_shutdown(ssl) == SHUT && SSL_is_init_finished(ssl) &&
	       SSL_get_client_random(ssl, random, RANDOM) == RANDOM &&
	       !memcmp(random, t->random, RANDOM);
}

void tickets_feed(struct tickets *t, int fd)
{
	bool done = false;

	if (still_ours(t->ssl, t)) {
		done = reread(t->ssl, t->sealed, t->sealed_len, fd, true);
		SSL_free_buffers(t->ssl);
	}
	wipe(t->sealed, t->sealed_len);
	t->sealed = NULL;
	if (!done)
		atomic_store(&t->refused, true);
	atomic_store(&t->feeding, false);
}
