/* SPDX-License-Identifier: MIT */
/*
 * What the drop-in has done, for who asks: counters of this process, as JSON
 * (ASYNCTLS_STATS=FILE), and a line for each reason why a connection was left to
 * OpenSSL (ASYNCTLS_LOG=FILE or "stderr"). "%p" in a file's name is the process's
 * number; without it the file is appended to, an object a line for each process.
 *
 * The file is written at exit; and, while the process runs, whenever a file of
 * that name with ".now" behind it has been made: it is removed then. (That is
 * looked for by the thread that sends what was held, about once a second, and
 * by connections that are taken over.)
 */
#ifndef ASYNCTLS_TALLY_H
#define ASYNCTLS_TALLY_H

#include <stdatomic.h>
#include <stdint.h>

/* Of one thread, so that none waits for another; summed up when asked. */
struct tally {
	_Atomic uint64_t taken;	   /* connections taken over */
	_Atomic uint64_t returned; /* of those, given back to OpenSSL */
	_Atomic uint64_t failed;
	_Atomic uint64_t tx_records, tx_bytes, rx_records, rx_bytes;
	_Atomic uint64_t receives; /* calls of recv() */
	_Atomic uint64_t refused_fork; /* a relative went on: claim.h */
};

/* This thread's. Never NULL: what finds no memory is counted by all threads. */
struct tally *tally_mine(void);
#define tally_add(counter, n)                                              \
	atomic_fetch_add_explicit(&tally_mine()->counter, (n),             \
				  memory_order_relaxed)

/* Once, with the environment as it is at the start of the process. */
void tally_start(void);

/*
 * A connection stays with OpenSSL, for this reason: static text, of which there
 * are few. The first time a reason is met in a process, it is logged.
 */
void tally_declined(const char *why);

/* Has somebody asked by FILE.now? Then write. */
void tally_look(void);
/* The process ends: write, once. Also where no destructor runs. */
void tally_end(void);
/* The child begins from nothing. */
void tally_forked(void);

#endif
