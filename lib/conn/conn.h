/* SPDX-License-Identifier: MIT */
/*
 * One connection: what its records mean. Alerts, post-handshake messages,
 * close, errors. Does no I/O of its own: it fills and empties the lines of tx
 * and rx and is moved on by its context. This folder is all that a connection is,
 * and what it shares with others (core, feed); it never waits.
 *
 * Reading and writing end apart (RFC 8446 6.1): a FIN, or a close_notify, ends
 * reading, a send that failed ends writing. What ends both is an error that an
 * alert goes out for, the peer's alert, and a reset.
 */
#ifndef ASYNCTLS_CONN_H
#define ASYNCTLS_CONN_H

#include "conn/core.h"
#include "conn/rx.h"
#include "conn/tx.h"
#include "io/descriptor.h"
#include "openssl/ticket.h"

/* What ended a direction, once it has; the first error stays. */
struct fault {
	int error;	 /* 0: none */
	char words[100]; /* "": those of the other direction */
};

struct tls_conn {
	struct tls_context *ctx;
	struct core *core;
	struct list all;   /* of the context's connections */
	struct list todo;  /* core->todo */
	struct list held;  /* core->held: sealed records are unsent */
	struct list ready; /* the context's, to be reported by wait */
	void *data;
	int fd;
	struct descriptor descriptor;
	struct bio_st *closes; /* it, once it is given back; or NULL */
	struct handoff_session *session; /* not to be resumed if this fails */
	bool is_server;
	struct account account;
	struct tx tx;
	struct rx rx;

	struct fault reading, writing;
	int alert_sent, alert_received; /* ALERT_NONE: none */
	int alert_due;			/* waits for room in tx's line */
	unsigned wanted; /* events to be reported */
	unsigned awaited; /* what calls wait for: see wake.h */
	bool closing;	 /* no new operation is started */
	bool gone;	 /* closed: an engine has its records, nobody else */
	bool shut;	 /* nothing more may be written */
	bool flushing;	 /* what becomes ready is sent without gathering */
	bool sealing;	 /* the open record is sealed when there is room */
	bool end_read;	 /* the application knows that reading has ended */
	bool end_told;	 /* TLS_CLOSED was reported for reading */
	bool fault_told; /* ... and for writing */
	bool wants_room; /* tls_write() took less than it was given */
	bool wants_flush; /* tls_flush() left something behind */

	/* the post-handshake message under way (RFC 8446 4) */
	uint8_t message[4]; /* its header */
	unsigned message_have;
	size_t message_left;
	struct keylog *keylog;	 /* where it is wanted, else NULL */
	struct tickets *tickets; /* where they are wanted, else NULL */

	bool refusal_due; /* of a renegotiation, in TLS 1.2 */
	bool refused;
	unsigned updates;   /* in a row, with no data between: see too_many() */
	uint64_t rx_data;   /* application bytes read when the last came */
	uint64_t data_paid; /* see was_prompted() */
	bool update_asked;  /* of the peer, for this generation */
};

void conn_init(struct tls_conn *conn, struct core *core, int fd,
	       bool is_server);

/* 0, or -EINVAL with words: records cannot be limited to that. */
int conn_check_record_size(size_t max);

/* The content of a record at most, both ways, if less than 2^14. */
void conn_limit(struct tls_conn *conn, size_t plain_max);

/* What rx does with a record that is no data; see struct rx. */
int conn_control(struct rx *rx, uint8_t type, const uint8_t *content,
		 size_t len, int *alert);

/* Act on what has completed. */
void conn_advance(struct tls_conn *conn);

/* It goes no further, either way. Words are kept if there are none yet. */
void conn_break(struct tls_conn *conn, int error, const char *words);

/* Send what is ready now and what becomes ready, without gathering. */
void conn_push(struct tls_conn *conn);
/* That, and seal the open record first. */
void conn_flush(struct tls_conn *conn);

/*
 * Send under new keys from here on, and ask for the peer's update if request
 * is set. 0, or what conn_check_writing() says.
 */
int conn_update_keys(struct tls_conn *conn, bool request);

/* Put close_notify in line, once, and refuse writes from now on. */
void conn_shutdown(struct tls_conn *conn);

/* Has a fatal alert ended it, the peer's or ours? */
bool conn_alerted(const struct tls_conn *conn);

/* Is everything that is being flushed, alerts included, with the socket? */
bool conn_flushed(const struct tls_conn *conn);

/* TLS_READABLE, TLS_WRITABLE and TLS_CLOSED as they hold now. */
unsigned conn_events(const struct tls_conn *conn);

/*
 * What a read that found nothing returns: 0 at the end, -EAGAIN or an error,
 * whose words conn_say_reading() has for the thread.
 */
int conn_read_status(const struct tls_conn *conn);
int conn_say_reading(const struct tls_conn *conn);

/* 0, or why nothing can be written any more, with words. */
int conn_check_writing(const struct tls_conn *conn);

/* What has failed, reading first; "" if nothing has. */
const char *conn_words(const struct tls_conn *conn);

/* A stream that ends without close_notify is to be no error, or one. */
void conn_ignore_eof(struct tls_conn *conn, bool ignore);

#endif
