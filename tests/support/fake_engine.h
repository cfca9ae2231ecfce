/* SPDX-License-Identifier: MIT */
/*
 * An engine that completes what it is told to, when and how it is told to. Its
 * bytes are the CPU engine's.
 */
#ifndef TESTS_FAKE_ENGINE_H
#define TESTS_FAKE_ENGINE_H

#include "engine/engine.h"

enum fake_outcome {
	FAKE_OK,
	FAKE_FAILS,	/* -EIO, and rubbish in the output */
	FAKE_FORGED,	/* -EBADMSG, whether true or not */
	FAKE_FULL,	/* -ENOSPC: its queue has no room */
};

struct fake_engine;

struct fake_engine *fake_new(void);
void fake_free(struct fake_engine *fake);
struct engine *fake_as_engine(struct fake_engine *fake);

/* Refuse the n-th submission from now on (0 the next) with -EBUSY. */
void fake_refuse(struct fake_engine *fake, unsigned n);

/*
 * Keep writing to what is abandoned, as a driver may: abandon says so, and
 * fake_scribble() does it, which returns how many such operations there are.
 * fake_let_go() completes them.
 */
void fake_cling(struct fake_engine *fake);
unsigned fake_scribble(struct fake_engine *fake);
void fake_let_go(struct fake_engine *fake);

/* Keys it has been given and not told to free. */
unsigned fake_keys(const struct fake_engine *fake);

/* Operations in flight; 0 is the one submitted first. */
unsigned fake_pending(const struct fake_engine *fake);
void fake_complete(struct fake_engine *fake, unsigned i,
		   enum fake_outcome outcome);
void fake_complete_all(struct fake_engine *fake);

#endif
