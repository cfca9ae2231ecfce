/* SPDX-License-Identifier: MIT */
#include "certificate.h"
#include "tls_pair.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

static int complain(const char *what)
{
	fprintf(stderr, "tls_pair: %s: %s\n", what, strerror(errno));
	ERR_print_errors_fp(stderr);
	return -1;
}

/* ---- Contexts ---------------------------------------------------------- */

/* One certificate for both ends, trusted by both. */
static int set_certificate(SSL_CTX *sctx, SSL_CTX *cctx, bool client_cert)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = key ? certificate_new(key) : NULL;
	bool ok;

	ok = cert && SSL_CTX_use_certificate(sctx, cert) == 1 &&
	     SSL_CTX_use_PrivateKey(sctx, key) == 1 &&
	     X509_STORE_add_cert(SSL_CTX_get_cert_store(sctx), cert) == 1 &&
	     X509_STORE_add_cert(SSL_CTX_get_cert_store(cctx), cert) == 1;
	SSL_CTX_set_verify(cctx, SSL_VERIFY_PEER, NULL);
	if (ok && client_cert) {
		ok = SSL_CTX_use_certificate(cctx, cert) == 1 &&
		     SSL_CTX_use_PrivateKey(cctx, key) == 1;
		SSL_CTX_set_verify(
			sctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
			NULL);
	}
	X509_free(cert);
	EVP_PKEY_free(key);
	return ok ? 0 : complain("certificate");
}

static int set_protocol(SSL_CTX *ctx, const struct tls_pair_options *options)
{
	int version = TLS1_3_VERSION;

	if (options->version)
		version = options->version;
	else if (options->suite && strncmp(options->suite, "TLS_", 4) != 0)
		version = TLS1_2_VERSION;

	if (SSL_CTX_set_min_proto_version(ctx, version) != 1 ||
	    SSL_CTX_set_max_proto_version(ctx, version) != 1)
		return complain("version");
	if (options->suite && version == TLS1_3_VERSION &&
	    SSL_CTX_set_ciphersuites(ctx, options->suite) != 1)
		return complain(options->suite);
	if (options->suite && version != TLS1_3_VERSION &&
	    SSL_CTX_set_cipher_list(ctx, options->suite) != 1)
		return complain(options->suite);
	if (options->set_tickets &&
	    SSL_CTX_set_num_tickets(ctx, options->tickets) != 1)
		return complain("tickets");
	return 0;
}

static unsigned use_psk(uint8_t *psk)
{
	memset(psk, 7, 16);
	return 16;
}

static unsigned client_psk(SSL *ssl, const char *hint, char *identity,
			   unsigned max_identity, unsigned char *psk,
			   unsigned max_psk)
{
	(void)ssl, (void)hint, (void)max_psk;
	snprintf(identity, max_identity, "me");
	return use_psk(psk);
}

static unsigned server_psk(SSL *ssl, const char *identity, unsigned char *psk,
			   unsigned max_psk)
{
	(void)ssl, (void)identity, (void)max_psk;
	return use_psk(psk);
}

static int make_contexts(struct tls_pair *pair,
			 const struct tls_pair_options *options)
{
	if (options->sctx && options->cctx) {
		SSL_CTX_up_ref(options->sctx);
		SSL_CTX_up_ref(options->cctx);
		pair->sctx = options->sctx;
		pair->cctx = options->cctx;
		return 0;
	}
	pair->sctx = SSL_CTX_new(TLS_server_method());
	pair->cctx = SSL_CTX_new(TLS_client_method());
	if (!pair->sctx || !pair->cctx)
		return complain("SSL_CTX_new");
	/* Without a name the server refuses to resume with client_cert. */
	SSL_CTX_set_session_id_context(pair->sctx, (const unsigned char *)"t",
				       1);
	if (set_certificate(pair->sctx, pair->cctx, options->client_cert) ||
	    set_protocol(pair->sctx, options) ||
	    set_protocol(pair->cctx, options))
		return -1;
	if (options->psk) {
		SSL_CTX_set_psk_client_callback(pair->cctx, client_psk);
		SSL_CTX_set_psk_server_callback(pair->sctx, server_psk);
		SSL_CTX_set_dh_auto(pair->sctx, 1);
	}
	if (options->prepare_ctx) {
		options->prepare_ctx(pair->sctx);
		options->prepare_ctx(pair->cctx);
	}
	return 0;
}

/* ---- Sockets ----------------------------------------------------------- */

static int set_nonblocking(int fd, bool nonblocking)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return complain("fcntl");
	flags = nonblocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
	return fcntl(fd, F_SETFL, flags) ? complain("fcntl") : 0;
}

int tls_pair_set_blocking(struct tls_pair *pair, bool blocking)
{
	if (set_nonblocking(pair->fd[0], !blocking))
		return -1;
	return set_nonblocking(pair->fd[1], !blocking);
}

