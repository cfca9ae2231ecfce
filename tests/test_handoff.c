/* SPDX-License-Identifier: MIT */
/* Connections that can be handed over, and what is handed over then. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "handoff_check.h"

#define PREPARED .prepare_ctx = prepare_for_handoff

static void open_pair(struct tls_pair *pair, struct tls_pair_options options)
{
	assert_int_equal(tls_pair_new(pair, &options), 0);
}

/* Hand one end over for good and let it talk to OpenSSL at the other. */
static void assert_hand_over(SSL *ssl, SSL *peer)
{
	struct handoff *h = take(ssl);

	handoff_commit(ssl);
	assert_goes_on(h, peer);
	drop(h);
}

static void assert_either_end(struct tls_pair_options options)
{
	struct tls_pair pair;

	open_pair(&pair, options);
	assert_hand_over(pair.server, pair.client);
	tls_pair_free(&pair);
	open_pair(&pair, options);
	assert_hand_over(pair.client, pair.server);
	tls_pair_free(&pair);
}

/* ---- Handshakes of every sort ------------------------------------------ */

static void every_suite_is_handed_over(void **state)
{
	(void)state;
	for (int id = 0; id < CIPHER_COUNT; id++) {
		struct tls_pair_options options = {
			PREPARED,
			.suite = ciphers[id].name,
		};

		assert_either_end(options);
	}
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

static void carry_the_rest(struct tls_pair *pair)
{
	pair->trickle = 4096;
	while (tls_pair_step(pair))
		;
}

static void a_handshake_in_small_steps_is_followed(void **state)
{
	static const size_t steps[] = { 2, 3, 5, 7, 64 };
	uint8_t content[RECORD_BODY_MAX];

	(void)state;
	for (size_t i = 0; i < 5; i++) {
		struct tls_pair pair;
		struct handoff *server, *client;

		open_pair(&pair, (struct tls_pair_options){
					 PREPARED,
					 .unix_sockets = true,
					 .trickle = steps[i],
					 .set_tickets = true,
					 .tickets = 1,
				 });
		server = take(pair.server);
		client = take(pair.client);
		assert_int_equal(server->tx.seq, 1);
		send_record(server, RECORD_DATA, "ping", 4);
		send_record(client, RECORD_DATA, "pong", 4);
		carry_the_rest(&pair);
		assert_int_equal(receive_data(client, content), 4);
		assert_int_equal(receive_data(server, content), 4);
		drop(server);
		drop(client);
		tls_pair_free(&pair);
	}
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
	carry_the_rest(pair);
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
		carry_the_rest(&pair);
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
	carry_the_rest(&pair);
	hear(pair.server, "before");
	read_part_of_a_record(&pair, 20);
	drop(take(pair.server));
	carry_the_rest(&pair);
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

/* ---- Callbacks that were there before ---------------------------------- */

static int lines_logged;

static void count_lines(const SSL *ssl, const char *line)
{
	(void)ssl;
	lines_logged += !strncmp(line, "CLIENT_TRAFFIC_SECRET_0", 23);
}

static void log_then_prepare(SSL_CTX *ctx)
{
	SSL_CTX_set_keylog_callback(ctx, count_lines);
	prepare_for_handoff(ctx);
	prepare_for_handoff(ctx);
}

static void the_applications_keylog_callback_is_called(void **state)
{
	(void)state;
	lines_logged = 0;
	assert_either_end(
		(struct tls_pair_options){ .prepare_ctx = log_then_prepare });
	assert_int_equal(lines_logged, 4);
}

static SSL_CTX_keylog_cb_func before_wrapping;

static void wrap(const SSL *ssl, const char *line)
{
	count_lines(ssl, line);
	before_wrapping(ssl, line);
}

static void wrap_and_prepare_again(SSL_CTX *ctx)
{
	prepare_for_handoff(ctx);
	before_wrapping = SSL_CTX_get_keylog_callback(ctx);
	SSL_CTX_set_keylog_callback(ctx, wrap);
	prepare_for_handoff(ctx);
}

static void a_keylog_callback_may_call_ours(void **state)
{
	(void)state;
	lines_logged = 0;
	assert_either_end((struct tls_pair_options){
		.prepare_ctx = wrap_and_prepare_again });
	assert_int_equal(lines_logged, 4);
}

static int bytes_seen;

static long count_bytes(BIO *bio, int oper, const char *argp, size_t len,
			int argi, long argl, int ret, size_t *processed)
{
	(void)argp, (void)len, (void)argi, (void)argl;
	assert_string_equal(BIO_get_callback_arg(bio), "mine");
	if ((oper == (BIO_CB_READ | BIO_CB_RETURN) ||
	     oper == (BIO_CB_WRITE | BIO_CB_RETURN)) &&
	    ret > 0)
		bytes_seen += (int)*processed;
	return ret;
}

static void watch_server(SSL *server, SSL *client)
{
	(void)client;
	BIO_set_callback_ex(SSL_get_rbio(server), count_bytes);
	BIO_set_callback_arg(SSL_get_rbio(server), "mine");
}

static void a_bio_callback_goes_on_being_called(void **state)
{
	struct tls_pair pair;
	BIO *bio;

	(void)state;
	bytes_seen = 0;
	open_pair(&pair, (struct tls_pair_options){
				 PREPARED,
				 .prepare = watch_server,
			 });
	assert_still_usable(pair.server, pair.client);
	bio = SSL_get_rbio(pair.server);
	assert_int_equal(bytes_seen,
			 BIO_number_read(bio) + BIO_number_written(bio));
	assert_ptr_not_equal(BIO_get_callback_ex(bio), count_bytes);
	assert_hand_over(pair.server, pair.client);
	assert_ptr_equal(BIO_get_callback_ex(bio), count_bytes);
	assert_string_equal(BIO_get_callback_arg(bio), "mine");
	tls_pair_free(&pair);
}

static BIO_callback_fn_ex below;

static long call_below(BIO *bio, int oper, const char *argp, size_t len,
		       int argi, long argl, int ret, size_t *processed)
{
	return below(bio, oper, argp, len, argi, argl, ret, processed);
}

static void a_bio_callback_set_later_may_outlive_the_ssl(void **state)
{
	struct tls_pair pair;
	BIO *bio;

	(void)state;
	bytes_seen = 0;
	open_pair(&pair, (struct tls_pair_options){
				 PREPARED,
				 .prepare = watch_server,
			 });
	bio = SSL_get_rbio(pair.server);
	below = BIO_get_callback_ex(bio);
	BIO_set_callback_ex(bio, call_below);
	assert_still_usable(pair.server, pair.client);
	BIO_up_ref(bio);
	assert_hand_over(pair.server, pair.client);
	SSL_free(pair.server);
	pair.server = NULL;
	bytes_seen = 0;
	assert_int_equal(BIO_write(bio, "raw", 3), 3);
	assert_int_equal(bytes_seen, 3);
	BIO_free(bio);
	tls_pair_free(&pair);
}

/* ---- Lifetimes --------------------------------------------------------- */

static void the_ssl_may_be_freed_at_once(void **state)
{
	struct tls_pair pair;
	struct handoff *h;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	h = take(pair.server);
	handoff_commit(pair.server);
	SSL_free(pair.server);
	pair.server = NULL;
	assert_goes_on(h, pair.client);
	drop(h);
	tls_pair_free(&pair);
}

static void freeing_the_ssl_keeps_the_session(void **state)
{
	struct tls_pair pair;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	SSL_CTX_set_session_cache_mode(pair.cctx, SSL_SESS_CACHE_CLIENT);
	say(pair.server, "tickets first");
	hear(pair.client, "tickets first");
	assert_int_equal(SSL_CTX_sess_number(pair.cctx), 2);
	drop(take(pair.client));
	handoff_commit(pair.client);
	SSL_free(pair.client);
	pair.client = NULL;
	assert_int_equal(SSL_CTX_sess_number(pair.cctx), 2);
	tls_pair_free(&pair);
}

static void freeing_the_ssl_sends_nothing(void **state)
{
	struct tls_pair pair;
	char c;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){
				 PREPARED,
				 .set_tickets = true,
			 });
	drop(take(pair.server));
	handoff_commit(pair.server);
	SSL_shutdown(pair.server);
	SSL_free(pair.server);
	pair.server = NULL;
	assert_int_equal(recv(pair.fd[1], &c, 1, MSG_DONTWAIT), -1);
	tls_pair_free(&pair);
}

