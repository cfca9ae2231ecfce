/* SPDX-License-Identifier: MIT */
/* Which engines a context has, and why not others. */
#ifndef ASYNCTLS_CHOICE_H
#define ASYNCTLS_CHOICE_H

#include <stdbool.h>

#include "asynctls.h"
#include "engine/engine.h"

struct ring;

struct choice {
	enum tls_engine wanted;
	const char *driver; /* NULL: any */
	struct engine *kernel; /* NULL: was not to be probed */
	struct engine *cpu;    /* NULL: there is none, and why */
	const char *cpu_why;   /* or why it is not the fastest, or NULL */
	bool hybrid;	    /* records go to either */
	bool kernel_in_use; /* it serves at least one cipher */
};

/*
 * Settle what is wanted from the config and the environment, and open the
 * engines. 0 or -errno, with the words in error_set().
 */
int choice_make(struct choice *c, const struct tls_config *config,
		struct ring *ring);
void choice_destroy(struct choice *c);

/* As tls_context_describe(). */
int choice_describe(const struct choice *c, char *buf, size_t len);

#endif
