/* SPDX-License-Identifier: MIT */
/* Connections that can be handed over, and what is handed over then. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "handoff_check.h"

/* ---- Handshakes of every sort ------------------------------------------ */

static void every_suite_is_handed_over(void **state)
{
	static const char *const tls12[] = {
		"ECDHE-ECDSA-AES128-GCM-SHA256",
		"ECDHE-ECDSA-AES256-GCM-SHA384",
		"ECDHE-ECDSA-CHACHA20-POLY1305",
		"ECDHE-ECDSA-AES128-CCM",
		"ECDHE-ECDSA-AES256-CCM",
	};

	(void)state;
	for (const struct suite *s = cipher_suites; s->name; s++) {
		struct tls_pair_options options = { PREPARED, .suite = s->name };

		if (s->version == CIPHER_TLS13)
			assert_either_end(options);
	}
	for (size_t i = 0; i < sizeof(tls12) / sizeof(tls12[0]); i++)
		assert_either_end((struct tls_pair_options){
			PREPARED,
			.version = TLS1_2_VERSION,
			.suite = tls12[i],
		});
}

static void both_ends_are_handed_over(void **state)
{
	struct tls_pair pair;
	struct handoff *server, *client;
	uint8_t content[RECORD_BODY_MAX];

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	server = take(pair.server);
	client = take(pair.client);
	assert_memory_equal(server->tx.secret, client->rx.secret, 48);
	assert_memory_equal(server->rx.secret, client->tx.secret, 48);
	send_record(server, RECORD_DATA, "from the server", 15);
	assert_int_equal(receive_data(client, content), 15);
	send_record(client, RECORD_DATA, "back", 4);
	assert_int_equal(receive_data(server, content), 4);
	drop(server);
	drop(client);
	tls_pair_free(&pair);
}

static void tickets_sent_are_counted(void **state)
{
	static const size_t counts[] = { 0, 1, 2, 5 };

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct tls_pair pair;
		struct handoff *h;

		open_pair(&pair, (struct tls_pair_options){
					 PREPARED,
					 .set_tickets = true,
					 .tickets = counts[i],
				 });
		h = take(pair.server);
		assert_int_equal(h->tx.seq, counts[i]);
		assert_int_equal(h->rx.seq, 0);
		handoff_commit(pair.server);
		assert_goes_on(h, pair.client);
		drop(h);
		tls_pair_free(&pair);
	}
}

static void tickets_not_read_come_after_hand_over(void **state)
{
	struct tls_pair pair;
	struct handoff *h;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){
				 PREPARED,
				 .set_tickets = true,
				 .tickets = 5,
			 });
	h = take(pair.client);
	assert_int_equal(h->rx.seq, 0);
	assert_int_equal(h->tx.seq, 0);
	assert_goes_on(h, pair.server);
	assert_int_equal(h->rx.seq, 6);
	drop(h);
	tls_pair_free(&pair);
}

static void tickets_read_are_counted(void **state)
{
	struct tls_pair pair;
	struct handoff *h;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){
				 PREPARED,
				 .set_tickets = true,
				 .tickets = 5,
			 });
	say(pair.server, "hello");
	hear(pair.client, "hello");
	h = take(pair.client);
	assert_int_equal(h->rx.seq, 6);
	assert_goes_on(h, pair.server);
	drop(h);
	tls_pair_free(&pair);
}

static void a_unix_socket_is_handed_over(void **state)
{
	(void)state;
	assert_either_end((struct tls_pair_options){
		PREPARED,
		.unix_sockets = true,
	});
}

static void a_nonblocking_socket_is_handed_over(void **state)
{
	struct tls_pair pair;
	struct handoff *h;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){
				 PREPARED,
				 .nonblocking = true,
			 });
	h = take(pair.server);
	assert_true(fcntl(h->fd, F_GETFL) & O_NONBLOCK);
	assert_int_equal(tls_pair_set_blocking(&pair, true), 0);
	assert_goes_on(h, pair.client);
	drop(h);
	tls_pair_free(&pair);
}

static void a_handshake_in_small_steps_is_followed(void **state)
{
	(void)state;
	assert_small_steps((struct tls_pair_options){ PREPARED,
						     .set_tickets = true,
						     .tickets = 1 });
}