static int tcp_pair(int fd[2])
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int on = 1;

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	fd[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener >= 0 && fd[1] >= 0 &&
	    !bind(listener, (struct sockaddr *)&addr, len) &&
	    !listen(listener, 1) &&
	    !getsockname(listener, (struct sockaddr *)&addr, &len) &&
	    !connect(fd[1], (struct sockaddr *)&addr, len))
		fd[0] = accept(listener, NULL, NULL);
	if (listener >= 0)
		close(listener);
	if (fd[0] < 0)
		return complain("TCP pair");
	/* Small records one by one must not wait for acknowledgements. */
	setsockopt(fd[0], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd[1], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return 0;
}

static int make_sockets(struct tls_pair *pair,
			const struct tls_pair_options *options)
{
	int type = SOCK_STREAM | SOCK_CLOEXEC, end[2];

	pair->trickle = options->trickle;
	if (!options->unix_sockets)
		return tcp_pair(pair->fd);
	if (socketpair(AF_UNIX, type, 0, pair->fd))
		return complain("socketpair");
	if (!options->trickle)
		return 0;
	if (socketpair(AF_UNIX, type, 0, end))
		return complain("socketpair");
	pair->relay[0] = pair->fd[1];
	pair->relay[1] = end[0];
	pair->fd[1] = end[1];
	return 0;
}

static size_t carry(int from, int to, size_t max)
{
	char buf[4096];
	ssize_t n;

	if (max > sizeof(buf))
		max = sizeof(buf);
	/* Whoever reads from the other end may not do so for a while. */
	n = recv(from, buf, max, MSG_DONTWAIT | MSG_PEEK);
	if (n > 0)
		n = send(to, buf, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n > 0)
		n = recv(from, buf, (size_t)n, MSG_DONTWAIT);
	return n > 0 ? (size_t)n : 0;
}

size_t tls_pair_step(struct tls_pair *pair)
{
	if (pair->relay[0] < 0)
		return 0;
	return carry(pair->relay[0], pair->relay[1], pair->trickle) +
	       carry(pair->relay[1], pair->relay[0], pair->trickle);
}

void tls_pair_carry(struct tls_pair *pair)
{
	pair->trickle = 4096;
	while (tls_pair_step(pair))
		;
}

/* ---- Connections ------------------------------------------------------- */

static int make_ssls(struct tls_pair *pair,
		     const struct tls_pair_options *options)
{
	pair->server = SSL_new(pair->sctx);
	pair->client = SSL_new(pair->cctx);
	if (!pair->server || !pair->client ||
	    SSL_set_fd(pair->server, pair->fd[0]) != 1 ||
	    SSL_set_fd(pair->client, pair->fd[1]) != 1)
		return complain("SSL_new");
	SSL_set_accept_state(pair->server);
	SSL_set_connect_state(pair->client);
	if (options->session &&
	    SSL_set_session(pair->client, options->session) != 1)
		return complain("SSL_set_session");
	if (options->prepare)
		options->prepare(pair->server, pair->client);
	return 0;
}

int tls_pair_open(struct tls_pair *pair, const struct tls_pair_options *options)
{
	*pair = (struct tls_pair){ .fd = { -1, -1 }, .relay = { -1, -1 } };
	if (make_contexts(pair, options) || make_sockets(pair, options) ||
	    make_ssls(pair, options) || tls_pair_set_blocking(pair, false)) {
		tls_pair_free(pair);
		return -1;
	}
	return 0;
}

/* 1 done, 0 not yet, -1 failed */
static int advance(SSL *ssl)
{
	int ret = SSL_do_handshake(ssl);
	int error = SSL_get_error(ssl, ret);

	if (ret == 1)
		return 1;
	if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
		return 0;
	return complain(SSL_is_server(ssl) ? "server" : "client");
}

int tls_pair_handshake(struct tls_pair *pair)
{
	int server = 0, client = 0;

	/* Loopback is quick, but need not be at once: so many idle turns. */
	for (int turns = 0; turns < 1000000; turns++) {
		if (!client)
			client = advance(pair->client);
		if (!server)
			server = advance(pair->server);
		if (client < 0 || server < 0)
			return -1;
		if (client && server)
			return 0;
		tls_pair_step(pair);
	}
	return complain("handshake stalled");
}

int tls_pair_new(struct tls_pair *pair, const struct tls_pair_options *options)
{
	if (tls_pair_open(pair, options))
		return -1;
	if (tls_pair_handshake(pair) ||
	    (!options->nonblocking && tls_pair_set_blocking(pair, true))) {
		tls_pair_free(pair);
		return -1;
	}
	return 0;
}

void tls_pair_free(struct tls_pair *pair)
{
	SSL_free(pair->server);
	SSL_free(pair->client);
	SSL_CTX_free(pair->sctx);
	SSL_CTX_free(pair->cctx);
	for (int i = 0; i < 2; i++) {
		if (pair->fd[i] >= 0)
			close(pair->fd[i]);
		if (pair->relay[i] >= 0)
			close(pair->relay[i]);
	}
	*pair = (struct tls_pair){ .fd = { -1, -1 }, .relay = { -1, -1 } };
}
