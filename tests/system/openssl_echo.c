// SPDX-License-Identifier: MIT
/*
 * An echo server and client as they are usually written with OpenSSL alone:
 * blocking, one connection at a time. The other side in tests.
 *
 *	openssl_echo [-c SUITE] [-k BYTES] server CERT KEY [PORT]
 *	openssl_echo [-c SUITE] [-k BYTES] client IPV4 PORT BYTES
 *
 * -c: a suite of TLS 1.3, or by OpenSSL's name one of TLS 1.2, and no other
 * -k: ask for a KeyUpdate in both directions every so many bytes sent.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

static char buf[16384], want[sizeof(buf)];
static long update_after;

static void fail(const char *what)
{
	perror(what);
	ERR_print_errors_fp(stderr);
	exit(1);
}

/* Returns 0 if the peer would not take it. */
static int send_all(SSL *ssl, const char *data, int len)
{
	static long sent;

	sent += len;
	if (update_after && sent > update_after) {
		sent = 0;
		if (!SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED))
			fail("SSL_key_update");
	}
	return SSL_write(ssl, data, len) == len;
}

static void echo(SSL *ssl)
{
	int n = 0;

	if (SSL_accept(ssl) == 1)
		while ((n = SSL_read(ssl, buf, sizeof(buf))) > 0)
			if (!send_all(ssl, buf, n))
				break;
	if (SSL_get_error(ssl, n) == SSL_ERROR_ZERO_RETURN)
		SSL_shutdown(ssl);
	else
		ERR_print_errors_fp(stderr);
	ERR_clear_error();
}

static void fill(long offset)
{
	size_t i;

	for (i = 0; i < sizeof(want); i++, offset++)
		want[i] = (char)(offset * 31 + (offset >> 8) + (offset >> 16));
}

/* Piece by piece, so that a blocking peer never waits for us to read. */
static void ask(SSL *ssl, long bytes)
{
	long done;
	int len, got, n;

	if (SSL_connect(ssl) != 1)
		fail("SSL_connect");
	for (done = 0; done < bytes; done += len) {
		fill(done);
		len = (int)sizeof(want);
		if (len > bytes - done)
			len = (int)(bytes - done);
		if (!send_all(ssl, want, len))
			fail("SSL_write");
		for (got = 0; got < len; got += n) {
			n = SSL_read(ssl, buf + got, len - got);
			if (n <= 0)
				fail("SSL_read");
		}
		if (memcmp(buf, want, (size_t)len))
			fail("the answer differs");
	}
	SSL_shutdown(ssl);
	n = SSL_read(ssl, buf, sizeof(buf));
	if (SSL_get_error(ssl, n) != SSL_ERROR_ZERO_RETURN)
		fail("no close_notify");
	printf("all %ld bytes identical\n", bytes);
}

static int open_socket(const char *host, const char *port, int server)
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	inet_pton(AF_INET, host, &addr.sin_addr);
	addr.sin_port = htons((uint16_t)atoi(port));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (server ? bind(fd, (void *)&addr, len) || listen(fd, 64)
		   : connect(fd, (void *)&addr, len))
		fail(port);
	getsockname(fd, (void *)&addr, &len);
	if (server)
		printf("listening on %s:%u\n", host, ntohs(addr.sin_port));
	fflush(stdout);
	return fd;
}

/*
 * What we said last may be an alert. A socket closed with bytes unread resets
 * the connection, and the client loses it.
 */
static void leave(int fd)
{
	struct timeval patience = { .tv_sec = 2 };
	int i;

	shutdown(fd, SHUT_WR);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	for (i = 0; i < 1024 && read(fd, buf, sizeof(buf)) > 0; i++)
		;
	close(fd);
}

static void serve(SSL_CTX *ctx, const char *port)
{
	int fd, listener = open_socket("127.0.0.1", port, 1);
	SSL *ssl;

	/* What is accepted inherits the listener's TCP_NODELAY. */
	while ((fd = accept(listener, NULL, NULL)) >= 0) {
		ssl = SSL_new(ctx);
		SSL_set_fd(ssl, fd);
		echo(ssl);
		SSL_free(ssl);
		leave(fd);
	}
}

static int choose(SSL_CTX *ctx, const char *suite)
{
	if (!strncmp(suite, "TLS_", 4))
		return SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) &&
		       SSL_CTX_set_ciphersuites(ctx, suite);
	return SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION) &&
	       SSL_CTX_set_cipher_list(ctx, suite);
}

int main(int argc, char **argv)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	SSL *ssl;
	int flag;

	signal(SIGPIPE, SIG_IGN);
	while ((flag = getopt(argc, argv, "c:k:")) != -1) {
		if (flag == 'k')
			update_after = atol(optarg);
		else if (flag != 'c' || !choose(ctx, optarg))
			return 2;
	}
	argv += optind;
	argc -= optind;
	if (argc >= 3 && !strcmp(argv[0], "server")) {
		if (SSL_CTX_use_certificate_chain_file(ctx, argv[1]) != 1 ||
		    SSL_CTX_use_PrivateKey_file(ctx, argv[2], 1) != 1)
			fail("certificate");
		SSL_CTX_set_dh_auto(ctx, 1);
		serve(ctx, argc > 3 ? argv[3] : "0");
	} else if (argc == 4 && !strcmp(argv[0], "client")) {
		ssl = SSL_new(ctx);
		SSL_set_fd(ssl, open_socket(argv[1], argv[2], 0));
		ask(ssl, atol(argv[3]));
		SSL_free(ssl);
		SSL_CTX_free(ctx);
		return 0;
	}
	fprintf(stderr, "usage: at the top of openssl_echo.c\n");
	return 2;
}
