/* SPDX-License-Identifier: MIT */
/* What the tests of bad and odd peers share: one wire, and how it may end. */
#ifndef TESTS_HOSTILE_H
#define TESTS_HOSTILE_H

#include "wire.h"

extern uint8_t content[RECORD_PLAIN_MAX + 256];
extern uint8_t record[RECORD_WIRE_MAX + 64];
extern struct wire w;

/* Make w a connection whose own end waits in its calls; as server, client. */
void begin(enum tls_context_kind kind);
void begin_client(void);
void both_kinds(void (*check)(enum tls_context_kind kind));

/* Nobody sends any more. */
void end_stream(void);
void expect_data(const void *data, size_t len);
/* Every entry point that writes returns the error from now on. */
void expect_no_more_to_write(int error);
/*
 * Every entry point returns the error from now on; of -ENODATA, those that read,
 * and writing goes on. Closes.
 */
void expect_sticky(int error);
/*
 * The next read fails so, the alert arrives at the peer, and nothing else
 * does; ends w.
 */
void expect_end(int error, int alert);

#endif
