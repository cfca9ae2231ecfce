/* SPDX-License-Identifier: MIT */
/*
 * Clients of a web server, many at once, each of which does one thing over and
 * over until the time is up: reads slowly, goes away in the middle, uploads,
 * ...
 *
 *   soak_client --write DIR SIZE...      files, named by their sizes
 *   soak_client ADDRESS PORT SECONDS     the server has these SIZES in its
 * root, takes PUT below /put/ and /proxy/put/, and has its root below /proxy/,
 * too
 *
 * What is in a file follows from its size, so that each byte that comes can be
 * looked at. The first thing that is wrong ends all. Prints what was done, as
 * JSON; the status is 1 if anything was wrong, and stderr says what.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

enum {
	STALLED = 10000, /* ms without any progress */
	CHUNK = 16384,
	BIG = 16 << 20,
	MIDDLE = 1 << 20,
	PIPELINE = 24,
};

static const size_t SMALL[] = { 0, 1, 137, 4096, 16383, 16384, 16385, 40000 };

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

static struct sockaddr_in server = { .sin_family = AF_INET };
static double deadline;
static atomic_bool wrong;
static SSL_CTX *ctx;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool time_is_up(void)
{
	return wrong || now() >= deadline;
}

/*
 * Shall a connection go on, after so many rounds? It has one in any case: one
 * that ends before anything is said may be over before it can be taken over.
 */
static bool goes_on(int done, int most)
{
	return done == 0 || (done < most && !time_is_up());
}

