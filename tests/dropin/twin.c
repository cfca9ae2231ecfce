/* SPDX-License-Identifier: MIT */
/*
 * One end of a connection says everything that a program can see of OpenSSL's
 * calls: what they return, SSL_get_error(), what is pending, what was called back,
 * and what the other end sees of it, record by record. Run with the drop-in and
 * without (twin.sh): the words must be the same.
 *
 * The other end calls libssl's own functions, so that it is never taken over.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <linux/sockios.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "certificate.h"

#define DIE(...)                                                           \
	do {                                                               \
		fprintf(stderr, "twin: " __VA_ARGS__);                     \
		exit(1);                                                   \
	} while (0)

static size_t min(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* libssl's own */
static struct {
	SSL *(*new)(SSL_CTX *ctx);
	int (*read)(SSL *ssl, void *buf, int len);
	int (*write)(SSL *ssl, const void *buf, int len);
	int (*handshake)(SSL *ssl);
	int (*shutdown)(SSL *ssl);
	int (*error)(const SSL *ssl, int ret);
	int (*pending)(const SSL *ssl);
	int (*renegotiate)(SSL *ssl);
} libssl;

static void *symbol(void *library, const char *name)
{
	void *found = dlsym(library, name);

	if (!found)
		DIE("no %s\n", name);
	return found;
}

static void find_libssl(void)
{
	void *library = dlopen("libssl.so.3", RTLD_NOW | RTLD_NOLOAD);

	if (!library)
		DIE("no libssl.so.3\n");
	*(void **)&libssl.new = symbol(library, "SSL_new");
	*(void **)&libssl.read = symbol(library, "SSL_read");
	*(void **)&libssl.write = symbol(library, "SSL_write");
	*(void **)&libssl.handshake = symbol(library, "SSL_do_handshake");
	*(void **)&libssl.shutdown = symbol(library, "SSL_shutdown");
	*(void **)&libssl.error = symbol(library, "SSL_get_error");
	*(void **)&libssl.pending = symbol(library, "SSL_pending");
	*(void **)&libssl.renegotiate = symbol(library, "SSL_renegotiate");
}

/* ---- A connection ------------------------------------------------------ */

struct way {
	const char *name;
	bool server; /* is what we look at */
	int version;
	const char *suite;
};

static const struct way ways[] = {
	{ "server 1.3", true, TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256" },
	{ "client 1.3", false, TLS1_3_VERSION,
	  "TLS_CHACHA20_POLY1305_SHA256" },
	{ "server 1.2", true, TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384" },
	{ "client 1.2", false, TLS1_2_VERSION,
	  "ECDHE-ECDSA-CHACHA20-POLY1305" },
	{ "server 1.3 ccm", true, TLS1_3_VERSION, "TLS_AES_128_CCM_SHA256" },
	{ "server 1.2 cbc", true, TLS1_2_VERSION, "ECDHE-ECDSA-AES128-SHA" },
};

struct ends {
	const struct way *way;
	SSL_CTX *ctx[2];
	SSL *ssl, *peer; /* ours is looked at */
	int fd, peer_fd;
};

static EVP_PKEY *key;
static X509 *certificate;
static void (*prepare)(struct ends *e); /* before the handshake */
static SSL *(*exchange)(SSL *ssl); /* for another */
static bool told; /* callbacks are to be said */

static void seen_by_peer(int write, int version, int type, const void *buf,
			 size_t len, SSL *ssl, void *arg)
{
	const uint8_t *header = buf;

	(void)version, (void)ssl, (void)arg;
	if (type == SSL3_RT_HEADER && !write && told && len == 5)
		printf("\t\trecord %d of %d\n", header[0],
		       header[3] << 8 | header[4]);
}

static SSL_CTX *context(const struct way *way, bool server)
{
	SSL_CTX *ctx = SSL_CTX_new(server ? TLS_server_method() :
					    TLS_client_method());

	SSL_CTX_set_min_proto_version(ctx, way->version);
	SSL_CTX_set_max_proto_version(ctx, way->version);
	SSL_CTX_set_security_level(ctx, 0);
	if (way->version == TLS1_3_VERSION)
		SSL_CTX_set_ciphersuites(ctx, way->suite);
	else
		SSL_CTX_set_cipher_list(ctx, way->suite);
	if (server) {
		SSL_CTX_use_certificate(ctx, certificate);
		SSL_CTX_use_PrivateKey(ctx, key);
		SSL_CTX_set_session_id_context(ctx, (const uint8_t *)"t", 1);
	}
	return ctx;
}

static void nonblocking(int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static void tcp_pair(int fds[2])
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t len = sizeof(a);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(listener, (struct sockaddr *)&a, sizeof(a)) ||
	    listen(listener, 1) ||
	    getsockname(listener, (struct sockaddr *)&a, &len))
		DIE("no socket: %s\n", strerror(errno));
	fds[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fds[0], (struct sockaddr *)&a, sizeof(a)))
		DIE("no connection: %s\n", strerror(errno));
	fds[1] = accept(listener, NULL, NULL);
	close(listener);
	for (int i = 0; i < 2; i++)
		setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &(int){ 1 },
			   sizeof(int));
}

static void shake(struct ends *e)
{
	int ours = 0, theirs = 0;

	for (int i = 0; i < 100 && (ours != 1 || theirs != 1); i++) {
		if (ours != 1)
			ours = SSL_do_handshake(e->ssl);
		if (theirs != 1)
			theirs = libssl.handshake(e->peer);
	}
	if (ours != 1 || theirs != 1) {
		ERR_print_errors_fp(stderr);
		DIE("%s: no handshake\n", e->way->name);
	}
}

static struct ends open_with(const struct way *way, int fds[2])
{
	struct ends e = { .way = way, .fd = fds[0], .peer_fd = fds[1] };

	nonblocking(fds[0]);
	nonblocking(fds[1]);
	e.ctx[0] = context(way, way->server);
	e.ctx[1] = context(way, !way->server);
	if (prepare)
		prepare(&e);
	e.ssl = SSL_new(e.ctx[0]);
	if (exchange)
		e.ssl = exchange(e.ssl);
	e.peer = libssl.new(e.ctx[1]);
	SSL_set_fd(e.ssl, fds[0]);
	SSL_set_fd(e.peer, fds[1]);
	SSL_set_msg_callback(e.peer, seen_by_peer);
	if (way->server) {
		SSL_set_accept_state(e.ssl);
		SSL_set_connect_state(e.peer);
	} else {
		SSL_set_connect_state(e.ssl);
		SSL_set_accept_state(e.peer);
	}
	told = false;
	shake(&e);
	told = true;
	return e;
}

static struct ends open_ends(const struct way *way)
{
	int fds[2];

	tcp_pair(fds);
	return open_with(way, fds);
}

static void close_ends(struct ends *e)
{
	told = false;
	SSL_free(e->ssl);
	SSL_free(e->peer);
	SSL_CTX_free(e->ctx[0]);
	SSL_CTX_free(e->ctx[1]);
	if (e->fd >= 0)
		close(e->fd);
	if (e->peer_fd >= 0)
		close(e->peer_fd);
	prepare = NULL;
	exchange = NULL;
	ERR_clear_error();
}

/* ---- Saying what there is to see --------------------------------------- */

