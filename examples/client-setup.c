// SPDX-License-Identifier: MIT
#define _GNU_SOURCE 1
#include "client-setup.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

enum {
	LEAVE_BYTES = 16 * 1024 * 1024, /* more than networks hold */
	LEAVE_MS = 2000,
};

/* ---- Flags --------------------------------------------------------------- */

static void help(void)
{
	puts("usage: echo-client --port N [options]\n"
	     "Send bytes to a TLS server that echoes, and compare.\n\n"
	     "  --port N        the server's port\n"
	     "  --host H        the server (default: 127.0.0.1)\n"
	     "  --file F        send this file\n"
	     "  --bytes N[KMG]  send as many made-up bytes (default: 16M)\n"
	     "  --ca FILE       verify the server by these certificates, PEM\n"
	     "  --resume        connect twice, the second time with a session "
	     "ticket of the\n"
	     "                  first connection\n"
	     "  --timeout N     seconds without progress to give up after "
	     "(30)");
	puts(TLS_HELP ENGINE_HELP "  --help          print this");
}

static const struct option flags[] = {
	{ "port", required_argument, NULL, 'p' },
	{ "host", required_argument, NULL, 'H' },
	{ "file", required_argument, NULL, 'f' },
	{ "bytes", required_argument, NULL, 'b' },
	{ "ca", required_argument, NULL, 'a' },
	{ "tls", required_argument, NULL, 'T' },
	{ "cipher", required_argument, NULL, 'C' },
	{ "resume", no_argument, NULL, 'r' },
	{ "timeout", required_argument, NULL, 't' },
	{ "help", no_argument, NULL, 'h' },
	ENGINE_LONG_OPTIONS,
	{ NULL, 0, NULL, 0 },
};

static void take_option(struct client_options *o, int flag)
{
	if (parse_engine_flag(&o->config, flag, optarg))
		return;
	switch (flag) {
	case 'p':
		parse_number("port", optarg, 1, 65535);
		o->port = optarg;
		break;
	case 'H':
		o->host = optarg;
		break;
	case 'f':
		o->file = optarg;
		break;
	case 'b':
		o->bytes = parse_size("bytes", optarg);
		o->bytes_given = true;
		break;
	case 'a':
		o->ca = optarg;
		break;
	case 'T':
		o->tls = optarg;
		break;
	case 'C':
		o->cipher = optarg;
		break;
	case 'r':
		o->resume = true;
		break;
	case 't':
		o->timeout =
			(unsigned)parse_number("timeout", optarg, 1, 86400);
		break;
	case 'h':
		help();
		exit(0);
	default:
		exit_usage(); /* getopt_long() has named it */
	}
}

void client_options(struct client_options *o, int argc, char **argv)
{
	int flag;

	*o = (struct client_options){
		.host = "127.0.0.1",
		.bytes = 16 << 20,
		.timeout = 30,
		.config = TLS_CONFIG_INIT,
	};
	keylog_config(&o->config);
	while ((flag = getopt_long(argc, argv, "", flags, NULL)) != -1)
		take_option(o, flag);
	if (optind < argc)
		die_usage("unexpected argument '%s'", argv[optind]);
	if (!o->port)
		die_usage("--port N is missing");
	if (o->file && o->bytes_given)
		die_usage("--file and --bytes exclude each other");
}

/* ---- Connection and handshake -------------------------------------------- */

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

static SSL_SESSION *session; /* the latest */

static int keep_session(SSL *ssl, SSL_SESSION *new)
{
	(void)ssl;
	SSL_SESSION_free(session);
	session = new;
	return 1;
}

SSL_CTX *client_ssl_ctx(const struct client_options *o)
{
	SSL_CTX *ssl_ctx = SSL_CTX_new(TLS_client_method());

	if (!ssl_ctx)
		die("OpenSSL: %s", openssl_words());
	choose_tls(ssl_ctx, o->tls, o->cipher);
	if (o->ca) {
		if (!SSL_CTX_load_verify_locations(ssl_ctx, o->ca, NULL))
			die("cannot use %s: %s", o->ca, openssl_words());
		SSL_CTX_set_verify(ssl_ctx, SSL_VERIFY_PEER, NULL);
	} else {
		warn_line("note: without --ca the server is not verified");
	}
	keylog_ssl_ctx(ssl_ctx);
	if (o->resume) {
		SSL_CTX_set_session_cache_mode(ssl_ctx, SSL_SESS_CACHE_CLIENT);
		SSL_CTX_sess_set_new_cb(ssl_ctx, keep_session);
	}
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

void client_drop(int fd, int quiet_ms)
{
	struct pollfd readable = { .fd = fd, .events = POLLIN };
	int64_t end = now_ms() + LEAVE_MS;
	size_t dropped = 0;
	ssize_t n;

	while (dropped < LEAVE_BYTES && now_ms() < end &&
	       poll(&readable, 1, quiet_ms) > 0) {
		n = discard(fd, LEAVE_BYTES);
		if (n == 0 || (n < 0 && n != -EAGAIN))
			return;
		if (n > 0)
			dropped += (size_t)n;
	}
}

void client_leave(int fd)
{
	if (shutdown(fd, SHUT_WR) == 0)
		client_drop(fd, LEAVE_MS);
}

static _Noreturn void handshake_failed(const SSL *ssl, bool verify)
{
	const char *words = openssl_words();
	long verified = SSL_get_verify_result(ssl);

	client_leave(SSL_get_fd(ssl));
	if (verify && verified != X509_V_OK)
		words = X509_verify_cert_error_string(verified);
	die("handshake: %s", words);
}

SSL *client_connect(const struct client_options *o, SSL_CTX *ssl_ctx)
{
	int fd = connect_to(o->host, o->port);
	SSL *ssl = SSL_new(ssl_ctx);

	if (!ssl || !SSL_set_fd(ssl, fd))
		die("OpenSSL: %s", openssl_words());
	expect_host(ssl, o->host);
	if (session)
		SSL_set_session(ssl, session);
	errno = 0;
	ERR_clear_error();
	if (SSL_connect(ssl) != 1)
		handshake_failed(ssl, o->ca != NULL);
	return ssl;
}

/* ---- Progress ------------------------------------------------------------ */

static void timed_out(int sig)
{
	static const char words[] = "echo-client: no progress for too long; "
				    "does the server echo?\n";

	(void)sig;
	if (write(2, words, sizeof(words) - 1) < 0)
		_exit(1);
	_exit(1);
}

void progress(uint64_t done, uint64_t total, unsigned timeout)
{
	static int64_t last_ms;
	int64_t now = now_ms();

	if (now - last_ms < 200)
		return;
	if (!last_ms)
		signal(SIGALRM, timed_out);
	last_ms = now;
	alarm(timeout);
	if (isatty(2) && done)
		fprintf(stderr, "\r%" PRIu64 " of %" PRIu64 " MiB ", done >> 20,
			total >> 20);
}

void progress_end(void)
{
	alarm(0);
	if (isatty(2))
		fputs("\r\033[K", stderr);
}
