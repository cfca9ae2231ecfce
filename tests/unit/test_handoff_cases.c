/* SPDX-License-Identifier: MIT */
/*
 * The hand-over of connections that applications have done all sorts of things
 * to before: taken over for good, and then going on with OpenSSL as the peer.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/err.h>

#include "asynctls.h"
#include "handed.h"
#include "handoff_check.h"
#include "wire.h"

static struct tls_context *ctx;

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

/* ---- Handing over ------------------------------------------------------ */

static void converse(struct tls_conn *conn, SSL *peer)
{
	say(peer, "to the connection");
	handed_hears(conn, "to the connection");
	handed_says(conn, peer, "and back");
}

/* To the end, close_notify included. */
static void finish(struct tls_conn *conn, SSL *peer)
{
	char c;

	converse(conn, peer);
	converse(conn, peer);
	assert_int_equal(tls_close(conn, 1000), 0);
	assert_int_equal(SSL_read(peer, &c, 1), 0);
	assert_int_equal(SSL_get_error(peer, 0), SSL_ERROR_ZERO_RETURN);
}

static void goes_on(SSL *ssl, SSL *peer)
{
	finish(handed_over(ctx, ssl), peer);
}

/* Something is done to both ends; then each in turn is handed over. */
static void both_go_on(struct tls_pair_options options,
		       void (*before)(SSL *ssl, SSL *peer))
{
	struct tls_pair pair;

	for (int client = 0; client < 2; client++) {
		SSL *ssl, *peer;

		open_pair(&pair, options);
		ssl = client ? pair.client : pair.server;
		peer = client ? pair.server : pair.client;
		if (before)
			before(ssl, peer);
		goes_on(ssl, peer);
		tls_pair_free(&pair);
	}
}

/* ---- Handshakes -------------------------------------------------------- */

static void ask_for_another_group(SSL *server, SSL *client)
{
	assert_int_equal(SSL_set1_groups_list(client, "X25519:P-256"), 1);
	assert_int_equal(SSL_set1_groups_list(server, "P-256"), 1);
}

/* One byte at a time, with a HelloRetryRequest and a client's certificate. */
static void a_handshake_byte_by_byte_goes_on(void **state)
{
	struct tls_conn *server, *client;
	struct tls_pair pair;
	char buf[10];

	(void)state;
	open_pair(&pair, (struct tls_pair_options){
				 PREPARED,
				 .unix_sockets = true,
				 .trickle = 1,
				 .client_cert = true,
				 .prepare = ask_for_another_group,
				 .nonblocking = true,
			 });
	server = handed_over(ctx, pair.server);
	client = handed_over(ctx, pair.client);
	tls_pair_carry(&pair);
	assert_int_equal(tls_write(server, "ping", 4), 4);
	assert_int_equal(tls_flush(server), 0);
	tls_pair_carry(&pair);
	while (tls_read(client, buf, 10) == -EAGAIN)
		tls_context_process(ctx);
	assert_memory_equal(buf, "ping", 4);
	tls_close(server, 0);
	tls_close(client, 0);
	tls_pair_free(&pair);
}

static int refuse_early_data(SSL *ssl, void *arg)
{
	(void)ssl, (void)arg;
	return 0;
}

static void early_data_is_allowed(SSL_CTX *ssl_ctx)
{
	prepare_for_handoff(ssl_ctx);
	SSL_CTX_set_max_early_data(ssl_ctx, 1000);
}

static SSL_SESSION *session_with_early_data(struct tls_pair *first)
{
	open_pair(first, (struct tls_pair_options){
				 .prepare_ctx = early_data_is_allowed });
	say(first->server, "tickets first");
	hear(first->client, "tickets first");
	SSL_set_shutdown(first->client, SSL_SENT_SHUTDOWN);
	return SSL_get1_session(first->client);
}

