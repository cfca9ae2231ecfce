/* SPDX-License-Identifier: MIT */
/* Session tickets that come after the hand-over, and what is made of them. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include <openssl/err.h>

#include "asynctls.h"
#include "handed.h"
#include "handoff_check.h"
#include "openssl/ticket.h"

static struct tls_context *ctx;

/* ---- Sessions that OpenSSL makes of them ------------------------------- */

static SSL_SESSION *latest;
static int sessions;
static pthread_t session_thread;
static int session_fd; /* of the SSL that it was for */

static int keep_session(SSL *ssl, SSL_SESSION *session)
{
	session_fd = SSL_get_fd(ssl);
	assert_int_equal(SSL_get_wfd(ssl), session_fd);
	SSL_SESSION_free(latest);
	latest = session;
	sessions++;
	session_thread = pthread_self();
	return 1; /* the reference is ours */
}

static void keep_sessions(SSL_CTX *ssl_ctx)
{
	prepare_for_handoff(ssl_ctx);
	SSL_CTX_set_session_cache_mode(ssl_ctx, SSL_SESS_CACHE_BOTH);
	SSL_CTX_sess_set_new_cb(ssl_ctx, keep_session);
}

static int begin(void **state)
{
	(void)state;
	latest = NULL;
	sessions = 0;
	return tls_context_new(&ctx, NULL);
}

static int end(void **state)
{
	(void)state;
	SSL_SESSION_free(latest);
	tls_context_free(ctx);
	return 0;
}

static struct tls_conn *hand_over(SSL **ssl)
{
	struct tls_conn *conn = handed_over(ctx, *ssl);

	SSL_free(*ssl);
	*ssl = NULL;
	return conn;
}

/* Have so many received, by whichever engine, and do not read. */
static void receive_records(struct tls_conn *conn, uint64_t n)
{
	struct tls_stats s;

	do {
		tls_context_process(ctx);
		tls_conn_stats(conn, &s, sizeof(s));
	} while (s.rx_records[TLS_BY_CPU] + s.rx_records[TLS_BY_KERNEL] < n);
}

/* A second connection with the latest session. */
static void assert_resumes(struct tls_pair *first)
{
	struct tls_pair pair;
	struct tls_conn *conn;

	assert_non_null(latest);
	open_pair(&pair, (struct tls_pair_options){
				 .sctx = first->sctx,
				 .cctx = first->cctx,
				 .session = latest,
			 });
	assert_int_equal(SSL_session_reused(pair.client), 1);
	assert_int_equal(SSL_session_reused(pair.server), 1);
	conn = hand_over(&pair.client);
	say(pair.server, "resumed");
	handed_hears(conn, "resumed");
	handed_says(conn, pair.server, "and back");
	tls_close(conn, 1000);
	tls_pair_free(&pair);
}

static void a_client_resumes_after_hand_over(void **state)
{
	(void)state;
	for (uint16_t number = 0x1301; number <= 0x1304; number++) {
		struct tls_pair pair;
		struct tls_conn *conn;

		begin(NULL);
		open_pair(&pair, (struct tls_pair_options){
					 .prepare_ctx = keep_sessions,
					 .suite = suite_by_number(number)->name,
				 });
		sessions = 0; /* the server's count, too */
		conn = hand_over(&pair.client);
		say(pair.server, "behind two tickets");
		handed_hears(conn, "behind two tickets");
		assert_int_equal(sessions, 2);
		assert_true(pthread_equal(session_thread, pthread_self()));
		handed_says(conn, pair.server, "the stream goes on");
		assert_resumes(&pair);
		assert_int_equal(tls_close(conn, 1000), 0);
		tls_pair_free(&pair);
		end(NULL);
	}
}

