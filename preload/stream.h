/* SPDX-License-Identifier: MIT */
/*
 * The records of one connection that was taken over, sealed and opened in the
 * calls that ask for it. Data alone is handled here. What else goes by is
 * OpenSSL's affair (shadow.h), so that alerts, KeyUpdates, session tickets,
 * errors and callbacks are what they would be without us.
 *
 * SSL_read(), SSL_write() and their kin return what stream_read() and
 * stream_write() do, and SSL_get_error() and SSL_want() tell of it what last says.
 */
#ifndef ASYNCTLS_STREAM_H
#define ASYNCTLS_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "claim.h"
#include "inbox.h"
#include "keys/keys.h"
#include "outbox.h"
#include "shadow.h"

struct ssl_st;

/* What came of the last call. */
enum stream_last {
	LAST_OPENSSL, /* the SSL itself knows */
	LAST_DONE,
	LAST_CLOSED, /* by the peer: SSL_RECEIVED_SHUTDOWN is set */
	LAST_WANT_READ,
	LAST_WANT_WRITE,
	LAST_READ_FAILED, /* errno says how */
	LAST_WRITE_FAILED,
};

struct stream {
	struct ssl_st *ssl;
	struct engine *engine;
	int fd; /* -1: through the SSL's BIOs */
	struct keygen *tx, *rx;
	uint64_t tx_seq, rx_seq;
	size_t tx_most; /* content of a record, as negotiated */
	size_t tx_max; /* ... and as the program wants it */
	struct inbox in;
	struct outbox out;
	struct claim claim;
	struct shadow shadow;
	enum stream_last last;
	bool failed; /* it ended with an error */

	/* the record that is being read */
	uint8_t *plain;
	size_t plain_len;

	bool closing; /* close_notify is sealed, and did not all leave */
	bool answers; /* so is what OpenSSL wrote, for a KeyUpdate say */
	bool tickets; /* may be due, as SSL_new_session_ticket() has it */
	bool repeat; /* SSL_write() is to be called again: */
	const uint8_t *write_buf;
	size_t write_done; /* so much of that is sealed */
	size_t unanswered; /* bytes of OpenSSL's that wait to be sent */
	size_t budget; /* of what is held, as the kernel had room for */
};

/* What handoff_take() knows, as far as it is of use here. */
struct stream_start {
	struct ssl_st *ssl;
	struct engine *engine;
	int fd;
	struct keygen *tx, *rx; /* references that go over to the stream */
	uint64_t tx_seq, rx_seq;
	size_t tx_most;
	bool read_ahead;
	const uint8_t *plain; /* decrypted, not yet read */
	size_t plain_len;
};

/* NULL: no memory; the keys are still the caller's. */
struct stream *stream_new(const struct stream_start *start);
/* Sends what is held. NULL is fine. */
void stream_free(struct stream *s);

/* SSL_set_max_send_fragment() and _split_send_fragment(); 0: never called. */
void stream_limit(struct stream *s, size_t max_send, size_t split_send);

/* As SSL_read_ex() or SSL_peek_ex(); 1, or 0 or -1 as SSL_read() has it. */
int stream_read(struct stream *s, void *buf, size_t len, size_t *got,
		bool peek);
/* As SSL_write_ex(), in the same way. */
int stream_write(struct stream *s, const void *buf, size_t len, size_t *done);
/* As SSL_shutdown() and SSL_do_handshake(). */
int stream_shutdown(struct stream *s);
int stream_handshake(struct stream *s);
/* Has what OpenSSL wrote left, through a BIO? 1 or ret. */
int stream_answer(struct stream *s);
/* What OpenSSL sends ahead of data: the answer to a KeyUpdate. 1 or ret. */
int stream_before_data(struct stream *s);

/* SSL_pending(), SSL_has_pending() */
static inline size_t stream_pending(const struct stream *s)
{
	return s->shadow.rest_type == RECORD_DATA ? s->plain_len : 0;
}
bool stream_has_pending(const struct stream *s);

/*
 * From now on OpenSSL itself does everything, through a BIO that puts its
 * records into the places that ours have reached. For what takes more than a
 * record or two of the other kinds: renegotiation.
 */
void stream_return(struct stream *s);

/*
 * The program has given the SSL other BIOs: go on with those, of whatever kind.
 * Between the two calls they are OpenSSL's to change. stream_moves() is false if
 * they were already: then stream_moved() is for who has made that first.
 */
bool stream_moves(struct stream *s);
void stream_moved(struct stream *s);

/* ---- Among stream*.c and shadow.c -------------------------------------- */

/* Seal one record and put it behind what is held. 0 or -errno. */
int stream_put(struct stream *s, uint8_t type, const uint8_t *content,
	       size_t len);
/* The same of one that is sealed already. */
int stream_put_raw(struct stream *s, const uint8_t *record, size_t len);
/* As outbox_send(), whether it is open or not. */
int stream_send(struct stream *s);
/* The program's BIOs, also while one of ours stands there. */
struct bio_st *stream_rbio(const struct stream *s);
struct bio_st *stream_wbio(const struct stream *s);

/*
 * The next record, as inbox_record(). What is held leaves before this thread
 * waits for the peer, here or, where the socket does not wait, wherever the
 * program sleeps.
 */
int stream_receive(struct stream *s, uint8_t **record, size_t *len);

/* A relative of this process goes on with the connection, since a fork(). */
int stream_not_ours(struct stream *s);

/* Has OpenSSL the record layer of 3.2 and later, which differs in trifles? */
bool stream_since_3_2(void);

/* What is returned to the program, and SSL_get_error() has to say of it. */
int stream_want_read(struct stream *s);
int stream_want_write(struct stream *s);
int stream_failed(struct stream *s, int error);

#endif
