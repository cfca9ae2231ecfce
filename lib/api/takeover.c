/* SPDX-License-Identifier: MIT */
#include "api/takeover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/sized.h"
#include "context/ctx_members.h"
#include "openssl/handoff.h"
#include "openssl/proof.h"

/* ---- Proof that keys and sequence numbers are in step ------------------- */

static void proof_done(struct aead_op *op)
{
	struct slot *slot = container_of(op, struct slot, op);

	slot->state = SLOT_READY;
}

struct proving {
	struct tls_context *ctx;
	struct block *room; /* to open records into */
	uint64_t deadline;
};

/* What came of it is of no use, but secret. */
static void unpark(void *memory)
{
	struct block *room = memory;

	explicit_bzero(room->data, RECORD_WIRE_MAX);
	block_unpark(room);
}

/* The driver may still write to room: nobody gets it before it is done. */
static void give_up(struct engine *engine, struct slot *slot,
		    struct block *room)
{
	block_park(room);
	if (engine->ops->abandon(engine, &slot->op, unpark, room))
		block_unpark(room);
}

static int wait_for_proof(const struct proving *p, struct engine *engine,
			  struct slot *slot)
{
	while (slot->state != SLOT_READY) {
		if (ctx_block(p->ctx, NULL, 0, p->deadline))
			continue;
		give_up(engine, slot, p->room);
		return -ETIMEDOUT;
	}
	return slot->op.result;
}

/* Open one record now, with whatever engine there is. */
static int open_now(void *with, struct keygen *gen, struct aead_op *op)
{
	const struct proving *p = with;
	const struct dispatch *d = &p->ctx->core.dispatch;
	struct engine *engine = d->cpu ? d->cpu : d->kernel;
	struct slot slot = { .gen = gen, .op = *op };
	int ret;

	slot.op.done = proof_done;
	ret = keygen_submit(gen, engine, &slot.op);
	if (!ret)
		ret = wait_for_proof(p, engine, &slot);
	else if (ret == ENGINE_DONE)
		ret = slot.op.result;
	explicit_bzero(slot.op.nonce, sizeof(slot.op.nonce));
	return ret;
}

/* One that nobody else uses meanwhile: the CPU engine's word comes at once. */
static struct block *proving_room(struct tls_context *ctx,
				  struct pool_account *account)
{
	if (ctx->core.dispatch.cpu)
		return ctx->core.feed.room;
	return pool_take_surely(account, POOL_WHOLE);
}

static int prove_both(struct tls_context *ctx, struct keygen *tx,
		      struct keygen *rx, struct handoff *h)
{
	struct pool_account account = { .pool = &ctx->core.rx_pool };
	struct proving proving = {
		.ctx = ctx,
		.room = proving_room(ctx, &account),
		.deadline = now_ns() + ctx->core.dispatch.deadline,
	};
	struct prover p = { .open = open_now, .with = &proving };
	const char *why;
	int ret;

	if (!proving.room)
		return error_set(-ENOMEM, "no memory for a connection");
	p.room = proving.room->data;
	ret = proof_check(&p, tx, rx, h, &why);
	if (account.held)
		block_put(&account, proving.room);
	return ret ? error_set(ret, "%s", why) : 0;
}

/* ---- Making the connection --------------------------------------------- */

static int check_connected(int fd)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);

	if (!getpeername(fd, (struct sockaddr *)&peer, &len))
		return 0;
	return error_set(-errno, "descriptor %d is not connected, or not any "
			 "more: %s", fd, strerror(errno));
}

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
	return check_connected(fd);
}

static int check_engine(struct tls_context *ctx, const struct suite *suite)
{
	if (!dispatch_engine(&ctx->core.dispatch, suite->cipher))
		return error_set(-EOPNOTSUPP, "no engine has %s of %s: see "
				 "tls_context_describe()", suite->cipher->name,
				 suite->name);
	return 0;
}

/* Both generations, or neither. */
static int make_tls13(const struct suite *suite, const uint8_t *tx_secret,
		      const uint8_t *rx_secret, struct keygen **tx,
		      struct keygen **rx)
{
	int ret = keygen_new(tx, suite, tx_secret);

	if (ret)
		return ret;
	ret = keygen_new(rx, suite, rx_secret);
	if (ret)
		keygen_put(*tx);
	return ret;
}

struct secrets {
	const uint8_t *tx, *rx; /* TLS 1.3 */
	const struct keys_tls12 *tls12;
};

