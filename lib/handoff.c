/* SPDX-License-Identifier: MIT */
#include "handoff.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

enum { RANDOM_LEN = 32 };

/* A record as it goes by. */
struct wire {
	uint8_t *bytes;
	size_t len, size;
};

/* One direction, from the moment OpenSSL began to use its key. */
struct side {
	bool known;  /* that was seen, or lost */
	bool logged; /* TLS 1.3: when its secret was */
	bool stalled; /* OpenSSL holds bytes that the socket did not take */
	bool ahead;   /* one read went past the end of a record */
	int lost;     /* -errno if the records could not be followed, and why */
	const char *lost_why;
	uint8_t secret[CIPHER_SECRET_MAX];
	size_t secret_len;
	uint64_t seq;
	unsigned number; /* KeyUpdates before */
	struct wire last, current;
	/* The BIO's own count at the start, and what we have seen since. */
	uint64_t base, seen;
	BIO *bio;
	struct hook *hook;
};

struct state {
	uint8_t random[RANDOM_LEN]; /* the client's: which handshake this is */
	bool logged; /* TLS 1.3: made when secrets were */
	struct side tx, rx;
};

/*
 * Belongs to a BIO, not to the SSL, since either may go first; and if another
 * callback was put in front of ours, it must go on passing calls down after
 * the SSL is gone.
 */
struct hook {
	struct state *owner;
	BIO_callback_fn_ex next;
};

typedef void (*info_callback)(const SSL *ssl, int where, int ret);

struct prepared {
	SSL_CTX_keylog_cb_func next;
	info_callback next_info;
};

/* Stands for the state of an SSL where there was no memory for one. */
static struct state no_memory;

static int ctx_index = -1, ssl_index = -1, bio_index = -1;

/* ---- Following records ------------------------------------------------- */

static void wire_free(struct wire *wire)
{
	if (wire->bytes)
		OPENSSL_cleanse(wire->bytes, wire->size);
	free(wire->bytes);
	memset(wire, 0, sizeof(*wire));
}

static int wire_reserve(struct wire *wire, size_t size)
{
	uint8_t *bytes;

	if (size <= wire->size)
		return 0;
	bytes = realloc(wire->bytes, size);
	if (!bytes)
		return -ENOMEM;
	wire->bytes = bytes;
	wire->size = size;
	return 0;
}

/* The length of the record, as far as is known: its header, or all of it. */
static size_t wire_expected(const struct wire *wire)
{
	if (wire->len < RECORD_HEADER)
		return RECORD_HEADER;
	return RECORD_HEADER + ((size_t)wire->bytes[3] << 8 | wire->bytes[4]);
}

static bool wire_complete(const struct wire *wire)
{
	return wire->len >= RECORD_HEADER && wire->len == wire_expected(wire);
}

static void side_lose(struct side *side, int error, const char *why)
{
	side->known = true;
	side->lost = error;
	side->lost_why = why;
	wire_free(&side->last);
	wire_free(&side->current);
}

static void side_count(struct side *side)
{
	struct wire whole = side->current;

	side->current = side->last;
	side->last = whole;
	side->seq++;
}

/* In TLS 1.3 all that is protected looks like data. */
static void side_record_tls13(struct side *side)
{
	uint8_t type = side->current.bytes[0];

	if (type == RECORD_DATA)
		side_count(side);
	else if (type != RECORD_CHANGE_CIPHER_SPEC)
		side_lose(side, -EPROTO,
			  "a record in the clear followed the handshake");
}

/* In TLS 1.2 all is protected from the record after this one on. */
static void side_record_tls12(struct side *side)
{
	if (side->current.bytes[0] == RECORD_CHANGE_CIPHER_SPEC) {
		side->known = true;
		side->seq = 0;
		side->last.len = 0;
	} else if (side->known) {
		side_count(side);
	}
}

static void side_record(struct side *side)
{
	if (side->logged)
		side_record_tls13(side);
	else
		side_record_tls12(side);
	side->current.len = 0;
}

