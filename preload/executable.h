/* SPDX-License-Identifier: MIT */
/* asynctls-run: what an executable file says of itself. */
#ifndef ASYNCTLS_EXECUTABLE_H
#define ASYNCTLS_EXECUTABLE_H

#include <limits.h>
#include <stdbool.h>

struct executable_facts {
	bool elf;	  /* it is one */
	bool ours;	  /* of this machine; else no more is told */
	unsigned machine; /* as its header numbers it */
	unsigned bits;
	char loader[PATH_MAX]; /* "": linked statically */
	bool needs_libssl;     /* of any version, by its own list */
	bool defines_ssl;      /* it is, or has inside, an OpenSSL */
	char first[256];       /* line of a script, "" if it is none */
};

/* 0 or -errno; a file that is damaged tells less. */
int executable_look(const char *path, struct executable_facts *facts);

/*
 * The first library whose name begins so, but is not this one, among those that
 * the loader would load for the program: into name. false: none, or the loader
 * does not tell.
 */
bool executable_loads(const char *loader, const char *path, const char *begin,
		      const char *but, char name[NAME_MAX]);

#endif
