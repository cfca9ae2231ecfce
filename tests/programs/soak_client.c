/* SPDX-License-Identifier: MIT */
/*
 * Clients of a web server, many at once, each of which does one thing over and
 * over until the time is up: reads slowly, goes away in the middle, uploads,
 * and so on.
 *
 *   soak_client --write DIR SIZE...     writes files, named by their sizes
 *   soak_client ADDRESS PORT SECONDS    is the clients
 *
 * The server has files of the SIZES below in its root, takes PUT below /put/
 * and /proxy/put/, and has its root below /proxy/, too.
 *
 * What is in a file follows from its size, so that each byte that comes can be
 * looked at. The first thing that is wrong ends all. Prints what was done, as
 * JSON; the status is 1 if anything was wrong, and stderr says what.
 */
#include "soak.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	BIG = 16 << 20,
	MIDDLE = 1 << 20,
	PIPELINE = 24,
};

/*
 * Shall a connection go on, after so many rounds? It has one in any case: one
 * that ends before anything is said may be over before it can be taken over.
 */
static bool goes_on(int done, int most)
{
	return done == 0 || (done < most && !time_is_up());
}

static const size_t SMALL[] = {0, 1, 137, 4096, 16383, 16384, 16385, 40000};

static size_t small(struct client *client)
{
	return SMALL[any(client, sizeof(SMALL) / sizeof(SMALL[0]))];
}

static int write_file(const char *dir, const char *name)
{
	static unsigned char data[BIG];
	size_t size = strtoul(name, NULL, 10);
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	file = size <= BIG ? fopen(path, "w") : NULL;
	if (!file)
		return 1;
	fill(size, 0, data, size);
	fwrite(data, 1, size, file);
	return fclose(file) ? 1 : 0;
}

/* ---- Behaviours ---------------------------------------------------------- */

static bool play_slow(struct client *client)
{
	client->slow = true;
	if (!start(client, NULL))
		return false;
	for (int i = 0; goes_on(i, 3); i++)
		if (!get(client, "", MIDDLE))
			return false;
	return true;
}

static bool play_reset(struct client *client)
{
	if (!start(client, NULL))
		return false;
	client->leave_at = 1 + any(client, BIG / 4);
	ask(client, "16777216", "");
	answer(client, BIG, BIG);
	if (client->offset < client->leave_at)
		return false;
	client->answers++;
	reset(client);
	return true;
}

static bool play_half_close(struct client *client)
{
	size_t size = any(client, 2) ? MIDDLE : 16385;

	/* a first answer: a connection that has ended is not taken over */
	if (!start(client, NULL) || !get(client, "", small(client)))
		return false;
	if (!ask(client, size == MIDDLE ? "1048576" : "16385", ""))
		return false;
	SSL_shutdown(client->ssl);
	if (any(client, 2))
		shutdown(client->fd, SHUT_WR);
	return answer(client, size, size) && ends(client, true);
}

static bool play_keep_alive(struct client *client)
{
	if (!start(client, NULL))
		return false;
	for (int i = 0; goes_on(i, 200); i++)
		if (!get(client, "", small(client)))
			return false;
	return true;
}

static bool play_pipeline(struct client *client)
{
	char text[PIPELINE * 128], path[20];
	size_t sizes[PIPELINE], size, sent, n;

	if (!start(client, NULL))
		return false;
	for (int round = 0; goes_on(round, 10); round++) {
		size = 0;
		for (int i = 0; i < PIPELINE; i++) {
			sizes[i] = any(client, 12) ? small(client) : MIDDLE;
			snprintf(path, sizeof(path), "%zu", sizes[i]);
			size += (size_t)request(text + size,
						sizeof(text) - size, path, "");
		}
		client->offset = 0;
		snprintf(client->path, sizeof(client->path), "pipeline");
		for (sent = 0; sent < size; sent += n) {
			n = 1 + any(client, size - sent);
			if (!send_all(client, text + sent, n))
				return false;
		}
		for (int i = 0; i < PIPELINE; i++)
			if (!answer(client, sizes[i], sizes[i]) || client->last)
				return false;
	}
	return true;
}