static const char *error_name(int error)
{
	static const char *const names[] = {
		"NONE", "SSL", "WANT_READ", "WANT_WRITE", "WANT_X509",
		"SYSCALL", "ZERO_RETURN",
	};

	return error < 7 ? names[error] : "?";
}

static void say_errors(void)
{
	const char *data;
	unsigned long error;
	int flags;

	while ((error = ERR_get_error_all(NULL, NULL, NULL, &data, &flags))) {
		/* of an alert that a broken connection does not take (3.2) */
		if (ERR_SYSTEM_ERROR(error))
			continue;
		printf("\t\terror %s: %s%s%s\n", ERR_lib_error_string(error),
		       ERR_reason_error_string(error),
		       flags & ERR_TXT_STRING ? ": " : "",
		       flags & ERR_TXT_STRING ? data : "");
	}
}

static void say(const struct ends *e, const char *what, int ret)
{
	int number = errno, error = SSL_get_error(e->ssl, ret);

	printf("\t%s: %d %s%s%s, want %d, pending %d %d, shutdown %d%s\n",
	       what, ret, error_name(error),
	       error == SSL_ERROR_SYSCALL && ret < 0 ? " " : "",
	       error == SSL_ERROR_SYSCALL && ret < 0 ? strerror(number) : "",
	       error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ?
		       SSL_want(e->ssl) : 0,
	       SSL_pending(e->ssl),
	       SSL_has_pending(e->ssl), SSL_get_shutdown(e->ssl),
	       SSL_is_init_finished(e->ssl) ? "" : ", in init");
	say_errors();
	fflush(stdout);
}

static uint32_t sum(const uint8_t *bytes, size_t len)
{
	uint32_t hash = 2166136261u;

	while (len--)
		hash = (hash ^ *bytes++) * 16777619u;
	return hash;
}

static uint8_t *pattern(size_t len)
{
	static uint8_t bytes[4 << 20];
	uint32_t x = 1;

	if (!bytes[1])
		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)((x = x * 1664525 + 1013904223) >>
					     24);
	if (len > sizeof(bytes))
		DIE("too long\n");
	return bytes;
}

static int say_read(const struct ends *e, int len)
{
	static uint8_t buf[1 << 20];
	int ret;

	errno = 0;
	ret = SSL_read(e->ssl, buf, len);
	say(e, "read", ret);
	if (ret > 0)
		printf("\t\t%08x\n", sum(buf, (size_t)ret));
	return ret;
}

static int say_peek(const struct ends *e, int len)
{
	static uint8_t buf[1 << 20];
	int ret;

	errno = 0;
	ret = SSL_peek(e->ssl, buf, len);
	say(e, "peek", ret);
	if (ret > 0)
		printf("\t\t%08x\n", sum(buf, (size_t)ret));
	return ret;
}

static int say_write(const struct ends *e, size_t from, int len)
{
	int ret;

	errno = 0;
	ret = SSL_write(e->ssl, pattern(from) + from, len);
	say(e, "write", ret);
	return ret;
}

static int say_shutdown(const struct ends *e)
{
	int ret;

	errno = 0;
	ret = SSL_shutdown(e->ssl);
	say(e, "shutdown", ret);
	return ret;
}

/* Until all that was sent is on its way, which is not far. */
static void wait_for_arrival(int fd)
{
	int left = 1;

	for (int i = 0; i < 200 && left; i++) {
		usleep(100); /* what is held leaves when the program sleeps */
		if (ioctl(fd, SIOCOUTQNSD, &left))
			return;
	}
}

/* The peer reads all there is, and says how much, of which bytes. */
static void peer_reads(const struct ends *e)
{
	static uint8_t buf[8 << 20];
	size_t len = 0;
	int ret;

	wait_for_arrival(e->fd);
	ERR_clear_error();
	while (len < sizeof(buf) &&
	       (ret = libssl.read(e->peer, buf + len,
				  (int)(sizeof(buf) - len))) > 0)
		len += (size_t)ret;
	printf("\tpeer has read %zu, %08x, then %s, shutdown %d\n", len,
	       sum(buf, len), error_name(libssl.error(e->peer, ret)),
	       SSL_get_shutdown(e->peer));
	say_errors();
}

static void peer_drains(const struct ends *e)
{
	static uint8_t buf[1 << 16];

	wait_for_arrival(e->fd);
	while (libssl.read(e->peer, buf, sizeof(buf)) > 0)
		;
	ERR_clear_error();
}

static void peer_writes(const struct ends *e, int len)
{
	ERR_clear_error();
	if (libssl.write(e->peer, pattern((size_t)len), len) != len)
		DIE("%s: the peer could not write\n", e->way->name);
	wait_for_arrival(e->peer_fd);
}

/* ---- What is looked at ------------------------------------------------- */

static void sizes(const struct way *way)
{
	static const int lens[] = { 1, 100, 16383, 16384, 16385, 100000 };
	struct ends e = open_ends(way);

	for (size_t i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
		say_write(&e, i, lens[i]);
		peer_reads(&e);
		peer_writes(&e, lens[i]);
		while (say_read(&e, 1 << 20) > 0)
			;
	}
	close_ends(&e);
}

static void pieces(const struct way *way)
{
	struct ends e = open_ends(way);

	peer_writes(&e, 1000);
	peer_writes(&e, 20000);
	say_peek(&e, 10);
	say_read(&e, 300);
	say_peek(&e, 2000);
	say_read(&e, 0);
	say_read(&e, 700);
	say_read(&e, 0);
	say_read(&e, 16384);
	say_read(&e, 16384);
	say_read(&e, 16384);
	say_read(&e, 0);
	say_read(&e, -1);
	say_write(&e, 0, 0);
	say_write(&e, 0, -1);
	say_write(&e, 0, 1);
	peer_reads(&e);
	close_ends(&e);
}

static void with_ex(const struct way *way)
{
	struct ends e = open_ends(way);
	uint8_t buf[64];
	size_t n = 99;
	int ret;

	ret = SSL_write_ex(e.ssl, "hello", 5, &n);
	say(&e, "write_ex", ret);
	printf("\t\t%zu\n", n);
	ret = SSL_write_ex(e.ssl, "", 0, &n);
	say(&e, "write_ex", ret);
	printf("\t\t%zu\n", n);
	peer_reads(&e);
	ret = SSL_read_ex(e.ssl, buf, sizeof(buf), &n);
	say(&e, "read_ex", ret);
	peer_writes(&e, 60);
	ret = SSL_peek_ex(e.ssl, buf, 10, &n);
	say(&e, "peek_ex", ret);
	printf("\t\t%zu\n", n);
	ret = SSL_read_ex(e.ssl, buf, sizeof(buf), &n);
	say(&e, "read_ex", ret);
	printf("\t\t%zu\n", n);
	libssl.shutdown(e.peer);
	ret = SSL_read_ex(e.ssl, buf, sizeof(buf), &n);
	say(&e, "read_ex", ret);
	close_ends(&e);
}

static void peer_closes(const struct way *way)
{
	struct ends e = open_ends(way);

	peer_writes(&e, 100);
	libssl.shutdown(e.peer);
	say_read(&e, 50);
	say_read(&e, 100);
	say_read(&e, 100);
	say_read(&e, 100);
	say_peek(&e, 100);
	say_write(&e, 0, 500);
	peer_reads(&e);
	say_shutdown(&e);
	peer_reads(&e);
	say_shutdown(&e);
	say_read(&e, 100);
	say_write(&e, 0, 10);
	close_ends(&e);
}