static void a_bio_may_go_before_its_ssl(void **state)
{
	struct tls_pair pair;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	SSL_set_bio(pair.server, NULL, NULL);
	assert_refused(pair.server, -EINVAL, "SSL_set_fd");
	tls_pair_free(&pair);
}

static void an_ssl_used_again_is_followed_again(void **state)
{
	struct tls_pair pair;
	struct handoff *h;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){
				 PREPARED,
				 .set_tickets = true,
			 });
	for (int i = 0; i < 3; i++)
		assert_still_usable(pair.server, pair.client);
	SSL_set_shutdown(pair.server, SSL_SENT_SHUTDOWN);
	SSL_set_shutdown(pair.client, SSL_SENT_SHUTDOWN);
	assert_int_equal(SSL_clear(pair.server), 1);
	assert_int_equal(SSL_clear(pair.client), 1);
	assert_int_equal(tls_pair_set_blocking(&pair, false), 0);
	assert_int_equal(tls_pair_handshake(&pair), 0);
	assert_int_equal(tls_pair_set_blocking(&pair, true), 0);
	h = take(pair.server);
	assert_int_equal(h->tx.seq, 0);
	assert_int_equal(h->rx.seq, 0);
	assert_goes_on(h, pair.client);
	drop(h);
	tls_pair_free(&pair);
}