static uint64_t mixed(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

static size_t any(struct client *client, size_t below)
{
	return mixed(client->random += 0x9e3779b97f4a7c15) % below;
}

/* Says what is wrong; false. */
__attribute__((format(printf, 2, 3))) static bool
complain(struct client *client, const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	fprintf(stderr,
		"%s: %s (port %u, %s, offset %zu, answers %llu, %s %s)\n",
		client->behaviour->name, text, client->port, client->path,
		client->offset, (unsigned long long)client->answers,
		client->ssl ? SSL_get_version(client->ssl) : "-",
		client->ssl ? SSL_get_cipher_name(client->ssl) : "-");
	wrong = true;
	return false;
}

/* ---- What is in files
 * -------------------------------------------------------- */

static void fill(uint64_t seed, size_t offset, unsigned char *to, size_t size)
{
	for (size_t i = 0; i < size;) {
		size_t at = (offset + i) % 8, n = 8 - at;
		uint64_t word = mixed((offset + i) / 8 + (seed << 32));

		if (n > size - i)
			n = size - i;
		memcpy(to + i, (unsigned char *)&word + at, n);
		i += n;
	}
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

/* ---- Bytes
 * ------------------------------------------------------------------- */

/* Once OpenSSL has returned that error. */
static bool wait_for(struct client *client, int error)
{
	bool to_write = error == SSL_ERROR_WANT_WRITE;
	struct pollfd entry = { client->fd, to_write ? POLLOUT : POLLIN, 0 };
	int n;

	while ((n = poll(&entry, 1, STALLED)) < 0 && errno == EINTR)
		;
	if (n > 0)
		return true;
	return complain(client, "stalled: could not %s for %d s",
			to_write ? "write" : "read", STALLED / 1000);
}

static bool would_block(int error)
{
	return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
}

/* Did the server go, rather than say what is no TLS? */
static bool gone(int error)
{
	if (error == SSL_ERROR_SYSCALL)
		return true;
	return error == SSL_ERROR_SSL &&
	       ERR_GET_REASON(ERR_peek_error()) ==
		       SSL_R_UNEXPECTED_EOF_WHILE_READING;
}

static bool bad_call(struct client *client, const char *call, int error)
{
	char text[160] = "";

	if (error == SSL_ERROR_SYSCALL)
		snprintf(text, sizeof(text), "%s", strerror(errno));
	else
		ERR_error_string_n(ERR_peek_error(), text, sizeof(text));
	return complain(client, "%s: error %d: %s", call, error, text);
}

enum end { MORE, CLEAN, ROUGH, BAD };

/* More into client->in, of which all has been read. */
static enum end receive(struct client *client)
{
	size_t want = sizeof(client->in);

	if (client->slow && !time_is_up()) {
		want = 1 + any(client, 8192);
		usleep((useconds_t)any(client, 50) ? 2000 : 200000);
	}
	client->begin = client->end = 0;
	for (;;) {
		int n, error;

		ERR_clear_error();
		n = SSL_read(client->ssl, client->in, (int)want);
		if (n > 0) {
			client->end = (size_t)n;
			return MORE;
		}
		error = SSL_get_error(client->ssl, n);
		if (error == SSL_ERROR_ZERO_RETURN)
			return CLEAN;
		if (gone(error))
			return ROUGH;
		if (!would_block(error)) {
			bad_call(client, "SSL_read", error);
			return BAD;
		}
		if (!wait_for(client, error))
			return BAD;
	}
}

/* The server may end a connection that is kept, between two answers. */
static bool retired(struct client *client)
{
	client->retired++;
	client->last = true;
	return false;
}

static bool update_keys(struct client *client)
{
	int type = any(client, 2) ? SSL_KEY_UPDATE_REQUESTED
				  : SSL_KEY_UPDATE_NOT_REQUESTED;
	int n;

	/* refused until the one before has gone */
	if (SSL_get_key_update_type(client->ssl) != SSL_KEY_UPDATE_NONE)
		return true;
	ERR_clear_error();
	if (!SSL_key_update(client->ssl, type))
		return bad_call(client, "SSL_key_update", SSL_ERROR_SSL);
	client->updates++;
	while ((n = SSL_do_handshake(client->ssl)) != 1) {
		int error = SSL_get_error(client->ssl, n);

		if (gone(error) && client->kept)
			return retired(client);
		if (!would_block(error))
			return bad_call(client, "SSL_do_handshake", error);
		if (!wait_for(client, error))
			return false;
	}
	return true;
}

static bool send_all(struct client *client, const void *data, size_t size)
{
	const unsigned char *from = data;

	while (size) {
		int n, error;

		ERR_clear_error();
		n = SSL_write(client->ssl, from, (int)size);
		if (n > 0) {
			from += n;
			size -= (size_t)n;
			continue;
		}
		error = SSL_get_error(client->ssl, n);
		if (gone(error) && client->kept)
			return retired(client);
		if (!would_block(error))
			return bad_call(client, "SSL_write", error);
		if (!wait_for(client, error))
			return false;
	}
	return true;
}

/* ---- Connections
 * ------------------------------------------------------------- */

static const char *const SUITES[] = {
	"TLS_AES_128_GCM_SHA256",        "TLS_AES_256_GCM_SHA384",
	"TLS_CHACHA20_POLY1305_SHA256",  "TLS_AES_128_CCM_SHA256",
	"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
	"ECDHE-ECDSA-CHACHA20-POLY1305",
};
enum { SUITE_COUNT = sizeof(SUITES) / sizeof(SUITES[0]), ONLY_13 = 4 };

static bool choose_suite(struct client *client, const char *suite)
{
	bool tls13 = strncmp(suite, "TLS_", 4) == 0;
	int version = tls13 ? TLS1_3_VERSION : TLS1_2_VERSION;

	SSL_set_min_proto_version(client->ssl, version);
	SSL_set_max_proto_version(client->ssl, version);
	return tls13 ? SSL_set_ciphersuites(client->ssl, suite)
		     : SSL_set_cipher_list(client->ssl, suite);
}

static bool connect_tcp(struct client *client, int window)
{
	struct sockaddr_in me;
	socklen_t size = sizeof(me);
	int one = 1;

	client->fd = socket(AF_INET, SOCK_STREAM, 0);
	if (window)
		setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &window,
			   sizeof(window));
	setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(client->fd, (struct sockaddr *)&server, sizeof(server)))
		return complain(client, "connect: %s", strerror(errno));
	getsockname(client->fd, (struct sockaddr *)&me, &size);
	client->port = ntohs(me.sin_port);
	return true;
}

static bool shake_hands(struct client *client)
{
	int n;

	ERR_clear_error();
	while ((n = SSL_connect(client->ssl)) != 1) {
		int error = SSL_get_error(client->ssl, n);

		if (!would_block(error))
			return bad_call(client, "SSL_connect", error);
		if (!wait_for(client, error))
			return false;
	}
	client->connections++;
	client->resumed += SSL_session_reused(client->ssl) ? 1 : 0;
	return true;
}

/* suite: NULL for any */
static bool start(struct client *client, const char *suite)
{
	if (!suite)
		suite = SUITES[any(client, SUITE_COUNT)];
	if (!connect_tcp(client, client->slow ? 32768 : 0))
		return false;
	client->ssl = SSL_new(ctx);
	if (!client->ssl || !choose_suite(client, suite))
		return complain(client, "no SSL for %s", suite);
	if (client->session)
		SSL_set_session(client->ssl, client->session);
	if (any(client, 4) == 0)
		SSL_set_max_send_fragment(client->ssl,
					  512 + (long)any(client, 8000));
	if (any(client, 8) == 0)
		SSL_set_block_padding(client->ssl, 256);
	SSL_set_fd(client->ssl, client->fd);
	BIO_socket_nbio(client->fd, 1);
	return shake_hands(client);
}

