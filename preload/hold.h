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
 * The kernel may yet take less than it had room for. That rest is owed: it waits
 * for the socket in the thread of ours, with a duplicate of the descriptor if
 * the program closes its own; and an exit waits for it, for a while.
 *
 * What the program has not been told is written is not owed: of a record for
 * which SSL_write() has said WANT_WRITE, what the socket has not taken waits for
 * the program's next call, and is lost with the descriptor or the process, as
 * OpenSSL's would be. hold_leave() tells the two apart: all is owed, but for what
 * was added between a hold_take() and a hold_send() that said -EAGAIN or -EINTR.
 *
 * A struct held belongs to one connection. Between hold_take() and hold_leave()
 * only the calling thread touches it; else it is its holder's, a thread's list
 * with a lock of its own, and no lock is shared by threads that do not share a
 * connection. What waits for something else than hold_send() has no place
 * between the two: a signal that is to end the process waits for hold_leave().
 */
#ifndef ASYNCTLS_HOLD_H
#define ASYNCTLS_HOLD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/util.h"

enum {
	HOLD_MAX = 256 << 10, /* bytes of a connection */
	HOLD_CONNECTIONS = 32, /* of a thread; with one more the eldest leaves */
	HOLD_NS = 1000 * 1000,
	HOLD_ORPHAN_MS = 30 * 1000, /* what is left of a closed connection */
	HOLD_END_MS = 5 * 1000,	    /* an exit waits, at most */
};

struct holder; /* of a thread */

struct held {
	_Atomic(struct holder *) holder; /* in whose list; NULL: in none */
	struct list node;
	int fd;
	uint8_t *bytes;	     /* NULL: none */
	size_t start, end;   /* what is held: bytes + start to bytes + end */
	size_t size;
	size_t owed;   /* of that, from start on */
	unsigned due;  /* tick of the thread of ours at which it sends this */
	unsigned wait; /* ticks to the next attempt where there was no room */
	bool refused;  /* hold_send() has said so since hold_take() */
	bool stuck;    /* the socket took less than is owed */
	int error; /* -errno of a send that nobody was there to hear of */
	/* of hold_room_of() */
	unsigned asked, limit;
	int segment;
};

/*
 * Prepare the process: once, before anything else here. gather false:
 * hold_leave() sends at once what it is given.
 */
void hold_start(bool gather);
/* From now on nothing is gathered. */
void hold_no_more(void);

void hold_init(struct held *h, int fd);
/* Whatever it has is forgotten: hold_finish() first. */
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
 * told; 0 if it does not say (no TCP). Of one that has a limit on what is unsent
 * (TCP_NOTSENT_LOWAT), no more than that.
 */
size_t hold_room(int fd);
/* The same with one system call, most of the time: what seldom changes is asked
 * for now and then. */
size_t hold_room_of(struct held *h);

/*
 * Send what is held, now: 0 if all is with the kernel; -EAGAIN, -EINTR: some is
 * left, and waits for the next call; or another -errno as send() has it, after
 * which nothing is held. As the program's own write() would: waits if its
 * socket does, and SIGPIPE is sent.
 *
 * A send on behalf of who slept, or of nobody, that fails drops what was held
 * and leaves its error in h->error, which the next hold_send() returns, once,
 * even if nothing is held (with a SIGPIPE if it is -EPIPE), and drops what was
 * added since. The kernel tells an error once: who receives meanwhile, between
 * hold_take() and hold_leave(), and is told of an end finds in h->error why.
 */
int hold_send(struct held *h);

/* The program is told that all is written, though hold_send() refused. */
static inline void hold_owe(struct held *h)
{
	h->refused = false;
}

/*
 * The connection ends, and h with it (not between the two; afterwards it is
 * empty, as hold_init() leaves it): what is owed is sent, or, where the socket
 * has no room, left to the thread of ours with a duplicate of the descriptor.
 */
void hold_finish(struct held *h);

/* ---- For what is interposed -------------------------------------------- */

/* Does the calling thread hold any? For hold_flush_thread() to be cheap. */
struct hold_here {
	struct holder *mine;
	_Atomic unsigned *held;
};
extern _Thread_local struct hold_here hold_here
	__attribute__((tls_model("initial-exec")));

/* Send what this thread holds (before it sleeps); or all threads. Waits for no
 * socket. errno stays. */
void hold_flush_mine(void);
void hold_flush_process(void);

static inline void hold_flush_thread(void)
{
	if (hold_here.held &&
	    atomic_load_explicit(hold_here.held, memory_order_relaxed))
		hold_flush_mine();
}

/* And wait until it is with the kernel, this many milliseconds at most. */
void hold_drain_process(int timeout_ms);
/* As the last thing that the process does, in whatever state it is: takes no
 * lock that it would have to wait for. Async-signal-safe. */
void hold_drain_dying(int timeout_ms);

/* The program is about to close this descriptor, or to give it away. */
void hold_before_close(int fd);
/* ... all from first to last of them. */
void hold_before_close_range(unsigned first, unsigned last);
/* ... to another process: waits for what is owed, this long at most. */
void hold_drain_fd(int fd, int timeout_ms);
/* ... to shut its writing down. true: that follows what was still owed. */
bool hold_before_shutdown(int fd);

/*
 * Is this thread in the middle of something here? Then what has to end the
 * process is put off: when is called at the end of it, in this thread.
 */
bool hold_put_off(void (*when)(int), int arg);
/* Is this the process that hold_start() or a fork() has made, and not one that
 * borrows its memory (vfork()), or that we were not told of? */
bool hold_is_mine(void);

/* Called when something is held for the first time; and, about every second
 * while something is held now and then, by the thread of ours. NULL: no. */
extern void (*hold_at_first)(void);
extern void (*hold_each_second)(void);

/* Counters, of all threads so far. */
struct hold_counts {
	uint64_t sends, bytes; /* by hold_send() and for who slept */
	uint64_t by_timer, by_sleep, by_limit, by_end; /* of sends, why */
	uint64_t stuck;
	uint64_t ticks; /* of the thread of ours */
	uint64_t orphans; /* left to it, now */
};
struct hold_counts hold_counts(void);

#endif