static void side_follow(struct side *side, const uint8_t *bytes, size_t len)
{
	const size_t most = side->logged ? RECORD_HEADER + RECORD_BODY_MAX_TLS13
					 : RECORD_WIRE_MAX;

	side->seen += len;
	while (len && !side->lost) {
		struct wire *wire = &side->current;
		size_t n = wire_expected(wire);

		if (n > most) {
			side_lose(side, -EPROTO, "a record was too long");
			return;
		}
		if (wire_reserve(wire, n)) {
			side_lose(side, -ENOMEM, "out of memory");
			return;
		}
		n -= wire->len;
		if (n > len)
			n = len;
		memcpy(wire->bytes + wire->len, bytes, n);
		wire->len += n;
		bytes += n;
		len -= n;
		if (!wire_complete(wire))
			continue;
		side_record(side);
		if (len)
			side->ahead = true;
	}
}

/* ---- The BIO callback -------------------------------------------------- */

static void hook_saw_read(struct hook *hook, const char *bytes, size_t len)
{
	struct side *rx = &hook->owner->rx;

	if (rx->hook == hook)
		side_follow(rx, (const uint8_t *)bytes, len);
}

static void hook_saw_write(struct hook *hook, const char *bytes, size_t len,
			   size_t taken)
{
	struct side *tx = &hook->owner->tx;

	if (tx->hook != hook)
		return;
	tx->stalled = taken < len;
	side_follow(tx, (const uint8_t *)bytes, taken);
}

static long watch(BIO *bio, int oper, const char *argp, size_t len, int argi,
		  long argl, int ret, size_t *processed)
{
	struct hook *hook = BIO_get_ex_data(bio, bio_index);

	if (!hook)
		return ret;
	if (hook->owner && oper == (BIO_CB_READ | BIO_CB_RETURN) && ret > 0)
		hook_saw_read(hook, argp, *processed);
	if (hook->owner && oper == (BIO_CB_WRITE | BIO_CB_RETURN))
		hook_saw_write(hook, argp, len, ret > 0 ? *processed : 0);
	if (hook->next)
		return hook->next(bio, oper, argp, len, argi, argl, ret,
				  processed);
	return ret;
}

/* The hook of this BIO is gone or no longer ours. */
static void state_forget_hook(struct state *state, const struct hook *hook)
{
	if (state->tx.hook == hook)
		state->tx.hook = NULL;
	if (state->rx.hook == hook)
		state->rx.hook = NULL;
}

static struct hook *hook_new(BIO *bio)
{
	struct hook *hook = calloc(1, sizeof(*hook));

	if (!hook || !BIO_set_ex_data(bio, bio_index, hook)) {
		free(hook);
		return NULL;
	}
	/*
	 * The callback's argument stays what it was, for the callback that was
	 * there before: ours does not need it.
	 */
	hook->next = BIO_get_callback_ex(bio);
	BIO_set_callback_ex(bio, watch);
	return hook;
}

static bool bio_has_old_callback(const BIO *bio)
{
#ifndef OPENSSL_NO_DEPRECATED_3_0
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
	return !BIO_get_callback_ex(bio) && BIO_get_callback(bio);
#pragma GCC diagnostic pop
#else
	return false;
#endif
}

static void side_watch(struct side *side, struct state *state, BIO *bio)
{
	struct hook *hook = BIO_get_ex_data(bio, bio_index);

	if (!hook && bio_has_old_callback(bio)) {
		side_lose(side, -EINVAL,
			  "the BIO has a callback of the old kind: "
			  "set it with BIO_set_callback_ex()");
		return;
	}
	if (!hook)
		hook = hook_new(bio);
	if (!hook) {
		side_lose(side, -ENOMEM, "out of memory");
		return;
	}
	if (hook->owner && hook->owner != state)
		state_forget_hook(hook->owner, hook);
	hook->owner = state;
	side->hook = hook;
	side->bio = bio;
}