/* The records that the server skips are not to be counted. */
static void early_data_refused_goes_on(void **state)
{
	for (int client = 0; client < 2; client++) {
		struct tls_pair first, pair;
		SSL_SESSION *session = session_with_early_data(&first);
		struct tls_pair_options options = {
			.sctx = first.sctx,
			.cctx = first.cctx,
			.session = session,
		};
		size_t n;

		(void)state;
		SSL_CTX_set_allow_early_data_cb(first.sctx, refuse_early_data,
						NULL);
		assert_int_equal(tls_pair_open(&pair, &options), 0);
		for (int i = 0; i < 3; i++)
			assert_int_equal(SSL_write_early_data(pair.client,
							      "early", 5, &n),
					 1);
		assert_int_equal(tls_pair_handshake(&pair), 0);
		assert_int_equal(SSL_get_early_data_status(pair.client),
				 SSL_EARLY_DATA_REJECTED);
		assert_int_equal(tls_pair_set_blocking(&pair, true), 0);
		if (client)
			goes_on(pair.client, pair.server);
		else
			goes_on(pair.server, pair.client);
		tls_pair_free(&pair);
		tls_pair_free(&first);
		SSL_SESSION_free(session);
	}
}

/* ---- Contexts ---------------------------------------------------------- */

static SSL_CTX *named;

static int switch_context(SSL *ssl, int *alert, void *arg)
{
	(void)alert, (void)arg;
	assert_non_null(SSL_set_SSL_CTX(ssl, named));
	return SSL_TLSEXT_ERR_OK;
}

static void name_the_server(SSL *server, SSL *client)
{
	SSL_CTX_set_tlsext_servername_callback(SSL_get_SSL_CTX(server),
					       switch_context);
	assert_int_equal(SSL_set_tlsext_host_name(client, "localhost"), 1);
}

/* A second context with the first one's certificate. */
static void make_named(SSL_CTX *like)
{
	named = SSL_CTX_new(TLS_server_method());
	assert_non_null(named);
	assert_int_equal(
		SSL_CTX_use_certificate(named, SSL_CTX_get0_certificate(like)),
		1);
	assert_int_equal(
		SSL_CTX_use_PrivateKey(named, SSL_CTX_get0_privatekey(like)),
		1);
}

static void the_context_of_a_name_must_be_prepared_too(void **state)
{
	struct tls_pair first;

	(void)state;
	open_pair(&first, (struct tls_pair_options){ PREPARED });
	for (int prepared = 0; prepared < 2; prepared++) {
		struct tls_pair pair;

		make_named(first.sctx);
		if (prepared)
			prepare_for_handoff(named);
		open_pair(&pair, (struct tls_pair_options){
					 .sctx = first.sctx,
					 .cctx = first.cctx,
					 .prepare = name_the_server,
				 });
		assert_ptr_equal(SSL_get_SSL_CTX(pair.server), named);
		if (!prepared) {
			handed_declined(ctx, pair.server, -EINVAL,
					"tls_handoff_prepare");
			assert_still_usable(pair.server, pair.client);
		} else {
			goes_on(pair.server, pair.client);
		}
		tls_pair_free(&pair);
		SSL_CTX_free(named);
	}
	tls_pair_free(&first);
}

static int infos, messages;

static void count_info(const SSL *ssl, int where, int ret)
{
	(void)ssl, (void)where, (void)ret;
	infos++;
}

static void count_message(int write, int version, int type, const void *buf,
			  size_t len, SSL *ssl, void *arg)
{
	(void)write, (void)version, (void)type, (void)buf, (void)len, (void)ssl;
	assert_string_equal(arg, "mine");
	messages++;
}

static void set_callbacks(SSL *server, SSL *client)
{
	SSL_set_info_callback(server, count_info);
	SSL_set_info_callback(client, count_info);
	SSL_set_msg_callback(server, count_message);
	SSL_set_msg_callback(client, count_message);
	SSL_set_msg_callback_arg(server, "mine");
	SSL_set_msg_callback_arg(client, "mine");
}

static void info_and_message_callbacks_are_left_alone(void **state)
{
	(void)state;
	infos = messages = 0;
	both_go_on(
		(struct tls_pair_options){ PREPARED, .prepare = set_callbacks },
		NULL);
	assert_true(infos > 10);
	assert_true(messages > 10);
}

/* ---- BIOs -------------------------------------------------------------- */

static void two_bios(SSL *server, SSL *client)
{
	int fd = SSL_get_fd(server);

	(void)client;
	SSL_set_bio(server, BIO_new_socket(fd, BIO_NOCLOSE),
		    BIO_new_socket(fd, BIO_NOCLOSE));
}

static void one_bio(SSL *server, SSL *client)
{
	BIO *bio = BIO_new_socket(SSL_get_fd(client), BIO_NOCLOSE);

	SSL_set_bio(client, bio, bio);
	two_bios(server, client);
}