static bool put(struct client *client, const char *path, uint64_t seed,
		size_t size)
{
	unsigned char data[CHUNK];
	char head[256];
	int n = snprintf(head, sizeof(head),
			 "PUT /%s HTTP/1.1\r\nHost: localhost\r\n"
			 "Content-Length: %zu\r\n\r\n",
			 path, size);

	client->offset = 0;
	snprintf(client->path, sizeof(client->path), "PUT %s", path);
	if (!send_all(client, head, (size_t)n))
		return false;
	while (client->offset < size) {
		size_t part = 1 + any(client, CHUNK);

		if (part > size - client->offset)
			part = size - client->offset;
		fill(seed, client->offset, data, part);
		if (!send_all(client, data, part))
			return false;
		client->offset += part;
		client->bytes += part;
		if (client->update_every && any(client, 16) == 0 &&
		    !update_keys(client))
			return false;
	}
	return answer(client, 0, 0) && !client->last;
}

/* Up, and the same down again. */
static bool put_and_get(struct client *client)
{
	size_t size = 1 + any(client, any(client, 4) ? 50000 : 3 * MIDDLE);
	uint64_t seed = any(client, 1 << 30);
	char path[40];

	snprintf(path, sizeof(path), "%sput/%u", any(client, 3) ? "" : "proxy/",
		 client->number);
	return put(client, path, seed, size) &&
	       ask(client, strstr(path, "put/"), "") &&
	       answer(client, seed, size) && !client->last;
}

static bool play_upload(struct client *client)
{
	if (!start(client, NULL))
		return false;
	for (int i = 0; goes_on(i, 10); i++)
		if (!put_and_get(client))
			return false;
	return true;
}

static bool play_large(struct client *client)
{
	return start(client, NULL) && get(client, "", BIG);
}

static bool play_key_update(struct client *client)
{
	if (!start(client, SUITES[any(client, ONLY_13)]))
		return false;
	client->update_every = 1 + any(client, 300000);
	for (int i = 0; goes_on(i, 10); i++) {
		if (!update_keys(client) || !get(client, "", small(client)) ||
		    !get(client, "", MIDDLE) || !put_and_get(client))
			return false;
	}
	return true;
}

static bool play_upstream(struct client *client)
{
	if (!start(client, NULL))
		return false;
	for (int i = 0; goes_on(i, 20); i++)
		if (!get(client, "proxy/",
			 any(client, 4) ? small(client) : MIDDLE))
			return false;
	return true;
}

/* One answer, the next time with the same session. */
static bool play_short(struct client *client)
{
	size_t size = small(client);
	char path[20];

	snprintf(path, sizeof(path), "%zu", size);
	if (!start(client, SUITES[client->number % SUITE_COUNT]) ||
	    !ask(client, path, "Connection: close\r\n") ||
	    !answer(client, size, size) || !ends(client, false))
		return false;
	SSL_SESSION_free(client->session);
	client->session = any(client, 4) ? SSL_get1_session(client->ssl) : NULL;
	return true;
}

static bool play_idle(struct client *client)
{
	if (!start(client, NULL))
		return false;
	for (int i = 0; i < 3 && get(client, "", small(client)); i++)
		for (int t = 0; t < 100 && !time_is_up(); t++)
			usleep(10000);
	return true;
}

/* A request in records of a byte or few. */
static bool play_trickle(struct client *client)
{
	char text[128];
	size_t size, n;

	if (!start(client, NULL))
		return false;
	for (int i = 0; goes_on(i, 10); i++) {
		size = (size_t)request(text, sizeof(text), "40000", "");
		client->offset = 0;
		snprintf(client->path, sizeof(client->path), "40000");
		for (size_t sent = 0; sent < size; sent += n) {
			n = 1 + any(client, 3);
			if (n > size - sent)
				n = size - sent;
			if (!send_all(client, text + sent, n))
				return false;
			if (any(client, 8) == 0)
				usleep(1000);
		}
		if (!answer(client, 40000, 40000) || client->last)
			return false;
	}
	return true;
}