static void hook_release(struct hook *hook, BIO *bio)
{
	hook->owner = NULL;
	if (BIO_get_callback_ex(bio) != watch)
		return;
	BIO_set_callback_ex(bio, hook->next);
	BIO_set_ex_data(bio, bio_index, NULL);
	free(hook);
}

/* Both sides share a hook if they share a BIO: the last one releases it. */
static void side_unwatch(struct side *side, struct state *state)
{
	struct side *other = side == &state->tx ? &state->rx : &state->tx;
	struct hook *hook = side->hook;

	side->hook = NULL;
	if (hook && hook != other->hook)
		hook_release(hook, side->bio);
}

/* ---- State of an SSL --------------------------------------------------- */

static void side_reset(struct side *side, struct state *state)
{
	side_unwatch(side, state);
	wire_free(&side->last);
	wire_free(&side->current);
	OPENSSL_cleanse(side, sizeof(*side));
}

static void state_free(struct state *state)
{
	if (!state || state == &no_memory)
		return;
	side_reset(&state->tx, state);
	side_reset(&state->rx, state);
	OPENSSL_cleanse(state, sizeof(*state));
	free(state);
}

/* In place of what there was. */
static struct state *state_new(SSL *ssl)
{
	struct state *state;

	state_free(SSL_get_ex_data(ssl, ssl_index));
	state = calloc(1, sizeof(*state));
	if (!SSL_set_ex_data(ssl, ssl_index, state ? state : &no_memory)) {
		free(state);
		return NULL;
	}
	return state;
}

/* The state for the handshake with this client random, made if need be. */
static struct state *state_for(SSL *ssl, const uint8_t random[RANDOM_LEN])
{
	struct state *old = SSL_get_ex_data(ssl, ssl_index), *state;

	if (old && old != &no_memory && old->logged &&
	    !memcmp(old->random, random, RANDOM_LEN))
		return old;

	state = state_new(ssl);
	if (!state)
		return NULL;
	state->logged = true;
	memcpy(state->random, random, RANDOM_LEN);
	/* This handshake's other line may have come while there was none. */
	if (old == &no_memory) {
		state->tx.known = state->rx.known = true;
		side_lose(&state->tx, -ENOMEM, "out of memory");
		side_lose(&state->rx, -ENOMEM, "out of memory");
	}
	return state;
}

static bool bio_has_fd(BIO *bio)
{
	int type = bio ? BIO_method_type(bio) : BIO_TYPE_NONE;

	return type == BIO_TYPE_SOCKET || type == BIO_TYPE_FD ||
	       type == BIO_TYPE_CONNECT;
}

/* ---- The keylog callback ----------------------------------------------- */

struct logged {
	bool client;
	uint8_t random[RANDOM_LEN];
	uint8_t secret[CIPHER_SECRET_MAX];
	size_t secret_len;
};

