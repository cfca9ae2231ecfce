/* SPDX-License-Identifier: MIT */
/* What is no data: KeyUpdates, tickets, renegotiation; callbacks. */
#include "twin.h"

void updates(const struct way *way)
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

/* No update while a write is to be repeated. */
void update_in_write(const struct way *way)
{
	struct ends e = open_ends(way);

	small_buffers(&e);
	told = false;
	say(&e, "write", SSL_write(e.ssl, pattern(1 << 20), 1 << 20));
	say(&e, "key_update", SSL_key_update(e.ssl, 0));
	say(&e, "key_update", SSL_key_update(e.ssl, 7));
	close_ends(&e);
}

void without_retry(const struct way *way)
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

void told_of_it(const struct way *way)
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

void doubled(const struct way *way)
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

void renegotiation(const struct way *way)
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

void tickets(const struct way *way)
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
void session_kept(const struct way *way)
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

void post_handshake(const struct way *way)
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
void asked_at_end(const struct way *way)
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

void again(const struct way *way)
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
