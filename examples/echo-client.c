// SPDX-License-Identifier: MIT
/*
 * echo-client: sends a file, or made-up bytes, to a server that sends them
 * back, and compares.
 *
 * One thread writes and one reads, both with blocking calls on the same
 * connection, as a context of the kind TLS_CONTEXT_WORKER allows: neither can
 * keep the other from going on when the network is full.
 */
#define _GNU_SOURCE 1
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

enum { CHUNK = 65536 };

static struct {
	const char *host, *port, *file, *cipher, *ca;
	uint64_t bytes;
	bool bytes_given;
	unsigned timeout;
	struct tls_config config;
} options = {
	.host = "127.0.0.1",
	.bytes = 16 << 20,
	.timeout = 30,
	.config = { .size = sizeof(struct tls_config) },
};

/* ---- What is sent -------------------------------------------------------- */

static const char *map; /* the file, or NULL: made-up bytes */
static uint64_t noise[CHUNK / sizeof(uint64_t)];

/* splitmix64: any bit of n changes every bit of the result. */
static uint64_t mix(uint64_t n)
{
	n += 0x9e3779b97f4a7c15;
	n = (n ^ (n >> 30)) * 0xbf58476d1ce4e5b9;
	n = (n ^ (n >> 27)) * 0x94d049bb133111eb;
	return n ^ (n >> 31);
}

static void make_noise(void)
{
	size_t i;

	for (i = 0; i < CHUNK / sizeof(*noise); i++)
		noise[i] = mix(~i);
}

/* What stands at offset: as many as *len bytes, up to the next chunk. */
static const char *content(uint64_t offset, uint64_t *len, uint64_t *scratch)
{
	size_t at = offset % CHUNK, i;
	uint64_t key = mix(offset / CHUNK);

	if (*len > CHUNK - at)
		*len = CHUNK - at;
	if (map)
		return map + offset;
	for (i = at / 8; i < (at + *len + 7) / 8; i++)
		scratch[i] = noise[i] ^ key;
	return (const char *)scratch + at;
}