static void two_bios_of_one_descriptor_go_on(void **state)
{
	(void)state;
	both_go_on((struct tls_pair_options){ PREPARED, .prepare = two_bios },
		   NULL);
	both_go_on((struct tls_pair_options){ PREPARED, .prepare = one_bio },
		   NULL);
}

static void buffer_writes(SSL *server, SSL *client)
{
	BIO *socket = BIO_new_socket(SSL_get_fd(server), BIO_NOCLOSE);

	(void)client;
	SSL_set_bio(server, socket,
		    BIO_push(BIO_new(BIO_f_buffer()),
			     BIO_new_socket(SSL_get_fd(server), BIO_NOCLOSE)));
}

/* It may hold bytes that nobody could take out again in their order. */
static void a_buffering_bio_is_declined(void **state)
{
	struct tls_pair pair;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED,
						    .prepare = buffer_writes });
	handed_declined(ctx, pair.server, -EINVAL, "SSL_set_fd");
	say(pair.client, "still");
	hear(pair.server, "still");
	tls_pair_free(&pair);
}

/* ---- Modes and options ------------------------------------------------- */

static void set_modes(SSL *server, SSL *client)
{
	long modes = SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
		     SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER;

	SSL_set_mode(server, modes);
	SSL_set_mode(client, modes);
	SSL_clear_mode(server, SSL_MODE_AUTO_RETRY);
	SSL_clear_mode(client, SSL_MODE_AUTO_RETRY);
}

static void set_pipelines(SSL *server, SSL *client)
{
	SSL *ends[] = { server, client };

	for (int i = 0; i < 2; i++) {
		assert_int_equal(SSL_set_max_pipelines(ends[i], 8), 1);
		assert_int_equal(SSL_set_split_send_fragment(ends[i], 600), 1);
		assert_int_equal(SSL_set_max_send_fragment(ends[i], 1000), 1);
	}
}

static void pad_records(SSL *server, SSL *client)
{
	assert_int_equal(SSL_set_block_padding(server, 512), 1);
	assert_int_equal(SSL_set_block_padding(client, 512), 1);
}

static void drop_compat(SSL *server, SSL *client)
{
	SSL_clear_options(server, SSL_OP_ENABLE_MIDDLEBOX_COMPAT);
	SSL_clear_options(client, SSL_OP_ENABLE_MIDDLEBOX_COMPAT);
}

static void no_tickets_of_content(SSL *server, SSL *client)
{
	(void)client;
	SSL_set_options(server, SSL_OP_NO_TICKET); /* they name a cache entry */
}

static void modes_and_options_make_no_difference(void **state)
{
	static void (*const set[])(SSL *, SSL *) = {
		set_modes,   set_pipelines,         pad_records,
		drop_compat, no_tickets_of_content,
	};

	(void)state;
	for (int i = 0; i < 5; i++) {
		const struct tls_pair_options options = { PREPARED,
							  .prepare = set[i] };

		both_go_on(options, NULL);
		both_go_on(options, assert_still_usable);
	}
}

static void read_ahead(SSL *server, SSL *client)
{
	SSL_set_read_ahead(server, 1);
	SSL_set_read_ahead(client, 1);
}

/* It is only what OpenSSL has read ahead that is in the way. */
static void read_ahead_of_nothing_goes_on(void **state)
{
	const struct tls_pair_options options = {
		PREPARED,
		.prepare = read_ahead,
		.set_tickets = true,
	};

	(void)state;
	both_go_on(options, NULL);
	both_go_on(options, assert_still_usable);
}

/*
 * Up to where the client has sent its Finished and the server has not read it;
 * whatever follows it will be read with it.
 */
static void open_reading_ahead(struct tls_pair *pair)
{
	struct tls_pair_options options = {
		PREPARED,        .prepare = read_ahead, .unix_sockets = true,
		.trickle = 4096, .client_cert = true,
	};

	assert_int_equal(tls_pair_open(pair, &options), 0);
	while (SSL_do_handshake(pair->client) != 1) {
		SSL_do_handshake(pair->server);
		tls_pair_step(pair);
	}
}

/* Carry all of that, and so many bytes of what the client says next. */
static void finish_reading_ahead(struct tls_pair *pair, const char *said,
				 size_t bytes)
{
	int finished;

	assert_int_equal(ioctl(pair->relay[1], FIONREAD, &finished), 0);
	say(pair->client, said);
	pair->trickle = (size_t)finished + bytes;
	assert_int_equal(tls_pair_step(pair) >= pair->trickle, 1);
	assert_int_equal(SSL_do_handshake(pair->server), 1);
}

