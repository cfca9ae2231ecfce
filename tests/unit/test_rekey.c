/* SPDX-License-Identifier: MIT */
/*
 * KeyUpdate (RFC 8446 4.6.3) in both directions: sent when asked for and when
 * due, followed and answered when received, refused when malformed or too many.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "conn/conn.h"
#include "hostile.h"

static void send_update(int request)
{
	const uint8_t message[] = { MESSAGE_KEY_UPDATE, 0, 0, 1,
				    (uint8_t)request };

	wire_send(&w, RECORD_HANDSHAKE, message, sizeof(message));
	wire_next_keys(&w);
}

static void expect_update(int request)
{
	uint8_t type;

	assert_int_equal(wire_receive(&w, &type, content), 5);
	assert_int_equal(type, RECORD_HANDSHAKE);
	assert_int_equal(content[0], MESSAGE_KEY_UPDATE);
	assert_int_equal(content[4], request);
}

static void expect_record(const char *text)
{
	uint8_t type;

	assert_int_equal(wire_receive(&w, &type, content), strlen(text));
	assert_int_equal(type, RECORD_DATA);
	assert_memory_equal(content, text, strlen(text));
}

static void write_text(const char *text)
{
	assert_int_equal(tls_write(w.conn, text, strlen(text)), strlen(text));
}

static struct tls_stats stats(void)
{
	struct tls_stats s;

	assert_int_equal(tls_conn_stats(w.conn, &s, sizeof(s)), 0);
	return s;
}

/* ---- Received ---------------------------------------------------------- */

static void received(enum tls_context_kind kind)
{
	int i;

	begin(kind);
	for (i = 0; i < 100; i++) {
		wire_send(&w, RECORD_DATA, "before", 6);
		send_update(UPDATE_NOT_REQUESTED);
		wire_send(&w, RECORD_DATA, "after", 5);
		expect_data("before", 6);
		expect_data("after", 5);
	}
	assert_int_equal(stats().rx_rekeys, 100);
	assert_int_equal(stats().tx_rekeys, 0);
	assert_true(wire_silent(&w));
	wire_free(&w);
}

static void a_key_update_changes_what_follows_it(void **state)
{
	(void)state;
	both_kinds(received);
}

static void answered(enum tls_context_kind kind)
{
	int i;

	begin(kind);
	for (i = 0; i < 10; i++) {
		send_update(UPDATE_REQUESTED);
		wire_send(&w, RECORD_DATA, "question", 8);
		expect_data("question", 8);
		write_text("answer");
		assert_int_equal(tls_flush(w.conn), 0);
		expect_update(UPDATE_NOT_REQUESTED);
		expect_record("answer");
	}
	assert_int_equal(stats().tx_rekeys, 10);
	wire_free(&w);
}

static void an_update_requested_is_answered_before_further_data(void **state)
{
	(void)state;
	both_kinds(answered);
}

/* ... though we only read, and wait in that. */
static void answered_while_reading(enum tls_context_kind kind)
{
	uint8_t type;

	wire_new(&w, &(struct wire_options){ .kind = kind });
	send_update(UPDATE_REQUESTED);
	while (wire_silent(&w))
		tls_context_wait(w.ctx, &(struct tls_event){ 0 }, 1, 10);
	expect_update(UPDATE_NOT_REQUESTED);
	assert_int_equal(tls_shutdown(w.conn), 0);
	assert_int_equal(wire_receive(&w, &type, content), 2);
	wire_free(&w);
}

static void an_answer_waits_for_no_write(void **state)
{
	(void)state;
	both_kinds(answered_while_reading);
}

static void several_requests_are_answered_once(void **state)
{
	int i;

	(void)state;
	begin(TLS_CONTEXT_LOOP);
	for (i = 0; i < 10; i++)
		send_update(UPDATE_REQUESTED);
	wire_send(&w, RECORD_DATA, "data", 4);
	expect_data("data", 4);
	tls_context_process(w.ctx);
	expect_update(UPDATE_NOT_REQUESTED);
	assert_true(wire_silent(&w));
	assert_int_equal(stats().rx_rekeys, 10);
	wire_free(&w);
}