static void map_file(void)
{
	int fd = open(options.file, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *area;

	if (fd < 0 || fstat(fd, &st))
		die("cannot read %s: %s", options.file, strerror(errno));
	if (!S_ISREG(st.st_mode))
		die("%s is not a regular file", options.file);
	options.bytes = (uint64_t)st.st_size;
	if (options.bytes > 0) {
		area = mmap(NULL, options.bytes, PROT_READ, MAP_PRIVATE, fd, 0);
		if (area == MAP_FAILED)
			die("cannot map %s: %s", options.file, strerror(errno));
		map = area;
	}
	close(fd);
}

/* ---- The two threads ----------------------------------------------------- */

static void *writer(void *arg)
{
	struct tls_conn *conn = arg;
	uint64_t scratch[CHUNK / sizeof(uint64_t)], sent, len;
	const char *chunk;
	ssize_t n;

	for (sent = 0; sent < options.bytes; sent += (uint64_t)n) {
		len = options.bytes - sent;
		chunk = content(sent, &len, scratch);
		n = tls_write(conn, chunk, len);
		if (n < 0)
			return NULL; /* sticks: the reader reports it */
	}
	/* No more from here, but the answer is still to come. */
	tls_shutdown(conn);
	return NULL;
}

static void compare(const char *buf, uint64_t offset, uint64_t len)
{
	static uint64_t scratch[CHUNK / sizeof(uint64_t)];
	const char *chunk;
	uint64_t part, i;

	if (offset + len > options.bytes)
		die("more came back than the %" PRIu64 " bytes sent",
		    options.bytes);
	for (; len > 0; offset += part, buf += part, len -= part) {
		part = len;
		chunk = content(offset, &part, scratch);
		if (!memcmp(chunk, buf, part))
			continue;
		for (i = 0; chunk[i] == buf[i]; i++)
			;
		die("what came back differs at offset %" PRIu64, offset + i);
	}
}

static void timed_out(int sig)
{
	static const char words[] = "echo-client: no progress for too long; "
				    "does the server echo?\n";

	(void)sig;
	if (write(2, words, sizeof(words) - 1) < 0)
		_exit(1);
	_exit(1);
}

static void still_alive(uint64_t received)
{
	static int64_t last_ms;
	int64_t now = now_ms();

	if (now - last_ms < 200)
		return;
	last_ms = now;
	alarm(options.timeout);
	if (isatty(2))
		fprintf(stderr, "\r%" PRIu64 " of %" PRIu64 " MiB ",
			received >> 20, options.bytes >> 20);
}

/* Read up to the server's close_notify. */
static void reader(struct tls_conn *conn)
{
	static char buf[CHUNK];
	uint64_t received = 0;
	ssize_t n;

	for (;;) {
		still_alive(received);
		n = tls_read(conn, buf, sizeof(buf));
		if (n <= 0)
			break;
		compare(buf, received, (uint64_t)n);
		received += (uint64_t)n;
	}
	alarm(0);
	if (isatty(2))
		fputs("\r\033[K", stderr);
	if (n < 0)
		die("after %" PRIu64 " of %" PRIu64 " bytes: %s", received,
		    options.bytes, tls_conn_error(conn));
	if (received < options.bytes)
		die("the server closed after %" PRIu64 " of %" PRIu64
		    " bytes; does it echo?",
		    received, options.bytes);
}

static void report(const struct tls_conn *conn, double seconds)
{
	char how[256];

	tls_conn_describe(conn, how, sizeof(how));
	printf("%" PRIu64 " bytes in %.3f s, %.3f GB/s each way, %s: "
	       "all %" PRIu64 " bytes identical\n",
	       options.bytes, seconds,
	       seconds > 0 ? (double)options.bytes / seconds / 1e9 : 0, how,
	       options.bytes);
}

static void exchange(struct tls_conn *conn)
{
	struct timespec start, end;
	pthread_t thread;

	clock_gettime(CLOCK_MONOTONIC, &start);
	errno = pthread_create(&thread, NULL, writer, conn);
	if (errno)
		die("cannot start a thread: %s", strerror(errno));
	reader(conn);
	pthread_join(thread, NULL);
	clock_gettime(CLOCK_MONOTONIC, &end);
	report(conn, (double)(end.tv_sec - start.tv_sec) +
			     (double)(end.tv_nsec - start.tv_nsec) / 1e9);
}

/* ---- Connecting ---------------------------------------------------------- */

static int connect_to(const char *host, const char *port)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list, *info;
	int fd = -1, err, on = 1;

	err = getaddrinfo(host, port, &hints, &list);
	if (err)
		die("cannot resolve %s: %s", host, gai_strerror(err));
	for (info = list; info; info = info->ai_next) {
		fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd >= 0 && !connect(fd, info->ai_addr, info->ai_addrlen))
			break;
		err = errno;
		close(fd);
	}
	if (!info)
		die("cannot connect to %s, port %s: %s", host, port,
		    strerror(err));
	freeaddrinfo(list);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

static SSL_CTX *new_ssl_ctx(void)
{
	SSL_CTX *ssl_ctx = SSL_CTX_new(TLS_client_method());

	if (!ssl_ctx || !SSL_CTX_set_min_proto_version(ssl_ctx, TLS1_3_VERSION))
		die("OpenSSL: %s", openssl_words());
	if (options.cipher &&
	    !SSL_CTX_set_ciphersuites(ssl_ctx, options.cipher))
		die_usage("--cipher: OpenSSL knows no TLS 1.3 suite '%s'",
			  options.cipher);
	if (options.ca) {
		if (!SSL_CTX_load_verify_locations(ssl_ctx, options.ca, NULL))
			die("cannot use %s: %s", options.ca, openssl_words());
		SSL_CTX_set_verify(ssl_ctx, SSL_VERIFY_PEER, NULL);
	} else {
		warn_line("note: without --ca the server is not verified");
	}
	if (tls_handoff_prepare(ssl_ctx))
		die("cannot prepare for hand-over: %s", tls_last_error());
	return ssl_ctx;
}

/* The certificate has to be for the host that was asked for. */
static void expect_host(SSL *ssl, const char *host)
{
	if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host))
		return;
	if (!SSL_set1_host(ssl, host) || !SSL_set_tlsext_host_name(ssl, host))
		die("OpenSSL: %s", openssl_words());
}