static void a_record_read_ahead_with_the_finished_goes_on(void **state)
{
	/* 22 bytes more than is said: all of it at the end */
	static const size_t parts[] = { 1, 4, 5, 6, 20, 38, 39 };

	(void)state;
	for (int i = 0; i < 7; i++) {
		struct tls_pair pair;
		struct tls_conn *conn;

		open_reading_ahead(&pair);
		finish_reading_ahead(&pair, "with the Finished", parts[i]);
		conn = handed_over(ctx, pair.server);
		tls_pair_carry(&pair);
		assert_int_equal(tls_pair_set_blocking(&pair, true), 0);
		handed_hears(conn, "with the Finished");
		say(pair.client, "later");
		tls_pair_carry(&pair);
		handed_hears(conn, "later");
		assert_int_equal(tls_write(conn, "answer", 6), 6);
		assert_int_equal(tls_flush(conn), 0);
		tls_pair_carry(&pair);
		hear(pair.client, "answer");
		tls_close(conn, 0);
		tls_pair_free(&pair);
	}
}

/* Later ones leave what follows the handshake in the socket. */
static bool reads_ahead_in_the_handshake(void)
{
	return OpenSSL_version_num() < 0x30200000L;
}

static void waits_in_the_socket(struct tls_pair *pair, const char *said)
{
	struct tls_conn *conn = handed_over(ctx, pair->server);

	tls_pair_carry(pair);
	assert_int_equal(tls_pair_set_blocking(pair, true), 0);
	handed_hears(conn, said);
	tls_close(conn, 0);
	tls_pair_free(pair);
}

static void more_read_ahead_with_the_finished_is_declined(void **state)
{
	static const size_t parts[] = { 1, 5, 25 }; /* of the second record */

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct tls_pair pair;

		open_reading_ahead(&pair);
		say(pair.client, "one");
		finish_reading_ahead(&pair, "two", parts[i]);
		if (!reads_ahead_in_the_handshake()) {
			waits_in_the_socket(&pair, "onetwo");
			continue;
		}
		handed_declined(ctx, pair.server, -EBUSY, "read_ahead");
		tls_pair_carry(&pair);
		hear(pair.server, "one");
		hear(pair.server, "two");
		handed_declined(ctx, pair.server, -EBUSY, "read ahead");
		say(pair.client, "three");
		tls_pair_carry(&pair);
		hear(pair.server, "three");
		handed_declined(ctx, pair.server, -EBUSY, "read ahead");
		tls_pair_free(&pair);
	}
}

static void read_far_ahead(SSL *server, SSL *client)
{
	read_ahead(server, client);
	SSL_set_default_read_buffer_len(server, 100000);
}

/* OpenSSL may have more than is kept, and that is in the way only if it has. */
static void a_large_read_buffer_is_no_hindrance(void **state)
{
	const int versions[] = { TLS1_3_VERSION, TLS1_2_VERSION };
	static char data[15000], got[15000];

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct tls_pair pair;
		int n;

		open_pair(&pair, (struct tls_pair_options){
					 PREPARED,
					 .prepare = read_far_ahead,
					 .version = versions[i],
					 .set_tickets = true,
				 });
		for (int k = 0; k < 4; k++)
			assert_int_equal(SSL_write(pair.client, data, 15000),
					 15000);
		for (n = 0; n < 4 * 15000;) {
			int ret = SSL_read(pair.server, got, 15000);

			assert_true(ret > 0);
			n += ret;
		}
		goes_on(pair.server, pair.client);
		tls_pair_free(&pair);
	}
}

static void a_record_read_ahead_and_in_part_read_is_declined(void **state)
{
	struct tls_pair pair;

	(void)state;
	open_reading_ahead(&pair);
	finish_reading_ahead(&pair, "with the Finished", 39);
	hear(pair.server, "with");
	if (!reads_ahead_in_the_handshake()) {
		waits_in_the_socket(&pair, " the Finished");
		return;
	}
	handed_declined(ctx, pair.server, -EBUSY, "read ahead");
	hear(pair.server, " the Finished");
	handed_declined(ctx, pair.server, -EBUSY, "read ahead");
	tls_pair_free(&pair);
}

/*
 * A KeyUpdate and records behind it in one segment. OpenSSL 3.2 and later do
 * not tell of them when they tell of the new key.
 */