/*
 * The peer has read a KeyUpdate of ours that is in a send under way, and asks
 * after that: it has not been answered.
 */
static void asked_during_a_send(enum tls_context_kind kind)
{
	static uint8_t much[60000];
	const int small = 4608; /* takes a few records at once */
	const size_t half = sizeof(much) / 2;
	struct tap tap = { 0 };

	wire_new(&w, &(struct wire_options){ .kind = kind,
					     .record_size = 1000 });
	setsockopt(w.conn_fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	pattern_fill(much, 0, sizeof(much));
	assert_int_equal(tls_write(w.conn, much, half), half);
	assert_true(tls_flush(w.conn) > 0);
	/* leaves with the rest, when the socket has taken this half */
	assert_int_equal(tls_conn_update_keys(w.conn, 0), 0);
	assert_int_equal(tls_write(w.conn, much + half, half), half);
	while (tap.records <= half / 1000) {
		tls_context_process(w.ctx);
		wire_tap(&w, &tap);
	}
	send_update(UPDATE_REQUESTED);
	while (!stats().rx_rekeys)
		tls_context_wait(w.ctx, &(struct tls_event){ 0 }, 1, 10);
	while (tap.data < sizeof(much)) {
		tls_context_process(w.ctx);
		wire_tap(&w, &tap);
	}
	assert_int_equal(stats().tx_rekeys, 2);
	free(tap.bytes);
	wire_free(&w);
}

static void one_that_is_being_sent_answers_no_later_request(void **state)
{
	(void)state;
	both_kinds(asked_during_a_send);
}

static void no_answer_follows_our_close_notify(void **state)
{
	(void)state;
	begin(TLS_CONTEXT_LOOP);
	assert_int_equal(tls_shutdown(w.conn), 0);
	wire_expect_alert(&w, ALERT_CLOSE_NOTIFY);
	send_update(UPDATE_REQUESTED);
	wire_send(&w, RECORD_DATA, "data", 4);
	expect_data("data", 4);
	assert_int_equal(tls_flush(w.conn), 0);
	assert_true(wire_silent(&w));
	wire_free(&w);
}

/* ---- Sent -------------------------------------------------------------- */

static void sent(enum tls_context_kind kind)
{
	int i;

	begin(kind);
	for (i = 0; i < 20; i++) {
		int request = i & 1;

		write_text("before");
		assert_int_equal(tls_conn_update_keys(w.conn, request), 0);
		write_text("after");
		assert_int_equal(tls_flush(w.conn), 0);
		expect_record("before");
		expect_update(request);
		expect_record("after");
	}
	assert_int_equal(stats().tx_rekeys, 20);
	wire_free(&w);
}

static void the_keys_can_be_updated_at_will(void **state)
{
	(void)state;
	assert_int_equal(TLS_UPDATE_REQUESTED, UPDATE_REQUESTED);
	both_kinds(sent);
}

static void an_open_record_goes_under_the_new_keys(void **state)
{
	(void)state;
	begin(TLS_CONTEXT_LOOP);
	assert_int_equal(tls_send(w.conn, "kept ", 5, TLS_MORE), 5);
	assert_int_equal(tls_conn_update_keys(w.conn, 0), 0);
	write_text("open");
	assert_int_equal(tls_flush(w.conn), 0);
	expect_update(UPDATE_NOT_REQUESTED);
	expect_record("kept open");
	wire_free(&w);
}

static void flags_and_states_are_checked(void **state)
{
	(void)state;
	begin(TLS_CONTEXT_LOOP);
	assert_int_equal(tls_conn_update_keys(w.conn, 2), -EINVAL);
	assert_non_null(strstr(tls_last_error(), "flags"));
	assert_int_equal(tls_shutdown(w.conn), 0);
	assert_int_equal(tls_conn_update_keys(w.conn, 0), -EPIPE);
	end_stream();
	assert_int_equal(tls_read(w.conn, content, 1), -ENODATA);
	assert_int_equal(tls_conn_update_keys(w.conn, 0), -EPIPE);
	wire_free(&w);
}

/* ---- When it is due ---------------------------------------------------- */

static void keys_are_updated_before_their_limit(void **state)
{
	int i;

	(void)state;
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP,
					     .rekey_records = 3 });
	for (i = 0; i < 10; i++)
		write_text("data");
	assert_int_equal(tls_flush(w.conn), 0);
	for (i = 0; i < 10; i++) {
		if (i && i % 3 == 0)
			expect_update(UPDATE_NOT_REQUESTED);
		expect_record("data");
	}
	assert_int_equal(stats().tx_rekeys, 3);
	wire_free(&w);
}