/* Returns how many bytes there were: 0 if more than max. */
static size_t unhex(uint8_t *out, size_t max, const char *hex, size_t digits)
{
	if (digits % 2 || digits / 2 > max)
		return 0;
	for (size_t i = 0; i < digits / 2; i++) {
		int high = OPENSSL_hexchar2int((uint8_t)hex[2 * i]);
		int low = OPENSSL_hexchar2int((uint8_t)hex[2 * i + 1]);

		if (high < 0 || low < 0)
			return 0;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return digits / 2;
}

/*
 * "CLIENT_TRAFFIC_SECRET_0 random secret" when a direction's application key
 * begins, the same with N after a KeyUpdate. Other lines do not matter here.
 */
static bool parse_line(struct logged *logged, const char *line)
{
	const char *random, *secret;

	logged->client = !strncmp(line, "CLIENT_TRAFFIC_SECRET_", 22);
	if (!logged->client && strncmp(line, "SERVER_TRAFFIC_SECRET_", 22) != 0)
		return false;
	random = strchr(line, ' ');
	secret = random ? strchr(++random, ' ') : NULL;
	if (!secret)
		return false;
	if (unhex(logged->random, RANDOM_LEN, random,
		  (size_t)(secret - random)) != RANDOM_LEN)
		return false;
	secret++;
	logged->secret_len = unhex(logged->secret, sizeof(logged->secret),
				   secret, strlen(secret));
	return true;
}

/*
 * Both ways the stream is between two records when this is called. OpenSSL
 * has flushed the last message under the old write key, be it Finished or
 * KeyUpdate; and it insists that such a message ends its record before it
 * changes the read key, having asked the BIO for no byte more than that,
 * unless it reads ahead.
 */
static void side_start(struct side *side, struct state *state, SSL *ssl,
		       const struct logged *logged)
{
	bool sending = side == &state->tx;
	BIO *bio = sending ? SSL_get_wbio(ssl) : SSL_get_rbio(ssl);
	unsigned number = side->known ? side->number + 1 : 0;

	side_reset(side, state);
	side->known = side->logged = true;
	side->number = number;
	side->secret_len = logged->secret_len;
	memcpy(side->secret, logged->secret, logged->secret_len);
	if (!bio_has_fd(bio))
		return;
	side_watch(side, state, bio);
	side->base = sending ? BIO_number_written(bio) : BIO_number_read(bio);
	if (!sending && SSL_has_pending(ssl))
		side_lose(side, -EBUSY,
			  "OpenSSL read ahead during the handshake: "
			  "call SSL_CTX_set_read_ahead(ctx, 0) before it");
}

static void note_line(SSL *ssl, const char *line)
{
	struct logged logged;
	struct state *state;

	if (!parse_line(&logged, line))
		return;
	state = state_for(ssl, logged.random);
	if (state) {
		bool sending = logged.client != SSL_is_server(ssl);

		side_start(sending ? &state->tx : &state->rx, state, ssl,
			   &logged);
	}
	OPENSSL_cleanse(&logged, sizeof(logged));
}

static void keylog(const SSL *ssl, const char *line)
{
	/* An application's callback may call the one it replaced: ours. */
	static _Thread_local bool inside;
	const struct prepared *prepared =
		SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), ctx_index);

	if (inside)
		return;
	inside = true;
	note_line((SSL *)ssl, line);
	if (prepared && prepared->next)
		prepared->next(ssl, line);
	inside = false;
}

/* ---- The info callback ------------------------------------------------- */

static void side_begin(struct side *side, struct state *state, BIO *bio,
		       uint64_t (*count)(BIO *bio))
{
	if (!bio_has_fd(bio))
		return;
	side_watch(side, state, bio);
	side->base = count(bio);
}

/*
 * In TLS 1.2 either ChangeCipherSpec may be on its way before anything is
 * logged, so records are followed from here. (In TLS 1.3 all that is dropped
 * when the secrets are logged.) What renegotiates goes on.
 */
static void note_start(SSL *ssl)
{
	struct state *state;

	if (!SSL_in_before(ssl))
		return;
	state = state_new(ssl);
	if (!state)
		return;
	side_begin(&state->tx, state, SSL_get_wbio(ssl), BIO_number_written);
	side_begin(&state->rx, state, SSL_get_rbio(ssl), BIO_number_read);
}

static void info(const SSL *ssl, int where, int ret)
{
	static _Thread_local bool inside;
	const struct prepared *prepared =
		SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), ctx_index);

	if (inside)
		return;
	inside = true;
	if (where == SSL_CB_HANDSHAKE_START)
		note_start((SSL *)ssl);
	if (prepared && prepared->next_info)
		prepared->next_info(ssl, where, ret);
	inside = false;
}

/* ---- Preparing --------------------------------------------------------- */

static void free_prepared(void *parent, void *ptr, CRYPTO_EX_DATA *ad,
			  int index, long argl, void *argp)
{
	(void)parent, (void)ad, (void)index, (void)argl, (void)argp;
	free(ptr);
}

