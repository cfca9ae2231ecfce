/* SPDX-License-Identifier: MIT */
/*
 * What the drop-in has done, for who asks: counters of this process, as JSON
 * (ASYNCTLS_STATS=FILE), and a line for each reason why a connection was left to
 * OpenSSL (ASYNCTLS_LOG=FILE or "stderr").
 *
 * The file is appended to, an object a line, in one write(). A process writes a
 * line at its end ("at":"exit"), if any SSL was there to be taken over: a shell
 * writes none. "%p" in the file's name is the number of the process. Without it
 * all processes write to the one file, which is opened at the start, before a
 * daemon becomes another user or changes its root, and kept (own.h).
 *
 * While it runs, a process writes a line ("at":"now") when it finds FILE.now,
 * with an inode or a time of change that it has not seen before. So all the
 * workers of a server answer the same request, each once; who has made FILE.now
 * touches it to ask again, and removes it when he likes. What lay there when
 * the process began asks for nothing.
 *
 * Numbers are of the process since "started", a clock of its own in nanoseconds:
 * the last line of the same pid and started is the one that counts.
 */
#ifndef ASYNCTLS_TALLY_H
#define ASYNCTLS_TALLY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct hold_counts;

/* Of one thread, so that none waits for another; summed up when asked. */
struct tally {
	_Atomic uint64_t taken;	   /* connections taken over */
	_Atomic uint64_t returned; /* of those, given back to OpenSSL */
	_Atomic uint64_t failed;
	_Atomic uint64_t tx_records, tx_bytes, rx_records, rx_bytes;
	_Atomic uint64_t receives; /* calls of recv() */
	_Atomic uint64_t refused_fork; /* a relative went on: claim.h */
};

/*
 * This thread's. Never NULL: before tally_start(), and in a thread that has
 * nearly ended, it is one that all threads share.
 */
struct tally *tally_mine(void);
#define tally_add(counter, n)                                              \
	atomic_fetch_add_explicit(&tally_mine()->counter, (n),             \
				  memory_order_relaxed)

/* Once, with the environment as it is at the start of the process. */
void tally_start(void);
/* Whose counters go into the line, too: hold_counts(). */
void tally_also(struct hold_counts (*held)(void));

/*
 * A connection stays with OpenSSL, for this reason: static text, of which there
 * are few. The first time a reason is met in a process, it is logged.
 */
void tally_declined(const char *why);

/* Is it worth calling tally_look()? */
bool tally_wanted(void);
/* Has somebody asked by FILE.now? Then write. Looks about once a second. */
void tally_look(void);
/*
 * The process ends, or executes another program: write. Called again it writes
 * only if there is something new. Not in a vfork()ed child: does nothing there.
 * May be called in a signal handler.
 */
void tally_end(void);
/* The child begins from nothing. */
void tally_forked(void);

#endif
