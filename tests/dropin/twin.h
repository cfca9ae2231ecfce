/* SPDX-License-Identifier: MIT */
/*
 * What the cases of twin.c share: the two ends of a connection (twin_ends.c),
 * of which one is looked at, and saying what is to be seen of it.
 */
#ifndef ASYNCTLS_TESTS_TWIN_H
#define ASYNCTLS_TESTS_TWIN_H

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

#define DIE(...)                                                               \
	do {                                                                   \
		fprintf(stderr, "twin: " __VA_ARGS__);                         \
		exit(1);                                                       \
	} while (0)

/* libssl's own */
struct twin_libssl {
	SSL *(*new)(SSL_CTX *ctx);
	int (*read)(SSL *ssl, void *buf, int len);
	int (*write)(SSL *ssl, const void *buf, int len);
	int (*handshake)(SSL *ssl);
	int (*shutdown)(SSL *ssl);
	int (*error)(const SSL *ssl, int ret);
	int (*pending)(const SSL *ssl);
	int (*renegotiate)(SSL *ssl);
};
extern struct twin_libssl libssl;

struct way {
	const char *name;
	bool server; /* is what we look at */
	int version;
	const char *suite;
};

struct ends {
	const struct way *way;
	SSL_CTX *ctx[2];
	SSL *ssl, *peer; /* ours is looked at */
	int fd, peer_fd;
};

extern EVP_PKEY *key;
extern X509 *certificate;
extern void (*prepare)(struct ends *e); /* before the handshake */
extern SSL *(*exchange)(SSL *ssl);      /* for another */
extern bool told;                       /* callbacks are to be said */

size_t min(size_t a, size_t b);
void find_libssl(void);
void seen_by_peer(int write, int version, int type, const void *buf, size_t len,
		  SSL *ssl, void *arg);
SSL_CTX *context(const struct way *way, bool server);
void nonblocking(int fd);
void tcp_pair(int fds[2]);
void shake(struct ends *e);
/* Not shaken hands, nor has ours a BIO; the first of fds is ours. */
struct ends make_ends(const struct way *way, const int fds[2]);
struct ends open_with(const struct way *way, int fds[2]);
struct ends open_ends(const struct way *way);
void close_ends(struct ends *e);
const char *error_name(int error);
void say_errors(void);
void say(const struct ends *e, const char *what, int ret);
uint32_t sum(const uint8_t *bytes, size_t len);
uint8_t *pattern(size_t len);
int say_read(const struct ends *e, int len);
int say_peek(const struct ends *e, int len);
int say_write(const struct ends *e, size_t from, int len);
int say_shutdown(const struct ends *e);
void wait_for_arrival(int fd);
void peer_reads(const struct ends *e);
void peer_drains(const struct ends *e);
void peer_writes(const struct ends *e, int len);
void small_buffers(const struct ends *e);

/* The cases, by file. */
/* twin_data.c */
void sizes(const struct way *way);
void within_a_read(const struct way *way);
void pieces(const struct way *way);
void with_ex(const struct way *way);
void full_socket(const struct way *way);
void other_retry(const struct way *way);
void wrong_retry(const struct way *way);
void partial(const struct way *way);
void fragments(const struct way *way);
void fragments_of_all(const struct way *way);
void ahead(const struct way *way);
void over_unix(const struct way *way);
/* twin_close.c */
void peer_closes(const struct way *way);
void we_close(const struct way *way);
void without_tls(const struct way *way);
void close_with_data(const struct way *way);
void plain_behind(const struct way *way);
void ends_without(const struct way *way);
void reset(const struct way *way);
void nonsense(const struct way *way);
void peer_alerts(const struct way *way);
void broken_pipe(const struct way *way);
/* twin_keys.c */
void updates(const struct way *way);
void update_in_write(const struct way *way);
void without_retry(const struct way *way);
void told_of_it(const struct way *way);
void doubled(const struct way *way);
void renegotiation(const struct way *way);
void tickets(const struct way *way);
void session_kept(const struct way *way);
void post_handshake(const struct way *way);
void asked_at_end(const struct way *way);
void again(const struct way *way);
/* twin_bios.c */
void over_memory(const struct way *way);
void over_own(const struct way *way);
void own_ends(const struct way *way);
void past_us(const struct way *way);
void bio_with_ssl(const struct way *way);
void moves(const struct way *way);
void moves_within(const struct way *way);
void without_bios(const struct way *way);
void forks(const struct way *way);

#endif