static void free_state(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int index,
		       long argl, void *argp)
{
	(void)parent, (void)ad, (void)index, (void)argl, (void)argp;
	state_free(ptr);
}

static void free_hook(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int index,
		      long argl, void *argp)
{
	struct hook *hook = ptr;

	(void)parent, (void)ad, (void)index, (void)argl, (void)argp;
	if (hook && hook->owner)
		state_forget_hook(hook->owner, hook);
	free(hook);
}

/* SSL_dup() and BIO_dup_chain() must not copy pointers that are freed. */
static int dup_nothing(CRYPTO_EX_DATA *to, const CRYPTO_EX_DATA *from,
		       void **from_d, int index, long argl, void *argp)
{
	(void)to, (void)from, (void)index, (void)argl, (void)argp;
	*from_d = NULL;
	return 1;
}

static void make_indices(void)
{
	ctx_index =
		SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_prepared);
	ssl_index =
		SSL_get_ex_new_index(0, NULL, NULL, dup_nothing, free_state);
	bio_index = BIO_get_ex_new_index(0, NULL, NULL, dup_nothing, free_hook);
}

static bool have_indices(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, make_indices);
	return ctx_index >= 0 && ssl_index >= 0 && bio_index >= 0;
}

int handoff_prepare(SSL_CTX *ssl_ctx, const char **why)
{
	SSL_CTX_keylog_cb_func callback = SSL_CTX_get_keylog_callback(ssl_ctx);
	info_callback info_before = SSL_CTX_get_info_callback(ssl_ctx);
	struct prepared *prepared;

	*why = "out of memory";
	if (!have_indices())
		return -ENOMEM;
	prepared = SSL_CTX_get_ex_data(ssl_ctx, ctx_index);
	if (!prepared) {
		prepared = calloc(1, sizeof(*prepared));
		if (!prepared ||
		    !SSL_CTX_set_ex_data(ssl_ctx, ctx_index, prepared)) {
			free(prepared);
			return -ENOMEM;
		}
	}
	if (callback != keylog) {
		prepared->next = callback;
		SSL_CTX_set_keylog_callback(ssl_ctx, keylog);
	}
	if (info_before != info) {
		prepared->next_info = info_before;
		SSL_CTX_set_info_callback(ssl_ctx, info);
	}
	return 0;
}

/* ---- Taking ------------------------------------------------------------ */

static int refuse(int error, const char **why, const char *text)
{
	*why = text;
	return error;
}

/* Is the handshake done, and OpenSSL busy with a message after it? */
static bool between_messages(const SSL *ssl)
{
	switch (SSL_get_state(ssl)) {
	case TLS_ST_OK:
	case TLS_ST_CR_SESSION_TICKET:
	case TLS_ST_CR_KEY_UPDATE:
	case TLS_ST_CW_KEY_UPDATE:
	case TLS_ST_SR_KEY_UPDATE:
	case TLS_ST_SW_KEY_UPDATE:
		return true;
	default:
		return false;
	}
}

static int check_alive(const SSL *ssl, const char **why)
{
	/* There is no other public way to ask whether the SSL has failed. */
	if (!strcmp(SSL_state_string_long(ssl), "error"))
		return refuse(-EINVAL, why,
			      "the handshake, or the connection after it, has "
			      "failed: OpenSSL's error queue says how");
	if (SSL_version(ssl) != TLS1_3_VERSION && SSL_renegotiate_pending(ssl))
		return refuse(-EBUSY, why,
			      "a renegotiation is under way: go on with "
			      "SSL_read() or SSL_do_handshake()");
	if (!SSL_is_init_finished(ssl) && between_messages(ssl))
		return refuse(-EBUSY, why,
			      "a message after the handshake is under way: "
			      "go on with SSL_read() or SSL_write()");
	if (!SSL_is_init_finished(ssl))
		return refuse(-EINVAL, why,
			      "the handshake is not finished: go on until "
			      "SSL_accept() or SSL_connect() returns 1");
	if (SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN)
		return refuse(-EINVAL, why, "the peer has closed already");
	if (SSL_get_shutdown(ssl) & SSL_SENT_SHUTDOWN)
		return refuse(-EINVAL, why,
			      "SSL_shutdown() was called already");
	return 0;
}