static void any_number_of_tickets_is_taken(void **state)
{
	static const size_t counts[] = { 0, 1, 7 };

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct tls_pair pair;
		struct tls_conn *conn;

		open_pair(&pair, (struct tls_pair_options){
					 .prepare_ctx = keep_sessions,
					 .set_tickets = true,
					 .tickets = counts[i],
				 });
		sessions = 0;
		conn = hand_over(&pair.client);
		say(pair.server, "x");
		handed_hears(conn, "x");
		assert_int_equal(sessions, counts[i]);
		tls_close(conn, 1000);
		tls_pair_free(&pair);
	}
}

/* The server's records, and those that OpenSSL is given, are short. */
static void tickets_are_taken_where_fragments_are_short(void **state)
{
	struct tls_pair pair;
	struct tls_conn *conn;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){
				 .prepare_ctx = keep_sessions,
				 .prepare = limit_fragments,
				 .client_cert = true,
			 });
	conn = hand_over(&pair.client);
	sessions = 0;
	say(pair.server, "behind long tickets");
	handed_hears(conn, "behind long tickets");
	assert_int_equal(sessions, 2);
	tls_close(conn, 1000);
	tls_pair_free(&pair);
}

static int callbacks;

static void count_info(const SSL *ssl, int where, int ret)
{
	(void)ssl, (void)where, (void)ret;
	callbacks++;
}

static void count_message(int write, int version, int type, const void *buf,
			  size_t len, SSL *ssl, void *arg)
{
	(void)write, (void)version, (void)type, (void)buf, (void)len;
	(void)ssl, (void)arg;
	callbacks++;
}

static void call_of_an_ssl(SSL *server, SSL *client)
{
	(void)server;
	SSL_set_info_callback(client, count_info);
	SSL_set_msg_callback(client, count_message);
}

static void call_of_a_context(SSL_CTX *ssl_ctx)
{
	SSL_CTX_set_info_callback(ssl_ctx, count_info);
	SSL_CTX_set_msg_callback(ssl_ctx, count_message);
	keep_sessions(ssl_ctx);
}

/* The application has freed the SSL; a session's callback is told of it. */
static void only_the_callback_for_sessions_is_called(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct tls_pair pair;
		struct tls_conn *conn;

		open_pair(&pair, (struct tls_pair_options){
					 .prepare_ctx = i ? call_of_a_context :
							    keep_sessions,
					 .prepare = i ? NULL : call_of_an_ssl,
				 });
		conn = hand_over(&pair.client);
		SSL_set_msg_callback(pair.server, NULL);
		assert_int_equal(SSL_write(pair.server, "x", 1), 1);
		assert_true(callbacks > 10);
		sessions = callbacks = 0;
		handed_hears(conn, "x");
		assert_int_equal(sessions, 2);
		assert_int_equal(callbacks, 0);
		assert_int_equal(session_fd, pair.fd[1]);
		tls_close(conn, 1000);
		tls_pair_free(&pair);
	}
}

/* Its number is not the one that OpenSSL expects next. */
static void a_ticket_behind_data_is_taken(void **state)
{
	struct tls_pair pair;
	struct tls_conn *conn;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){
				 .prepare_ctx = keep_sessions,
				 .set_tickets = true,
			 });
	conn = hand_over(&pair.client);
	for (int i = 1; i <= 5; i++) {
		say(pair.server, "before");
		handed_hears(conn, "before");
		sessions = 0;
		assert_int_equal(SSL_new_session_ticket(pair.server), 1);
		say(pair.server, "after");
		handed_hears(conn, "after");
		assert_int_equal(sessions, 2); /* the server's, the client's */
		assert_resumes(&pair);
	}
	tls_close(conn, 1000);
	tls_pair_free(&pair);
}

