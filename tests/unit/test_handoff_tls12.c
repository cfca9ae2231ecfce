/* SPDX-License-Identifier: MIT */
/*
 * The hand-over of TLS 1.2: each direction's records are counted from its
 * ChangeCipherSpec on, whichever comes first; the Finished is the first.
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

#include "handed.h"
#include "handoff_check.h"

/* Among the initializers of struct tls_pair_options. */
#define TLS12 PREPARED, .version = TLS1_2_VERSION

/* ---- Handshakes of every sort ------------------------------------------ */

static void the_finished_is_the_first_record_of_each_side(void **state)
{
	struct tls_pair pair;
	struct handoff *server, *client;
	uint8_t content[RECORD_BODY_MAX];

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ TLS12 });
	server = take(pair.server);
	client = take(pair.client);
	assert_int_equal(server->tx.seq, 1);
	assert_int_equal(server->rx.seq, 1);
	assert_int_equal(client->tx.seq, 1);
	assert_int_equal(client->rx.seq, 1);
	assert_true(server->tx.proof_len && server->rx.proof_len);
	send_record(server, RECORD_DATA, "from the server", 15);
	assert_int_equal(receive_data(client, content), 15);
	send_record(client, RECORD_DATA, "back", 4);
	assert_int_equal(receive_data(server, content), 4);
	drop(server);
	drop(client);
	tls_pair_free(&pair);
}

static void other_key_exchanges_make_no_difference(void **state)
{
	static const char *const suites[] = {
		"DHE-PSK-AES128-GCM-SHA256",
		"PSK-AES256-CCM",
		"ECDHE-PSK-CHACHA20-POLY1305",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(suites) / sizeof(suites[0]); i++)
		assert_either_end((struct tls_pair_options){
			TLS12,
			.suite = suites[i],
			.psk = true,
		});
}

static void no_extended_master(SSL *server, SSL *client)
{
	SSL_set_options(client, SSL_OP_NO_EXTENDED_MASTER_SECRET);
	(void)server;
}

static void an_extended_master_secret_makes_no_difference(void **state)
{
	struct tls_pair pair;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ TLS12 });
	assert_int_equal(SSL_get_extms_support(pair.server), 1);
	tls_pair_free(&pair);
	open_pair(&pair, (struct tls_pair_options){
				 TLS12, .prepare = no_extended_master });
	assert_int_equal(SSL_get_extms_support(pair.server), 0);
	assert_hand_over(pair.server, pair.client);
	tls_pair_free(&pair);
	assert_either_end((struct tls_pair_options){
		TLS12, .prepare = no_extended_master });
}

static void a_client_certificate_makes_no_difference(void **state)
{
	(void)state;
	assert_either_end((struct tls_pair_options){
		TLS12,
		.client_cert = true,
	});
}

static void a_handshake_in_small_steps_is_followed(void **state)
{
	(void)state;
	assert_small_steps((struct tls_pair_options){ TLS12 });
}

/* ---- Resumption -------------------------------------------------------- */

static int renewals;

static void no_tickets(SSL_CTX *ctx)
{
	prepare_for_handoff(ctx);
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
}

/* Every ticket is good, and replaced by another. */
static int renew(SSL *ssl, unsigned char *name, unsigned char *iv,
		 EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int seal)
{
	static const unsigned char key[32] = "of tickets";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY,
						  (void *)key, sizeof(key)),
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST,
						 (char *)"SHA256", 0),
		OSSL_PARAM_construct_end(),
	};

	(void)ssl;
	if (seal) {
		memset(name, 1, 16);
		memset(iv, 2, 16);
		renewals++;
	}
	if (!EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key, iv,
			       seal) ||
	    !EVP_MAC_CTX_set_params(mac, params))
		return -1;
	return seal ? 1 : 2;
}

static void renew_tickets(SSL_CTX *ctx)
{
	prepare_for_handoff(ctx);
	SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, renew);
}