static void taking_twice_gives_the_same(void **state)
{
	struct tls_pair pair;
	struct handoff *a, *b;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	assert_still_usable(pair.server, pair.client);
	a = take(pair.server);
	b = take(pair.server);
	assert_memory_equal(a, b, sizeof(*a));
	drop(a);
	drop(b);
	assert_still_usable(pair.server, pair.client);
	tls_pair_free(&pair);
}

static void wiping_leaves_nothing(void **state)
{
	static const struct handoff nothing;
	struct tls_pair pair;
	struct handoff *h;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	h = take(pair.server);
	handoff_wipe(h);
	assert_memory_equal(h, &nothing, sizeof(nothing));
	free(h);
	tls_pair_free(&pair);
}

/* ---- Threads ----------------------------------------------------------- */

static void *hand_over_many(void *arg)
{
	const struct tls_pair_options *options = arg;

	for (int i = 0; i < 20; i++) {
		struct handoff *h = malloc(sizeof(*h));
		const char *why = "";
		struct tls_pair pair;
		int error;

		if (!h || tls_pair_new(&pair, options))
			return "no pair";
		error = handoff_take(h, pair.server, &why);
		if (!error && h->tx.seq != 2)
			why = "wrong sequence number";
		handoff_commit(pair.server);
		tls_pair_free(&pair);
		free(h);
		if (error || *why)
			return (void *)why;
	}
	return NULL;
}

static void threads_may_share_an_ssl_ctx(void **state)
{
	struct tls_pair first;
	struct tls_pair_options options = { PREPARED };
	pthread_t threads[4];

	(void)state;
	open_pair(&first, options);
	options = (struct tls_pair_options){ .sctx = first.sctx,
					     .cctx = first.cctx };
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL,
						hand_over_many, &options),
				 0);
	for (int i = 0; i < 4; i++) {
		void *why = NULL;

		pthread_join(threads[i], &why);
		if (why)
			fail_msg("%s", (const char *)why);
	}
	tls_pair_free(&first);
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
		cmocka_unit_test(a_key_update_begins_the_count_anew),
		cmocka_unit_test(
			nothing_after_a_key_update_leaves_the_count_at_0),
		cmocka_unit_test(a_key_update_owed_must_be_sent_first),
		cmocka_unit_test(the_applications_keylog_callback_is_called),
		cmocka_unit_test(a_keylog_callback_may_call_ours),
		cmocka_unit_test(a_bio_callback_goes_on_being_called),
		cmocka_unit_test(a_bio_callback_set_later_may_outlive_the_ssl),
		cmocka_unit_test(the_ssl_may_be_freed_at_once),
		cmocka_unit_test(freeing_the_ssl_keeps_the_session),
		cmocka_unit_test(freeing_the_ssl_sends_nothing),
		cmocka_unit_test(a_bio_may_go_before_its_ssl),
		cmocka_unit_test(an_ssl_used_again_is_followed_again),
		cmocka_unit_test(taking_twice_gives_the_same),
		cmocka_unit_test(wiping_leaves_nothing),
		cmocka_unit_test(threads_may_share_an_ssl_ctx),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
