/* SPDX-License-Identifier: MIT */
/*
 * The hand-over where the peer does what OpenSSL's never does, or hardly ever:
 * a client of the test's own, of TLS 1.2 with a PSK, and messages in pieces.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>

#include "evp_record.h"
#include "handed.h"
#include "handoff_check.h"
#include "keys/keys.h"
#include "record/cipher.h"
#include "record/record.h"

enum { SUITE = 0x00a8 }; /* TLS_PSK_WITH_AES_128_GCM_SHA256 */
enum { SERVER_HELLO_DONE = 14, CLIENT_KEY_EXCHANGE = 16, FINISHED = 20 };

static struct tls_context *ctx;

static struct client {
	struct tls_pair pair; /* without its client */
	int fd;
	struct keys_tls12 from;
	struct keygen *client, *server;
	uint64_t seq;
	uint8_t said[2000]; /* the handshake's messages */
	size_t said_len;
} c;

static void note(const void *bytes, size_t len)
{
	assert_true(len <= sizeof(c.said) - c.said_len);
	memcpy(c.said + c.said_len, bytes, len);
	c.said_len += len;
}

static void send_all(const void *bytes, size_t len)
{
	assert_int_equal(send(c.fd, bytes, len, MSG_NOSIGNAL), len);
}

/* A record that is not sealed. */
static void send_clear(uint8_t type, const void *content, size_t len)
{
	uint8_t record[100] = { type, 3, 3, 0, (uint8_t)len };

	memcpy(record + RECORD_HEADER, content, len);
	send_all(record, RECORD_HEADER + len);
}

static void send_sealed(uint8_t type, const void *content, size_t len)
{
	uint8_t record[RECORD_WIRE_MAX];

	send_all(record,
		 evp_seal(c.client, c.seq++, type, content, len, record));
}

static size_t receive_record(uint8_t *record)
{
	size_t len;

	assert_int_equal(recv(c.fd, record, RECORD_HEADER, MSG_WAITALL),
			 RECORD_HEADER);
	len = (size_t)record[3] << 8 | record[4];
	assert_int_equal(recv(c.fd, record + RECORD_HEADER, len, MSG_WAITALL),
			 len);
	return len;
}

/* ---- The handshake ----------------------------------------------------- */

static void prf(const void *secret, size_t secret_len, const char *label,
		const void *seed, size_t seed_len, uint8_t *out, size_t len)
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS1-PRF", NULL);
	EVP_KDF_CTX *expand = EVP_KDF_CTX_new(kdf);
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST,
						 (char *)"SHA256", 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET,
						  (void *)secret, secret_len),
		OSSL_PARAM_construct_octet_string(
			OSSL_KDF_PARAM_SEED, (void *)label, strlen(label)),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED,
						  (void *)seed, seed_len),
		OSSL_PARAM_construct_end(),
	};

	assert_int_equal(EVP_KDF_derive(expand, out, len, params), 1);
	EVP_KDF_CTX_free(expand);
	EVP_KDF_free(kdf);
}

/* The same in SSLv2's format (RFC 5246 E.2), and in a record. */
static void send_hello(bool of_sslv2)
{
	uint8_t v2[] = { 0x80, 0, 1, 3, 3, 0, 3, 0, 0, 0, 32, 0, 0, 0xa8 };
	uint8_t v3[] = { 1, 0, 0, 41, 3, 3 }, rest[] = { 0, 0, 2, 0, 0xa8,
							 1, 0 };
	uint8_t hello[100];

	memset(c.from.client_random, 'r', KEYS_RANDOM);
	if (of_sslv2) {
		v2[1] = sizeof(v2) - 2 + KEYS_RANDOM;
		memcpy(hello, v2, sizeof(v2));
		memcpy(hello + sizeof(v2), c.from.client_random, KEYS_RANDOM);
		note(hello + 2, v2[1]);
		send_all(hello, sizeof(v2) + KEYS_RANDOM);
		return;
	}
	note(v3, sizeof(v3));
	note(c.from.client_random, KEYS_RANDOM);
	note(rest, sizeof(rest));
	send_clear(RECORD_HANDSHAKE, c.said, c.said_len);
}

