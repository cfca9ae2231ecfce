/* SPDX-License-Identifier: MIT */
/*
 * What the fuzzers share. An input is a program: its bytes choose what to do
 * next and how. Where they end, everything still to be done is done, and what
 * must hold of any connection is required.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "fake_engine.h"
#include "wire.h"

#define require(condition)                                                 \
	do {                                                               \
		if (!(condition)) {                                        \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__,   \
				__LINE__, #condition);                     \
			abort();                                           \
		}                                                          \
	} while (0)

struct input {
	const uint8_t *at;
	size_t left;
};

/* 0 where the input has ended. */
uint8_t take_byte(struct input *in);
/* 0 to most; of two bytes. */
size_t take_number(struct input *in, size_t most);
/* Up to most bytes, as many as the next one says. */
size_t take_bytes(struct input *in, const uint8_t **bytes, size_t most);

/* A connection with its other end in the fuzzer's hands, one for each input. */
struct rig {
	struct wire w;
	struct fake_engine *fake; /* NULL: on the CPU engine */
};

enum { RIG_MEMORY = 1 << 20, RIG_DEPTH = 8, RIG_REKEY = 30 };

/*
 * In a context that is kept from input to input: bit 0 of shape an engine that
 * completes when told to, bit 1 a client, bits 2 to 4 the suite. TLS 1.3
 * updates keys by itself every RIG_REKEY records.
 */
struct rig *rig_open(uint8_t shape);
bool rig_is_tls12(const struct rig *r);
/* Everything in flight completes well; what can move moves. */
void rig_settle(struct rig *r);
/* Let the kernel finish what it does beside us, if that is what it takes. */
void rig_rest(int idle_turns);
/* Memory is bounded, and given back. */
void rig_close(struct rig *r);
/* ... and so is the context. */
void rig_discard(struct rig *r);

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