static void ten_records_meet_silence(void)
{
	int i;

	for (i = 0; i < 10; i++) {
		assert_true(wire_silent(&w));
		wire_send(&w, RECORD_DATA, "data", 4);
		expect_data("data", 4);
		tls_context_process(w.ctx);
	}
}

static void a_peer_beyond_the_limit_is_asked_once(void **state)
{
	(void)state;
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP,
					     .blocking = true,
					     .rekey_records = 8 });
	ten_records_meet_silence();
	expect_update(UPDATE_REQUESTED);
	ten_records_meet_silence();
	assert_true(wire_silent(&w));
	send_update(UPDATE_NOT_REQUESTED);
	ten_records_meet_silence();
	expect_update(UPDATE_REQUESTED);
	wire_free(&w);
}

static void a_limit_is_not_the_end_of_tls_1_2(void **state)
{
	int i;

	(void)state;
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP,
					     .blocking = true,
					     .suite = 0xc02b,
					     .rekey_records = 3 });
	for (i = 0; i < 10; i++) {
		write_text("data");
		assert_int_equal(tls_flush(w.conn), 0);
		expect_record("data");
	}
	wire_free(&w);
}

/* ---- The last sequence number ------------------------------------------ */

static void begin_near_the_end(uint64_t tx_seq, uint64_t rx_seq, uint16_t suite)
{
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP,
					     .blocking = true,
					     .suite = suite,
					     .tx_seq = tx_seq,
					     .rx_seq = rx_seq });
}

static void our_last_number_is_a_key_updates(void **state)
{
	(void)state;
	begin_near_the_end(UINT64_MAX - 1, 0, TLS_CHACHA20_POLY1305);
	write_text("data");
	assert_int_equal(tls_flush(w.conn), 0);
	expect_update(UPDATE_NOT_REQUESTED);
	expect_record("data");
	assert_int_equal(w.conn->tx.seq, 1);
	wire_free(&w);
}

static void a_peer_has_no_record_after_its_last_number(void **state)
{
	static const uint16_t suites[] = { TLS_AES_128_GCM, 0xc02f };
	size_t i;

	(void)state;
	for (i = 0; i < 2; i++) {
		begin_near_the_end(0, UINT64_MAX - 1, suites[i]);
		wire_send(&w, RECORD_DATA, "last", 4);
		wire_send(&w, RECORD_DATA, "none", 4);
		wire_send(&w, RECORD_DATA, "none", 4);
		expect_data("last", 4);
		assert_int_equal(tls_read(w.conn, content, 4), -EKEYEXPIRED);
		assert_non_null(strstr(tls_conn_error(w.conn), "numbered"));
		tls_context_process(w.ctx);
		if (suites[i] == TLS_AES_128_GCM)
			expect_update(UPDATE_REQUESTED);
		expect_end(-EKEYEXPIRED, ALERT_INTERNAL_ERROR);
	}
}

static void a_key_update_with_the_last_number_begins_anew(void **state)
{
	(void)state;
	begin_near_the_end(0, UINT64_MAX - 1, TLS_AES_128_GCM);
	send_update(UPDATE_NOT_REQUESTED);
	wire_send(&w, RECORD_DATA, "first", 5);
	wire_send(&w, RECORD_DATA, "second", 6);
	expect_data("first", 5);
	expect_data("second", 6);
	wire_free(&w);
}

