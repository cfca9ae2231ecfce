/* SPDX-License-Identifier: MIT */
/* The part of a server that is not about serving: flags, signals, sums. */
#ifndef EXAMPLES_SERVER_SETUP_H
#define EXAMPLES_SERVER_SETUP_H

#include <stdbool.h>

#include <openssl/ssl.h>

#include "common.h"

struct server_options {
	const char *cert, *key, *host, *port, *tls, *cipher;
	unsigned threads;
	bool stats;
	struct tls_config config;
};

/* What is different from server to server. */
struct server_program {
	const char *usage;	    /* the first lines of --help */
	const char *help;	    /* lines about its own flags, or NULL */
	const struct option *flags; /* getopt_long()'s, at most 8; or NULL */
	void (*take)(int flag, const char *text); /* one of them */
};

/* All of these exit with a message when they fail. */
void server_options(struct server_options *o,
		    const struct server_program *program, int argc,
		    char **argv);
SSL_CTX *server_ssl_ctx(const struct server_options *o);

/*
 * Limits and signals; call it before threads start. Returns a descriptor that
 * polls readable, for good, once SIGTERM or SIGINT has come.
 */
int prepare_process(void);

void stats_print(const struct tls_stats *stats);

#endif
