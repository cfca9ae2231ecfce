/* SPDX-License-Identifier: MIT */
/*
 * The kernel engine: crypto drivers through AF_ALG, asynchronously.
 *
 * A key is a transform socket (bind, ALG_SET_KEY); a request needs an
 * operation socket accepted from it, and takes one at a time, so N requests in
 * flight are N operation sockets. They are opened when first needed, bounded
 * per engine, and closed again when the engine is over its share or idle; so is
 * a transform socket whose key is not used for a while.
 */
#ifndef ASYNCTLS_ENGINE_AFALG_H
#define ASYNCTLS_ENGINE_AFALG_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/afalg_probe.h"

struct ring;

struct afalg_stats {
	unsigned sockets_now;
	unsigned transforms; /* sockets of keys that are open */
	unsigned sockets_peak;
	uint64_t allocations;
};

/*
 * Probe every cipher and keep those that answer as the options want it:
 * opened through libkcapi, known answer checked both ways synchronously, known
 * answer checked on the asynchronous path, asynchrony measured. What does not
 * pass has its reason in refusal().
 *
 * 0 even if no cipher passed; -ENOMEM. Nothing else may be in flight on the
 * ring, which is reaped. At the end free all keys, then the ring, then the
 * engine: as long as there is a ring, abandoned operations may complete.
 */
int engine_afalg_new(struct engine **engine, struct ring *ring,
		     const struct afalg_options *options);

/*
 * Close the operation sockets of keys not used since the last call, and the
 * transform sockets of those not used in the last AFALG_TRIMS.
 */
enum { AFALG_TRIMS = 10 };
void engine_afalg_trim(struct engine *engine);

void engine_afalg_stats(const struct engine *engine, struct afalg_stats *stats);

#endif
