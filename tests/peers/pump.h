/* SPDX-License-Identifier: MIT */
/*
 * One end of a connection that is put to use in each direction, whatever the
 * TLS library: both at once, then to the server alone, then to the client
 * alone, in writes of random sizes. Every byte is known and compared.
 *
 *	PROGRAM server --cert FILE --key FILE ...	prints where it listens
 *	PROGRAM client --port N ...
 *
 * serves, or is, one client. pump.c has the other flags. The last line of output
 * is "LIBRARY: VERSION SUITE, N bytes each way identical".
 */
#ifndef PEERS_PUMP_H
#define PEERS_PUMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* By the names of GnuTLS, which knows what a suite consists of. */
struct cipher_suite {
	const char *cipher;	/* "AES-128-GCM" */
	const char *tls13;	/* by OpenSSL's name */
	const char *tls12;
	const char *tls12_iana; /* with dashes */
};

struct pump_options {
	bool server;
	const char *cert, *key, *port;
	bool tls12; /* else 1.3 */
	const struct cipher_suite *suite;
	uint64_t bytes;	 /* in each direction and phase */
	uint64_t update; /* a KeyUpdate every so many bytes sent; 0: none */
	unsigned padding;
	unsigned seed;
	/* our own library: the kind of context; KeyUpdates ask for none back */
	bool worker, unanswered;
};

/* What a library does. Errors end the program, with words. */
struct library {
	const char *name;
	/* Handshake on a connected, blocking socket; then make it not block. */
	void (*open)(const struct pump_options *o, int fd);
	/* A count, 0 at the peer's close_notify, or -EAGAIN. */
	ssize_t (*read)(void *buf, size_t len);
	/* A count or -EAGAIN; then it is called with the same bytes again. */
	ssize_t (*write)(const void *buf, size_t len);
	/* KeyUpdates in both directions; NULL: it cannot. */
	void (*update)(void);
	/* Send close_notify. 0 or -EAGAIN. */
	int (*shutdown)(void);
	/* Wait until read or, if writing, write or shutdown may get on. */
	void (*wait)(bool writing);
	/* "VERSION SUITE", by the library's own words. */
	void (*describe)(char *buf, size_t len);
	void (*close)(void);
};

int pump_main(int argc, char **argv, const struct library *library);

/* What wait() is with a library that leaves the socket to its user. */
void pump_poll(int fd, bool writing);
void pump_no_block(int fd);

#endif
