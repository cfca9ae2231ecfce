/* SPDX-License-Identifier: MIT */
/*
 * One connection in bulk and many with small questions, all echoed by one
 * context, the one under test. What the many wait is counted in records of the
 * one, so that it does not depend on the machine.
 */
#ifndef TESTS_CROWD_H
#define TESTS_CROWD_H

#include <stdint.h>

#include "asynctls.h"

enum { CROWD = 1000, CROWD_ROUNDS = 3, CROWD_QUESTION = 200 };

struct crowd_options {
	struct tls_context *echoing; /* a loop; without connections */
	void (*turn)(void *arg);     /* called again and again, or NULL */
	void *arg;
};

struct crowd_result {
	uint64_t answers;
	/* records of the bulk, in and out, while a question went unanswered */
	uint64_t most, median;
	/* of them in all */
	uint64_t bulk_records;
};

/*
 * Each of the many asks CROWD_ROUNDS questions, the next when it has its
 * answer, and bulk data never stops. Returns when all are answered; the test
 * fails if a byte is wrong or none comes for 20 s.
 */
struct crowd_result crowd_run(const struct crowd_options *options);

#endif