static _Noreturn void handshake_failed(const SSL *ssl)
{
	const char *words = openssl_words();
	long verified = SSL_get_verify_result(ssl);

	if (options.ca && verified != X509_V_OK)
		words = X509_verify_cert_error_string(verified);
	die("handshake: %s", words);
}

static struct tls_conn *handshake(struct tls_context *ctx, SSL_CTX *ssl_ctx,
				  int fd)
{
	struct tls_conn *conn;
	SSL *ssl = SSL_new(ssl_ctx);

	if (!ssl || !SSL_set_fd(ssl, fd))
		die("OpenSSL: %s", openssl_words());
	expect_host(ssl, options.host);
	errno = 0;
	ERR_clear_error();
	if (SSL_connect(ssl) != 1)
		handshake_failed(ssl);
	if (tls_handoff(&conn, ctx, ssl))
		die("hand-over: %s", tls_last_error());
	/* The connection needs it no more. */
	SSL_free(ssl);
	return conn;
}

/* ---- Start --------------------------------------------------------------- */

static void help(void)
{
	puts("usage: echo-client --port N [options]\n"
	     "Send bytes to a TLS 1.3 server that echoes, and compare.\n\n"
	     "  --port N        the server's port\n"
	     "  --host H        the server (default: 127.0.0.1)\n"
	     "  --file F        send this file\n"
	     "  --bytes N[KMG]  send as many made-up bytes (default: 16M)\n"
	     "  --ca FILE       verify the server by these certificates, PEM\n"
	     "  --cipher SUITE  for example TLS_AES_128_GCM_SHA256\n"
	     "  --timeout N     seconds without progress to give up after "
	     "(30)");
	puts(ENGINE_HELP "  --help          print this");
}

static const struct option flags[] = {
	{ "port", required_argument, NULL, 'p' },
	{ "host", required_argument, NULL, 'H' },
	{ "file", required_argument, NULL, 'f' },
	{ "bytes", required_argument, NULL, 'b' },
	{ "ca", required_argument, NULL, 'a' },
	{ "cipher", required_argument, NULL, 'C' },
	{ "timeout", required_argument, NULL, 't' },
	{ "help", no_argument, NULL, 'h' },
	ENGINE_LONG_OPTIONS,
	{ NULL, 0, NULL, 0 },
};

static void take_option(int flag)
{
	if (parse_engine_flag(&options.config, flag, optarg))
		return;
	switch (flag) {
	case 'p':
		parse_number("port", optarg, 1, 65535);
		options.port = optarg;
		break;
	case 'H':
		options.host = optarg;
		break;
	case 'f':
		options.file = optarg;
		break;
	case 'b':
		options.bytes = parse_size("bytes", optarg);
		options.bytes_given = true;
		break;
	case 'a':
		options.ca = optarg;
		break;
	case 'C':
		options.cipher = optarg;
		break;
	case 't':
		options.timeout =
			(unsigned)parse_number("timeout", optarg, 1, 86400);
		break;
	case 'h':
		help();
		exit(0);
	default:
		exit_usage(); /* getopt_long() has named it */
	}
}

static void parse_options(int argc, char **argv)
{
	int flag;

	while ((flag = getopt_long(argc, argv, "", flags, NULL)) != -1)
		take_option(flag);
	if (optind < argc)
		die_usage("unexpected argument '%s'", argv[optind]);
	if (!options.port)
		die_usage("--port N is missing");
	if (options.file && options.bytes_given)
		die_usage("--file and --bytes exclude each other");
}

int main(int argc, char **argv)
{
	struct tls_context *ctx;
	struct tls_conn *conn;
	SSL_CTX *ssl_ctx;
	int fd;

	parse_options(argc, argv);
	if (options.file)
		map_file();
	make_noise();
	signal(SIGPIPE, SIG_IGN);
	signal(SIGALRM, timed_out);
	alarm(options.timeout);

	if (tls_context_new(&ctx, &options.config))
		die("cannot create a context: %s", tls_last_error());
	ssl_ctx = new_ssl_ctx();
	fd = connect_to(options.host, options.port);
	conn = handshake(ctx, ssl_ctx, fd);
	SSL_CTX_free(ssl_ctx);
	exchange(conn);
	tls_close(conn, 1000);
	close(fd);
	tls_context_free(ctx);
	return 0;
}
