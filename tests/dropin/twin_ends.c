/* SPDX-License-Identifier: MIT */
#include "twin.h"

#include "certificate.h"

struct twin_libssl libssl;
EVP_PKEY *key;
X509 *certificate;
void (*prepare)(struct ends *e); /* before the handshake */
SSL *(*exchange)(SSL *ssl);      /* for another */
bool told;                       /* callbacks are to be said */

size_t min(size_t a, size_t b)
{
	return a < b ? a : b;
}

static void *symbol(void *library, const char *name)
{
	void *found = dlsym(library, name);

	if (!found)
		DIE("no %s\n", name);
	return found;
}

void find_libssl(void)
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

void seen_by_peer(int write, int version, int type, const void *buf, size_t len,
		  SSL *ssl, void *arg)
{
	const uint8_t *header = buf;

	(void)version, (void)ssl, (void)arg;
	if (type == SSL3_RT_HEADER && !write && told && len == 5)
		printf("\t\trecord %d of %d\n", header[0],
		       header[3] << 8 | header[4]);
}

SSL_CTX *context(const struct way *way, bool server)
{
	SSL_CTX *ctx =
		SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());

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

void nonblocking(int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

void tcp_pair(int fds[2])
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

void shake(struct ends *e)
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

struct ends make_ends(const struct way *way, const int fds[2])
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
	return e;
}

struct ends open_with(const struct way *way, int fds[2])
{
	struct ends e = make_ends(way, fds);

	SSL_set_fd(e.ssl, fds[0]);
	shake(&e);
	told = true;
	return e;
}

struct ends open_ends(const struct way *way)
{
	int fds[2];

	tcp_pair(fds);
	return open_with(way, fds);
}

void close_ends(struct ends *e)
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

const char *error_name(int error)
{
	static const char *const names[] = {
		"NONE",      "SSL",     "WANT_READ",   "WANT_WRITE",
		"WANT_X509", "SYSCALL", "ZERO_RETURN",
	};

	return error < 7 ? names[error] : "?";
}

void say_errors(void)
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

void say(const struct ends *e, const char *what, int ret)
{
	int number = errno, error = SSL_get_error(e->ssl, ret);

	printf("\t%s: %d %s%s%s, want %d, pending %d %d, shutdown %d%s\n", what,
	       ret, error_name(error),
	       error == SSL_ERROR_SYSCALL && ret < 0 ? " " : "",
	       error == SSL_ERROR_SYSCALL && ret < 0 ? strerror(number) : "",
	       error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE
		       ? SSL_want(e->ssl)
		       : 0,
	       SSL_pending(e->ssl), SSL_has_pending(e->ssl),
	       SSL_get_shutdown(e->ssl),
	       SSL_is_init_finished(e->ssl) ? "" : ", in init");
	say_errors();
	fflush(stdout);
}

uint32_t sum(const uint8_t *bytes, size_t len)
{
	uint32_t hash = 2166136261u;

	while (len--)
		hash = (hash ^ *bytes++) * 16777619u;
	return hash;
}

uint8_t *pattern(size_t len)
{
	static uint8_t bytes[4 << 20];
	uint32_t x = 1;

	if (!bytes[1])
		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] =
				(uint8_t)((x = x * 1664525 + 1013904223) >> 24);
	if (len > sizeof(bytes))
		DIE("too long\n");
	return bytes;
}

int say_read(const struct ends *e, int len)
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

int say_peek(const struct ends *e, int len)
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

int say_write(const struct ends *e, size_t from, int len)
{
	int ret;

	errno = 0;
	ret = SSL_write(e->ssl, pattern(from) + from, len);
	say(e, "write", ret);
	return ret;
}

int say_shutdown(const struct ends *e)
{
	int ret;

	errno = 0;
	ret = SSL_shutdown(e->ssl);
	say(e, "shutdown", ret);
	return ret;
}

/* Until all that was sent is on its way, which is not far. */
void wait_for_arrival(int fd)
{
	int left = 1;

	for (int i = 0; i < 200 && left; i++) {
		usleep(100); /* what is held leaves when the program sleeps */
		if (ioctl(fd, SIOCOUTQNSD, &left))
			return;
	}
}

/* The peer reads all there is, and says how much, of which bytes. */
void peer_reads(const struct ends *e)
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

void peer_drains(const struct ends *e)
{
	static uint8_t buf[1 << 16];

	wait_for_arrival(e->fd);
	while (libssl.read(e->peer, buf, sizeof(buf)) > 0)
		;
	ERR_clear_error();
}

void peer_writes(const struct ends *e, int len)
{
	ERR_clear_error();
	if (libssl.write(e->peer, pattern((size_t)len), len) != len)
		DIE("%s: the peer could not write\n", e->way->name);
	wait_for_arrival(e->peer_fd);
}