static int make_keys(const struct suite *suite, const struct secrets *from,
		     bool is_server, struct keygen **tx, struct keygen **rx)
{
	int ret;

	if (suite->version == CIPHER_TLS13)
		ret = make_tls13(suite, from->tx, from->rx, tx, rx);
	else
		ret = keygen_new_tls12(is_server ? rx : tx,
				       is_server ? tx : rx, suite,
				       from->tls12);
	if (ret)
		return error_set(ret, "no keys could be derived: %s",
				 strerror(-ret));
	return 0;
}

struct start {
	struct tls_options options;
	bool ignore_eof; /* the SSL's options say so */
	int fd;
	bool is_server;
	struct keygen *tx_gen, *rx_gen;
	uint64_t tx_seq, rx_seq;
	size_t plain_max;
	const uint8_t *plain, *sealed;
	size_t plain_len, sealed_len;
	struct tickets *tickets;
	const uint8_t *client_random; /* NULL: unknown */
	unsigned tx_number, rx_number; /* KeyUpdates so far */
};

static int start_keylog(struct tls_conn *conn, const struct start *s)
{
	struct keylog *log;

	if (conn->core->keylog.fd < 0 || !s->client_random)
		return 0;
	log = malloc(sizeof(*log));
	if (!log)
		return -ENOMEM;
	log->file = &conn->core->keylog;
	memcpy(log->client_random, s->client_random, KEYLOG_RANDOM);
	keygen_log(s->tx_gen, log, !s->is_server, s->tx_number);
	keygen_log(s->rx_gen, log, s->is_server, s->rx_number);
	conn->keylog = log;
	return 0;
}

static int take_options(struct tls_options *to, const struct tls_options *from)
{
	if (!from)
		return 0;
	return sized_take(to, sizeof(*to), from,
			  offsetof(struct tls_options, send_window) +
				  sizeof(from->send_window), "tls_options");
}

static void apply_options(struct tls_conn *conn, const struct start *s)
{
	const struct tls_options *o = &s->options;

	conn->rx.ignore_eof |= s->ignore_eof || o->ignore_eof;
	conn->data = o->data;
	if (o->events)
		conn->wanted = o->events;
	if (o->send_window)
		conn->tx.window = o->send_window;
}

static void destroy_conn(struct tls_conn *conn)
{
	tx_destroy(&conn->tx);
	rx_destroy(&conn->rx);
	free(conn->keylog);
	free(conn);
}

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
	/* each may have asked for one of the peer's, which may be under way */
	conn->tx.asked = s->tx_number;
	conn->rx.control = conn_control;
	conn->tickets = s->tickets;
	conn_limit(conn, s->plain_max);
	apply_options(conn, s);
	ret = descriptor_hold(&conn->descriptor, s->fd);
	if (ret) {
		destroy_conn(conn);
		return ret;
	}
	ret = start_keylog(conn, s);
	if (!ret)
		ret = rx_preload_plain(&conn->rx, s->plain, s->plain_len);
	if (!ret)
		ret = rx_preload_sealed(&conn->rx, s->sealed, s->sealed_len);
	if (ret) {
		descriptor_release(&conn->descriptor);
		destroy_conn(conn);
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
	s->tickets = tickets_new(ssl, s->rx_gen, s->rx_seq, s->plain_max);
	if (!s->tickets)
		return error_set(-ENOMEM, "no memory for a connection");
	return 0;
}

static int take(struct tls_conn **out, struct tls_context *ctx,
		struct ssl_st *ssl, const struct tls_options *options,
		struct handoff *h)
{
	const struct secrets secrets = { h->tx.secret, h->rx.secret,
					 &h->tls12 };
	struct start s;
	const char *why;
	int ret = handoff_take(h, ssl, &why);

	if (ret)
		return error_set(ret, "%s", why);
	s = (struct start){
		.ignore_eof = h->ignore_eof,
		.fd = h->fd,
		.is_server = h->is_server,
		.tx_seq = h->tx.seq,
		.rx_seq = h->rx.seq,
		.plain_max = h->plain_max,
		.plain = h->plain,
		.plain_len = h->plain_len,
		.sealed = h->sealed,
		.sealed_len = h->sealed_len,
		.client_random = h->client_random,
		.tx_number = h->tx.number,
		.rx_number = h->rx.number,
	};
	ret = take_options(&s.options, options);
	if (!ret)
		ret = check_engine(ctx, h->suite);
	if (ret)
		return ret;
	ret = make_keys(h->suite, &secrets, h->is_server, &s.tx_gen,
			&s.rx_gen);
	if (ret)
		return ret;
	if (h->tx.proof_len)
		keygen_follow_nonce(s.tx_gen, h->tx.proof + h->tx.proof_last,
				    h->tx.seq);
	ret = prove_both(ctx, s.tx_gen, s.rx_gen, h);
	s.sealed_len = h->sealed_len;
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
		 struct ssl_st *ssl, const struct tls_options *options)
{
	struct handoff *h = malloc(sizeof(*h));
	int ret;

