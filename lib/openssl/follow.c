/* SPDX-License-Identifier: MIT */
#include "openssl/follow.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>

/*
 * Belongs to a BIO, not to the SSL, since either may go first; and if another
 * callback was put in front of ours, it must go on passing calls down after
 * the SSL is gone.
 */
struct hook {
	struct follow *owner;
	BIO_callback_fn_ex next;
};

struct prepared {
	SSL_CTX_keylog_cb_func next;
	follow_info_fn next_info;
};

/* Stands for the state of an SSL where there was no memory for one. */
static struct follow no_memory;

static int ctx_index = -1, ssl_index = -1, bio_index = -1;

/* ---- Following records ------------------------------------------------- */

static void wire_free(struct follow_wire *wire)
{
	if (wire->bytes)
		OPENSSL_cleanse(wire->bytes, wire->size);
	free(wire->bytes);
	memset(wire, 0, sizeof(*wire));
}

static int wire_reserve(struct follow_wire *wire, size_t size)
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
static size_t wire_expected(const struct follow_wire *wire)
{
	if (wire->len < RECORD_HEADER)
		return RECORD_HEADER;
	return RECORD_HEADER + ((size_t)wire->bytes[3] << 8 | wire->bytes[4]);
}

/* A ClientHello may be in SSLv2's format (RFC 5246 E.2), and no record. */
static size_t side_expected(const struct follow_side *side)
{
	const struct follow_wire *wire = &side->current;

	if (!side->at_start || wire->len < RECORD_HEADER ||
	    !(wire->bytes[0] & 0x80) || wire->bytes[2] != MESSAGE_CLIENT_HELLO)
		return wire_expected(wire);
	return 2 + ((size_t)(wire->bytes[0] & 0x7f) << 8 | wire->bytes[1]);
}

static void side_lose(struct follow_side *side, int error, const char *why)
{
	side->known = true;
	side->lost = error;
	side->lost_why = why;
	wire_free(&side->recent);
	wire_free(&side->current);
	wire_free(&side->tail);
}

/* Drop the oldest until there is room for the current one behind the others. */
static void recent_make_room(struct follow_side *side)
{
	struct follow_wire *recent = &side->recent;
	size_t at = 0;

	while (side->recents &&
	       (side->recents == FOLLOW_RECENT ||
		recent->len - at + side->current.len > RECORD_WIRE_MAX)) {
		at += RECORD_HEADER + ((size_t)recent->bytes[at + 3] << 8 |
				       recent->bytes[at + 4]);
		side->recents--;
	}
	recent->len -= at;
	if (at && recent->len)
		memmove(recent->bytes, recent->bytes + at, recent->len);
}

static void side_count(struct follow_side *side)
{
	struct follow_wire *recent = &side->recent, whole = side->current;

	side->seq++;
	recent_make_room(side);
	if (side->recents && !wire_reserve(recent, recent->len + whole.len)) {
		memcpy(recent->bytes + recent->len, whole.bytes, whole.len);
		side->latest = recent->len;
		recent->len += whole.len;
		side->recents++;
		return;
	}
	side->current = *recent;
	*recent = whole;
	side->latest = 0;
	side->recents = 1;
}

/* In TLS 1.3 all that is protected looks like data. */
static void side_record_tls13(struct follow_side *side)
{
	uint8_t type = side->current.bytes[0];

	if (type == RECORD_DATA)
		side_count(side);
	else if (type != RECORD_CHANGE_CIPHER_SPEC)
		side_lose(side, -EPROTO,
			  "a record in the clear followed the handshake");
}

/* In TLS 1.2 all is protected from the record after this one on. */
static void side_record_tls12(struct follow_side *side)
{
	if (side->current.bytes[0] == RECORD_CHANGE_CIPHER_SPEC) {
		side->known = true;
		side->seq = 0;
		side->recent.len = side->recents = 0;
	} else if (side->known) {
		side_count(side);
	}
}

static void side_record(struct follow_side *side)
{
	if (side->logged)
		side_record_tls13(side);
	else
		side_record_tls12(side);
	side->current.len = 0;
}

static const char read_ahead[] =
	"OpenSSL read ahead during the handshake: "
	"call SSL_CTX_set_read_ahead(ctx, 0) before it";

/* Whole records go where there would be more than can be handed over. */
static void side_keep_tail(struct follow_side *side, const uint8_t *bytes,
			   size_t len)
{
	struct follow_wire *tail = &side->tail;
	size_t n;

	if (side->lost)
		return;
	if (len > RECORD_WIRE_MAX || wire_reserve(tail, RECORD_WIRE_MAX)) {
		side->keeps_tail = false;
		wire_free(tail);
		return;
	}
	while (tail->len + len > RECORD_WIRE_MAX) {
		n = wire_expected(tail);
		if (n > tail->len) /* too long: so it will be found */
			return;
		tail->len -= n;
		memmove(tail->bytes, tail->bytes + n, tail->len);
	}
	memcpy(tail->bytes + tail->len, bytes, len);
	tail->len += len;
}

