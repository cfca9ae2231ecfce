/* SPDX-License-Identifier: MIT */
#include "soak.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>

enum { STALLED = 10000 }; /* ms without any progress */

struct sockaddr_in server = {.sin_family = AF_INET};
double deadline;
atomic_bool wrong;
SSL_CTX *ctx;

double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

bool time_is_up(void)
{
	return wrong || now() >= deadline;
}

static uint64_t mixed(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

size_t any(struct client *client, size_t below)
{
	return mixed(client->random += 0x9e3779b97f4a7c15) % below;
}

bool complain(struct client *client, const char *format, ...)
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

/* ---- What is in files ---------------------------------------------------- */

void fill(uint64_t seed, size_t offset, unsigned char *to, size_t size)
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

/* ---- Bytes --------------------------------------------------------------- */

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

bool update_keys(struct client *client)
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

bool send_all(struct client *client, const void *data, size_t size)
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

/* ---- Connections --------------------------------------------------------- */

const char *const SUITES[] = {
	"TLS_AES_128_GCM_SHA256",        "TLS_AES_256_GCM_SHA384",
	"TLS_CHACHA20_POLY1305_SHA256",  "TLS_AES_128_CCM_SHA256",
	"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
	"ECDHE-ECDSA-CHACHA20-POLY1305",
};

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

bool start(struct client *client, const char *suite)
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

void reset(struct client *client)
{
	struct linger at_once = { 1, 0 };

	setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &at_once,
		   sizeof(at_once));
	close(client->fd);
	client->fd = -1;
}

void stop(struct client *client)
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

/* ---- HTTP ---------------------------------------------------------------- */

int request(char *to, size_t size, const char *path, const char *more)
{
	return snprintf(to, size,
			"GET /%s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", path,
			more);
}

bool ask(struct client *client, const char *path, const char *more)
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

bool answer(struct client *client, uint64_t seed, size_t size)
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

bool get(struct client *client, const char *prefix, size_t size)
{
	char path[40];

	snprintf(path, sizeof(path), "%s%zu", prefix, size);
	return ask(client, path, "") && answer(client, size, size) &&
	       !client->last;
}

bool ends(struct client *client, bool rough)
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
