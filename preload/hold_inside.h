/* SPDX-License-Identifier: MIT */
/*
 * What the parts of hold.h share: hold.c, which connections call; holder.c, the
 * lists and what is sent from them; hold_pusher.c, the thread of ours; hold_end.c,
 * what becomes of it all when descriptors and processes end.
 */
#ifndef ASYNCTLS_HOLD_INSIDE_H
#define ASYNCTLS_HOLD_INSIDE_H

#include <errno.h>
#include <pthread.h>

#include "hold.h"

enum {
	BUFFER = HOLD_MAX + (32 << 10), /* and a whole record, and then some */
	BUFFERS = HOLD_CONNECTIONS, /* that a thread keeps: no page faults */
	TICK_NS = HOLD_NS / 2,
};

/* Of a send, why: where it is counted. */
enum why { BY_CALL, BY_TIMER, BY_SLEEP, BY_LIMIT, BY_END, WHYS };

struct holder {
	_Alignas(64) pthread_mutex_t lock;
	struct list fresh, stuck; /* of struct held, eldest first; by lock */
	/* how many those are; changed with the lock */
	_Atomic unsigned held, owing;
	_Atomic unsigned listed; /* so far: does anything happen? */
	uint8_t *buffers[BUFFERS]; /* that are empty; by lock */
	unsigned buffered;
	unsigned passed; /* times that the thread of ours did not get the lock */
	bool forking;	   /* fork() has the lock */
	/*
	 * What its thread works on, and how much of that was owed and is where
	 * it was; 0 while it is being sent.
	 */
	_Atomic(struct held *) current;
	_Atomic size_t promised;
	unsigned rounds; /* of destructors */
	bool used;	 /* by a thread; by the registry's lock */
	struct holder *_Atomic next;
	_Atomic uint64_t sends[WHYS], bytes, stuck_so_far;
};

/* Never freed, and so to be walked through without a lock. */
struct holder *holders(void);
#define each_holder(H) \
	(struct holder * (H) = holders(); (H); (H) = atomic_load(&(H)->next))

/* What no thread of the program has any more, with a descriptor of ours. */
struct orphan {
	struct held held;
	uint64_t until;
	bool shut; /* its writing, when all is sent */
};
extern struct holder hold_orphanage;

/* ---- Sections: in which a signal that ends the process has to wait ------ */

struct hold_section {
	volatile bool in;
	void (*volatile when)(int);
	volatile int arg;
	bool fork_was; /* in one, when fork() began */
};
extern _Thread_local struct hold_section hold_section
	__attribute__((tls_model("initial-exec")));
void hold_section_act(void);

static inline bool section_enter(void)
{
	bool was = hold_section.in;

	hold_section.in = true;
	atomic_signal_fence(memory_order_seq_cst);
	return was;
}

static inline void section_leave(bool was)
{
	atomic_signal_fence(memory_order_seq_cst);
	hold_section.in = was;
	atomic_signal_fence(memory_order_seq_cst);
	if (!was && hold_section.when)
		hold_section_act();
}

/* ---- holder.c ---------------------------------------------------------- */

/* This thread's, made if need be; NULL: no memory. */
struct holder *holder_mine(void);
/* Of who has none. */
extern struct holder holder_of_all;
void holder_init(struct holder *holder);

void holder_count(struct holder *holder, enum why why, size_t n);

/*
 * With the lock: send what is owed, without waiting. true: nothing is owed any
 * more, be it sent or (h->error) not to be sent. Async-signal-safe.
 */
bool holder_push(struct holder *holder, struct held *h, enum why why);
/* With the lock: that, and take it off the lists, or put it with the stuck. */
void holder_send(struct holder *holder, struct held *h, enum why why);
/* With the lock: on one of the lists. */
void holder_list(struct holder *holder, struct held *h, bool stuck);
/* With the lock: off its list, and its owner's again. */
void holder_unlist(struct holder *holder, struct held *h);
void holder_flush(struct holder *holder, enum why why);

/* Buffers: of BUFFER bytes, or of malloc(), by h->size. holder may be NULL. */
void held_release(struct held *h, struct holder *holder, bool locked);
uint8_t *buffer_new(struct holder *mine);

/* This is the main thread, or the only one of a child. */
void holder_main(void);
void holders_prepare_fork(void);
void holders_forked_parent(void);
void holders_forked_child(void);

/* ---- hold_pusher.c ----------------------------------------------------- */

/* The thread of ours is there, or is made. false: there is none to be had. */
bool pusher_ready(void);
/* Something is on a list. */
void pusher_wake(void);
unsigned pusher_tick(void);
uint64_t pusher_ticks(void);
void pusher_forked(void);
/*
 * The main thread ends, and the process is to go on only until the last thread of
 * the program does: so there is none of ours, and nothing is gathered any more.
 */
void pusher_end(void);

/* ---- hold_end.c -------------------------------------------------------- */

/*
 * What h owes becomes an orphan's, and h empty; with the lock of h's holder, or
 * h not on a list. Without a descriptor or memory for that: waits.
 */
void orphan_of(struct held *h, bool shut);
/* There is nobody to wait in our place: until nothing is owed, for a while. */
void held_wait(struct holder *holder, struct held *h);
void orphan_end(struct orphan *orphan);
void hold_pid_is_mine(void);

#endif