static void check_resumption(void (*prepare_ctx)(SSL_CTX *ctx))
{
	struct tls_pair first, pair;
	struct tls_pair_options options;

	open_pair(&first, (struct tls_pair_options){
				  .prepare_ctx = prepare_ctx,
				  .version = TLS1_2_VERSION });
	assert_still_usable(first.server, first.client);
	options = (struct tls_pair_options){
		.sctx = first.sctx,
		.cctx = first.cctx,
		.session = SSL_get1_session(first.client),
	};
	SSL_set_shutdown(first.client, SSL_SENT_SHUTDOWN);
	SSL_set_shutdown(first.server, SSL_SENT_SHUTDOWN);
	open_pair(&pair, options);
	assert_int_equal(SSL_session_reused(pair.server), 1);
	assert_hand_over(pair.server, pair.client);
	SSL_set_shutdown(pair.client, SSL_SENT_SHUTDOWN);
	tls_pair_free(&pair);
	open_pair(&pair, options);
	assert_int_equal(SSL_session_reused(pair.client), 1);
	assert_hand_over(pair.client, pair.server);
	tls_pair_free(&pair);
	SSL_SESSION_free(options.session);
	tls_pair_free(&first);
}

/* The server's Finished comes first then, the client's last. */
static void a_resumed_session_is_handed_over(void **state)
{
	(void)state;
	check_resumption(prepare_for_handoff);
	check_resumption(no_tickets);
	check_resumption(renew_tickets);
	assert_int_equal(renewals, 3);
}

/* In an abbreviated handshake the client may go on at once. */
static void data_behind_the_finished_waits_in_the_socket(void **state)
{
	struct tls_pair first, pair;
	struct tls_pair_options options;
	struct handoff *h;
	uint8_t content[RECORD_BODY_MAX];

	(void)state;
	open_pair(&first, (struct tls_pair_options){ TLS12 });
	options = (struct tls_pair_options){
		.sctx = first.sctx,
		.cctx = first.cctx,
		.session = SSL_get1_session(first.client),
	};
	assert_int_equal(tls_pair_open(&pair, &options), 0);
	while (SSL_do_handshake(pair.client) != 1)
		SSL_do_handshake(pair.server);
	say(pair.client, "with the Finished");
	assert_int_equal(tls_pair_handshake(&pair), 0);
	assert_int_equal(SSL_session_reused(pair.server), 1);
	assert_int_equal(tls_pair_set_blocking(&pair, true), 0);
	h = take(pair.server);
	assert_int_equal(h->rx.seq, 1);
	assert_int_equal(receive_data(h, content), 17);
	drop(h);
	tls_pair_free(&pair);
	SSL_SESSION_free(options.session);
	tls_pair_free(&first);
}

/* ---- Data before hand-over --------------------------------------------- */

static void records_read_and_written_are_counted(void **state)
{
	struct tls_pair pair;
	struct handoff *h;
	int i;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ TLS12 });
	for (i = 0; i < 3; i++)
		assert_still_usable(pair.server, pair.client);
	say(pair.server, "once more");
	h = take(pair.server);
	assert_int_equal(h->tx.seq, 1 + 4);
	assert_int_equal(h->rx.seq, 1 + 3);
	hear(pair.client, "once more");
	handoff_commit(pair.server);
	assert_goes_on(h, pair.client);
	drop(h);
	tls_pair_free(&pair);
}

static void plaintext_not_yet_read_is_handed_over(void **state)
{
	struct tls_pair pair;
	struct handoff *h;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ TLS12 });
	say(pair.client, "first, and the rest");
	hear(pair.server, "first");
	h = take(pair.server);
	assert_int_equal(h->plain_len, 14);
	assert_memory_equal(h->plain, ", and the rest", 14);
	handoff_commit(pair.server);
	assert_goes_on(h, pair.client);
	drop(h);
	tls_pair_free(&pair);
}

static void half_a_record_is_handed_over(void **state)
{
	/* "in pieces" with header, nonce and tag make 38 */
	static const size_t parts[] = { 1, 4, 5, 6, 20, 37 };
	uint8_t content[RECORD_BODY_MAX];
	char c;

	(void)state;
	for (size_t i = 0; i < 6; i++) {
		struct tls_pair pair;
		struct handoff *h;

		open_pair(&pair, (struct tls_pair_options){
					 TLS12,
					 .unix_sockets = true,
					 .trickle = 4096,
				 });
		say(pair.client, "in pieces");
		pair.trickle = parts[i];
		assert_int_equal(tls_pair_step(&pair), parts[i]);
		assert_int_equal(tls_pair_set_blocking(&pair, false), 0);
		assert_int_equal(SSL_read(pair.server, &c, 1), -1);
		assert_int_equal(tls_pair_set_blocking(&pair, true), 0);
		h = take(pair.server);
		assert_int_equal(h->sealed_len, parts[i]);
		assert_int_equal(h->rx.seq, 1);
		handoff_commit(pair.server);
		tls_pair_carry(&pair);
		assert_int_equal(receive_data(h, content), 9);
		assert_memory_equal(content, "in pieces", 9);
		drop(h);
		tls_pair_free(&pair);
	}
}

