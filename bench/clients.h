/* SPDX-License-Identifier: MIT */
/*
 * Clients that cost what clients without TLS cost: they seal all their requests
 * before the clock runs, and do not open the responses, only add up the lengths
 * of their records.
 */
#ifndef BENCH_CLIENTS_H
#define BENCH_CLIENTS_H

#include "bench.h"

struct client {
	void *end;
	int fd;
	struct sealed requests;
	unsigned next, count; /* of requests */
	uint64_t begin_ns;
	size_t got;        /* plaintext of the response */
	uint8_t header[5]; /* of the record that is arriving */
	size_t header_got, record_left;
};

/* As many as options.conns; handshakes are for the caller. */
struct client *clients_new(void);
void client_seal(struct client *c, const char *request, size_t len);

/*
 * One request at a time on each, answered by so many bytes of plaintext, for
 * options.ms. Stores what came of it in shared.
 */
void clients_run(struct client *clients, size_t response,
		 struct shared *shared);

#endif
