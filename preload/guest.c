/* SPDX-License-Identifier: MIT */
#include "guest.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>

#include "endings.h"
#include "next.h"
#include "openssl/follow.h"
#include "openssl/handoff.h"
#include "openssl/proof.h"
#include "seal.h"
#include "tally.h"

/* Times that OpenSSL may be in the middle of something when we look. */
enum { TRIES = 64 };

static bool on;
static int ssl_index = -1, ctx_index = -1;
/* In our own calls of OpenSSL nothing is to be interposed. */
static _Thread_local bool busy;

/* ---- What is kept with an SSL ------------------------------------------ */

static void free_guest(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int index,
		       long argl, void *argp)
{
	struct guest *guest = ptr;

	(void)parent, (void)ad, (void)index, (void)argl, (void)argp;
	if (!guest)
		return;
	stream_free(guest->stream);
	free(guest);
}

static void free_house(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int index,
		       long argl, void *argp)
{
	(void)parent, (void)ad, (void)index, (void)argl, (void)argp;
	free(ptr);
}

/* SSL_dup(): the new SSL has its own, and what was set on the one before. */
static int dup_guest(CRYPTO_EX_DATA *to, const CRYPTO_EX_DATA *from,
		     void **from_d, int index, long argl, void *argp)
{
	const struct guest *old = *from_d;
	struct guest *own = CRYPTO_get_ex_data(to, index);

	(void)from, (void)argl, (void)argp;
	if (old && !own) /* 3.6 makes it without SSL_new() */
		own = calloc(1, sizeof(*own));
	if (old && own) {
		own->against = old->against;
		own->info = old->info;
		own->read_ahead = old->read_ahead;
	}
	*from_d = own;
	return 1;
}

static void make_indices(void)
{
	ssl_index =
		SSL_get_ex_new_index(0, NULL, NULL, dup_guest, free_guest);
	ctx_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_house);
	/* of the same library context, or they would be the same numbers */
	if (!follow_start())
		ssl_index = ctx_index = -1;
}

static bool have_indices(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, make_indices);
	return ssl_index >= 0 && ctx_index >= 0;
}

void guest_start(bool wanted)
{
	on = wanted;
	if (on)
		follow_any_bio();
}

bool guest_is_on(void)
{
	return on && !busy;
}

struct guest *guest_of(const SSL *ssl)
{
	if (ssl_index < 0 || !ssl || busy)
		return NULL;
	return SSL_get_ex_data(ssl, ssl_index);
}

/* ---- Preparing --------------------------------------------------------- */

/* Handshakes of one SSL_CTX begin in several threads. */
static pthread_mutex_t preparing = PTHREAD_MUTEX_INITIALIZER;

void guest_expect(void)
{
	if (guest_is_on())
		have_indices();
}

void guest_prepare_ctx(SSL_CTX *ctx)
{
	const char *why;

	if (!ctx || !guest_is_on() || !have_indices())
		return;
	busy = true;
	pthread_mutex_lock(&preparing);
	handoff_prepare(ctx, &why);
	pthread_mutex_unlock(&preparing);
	busy = false;
}

struct guest_house *guest_house(SSL_CTX *ctx)
{
	struct guest_house *house;

	if (!ctx || !on || !have_indices())
		return NULL;
	house = SSL_CTX_get_ex_data(ctx, ctx_index);
	if (house)
		return house;
	house = calloc(1, sizeof(*house));
	if (house && !SSL_CTX_set_ex_data(ctx, ctx_index, house)) {
		free(house);
		return NULL;
	}
	return house;
}

/* OpenSSL that reads ahead in the handshake could not be taken over. */
static void read_exactly(SSL *ssl, struct guest *guest)
{
	guest->read_ahead = NEXT(SSL_get_read_ahead)(ssl);
	if (guest->read_ahead)
		NEXT(SSL_set_read_ahead)(ssl, 0);
}

void guest_prepare(SSL *ssl)
{
	const struct guest_house *house;
	struct guest *guest;

	if (!ssl || !guest_is_on() || !have_indices() || SSL_is_dtls(ssl))
		return;
	guest = calloc(1, sizeof(*guest));
	if (!guest || !SSL_set_ex_data(ssl, ssl_index, guest)) {
		free(guest);
		return;
	}
	house = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), ctx_index);
	if (house) {
		guest->against = house->against;
		guest->max_send = house->max_send;
		guest->split_send = house->split_send;
	}
	read_exactly(ssl, guest);
}

void guest_forget(SSL *ssl)
{
	struct guest *guest = guest_of(ssl);

	if (!guest)
		return;
	if (guest->stream)
		shadow_step_aside(guest->stream);
	stream_free(guest->stream);
	guest->stream = NULL;
	guest->tries = 0;
	/* else OpenSSL does so already; it calls this as a handshake begins */
	if (guest->state == GUEST_LEFT)
		read_exactly(ssl, guest);
	guest->state = GUEST_WAITS;
}

void guest_call_info(const SSL *ssl, int where, int ret)
{
	const struct guest *guest = guest_of(ssl);

	follow_info(ssl, where);
	if (guest && guest->info)
		guest->info(ssl, where, ret);
}

/* ---- Taking over ------------------------------------------------------- */

static int open_now(void *with, struct keygen *gen, struct aead_op *op)
{
	int ret = keygen_submit(gen, with, op);

	return ret == ENGINE_DONE ? op->result : ret;
}

