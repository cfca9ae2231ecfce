// SPDX-License-Identifier: MIT
#define _GNU_SOURCE 1
#include "common.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

/* One fprintf() per line, so that the lines of several threads stay whole. */
static void complain(const char *format, va_list args)
{
	char line[1024];

	vsnprintf(line, sizeof(line), format, args);
	fprintf(stderr, "%s: %s\n", program_invocation_short_name, line);
}

void warn_line(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	complain(format, args);
	va_end(args);
}

void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	complain(format, args);
	va_end(args);
	fflush(stdout);
	/* Other threads may be at work: nothing is torn down under them. */
	_exit(1);
}

void exit_usage(void)
{
	fprintf(stderr, "Try '%s --help'.\n", program_invocation_short_name);
	exit(2);
}

void die_usage(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	complain(format, args);
	va_end(args);
	exit_usage();
}

/* strtoull() alone would take " 7", "+7" and even "-7". */
static int digits(const char *text, uint64_t *value, char **end)
{
	if (!isdigit((unsigned char)text[0]))
		return -1;
	errno = 0;
	*value = strtoull(text, end, 10);
	return errno ? -1 : 0;
}

uint64_t parse_number(const char *flag, const char *text, uint64_t min,
		      uint64_t max)
{
	uint64_t value;
	char *end;

	if (digits(text, &value, &end) || *end || value < min || value > max)
		die_usage("--%s wants a number from %llu to %llu, not '%s'",
			  flag, (unsigned long long)min,
			  (unsigned long long)max, text);
	return value;
}

uint64_t parse_size(const char *flag, const char *text)
{
	static const char units[] = "KMG";
	unsigned shift = 0;
	const char *unit;
	uint64_t value;
	char *end;

	if (digits(text, &value, &end))
		goto wrong;
	if (*end) {
		unit = strchr(units, *end);
		if (!unit || end[1])
			goto wrong;
		shift = 10 * (unsigned)(unit - units + 1);
	}
	if (value > (uint64_t)INT64_MAX >> shift)
		goto wrong;
	return value << shift;
wrong:
	die_usage("--%s wants a size such as 500, 64K, 16M or 2G, not '%s'",
		  flag, text);
}

static enum tls_engine parse_engine(const char *text)
{
	if (!strcmp(text, "auto"))
		return TLS_ENGINE_AUTO;
	if (!strcmp(text, "afalg"))
		return TLS_ENGINE_AFALG;
	if (!strcmp(text, "cpu"))
		return TLS_ENGINE_CPU;
	die_usage("--engine wants auto, afalg or cpu, not '%s'", text);
}

int parse_engine_flag(struct tls_config *config, int flag, const char *text)
{
	switch (flag) {
	case 'e':
		config->engine = parse_engine(text);
		return 1;
	case 'd':
		config->driver = text;
		return 1;
	case 'D':
		config->depth = (unsigned)parse_number("depth", text, 1, 4096);
		return 1;
	}
	return 0;
}

void name_address(const struct sockaddr *addr, char *buf, size_t len)
{
	socklen_t addr_len = addr->sa_family == AF_INET6
				     ? sizeof(struct sockaddr_in6)
				     : sizeof(struct sockaddr_in);
	char host[NI_MAXHOST] = "?", port[NI_MAXSERV] = "?";

	getnameinfo(addr, addr_len, host, sizeof(host), port, sizeof(port),
		    NI_NUMERICHOST | NI_NUMERICSERV);
	snprintf(buf, len, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

int listen_on(const char *host, const char *port, char *name, size_t len)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *info;
	struct sockaddr_storage addr;
	socklen_t addr_len = sizeof(addr);
	int fd, err, on = 1;

	err = getaddrinfo(host, port, &hints, &info);
	if (err)
		die("cannot resolve %s: %s", host, gai_strerror(err));
	fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
		    0);
	if (fd < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    bind(fd, info->ai_addr, info->ai_addrlen) ||
	    listen(fd, SOMAXCONN) ||
	    getsockname(fd, (struct sockaddr *)&addr, &addr_len))
		die("cannot listen on %s, port %s: %s", host, port,
		    strerror(errno));
	freeaddrinfo(info);
	name_address((struct sockaddr *)&addr, name, len);
	return fd;
}