static int check_suite(const SSL *ssl, const struct suite **suite,
		       const char **why)
{
	const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
	int nid = cipher ? SSL_CIPHER_get_cipher_nid(cipher) : NID_undef;

	*suite = cipher ? suite_by_number(SSL_CIPHER_get_protocol_id(cipher))
			: NULL;
	if (*suite)
		return 0;
	if (nid == NID_aes_128_ccm || nid == NID_aes_256_ccm)
		*why = "a cipher suite with a tag of 8 bytes is not carried: "
		       "use one with AES-GCM, ChaCha20-Poly1305 or AES-CCM";
	else if (cipher && !SSL_CIPHER_is_aead(cipher))
		*why = "a cipher suite with CBC or without encryption is not "
		       "carried: use one with AES-GCM, ChaCha20-Poly1305 or "
		       "AES-CCM";
	else
		*why = "the cipher suite is not carried: use one with AES-GCM, "
		       "ChaCha20-Poly1305 or AES-CCM";
	return -EOPNOTSUPP;
}

/* The content of a record at most, as negotiated (RFC 6066 4). */
static size_t plain_max(const SSL *ssl)
{
	uint8_t mode =
		SSL_SESSION_get_max_fragment_length(SSL_get_session(ssl));

	if (mode < TLSEXT_max_fragment_length_512 ||
	    mode > TLSEXT_max_fragment_length_4096)
		return RECORD_PLAIN_MAX;
	return (size_t)512 << (mode - TLSEXT_max_fragment_length_512);
}

static int check_protocol(const SSL *ssl, struct handoff *h, const char **why)
{
	int version = SSL_version(ssl);

	if (version != TLS1_3_VERSION && version != TLS1_2_VERSION)
		return refuse(-EOPNOTSUPP, why,
			      "only TLS 1.2 and 1.3 are carried");
	h->plain_max = plain_max(ssl);
	return check_suite(ssl, &h->suite, why);
}

static int check_descriptor(SSL *ssl, int *fd, const char **why)
{
	BIO *rbio = SSL_get_rbio(ssl), *wbio = SSL_get_wbio(ssl);
	int type, rfd, wfd;
	socklen_t len = sizeof(type);

	if (!bio_has_fd(rbio) || !bio_has_fd(wbio))
		return refuse(-EINVAL, why,
			      "the SSL has no descriptor of its own: "
			      "use SSL_set_fd()");
	if (BIO_get_ktls_send(wbio) || BIO_get_ktls_recv(rbio))
		return refuse(-EOPNOTSUPP, why,
			      "kTLS is in use: clear SSL_OP_ENABLE_KTLS");
	rfd = (int)BIO_get_fd(rbio, NULL);
	wfd = (int)BIO_get_fd(wbio, NULL);
	if (rfd < 0 || rfd != wfd)
		return refuse(-EINVAL, why,
			      "the SSL reads and writes different descriptors");
	if (getsockopt(rfd, SOL_SOCKET, SO_TYPE, &type, &len)) {
		if (errno == ENOTSOCK)
			type = -1;
		else
			return refuse(-EINVAL, why,
				      "the SSL's descriptor is closed");
	}
	if (type != SOCK_STREAM)
		return refuse(-ENOTSOCK, why,
			      "the SSL's descriptor is no stream socket");
	*fd = rfd;
	return 0;
}

