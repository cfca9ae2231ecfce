/* SPDX-License-Identifier: MIT */
/*
 * Proof that what handoff_take() says of keys and sequence numbers is so: what
 * struct handoff calls the proof opens under them, and leaves things as they are.
 */
#ifndef ASYNCTLS_PROOF_H
#define ASYNCTLS_PROOF_H

#include "keys/keys.h"

struct handoff;

struct prover {
	/*
	 * Do this operation, an opening, before it returns: op->result, or
	 * -ETIMEDOUT if the engine has not come to an end with it.
	 */
	int (*open)(void *with, struct keygen *gen, struct aead_op *op);
	void *with;
	uint8_t *room; /* RECORD_WIRE_MAX bytes to open into; wiped */
};

/*
 * 0; what OpenSSL had read ahead is then reduced to what is under rx's key. Else
 * -errno as tls_handoff() documents, with *why set to static text.
 */
int proof_check(const struct prover *p, struct keygen *tx, struct keygen *rx,
		struct handoff *h, const char **why);

#endif