static void a_key_update_read_ahead_with_more_is_declined(void **state)
{
	(void)state;
	for (int i = 0; i < 6; i++) {
		struct tls_pair pair;
		SSL *ssl, *peer;

		open_pair(&pair, (struct tls_pair_options){
					 PREPARED,
					 .prepare = read_ahead,
					 .set_tickets = true,
					 .unix_sockets = true,
					 .trickle = 4096,
				 });
		ssl = i % 2 ? pair.client : pair.server;
		peer = i % 2 ? pair.server : pair.client;
		assert_int_equal(SSL_key_update(peer,
						SSL_KEY_UPDATE_NOT_REQUESTED),
				 1);
		for (int records = 0; records <= i / 2; records++)
			say(peer, "some words");
		tls_pair_carry(&pair);
		hear(ssl, i / 2 ? "some" : "some words");
		handed_declined(ctx, ssl, -EBUSY, "read ahead");
		if (i / 2)
			hear(ssl, " wordssome words");
		handed_declined(ctx, ssl, -EBUSY, "read_ahead");
		tls_pair_free(&pair);
	}
}

/* ---- In the middle of a stream ----------------------------------------- */

enum { BULK = 4 << 20, CHUNK = 50000 };

/* OpenSSL's keys change now and then, asked for and not. */
static void send_bulk(SSL *from, SSL *to)
{
	static uint8_t out[CHUNK], in[CHUNK];
	int n, ret;

	for (size_t done = 0; done < BULK; done += CHUNK) {
		pattern_fill(out, done, CHUNK);
		if (done / CHUNK % 10 == 5)
			SSL_key_update(from,
				       done / CHUNK % 20 == 5
					       ? SSL_KEY_UPDATE_REQUESTED
					       : SSL_KEY_UPDATE_NOT_REQUESTED);
		assert_int_equal(SSL_write(from, out, CHUNK), CHUNK);
		for (n = 0; n < CHUNK; n += ret) {
			ret = SSL_read(to, in + n, CHUNK - n);
			assert_true(ret > 0);
		}
		pattern_check(in, done, CHUNK);
	}
}

static void send_bulk_both_ways(SSL *ssl, SSL *peer)
{
	send_bulk(ssl, peer);
	send_bulk(peer, ssl);
	/* what the last updates still owe */
	assert_still_usable(ssl, peer);
	assert_still_usable(peer, ssl);
}

static void much_data_and_many_key_updates_before_go_on(void **state)
{
	(void)state;
	both_go_on((struct tls_pair_options){ PREPARED, .unix_sockets = true },
		   send_bulk_both_ways);
}

/* The peer's update lies in the socket when the connection is handed over. */
static void update_unread(SSL *ssl, SSL *peer)
{
	(void)ssl;
	assert_int_equal(SSL_key_update(peer, SSL_KEY_UPDATE_REQUESTED), 1);
	assert_int_equal(SSL_do_handshake(peer), 1); /* which sends it */
}

static void a_key_update_not_yet_read_is_met_afterwards(void **state)
{
	(void)state;
	both_go_on((struct tls_pair_options){ PREPARED }, update_unread);
}

/* In the flight of the client's Finished. */
static void a_key_update_with_the_finished_is_met_afterwards(void **state)
{
	struct tls_pair_options options = { PREPARED };
	struct tls_pair pair;

	(void)state;
	assert_int_equal(tls_pair_open(&pair, &options), 0);
	while (SSL_do_handshake(pair.client) != 1)
		SSL_do_handshake(pair.server);
	assert_int_equal(SSL_key_update(pair.client, SSL_KEY_UPDATE_REQUESTED),
			 1);
	assert_int_equal(SSL_do_handshake(pair.client), 1);
	assert_int_equal(tls_pair_handshake(&pair), 0);
	assert_int_equal(tls_pair_set_blocking(&pair, true), 0);
	goes_on(pair.server, pair.client);
	tls_pair_free(&pair);
}

static void a_key_update_right_after_the_hand_over_goes_on(void **state)
{
	(void)state;
	for (int client = 0; client < 2; client++) {
		struct tls_conn *conn;
		struct tls_pair pair;
		SSL *peer;

		open_pair(&pair, (struct tls_pair_options){ PREPARED });
		conn = handed_over(ctx, client ? pair.client : pair.server);
		peer = client ? pair.server : pair.client;
		assert_int_equal(SSL_key_update(peer, SSL_KEY_UPDATE_REQUESTED),
				 1);
		finish(conn, peer);
		tls_pair_free(&pair);
	}
}

