/* SPDX-License-Identifier: MIT */
/*
 * One connection with a raw peer, on the CPU engine or on one that completes
 * when settle() lets it, that sends a pattern of which the peer checks every
 * record. For tests that must hold on both.
 */
#ifndef TESTS_EITHER_H
#define TESTS_EITHER_H

#include "fake_engine.h"
#include "wire.h"

extern struct fake_engine *fake; /* NULL: on the CPU engine */
extern struct wire w;
extern size_t taken, read_back; /* of the pattern */
extern uint8_t data[1 << 20];	/* the pattern from 0 on */
extern uint8_t content[RECORD_PLAIN_MAX + 256];

int on_the_cpu(void **state);
int asynchronously(void **state);
int finish(void **state);

#define CPU(test) { #test " (cpu)", test, on_the_cpu, finish, NULL }
#define ASYNC(test) { #test " (async)", test, asynchronously, finish, NULL }
#define BOTH(test) CPU(test), ASYNC(test)

/* In a loop context. */
void open_wire(struct wire_options options);
struct tls_stats stats(void);

/* Let everything complete and leave that can. */
void settle(void);

void write_pattern(size_t len, unsigned flags);
/* The next record has len bytes, and they are the next of the pattern. */
void expect_record(size_t len);
/* ... and that was all there is. */
void expect_no_more(void);
/* Receive the whole records that have come; returns how many. */
int drain(void);

#endif