static void tickets_behind_a_key_update_are_taken(void **state)
{
	struct tls_pair pair;
	struct tls_conn *conn;
	char byte;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){
				 .prepare_ctx = keep_sessions,
			 });
	conn = hand_over(&pair.client);
	say(pair.server, "old key");
	handed_hears(conn, "old key");
	SSL_key_update(pair.server, SSL_KEY_UPDATE_NOT_REQUESTED);
	say(pair.server, "x");
	if (tls_read(conn, &byte, 1) != 1)
		fail_msg("%s", tls_conn_error(conn));
	sessions = 0;
	assert_int_equal(SSL_new_session_ticket(pair.server), 1);
	say(pair.server, "new key");
	handed_hears(conn, "new key");
	assert_int_equal(sessions, 2);
	assert_resumes(&pair);
	tls_close(conn, 1000);
	tls_pair_free(&pair);
}

/* Nobody asked for data: closing is early enough. */
static void tickets_are_taken_at_close(void **state)
{
	struct tls_pair pair;
	struct tls_conn *conn;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){
				 .prepare_ctx = keep_sessions,
			 });
	conn = hand_over(&pair.client);
	sessions = 0;
	receive_records(conn, 2);
	assert_int_equal(sessions, 0); /* only in read and close */
	tls_close(conn, 1000);
	assert_int_equal(sessions, 2);
	assert_resumes(&pair);
	tls_pair_free(&pair);
}

/* OpenSSL has a record's plaintext, which came out of tls_read() first. */
static void plaintext_pending_is_not_in_the_way(void **state)
{
	struct tls_pair pair;
	struct tls_conn *conn;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){
				 .prepare_ctx = keep_sessions,
				 .set_tickets = true,
			 });
	say(pair.server, "one and a half");
	hear(pair.client, "one");
	conn = hand_over(&pair.client);
	handed_hears(conn, " and a half");
	assert_int_equal(SSL_new_session_ticket(pair.server), 1);
	sessions = 0;
	say(pair.server, "x");
	handed_hears(conn, "x");
	assert_int_equal(sessions, 2);
	assert_resumes(&pair);
	tls_close(conn, 1000);
	tls_pair_free(&pair);
}

/* ---- Where nobody wants them ------------------------------------------- */

static int freed;

static void note_freed(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int index,
		       long argl, void *argp)
{
	(void)parent, (void)ptr, (void)ad, (void)index, (void)argl, (void)argp;
	freed++;
}

static int freed_index(void)
{
	static int index = -1;

	if (index < 0)
		index = SSL_get_ex_new_index(0, NULL, NULL, NULL, note_freed);
	return index;
}

static void the_ssl_is_kept_only_where_tickets_are_wanted(void **state)
{
	(void)state;
	for (int keep = 0; keep < 2; keep++) {
		struct tls_pair pair;
		struct tls_conn *conn;
		SSL *other;

		freed_index();
		open_pair(&pair,
			  (struct tls_pair_options){
				  .prepare_ctx = keep ? keep_sessions
						      : prepare_for_handoff,
			  });
		freed = 0;
		conn = hand_over(&pair.client);
		assert_int_equal(freed, !keep);
		tls_close(conn, 1000);
		assert_int_equal(freed, 1);
		other = pair.server; /* a server has no tickets to come */
		conn = hand_over(&pair.server);
		assert_non_null(other);
		assert_int_equal(freed, 2);
		tls_close(conn, 1000);
		tls_pair_free(&pair);
	}
}

static void freeing_the_context_frees_the_ssl(void **state)
{
	struct tls_pair pair;

	(void)state;
	freed_index();
	open_pair(&pair, (struct tls_pair_options){
				 .prepare_ctx = keep_sessions,
			 });
	freed = 0;
	hand_over(&pair.client);
	assert_int_equal(freed, 0);
	tls_context_free(ctx);
	assert_int_equal(freed, 1);
	assert_int_equal(tls_context_new(&ctx, NULL), 0);
	tls_pair_free(&pair);
}

/* ---- Where there is no memory ------------------------------------------ */

static int fail_at = -1; /* the allocation of ours that fails, from now */