/* ---- Authentication after the handshake -------------------------------- */

static void offer_certificate(SSL *server, SSL *client)
{
	(void)server;
	SSL_set_post_handshake_auth(client, 1);
}

static void ask_for_certificate(SSL *server)
{
	SSL_set_verify(server, SSL_VERIFY_PEER, NULL);
	assert_int_equal(SSL_verify_client_post_handshake(server), 1);
	assert_int_equal(SSL_do_handshake(server), 1);
}

static void a_certificate_asked_for_is_declined(void **state)
{
	struct tls_pair pair;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){
				 PREPARED, .prepare = offer_certificate });
	ask_for_certificate(pair.server);
	handed_declined(ctx, pair.server, -EBUSY, "asked for a certificate");
	/* the client answers as it reads; then all is well */
	say(pair.server, "question");
	hear(pair.client, "question");
	say(pair.client, "answer");
	hear(pair.server, "answer");
	goes_on(pair.server, pair.client);
	tls_pair_free(&pair);
}

static void a_request_for_a_certificate_after_the_hand_over_fails(void **state)
{
	struct tls_conn *conn;
	struct tls_pair pair;
	char c;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){
				 PREPARED, .prepare = offer_certificate });
	conn = handed_over(ctx, pair.client);
	ask_for_certificate(pair.server);
	assert_int_equal(tls_read(conn, &c, 1), -EPROTO);
	assert_non_null(strstr(tls_conn_error(conn), "certificate"));
	assert_int_equal(tls_close(conn, 1000), -EPROTO);
	assert_int_equal(SSL_read(pair.server, &c, 1), 0);
	assert_int_equal(ERR_GET_REASON(ERR_peek_last_error()),
			 SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE);
	ERR_clear_error();
	tls_pair_free(&pair);
}

/* ---- The SSL afterwards ------------------------------------------------ */

static void an_ssl_handed_over_may_serve_another_connection(void **state)
{
	struct tls_pair pair, other;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	goes_on(pair.server, pair.client);
	assert_int_equal(tls_pair_open(&other,
				       &(struct tls_pair_options){
					       .sctx = pair.sctx,
					       .cctx = pair.cctx,
				       }),
			 0);
	SSL_free(other.server);
	other.server = pair.server;
	pair.server = NULL;
	assert_int_equal(SSL_clear(other.server), 1);
	assert_int_equal(SSL_set_fd(other.server, other.fd[0]), 1);
	assert_int_equal(tls_pair_handshake(&other), 0);
	assert_int_equal(tls_pair_set_blocking(&other, true), 0);
	goes_on(other.server, other.client);
	tls_pair_free(&other);
	tls_pair_free(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_handshake_byte_by_byte_goes_on),
		cmocka_unit_test(early_data_refused_goes_on),
		cmocka_unit_test(the_context_of_a_name_must_be_prepared_too),
		cmocka_unit_test(info_and_message_callbacks_are_left_alone),
		cmocka_unit_test(two_bios_of_one_descriptor_go_on),
		cmocka_unit_test(a_buffering_bio_is_declined),
		cmocka_unit_test(modes_and_options_make_no_difference),
		cmocka_unit_test(read_ahead_of_nothing_goes_on),
		cmocka_unit_test(a_record_read_ahead_with_the_finished_goes_on),
		cmocka_unit_test(more_read_ahead_with_the_finished_is_declined),
		cmocka_unit_test(a_large_read_buffer_is_no_hindrance),
		cmocka_unit_test(
			a_record_read_ahead_and_in_part_read_is_declined),
		cmocka_unit_test(a_key_update_read_ahead_with_more_is_declined),
		cmocka_unit_test(much_data_and_many_key_updates_before_go_on),
		cmocka_unit_test(a_key_update_not_yet_read_is_met_afterwards),
		cmocka_unit_test(
			a_key_update_with_the_finished_is_met_afterwards),
		cmocka_unit_test(
			a_key_update_right_after_the_hand_over_goes_on),
		cmocka_unit_test(a_certificate_asked_for_is_declined),
		cmocka_unit_test(
			a_request_for_a_certificate_after_the_hand_over_fails),
		cmocka_unit_test(
			an_ssl_handed_over_may_serve_another_connection),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