static void a_hand_over_beyond_the_last_number_is_declined(void **state)
{
	static const uint8_t secret[32];
	struct tls_secrets s = { .size = sizeof(s),
				 .cipher_suite = TLS_AES_128_GCM,
				 .secret_len = 32,
				 .tx_secret = secret,
				 .rx_secret = secret,
				 .rx_seq = UINT64_MAX };
	struct tls_conn *conn;

	(void)state;
	begin(TLS_CONTEXT_LOOP);
	assert_int_equal(tls_handoff_secrets(&conn, w.ctx, w.fd, &s), -EINVAL);
	s.rx_seq = 0;
	s.tx_seq = UINT64_MAX;
	assert_int_equal(tls_handoff_secrets(&conn, w.ctx, w.fd, &s), -EINVAL);
	assert_non_null(strstr(tls_last_error(), "2^64"));
	wire_free(&w);
}

/* ---- What is refused --------------------------------------------------- */

static void refuse(const uint8_t *message, size_t len, int alert,
		   const char *words)
{
	begin(TLS_CONTEXT_LOOP);
	wire_send(&w, RECORD_DATA, "before", 6);
	wire_send(&w, RECORD_HANDSHAKE, message, len);
	wire_next_keys(&w);
	wire_send(&w, RECORD_DATA, "after", 5);
	expect_data("before", 6);
	assert_int_equal(tls_read(w.conn, content, 1), -EPROTO);
	assert_non_null(strstr(tls_conn_error(w.conn), words));
	expect_end(-EPROTO, alert);
}

static void an_unknown_request_is_an_illegal_parameter(void **state)
{
	static const uint8_t two[] = { MESSAGE_KEY_UPDATE, 0, 0, 1, 2 };
	static const uint8_t max[] = { MESSAGE_KEY_UPDATE, 0, 0, 1, 255 };

	(void)state;
	refuse(two, sizeof(two), ALERT_ILLEGAL_PARAMETER, "asks for 2");
	refuse(max, sizeof(max), ALERT_ILLEGAL_PARAMETER, "asks for 255");
}

static void a_wrong_length_is_a_decode_error(void **state)
{
	static const uint8_t none[] = { MESSAGE_KEY_UPDATE, 0, 0, 0 };
	static const uint8_t two[] = { MESSAGE_KEY_UPDATE, 0, 0, 2, 0, 0 };
	static const uint8_t big[] = { MESSAGE_KEY_UPDATE, 1, 0, 1, 0 };

	(void)state;
	refuse(none, sizeof(none), ALERT_DECODE_ERROR, "of 0 bytes");
	refuse(two, sizeof(two), ALERT_DECODE_ERROR, "of 2 bytes");
	refuse(big, sizeof(big), ALERT_DECODE_ERROR, "of 65537 bytes");
}

static void a_message_behind_a_key_update_is_unexpected(void **state)
{
	static const uint8_t two[] = { MESSAGE_KEY_UPDATE, 0, 0, 1, 0,
				       MESSAGE_KEY_UPDATE, 0, 0, 1, 0 };

	(void)state;
	refuse(two, sizeof(two), ALERT_UNEXPECTED_MESSAGE, "does not end");
	refuse(two, 6, ALERT_UNEXPECTED_MESSAGE, "does not end");
}

/* RFC 8446 5.1 allows that for any message. */
static void a_key_update_may_be_split(void **state)
{
	static const uint8_t message[] = { MESSAGE_KEY_UPDATE, 0, 0, 1, 0 };
	size_t at;

	(void)state;
	begin(TLS_CONTEXT_LOOP);
	for (at = 1; at < sizeof(message); at++) {
		wire_send(&w, RECORD_HANDSHAKE, message, at);
		wire_send(&w, RECORD_HANDSHAKE, message + at,
			  sizeof(message) - at);
		wire_next_keys(&w);
		wire_send(&w, RECORD_DATA, "data", 4);
		expect_data("data", 4);
	}
	wire_free(&w);
}