static void read_ahead(SSL *server, SSL *client)
{
	SSL_set_read_ahead(server, 1);
	SSL_set_read_ahead(client, 1);
}

static void reading_ahead_without_effect_makes_no_difference(void **state)
{
	(void)state;
	assert_either_end((struct tls_pair_options){ TLS12,
						     .prepare = read_ahead });
}

static void records_read_ahead_are_refused(void **state)
{
	struct tls_pair pair;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ TLS12,
						    .prepare = read_ahead });
	say(pair.client, "one");
	say(pair.client, "two");
	hear(pair.server, "one");
	assert_refused(pair.server, -EBUSY, "read ahead");
	hear(pair.server, "two");
	assert_hand_over(pair.server, pair.client);
	tls_pair_free(&pair);
}

/* ---- The session after a fatal alert ----------------------------------- */

static struct tls_context *worker;
static int removed;

/* Would wait for ever under the lock of the context. */
static void count_removed(SSL_CTX *ssl_ctx, SSL_SESSION *session)
{
	(void)ssl_ctx, (void)session;
	assert_int_equal(tls_context_process(worker), 0);
	removed++;
}

static void cache_sessions(SSL_CTX *ssl_ctx)
{
	prepare_for_handoff(ssl_ctx);
	SSL_CTX_set_options(ssl_ctx, SSL_OP_NO_TICKET);
	SSL_CTX_set_session_cache_mode(ssl_ctx, SSL_SESS_CACHE_BOTH);
	SSL_CTX_sess_set_remove_cb(ssl_ctx, count_removed);
}

static bool resumes(const struct tls_pair *first, SSL_SESSION *session)
{
	struct tls_pair pair;
	bool reused;

	open_pair(&pair, (struct tls_pair_options){
				 .sctx = first->sctx,
				 .cctx = first->cctx,
				 .session = session,
			 });
	reused = SSL_session_reused(pair.server);
	/* else SSL_free() ends the session */
	SSL_set_shutdown(pair.server, SSL_SENT_SHUTDOWN);
	SSL_set_shutdown(pair.client, SSL_SENT_SHUTDOWN);
	tls_pair_free(&pair);
	return reused;
}

enum ending { WELL, FORGED, ALERTED };

static void end_connection(struct tls_conn *conn, struct handoff *peer,
			   enum ending how)
{
	static const uint8_t alert[] = { 2, 40 }; /* handshake_failure */
	char c;

	if (how == FORGED)
		peer->tx.seq++;
	if (how == ALERTED)
		send_record(peer, RECORD_ALERT, alert, 2);
	else
		send_record(peer, RECORD_DATA, "x", 1);
	assert_int_equal(tls_read(conn, &c, 1),
			 how == WELL   ? 1 :
			 how == FORGED ? -EBADMSG :
					 -EPROTO);
	tls_close(conn, 1000);
}

static void a_fatal_alert_ends_the_session(void **state)
{
	static const enum ending endings[] = { WELL, FORGED, ALERTED };

	(void)state;
	assert_int_equal(tls_context_new(&worker, NULL), 0);
	for (int i = 0; i < 6; i++) {
		bool well = endings[i / 2] == WELL;
		struct tls_pair pair;
		SSL_SESSION *session;
		struct handoff *peer;

		open_pair(&pair, (struct tls_pair_options){
					 .version = TLS1_2_VERSION,
					 .prepare_ctx = cache_sessions });
		session = SSL_get1_session(pair.client);
		assert_true(resumes(&pair, session));
		removed = 0;
		peer = take(i % 2 ? pair.server : pair.client);
		end_connection(handed_over(worker,
					   i % 2 ? pair.client : pair.server),
			       peer, endings[i / 2]);
		assert_int_equal(removed, !well);
		assert_int_equal(resumes(&pair, session), well);
		drop(peer);
		SSL_SESSION_free(session);
		tls_pair_free(&pair);
	}
	tls_context_free(worker);
}