static bool fails(void)
{
	return fail_at >= 0 && fail_at-- == 0;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

/* Returns whether there were so many allocations. */
static bool run_without(int n)
{
	struct tls_pair pair;
	struct tls_conn *conn;
	char data[100];
	int ret;

	open_pair(&pair, (struct tls_pair_options){
				 .prepare_ctx = keep_sessions,
			 });
	sessions = 0;
	say(pair.server, "behind two tickets");
	fail_at = n;
	ret = tls_handoff(&conn, ctx, pair.client);
	if (ret) {
		assert_int_equal(ret, -ENOMEM);
		hear(pair.client, "behind two tickets");
		/* what failed holds nothing that the next needs */
		tls_close(handed_over(ctx, pair.client), 1000);
	} else if (tls_read(conn, data, sizeof(data)) == 18) {
		assert_memory_equal(data, "behind two tickets", 18);
		tls_close(conn, 1000);
	} else {
		assert_int_equal(tls_close(conn, 1000), -ENOMEM);
	}
	ret = fail_at;
	fail_at = -1;
	assert_true(sessions <= 2);
	if (ret >= 0)
		assert_int_equal(sessions, 2);
	tls_pair_free(&pair);
	return ret < 0;
}

static void want_of_memory_is_an_error_or_costs_tickets(void **state)
{
	int n = 0;

	(void)state;
	while (run_without(n))
		n++;
	assert_true(n > 4);
}

/* ---- Messages of the test's own making --------------------------------- */

/* lifetime, age_add, nonce, ticket of len bytes, no extensions */
static size_t put_ticket(uint8_t *out, size_t len)
{
	size_t body = 4 + 4 + 2 + 2 + len + 2;
	const uint8_t start[] = {
		4,
		(uint8_t)(body >> 16),
		(uint8_t)(body >> 8),
		(uint8_t)body,
		0,
		0,
		1,
		0,
		1,
		2,
		3,
		4,
		1,
		7,
		(uint8_t)(len >> 8),
		(uint8_t)len,
	};

	memcpy(out, start, sizeof(start));
	memset(out + sizeof(start), 't', len);
	memset(out + sizeof(start) + len, 0, 2);
	return sizeof(start) + len + 2;
}

/* The client is ours; the server's records are the test's. */
struct made {
	struct tls_pair pair;
	struct tls_conn *conn;
	struct handoff *server;
};

static void make(struct made *m)
{
	open_pair(&m->pair, (struct tls_pair_options){
				    .prepare_ctx = keep_sessions,
				    .set_tickets = true,
			    });
	m->server = take(m->pair.server);
	m->conn = hand_over(&m->pair.client);
	sessions = 0;
}

static void data_goes_on(struct made *m)
{
	char c;

	send_record(m->server, RECORD_DATA, "data", 4);
	handed_hears(m->conn, "data");
	assert_int_equal(recv(m->pair.fd[0], &c, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

static void unmake(struct made *m)
{
	assert_int_equal(tls_close(m->conn, 1000), 0);
	drop(m->server);
	tls_pair_free(&m->pair);
}

static void a_ticket_split_anywhere_is_taken(void **state)
{
	uint8_t message[100];
	size_t len = put_ticket(message, 40), ticket_len;
	const uint8_t *ticket;
	struct made m;

	(void)state;
	make(&m);
	for (size_t at = 1; at < len; at++) {
		send_record(m.server, RECORD_HANDSHAKE, message, at);
		send_record(m.server, RECORD_HANDSHAKE, message + at, len - at);
		data_goes_on(&m);
		assert_int_equal(sessions, at);
		SSL_SESSION_get0_ticket(latest, &ticket, &ticket_len);
		assert_int_equal(ticket_len, 40);
		assert_memory_equal(ticket, message + 16, 40);
	}
	unmake(&m);
}

static void a_ticket_larger_than_a_record_is_taken(void **state)
{
	enum { LEN = 30000 };
	static uint8_t message[LEN + 100];
	size_t len = put_ticket(message, LEN), ticket_len;
	const uint8_t *ticket;
	struct made m;

	(void)state;
	make(&m);
	send_record(m.server, RECORD_HANDSHAKE, message, 16384);
	send_record(m.server, RECORD_HANDSHAKE, message + 16384, len - 16384);
	data_goes_on(&m);
	assert_int_equal(sessions, 1);
	SSL_SESSION_get0_ticket(latest, &ticket, &ticket_len);
	assert_int_equal(ticket_len, LEN);
	unmake(&m);
}

/* OpenSSL refuses it, and must not send its alert: the stream is ours. */
static void a_bad_ticket_costs_the_tickets_not_the_stream(void **state)
{
	uint8_t message[100];
	size_t len = put_ticket(message, 40);
	struct made m;

	(void)state;
	make(&m);
	message[15]++; /* longer than the message */
	send_record(m.server, RECORD_HANDSHAKE, message, len);
	data_goes_on(&m);
	assert_int_equal(sessions, 0);
	message[15]--;
	send_record(m.server, RECORD_HANDSHAKE, message, len);
	data_goes_on(&m);
	assert_int_equal(sessions, 0);
	assert_int_equal(ERR_peek_error(), 0);
	unmake(&m);
}

static void what_waits_to_be_taken_is_bounded(void **state)
{
	static uint8_t message[5000];
	size_t len = put_ticket(message, 4000);
	struct made m;

	(void)state;
	make(&m);
	for (int i = 0; i < 20; i++)
		send_record(m.server, RECORD_HANDSHAKE, message, len);
	receive_records(m.conn, 20);
	data_goes_on(&m);
	assert_int_equal(sessions, TICKETS_WAIT_MAX / len);
	/* those taken make room again */
	send_record(m.server, RECORD_HANDSHAKE, message, len);
	data_goes_on(&m);
	assert_int_equal(sessions, TICKETS_WAIT_MAX / len + 1);
	unmake(&m);
}

/* Against the rules, and harmless. */
static void an_ssl_used_again_is_left_alone(void **state)
{
	uint8_t message[100];
	size_t len = put_ticket(message, 40);
	struct made m;
	SSL *ssl;

	(void)state;
	open_pair(&m.pair, (struct tls_pair_options){
				   .prepare_ctx = keep_sessions,
				   .set_tickets = true,
			   });
	m.server = take(m.pair.server);
	ssl = m.pair.client;
	SSL_up_ref(ssl);
	m.conn = hand_over(&m.pair.client);
	assert_int_equal(SSL_clear(ssl), 1);
	sessions = 0;
	send_record(m.server, RECORD_HANDSHAKE, message, len);
	data_goes_on(&m);
	assert_int_equal(sessions, 0);
	assert_int_equal(SSL_get_shutdown(ssl), 0);
	assert_int_equal(SSL_get_fd(ssl), m.pair.fd[1]);
	SSL_free(ssl);
	unmake(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_client_resumes_after_hand_over),
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
		TEST(any_number_of_tickets_is_taken),
		TEST(tickets_are_taken_where_fragments_are_short),
		TEST(only_the_callback_for_sessions_is_called),
		TEST(a_ticket_behind_data_is_taken),
		TEST(tickets_behind_a_key_update_are_taken),
		TEST(tickets_are_taken_at_close),
		TEST(plaintext_pending_is_not_in_the_way),
		TEST(the_ssl_is_kept_only_where_tickets_are_wanted),
		TEST(freeing_the_context_frees_the_ssl),
		TEST(want_of_memory_is_an_error_or_costs_tickets),
		TEST(a_ticket_split_anywhere_is_taken),
		TEST(a_ticket_larger_than_a_record_is_taken),
		TEST(a_bad_ticket_costs_the_tickets_not_the_stream),
		TEST(what_waits_to_be_taken_is_bounded),
		TEST(an_ssl_used_again_is_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