/* Both generations, or neither. */
static int make_keys(const struct handoff *h, struct keygen **tx,
		     struct keygen **rx)
{
	int ret;

	if (h->suite->version == CIPHER_TLS12)
		return keygen_new_tls12(h->is_server ? rx : tx,
					h->is_server ? tx : rx, h->suite,
					&h->tls12);
	ret = keygen_new(tx, h->suite, h->tx.secret);
	if (ret)
		return ret;
	ret = keygen_new(rx, h->suite, h->rx.secret);
	if (ret)
		keygen_put(*tx);
	return ret;
}

/* What a program can do that records of ours would not follow. */
static int check_program(SSL *ssl, const struct guest *guest,
			 const struct handoff *h, const char **why)
{
	*why = guest->against;
	if (guest->against)
		return -EOPNOTSUPP;
	if (h->sealed_len) {
		*why = "half a record is in OpenSSL's hands";
		return -EBUSY;
	}
	if (SSL_get_mode(ssl) & SSL_MODE_ASYNC) {
		*why = "SSL_MODE_ASYNC is set";
		return -EOPNOTSUPP;
	}
	return 0;
}

static int prove(struct engine *engine, struct keygen *tx, struct keygen *rx,
		 struct handoff *h, const char **why)
{
	struct prover prover = { .open = open_now, .with = engine };
	int ret;

	if (h->tx.proof_len)
		keygen_follow_nonce(tx, h->tx.proof + h->tx.proof_last,
				    h->tx.seq);
	*why = "no memory for a connection";
	prover.room = malloc(RECORD_WIRE_MAX);
	if (!prover.room)
		return -ENOMEM;
	ret = proof_check(&prover, tx, rx, h, why);
	free(prover.room);
	return ret;
}

/* OpenSSL has it decrypted, and is to have nothing left. */
static bool take_plain(SSL *ssl, struct handoff *h)
{
	return !h->plain_len ||
	       NEXT(SSL_read)(ssl, h->plain, (int)h->plain_len) ==
		       (int)h->plain_len;
}

static int take_with_keys(SSL *ssl, struct guest *guest, struct handoff *h,
			  struct stream_start *start, const char **why)
{
	int ret = prove(start->engine, start->tx, start->rx, h, why);

	if (ret)
		return ret;
	*why = "no memory for a connection";
	guest->stream = stream_new(start);
	if (!guest->stream)
		return -ENOMEM;
	stream_limit(guest->stream, guest->max_send, guest->split_send);
	if (!take_plain(ssl, h))
		abort(); /* the same SSL_peek() had it a moment ago */
	return 0;
}

static int take(SSL *ssl, struct guest *guest, struct handoff *h,
		const char **why)
{
	struct stream_start start = { .ssl = ssl };
	int ret = handoff_take(h, ssl, why);

	if (!ret)
		ret = check_program(ssl, guest, h, why);
	if (ret)
		return ret;
	start.engine = seal_engine(h->suite->cipher, why);
	if (!start.engine)
		return -EOPNOTSUPP;
	*why = "no keys could be derived";
	ret = make_keys(h, &start.tx, &start.rx);
	if (ret)
		return ret;
	start.fd = h->fd;
	start.tx_seq = h->tx.seq;
	start.rx_seq = h->rx.seq;
	start.tx_most = h->plain_max;
	start.read_ahead = guest->read_ahead;
	start.plain = h->plain;
	start.plain_len = h->plain_len;
	ret = take_with_keys(ssl, guest, h, &start, why);
	if (ret) {
		keygen_put(start.tx);
		keygen_put(start.rx);
	}
	return ret;
}

static void leave(SSL *ssl, struct guest *guest, const char *why)
{
	guest->state = GUEST_LEFT;
	if (guest->read_ahead)
		NEXT(SSL_set_read_ahead)(ssl, 1);
	handoff_leave(ssl);
	tally_declined(why);
}

/* Also of a process that a signal ends, and while it runs. */
static void want_counters(void)
{
	signals_guard();
	tally_look();
}

static void try_now(SSL *ssl, struct guest *guest)
{
	struct handoff *h = malloc(sizeof(*h));
	const char *why = "no memory for a connection";
	int ret = h ? take(ssl, guest, h, &why) : -ENOMEM;

	if (!ret) {
		guest->state = GUEST_TAKEN;
		handoff_leave(ssl);
		shadow_stand(guest->stream);
		SSL_free_buffers(ssl);
		tally_add(taken, 1);
		if (tally_wanted())
			want_counters();
	} else if (ret != -EBUSY || ++guest->tries == TRIES) {
		leave(ssl, guest, why);
	}
	if (h)
		handoff_wipe(h);
	free(h);
}

void guest_try(SSL *ssl)
{
	struct guest *guest = guest_of(ssl);
	int error = errno;

	if (!guest || guest->state != GUEST_WAITS ||
	    !SSL_is_init_finished(ssl) || !on)
		return;
	busy = true;
	ERR_set_mark();
	try_now(ssl, guest);
	ERR_pop_to_mark();
	busy = false;
	errno = error;
}

struct stream *guest_taken(const SSL *ssl)
{
	const struct guest *guest = guest_of(ssl);

	if (!guest || guest->state != GUEST_TAKEN ||
	    guest->stream->shadow.stays)
		return NULL;
	return guest->stream;
}

struct stream *guest_stream(SSL *ssl)
{
	struct stream *s = guest_taken(ssl);

	if (s)
		return s;
	guest_try(ssl);
	return guest_taken(ssl);
}