	if (!h)
		return error_set(-ENOMEM, "no memory for a hand-over");
	ret = take(out, ctx, ssl, options, h);
	if (!ret) {
		(*out)->session = handoff_session(ssl);
		(*out)->closes = handoff_commit(ssl);
		ctx_add(ctx, *out);
	}
	handoff_wipe(h);
	free(h);
	return ret;
}

/* What must be there besides, by version. */
static int check_kind(const struct tls_secrets *s, const struct suite *suite)
{
	bool tls13 = suite->version == CIPHER_TLS13;
	size_t len = tls13 ? suite->digest_len : KEYS_MASTER;

	if (tls13 && s->tx_secret && s->rx_secret && s->secret_len == len)
		return 0;
	if (!tls13 && s->master_secret && s->client_random &&
	    s->server_random && s->secret_len == len)
		return 0;
	return error_set(-EINVAL, "%s takes %s of %zu bytes%s", suite->name,
			 tls13 ? "two secrets" : "a master_secret", len,
			 tls13 ? "" : ", client_random and server_random");
}

static int check_secrets(const struct tls_secrets *s,
			 const struct suite **suite)
{
	*suite = suite_by_number(s->cipher_suite);
	if (!*suite)
		return error_set(-EOPNOTSUPP, "cipher suite 0x%04x is not "
				 "carried", s->cipher_suite);
	if (s->tx_seq == UINT64_MAX || s->rx_seq == UINT64_MAX)
		return error_set(-EINVAL, "no record can have the number "
				 "2^64 - 1: another could not follow it");
	if (s->rx_data_len > RECORD_WIRE_MAX)
		return error_set(-EINVAL, "rx_data_len is %zu, at most %d "
				 "bytes can be taken", s->rx_data_len,
				 RECORD_WIRE_MAX);
	if (s->max_fragment &&
	    (s->max_fragment < RECORD_PLAIN_MIN ||
	     s->max_fragment > RECORD_PLAIN_MAX))
		return error_set(-EINVAL, "max_fragment is %zu: 0, or %d to %d",
				 s->max_fragment, RECORD_PLAIN_MIN,
				 RECORD_PLAIN_MAX);
	return check_kind(s, *suite);
}

/* Both generations; the copy of what they are made of is wiped. */
static int use_secrets(const struct tls_secrets *s, const struct suite *suite,
		       struct start *start)
{
	struct keys_tls12 tls12;
	const struct secrets from = { s->tx_secret, s->rx_secret, &tls12 };
	int ret;

	if (suite->version == CIPHER_TLS12) {
		memcpy(tls12.master, s->master_secret, KEYS_MASTER);
		memcpy(tls12.client_random, s->client_random, KEYS_RANDOM);
		memcpy(tls12.server_random, s->server_random, KEYS_RANDOM);
	}
	ret = make_keys(suite, &from, s->is_server, &start->tx_gen,
			&start->rx_gen);
	explicit_bzero(&tls12, sizeof(tls12));
	return ret;
}

int takeover_secrets(struct tls_conn **out, struct tls_context *ctx, int fd,
		     const struct tls_secrets *secrets)
{
	const struct suite *suite;
	struct start s = {
		.fd = fd,
		.is_server = secrets->is_server,
		.tx_seq = secrets->tx_seq,
		.rx_seq = secrets->rx_seq,
		.plain_max = secrets->max_fragment ? secrets->max_fragment :
						     RECORD_PLAIN_MAX,
		.sealed = secrets->rx_data,
		.sealed_len = secrets->rx_data_len,
		.client_random = secrets->client_random,
	};
	int ret = check_secrets(secrets, &suite);

	if (!ret)
		ret = take_options(&s.options, secrets->options);
	if (!ret)
		ret = check_socket(fd);
	if (!ret)
		ret = check_engine(ctx, suite);
	if (!ret)
		ret = use_secrets(secrets, suite, &s);
	if (ret)
		return ret;
	ret = make_conn(out, ctx, &s);
	keygen_put(s.tx_gen);
	keygen_put(s.rx_gen);
	if (!ret)
		ctx_add(ctx, *out);
	return ret;
}