ssize_t discard(int fd, size_t max)
{
	/* tcp(7): with MSG_TRUNC it goes nowhere. */
	ssize_t n = recv(fd, NULL, max, MSG_TRUNC | MSG_DONTWAIT);

	return n < 0 ? -errno : n;
}

bool gone(int fd)
{
	struct pollfd ask = { .fd = fd };

	return poll(&ask, 1, 0) > 0 && ask.revents & (POLLERR | POLLHUP);
}

const char *openssl_words(void)
{
	int system_error = errno;
	unsigned long code = ERR_peek_last_error();
	const char *reason = code ? ERR_reason_error_string(code) : NULL;

	if (reason)
		return reason;
	return system_error ? strerror(system_error)
			    : "the peer closed the connection";
}

void choose_tls(SSL_CTX *ssl_ctx, const char *version, const char *cipher)
{
	int min = TLS1_2_VERSION, max = 0; /* the latest */
	bool of_tls13 = cipher && !strncmp(cipher, "TLS_", 4);
	const char *tls12 = "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AESCCM:"
			    "DHE+AESGCM:DHE+CHACHA20:!AESCCM8:!PSK";
	const char *tls13 = TLS_DEFAULT_CIPHERSUITES ":TLS_AES_128_CCM_SHA256";

	if (version && strcmp(version, "1.2") != 0 &&
	    strcmp(version, "1.3") != 0)
		die_usage("--tls: '%s' is neither 1.2 nor 1.3", version);
	if (cipher && version && of_tls13 == !strcmp(version, "1.2"))
		die_usage("--cipher %s is not of TLS %s", cipher, version);
	if (of_tls13 || (version && !strcmp(version, "1.3")))
		min = TLS1_3_VERSION;
	else if (cipher || version)
		max = TLS1_2_VERSION;
	if (!SSL_CTX_set_min_proto_version(ssl_ctx, min) ||
	    !SSL_CTX_set_max_proto_version(ssl_ctx, max))
		die("OpenSSL: %s", openssl_words());
	if (!SSL_CTX_set_ciphersuites(ssl_ctx, of_tls13 ? cipher : tls13) ||
	    !SSL_CTX_set_cipher_list(ssl_ctx, cipher && !of_tls13 ? cipher :
								     tls12))
		die_usage("--cipher: OpenSSL knows no suite '%s'", cipher);
}

/* The library logs what KeyUpdates make, OpenSSL what the handshake made. */
void keylog_config(struct tls_config *config)
{
	config->keylog_file = getenv("SSLKEYLOGFILE");
}

static int keylog_fd;

static void keylog(const SSL *ssl, const char *line)
{
	char whole[512];
	int len = snprintf(whole, sizeof(whole), "%s\n", line);

	(void)ssl;
	/* In one piece: others append to the file. */
	if (write(keylog_fd, whole, (size_t)len) != len)
		warn_line("key log: %s", strerror(errno));
}

void keylog_ssl_ctx(SSL_CTX *ssl_ctx)
{
	const char *path = getenv("SSLKEYLOGFILE");

	if (!path)
		return;
	keylog_fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (keylog_fd < 0)
		die("SSLKEYLOGFILE: %s: %s", path, strerror(errno));
	SSL_CTX_set_keylog_callback(ssl_ctx, keylog);
}

pthread_t start_thread(void *(*run)(void *), void *arg)
{
	pthread_t thread;

	errno = pthread_create(&thread, NULL, run, arg);
	if (errno)
		die("cannot start a thread: %s", strerror(errno));
	return thread;
}

int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void allow_many_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

int new_epoll(void)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	if (epoll < 0)
		die("epoll_create1: %s", strerror(errno));
	return epoll;
}

void watch(int epoll, int op, int fd, uint32_t events, void *what)
{
	struct epoll_event event = { .events = events, .data.ptr = what };

	if (epoll_ctl(epoll, op, fd, &event))
		die("epoll_ctl: %s", strerror(errno));
}
