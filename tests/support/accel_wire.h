/* SPDX-License-Identifier: MIT */
/*
 * What programs that run on the test accelerator have in common: a connection
 * on it whose other end is the test's, streams over that, a sink.
 */
#ifndef TESTS_ACCEL_WIRE_H
#define TESTS_ACCEL_WIRE_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "accel.h"
#include "base/util.h"
#include "wire.h"

enum {
	RECORD = RECORD_PLAIN_MAX,
	CHUNK = 4 * RECORD,
	STREAM = 2 << 20,
	SKIPPED = 77,
	NS_PER_US = 1000,
};

/* A test's setup and teardown: the accelerator as it was loaded. */
int accel_restored(void **state);
#define ACCEL_TEST(name)                                       \
	cmocka_unit_test_setup_teardown(name, accel_restored,  \
					accel_restored)

/* A connection on the accelerator, which has seen nothing of it yet. */
void accel_open(struct wire *w, struct wire_options options);
struct wire_options accel_blocking(enum tls_context_kind kind);
struct tls_stats accel_stats(struct wire *w);
double ms_since(uint64_t then);

/*
 * A part of a stream, for a thread of its own: no assertions there, they
 * belong to main().
 */
struct sender {
	struct wire *w;
	size_t from, len;
	ssize_t result; /* 0, or what went wrong */
};

/* Threads: we write and flush; the peer sends. */
void *write_stream(void *sender);
void *send_stream(void *sender);
/* The peer opens records and finds len bytes of the pattern; we read them. */
void peer_receives(struct wire *w, size_t from, size_t len);
void we_receive(struct wire *w, size_t from, size_t len);
/* All of it one way, and is it one unbroken stream? */
void transmit(struct wire *w, size_t len);
void receive(struct wire *w, size_t len);

/* A connection to a peer that takes everything, on a null cipher. */
struct sink {
	struct wire w;
	pthread_t thread;
};

void sink_open(struct sink *sink, enum tls_context_kind kind, unsigned depth);
void sink_close(struct sink *sink);

#endif