static void a_client_certificate_makes_no_difference(void **state)
{
	(void)state;
	assert_either_end((struct tls_pair_options){
		PREPARED,
		.client_cert = true,
	});
}

static void ask_for_another_group(SSL *server, SSL *client)
{
	assert_int_equal(SSL_set1_groups_list(client, "X25519:P-256"), 1);
	assert_int_equal(SSL_set1_groups_list(server, "P-256"), 1);
}

static void a_hello_retry_request_makes_no_difference(void **state)
{
	(void)state;
	assert_either_end((struct tls_pair_options){
		PREPARED,
		.prepare = ask_for_another_group,
	});
}

/* Its key shares have more than a kilobyte each way. */
static void hybrid_group(SSL *server, SSL *client)
{
	const char *name = "X25519MLKEM768";

	assert_int_equal(SSL_set1_groups_list(client, name), 1);
	assert_int_equal(SSL_set1_groups_list(server, name), 1);
}

static void ask_for_the_hybrid_group(SSL *server, SSL *client)
{
	assert_int_equal(SSL_set1_groups_list(client, "X25519:X25519MLKEM768"),
			 1);
	assert_int_equal(SSL_set1_groups_list(server, "X25519MLKEM768"), 1);
}

static void assert_hybrid_group(void (*prepare)(SSL *server, SSL *client))
{
#if OPENSSL_VERSION_NUMBER >= 0x30500000L
	assert_either_end((struct tls_pair_options){
		PREPARED,
		.prepare = prepare,
	});
#else
	(void)prepare;
	print_message("before OpenSSL 3.5 there are no hybrid groups\n");
	skip();
#endif
}

static void a_hybrid_group_makes_no_difference(void **state)
{
	(void)state;
	assert_hybrid_group(hybrid_group);
}

static void a_retry_with_a_hybrid_group_makes_no_difference(void **state)
{
	(void)state;
	assert_hybrid_group(ask_for_the_hybrid_group);
}

static void no_middlebox_compat(SSL *server, SSL *client)
{
	SSL_clear_options(server, SSL_OP_ENABLE_MIDDLEBOX_COMPAT);
	SSL_clear_options(client, SSL_OP_ENABLE_MIDDLEBOX_COMPAT);
}

static void the_absence_of_change_cipher_spec_makes_no_difference(void **state)
{
	(void)state;
	assert_either_end((struct tls_pair_options){
		PREPARED,
		.prepare = no_middlebox_compat,
	});
}

/* ---- Resumption and early data ----------------------------------------- */

static void accept_early_data(SSL_CTX *ctx)
{
	prepare_for_handoff(ctx);
	SSL_CTX_set_max_early_data(ctx, 1000);
}

/* The options to resume a session which a first connection has left. */
static void first_connection(struct tls_pair *first,
			     void (*prepare_ctx)(SSL_CTX *ctx),
			     struct tls_pair_options *options)
{
	open_pair(first,
		  (struct tls_pair_options){ .prepare_ctx = prepare_ctx });
	say(first->server, "tickets first");
	hear(first->client, "tickets first");
	*options = (struct tls_pair_options){
		.sctx = first->sctx,
		.cctx = first->cctx,
		.session = SSL_get1_session(first->client),
	};
	SSL_set_shutdown(first->client, SSL_SENT_SHUTDOWN);
	SSL_set_shutdown(first->server, SSL_SENT_SHUTDOWN);
}

static void a_resumed_session_is_handed_over(void **state)
{
	struct tls_pair first, pair;
	struct tls_pair_options options;

	(void)state;
	first_connection(&first, prepare_for_handoff, &options);
	open_pair(&pair, options);
	assert_int_equal(SSL_session_reused(pair.server), 1);
	assert_hand_over(pair.server, pair.client);
	tls_pair_free(&pair);
	open_pair(&pair, options);
	assert_int_equal(SSL_session_reused(pair.client), 1);
	assert_hand_over(pair.client, pair.server);
	tls_pair_free(&pair);
	SSL_SESSION_free(options.session);
	tls_pair_free(&first);
}

