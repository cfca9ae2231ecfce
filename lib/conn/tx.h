/* SPDX-License-Identifier: MIT */
/*
 * Transmit: plaintext -> slots -> engine -> consecutive ready records -> one
 * send. Invariants beside the queue's:
 *
 * 1. One send is in flight per connection; it gathers every consecutive ready
 *    record, and a short one resumes where it stopped.
 * 2. Nothing after a record that could not be sealed is ever sent.
 * 3. A synchronous engine seals from the caller's memory into the wire record;
 *    for an asynchronous one the plaintext is copied exactly once, and that
 *    copy is what another engine starts from if the first fails. A record whose
 *    plaintext comes in several pieces is put together in the open record, and
 *    then that is the one copy.
 * 4. No connection holds memory without a way on: what is in line leaves with
 *    its send, and an open record has the block to seal it into. Who has nothing
 *    in line, when others hold all there is, waits on core->thirsty for memory;
 *    or, if its socket takes data, has a block of those set aside, for one small
 *    record at a time, which leaves at once. So that it is told, the ring polls
 *    the socket meanwhile.
 * 5. A KeyUpdate is a record in line like others, the last of its generation:
 *    both generations may be in flight.
 */
#ifndef ASYNCTLS_TX_H
#define ASYNCTLS_TX_H

#include <sys/uio.h>

#include "conn/core.h"
#include "record/source.h"

/*
 * Records that are to grow: a segment of 1,500 bytes less IPv6, TCP, its
 * timestamps and a margin for what tunnels take; then three.
 */
enum {
	TX_RAMP_SMALL = 1369,
	TX_RAMP_SMALL_UNTIL = 16 << 10,
	TX_RAMP_MIDDLE = 4229,
	TX_RAMP_MIDDLE_UNTIL = 64 << 10,
};
#define TX_RAMP_IDLE_NS (1000 * (uint64_t)NS_PER_MS)

/*
 * Held records leave at once when they are this many bytes, half of the window
 * with the default depth. The kernel's path costs less per byte the more it is
 * given at once. TX_IOV full records are as many.
 */
enum { TX_GATHER = 512 << 10, TX_IOV = 32 };

/*
 * Application bytes of a record where all memory is held: so many fit in the
 * least block, and a socket that polls writable takes them.
 */
enum { TX_LEAN = 1000 };

struct tx {
	struct core *core;
	struct list *todo; /* the connection's node for core->todo */
	struct account *account;
	int fd;
	int error; /* sticky; nothing more is sealed or sent */
	struct keygen *gen;
	uint64_t seq;
	uint64_t record_limit; /* under one generation, then a KeyUpdate */
	bool update_due;       /* a KeyUpdate goes before any more data */
	bool update_request;   /* ... and asks for the peer's */
	unsigned updates;      /* KeyUpdates in line that no send was given */
	unsigned asked;	       /* ... sent that the peer has to answer */
	struct queue queue;
	unsigned given; /* records from the head on that a send was given */
	uint64_t data_given; /* records of data so far, of those */
	struct pool_account memory;
	struct block *wire; /* records are carved from these */
	struct block *side;
	uint8_t *open; /* the open record's plaintext, in a block of its own */
	struct block *open_block;
	size_t open_len, open_size; /* of it, at most */
	size_t waiting;	   /* application bytes at hand, not yet in line */
	size_t held;	   /* wire bytes in line, not yet sent */
	size_t unsent;	   /* application bytes of them, and of the open one */
	size_t head_sent;  /* bytes of the head that are sent already */
	uint64_t last_write;  /* now_ns() of the latest write */
	uint64_t ready_since; /* since when anything is held */
	size_t window;	    /* wire bytes held, from which on there is no room */
	size_t record_size; /* application bytes in a record at most */
	size_t plain_max;   /* ... that the peer takes */
	size_t ramped;	    /* sent since records last began small */
	uint64_t last_data; /* when the latest one was sealed, with a ramp */
	size_t pad_block;   /* see record_padding() */
	struct list thirst; /* on core->thirsty */
	bool sending;	    /* or the socket is polled until it takes data */
	bool paused; /* no send is begun */
	bool stopped; /* nor waited for memory */
	struct ring_op send_op;
	struct msghdr msg;
	struct iovec iov[TX_IOV];
};

void tx_init(struct tx *tx, struct core *core, struct list *todo,
	     struct account *account, int fd, struct keygen *gen, uint64_t seq);

/*
 * Take what the source has into records; the last one stays open if more is
 * set. Returns how many bytes were taken, 0 when there is no room, or the
 * sticky error.
 */
ssize_t tx_write(struct tx *tx, struct source *from, bool more);

/* Seal the open record, if there is one. 0, -EAGAIN (no room) or error. */
int tx_seal_open(struct tx *tx);

/*
 * Send under new keys from here on: a KeyUpdate (RFC 8446 4.6.3) goes in line
 * when there is room, before any more data; the open record goes under the new
 * keys. Asks for the peer's update, too, if request is set.
 */
void tx_update_keys(struct tx *tx, bool request);
/* Put a KeyUpdate that is due in line. 0, -EAGAIN (no room) or error. */
int tx_send_update(struct tx *tx);

/*
 * Has as much been sealed as the key is good for, without a way to another one
 * (TLS 1.2, RFC 9325 4.4)? Then no record is begun any more; the open one has
 * had its number from the beginning.
 */
bool tx_worn_out(const struct tx *tx);

/* Put an alert in line. 0, -EAGAIN (no room) or error. */
int tx_alert(struct tx *tx, uint8_t level, uint8_t description);

/* Is there room for one more record? */
bool tx_room(const struct tx *tx);
/*
 * After a call that took nothing: with nothing in line, and room by the limits,
 * waiting will not help, since the system is short of memory.
 */
bool tx_starved(const struct tx *tx);
/* Something was refused: if that was for want of memory, wait for some. */
void tx_await_memory(struct tx *tx);
/*
 * Memory has come back, or it may have: some of those for whom there is some
 * are to try again, and whoever still lacks it then waits again. Were there any?
 */
void tx_serve(struct core *core);
/* Is it no send that is under way, but a poll for room in the socket? */
bool tx_polls(const struct tx *tx);
/* Nothing more will be asked for: wait for memory no longer. */
void tx_stop(struct tx *tx);
/* Should what is ready leave now, by the gathering rule? */
bool tx_due(const struct tx *tx);
/* Queue a send of what is ready, unless one is in flight. */
void tx_push(struct tx *tx);

/*
 * Give up. Records in an engine are abandoned, their memory parked. To be
 * called when no send is in flight.
 */
void tx_destroy(struct tx *tx);

#endif