static void reset(struct client *client)
{
	struct linger at_once = { 1, 0 };

	setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &at_once,
		   sizeof(at_once));
	close(client->fd);
	client->fd = -1;
}

static void stop(struct client *client)
{
	ERR_clear_error();
	/* not after a reset: the descriptor may be another client's by now */
	if (client->ssl && client->fd >= 0 && !wrong && any(client, 4))
		SSL_shutdown(client->ssl);
	SSL_free(client->ssl);
	if (client->fd >= 0)
		close(client->fd);
	client->ssl = NULL;
	client->fd = -1;
	client->begin = client->end = client->offset = 0;
	client->kept = client->last = client->slow = false;
	client->leave_at = client->update_every = 0;
}

/* ---- HTTP
 * -------------------------------------------------------------------- */

static int request(char *to, size_t size, const char *path, const char *more)
{
	return snprintf(to, size,
			"GET /%s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", path,
			more);
}

static bool ask(struct client *client, const char *path, const char *more)
{
	char text[256];
	int size = request(text, sizeof(text), path, more);

	client->offset = 0;
	snprintf(client->path, sizeof(client->path), "%s", path);
	return send_all(client, text, (size_t)size);
}

/* An answer's head; false with client->last set: none came, and may not. */
static bool read_head(struct client *client, char *head, size_t size)
{
	size_t n = 0;

	while (n < 4 || memcmp(head + n - 4, "\r\n\r\n", 4) != 0) {
		if (client->begin == client->end) {
			enum end end = receive(client);

			if (end == BAD)
				return false;
			if (end != MORE && !n && client->kept)
				return retired(client);
			if (end != MORE)
				return complain(client, "%s end in a head",
						end == CLEAN ? "clean"
							     : "rough");
		}
		if (n + 1 == size)
			return complain(client, "a head without end");
		head[n++] = (char)client->in[client->begin++];
	}
	head[n] = 0;
	return true;
}

static bool check_body(struct client *client, uint64_t seed, size_t size)
{
	unsigned char want[CHUNK];
	size_t updated = 0;

	while (client->offset < size) {
		size_t n = size - client->offset;

		if (client->leave_at && client->offset >= client->leave_at)
			return false;
		if (client->begin == client->end && receive(client) != MORE)
			return wrong ? false
				     : complain(client, "ended within a body");
		if (n > client->end - client->begin)
			n = client->end - client->begin;
		fill(seed, client->offset, want, n);
		for (size_t i = 0; i < n; i++)
			if (client->in[client->begin + i] != want[i]) {
				client->offset += i;
				return complain(client, "wrong byte");
			}
		client->begin += n;
		client->offset += n;
		client->bytes += n;
		if (!client->update_every ||
		    client->offset - updated < client->update_every)
			continue;
		updated = client->offset;
		if (!update_keys(client))
			return false;
	}
	return true;
}

/* An answer with that body, or of any status of 2xx with none (seed is 0). */
static bool answer(struct client *client, uint64_t seed, size_t size)
{
	char head[2048];
	const char *length;
	int status = 0;

	client->offset = 0;
	if (!read_head(client, head, sizeof(head)))
		return false;
	length = strstr(head, "\r\nContent-Length: ");
	if (sscanf(head, "HTTP/1.1 %d", &status) != 1 || status / 100 != 2)
		return complain(client, "answer: %.60s", head);
	if (size && (!length || strtoul(length + 18, NULL, 10) != size))
		return complain(client, "length: not %zu", size);
	client->last = strstr(head, "\r\nConnection: close") != NULL;
	if (!check_body(client, seed, size))
		return false;
	client->kept = true;
	client->answers++;
	return true;
}

static bool get(struct client *client, const char *prefix, size_t size)
{
	char path[40];

	snprintf(path, sizeof(path), "%s%zu", prefix, size);
	return ask(client, path, "") && answer(client, size, size) &&
	       !client->last;
}

/* Nothing else comes but close_notify; or FIN alone, if that may be. */
static bool ends(struct client *client, bool rough)
{
	if (client->begin != client->end)
		return complain(client, "more than the answer");
	switch (receive(client)) {
	case CLEAN:
		return true;
	case MORE:
		return complain(client, "more than the answer");
	case ROUGH:
		return rough || complain(client, "an end without close_notify");
	default:
		return false;
	}
}

static size_t small(struct client *client)
{
	return SMALL[any(client, sizeof(SMALL) / sizeof(SMALL[0]))];
}

/* ---- Behaviours
 * -------------------------------------------------------------- */

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

/* ---- All of them
 * ------------------------------------------------------------- */

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