/* After close_notify the socket is the program's. */
/* Nobody calls SSL_do_handshake(), and data comes with the end of it. */
static void within_a_read(const struct way *way)
{
	struct ends e = { .way = way };
	int fds[2], ret = -1, wrote = -1;
	uint8_t buf[10];

	tcp_pair(fds);
	nonblocking(fds[0]);
	nonblocking(fds[1]);
	e.fd = fds[0];
	e.peer_fd = fds[1];
	e.ctx[0] = context(way, way->server);
	e.ctx[1] = context(way, !way->server);
	e.ssl = SSL_new(e.ctx[0]);
	e.peer = libssl.new(e.ctx[1]);
	SSL_set_fd(e.ssl, e.fd);
	SSL_set_fd(e.peer, e.peer_fd);
	if (way->server) {
		SSL_set_accept_state(e.ssl);
		SSL_set_connect_state(e.peer);
	} else {
		SSL_set_connect_state(e.ssl);
		SSL_set_accept_state(e.peer);
	}
	told = false;
	for (int i = 0; i < 100 && (ret <= 0 || wrote <= 0); i++) {
		if (wrote <= 0)
			wrote = libssl.write(e.peer, pattern(100), 100);
		usleep(200);
		if (ret <= 0)
			ret = SSL_read(e.ssl, buf, sizeof(buf));
	}
	told = true;
	say(&e, "first read", ret);
	say_peek(&e, 20);
	say_read(&e, 30);
	say_write(&e, 0, 20);
	peer_reads(&e);
	peer_writes(&e, 50);
	while (say_read(&e, 100) > 0)
		;
	libssl.shutdown(e.peer);
	say_read(&e, 10);
	say_shutdown(&e);
	close_ends(&e);
}

static void without_tls(const struct way *way)
{
	for (int i = 0; i < 2; i++) {
		struct ends e = open_ends(way);
		uint8_t buf[1000];
		ssize_t n;

		peer_writes(&e, 100);
		libssl.shutdown(e.peer);
		send(e.peer_fd, pattern(500), 500, 0);
		wait_for_arrival(e.peer_fd);
		if (i)
			say_shutdown(&e);
		say_read(&e, 200);
		say_read(&e, 200);
		say_shutdown(&e);
		n = recv(e.fd, buf, sizeof(buf), 0);
		printf("\tin the clear %zd %08x\n", n,
		       n > 0 ? sum(buf, (size_t)n) : 0);
		close_ends(&e);
	}
}

static void we_close(const struct way *way)
{
	struct ends e = open_ends(way);

	say_write(&e, 0, 10);
	say_shutdown(&e);
	say_write(&e, 0, 10);
	peer_reads(&e);
	say_shutdown(&e);
	say_read(&e, 10);
	libssl.shutdown(e.peer);
	say_shutdown(&e);
	say_shutdown(&e);
	close_ends(&e);
}

/* What follows the end of TLS is the program's to read. */
static void plain_behind(const struct way *way)
{
	static const uint8_t plains[][16] = {
		"no secret at all",
		{ 22, 3, 3, 0, 4, 0, 0, 0, 0, 'm', 'o', 'r', 'e' },
		{ 23, 3, 3, 0, 4, 0, 0, 0, 0, 'm', 'o', 'r', 'e' },
	};
	uint8_t got[100];
	ssize_t n;

	for (int i = 0; i < 6; i++) {
		struct ends e = open_ends(way);

		peer_writes(&e, 100);
		say_read(&e, 100);
		if (i % 2)
			say_shutdown(&e);
		libssl.shutdown(e.peer);
		send(e.peer_fd, plains[i / 2], 16, 0);
		wait_for_arrival(e.peer_fd);
		if (!(i % 2))
			say_read(&e, 100);
		say_shutdown(&e);
		n = recv(e.fd, got, sizeof(got), 0);
		printf("\tplain: %zd, %08x\n", n,
		       n > 0 ? sum(got, (size_t)n) : 0);
		close_ends(&e);
	}
}

static void close_with_data(const struct way *way)
{
	struct ends e = open_ends(way);

	peer_writes(&e, 100);
	say_shutdown(&e);
	say_read(&e, 50);
	say_shutdown(&e);
	peer_reads(&e);
	close_ends(&e);
	e = open_ends(way);
	peer_writes(&e, 100);
	say_shutdown(&e);
	say_shutdown(&e);
	say_shutdown(&e);
	say_read(&e, 50);
	peer_reads(&e);
	close_ends(&e);
	e = open_ends(way);
	SSL_set_quiet_shutdown(e.ssl, 1);
	say_shutdown(&e);
	say_read(&e, 50);
	peer_reads(&e);
	close_ends(&e);
}

static void ignore_eof(struct ends *e)
{
	SSL_CTX_set_options(e->ctx[0], SSL_OP_IGNORE_UNEXPECTED_EOF);
}

static void ends_without(const struct way *way)
{
	for (int i = 0; i < 3; i++) {
		struct ends e;

		prepare = i == 1 ? ignore_eof : NULL;
		e = open_ends(way);
		peer_writes(&e, 10);
		if (i == 2) { /* in the middle of a record */
			uint8_t part[] = { 23, 3, 3, 0, 100, 1, 2, 3 };

			say_read(&e, 10);
			send(e.peer_fd, part, sizeof(part), 0);
			say_read(&e, 10);
		}
		shutdown(e.peer_fd, SHUT_WR);
		say_read(&e, 100);
		say_read(&e, 100);
		say_read(&e, 100);
		say_write(&e, 0, 10);
		say_shutdown(&e);
		peer_reads(&e);
		close_ends(&e);
	}
}

