/* SPDX-License-Identifier: MIT */
/* What the examples share: complaints, strict flags, a listening socket. */
#ifndef EXAMPLES_COMMON_H
#define EXAMPLES_COMMON_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <asynctls.h>

/*
 * Print "program: words" to stderr; die() exits 1, and die_usage() 2 by way of
 * exit_usage(), which says where help is.
 */
void warn_line(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void die(const char *format, ...)
	__attribute__((format(printf, 1, 2)));
_Noreturn void exit_usage(void);
_Noreturn void die_usage(const char *format, ...)
	__attribute__((format(printf, 1, 2)));

/* A decimal number between min and max, or die_usage(). */
uint64_t parse_number(const char *flag, const char *text, uint64_t min,
		      uint64_t max);
/* The same with an optional K, M or G (powers of 1024). */
uint64_t parse_size(const char *flag, const char *text);

/* The flags that choose an engine; the letters are getopt_long() values. */
/* clang-format off */
#define ENGINE_LONG_OPTIONS                         \
	{ "engine", required_argument, NULL, 'e' }, \
	{ "driver", required_argument, NULL, 'd' }, \
	{ "depth", required_argument, NULL, 'D' }
/* clang-format on */
#define ENGINE_HELP                                                            \
	"  --engine E      auto, afalg or cpu (default: auto)\n"               \
	"  --driver D      a kernel driver by its name in /proc/crypto\n"      \
	"  --depth N       records in an engine at once, per direction\n"

/* Take one of them; returns 0 if flag is another. */
int parse_engine_flag(struct tls_config *config, int flag, const char *text);

/*
 * A listening, non-blocking socket, or die(). Writes "HOST:PORT" with the real
 * port to name, [HOST]:PORT for IPv6.
 */
int listen_on(const char *host, const char *port, char *name, size_t len);

/*
 * Read up to max bytes of a TCP socket and forget them, without waiting.
 * Returns how many there were, 0 at the end of the stream, or -errno.
 */
ssize_t discard(int fd, size_t max);

/* Whether the other end is gone: it reads no more, for all the socket knows. */
bool gone(int fd);

/* Write addr as "HOST:PORT" to buf. */
struct sockaddr;
void name_address(const struct sockaddr *addr, char *buf, size_t len);

/*
 * Versions and suites: TLS 1.2 with the suites that can be handed over and 1.3,
 * or one of them ("1.2", "1.3"), and one cipher suite, of TLS 1.3 or by
 * OpenSSL's name one of TLS 1.2, which settles the version. NULL: no matter.
 */
struct ssl_ctx_st;
void choose_tls(struct ssl_ctx_st *ssl_ctx, const char *version,
		const char *cipher);
#define TLS_HELP                                                               \
	"  --tls V         1.2 or 1.3 (default: both)\n"                       \
	"  --cipher SUITE  for example TLS_AES_128_GCM_SHA256, or of TLS 1.2\n" \
	"                  ECDHE-ECDSA-AES128-GCM-SHA256\n"

/* The words for OpenSSL's last error, or errno's where it has none. */
const char *openssl_words(void);

/*
 * What other programs do, too: secrets go to the file that SSLKEYLOGFILE names,
 * for Wireshark. The first of these before tls_context_new(), the second before
 * tls_handoff_prepare().
 */
void keylog_config(struct tls_config *config);
void keylog_ssl_ctx(struct ssl_ctx_st *ssl_ctx);

/* pthread_create(), or die(). */
pthread_t start_thread(void *(*run)(void *), void *arg);

/* Of a clock that nobody sets. */
int64_t now_ms(void);

/*
 * As many descriptors as may be: the usual soft limit of 1,024 would limit the
 * clients, too.
 */
void allow_many_descriptors(void);

int new_epoll(void);
/* epoll_ctl(), with what as data.ptr. */
void watch(int epoll, int op, int fd, uint32_t events, void *what);

#endif