/* Up to ServerHelloDone. */
static void receive_hello(void)
{
	size_t hello = c.said_len;
	uint8_t record[RECORD_WIRE_MAX];

	do {
		size_t len = receive_record(record);

		assert_int_equal(record[0], RECORD_HANDSHAKE);
		note(record + RECORD_HEADER, len);
	} while (c.said[c.said_len - 4] != SERVER_HELLO_DONE);
	memcpy(c.from.server_random, c.said + hello + 6, KEYS_RANDOM);
}

static void make_keys(void)
{
	/* see use_psk() of tls_pair.c */
	uint8_t premaster[36] = { 0, 16 }, seed[2 * KEYS_RANDOM];

	premaster[19] = 16;
	memset(premaster + 20, 7, 16);
	memcpy(seed, c.from.client_random, KEYS_RANDOM);
	memcpy(seed + KEYS_RANDOM, c.from.server_random, KEYS_RANDOM);
	prf(premaster, sizeof(premaster), "master secret", seed, sizeof(seed),
	    c.from.master, KEYS_MASTER);
	assert_int_equal(keygen_new_tls12(&c.client, &c.server,
					  suite_by_number(SUITE), &c.from), 0);
}

static void send_finished(size_t size)
{
	uint8_t exchange[] = { CLIENT_KEY_EXCHANGE, 0, 0, 4, 0, 2, 'm', 'e' };
	uint8_t finished[16] = { FINISHED, 0, 0, 12 }, hash[32];
	const uint8_t change = 1;

	note(exchange, sizeof(exchange));
	send_clear(RECORD_HANDSHAKE, exchange, sizeof(exchange));
	send_clear(RECORD_CHANGE_CIPHER_SPEC, &change, 1);
	assert_int_equal(EVP_Digest(c.said, c.said_len, hash, NULL,
				    EVP_sha256(), NULL), 1);
	prf(c.from.master, KEYS_MASTER, "client finished", hash, sizeof(hash),
	    finished + 4, 12);
	for (size_t at = 0; at < sizeof(finished); at += size)
		send_sealed(RECORD_HANDSHAKE, finished + at, size);
}

static void shake_hands(bool of_sslv2, size_t finished)
{
	struct tls_pair_options options = {
		PREPARED,
		.suite = "PSK-AES128-GCM-SHA256",
		.psk = true,
		.unix_sockets = true,
	};

	memset(&c, 0, sizeof(c));
	assert_int_equal(tls_pair_open(&c.pair, &options), 0);
	assert_int_equal(tls_pair_set_blocking(&c.pair, true), 0);
	c.fd = c.pair.fd[1];
	send_hello(of_sslv2);
	assert_int_equal(tls_pair_set_blocking(&c.pair, false), 0);
	assert_int_equal(SSL_do_handshake(c.pair.server), -1);
	assert_int_equal(tls_pair_set_blocking(&c.pair, true), 0);
	receive_hello();
	make_keys();
	send_finished(finished);
	assert_int_equal(SSL_do_handshake(c.pair.server), 1);
}

static void end_client(void)
{
	keygen_put(c.client);
	keygen_put(c.server);
	tls_pair_free(&c.pair);
}

/* ---- What is handed over ----------------------------------------------- */

static void the_server_goes_on(void)
{
	uint8_t record[RECORD_WIRE_MAX], content[RECORD_BODY_MAX];
	struct tls_conn *conn;

	conn = handed_over(ctx, c.pair.server);
	send_sealed(RECORD_DATA, "ping", 4);
	handed_hears(conn, "ping");
	assert_int_equal(tls_write(conn, "pong", 4), 4);
	assert_int_equal(tls_flush(conn), 0);
	receive_record(record);
	assert_int_equal(record[0], RECORD_CHANGE_CIPHER_SPEC);
	receive_record(record);
	assert_int_equal(evp_open(c.server, 0, record, content), 16);
	receive_record(record);
	assert_int_equal(evp_open(c.server, 1, record, content), 4);
	assert_memory_equal(content, "pong", 4);
	tls_close(conn, 1000);
}

