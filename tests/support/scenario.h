/* SPDX-License-Identifier: MIT */
/*
 * A connection's whole life: an OpenSSL handshake, the hand-over of the
 * server's end, an echo of some records each way with KeyUpdates among them
 * (in TLS 1.3), a file, close_notify both ways. It may go wrong only where
 * something was made to fail, and then with words, without a wrong byte and
 * without a wait that does not end.
 */
#ifndef TESTS_SCENARIO_H
#define TESTS_SCENARIO_H

#include <stdbool.h>

#include "asynctls.h"
#include "inject.h"

/* What scenarios of this version (TLS1_3_VERSION) are played with. */
void scenario_set_up(int version);
/*
 * Its contexts are to use the kernel's engine; and of the calls, only every
 * step-th is to fail, since that takes longer.
 */
void scenario_use_driver(const char *name, long step);
void scenario_tear_down(void);

/*
 * Create a context; NULL where that failed, as it may if something was to. The
 * caller frees it.
 */
struct tls_context *scenario_context(enum tls_context_kind kind);

/*
 * Play it in this context. Whether all went well; false is for those that had
 * a call fail.
 */
bool scenario_play(struct tls_context *ctx);

/*
 * Create a context, play it there and free the context, with one call failing
 * after the other; and, if many is not 1, with so many in a row from that one
 * on. At least so many different ones must be there to fail.
 */
void scenario_in_contexts(enum tls_context_kind kind, enum inject_into where,
			  int error, long many, long least);
/*
 * The same in one context that stays. Only ECONNRESET and EPIPE may end a
 * connection; a scenario after them must go well.
 */
void scenario_in_a_context(enum tls_context_kind kind, enum inject_into where,
			   int error, long least);

#endif
