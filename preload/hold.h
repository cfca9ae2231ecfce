/* SPDX-License-Identifier: MIT */
/*
 * Sealed records that wait a moment, so that many leave in one send.
 *
 * What SSL_write() has taken is, to the program, as good as in the kernel. So
 *  - only as much is held as the kernel is known to have room for (hold_room()),
 *    and HOLD_MAX at most: what is held leaves in one send that does not wait;
 *  - it leaves before this thread sleeps (interpose_sleep.c), before the process
 *    forks, executes, exits, is ended by a signal or loses the descriptor
 *    (interpose_ends.c), when the same connection reads, and after HOLD_NS at the
 *    latest, by a thread of ours.
 * The kernel may yet take less than it had room for. That rest waits for the
 * socket in the thread of ours, with a duplicate of the descriptor if the
 * program closes its own; and an exit waits for it, for a while.
 *
 * A struct held belongs to one connection. Between hold_take() and hold_leave()
 * only the calling thread touches it; else it is its holder's, a thread's list
 * with a lock of its own, and no lock is shared by threads that do not share a
 * connection.
 */
#ifndef ASYNCTLS_HOLD_H
#define ASYNCTLS_HOLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/util.h"

enum {
	HOLD_MAX = 256 << 10, /* bytes of a connection */
	HOLD_CONNECTIONS = 32, /* of a thread; with one more the eldest leaves */
	HOLD_NS = 1000 * 1000,
};

struct holder; /* of a thread */

struct held {
	struct holder *holder; /* in whose list it is; NULL: in none */
	struct list node;
	int fd;
	uint8_t *bytes;	     /* NULL: none */
	size_t start, end;   /* what is held: bytes + start to bytes + end */
	size_t size;
	unsigned seen; /* by the thread of ours, so many times */
	bool stuck;	     /* the socket took less than there is */
	int error; /* -errno of a send that nobody was there to hear of */
};

/*
 * Prepare the process: once, before anything else here. gather false:
 * hold_leave() sends at once what it is given.
 */
void hold_start(bool gather);

void hold_init(struct held *h, int fd);
/* Has nothing, or takes leave of what it has: hold_finish() first. */
void hold_destroy(struct held *h);

/* Have it back from whoever holds it. Not nested, in one thread. */
void hold_take(struct held *h);
/* Ours again until the next hold_take(); nothing held: nobody needs to know. */
void hold_leave(struct held *h);

/* The following belong between those two. */

/* What is held and unsent. */
static inline size_t hold_len(const struct held *h)
{
	return h->end - h->start;
}

/*
 * Room for len bytes more behind what is held: write there and add to h->end.
 * NULL: no memory. len is HOLD_MAX at most.
 */
uint8_t *hold_reserve(struct held *h, size_t len);

/*
 * How many bytes the kernel takes of this socket now without waiting, cautiously
 * told; 0 if it does not say (no TCP).
 */
size_t hold_room(int fd);

/*
 * Send what is held, now: 0 if all is with the kernel; -EAGAIN, -EINTR: some is
 * left, and waits for the next call; or another -errno as send() has it, after
 * which nothing is held. As the program's own write() would: waits if its
 * socket does, and SIGPIPE is sent.
 */
int hold_send(struct held *h);

/*
 * The connection ends, and h with it: what is held is sent, or, where the
 * socket has no room, is left to the thread of ours with a duplicate of the
 * descriptor.
 */
void hold_finish(struct held *h);

/* ---- For what is interposed -------------------------------------------- */

/* Send what this thread holds (before it sleeps); or all threads. Waits for no
 * socket. */
void hold_flush_thread(void);
void hold_flush_process(void);
/* And wait until it is with the kernel, this many milliseconds at most. */
void hold_drain_process(int timeout_ms);
/* The program is about to close this descriptor, or to shut its writing down. */
void hold_before_close(int fd);
/* ... all from first to last of them. */
void hold_before_close_range(unsigned first, unsigned last);

/* Counters, of all threads so far. */
struct hold_counts {
	uint64_t sends, bytes; /* by hold_send() and for who slept */
	uint64_t by_timer, by_sleep, by_limit, by_end; /* of sends, why */
	uint64_t stuck;
};
struct hold_counts hold_counts(void);

#endif
