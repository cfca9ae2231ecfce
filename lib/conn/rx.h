/* SPDX-License-Identifier: MIT */
/*
 * Receive: ciphertext -> slots -> engine -> plaintext in order. Invariants
 * beside the queue's:
 *
 * 1. Plaintext reaches the application only after its tag has verified, in
 *    order, and nothing from the first bad record on.
 * 2. An asynchronous engine opens out of place: the ciphertext stays until the
 *    head has passed it. A synchronous one opens in place.
 * 3. One receive is in flight per connection, into a pooled buffer that is
 *    chosen when data has arrived, so an idle connection has none; or, with
 *    part of a record in hand, right behind that part. What is small moves to
 *    a small block, and the buffer goes straight back. Where there is no buffer
 *    the socket is polled instead: see feed.h.
 * 4. A record is opened under the generation that the records before it, as far
 *    as the head has come, leave in force. If the head then meets a KeyUpdate,
 *    what is in line is opened again; so an -EBADMSG means nothing until its
 *    record is at the head.
 */
#ifndef ASYNCTLS_RX_H
#define ASYNCTLS_RX_H

#include "conn/core.h"

struct rx {
	struct core *core;
	struct list *todo; /* the connection's node for core->todo */
	struct account *account;
	/*
	 * A record that is no application data, at its turn, authenticated; and
	 * data where in_message forbids it, or where it is none.
	 * 0 or -errno, with *alert what to send.
	 */
	int (*control)(struct rx *rx, uint8_t type, const uint8_t *content,
		       size_t len, int *alert);
	int fd;
	size_t plain_max; /* content of a record at most */
	int error; /* sticky, once the head has met it */
	int alert; /* to be sent for it, or ALERT_NONE */
	/* close_notify was read, or an end like it: what follows is no record */
	bool closed;
	bool eof;    /* TCP has ended */
	bool ignore_eof; /* ... and needs no close_notify for that */
	/* set by control: half a message was seen, data must not be next */
	bool in_message;
	struct keygen *gen; /* of the records behind the head */
	uint64_t seq;
	unsigned ahead;	  /* records in an engine at most */
	unsigned waiting; /* OPEN records that an engine is to have soon */
	unsigned budget;  /* records without data that this turn may yet take */
	struct queue queue;
	struct pool_account memory;
	struct list turn;  /* on a list of core->feed */
	bool pending;	   /* the socket has something, for feed_read() only */
	bool claims;	   /* was promised a buffer */
	bool stopped;	   /* no receive is begun any more */
	size_t delivered;  /* bytes read of the record in front of the socket */
	bool looked_at;	   /* its content is known to be data */
	size_t wanted;	   /* that it is to have for a record to be whole */
	struct block *chunk; /* received, not yet cut into records: */
	size_t parsed, filled; /* ... from there to there */
	struct block *out;   /* plaintext of asynchronous opens */
	int parse_error;     /* behind the last record in line */
	int parse_alert;
	bool receiving;
	struct ring_op recv_op;
};

void rx_init(struct rx *rx, struct core *core, struct list *todo,
	     struct account *account, int fd, struct keygen *gen, uint64_t seq);

/*
 * Put what was received before, sealed or already opened, in front. Before
 * the first receive; each at most once. 0 or -ENOMEM.
 */
int rx_preload_plain(struct rx *rx, const uint8_t *plain, size_t len);
int rx_preload_sealed(struct rx *rx, const uint8_t *sealed, size_t len);

/*
 * Do what has become possible: cut records, have them opened, look at the
 * head, receive on. Sets rx->error when the head has met an error.
 */
void rx_advance(struct rx *rx);

/*
 * From control, at a KeyUpdate: what is behind it belongs to the next key
 * generation, whatever was made of it already. 0, -ENOMEM or -EIO.
 */
int rx_update_keys(struct rx *rx);

/*
 * Is there plaintext to read, or something in the socket that only rx_read()
 * can look at?
 */
bool rx_readable(const struct rx *rx);
/* Copy out up to len bytes of it. 0 perhaps where it was in the socket. */
size_t rx_read(struct rx *rx, uint8_t *buf, size_t len);
/* The same, of one record, and leave it there. */
size_t rx_peek(struct rx *rx, uint8_t *buf, size_t len);

/*
 * Take up to len bytes that came behind a close_notify, as they are. When no
 * receive and no record is in flight.
 */
size_t rx_leftover(struct rx *rx, uint8_t *buf, size_t len);

/* No more receives; one in flight is to be cancelled. */
void rx_stop(struct rx *rx);

/* As tx_destroy(); when no receive is in flight. */
void rx_destroy(struct rx *rx);

/* ---- For feed ---------------------------------------------------------- */

/* Receive if that has a point; rx->receiving then. */
void rx_receive(struct rx *rx);
/* The stream has ended (0), or failed with -errno. */
void rx_ended(struct rx *rx, int result);
/* Go on with a block that begins with len bytes of the stream, or NULL. */
void rx_begin(struct rx *rx, struct block *block, size_t len);
/*
 * Open a record of len bytes at once, in place, with nothing in line, and do
 * what it says if it is no data. False: rx->error is set. If it is data, slot
 * has the content, else no content_len.
 */
bool rx_open_now(struct rx *rx, struct slot *slot, uint8_t *record,
		 size_t len);

#endif