static void a_key_update_may_come_behind_a_ticket(void **state)
{
	static const uint8_t both[] = { MESSAGE_NEW_SESSION_TICKET, 0, 0, 2, 7,
					7, MESSAGE_KEY_UPDATE, 0, 0, 1, 0 };

	(void)state;
	begin_client();
	wire_send(&w, RECORD_HANDSHAKE, both, sizeof(both));
	wire_next_keys(&w);
	wire_send(&w, RECORD_DATA, "data", 4);
	expect_data("data", 4);
	assert_int_equal(stats().rx_rekeys, 1);
	wire_free(&w);
}

static void data_under_the_old_keys_does_not_authenticate(void **state)
{
	static const uint8_t message[] = { MESSAGE_KEY_UPDATE, 0, 0, 1, 0 };

	(void)state;
	begin(TLS_CONTEXT_LOOP);
	wire_send(&w, RECORD_HANDSHAKE, message, sizeof(message));
	wire_send(&w, RECORD_DATA, "data", 4);
	expect_end(-EBADMSG, ALERT_BAD_RECORD_MAC);
}

static void data_under_the_new_keys_needs_a_key_update(void **state)
{
	(void)state;
	begin(TLS_CONTEXT_LOOP);
	wire_send(&w, RECORD_DATA, "data", 4);
	wire_next_keys(&w);
	wire_send(&w, RECORD_DATA, "data", 4);
	expect_data("data", 4);
	expect_end(-EBADMSG, ALERT_BAD_RECORD_MAC);
}

static void a_flood(enum tls_context_kind kind)
{
	int i;

	begin(kind);
	for (i = 0; i < 32; i++)
		send_update(i & 1);
	wire_send(&w, RECORD_DATA, "data", 4);
	for (i = 0; i < 33; i++) {
		send_update(UPDATE_NOT_REQUESTED);
		wire_send(&w, RECORD_DATA, "", 0); /* is none */
	}
	expect_data("data", 4);
	assert_int_equal(tls_read(w.conn, content, 1), -EPROTO);
	assert_non_null(strstr(tls_conn_error(w.conn), "more than 32"));
	tls_context_process(w.ctx);
	expect_update(UPDATE_NOT_REQUESTED);
	expect_end(-EPROTO, ALERT_UNEXPECTED_MESSAGE);
}

static void a_flood_of_key_updates_is_unexpected(void **state)
{
	(void)state;
	both_kinds(a_flood);
}

/*
 * A peer that asks with every record it reads, as Java's does past its limit,
 * and has nothing to say itself: so many are paid for by the records that were
 * sent; more are a flood.
 */
static void asked_for_each_and_more(enum tls_context_kind kind)
{
	enum { SENT = 50 };
	int i;

	begin(kind);
	for (i = 0; i < SENT; i++) {
		write_text("data");
		assert_int_equal(tls_flush(w.conn), 0);
		expect_record("data");
	}
	for (i = 0; i < SENT + 32; i++)
		send_update(UPDATE_NOT_REQUESTED);
	wire_send(&w, RECORD_DATA, "data", 4);
	expect_data("data", 4);
	assert_int_equal(stats().rx_rekeys, SENT + 32);
	for (i = 0; i < 33; i++)
		send_update(UPDATE_NOT_REQUESTED);
	expect_end(-EPROTO, ALERT_UNEXPECTED_MESSAGE);
}

static void requests_that_our_data_prompts_are_no_flood(void **state)
{
	(void)state;
	both_kinds(asked_for_each_and_more);
}