/* Both ends up to where the server has read the early data. */
static void send_early_data(struct tls_pair *pair)
{
	size_t n = 0, got = 0;
	char buf[16];
	int ret;

	while (SSL_write_early_data(pair->client, "early", 5, &n) != 1)
		;
	do {
		ret = SSL_read_early_data(pair->server, buf, sizeof(buf), &got);
	} while (ret == SSL_READ_EARLY_DATA_ERROR);
	assert_int_equal(ret, SSL_READ_EARLY_DATA_SUCCESS);
	assert_int_equal(got, 5);
	/* half a round trip's data, under the server's application key */
	assert_int_equal(SSL_write_early_data(pair->server, "half", 4, &n), 1);
	assert_refused(pair->server, -EINVAL, "not finished");
	assert_refused(pair->client, -EINVAL, "not finished");
}

static void finish_early_data(struct tls_pair *pair)
{
	size_t got;
	char buf[16];
	int ret = SSL_READ_EARLY_DATA_ERROR, client = 0;

	while (ret != SSL_READ_EARLY_DATA_FINISH || client != 1) {
		if (client != 1)
			client = SSL_do_handshake(pair->client);
		if (ret != SSL_READ_EARLY_DATA_FINISH)
			ret = SSL_read_early_data(pair->server, buf,
						  sizeof(buf), &got);
	}
	assert_int_equal(tls_pair_handshake(pair), 0);
	assert_int_equal(tls_pair_set_blocking(pair, true), 0);
}

static void early_data_is_not_counted(void **state)
{
	struct tls_pair first, pair;
	struct tls_pair_options options;
	struct handoff *h;

	(void)state;
	first_connection(&first, accept_early_data, &options);
	assert_int_equal(tls_pair_open(&pair, &options), 0);
	send_early_data(&pair);
	finish_early_data(&pair);
	assert_int_equal(SSL_get_early_data_status(pair.client),
			 SSL_EARLY_DATA_ACCEPTED);
	h = take(pair.server);
	assert_int_equal(h->rx.seq, 0);
	assert_true(h->tx.seq > 0);
	drop(h);
	hear(pair.client, "half");
	h = take(pair.client);
	assert_int_equal(h->tx.seq, 0);
	assert_true(h->rx.seq > 0);
	drop(h);
	assert_hand_over(pair.client, pair.server);
	tls_pair_free(&pair);
	SSL_SESSION_free(options.session);
	tls_pair_free(&first);
}

/* ---- Data before hand-over --------------------------------------------- */

static void records_read_and_written_are_counted(void **state)
{
	struct tls_pair pair;
	struct handoff *h;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	for (int i = 0; i < 300; i++)
		assert_still_usable(pair.server, pair.client);
	h = take(pair.server);
	assert_int_equal(h->tx.seq, 302);
	assert_int_equal(h->rx.seq, 300);
	handoff_commit(pair.server);
	assert_goes_on(h, pair.client);
	drop(h);
	tls_pair_free(&pair);
}

static void one_write_of_many_records_is_counted(void **state)
{
	static char data[100000], got[100000];
	struct tls_pair pair;
	struct handoff *h;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	assert_int_equal(SSL_write(pair.client, data, sizeof(data)),
			 sizeof(data));
	for (int n = 0; n < (int)sizeof(got);) {
		int ret = SSL_read(pair.server, got + n, (int)sizeof(got) - n);

		assert_true(ret > 0);
		n += ret;
	}
	h = take(pair.server);
	assert_int_equal(h->rx.seq, 7);
	drop(h);
	h = take(pair.client);
	assert_int_equal(h->tx.seq, 7);
	drop(h);
	assert_hand_over(pair.client, pair.server);
	tls_pair_free(&pair);
}

static void plaintext_not_yet_read_is_handed_over(void **state)
{
	struct tls_pair pair;
	struct handoff *h;
	char text[101];

	(void)state;
	memset(text, 'x', 100);
	text[100] = '\0';
	memcpy(text, "0123456789", 10);
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	say(pair.client, text);
	say(pair.client, "the next record");
	hear(pair.server, "0123456789");
	h = take(pair.server);
	assert_int_equal(h->plain_len, 90);
	assert_memory_equal(h->plain, text + 10, 90);
	assert_int_equal(h->sealed_len, 0);
	assert_int_equal(h->rx.seq, 1);
	/* the SSL is as it was */
	assert_int_equal(SSL_pending(pair.server), 90);
	hear(pair.server, text + 10);
	hear(pair.server, "the next record");
	drop(h);
	tls_pair_free(&pair);
}

