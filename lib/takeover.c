/* SPDX-License-Identifier: MIT */
#include "takeover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "error.h"
#include "handoff.h"

/* ---- Proof that keys and sequence numbers are in step ------------------- */

static void proof_done(struct aead_op *op)
{
	struct slot *slot = container_of(op, struct slot, op);

	slot->state = SLOT_READY;
}

/* Open one record now, with whatever engine there is. */
static int open_now(struct tls_context *ctx, struct slot *slot)
{
	struct engine *engine = ctx->core.dispatch.cpu;
	int ret;

	if (!engine)
		engine = ctx->core.dispatch.kernel;
	slot->op.key = keygen_bind(slot->gen, engine, &ret);
	if (!slot->op.key)
		return ret;
	ret = engine->ops->submit(engine, &slot->op);
	if (ret == ENGINE_DONE)
		slot->state = SLOT_READY;
	else if (ret < 0)
		return ret;
	while (slot->state != SLOT_READY) {
		ring_submit(ctx->core.ring);
		ring_wait(ctx->core.ring, -1);
		ring_reap(ctx->core.ring);
	}
	return slot->op.result;
}

/* Whole post-handshake messages, none of which changes the key. */
static bool harmless(const uint8_t *message, size_t len)
{
	enum { KEY_UPDATE = 24 };

	while (len >= 4 && message[0] != KEY_UPDATE) {
		size_t size = 4 + ((size_t)message[1] << 16 |
				   (size_t)message[2] << 8 | message[3]);

		if (len < size)
			return false;
		message += size;
		len -= size;
	}
	return len == 0;
}

/* The record before the next one must open, and leave things as they are. */
static int prove(struct tls_context *ctx, struct keygen *gen,
		 const struct handoff_side *side, uint8_t *room)
{
	struct slot slot = { .gen = gen };
	uint8_t type;
	ssize_t n;
	int ret;

	if (!side->proof_len)
		return 0;
	record_nonce(slot.op.nonce, gen->iv, side->seq - 1);
	slot.op.aad = side->proof;
	slot.op.aad_len = RECORD_HEADER;
	slot.op.in = side->proof + RECORD_HEADER;
	slot.op.in_len = side->proof_len - RECORD_HEADER;
	slot.op.out = room + RECORD_HEADER;
	slot.op.done = proof_done;
	ret = open_now(ctx, &slot);
	if (ret)
		return ret;
	n = record_inner(slot.op.out, aead_op_out_len(&slot.op), &type);
	if (n < 0 ||
	    (type == RECORD_HANDSHAKE && !harmless(slot.op.out, (size_t)n)))
		return -EPROTO;
	return 0;
}

static int prove_both(struct tls_context *ctx, struct keygen *tx,
		      struct keygen *rx, const struct handoff *h)
{
	struct block *room = pool_take_unowned(&ctx->core.rx_pool);
	struct pool_account account = { .pool = &ctx->core.rx_pool };
	int ret;

	if (!room)
		return error_set(-ENOMEM, "no memory for a connection");
	pool_adopt(&account, room);
	ret = prove(ctx, tx, &h->tx, room->data);
	if (!ret)
		ret = prove(ctx, rx, &h->rx, room->data);
	explicit_bzero(room->data, RECORD_WIRE_MAX);
	block_put(&account, room);
	if (ret)
		return error_set(-EPROTO, "the latest record does not open "
				 "under the key of the handshake: was there a "
				 "KeyUpdate before the hand-over? Hand over "
				 "right after the handshake");
	return 0;
}

/* ---- Making the connection --------------------------------------------- */

static int check_socket(int fd)
{
	int type = 0;
	socklen_t len = sizeof(type);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0)
		return error_set(errno == ENOTSOCK ? -ENOTSOCK : -errno,
				 "descriptor %d: %s", fd, strerror(errno));
	if (type != SOCK_STREAM)
		return error_set(-ENOTSOCK, "descriptor %d is no stream socket",
				 fd);
	return 0;
}

static int check_engine(struct tls_context *ctx, const struct cipher *cipher)
{
	if (!dispatch_engine(&ctx->core.dispatch, cipher))
		return error_set(-EOPNOTSUPP, "no engine has %s: see "
				 "tls_context_describe()", cipher->name);
	return 0;
}

/* Both generations, or neither. */
static int make_keys(const struct cipher *cipher, const uint8_t *tx_secret,
		     const uint8_t *rx_secret, struct keygen **tx,
		     struct keygen **rx)
{
	int ret = keygen_new(tx, cipher, tx_secret);

	if (!ret) {
		ret = keygen_new(rx, cipher, rx_secret);
		if (ret)
			keygen_put(*tx);
	}
	if (ret)
		return error_set(ret, "no keys could be derived: %s",
				 strerror(-ret));
	return 0;
}

struct start {
	int fd;
	bool is_server;
	struct keygen *tx_gen, *rx_gen;
	uint64_t tx_seq, rx_seq;
	const uint8_t *plain, *sealed;
	size_t plain_len, sealed_len;
	struct tickets *tickets;
};

