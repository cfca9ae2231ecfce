/* SPDX-License-Identifier: MIT */
/*
 * A client of soak_client: its connection, and HTTP on it. What returns false
 * has ended what the client does on this connection: something is wrong, which
 * has been said, or the server has ended it between two answers, as it may.
 */
#ifndef SOAK_H
#define SOAK_H

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

enum {
	CHUNK = 16384,
	SUITE_COUNT = 7,
	ONLY_13 = 4, /* so many of them come first */
};

extern const char *const SUITES[SUITE_COUNT];

struct client {
	const struct behaviour *behaviour;
	pthread_t thread;
	unsigned number;
	uint64_t random;
	SSL_SESSION *session;

	/* of this connection */
	int fd;
	SSL *ssl;
	unsigned port;
	unsigned char in[CHUNK];
	size_t begin, end; /* of what is unread in it */
	size_t offset;     /* in the body that comes or goes */
	char path[64];
	bool kept; /* it has had an answer */
	bool last; /* an answer said that no other comes */

	/* how it behaves */
	bool slow;
	size_t leave_at;     /* offset; 0: never */
	size_t update_every; /* bytes; 0: no KeyUpdate */

	uint64_t connections, answers, bytes, updates, resumed, retired;
};

struct behaviour {
	const char *name;
	unsigned clients;
	bool (*play)(struct client *client);
};

/* of all of them */
extern struct sockaddr_in server;
extern double deadline;
extern atomic_bool wrong; /* something is; all end */
extern SSL_CTX *ctx;

double now(void);
bool time_is_up(void);
size_t any(struct client *client, size_t below);
/* Says what is wrong; false. */
__attribute__((format(printf, 2, 3))) bool complain(struct client *client,
						    const char *format, ...);
/* What is in a file of that seed, from that offset. */
void fill(uint64_t seed, size_t offset, unsigned char *to, size_t size);

/* suite: NULL for any */
bool start(struct client *client, const char *suite);
void stop(struct client *client);
void reset(struct client *client);
bool send_all(struct client *client, const void *data, size_t size);
bool update_keys(struct client *client);

/* A request's text, and its length. */
int request(char *to, size_t size, const char *path, const char *more);
bool ask(struct client *client, const char *path, const char *more);
/* An answer with that body, or of any status of 2xx with none (seed is 0). */
bool answer(struct client *client, uint64_t seed, size_t size);
/* The file of that size, on a connection that goes on. */
bool get(struct client *client, const char *prefix, size_t size);
/* Nothing else comes but close_notify; or FIN alone, if that may be. */
bool ends(struct client *client, bool rough);

#endif