/* ---- Nonces ------------------------------------------------------------ */

/* The part on the wire of the next record for the client, with its length. */
static uint64_t next_explicit(int fd)
{
	uint8_t record[200];
	uint64_t number = 0;
	size_t len;

	assert_int_equal(recv(fd, record, 5, MSG_WAITALL), 5);
	len = (size_t)record[3] << 8 | record[4];
	assert_true(len >= 24 && len <= sizeof(record));
	assert_int_equal(recv(fd, record, len, MSG_WAITALL), len);
	for (int i = 0; i < 8; i++)
		number = number << 8 | record[i];
	return number;
}

/* OpenSSL begins with a random one for GCM, and with 0 for CCM. */
static void explicit_nonces_go_on_from_openssls(void **state)
{
	static const char *const suites[] = { "ECDHE-ECDSA-AES128-GCM-SHA256",
					      "ECDHE-ECDSA-AES128-CCM" };

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct tls_context *ctx;
		struct tls_conn *conn;
		struct tls_pair pair;
		uint64_t before;

		assert_int_equal(tls_context_new(&ctx, NULL), 0);
		open_pair(&pair, (struct tls_pair_options){
					 TLS12, .suite = suites[i] });
		say(pair.server, "OpenSSL's");
		before = next_explicit(pair.fd[1]);
		conn = handed_over(ctx, pair.server);
		for (uint64_t n = 1; n <= 3; n++) {
			assert_int_equal(tls_write(conn, "ours", 4), 4);
			assert_int_equal(tls_flush(conn), 0);
			assert_int_equal(next_explicit(pair.fd[1]),
					 before + n);
		}
		tls_close(conn, 1000);
		assert_int_equal(next_explicit(pair.fd[1]), before + 4);
		tls_pair_free(&pair);
		tls_context_free(ctx);
	}
}

/* ---- Renegotiation ----------------------------------------------------- */

static void allow(SSL *server, SSL *client)
{
	SSL_set_options(server, SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
	(void)client;
}

static void open_renegotiable(struct tls_pair *pair)
{
	open_pair(pair, (struct tls_pair_options){ TLS12, .prepare = allow,
						   .nonblocking = true });
}

static void renegotiate(struct tls_pair *pair)
{
	char c;

	while (SSL_do_handshake(pair->client) != 1)
		SSL_read(pair->server, &c, 1);
	SSL_read(pair->server, &c, 1);
	assert_int_equal(tls_pair_set_blocking(pair, true), 0);
}

static void a_renegotiation_under_way_is_refused(void **state)
{
	struct tls_pair pair;
	char c;

	(void)state;
	open_renegotiable(&pair);
	assert_int_equal(SSL_renegotiate(pair.client), 1);
	assert_refused(pair.client, -EBUSY, "renegotiation");
	assert_int_equal(SSL_do_handshake(pair.client), -1);
	assert_refused(pair.client, -EBUSY, "renegotiation");
	assert_int_equal(SSL_read(pair.server, &c, 1), -1);
	assert_refused(pair.server, -EBUSY, "renegotiation");
	renegotiate(&pair);
	assert_still_usable(pair.server, pair.client);
	tls_pair_free(&pair);
}

static void a_renegotiation_begins_the_count_anew(void **state)
{
	struct tls_pair pair;
	struct handoff *h;

	(void)state;
	open_renegotiable(&pair);
	assert_int_equal(tls_pair_set_blocking(&pair, true), 0);
	assert_still_usable(pair.server, pair.client);
	assert_int_equal(tls_pair_set_blocking(&pair, false), 0);
	assert_int_equal(SSL_renegotiate(pair.client), 1);
	renegotiate(&pair);
	h = take(pair.server);
	assert_int_equal(h->tx.seq, 1);
	assert_int_equal(h->rx.seq, 1);
	drop(h);
	assert_still_usable(pair.server, pair.client);
	assert_hand_over(pair.server, pair.client);
	tls_pair_free(&pair);
}

/* Of somebody who writes past OpenSSL: there is nothing to prove the key by. */
static void a_change_cipher_spec_without_a_finished_is_refused(void **state)
{
	static const char spec[] = "\x14\x03\x03\0\x01\x01";
	struct tls_pair pair;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ TLS12 });
	assert_int_equal(BIO_write(SSL_get_wbio(pair.server), spec, 6), 6);
	assert_refused(pair.server, -EPROTO, "no Finished");
	tls_pair_free(&pair);
}