/* Are the secrets those of this handshake, and no byte passed us by? */
static int check_state(SSL *ssl, const struct state *state,
		       const struct suite *suite, const char **why)
{
	const struct side *tx = &state->tx, *rx = &state->rx;
	BIO *rbio = SSL_get_rbio(ssl), *wbio = SSL_get_wbio(ssl);

	if (tx->lost)
		return refuse(tx->lost, why, tx->lost_why);
	if (rx->lost)
		return refuse(rx->lost, why, rx->lost_why);
	if (state->logged && (tx->secret_len != suite->digest_len ||
			      rx->secret_len != suite->digest_len))
		return refuse(-EPROTO, why,
			      "OpenSSL logged secrets of another length");
	if (!tx->hook || tx->hook != BIO_get_ex_data(wbio, bio_index) ||
	    !rx->hook || rx->hook != BIO_get_ex_data(rbio, bio_index))
		return refuse(-EINVAL, why,
			      "the SSL's BIOs were exchanged "
			      "after the handshake");
	if (BIO_number_written(wbio) - tx->base != tx->seen ||
	    BIO_number_read(rbio) - rx->base != rx->seen)
		return refuse(-EINVAL, why,
			      "bytes went past our BIO callback: one set "
			      "after the handshake must call the one before");
	return 0;
}

/* Is this what was followed of the handshake that the SSL has done? */
static bool state_fits(const SSL *ssl, const struct state *state)
{
	uint8_t random[RANDOM_LEN];

	if (!state || !state->tx.known || !state->rx.known)
		return false;
	if (SSL_version(ssl) != TLS1_3_VERSION)
		return !state->logged;
	return state->logged &&
	       SSL_get_client_random(ssl, random, sizeof(random)) ==
		       RANDOM_LEN &&
	       !memcmp(random, state->random, RANDOM_LEN);
}

static int find_state(SSL *ssl, const struct state **found, const char **why)
{
	const struct state *state;

	state = have_indices() ? SSL_get_ex_data(ssl, ssl_index) : NULL;
	if (state == &no_memory)
		return refuse(-ENOMEM, why, "out of memory");
	if (!state_fits(ssl, state) && SSL_get_info_callback(ssl) &&
	    SSL_version(ssl) != TLS1_3_VERSION)
		return refuse(-EINVAL, why,
			      "the handshake was not followed: an info "
			      "callback must be set on the SSL_CTX, before "
			      "tls_handoff_prepare(), not on the SSL");
	if (!state_fits(ssl, state))
		return refuse(-EINVAL, why,
			      "the handshake was not followed: call "
			      "tls_handoff_prepare() before it, and after "
			      "SSL_CTX_set_keylog_callback() and "
			      "SSL_CTX_set_info_callback()");
	*found = state;
	return 0;
}

static int check_writing(const SSL *ssl, const struct side *tx,
			 const char **why)
{
	if (SSL_want_async(ssl) || SSL_want_async_job(ssl))
		return refuse(-EBUSY, why,
			      "an asynchronous job of OpenSSL's is not done");
	if (SSL_want_write(ssl) || tx->stalled || tx->current.len)
		return refuse(-EBUSY, why,
			      "a write is not finished: repeat SSL_write() "
			      "until it succeeds");
	if (SSL_get_key_update_type(ssl) != SSL_KEY_UPDATE_NONE)
		return refuse(-EBUSY, why,
			      "a KeyUpdate is due to be sent: "
			      "it goes out with the next SSL_write()");
	return 0;
}

/* Plaintext that OpenSSL holds; reading it must not change a thing. */
static int copy_plain(struct handoff *h, SSL *ssl, const struct side *rx,
		      const char **why)
{
	int pending = SSL_pending(ssl);

	/* With whole records behind it nobody knows which is pending. */
	if (rx->ahead || rx->current.len)
		return refuse(-EBUSY, why,
			      "OpenSSL has read ahead: SSL_read() until "
			      "SSL_has_pending() is 0, or call "
			      "SSL_CTX_set_read_ahead(ctx, 0)");
	if (pending > RECORD_PLAIN_MAX ||
	    SSL_peek(ssl, h->plain, pending) != pending)
		return refuse(-EBUSY, why,
			      "OpenSSL does not give up what it has read: "
			      "SSL_read() until SSL_pending() is 0");
	h->plain_len = (size_t)pending;
	return 0;
}

