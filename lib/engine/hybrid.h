/* SPDX-License-Identifier: MIT */
/*
 * Per record, kernel or CPU: small records and those with few behind them are
 * sealed sooner on the CPU; large ones with many behind them keep an
 * accelerator busy that costs the CPU little.
 *
 * Two thresholds, learnt from what was measured and bounded:
 *
 *	min_len	    the length that takes the CPU as long as the kernel engine
 *		    needs from one completion to the next
 *	min_queue   how many records must be waiting for the kernel engine to
 *		    be through with them before the CPU would be
 *
 * While all goes to the CPU nothing is learnt of the kernel engine, so one
 * record in HYBRID_EXPLORE goes there all the same.
 */
#ifndef ASYNCTLS_HYBRID_H
#define ASYNCTLS_HYBRID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	HYBRID_LEN_MIN = 256,
	HYBRID_LEN_MAX = 8192,
	HYBRID_QUEUE_MAX = 16,
	HYBRID_EXPLORE = 256,
	HYBRID_SAMPLE = 32, /* CPU operations for one that is timed */
};

struct hybrid {
	bool on;
	size_t min_len;
	unsigned min_queue;
	uint64_t latency;	  /* ns, of a kernel operation */
	uint64_t interval;	  /* ns, between its completions when busy */
	uint64_t cpu_ps_per_byte; /* picoseconds */
	uint64_t last_done;	  /* now_ns() of the latest completion */
	unsigned turn, sample;
};

void hybrid_init(struct hybrid *h, bool on);

/* Is a record of len bytes better done on the CPU, with queue waiting? */
bool hybrid_prefers_cpu(struct hybrid *h, size_t len, unsigned queue);

/* A kernel operation has completed; others were in flight or not. */
void hybrid_kernel_done(struct hybrid *h, uint64_t submitted, uint64_t now,
			bool busy);

/* Should this CPU operation be timed? Then tell how long it took. */
bool hybrid_times_cpu(struct hybrid *h, size_t len);
void hybrid_cpu_done(struct hybrid *h, size_t len, uint64_t ns);

#endif