/* ---- Callbacks --------------------------------------------------------- */

static int infos;

static void count_infos(const SSL *ssl, int where, int ret)
{
	(void)ssl, (void)where, (void)ret;
	infos++;
}

static void count_then_prepare(SSL_CTX *ctx)
{
	SSL_CTX_set_info_callback(ctx, count_infos);
	prepare_for_handoff(ctx);
	prepare_for_handoff(ctx);
}

static void an_info_callback_set_before_is_called(void **state)
{
	(void)state;
	infos = 0;
	assert_either_end((struct tls_pair_options){
		.version = TLS1_2_VERSION,
		.prepare_ctx = count_then_prepare,
	});
	assert_true(infos > 10);
}

static void replace_info(SSL_CTX *ctx)
{
	prepare_for_handoff(ctx);
	SSL_CTX_set_info_callback(ctx, count_infos);
}

static void info_of_its_own(SSL *server, SSL *client)
{
	SSL_set_info_callback(server, count_infos);
	SSL_set_info_callback(client, count_infos);
}

static void assert_not_followed(struct tls_pair_options options,
				const char *words)
{
	struct tls_pair pair;

	open_pair(&pair, options);
	assert_refused(pair.server, -EINVAL, words);
	assert_refused(pair.client, -EINVAL, words);
	assert_still_usable(pair.server, pair.client);
	tls_pair_free(&pair);
}

static void an_info_callback_in_place_of_ours_is_refused(void **state)
{
	(void)state;
	assert_not_followed((struct tls_pair_options){
		.version = TLS1_2_VERSION, .prepare_ctx = replace_info },
		"SSL_CTX_set_info_callback()");
	assert_not_followed((struct tls_pair_options){
		TLS12, .prepare = info_of_its_own }, "not on the SSL");
	/* in TLS 1.3 it is not needed */
	assert_either_end((struct tls_pair_options){
		PREPARED, .prepare = info_of_its_own });
}

/* ---- Fragment length --------------------------------------------------- */

static void a_negotiated_fragment_length_is_told(void **state)
{
	static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };
	struct tls_pair pair;
	struct handoff *h;
	int i;

	(void)state;
	for (i = 0; i < 4; i++) {
		open_pair(&pair, (struct tls_pair_options){
					 PREPARED,
					 .version = versions[i / 2],
					 .prepare = i % 2 ? limit_fragments :
							    NULL });
		h = take(pair.server);
		assert_int_equal(h->plain_max, i % 2 ? 512 : 16384);
		drop(h);
		h = take(pair.client);
		assert_int_equal(h->plain_max, i % 2 ? 512 : 16384);
		drop(h);
		tls_pair_free(&pair);
	}
}

#define TEST(name) cmocka_unit_test(name)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_finished_is_the_first_record_of_each_side),
		TEST(other_key_exchanges_make_no_difference),
		TEST(an_extended_master_secret_makes_no_difference),
		TEST(a_client_certificate_makes_no_difference),
		TEST(a_handshake_in_small_steps_is_followed),
		TEST(a_resumed_session_is_handed_over),
		TEST(data_behind_the_finished_waits_in_the_socket),
		TEST(records_read_and_written_are_counted),
		TEST(plaintext_not_yet_read_is_handed_over),
		TEST(half_a_record_is_handed_over),
		TEST(reading_ahead_without_effect_makes_no_difference),
		TEST(records_read_ahead_are_refused),
		TEST(a_fatal_alert_ends_the_session),
		TEST(explicit_nonces_go_on_from_openssls),
		TEST(a_renegotiation_under_way_is_refused),
		TEST(a_renegotiation_begins_the_count_anew),
		TEST(a_change_cipher_spec_without_a_finished_is_refused),
		TEST(an_info_callback_set_before_is_called),
		TEST(an_info_callback_in_place_of_ours_is_refused),
		TEST(a_negotiated_fragment_length_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