/*
 * OpenSSL has taken every byte the BIO gave it into its buffer, and out of
 * that buffer, record by record, whatever was complete: so the start of one
 * record may be left. SSL_has_pending() does not count a header once that is
 * complete and alone.
 */
static int copy_sealed(struct handoff *h, SSL *ssl, const struct side *rx,
		       const char **why)
{
	size_t len = rx->current.len;
	bool pending = SSL_has_pending(ssl);

	if (rx->ahead && pending)
		return refuse(-EBUSY, why,
			      "OpenSSL has read ahead: SSL_read() until "
			      "SSL_has_pending() is 0, or call "
			      "SSL_CTX_set_read_ahead(ctx, 0)");
	if (pending != (len && len != RECORD_HEADER))
		return refuse(-EBUSY, why,
			      "OpenSSL holds bytes it has not decrypted: "
			      "SSL_read() until SSL_has_pending() is 0");
	if (len)
		memcpy(h->sealed, rx->current.bytes, len);
	h->sealed_len = len;
	return 0;
}

static void copy_side(struct handoff_side *to, const struct side *from)
{
	memcpy(to->secret, from->secret, from->secret_len);
	to->seq = from->seq;
	to->number = from->number;
	to->proof_len = from->last.len;
	if (from->last.len)
		memcpy(to->proof, from->last.bytes, from->last.len);
}

static int copy_tls12(struct keys_tls12 *to, const SSL *ssl, const char **why)
{
	if (SSL_SESSION_get_master_key(SSL_get_session(ssl), to->master,
				       sizeof(to->master)) == KEYS_MASTER &&
	    SSL_get_client_random(ssl, to->client_random, KEYS_RANDOM) ==
		    KEYS_RANDOM &&
	    SSL_get_server_random(ssl, to->server_random, KEYS_RANDOM) ==
		    KEYS_RANDOM)
		return 0;
	return refuse(-EPROTO, why, "OpenSSL has no master secret");
}

static int take(struct handoff *h, SSL *ssl, const char **why)
{
	const struct state *state;
	int error = check_alive(ssl, why);

	if (!error)
		error = check_protocol(ssl, h, why);
	if (!error)
		error = find_state(ssl, &state, why);
	if (!error)
		error = check_descriptor(ssl, &h->fd, why);
	if (!error)
		error = check_state(ssl, state, h->suite, why);
	if (!error)
		error = check_writing(ssl, &state->tx, why);
	if (!error && h->suite->version == CIPHER_TLS12)
		error = copy_tls12(&h->tls12, ssl, why);
	if (!error && SSL_pending(ssl))
		error = copy_plain(h, ssl, &state->rx, why);
	else if (!error)
		error = copy_sealed(h, ssl, &state->rx, why);
	if (error)
		return error;
	memcpy(h->client_random, state->random, sizeof(h->client_random));
	copy_side(&h->tx, &state->tx);
	copy_side(&h->rx, &state->rx);
	return 0;
}

int handoff_take(struct handoff *h, SSL *ssl, const char **why)
{
	int error;

	memset(h, 0, sizeof(*h));
	h->fd = -1;
	/* What our questions leave in the error queue, SSL_get_error() reads.
	 */
	ERR_set_mark();
	h->is_server = SSL_is_server(ssl);
	error = take(h, ssl, why);
	ERR_pop_to_mark();
	if (error)
		handoff_wipe(h);
	return error;
}

void handoff_commit(SSL *ssl)
{
	state_free(SSL_get_ex_data(ssl, ssl_index));
	SSL_set_ex_data(ssl, ssl_index, NULL);
	SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
}

void handoff_wipe(struct handoff *h)
{
	OPENSSL_cleanse(h, sizeof(*h));
}