/* A suite of the kind that the drop-in leaves to OpenSSL. */
static bool play_cbc(struct client *client)
{
	if (!start(client, "ECDHE-ECDSA-AES128-SHA256"))
		return false;
	for (int i = 0; goes_on(i, 10); i++)
		if (!get(client, "", small(client)))
			return false;
	return get(client, "", MIDDLE);
}

static const struct behaviour behaviours[] = {
	{ "slow", 8, play_slow },
	{ "reset", 6, play_reset },
	{ "half-close", 5, play_half_close },
	{ "keep-alive", 8, play_keep_alive },
	{ "pipeline", 6, play_pipeline },
	{ "upload", 7, play_upload },
	{ "large", 5, play_large },
	{ "key-update", 7, play_key_update },
	{ "upstream", 4, play_upstream },
	{ "short", 4, play_short },
	{ "idle", 2, play_idle },
	{ "trickle", 1, play_trickle },
	{ "cbc", 1, play_cbc },
};
enum { BEHAVIOURS = sizeof(behaviours) / sizeof(behaviours[0]), CLIENTS = 64 };

/* ---- All of them --------------------------------------------------------- */

static void *run(void *arg)
{
	struct client *client = arg;

	client->fd = -1;
	client->random = client->number * 1000003 + (uint64_t)time(NULL);
	while (!time_is_up()) {
		client->behaviour->play(client);
		stop(client);
	}
	SSL_SESSION_free(client->session);
	return NULL;
}

static void report(const struct client *clients)
{
	printf("{");
	for (size_t b = 0; b < BEHAVIOURS; b++) {
		uint64_t sum[6] = { 0 };

		for (size_t i = 0; i < CLIENTS; i++) {
			const struct client *c = &clients[i];

			if (c->behaviour != &behaviours[b])
				continue;
			sum[0] += c->connections;
			sum[1] += c->answers;
			sum[2] += c->bytes;
			sum[3] += c->updates;
			sum[4] += c->resumed;
			sum[5] += c->retired;
		}
		printf("%s\n\"%s\": {\"connections\": %llu, \"answers\": %llu, "
		       "\"bytes\": %llu, \"updates\": %llu, \"resumed\": %llu, "
		       "\"retired\": %llu}",
		       b ? "," : "", behaviours[b].name,
		       (unsigned long long)sum[0], (unsigned long long)sum[1],
		       (unsigned long long)sum[2], (unsigned long long)sum[3],
		       (unsigned long long)sum[4], (unsigned long long)sum[5]);
	}
	printf("}\n");
}

static int soak(void)
{
	static struct client clients[CLIENTS];
	unsigned count = 0;

	ctx = SSL_CTX_new(TLS_client_method());
	if (!ctx)
		return 2;
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
				      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	for (size_t b = 0; b < BEHAVIOURS; b++)
		for (unsigned i = 0; i < behaviours[b].clients; i++) {
			clients[count].behaviour = &behaviours[b];
			clients[count].number = count;
			count++;
		}
	for (unsigned i = 0; i < count; i++)
		if (pthread_create(&clients[i].thread, NULL, run, &clients[i]))
			abort();
	for (unsigned i = 0; i < count; i++)
		pthread_join(clients[i].thread, NULL);
	report(clients);
	SSL_CTX_free(ctx);
	return wrong ? 1 : 0;
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (argc > 3 && strcmp(argv[1], "--write") == 0) {
		for (int i = 3; i < argc; i++)
			if (write_file(argv[2], argv[i]))
				return 1;
		return 0;
	}
	if (argc != 4 || inet_pton(AF_INET, argv[1], &server.sin_addr) != 1) {
		fprintf(stderr, "usage: soak_client ADDRESS PORT SECONDS\n"
				"       soak_client --write DIR SIZE...\n");
		return 2;
	}
	server.sin_port = htons((uint16_t)strtoul(argv[2], NULL, 10));
	deadline = now() + strtod(argv[3], NULL);
	return soak();
}