static void the_largest_record_pending_is_handed_over(void **state)
{
	static char data[RECORD_PLAIN_MAX];
	struct tls_pair pair;
	struct handoff *h;
	char c;

	(void)state;
	memset(data, 'y', sizeof(data));
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	assert_int_equal(SSL_write(pair.client, data, sizeof(data)),
			 sizeof(data));
	assert_int_equal(SSL_read(pair.server, &c, 1), 1);
	h = take(pair.server);
	assert_int_equal(h->plain_len, sizeof(data) - 1);
	assert_memory_equal(h->plain, data, sizeof(data) - 1);
	handoff_commit(pair.server);
	assert_goes_on(h, pair.client);
	drop(h);
	tls_pair_free(&pair);
}

/* Have the server's OpenSSL take only the first bytes of a record. */
static void read_part_of_a_record(struct tls_pair *pair, size_t part)
{
	char buf[64];

	assert_int_equal(tls_pair_set_blocking(pair, false), 0);
	tls_pair_carry(pair);
	pair->trickle = part;
	say(pair->client, "a record that comes in pieces");
	assert_int_equal(tls_pair_step(pair), part);
	assert_int_equal(SSL_read(pair->server, buf, sizeof(buf)), -1);
	assert_int_equal(SSL_get_error(pair->server, -1), SSL_ERROR_WANT_READ);
	assert_int_equal(tls_pair_set_blocking(pair, true), 0);
}

static void half_a_record_is_handed_over(void **state)
{
	/* "a record that comes in pieces" and 22 bytes make 51 */
	static const size_t parts[] = { 1, 4, 5, 6, 30, 50 };
	uint8_t content[RECORD_BODY_MAX];

	(void)state;
	for (size_t i = 0; i < 6; i++) {
		struct tls_pair pair;
		struct handoff *h;

		open_pair(&pair, (struct tls_pair_options){
					 PREPARED,
					 .unix_sockets = true,
					 .trickle = 4096,
				 });
		read_part_of_a_record(&pair, parts[i]);
		h = take(pair.server);
		assert_int_equal(h->sealed_len, parts[i]);
		assert_int_equal(h->rx.seq, 0);
		handoff_commit(pair.server);
		tls_pair_carry(&pair);
		assert_int_equal(receive_data(h, content), 29);
		assert_memory_equal(content, "a record that comes", 19);
		drop(h);
		tls_pair_free(&pair);
	}
}

static void half_a_record_stays_with_openssl_too(void **state)
{
	struct tls_pair pair;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){
				 PREPARED,
				 .unix_sockets = true,
				 .trickle = 4096,
			 });
	say(pair.client, "before");
	tls_pair_carry(&pair);
	hear(pair.server, "before");
	read_part_of_a_record(&pair, 20);
	drop(take(pair.server));
	tls_pair_carry(&pair);
	hear(pair.server, "a record that comes in pieces");
	tls_pair_free(&pair);
}

static void data_behind_the_finished_waits_in_the_socket(void **state)
{
	struct tls_pair_options options = { PREPARED };
	struct tls_pair pair;
	struct handoff *h;
	uint8_t content[RECORD_BODY_MAX];

	(void)state;
	assert_int_equal(tls_pair_open(&pair, &options), 0);
	while (SSL_do_handshake(pair.client) != 1)
		SSL_do_handshake(pair.server);
	say(pair.client, "with the Finished");
	assert_int_equal(tls_pair_handshake(&pair), 0);
	assert_int_equal(tls_pair_set_blocking(&pair, true), 0);
	h = take(pair.server);
	assert_int_equal(h->rx.seq, 0);
	assert_int_equal(receive_data(h, content), 17);
	drop(h);
	tls_pair_free(&pair);
}