static void side_follow(struct follow_side *side, const uint8_t *bytes,
			size_t len)
{
	const size_t most = side->logged ? RECORD_HEADER + RECORD_BODY_MAX_TLS13
					 : RECORD_WIRE_MAX;

	side->seen += len;
	while (len && !side->lost) {
		struct follow_wire *wire = &side->current;
		size_t n = side_expected(side);

		if (n > most || n < wire->len) {
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
		if (wire->len < RECORD_HEADER ||
		    wire->len < side_expected(side))
			continue;
		side->at_start = false;
		side_record(side);
		side->fresh++;
		if (len)
			side->ahead = true;
	}
}

/* ---- The BIO callback -------------------------------------------------- */

static void hook_saw_read(struct hook *hook, const char *bytes, size_t len)
{
	struct follow_side *rx = &hook->owner->rx;

	if (rx->hook != hook)
		return;
	if (!rx->logged && rx->keeps_tail)
		side_keep_tail(rx, (const uint8_t *)bytes, len);
	else if (rx->tail.len)
		side_lose(rx, -EBUSY, read_ahead);
	side_follow(rx, (const uint8_t *)bytes, len);
}

static void hook_saw_write(struct hook *hook, const char *bytes, size_t len,
			   size_t taken)
{
	struct follow_side *tx = &hook->owner->tx;

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
	if (hook->owner && oper == BIO_CB_READ && hook->owner->rx.hook == hook)
		hook->owner->rx.fresh = 0;
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
static void state_forget_hook(struct follow *state, const struct hook *hook)
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

static void side_watch(struct follow_side *side, struct follow *state, BIO *bio)
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
static void side_unwatch(struct follow_side *side, struct follow *state)
{
	struct follow_side *other =
		side == &state->tx ? &state->rx : &state->tx;
	struct hook *hook = side->hook;

	side->hook = NULL;
	if (hook && hook != other->hook)
		hook_release(hook, side->bio);
}

/* ---- State of an SSL --------------------------------------------------- */

static void side_reset(struct follow_side *side, struct follow *state)
{
	side_unwatch(side, state);
	wire_free(&side->recent);
	wire_free(&side->current);
	wire_free(&side->tail);
	OPENSSL_cleanse(side, sizeof(*side));
}

static void state_free(struct follow *state)
{
	if (!state || state == &no_memory)
		return;
	side_reset(&state->tx, state);
	side_reset(&state->rx, state);
	OPENSSL_cleanse(state, sizeof(*state));
	free(state);
}

/* In place of what there was. */
static struct follow *state_new(SSL *ssl)
{
	struct follow *state;

	state_free(SSL_get_ex_data(ssl, ssl_index));
	state = calloc(1, sizeof(*state));
	if (!SSL_set_ex_data(ssl, ssl_index, state ? state : &no_memory)) {
		free(state);
		return NULL;
	}
	return state;
}

/* The state for the handshake with this client random, made if need be. */
static struct follow *state_for(SSL *ssl, const uint8_t random[FOLLOW_RANDOM])
{
	struct follow *old = SSL_get_ex_data(ssl, ssl_index), *state;

	if (old && old != &no_memory && old->logged &&
	    !memcmp(old->random, random, FOLLOW_RANDOM))
		return old;

	/* What was followed since the handshake began is of use yet. */
	state = old && old != &no_memory && !old->logged ? old : state_new(ssl);
	if (!state)
		return NULL;
	state->logged = true;
	memcpy(state->random, random, FOLLOW_RANDOM);
	/* This handshake's other line may have come while there was none. */
	if (old == &no_memory) {
		state->tx.known = state->rx.known = true;
		side_lose(&state->tx, -ENOMEM, "out of memory");
		side_lose(&state->rx, -ENOMEM, "out of memory");
	}
	return state;
}

static bool any_bio;

void follow_any_bio(void)
{
	any_bio = true;
}

bool follow_has_descriptor(BIO *bio)
{
	int type = bio ? BIO_method_type(bio) : BIO_TYPE_NONE;

	return type == BIO_TYPE_SOCKET || type == BIO_TYPE_FD ||
	       type == BIO_TYPE_CONNECT;
}

bool follow_bio(BIO *bio)
{
	return any_bio ? bio != NULL : follow_has_descriptor(bio);
}

/* ---- The keylog callback ----------------------------------------------- */

struct logged {
	bool client;
	uint8_t random[FOLLOW_RANDOM];
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
	if (unhex(logged->random, FOLLOW_RANDOM, random,
		  (size_t)(secret - random)) != FOLLOW_RANDOM)
		return false;
	secret++;
	logged->secret_len = unhex(logged->secret, sizeof(logged->secret),
				   secret, strlen(secret));
	return true;
}

/* Nothing went past the hook of this BIO? */
static bool side_saw_all(const struct follow_side *side, BIO *bio)
{
	return !side->logged && !side->lost && side->tail.len &&
	       follow_bio(bio) && follow_sees(side, bio) &&
	       BIO_number_read(bio) - side->base == side->seen;
}

/*
 * Has OpenSSL read past the record that changes the key? In the handshake it
 * tells, or does not read ahead (3.2 and later). At a KeyUpdate those do not
 * tell: they have a new record layer by then, which has not been given what the
 * old one had left. Then it is known of a record alone.
 */
static bool read_past(const struct follow_side *side, const SSL *ssl)
{
	return SSL_has_pending(ssl) ||
	       (side->logged && (side->fresh > 1 || side->current.len));
}

static const char read_past_update[] =
	"OpenSSL read ahead, past a KeyUpdate of the peer's: "
	"call SSL_CTX_set_read_ahead(ctx, 0) before the handshake";

/*
 * Both ways the stream is between two records when this is called. OpenSSL
 * has flushed the last message under the old write key, be it Finished or
 * KeyUpdate; and it insists that such a message ends its record before it
 * changes the read key, having asked the BIO for no byte more than that,
 * unless it reads ahead.
 */
static void side_start(struct follow_side *side, struct follow *state, SSL *ssl,
		       const struct logged *logged)
{
	bool sending = side == &state->tx;
	BIO *bio = sending ? SSL_get_wbio(ssl) : SSL_get_rbio(ssl);
	unsigned number = side->logged ? side->number + 1 : 0;
	bool past = !sending && read_past(side, ssl);
	struct follow_wire tail = { 0 };

	if (past && side_saw_all(side, bio)) {
		tail = side->tail;
		side->tail = (struct follow_wire){ 0 };
	}
	side_reset(side, state);
	side->tail = tail;
	side->known = side->logged = true;
	side->number = number;
	side->secret_len = logged->secret_len;
	memcpy(side->secret, logged->secret, logged->secret_len);
	if (!follow_bio(bio))
		return;
	side_watch(side, state, bio);
	side->base = sending ? BIO_number_written(bio) : BIO_number_read(bio);
	if (past && !tail.len)
		side_lose(side, -EBUSY, number ? read_past_update : read_ahead);
}

static void note_line(SSL *ssl, const char *line)
{
	struct logged logged;
	struct follow *state;

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

static void side_begin(struct follow_side *side, struct follow *state, BIO *bio,
		       uint64_t (*count)(BIO *bio))
{
	if (!follow_bio(bio))
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
	struct follow *state;

	if (!SSL_in_before(ssl))
		return;
	state = state_new(ssl);
	if (!state)
		return;
	state->session_ctx = SSL_get_SSL_CTX(ssl);
	side_begin(&state->tx, state, SSL_get_wbio(ssl), BIO_number_written);
	side_begin(&state->rx, state, SSL_get_rbio(ssl), BIO_number_read);
	state->rx.at_start = SSL_is_server(ssl);
	state->rx.keeps_tail = SSL_get_read_ahead(ssl);
}

void follow_info(const SSL *ssl, int where)
{
	if (where == SSL_CB_HANDSHAKE_START)
		note_start((SSL *)ssl);
}

static void info(const SSL *ssl, int where, int ret)
{
	static _Thread_local bool inside;
	const struct prepared *prepared =
		SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), ctx_index);

	if (inside)
		return;
	inside = true;
	follow_info(ssl, where);
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

bool follow_start(void)
{
	return have_indices();
}

int follow_prepare(SSL_CTX *ssl_ctx, const char **why)
{
	SSL_CTX_keylog_cb_func callback = SSL_CTX_get_keylog_callback(ssl_ctx);
	follow_info_fn info_before = SSL_CTX_get_info_callback(ssl_ctx);
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

/* ---- For who stands between the application and OpenSSL ---------------- */

static const struct prepared *prepared_of(const SSL_CTX *ssl_ctx)
{
	static const struct prepared none;
	const struct prepared *prepared =
		have_indices() ? SSL_CTX_get_ex_data(ssl_ctx, ctx_index) : NULL;

	return prepared ? prepared : &none;
}

SSL_CTX_keylog_cb_func follow_keylog_of(const SSL_CTX *ssl_ctx,
					SSL_CTX_keylog_cb_func set)
{
	return set == keylog ? prepared_of(ssl_ctx)->next : set;
}

follow_info_fn follow_info_of(const SSL_CTX *ssl_ctx, follow_info_fn set)
{
	return set == info ? prepared_of(ssl_ctx)->next_info : set;
}

/* ---- For the hand-over ------------------------------------------------- */

int follow_find(const struct follow **follow, const SSL *ssl)
{
	*follow = have_indices() ? SSL_get_ex_data(ssl, ssl_index) : NULL;
	return *follow == &no_memory ? -ENOMEM : 0;
}

void follow_end(SSL *ssl)
{
	state_free(SSL_get_ex_data(ssl, ssl_index));
	SSL_set_ex_data(ssl, ssl_index, NULL);
}

bool follow_sees(const struct follow_side *side, const BIO *bio)
{
	return side->hook && side->hook == BIO_get_ex_data(bio, bio_index);
}
