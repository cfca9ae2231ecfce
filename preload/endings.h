/* SPDX-License-Identifier: MIT */
/*
 * The ways in which a process or a descriptor comes to its end, so that what is
 * held (hold.h) leaves before. Covered: close() and its kin, shutdown(), passing
 * of descriptors, fork(), exec, exit(), _exit(), quick_exit(), the end of the last
 * thread, and signals whose default action ends the process. Not: SIGKILL; a
 * handler of the program's own with SA_RESETHAND that returns into the same fault;
 * system calls made with syscall(). For those there is HOLD_NS.
 */
#ifndef ASYNCTLS_ENDINGS_H
#define ASYNCTLS_ENDINGS_H

/* Once, with hold_start(). */
void ends_start(void);

/* To be called when the process is about to end, or to execute another program,
 * behind all that is held; async-signal-safe. NULL: nothing. */
extern void (*ends_also)(void);

/*
 * Signals whose default action ends the process: from now on by a handler of
 * ours, which the program does not see (interpose_signals.c).
 */
void signals_guard(void);

enum { ENDS_SIGNAL_MS = 1000 }; /* for what the socket has no room for */

#endif