static void a_finished_in_several_records_is_followed(void **state)
{
	static const size_t sizes[] = { 16, 8, 4, 2, 1 };

	(void)state;
	for (int i = 0; i < 5; i++) {
		shake_hands(false, sizes[i]);
		the_server_goes_on();
		end_client();
	}
}

static void a_client_hello_of_sslv2_is_followed(void **state)
{
	(void)state;
	shake_hands(true, 16);
	the_server_goes_on();
	end_client();
}

/* ---- Handshake messages in several records ----------------------------- */

static void short_records(SSL *server, SSL *client)
{
	assert_int_equal(SSL_set_max_send_fragment(server, 512), 1);
	(void)client;
}

static void answers(SSL *ssl, SSL *peer)
{
	struct tls_conn *conn = handed_over(ctx, ssl);

	say(peer, "question");
	handed_hears(conn, "question");
	handed_says(conn, peer, "answer");
	tls_close(conn, 1000);
}

/* They carry the client's certificate: some 800 bytes. */
static void tickets_in_several_records_go_on(void **state)
{
	void (*const shorten[])(SSL *, SSL *) = { limit_fragments,
						  short_records };

	(void)state;
	for (int i = 0; i < 4; i++) {
		struct tls_pair pair;
		char byte;

		open_pair(&pair, (struct tls_pair_options){
					 PREPARED,
					 .prepare = shorten[i / 2],
					 .client_cert = true,
					 .nonblocking = true,
				 });
		/* both tickets, and nothing behind them */
		assert_int_equal(SSL_read(pair.client, &byte, 1), -1);
		assert_int_equal(SSL_get_error(pair.client, -1),
				 SSL_ERROR_WANT_READ);
		assert_int_equal(tls_pair_set_blocking(&pair, true), 0);
		if (i % 2)
			answers(pair.client, pair.server);
		else
			answers(pair.server, pair.client);
		tls_pair_free(&pair);
	}
}

/* lifetime, age_add, nonce, ticket, no extensions */
static const uint8_t ticket[] = {
	4, 0, 0, 38, 0, 0, 1, 0, 1, 2, 3, 4, 1, 7, 0, 24, 't', 'i', 'c', 'k',
	'e', 't', 't', 'i', 'c', 'k', 'e', 't', 't', 'i', 'c', 'k', 'e', 't',
	't', 'i', 'c', 'k', 'e', 't', 0, 0,
};

/* The server's records are the test's, to an OpenSSL that is the client. */
static struct handoff *open_made(struct tls_pair *pair)
{
	open_pair(pair, (struct tls_pair_options){
				PREPARED,
				.set_tickets = true,
				.nonblocking = true,
			});
	return take(pair->server);
}

static void send_ticket(struct handoff *server, size_t from, size_t to,
			size_t size)
{
	for (size_t n; from < to; from += n) {
		n = to - from < size ? to - from : size;
		send_record(server, RECORD_HANDSHAKE, ticket + from, n);
	}
}

static void read_nothing(SSL *ssl)
{
	char byte;

	assert_int_equal(SSL_read(ssl, &byte, 1), -1);
	assert_int_equal(SSL_get_error(ssl, -1), SSL_ERROR_WANT_READ);
}