static int make_conn(struct tls_conn **out, struct tls_context *ctx,
		     const struct start *s)
{
	struct tls_conn *conn = malloc(sizeof(*conn));
	struct core *core = &ctx->core;
	int ret;

	if (!conn)
		return error_set(-ENOMEM, "no memory for a connection");
	conn_init(conn, core, s->fd, s->is_server);
	tx_init(&conn->tx, core, &conn->todo, &conn->account, s->fd, s->tx_gen,
		s->tx_seq);
	rx_init(&conn->rx, core, &conn->todo, &conn->account, s->fd, s->rx_gen,
		s->rx_seq);
	conn->rx.control = conn_control;
	conn->tickets = s->tickets;
	ret = rx_preload_plain(&conn->rx, s->plain, s->plain_len);
	if (!ret)
		ret = rx_preload_sealed(&conn->rx, s->sealed, s->sealed_len);
	if (ret) {
		tx_destroy(&conn->tx);
		rx_destroy(&conn->rx);
		free(conn);
		return error_set(ret, "no memory for a connection");
	}
	*out = conn;
	return 0;
}

/* ---- The two ways ------------------------------------------------------ */

/*
 * Not behind the part of a record that OpenSSL has taken, which is not to be
 * had back; and it takes an engine that is done at once.
 */
static int want_tickets(struct start *s, struct tls_context *ctx,
			struct ssl_st *ssl)
{
	if (s->sealed_len || !ctx->core.dispatch.cpu || !tickets_wanted(ssl))
		return 0;
	s->tickets = tickets_new(ssl, s->rx_gen, s->rx_seq);
	if (!s->tickets)
		return error_set(-ENOMEM, "no memory for a connection");
	return 0;
}

static int take(struct tls_conn **out, struct tls_context *ctx,
		struct ssl_st *ssl, struct handoff *h)
{
	struct start s;
	const char *why;
	int ret = handoff_take(h, ssl, &why);

	if (ret)
		return error_set(ret, "%s", why);
	s = (struct start){
		.fd = h->fd,
		.is_server = h->is_server,
		.tx_seq = h->tx.seq,
		.rx_seq = h->rx.seq,
		.plain = h->plain,
		.plain_len = h->plain_len,
		.sealed = h->sealed,
		.sealed_len = h->sealed_len,
	};
	ret = check_engine(ctx, h->cipher);
	if (ret)
		return ret;
	ret = make_keys(h->cipher, h->tx.secret, h->rx.secret, &s.tx_gen,
			&s.rx_gen);
	if (ret)
		return ret;
	ret = prove_both(ctx, s.tx_gen, s.rx_gen, h);
	if (!ret)
		ret = want_tickets(&s, ctx, ssl);
	if (!ret)
		ret = make_conn(out, ctx, &s);
	if (ret && s.tickets) {
		tickets_let_go(s.tickets);
		tickets_free(s.tickets);
	}
	keygen_put(s.tx_gen);
	keygen_put(s.rx_gen);
	return ret;
}

int takeover_ssl(struct tls_conn **out, struct tls_context *ctx,
		 struct ssl_st *ssl)
{
	struct handoff *h = malloc(sizeof(*h));
	int ret;

	if (!h)
		return error_set(-ENOMEM, "no memory for a hand-over");
	ret = take(out, ctx, ssl, h);
	if (!ret) {
		handoff_commit(ssl);
		ctx_add(ctx, *out);
	}
	handoff_wipe(h);
	free(h);
	return ret;
}

static int check_secrets(const struct tls_secrets *s, const struct cipher **c)
{
	*c = cipher_by_suite(s->cipher_suite);
	if (!*c)
		return error_set(-EOPNOTSUPP, "cipher suite 0x%04x is not "
				 "carried", s->cipher_suite);
	if (!s->tx_secret || !s->rx_secret ||
	    s->secret_len != (*c)->secret_len)
		return error_set(-EINVAL, "%s takes two secrets of %zu bytes",
				 (*c)->name, (*c)->secret_len);
	if (s->rx_data_len > RECORD_WIRE_MAX)
		return error_set(-EINVAL, "rx_data_len is %zu, at most %d "
				 "bytes can be taken", s->rx_data_len,
				 RECORD_WIRE_MAX);
	return 0;
}

int takeover_secrets(struct tls_conn **out, struct tls_context *ctx, int fd,
		     const struct tls_secrets *secrets)
{
	const struct cipher *cipher;
	struct start s = {
		.fd = fd,
		.is_server = secrets->is_server,
		.tx_seq = secrets->tx_seq,
		.rx_seq = secrets->rx_seq,
		.sealed = secrets->rx_data,
		.sealed_len = secrets->rx_data_len,
	};
	int ret = check_secrets(secrets, &cipher);

	if (!ret)
		ret = check_socket(fd);
	if (!ret)
		ret = check_engine(ctx, cipher);
	if (!ret)
		ret = make_keys(cipher, secrets->tx_secret, secrets->rx_secret,
				&s.tx_gen, &s.rx_gen);
	if (ret)
		return ret;
	ret = make_conn(out, ctx, &s);
	keygen_put(s.tx_gen);
	keygen_put(s.rx_gen);
	if (!ret)
		ctx_add(ctx, *out);
	return ret;
}