static void reset(const struct way *way)
{
	struct linger linger = { .l_onoff = 1 };
	struct ends e = open_ends(way);

	setsockopt(e.peer_fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(e.peer_fd);
	e.peer_fd = -1;
	say_read(&e, 100);
	say_read(&e, 100);
	close_ends(&e);
}

static void nonsense(const struct way *way)
{
	static const uint8_t records[][40] = {
		{ 23, 3, 3, 0, 30, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 },
		{ 23, 3, 3, 0xff, 0xff, 1, 2, 3 },
		{ 23, 3, 3, 0, 3, 1, 2, 3 },
		{ 23, 3, 3, 0, 0 },
		{ 22, 3, 3, 0, 35, 1, 2, 3 },
		{ 20, 3, 3, 0, 1, 1 },
		{ 99, 3, 3, 0, 35, 1, 2, 3 },
		{ 23, 9, 9, 0, 35, 1, 2, 3 },
		{ 21, 3, 3, 0, 2, 2, 40 },
		{ 'G', 'E', 'T', ' ', '/', ' ' },
	};

	for (size_t i = 0; i < 2 * sizeof(records) / sizeof(*records); i++) {
		struct ends e = open_ends(way);

		peer_writes(&e, 10);
		send(e.peer_fd, records[i / 2], i % 2 ? 40 : 5, 0);
		say_read(&e, 100);
		say_read(&e, 100);
		say_read(&e, 100);
		say_write(&e, 0, 10);
		say_shutdown(&e);
		peer_reads(&e);
		close_ends(&e);
	}
}

/* The peer finds a record of ours changed on the way, and says so. */
static void peer_alerts(const struct way *way)
{
	struct ends e = open_ends(way);
	uint8_t byte = 0x55;

	peer_writes(&e, 10);
	send(e.fd, &byte, 1, 0);
	send(e.fd, pattern(100), 100, 0);
	peer_reads(&e);
	say_read(&e, 100);
	say_read(&e, 100);
	say_read(&e, 100);
	say_write(&e, 0, 10);
	say_shutdown(&e);
	close_ends(&e);
}

static void updates(const struct way *way)
{
	struct ends e;

	if (way->version != TLS1_3_VERSION)
		return;
	e = open_ends(way);
	for (int i = 0; i < 4; i++) {
		say(&e, "key_update", SSL_key_update(e.ssl, i % 2));
		printf("\t\ttype %d\n", SSL_get_key_update_type(e.ssl));
		if (i > 1)
			say(&e, "handshake", SSL_do_handshake(e.ssl));
		say_write(&e, (size_t)i, 5000);
		peer_reads(&e);
		peer_writes(&e, 40000);
		while (say_read(&e, 1 << 20) > 0)
			;
		SSL_key_update(e.peer, (i + 1) % 2);
		peer_writes(&e, 100);
		say_read(&e, 1000);
		say_read(&e, 1000);
		say_write(&e, 7, 20);
		peer_reads(&e);
	}
	SSL_key_update(e.ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
	say_read(&e, 10);
	peer_reads(&e);
	close_ends(&e);
}

static void small_buffers(const struct ends *e)
{
	int size = 64 << 10;

	setsockopt(e->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	setsockopt(e->peer_fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
}

/* No update while a write is to be repeated. */
static void update_in_write(const struct way *way)
{
	struct ends e = open_ends(way);

	small_buffers(&e);
	told = false;
	say(&e, "write", SSL_write(e.ssl, pattern(1 << 20), 1 << 20));
	say(&e, "key_update", SSL_key_update(e.ssl, 0));
	say(&e, "key_update", SSL_key_update(e.ssl, 7));
	close_ends(&e);
}

static void without_retry(const struct way *way)
{
	struct ends e;

	if (way->version != TLS1_3_VERSION)
		return;
	e = open_ends(way);
	SSL_clear_mode(e.ssl, SSL_MODE_AUTO_RETRY);
	SSL_key_update(e.peer, SSL_KEY_UPDATE_REQUESTED);
	peer_writes(&e, 100);
	say_read(&e, 1000);
	say_read(&e, 1000);
	say_read(&e, 1000);
	peer_reads(&e);
	close_ends(&e);
}

/*
 * How much a socket takes may differ by what is sent at once; so that is not
 * said, but what is returned, and what arrives.
 */
static void full(const struct way *way, long mode, size_t len)
{
	struct ends e = open_ends(way);
	static uint8_t copies[2][4 << 20], got[4 << 20];
	size_t sent = 0, had = 0;
	int ret, waits = 0, turns = 0;

	small_buffers(&e);
	SSL_set_mode(e.ssl, mode);
	memcpy(copies[0], pattern(len), len);
	memcpy(copies[1], pattern(len), len);
	told = false;
	while (sent < len && turns < 100000) {
		const uint8_t *from =
			copies[mode & SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER ?
				       turns++ % 2 :
				       (turns++, 0)];

		ret = SSL_write(e.ssl, from + sent, (int)(len - sent));
		if (ret > 0) {
			sent += (size_t)ret;
			continue;
		}
		if (SSL_get_error(e.ssl, ret) != SSL_ERROR_WANT_WRITE)
			break;
		waits++;
		poll(&(struct pollfd){ e.fd, POLLOUT, 0 }, 1, 10);
		while ((ret = libssl.read(e.peer, got + had,
					  (int)(sizeof(got) - had))) > 0)
			had += (size_t)ret;
	}
	for (turns = 0; had < len && turns < 1000; turns++) {
		usleep(1000);
		while (had < sizeof(got) &&
		       (ret = libssl.read(e.peer, got + had,
					  (int)(sizeof(got) - had))) > 0)
			had += (size_t)ret;
	}
	printf("\tmode %ld: sent %zu of %zu, waited %s, arrived %zu: %08x\n",
	       mode, sent, len, waits ? "yes" : "no", had, sum(got, had));
	close_ends(&e);
}

static void full_socket(const struct way *way)
{
	full(way, 0, 1 << 20);
	full(way, SSL_MODE_ENABLE_PARTIAL_WRITE, 1 << 20);
	full(way, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER, 1 << 20);
	full(way, SSL_MODE_ENABLE_PARTIAL_WRITE |
			  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER, 1 << 20);
}

/* Repeated with less, or with more, than before: redis does. */
static void other_retry(const struct way *way)
{
	static const int lens[] = { 1 << 20, 300000, 700000 };
	struct ends e = open_ends(way);
	size_t sent = 0, turn = 0;
	uint8_t *from = pattern(1 << 20);

	small_buffers(&e);
	told = false;
	SSL_set_mode(e.ssl, SSL_MODE_ENABLE_PARTIAL_WRITE |
				    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	while (sent < 1 << 20) {
		size_t len = min((size_t)lens[turn++ % 3], (1 << 20) - sent);
		int ret = SSL_write(e.ssl, from + sent, (int)len);

		if (ret > 0)
			sent += (size_t)ret;
		else if (SSL_get_error(e.ssl, ret) != SSL_ERROR_WANT_WRITE)
			break;
		else
			peer_drains(&e);
	}
	printf("\tsent %zu\n", sent);
	say_errors();
	close_ends(&e);
}

static void wrong_retry(const struct way *way)
{
	static uint8_t other[1 << 20];

	for (int i = 0; i < 2; i++) {
		struct ends e = open_ends(way);

		small_buffers(&e);
		say(&e, "write", SSL_write(e.ssl, pattern(1 << 20), 1 << 20));
		if (i == 0)
			say(&e, "write", SSL_write(e.ssl, other, 1 << 20));
		else
			say(&e, "write", SSL_write(e.ssl, pattern(1), 10));
		close_ends(&e);
	}
}

static void partial(const struct way *way)
{
	struct ends e = open_ends(way);

	SSL_set_mode(e.ssl, SSL_MODE_ENABLE_PARTIAL_WRITE);
	say_write(&e, 0, 40000);
	say_write(&e, 16384, 40000 - 16384);
	say_write(&e, 32768, 40000 - 32768);
	peer_reads(&e);
	close_ends(&e);
}

static void fragments(const struct way *way)
{
	struct ends e = open_ends(way);

	printf("\t%ld\n", SSL_set_max_send_fragment(e.ssl, 4000));
	say_write(&e, 0, 10000);
	peer_reads(&e);
	printf("\t%ld\n", SSL_set_split_send_fragment(e.ssl, 1000));
	say_write(&e, 0, 2500);
	peer_reads(&e);
	printf("\t%ld\n", SSL_set_max_send_fragment(e.ssl, 100));
	say_write(&e, 0, 2500);
	peer_reads(&e);
	printf("\t%ld\n", SSL_set_max_send_fragment(e.ssl, 600));
	printf("\t%ld\n", SSL_set_max_send_fragment(e.ssl, 16384));
	say_write(&e, 0, 2500);
	peer_reads(&e);
	close_ends(&e);
}

static void short_records(struct ends *e)
{
	printf("\t%ld\n", SSL_CTX_set_max_send_fragment(e->ctx[0], 2000));
}

static void fragments_of_all(const struct way *way)
{
	struct ends e;

	prepare = short_records;
	e = open_ends(way);
	say_write(&e, 0, 5000);
	peer_reads(&e);
	close_ends(&e);
}

static void say_info(const SSL *ssl, int where, int ret)
{
	(void)ssl;
	if (told)
		printf("\t\tinfo %x %d\n", where, ret);
}

static void watch_all(struct ends *e)
{
	SSL_CTX_set_info_callback(e->ctx[0], say_info);
}

static void told_of_it(const struct way *way)
{
	for (int i = 0; i < 2; i++) {
		struct ends e;

		prepare = i ? watch_all : NULL;
		e = open_ends(way);
		if (!i)
			SSL_set_info_callback(e.ssl, say_info);
		printf("\tset: %d %d\n",
		       SSL_get_info_callback(e.ssl) == say_info,
		       SSL_CTX_get_info_callback(e.ctx[0]) == say_info);
		say_write(&e, 0, 10);
		if (way->version == TLS1_3_VERSION) {
			SSL_key_update(e.peer, SSL_KEY_UPDATE_REQUESTED);
			peer_writes(&e, 10);
			say_read(&e, 10);
			SSL_key_update(e.ssl, SSL_KEY_UPDATE_REQUESTED);
			say_write(&e, 0, 10);
		}
		libssl.shutdown(e.peer);
		say_read(&e, 10);
		say_shutdown(&e);
		close_ends(&e);
	}
}

static SSL *twice(SSL *ssl)
{
	SSL *other;

	SSL_set_info_callback(ssl, say_info);
	SSL_set_read_ahead(ssl, 1);
	other = SSL_dup(ssl);
	SSL_free(ssl);
	return other;
}

static void doubled(const struct way *way)
{
	struct ends e;

	exchange = twice;
	e = open_ends(way);
	printf("\tset: %d, ahead %d\n",
	       SSL_get_info_callback(e.ssl) == say_info,
	       SSL_get_read_ahead(e.ssl));
	say_write(&e, 0, 20000);
	peer_reads(&e);
	libssl.shutdown(e.peer);
	say_read(&e, 10);
	say_shutdown(&e);
	close_ends(&e);
}

/* One of the two asks for a renegotiation, which the other may refuse. */
static void allow_it(struct ends *e)
{
	SSL_CTX_set_options(e->ctx[0], SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
	SSL_CTX_set_options(e->ctx[1], SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
}

static void pump(const struct ends *e)
{
	uint8_t buf[1000];

	for (int i = 0; i < 20; i++) {
		int n = SSL_read(e->ssl, buf, sizeof(buf));

		if (n > 0)
			printf("\t\tread %d %08x\n", n, sum(buf, (size_t)n));
		n = libssl.read(e->peer, buf, sizeof(buf));
		if (n > 0)
			printf("\t\tpeer read %d %08x\n", n,
			       sum(buf, (size_t)n));
		usleep(1);
	}
}

static void renegotiation(const struct way *way)
{
	if (way->version != TLS1_2_VERSION)
		return;
	for (int i = 0; i < 4; i++) {
		struct ends e;

		prepare = i % 2 ? allow_it : NULL;
		e = open_ends(way);
		told = false;
		say_write(&e, 0, 10);
		peer_reads(&e);
		if (i < 2) {
			printf("\tpeer asks\n");
			libssl.renegotiate(e.peer);
			libssl.handshake(e.peer);
		} else {
			printf("\twe ask: %d\n", SSL_renegotiate(e.ssl));
			SSL_do_handshake(e.ssl);
		}
		pump(&e);
		say_errors();
		printf("\tpending %d, number %ld\n",
		       SSL_renegotiate_pending(e.ssl),
		       SSL_total_renegotiations(e.ssl));
		if (!SSL_renegotiate_pending(e.ssl)) {
			say_write(&e, 5, 20000);
			pump(&e);
			SSL_write(e.peer, "hello", 5);
			pump(&e);
			say_shutdown(&e);
		}
		close_ends(&e);
	}
}

static int sessions;

static int new_session(SSL *ssl, SSL_SESSION *session)
{
	(void)ssl, (void)session;
	sessions++;
	return 0;
}

static void keep_sessions(struct ends *e)
{
	SSL_CTX_set_session_cache_mode(e->ctx[0], SSL_SESS_CACHE_BOTH);
	SSL_CTX_sess_set_new_cb(e->ctx[0], new_session);
}

static void tickets(const struct way *way)
{
	struct ends e;

	sessions = 0;
	prepare = keep_sessions;
	e = open_ends(way);
	peer_writes(&e, 10);
	say_read(&e, 10);
	say_read(&e, 10);
	printf("\tsessions: %d\n", sessions);
	if (way->version == TLS1_3_VERSION && !way->server) {
		SSL_new_session_ticket(e.peer);
		peer_writes(&e, 10);
		say_read(&e, 10);
		say_read(&e, 10);
	}
	if (way->version == TLS1_3_VERSION && way->server) {
		printf("\t%d\n", SSL_new_session_ticket(e.ssl));
		say_write(&e, 0, 10);
		peer_reads(&e);
	}
	printf("\tsessions: %d\n", sessions);
	say_write(&e, 0, 10);
	peer_reads(&e);
	close_ends(&e);
}

/* Is the session kept that ended well, and dropped after an error? */
static void session_kept(const struct way *way)
{
	for (int i = 0; i < 3; i++) {
		struct ends e;
		SSL_SESSION *session;

		prepare = keep_sessions;
		e = open_ends(way);
		peer_writes(&e, 10);
		say_read(&e, 10);
		say_read(&e, 10);
		session = SSL_get1_session(e.ssl);
		if (i == 0)
			say_shutdown(&e);
		if (i == 1) {
			send(e.peer_fd, pattern(100), 100, 0);
			say_read(&e, 10);
		}
		SSL_free(e.ssl);
		e.ssl = NULL;
		printf("\tresumable %d, in cache %ld\n",
		       SSL_SESSION_is_resumable(session),
		       SSL_CTX_sess_number(e.ctx[0]));
		SSL_SESSION_free(session);
		close_ends(&e);
	}
}

static void post_handshake(const struct way *way)
{
	struct ends e;

	if (way->version != TLS1_3_VERSION)
		return;
	e = open_ends(way);
	if (way->server) {
		SSL_set_verify(e.ssl, SSL_VERIFY_PEER, NULL);
		printf("\t%d\n", SSL_verify_client_post_handshake(e.ssl));
	} else {
		SSL_set_verify(e.peer, SSL_VERIFY_PEER, NULL);
		printf("\t%d\n", SSL_verify_client_post_handshake(e.peer));
		libssl.handshake(e.peer);
	}
	say_errors();
	say_write(&e, 0, 10);
	peer_reads(&e);
	peer_writes(&e, 10);
	say_read(&e, 10);
	close_ends(&e);
}

static void ask_anything(struct ends *e)
{
	SSL_CTX_set_post_handshake_auth(e->ctx[0], 1);
}

/* The peer goes on behind our close_notify. */
static void asked_at_end(const struct way *way)
{
	struct ends e;

	if (way->version != TLS1_3_VERSION || way->server)
		return;
	prepare = ask_anything;
	e = open_ends(way);
	say_shutdown(&e);
	peer_reads(&e);
	peer_writes(&e, 10);
	SSL_set_verify(e.peer, SSL_VERIFY_PEER, NULL);
	printf("\t%d\n", SSL_verify_client_post_handshake(e.peer));
	peer_writes(&e, 100);
	say_read(&e, 10);
	say_read(&e, 1000);
	say_read(&e, 1000);
	close_ends(&e);
}

static void ahead(const struct way *way)
{
	struct ends e = open_ends(way);

	SSL_set_read_ahead(e.ssl, 1);
	printf("\tahead %d\n", SSL_get_read_ahead(e.ssl));
	peer_writes(&e, 9000);
	peer_writes(&e, 100);
	say_read(&e, 1000);
	while (say_read(&e, 16384) > 0)
		;
	SSL_set_read_ahead(e.ssl, 0);
	printf("\tahead %d\n", SSL_get_read_ahead(e.ssl));
	peer_writes(&e, 20000);
	while (say_read(&e, 16384) > 0)
		;
	close_ends(&e);
}

static void again(const struct way *way)
{
	struct ends e = open_ends(way);
	int fds[2];
	SSL *twice;

	say_write(&e, 0, 10);
	twice = SSL_dup(e.ssl);
	printf("\tdup %d\n", twice == e.ssl);
	SSL_free(twice);
	say_write(&e, 0, 10);
	peer_reads(&e);
	say_shutdown(&e);
	printf("\tclear %d\n", SSL_clear(e.ssl));
	SSL_free(e.peer);
	close(e.fd);
	close(e.peer_fd);
	tcp_pair(fds);
	nonblocking(fds[0]);
	nonblocking(fds[1]);
	e.fd = fds[0];
	e.peer_fd = fds[1];
	e.peer = libssl.new(e.ctx[1]);
	SSL_set_fd(e.ssl, e.fd);
	SSL_set_fd(e.peer, e.peer_fd);
	SSL_set_msg_callback(e.peer, seen_by_peer);
	if (way->server)
		SSL_set_connect_state(e.peer);
	else
		SSL_set_accept_state(e.peer);
	told = false;
	shake(&e);
	told = true;
	say_write(&e, 0, 30000);
	peer_reads(&e);
	peer_writes(&e, 30000);
	while (say_read(&e, 16384) > 0)
		;
	close_ends(&e);
}

static void over_unix(const struct way *way)
{
	struct ends e;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds))
		DIE("no socketpair\n");
	e = open_with(way, fds);
	for (int i = 0; i < 3; i++) {
		say_write(&e, 0, 30000);
		peer_reads(&e);
		peer_writes(&e, 30000);
		while (say_read(&e, 1000 * (i + 1)) > 0)
			;
	}
	libssl.shutdown(e.peer);
	say_read(&e, 10);
	say_shutdown(&e);
	peer_reads(&e);
	close_ends(&e);
}

/* ---- Through BIOs of other kinds --------------------------------------- */

static BIO *mem[2]; /* what comes in, what goes out */

static void shuttle(const struct ends *e)
{
	uint8_t buf[1 << 15];
	ssize_t n;

	while ((n = BIO_read(mem[1], buf, sizeof(buf))) > 0)
		send(e->fd, buf, (size_t)n, MSG_NOSIGNAL);
	usleep(200);
	while ((n = recv(e->fd, buf, sizeof(buf), 0)) > 0)
		BIO_write(mem[0], buf, (int)n);
}

/* As asyncio has it. */
static void over_memory(const struct way *way)
{
	struct ends e = { .way = way };
	int fds[2], ours = 0, theirs = 0;

	tcp_pair(fds);
	nonblocking(fds[0]);
	nonblocking(fds[1]);
	e.fd = fds[0];
	e.peer_fd = fds[1];
	e.ctx[0] = context(way, way->server);
	e.ctx[1] = context(way, !way->server);
	e.ssl = SSL_new(e.ctx[0]);
	e.peer = libssl.new(e.ctx[1]);
	mem[0] = BIO_new(BIO_s_mem());
	mem[1] = BIO_new(BIO_s_mem());
	BIO_set_mem_eof_return(mem[0], -1);
	BIO_set_mem_eof_return(mem[1], -1);
	SSL_set_bio(e.ssl, mem[0], mem[1]);
	SSL_set_fd(e.peer, fds[1]);
	if (way->server) {
		SSL_set_accept_state(e.ssl);
		SSL_set_connect_state(e.peer);
	} else {
		SSL_set_connect_state(e.ssl);
		SSL_set_accept_state(e.peer);
	}
	told = false;
	for (int i = 0; i < 100 && (ours != 1 || theirs != 1); i++) {
		if (ours != 1)
			ours = SSL_do_handshake(e.ssl);
		shuttle(&e);
		if (theirs != 1)
			theirs = libssl.handshake(e.peer);
		shuttle(&e);
	}
	told = true;
	for (int i = 0; i < 3; i++) {
		say_write(&e, 0, 30000);
		shuttle(&e);
		peer_reads(&e);
		peer_writes(&e, 30000);
		shuttle(&e);
		while (say_read(&e, 1000 * (i + 1)) > 0)
			;
		printf("\twaiting: %zu %zu\n", BIO_ctrl_pending(mem[0]),
		       BIO_ctrl_pending(mem[1]));
	}
	libssl.shutdown(e.peer);
	shuttle(&e);
	say_read(&e, 10);
	say_shutdown(&e);
	shuttle(&e);
	peer_reads(&e);
	close_ends(&e);
}

/* A BIO in front of the SSL, and calls of the SSL itself between. */
static void by_ssl_bio(const struct way *way)
{
	for (int i = 0; i < 2; i++) {
		struct ends e = open_ends(way);
		BIO *bio = BIO_new(BIO_f_ssl());
		uint8_t buf[1000];
		int n;

		if (i)
			say_write(&e, 0, 20);
		BIO_set_ssl(bio, e.ssl, BIO_NOCLOSE);
		n = BIO_write(bio, pattern(5000), 5000);
		printf("\tBIO_write %d\n", n);
		say_write(&e, 0, 300);
		peer_reads(&e);
		peer_writes(&e, 1500);
		n = BIO_read(bio, buf, 1000);
		printf("\tBIO_read %d %08x\n", n, sum(buf, (size_t)n));
		say_read(&e, 1000);
		n = BIO_read(bio, buf, 1000);
		printf("\tBIO_read %d %d\n", n, BIO_should_retry(bio));
		BIO_free(bio);
		say_shutdown(&e);
		peer_reads(&e);
		close_ends(&e);
	}
}

static int narrow; /* bytes that a BIO of ours takes at once */

/* HAProxy's leave what a read has set, too. */
static int narrow_write(BIO *bio, const char *in, int len)
{
	if (narrow <= 0) {
		BIO_set_retry_write(bio);
		return -1;
	}
	if (len > narrow)
		len = narrow;
	narrow -= len;
	return (int)send(*(int *)BIO_get_data(bio), in, (size_t)len, 0);
}

static int narrow_read(BIO *bio, char *out, int len)
{
	int n = (int)recv(*(int *)BIO_get_data(bio), out, (size_t)len, 0);

	BIO_clear_retry_flags(bio);
	if (n < 0 && errno == EAGAIN)
		BIO_set_retry_read(bio);
	return n;
}

static long narrow_ctrl(BIO *bio, int command, long number, void *where)
{
	(void)bio, (void)number, (void)where;
	if (told && command == BIO_CTRL_FLUSH)
		printf("\t\tflush\n");
	return command == BIO_CTRL_FLUSH;
}

/* As PostgreSQL and others do: a method of the program's own. */
static void over_own(const struct way *way)
{
	BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() |
					  BIO_TYPE_SOURCE_SINK, "narrow");
	struct ends e = { .way = way };
	int fds[2];
	BIO *bio;

	BIO_meth_set_read(method, narrow_read);
	BIO_meth_set_write(method, narrow_write);
	BIO_meth_set_ctrl(method, narrow_ctrl);
	tcp_pair(fds);
	nonblocking(fds[0]);
	nonblocking(fds[1]);
	e.fd = fds[0];
	e.peer_fd = fds[1];
	e.ctx[0] = context(way, way->server);
	e.ctx[1] = context(way, !way->server);
	e.ssl = SSL_new(e.ctx[0]);
	e.peer = libssl.new(e.ctx[1]);
	bio = BIO_new(method);
	BIO_set_init(bio, 1);
	BIO_set_data(bio, &e.fd);
	SSL_set_bio(e.ssl, bio, bio);
	SSL_set_fd(e.peer, fds[1]);
	if (way->server) {
		SSL_set_accept_state(e.ssl);
		SSL_set_connect_state(e.peer);
	} else {
		SSL_set_connect_state(e.ssl);
		SSL_set_accept_state(e.peer);
	}
	narrow = 1 << 30;
	told = false;
	shake(&e);
	told = true;
	for (int i = 0; i < 12; i++) {
		narrow = i % 4 == 3 ? 0 : 3000 * i;
		if (say_write(&e, 0, 40000) > 0)
			break;
		peer_reads(&e);
	}
	narrow = 1 << 30;
	say_write(&e, 0, 40000);
	peer_reads(&e);
	peer_writes(&e, 20000);
	while (say_read(&e, 1 << 20) > 0)
		;
	narrow = 10;
	say_shutdown(&e);
	narrow = 1 << 30;
	say_shutdown(&e);
	peer_reads(&e);
	libssl.shutdown(e.peer);
	say_shutdown(&e);
	close(e.peer_fd);
	e.peer_fd = -1;
	close_ends(&e);
	BIO_meth_free(method);
}

static void broken_pipe(const struct way *way)
{
	struct ends e = open_ends(way);

	/* of what is held, an error is told by the next call */
	shutdown(e.fd, SHUT_WR);
	SSL_write(e.ssl, pattern(100000), 100000);
	usleep(1);
	say_write(&e, 0, 100000);
	peer_reads(&e);
	close_ends(&e);
}


/* ---- Calls that pass the drop-in by, and other BIOs -------------------- */

/* Of what is in front of SSL_read() and SSL_write(), some is not to be had: a
 * program that has libssl's own functions by dlsym(). */
static void past_us(const struct way *way)
{
	uint8_t buf[20000];
	struct ends e;

	for (int i = 0; i < 3; i++) {
		e = open_ends(way);
		if (i)
			say_write(&e, 0, 100);
		if (i == 2) {
			peer_writes(&e, 5000);
			say_read(&e, 1000);
		}
		say(&e, "its own write", libssl.write(e.ssl, pattern(300), 300));
		say_write(&e, 0, 20000);
		peer_reads(&e);
		peer_writes(&e, 20000);
		say(&e, "its own read", libssl.read(e.ssl, buf, 300));
		say_read(&e, 1000);
		say(&e, "its own read", libssl.read(e.ssl, buf, 20000));
		say_read(&e, 20000);
		say_read(&e, 20000);
		say_read(&e, 20000);
		say(&e, "its own shutdown", libssl.shutdown(e.ssl));
		peer_reads(&e);
		close_ends(&e);
	}
}

/* Data goes by a BIO with the SSL in it; which is all of it, or some. */
static void through_bio(const struct way *way, bool mixed)
{
	struct ends e = open_ends(way);
	BIO *bio = BIO_new(BIO_f_ssl());
	uint8_t buf[20000];
	int n;

	BIO_set_ssl(bio, e.ssl, BIO_NOCLOSE);
	say(&e, "handshake", (int)BIO_do_handshake(bio));
	if (mixed)
		say_write(&e, 0, 20);
	n = BIO_write(bio, pattern(30000), 30000);
	printf("\t\twritten %d\n", n);
	peer_reads(&e);
	peer_writes(&e, 20000);
	n = BIO_read(bio, buf, 300);
	printf("\t\tread %d: %08x\n", n, n > 0 ? sum(buf, (size_t)n) : 0);
	printf("\t\tpending %zu\n", BIO_ctrl_pending(bio));
	if (mixed)
		say_read(&e, 200);
	while ((n = BIO_read(bio, buf, sizeof(buf))) > 0)
		printf("\t\tread %d: %08x\n", n, sum(buf, (size_t)n));
	printf("\t\t%d, again %d\n", n, BIO_should_retry(bio));
	BIO_free_all(bio);
	peer_reads(&e);
	close_ends(&e);
}

static void bio_with_ssl(const struct way *way)
{
	through_bio(way, false);
	through_bio(way, true);
}

static void say_bios(const struct ends *e, const BIO *r, const BIO *w)
{
	printf("\tfd %d %d %d, BIOs %d %d\n", SSL_get_fd(e->ssl) == e->fd,
	       SSL_get_rfd(e->ssl) == e->fd, SSL_get_wfd(e->ssl) == e->fd,
	       SSL_get_rbio(e->ssl) == r, SSL_get_wbio(e->ssl) == w);
}

static void both_ways(const struct ends *e)
{
	say_write(e, 0, 20000);
	peer_reads(e);
	peer_writes(e, 20000);
	say_read(e, 300);
	while (say_read(e, 16384) > 0)
		;
}

/* To another descriptor, or the same, or to BIOs of another kind and back. */
static void moves(const struct way *way)
{
	struct ends e = open_ends(way);
	BIO *bio = SSL_get_rbio(e.ssl), *buffer;
	int before;

	say_bios(&e, bio, bio);
	both_ways(&e);
	say_bios(&e, bio, bio);
	printf("\tthe same %d\n", SSL_set_fd(e.ssl, e.fd));
	both_ways(&e);
	peer_writes(&e, 20000);
	peer_writes(&e, 700);
	say_read(&e, 100);
	say_write(&e, 0, 100);
	before = e.fd;
	e.fd = dup(before);
	printf("\tanother %d\n", SSL_set_fd(e.ssl, e.fd));
	close(before);
	bio = SSL_get_rbio(e.ssl);
	say_bios(&e, bio, bio);
	while (say_read(&e, 16384) > 0)
		;
	both_ways(&e);
	before = e.fd;
	e.fd = dup(before);
	printf("\trfd %d\n", SSL_set_rfd(e.ssl, e.fd));
	both_ways(&e);
	printf("\twfd %d\n", SSL_set_wfd(e.ssl, e.fd));
	close(before);
	both_ways(&e);
	bio = BIO_new_socket(e.fd, BIO_NOCLOSE);
	buffer = BIO_push(BIO_new(BIO_f_buffer()), bio);
	BIO_up_ref(bio);
	peer_writes(&e, 700);
	say_write(&e, 0, 100);
	SSL_set0_rbio(e.ssl, bio);
	SSL_set0_wbio(e.ssl, buffer);
	say_bios(&e, bio, buffer);
	say_write(&e, 0, 100);
	peer_reads(&e);
	printf("\tflush %ld\n", (long)BIO_flush(buffer));
	peer_reads(&e);
	while (say_read(&e, 16384) > 0)
		;
	bio = BIO_new_socket(e.fd, BIO_NOCLOSE);
	SSL_set_bio(e.ssl, bio, bio);
	both_ways(&e);
	say_shutdown(&e);
	peer_reads(&e);
	close_ends(&e);
}

/* In the middle of a record, of each direction. */
static void moves_within(const struct way *way)
{
	struct ends e = open_ends(way);
	static uint8_t got[1 << 21];
	size_t had = 0, sent = 0, len = 1 << 20;
	int ret, before;

	small_buffers(&e);
	told = false;
	SSL_set_mode(e.ssl, SSL_MODE_ENABLE_PARTIAL_WRITE);
	while (sent < len) {
		ret = SSL_write(e.ssl, pattern(len) + sent, (int)(len - sent));
		if (ret > 0) {
			sent += (size_t)ret;
			continue;
		}
		if (SSL_get_error(e.ssl, ret) != SSL_ERROR_WANT_WRITE)
			break;
		before = e.fd;
		e.fd = dup(before);
		SSL_set_fd(e.ssl, e.fd);
		close(before);
		poll(&(struct pollfd){ e.fd, POLLOUT, 0 }, 1, 10);
		while ((ret = libssl.read(e.peer, got + had,
					  (int)(sizeof(got) - had))) > 0)
			had += (size_t)ret;
	}
	for (int turns = 0; had < sent && turns < 1000; turns++) {
		usleep(1000);
		while ((ret = libssl.read(e.peer, got + had,
					  (int)(sizeof(got) - had))) > 0)
			had += (size_t)ret;
	}
	printf("\tsent %zu, arrived %zu: %08x\n", sent, had, sum(got, had));
	say_errors();
	close_ends(&e);
}

static void without_bios(const struct way *way)
{
	struct ends e = open_ends(way);

	say_write(&e, 0, 100);
	peer_writes(&e, 100);
	say_read(&e, 10);
	SSL_set_bio(e.ssl, NULL, NULL);
	say_bios(&e, NULL, NULL);
	peer_reads(&e);
	say_read(&e, 200);
	SSL_set_fd(e.ssl, e.fd);
	both_ways(&e);
	SSL_set_bio(e.ssl, NULL, NULL);
	say_read(&e, 200);
	say_write(&e, 0, 100);
	close_ends(&e);
}

/* ---- Two processes ----------------------------------------------------- */

static void child_goes_on(const struct ends *e, const int *begin, int late)
{
	char byte;

	if (late && read(*begin, &byte, 1) < 0)
		_exit(1);
	SSL_write(e->ssl, pattern(5000), 5000);
	SSL_shutdown(e->ssl);
	SSL_free(e->ssl);
	_exit(0);
}

/* Who has let go of a connection after fork() has not touched it. */
static void forks(const struct way *way)
{
	for (int i = 0; i < 6; i++) {
		struct ends e = open_ends(way);
		int begin[2], status;
		pid_t child;

		if (pipe(begin))
			DIE("no pipe\n");
		say_write(&e, 0, 100);
		child = fork();
		if (!child)
			child_goes_on(&e, begin, i % 2);
		if (i % 2 == 0)
			waitpid(child, &status, 0);
		if (i / 2 == 1) {
			SSL_set_quiet_shutdown(e.ssl, 1);
			say_shutdown(&e);
		}
		if (i / 2 == 2)
			SSL_set_shutdown(e.ssl, SSL_SENT_SHUTDOWN);
		SSL_free(e.ssl);
		e.ssl = NULL;
		if (write(begin[1], "", 1) != 1)
			DIE("no pipe\n");
		if (i % 2)
			waitpid(child, &status, 0);
		printf("\tchild %d\n", status);
		peer_reads(&e);
		close(begin[0]);
		close(begin[1]);
		close_ends(&e);
	}
}

static const struct {
	const char *name;
	void (*look)(const struct way *way);
} looks[] = {
	{ "sizes", sizes },
	{ "handshake within a read", within_a_read },
	{ "pieces", pieces },
	{ "with _ex", with_ex },
	{ "peer closes", peer_closes },
	{ "we close", we_close },
	{ "without TLS any more", without_tls },
	{ "close with data unread", close_with_data },
	{ "plain bytes behind the end", plain_behind },
	{ "ends without close_notify", ends_without },
	{ "reset", reset },
	{ "nonsense", nonsense },
	{ "peer alerts", peer_alerts },
	{ "key updates", updates },
	{ "key update in a write", update_in_write },
	{ "without auto retry", without_retry },
	{ "full socket", full_socket },
	{ "another retry", other_retry },
	{ "wrong retry", wrong_retry },
	{ "partial writes", partial },
	{ "short records", fragments },
	{ "short records of an SSL_CTX", fragments_of_all },
	{ "info callbacks", told_of_it },
	{ "an SSL doubled", doubled },
	{ "renegotiation", renegotiation },
	{ "tickets", tickets },
	{ "session", session_kept },
	{ "post-handshake authentication", post_handshake },
	{ "asked behind close_notify", asked_at_end },
	{ "read ahead", ahead },
	{ "clear and dup", again },
	{ "unix socket", over_unix },
	{ "BIO_f_ssl()", by_ssl_bio },
	{ "memory BIOs", over_memory },
	{ "a BIO of the program's", over_own },
	{ "broken pipe", broken_pipe },
	{ "calls that pass us by", past_us },
	{ "a BIO with the SSL", bio_with_ssl },
	{ "other BIOs", moves },
	{ "another descriptor within a record", moves_within },
	{ "no BIOs", without_bios },
	{ "fork", forks },
};

/* As a configuration with RecordPadding does, for an SSL_CTX of a library
 * context of the program's; before anything else, as OpenSSL counts for each. */
static void other_library(void)
{
	OSSL_LIB_CTX *library = OSSL_LIB_CTX_new(), *before;
	SSL_CTX *ctx = SSL_CTX_new_ex(library, NULL, TLS_server_method());

	before = OSSL_LIB_CTX_set0_default(library);
	SSL_CTX_set_block_padding(ctx, 64);
	OSSL_LIB_CTX_set0_default(before);
	SSL_CTX_free(ctx);
	OSSL_LIB_CTX_free(library);
}

int main(int argc, char **argv)
{
	find_libssl();
	signal(SIGPIPE, SIG_IGN);
	other_library();
	key = EVP_EC_gen("P-256");
	certificate = certificate_new(key);
	if (!certificate)
		DIE("no certificate\n");
	for (size_t i = 0; i < sizeof(looks) / sizeof(*looks); i++) {
		if (argc > 1 && strcmp(argv[1], looks[i].name) != 0)
			continue;
		for (size_t j = 0; j < sizeof(ways) / sizeof(*ways); j++) {
			printf("%s, %s\n", looks[i].name, ways[j].name);
			looks[i].look(&ways[j]);
		}
	}
	EVP_PKEY_free(key);
	X509_free(certificate);
	return 0;
}