static void half_a_message_is_declined(void **state)
{
	(void)state;
	for (size_t have = 1; have < sizeof(ticket); have++) {
		struct tls_pair pair;
		struct handoff *server = open_made(&pair);
		struct tls_conn *conn;
		char byte;

		send_ticket(server, 0, have, have < 20 ? 1 : have);
		read_nothing(pair.client);
		/* with its header OpenSSL tells, without it does not */
		handed_declined(ctx, pair.client, -EBUSY,
				have < 4 ? "half a handshake message" :
					   "under way");
		send_ticket(server, have, sizeof(ticket), 100);
		read_nothing(pair.client);
		conn = handed_over(ctx, pair.client);
		send_record(server, RECORD_DATA, "x", 1);
		assert_int_equal(tls_pair_set_blocking(&pair, true), 0);
		assert_int_equal(tls_read(conn, &byte, 1), 1);
		tls_close(conn, 0);
		drop(server);
		tls_pair_free(&pair);
	}
}

static void a_message_in_too_many_records_is_declined(void **state)
{
	struct tls_pair pair;
	struct handoff *server = open_made(&pair);
	struct tls_conn *conn;
	char byte;

	(void)state;
	send_ticket(server, 0, sizeof(ticket), 1);
	read_nothing(pair.client);
	handed_declined(ctx, pair.client, -EBUSY, "data behind it");
	/* data shows where the next one begins */
	send_record(server, RECORD_DATA, "x", 1);
	assert_int_equal(SSL_read(pair.client, &byte, 1), 1);
	send_ticket(server, 0, sizeof(ticket), 2);
	read_nothing(pair.client);
	conn = handed_over(ctx, pair.client);
	send_record(server, RECORD_DATA, "y", 1);
	assert_int_equal(tls_pair_set_blocking(&pair, true), 0);
	assert_int_equal(tls_read(conn, &byte, 1), 1);
	assert_int_equal(byte, 'y');
	tls_close(conn, 0);
	drop(server);
	tls_pair_free(&pair);
}

/* ---- KeyUpdates without data ------------------------------------------- */

/* As many as OpenSSL has sent KeyUpdates; more is a flood. */
static void answers_the_peer_owes_are_no_flood(void **state)
{
	enum { ASKED = 50, MAX = 32 };
	int ret = 0;

	(void)state;
	for (int more = 0; more < 2; more++) {
		struct tls_conn *conn;
		struct tls_pair pair;
		char byte;

		open_pair(&pair, (struct tls_pair_options){
					 PREPARED,
					 .set_tickets = true,
					 .nonblocking = true,
				 });
		for (int i = 0; i < ASKED; i++) {
			SSL_key_update(pair.server, SSL_KEY_UPDATE_REQUESTED);
			assert_int_equal(SSL_do_handshake(pair.server), 1);
			assert_int_equal(SSL_read(pair.client, &byte, 1), -1);
			assert_int_equal(SSL_do_handshake(pair.client), 1);
		}
		conn = handed_over(ctx, pair.server);
		for (int i = 0; i < 2 * MAX && more; i++) {
			SSL_key_update(pair.client,
				       SSL_KEY_UPDATE_NOT_REQUESTED);
			assert_int_equal(SSL_do_handshake(pair.client), 1);
		}
		assert_int_equal(SSL_write(pair.client, "x", 1), 1);
		assert_int_equal(tls_pair_set_blocking(&pair, true), 0);
		ret = (int)tls_read(conn, &byte, 1);
		assert_int_equal(ret, more ? -EPROTO : 1);
		tls_close(conn, 0);
		tls_pair_free(&pair);
	}
}

static int setup(void **state)
{
	(void)state;
	return tls_context_new(&ctx, NULL);
}

static int teardown(void **state)
{
	(void)state;
	tls_context_free(ctx);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_finished_in_several_records_is_followed),
		cmocka_unit_test(a_client_hello_of_sslv2_is_followed),
		cmocka_unit_test(tickets_in_several_records_go_on),
		cmocka_unit_test(half_a_message_is_declined),
		cmocka_unit_test(a_message_in_too_many_records_is_declined),
		cmocka_unit_test(answers_the_peer_owes_are_no_flood),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
