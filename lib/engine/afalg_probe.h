/* SPDX-License-Identifier: MIT */
/*
 * Which kernel driver serves a cipher, and whether it does what it should:
 * right, completely, and asynchronously. With libkcapi as the other opinion.
 */
#ifndef ASYNCTLS_AFALG_PROBE_H
#define ASYNCTLS_AFALG_PROBE_H

#include "engine/afalg_socket.h"
#include "engine/engine.h"

struct ring;

struct afalg_options {
	const char *driver;	/* cra_driver_name, NULL: the kernel's choice */
	bool any_driver;	/* also synchronous drivers and wrappers */
	unsigned max_sockets;	/* operation sockets open at once */
};

/* What was found out about one cipher. */
struct afalg_choice {
	char driver[AFALG_NAME_MAX + 1]; /* "" until there is one */
	char refusal[200];               /* "" if it is usable */
	bool unbound; /* the name could not be bound: do not try again */
};

enum { AFALG_PROBE_SOCKETS = 16 };

/*
 * Find the driver for choices[id], the earlier ones being known. Binds each
 * name once: binding an unknown template name again stacks instances of it.
 */
void afalg_probe_find(struct afalg_choice choices[CIPHER_COUNT],
		      enum cipher_id id, const struct afalg_options *options);

/*
 * Check it through the engine, which submits to ring and needs room for
 * AFALG_PROBE_SOCKETS. Reaps ring. Waits a few seconds at most; requests that
 * have not completed by then are abandoned.
 */
void afalg_probe_check(struct afalg_choice *choice, struct engine *engine,
		       struct ring *ring, enum cipher_id id,
		       const struct afalg_options *options);

#endif
