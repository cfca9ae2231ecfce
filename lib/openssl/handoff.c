/* SPDX-License-Identifier: MIT */
#include "openssl/handoff.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "openssl/follow.h"

int handoff_prepare(SSL_CTX *ssl_ctx, const char **why)
{
	return follow_prepare(ssl_ctx, why);
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

/* As SSL_version() says of OpenSSL 3.2 and later: OSSL_QUIC1_VERSION. */
enum { QUIC_1 = 1 };

static int check_alive(const SSL *ssl, const char **why)
{
	if (SSL_version(ssl) == QUIC_1)
		return refuse(-EOPNOTSUPP, why,
			      "a QUIC connection or stream has no TLS records: "
			      "go on with SSL_read() and SSL_write()");
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
	if (SSL_get_current_compression(ssl) || SSL_get_current_expansion(ssl))
		return refuse(-EOPNOTSUPP, why,
			      "compression is in use: set SSL_OP_NO_COMPRESSION");
	h->plain_max = plain_max(ssl);
	return check_suite(ssl, &h->suite, why);
}

static int check_descriptor(SSL *ssl, int *fd, const char **why)
{
	BIO *rbio = SSL_get_rbio(ssl), *wbio = SSL_get_wbio(ssl);
	int type, rfd, wfd;
	socklen_t len = sizeof(type);

	*fd = -1;
	if (!follow_bio(rbio) || !follow_bio(wbio))
		return refuse(-EINVAL, why,
			      "the SSL has no descriptor of its own: "
			      "use SSL_set_fd()");
	if (!follow_has_descriptor(rbio) || !follow_has_descriptor(wbio))
		return 0;
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
static int check_state(SSL *ssl, const struct follow *state,
		       const struct suite *suite, const char **why)
{
	const struct follow_side *tx = &state->tx, *rx = &state->rx;
	BIO *rbio = SSL_get_rbio(ssl), *wbio = SSL_get_wbio(ssl);

	if (tx->lost)
		return refuse(tx->lost, why, tx->lost_why);
	if (rx->lost)
		return refuse(rx->lost, why, rx->lost_why);
	if (state->logged && (tx->secret_len != suite->digest_len ||
			      rx->secret_len != suite->digest_len))
		return refuse(-EPROTO, why,
			      "OpenSSL logged secrets of another length");
	if (!state->logged && (!tx->seq || !rx->seq))
		return refuse(-EPROTO, why,
			      "no Finished followed a ChangeCipherSpec");
	if (!follow_sees(tx, wbio) || !follow_sees(rx, rbio))
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
static bool state_fits(const SSL *ssl, const struct follow *state)
{
	uint8_t random[FOLLOW_RANDOM];

	if (!state || !state->tx.known || !state->rx.known)
		return false;
	if (SSL_version(ssl) != TLS1_3_VERSION)
		return !state->logged;
	return state->logged && state->tx.logged && state->rx.logged &&
	       SSL_get_client_random(ssl, random, sizeof(random)) ==
		       FOLLOW_RANDOM &&
	       !memcmp(random, state->random, FOLLOW_RANDOM);
}

static int find_state(SSL *ssl, const struct follow **found, const char **why)
{
	const struct follow *state;

	if (follow_find(&state, ssl))
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

static int check_writing(const SSL *ssl, const struct follow_side *tx,
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

/* Does what it had of this side's at the start matter? In TLS 1.3 alone. */
static bool began_ahead(const struct follow_side *rx)
{
	return rx->logged && rx->tail.len;
}

/* Plaintext that OpenSSL holds; reading it must not change a thing. */
static int copy_plain(struct handoff *h, SSL *ssl, const struct follow_side *rx,
		      const char **why)
{
	int pending = SSL_pending(ssl);

	/* With whole records behind it nobody knows which is pending. */
	if (rx->ahead || rx->current.len || began_ahead(rx))
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
static int copy_sealed(struct handoff *h, SSL *ssl,
		       const struct follow_side *rx, const char **why)
{
	size_t len = rx->current.len;
	bool pending = SSL_has_pending(ssl);

	if (began_ahead(rx) && pending) {
		memcpy(h->sealed, rx->tail.bytes, rx->tail.len);
		h->sealed_len = rx->tail.len;
		h->ahead = true;
		return 0;
	}
	if (began_ahead(rx) || (rx->ahead && pending))
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

static void copy_side(struct handoff_side *to, const struct follow_side *from)
{
	memcpy(to->secret, from->secret, from->secret_len);
	to->seq = from->seq;
	to->number = from->number;
	to->proof_len = from->recent.len;
	to->proof_records = from->recents;
	to->proof_last = from->latest;
	if (from->recent.len)
		memcpy(to->proof, from->recent.bytes, from->recent.len);
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
	const struct follow *state;
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
	h->ignore_eof = SSL_get_options(ssl) & SSL_OP_IGNORE_UNEXPECTED_EOF;
	error = take(h, ssl, why);
	ERR_pop_to_mark();
	if (error)
		handoff_wipe(h);
	return error;
}

void handoff_leave(SSL *ssl)
{
	follow_end(ssl);
}

BIO *handoff_commit(SSL *ssl)
{
	BIO *rbio = SSL_get_rbio(ssl), *wbio = SSL_get_wbio(ssl), *closes;

	follow_end(ssl);
	/* The number would be another connection's when they are freed. */
	closes = BIO_get_close(rbio) ? rbio :
		 BIO_get_close(wbio) ? wbio :
				       NULL;
	if (closes)
		BIO_up_ref(closes);
	BIO_set_close(rbio, BIO_NOCLOSE);
	BIO_set_close(wbio, BIO_NOCLOSE);
	SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	return closes;
}

/* A connect BIO frees what it has only when it closes. */
void handoff_give_back(BIO *bio, int fd)
{
	if (!bio)
		return;
	ERR_set_mark();
	if (BIO_get_fd(bio, NULL) == fd)
		BIO_set_close(bio, BIO_CLOSE);
	else
		close(fd); /* the BIO has been given another one */
	BIO_free(bio);
	ERR_pop_to_mark();
}

/* ---- The session ------------------------------------------------------- */

struct handoff_session {
	SSL_CTX *ctx;
	SSL_SESSION *session;
};

/*
 * Only what is in a cache costs nothing to keep. (Of a client's without one the
 * application may have a reference; it costs the certificates of the peer.)
 */
static bool is_cached(SSL *ssl, SSL_CTX *ctx)
{
	long mode = SSL_CTX_get_session_cache_mode(ctx);
	unsigned len = 0;

	SSL_SESSION_get_id(SSL_get_session(ssl), &len);
	return len && mode & (SSL_is_server(ssl) ? SSL_SESS_CACHE_SERVER :
						   SSL_SESS_CACHE_CLIENT);
}

struct handoff_session *handoff_session(SSL *ssl)
{
	struct handoff_session *kept;
	const struct follow *state;

	if (SSL_version(ssl) != TLS1_2_VERSION || follow_find(&state, ssl) ||
	    !state || !state->session_ctx ||
	    !is_cached(ssl, state->session_ctx))
		return NULL;
	kept = malloc(sizeof(*kept));
	if (!kept)
		return NULL;
	kept->ctx = state->session_ctx;
	SSL_CTX_up_ref(kept->ctx);
	kept->session = SSL_get1_session(ssl);
	return kept;
}

void handoff_session_end(struct handoff_session *session, bool forget)
{
	if (!session)
		return;
	if (forget)
		SSL_CTX_remove_session(session->ctx, session->session);
	SSL_SESSION_free(session->session);
	SSL_CTX_free(session->ctx);
	free(session);
}

void handoff_wipe(struct handoff *h)
{
	OPENSSL_cleanse(h, sizeof(*h));
}
