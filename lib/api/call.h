/* SPDX-License-Identifier: MIT */
/*
 * This folder is include/asynctls.h: arguments, waiting, words.
 *
 * What the public calls share: how long they wait, and that they end. They are
 * in asynctls.c (contexts, hand-over, what a connection is like), call_write.c
 * and call_read.c.
 */
#ifndef ASYNCTLS_CALL_H
#define ASYNCTLS_CALL_H

#include "context/ctx_gate.h"

/* In now_ns() time; UINT64_MAX for a time-out of -1. */
uint64_t call_deadline(int timeout_ms);
/* Is the descriptor a blocking one? */
bool call_may_wait(const struct tls_conn *conn);
/*
 * When a call that begins to wait must end, by SO_RCVTIMEO or SO_SNDTIMEO;
 * UINT64_MAX without.
 */
uint64_t call_socket_deadline(const struct tls_conn *conn, int option);
/*
 * Would the descriptor's own call wait, flags being the call's? *deadline is 0
 * until it is known.
 */
bool call_waits(const struct tls_conn *conn, unsigned flags, int option,
		uint64_t *deadline);

/*
 * Around what a call does outside of the context's gate: the thread is not
 * cancelled meanwhile. To be called in this order, with what the first returned.
 */
int call_keep_thread(void);
void call_let_thread(int cancel);

#endif