/* All that is paid for at once: one call takes some, and the next goes on. */
static void a_burst(enum tls_context_kind kind)
{
	enum { SENT = 600, MOST = 300 };
	static const uint8_t update[] = { MESSAGE_KEY_UPDATE, 0, 0, 1, 0 };
	static uint8_t burst[(SENT + 1) * 32];
	uint64_t before = 0, now;
	size_t len = 0;
	int i, calls;

	begin(kind);
	for (i = 0; i < SENT; i++) {
		write_text("data");
		assert_int_equal(tls_flush(w.conn), 0);
		expect_record("data");
	}
	for (i = 0; i < SENT; i++) {
		len += wire_seal(&w, RECORD_HANDSHAKE, update, sizeof(update),
				 0, burst + len);
		wire_next_keys(&w);
	}
	len += wire_seal(&w, RECORD_DATA, "data", 4, 0, burst + len);
	wire_send_raw(&w, burst, len);
	for (calls = 0; before < SENT; calls++) {
		assert_int_equal(tls_context_process(w.ctx), 0);
		now = stats().rx_rekeys;
		assert_in_range(now - before, 0, MOST);
		before = now;
	}
	assert_true(calls > 1);
	expect_data("data", 4);
	wire_free(&w);
}

static void a_call_takes_so_many_key_updates_and_no_more(void **state)
{
	(void)state;
	both_kinds(a_burst);
}

/*
 * Who only sends may ask as often as it likes: the peer has to answer. (And one
 * for each record of data is no flood either.)
 */
static void asked(enum tls_context_kind kind)
{
	int i;

	begin(kind);
	for (i = 0; i < 100; i++) {
		assert_int_equal(tls_conn_update_keys(w.conn,
						      TLS_UPDATE_REQUESTED),
				 0);
		write_text("data");
		assert_int_equal(tls_flush(w.conn), 0);
		expect_update(UPDATE_REQUESTED);
		expect_record("data");
		/* the peer's own updates, with data, do not count as answers */
		send_update(UPDATE_NOT_REQUESTED);
		wire_send(&w, RECORD_DATA, "more", 4);
		expect_data("more", 4);
	}
	for (i = 0; i < 100 + 100 + 32; i++)
		send_update(UPDATE_NOT_REQUESTED);
	wire_send(&w, RECORD_DATA, "data", 4);
	expect_data("data", 4);
	assert_int_equal(stats().rx_rekeys, 100 + 100 + 100 + 32);
	for (i = 0; i < 33; i++)
		send_update(UPDATE_NOT_REQUESTED);
	expect_end(-EPROTO, ALERT_UNEXPECTED_MESSAGE);
}

static void answers_are_no_flood(void **state)
{
	(void)state;
	both_kinds(asked);
}

#define TEST(name) cmocka_unit_test(name)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_key_update_changes_what_follows_it),
		TEST(an_update_requested_is_answered_before_further_data),
		TEST(an_answer_waits_for_no_write),
		TEST(several_requests_are_answered_once),
		TEST(one_that_is_being_sent_answers_no_later_request),
		TEST(no_answer_follows_our_close_notify),
		TEST(the_keys_can_be_updated_at_will),
		TEST(an_open_record_goes_under_the_new_keys),
		TEST(flags_and_states_are_checked),
		TEST(keys_are_updated_before_their_limit),
		TEST(a_peer_beyond_the_limit_is_asked_once),
		TEST(a_limit_is_not_the_end_of_tls_1_2),
		TEST(our_last_number_is_a_key_updates),
		TEST(a_peer_has_no_record_after_its_last_number),
		TEST(a_key_update_with_the_last_number_begins_anew),
		TEST(a_hand_over_beyond_the_last_number_is_declined),
		TEST(an_unknown_request_is_an_illegal_parameter),
		TEST(a_wrong_length_is_a_decode_error),
		TEST(a_message_behind_a_key_update_is_unexpected),
		TEST(a_key_update_may_be_split),
		TEST(a_key_update_may_come_behind_a_ticket),
		TEST(data_under_the_old_keys_does_not_authenticate),
		TEST(data_under_the_new_keys_needs_a_key_update),
		TEST(a_flood_of_key_updates_is_unexpected),
		TEST(answers_are_no_flood),
		TEST(requests_that_our_data_prompts_are_no_flood),
		TEST(a_call_takes_so_many_key_updates_and_no_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