static void change_cipher_spec_is_not_counted(void **state)
{
	static const char ccs[] = "\x14\x03\x03\0\x01\x01";
	struct tls_pair pair;
	struct handoff *h;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	assert_int_equal(BIO_write(SSL_get_wbio(pair.server), ccs, 6), 6);
	h = take(pair.server);
	assert_int_equal(h->tx.seq, 2);
	drop(h);
	tls_pair_free(&pair);
}

/* ---- KeyUpdate --------------------------------------------------------- */

static void update_key(SSL *from, SSL *to, int type)
{
	assert_int_equal(SSL_key_update(from, type), 1);
	assert_refused(from, -EBUSY, "under way");
	say(from, "new");
	hear(to, "new");
}

static void a_key_update_begins_the_count_anew(void **state)
{
	struct tls_pair pair;
	struct handoff *h;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	assert_still_usable(pair.server, pair.client);
	update_key(pair.client, pair.server, SSL_KEY_UPDATE_NOT_REQUESTED);
	h = take(pair.server);
	assert_int_equal(h->rx.seq, 1);
	assert_int_equal(h->tx.seq, 3);
	drop(h);
	h = take(pair.client);
	assert_int_equal(h->tx.seq, 1);
	drop(h);
	update_key(pair.server, pair.client, SSL_KEY_UPDATE_NOT_REQUESTED);
	h = take(pair.client);
	assert_int_equal(h->rx.seq, 1);
	drop(h);
	assert_hand_over(pair.server, pair.client);
	tls_pair_free(&pair);
}

static void nothing_after_a_key_update_leaves_the_count_at_0(void **state)
{
	struct tls_pair pair;
	struct handoff *h;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	assert_still_usable(pair.server, pair.client);
	assert_int_equal(
		SSL_key_update(pair.server, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
	assert_int_equal(SSL_do_handshake(pair.server), 1);
	h = take(pair.server);
	assert_int_equal(h->tx.seq, 0);
	assert_int_equal(h->tx.proof_len, 0);
	handoff_commit(pair.server);
	assert_goes_on(h, pair.client);
	drop(h);
	tls_pair_free(&pair);
}

static void a_key_update_owed_must_be_sent_first(void **state)
{
	struct tls_pair pair;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	update_key(pair.client, pair.server, SSL_KEY_UPDATE_REQUESTED);
	assert_refused(pair.server, -EBUSY, "KeyUpdate");
	say(pair.server, "here it is");
	hear(pair.client, "here it is");
	assert_hand_over(pair.server, pair.client);
	tls_pair_free(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_suite_is_handed_over),
		cmocka_unit_test(both_ends_are_handed_over),
		cmocka_unit_test(tickets_sent_are_counted),
		cmocka_unit_test(tickets_not_read_come_after_hand_over),
		cmocka_unit_test(tickets_read_are_counted),
		cmocka_unit_test(a_unix_socket_is_handed_over),
		cmocka_unit_test(a_nonblocking_socket_is_handed_over),
		cmocka_unit_test(a_handshake_in_small_steps_is_followed),
		cmocka_unit_test(a_client_certificate_makes_no_difference),
		cmocka_unit_test(a_hello_retry_request_makes_no_difference),
		cmocka_unit_test(a_hybrid_group_makes_no_difference),
		cmocka_unit_test(
			a_retry_with_a_hybrid_group_makes_no_difference),
		cmocka_unit_test(
			the_absence_of_change_cipher_spec_makes_no_difference),
		cmocka_unit_test(a_resumed_session_is_handed_over),
		cmocka_unit_test(early_data_is_not_counted),
		cmocka_unit_test(records_read_and_written_are_counted),
		cmocka_unit_test(one_write_of_many_records_is_counted),
		cmocka_unit_test(plaintext_not_yet_read_is_handed_over),
		cmocka_unit_test(the_largest_record_pending_is_handed_over),
		cmocka_unit_test(half_a_record_is_handed_over),
		cmocka_unit_test(half_a_record_stays_with_openssl_too),
		cmocka_unit_test(data_behind_the_finished_waits_in_the_socket),
		cmocka_unit_test(change_cipher_spec_is_not_counted),
		cmocka_unit_test(a_key_update_begins_the_count_anew),
		cmocka_unit_test(
			nothing_after_a_key_update_leaves_the_count_at_0),
		cmocka_unit_test(a_key_update_owed_must_be_sent_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
