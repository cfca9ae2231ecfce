/* SPDX-License-Identifier: MIT */
/*
 * Alerts and post-handshake messages, in every shape: what each means, and
 * which of them ends the connection.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hostile.h"

enum {
	ALERT_HANDSHAKE_FAILURE = 40,
};

/* ---- Alerts ------------------------------------------------------------ */

static const uint8_t close_notify_alert[2] = { 1, ALERT_CLOSE_NOTIFY };

static void send_alert(uint8_t level, uint8_t description)
{
	const uint8_t alert[2] = { level, description };

	wire_send(&w, RECORD_ALERT, alert, 2);
}

static void close_notify(enum tls_context_kind kind)
{
	int i;

	begin(kind);
	wire_send(&w, RECORD_DATA, "last", 4);
	wire_send(&w, RECORD_ALERT, close_notify_alert, 2);
	wire_send(&w, RECORD_DATA, "too late", 8);
	wire_send_raw(&w, "and garbage", 11);
	end_stream();
	expect_data("last", 4);
	for (i = 0; i < 5; i++)
		assert_int_equal(tls_read(w.conn, content, 100), 0);
	assert_int_equal(tls_conn_alert_received(w.conn), ALERT_CLOSE_NOTIFY);
	assert_int_equal(tls_conn_alert_sent(w.conn), ALERT_NONE);
	assert_string_equal(tls_conn_error(w.conn), "");
	assert_int_equal(tls_close(w.conn, 1000), 0);
	w.conn = NULL;
	wire_expect_alert(&w, ALERT_CLOSE_NOTIFY);
	wire_free(&w);
}

static void close_notify_is_the_end_of_file_every_time(void **state)
{
	(void)state;
	both_kinds(close_notify);
}

static void half_close(enum tls_context_kind kind)
{
	uint8_t type;

	begin(kind);
	wire_send(&w, RECORD_ALERT, close_notify_alert, 2);
	assert_int_equal(tls_read(w.conn, content, 100), 0);
	assert_int_equal(tls_write(w.conn, "answer", 6), 6);
	assert_int_equal(tls_flush(w.conn), 0);
	assert_int_equal(wire_receive(&w, &type, content), 6);
	assert_int_equal(type, RECORD_DATA);
	assert_memory_equal(content, "answer", 6);
	assert_int_equal(tls_read(w.conn, content, 100), 0);
	wire_free(&w);
}

static void writing_goes_on_after_the_peers_close_notify(void **state)
{
	(void)state;
	both_kinds(half_close);
}

static void reading_goes_on_after_our_close_notify(void **state)
{
	(void)state;
	begin(TLS_CONTEXT_WORKER);
	assert_int_equal(tls_shutdown(w.conn), 0);
	assert_int_equal(tls_write(w.conn, "x", 1), -EPIPE);
	wire_expect_alert(&w, ALERT_CLOSE_NOTIFY);
	assert_int_equal(tls_conn_alert_sent(w.conn), ALERT_CLOSE_NOTIFY);
	wire_send(&w, RECORD_DATA, "still", 5);
	wire_send(&w, RECORD_ALERT, close_notify_alert, 2);
	expect_data("still", 5);
	assert_int_equal(tls_read(w.conn, content, 1), 0);
	assert_int_equal(tls_close(w.conn, 1000), 0);
	w.conn = NULL;
	assert_true(wire_silent(&w)); /* close_notify is sent once */
	wire_free(&w);
}

static void fatal_alert(enum tls_context_kind kind)
{
	uint8_t level;

	for (level = 1; level <= 2; level++) { /* which RFC 8446 ignores */
		begin(kind);
		wire_send(&w, RECORD_DATA, "before", 6);
		send_alert(level, ALERT_HANDSHAKE_FAILURE);
		expect_data("before", 6);
		assert_int_equal(tls_read(w.conn, content, 1), -EPROTO);
		assert_int_equal(tls_conn_alert_received(w.conn),
				 ALERT_HANDSHAKE_FAILURE);
		assert_non_null(strstr(tls_conn_error(w.conn), "alert 40"));
		expect_end(-EPROTO, ALERT_NONE);
	}
}

static void the_peers_fatal_alert_is_told(void **state)
{
	(void)state;
	both_kinds(fatal_alert);
}

static void user_canceled_waits_for_close_notify(void **state)
{
	(void)state;
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP });
	send_alert(1, ALERT_USER_CANCELED);
	assert_int_equal(tls_read(w.conn, content, 1), -EAGAIN);
	wire_send(&w, RECORD_ALERT, close_notify_alert, 2);
	set_blocking(w.conn_fd, true);
	assert_int_equal(tls_read(w.conn, content, 1), 0);
	wire_free(&w);
}

static void an_alert_of_another_length_is_a_decode_error(void **state)
{
	static const uint8_t bytes[4] = { 1, 0, 1, 0 };
	static const size_t lens[] = { 1, 3, 4 };
	size_t i;

	(void)state;
	for (i = 0; i < 3; i++) {
		begin(TLS_CONTEXT_LOOP);
		wire_send(&w, RECORD_ALERT, bytes, lens[i]);
		expect_end(-EPROTO, ALERT_DECODE_ERROR);
	}
}

static void an_empty_alert_is_unexpected(void **state)
{
	(void)state;
	begin(TLS_CONTEXT_LOOP);
	wire_send(&w, RECORD_ALERT, "", 0);
	expect_end(-EPROTO, ALERT_UNEXPECTED_MESSAGE);
}

static void more_than_32_warnings_in_a_row_are_unexpected(void **state)
{
	int i;

	(void)state;
	begin(TLS_CONTEXT_LOOP);
	for (i = 0; i < 32; i++)
		send_alert(1, ALERT_USER_CANCELED);
	wire_send(&w, RECORD_DATA, "data", 4);
	expect_data("data", 4);
	for (i = 0; i < 33; i++)
		send_alert(1, ALERT_USER_CANCELED);
	expect_end(-EPROTO, ALERT_UNEXPECTED_MESSAGE);
}

/* ---- Handshake messages ------------------------------------------------ */

enum { TICKET_BODY = 20, TICKET = 4 + TICKET_BODY };
static const uint8_t ticket[TICKET] = { MESSAGE_NEW_SESSION_TICKET, 0, 0, TICKET_BODY };

static void a_client_skips_tickets_split_anywhere(void **state)
{
	size_t at;

	(void)state;
	begin_client();
	for (at = 1; at < TICKET; at++) {
		wire_send(&w, RECORD_HANDSHAKE, ticket, at);
		wire_send(&w, RECORD_HANDSHAKE, ticket + at, TICKET - at);
		wire_send(&w, RECORD_DATA, "data", 4);
		expect_data("data", 4);
	}
	wire_free(&w);
}

static void a_client_skips_a_ticket_of_one_byte_records(void **state)
{
	size_t at;

	(void)state;
	begin_client();
	for (at = 0; at < TICKET; at++)
		wire_send(&w, RECORD_HANDSHAKE, ticket + at, 1);
	wire_send(&w, RECORD_DATA, "data", 4);
	expect_data("data", 4);
	wire_free(&w);
}

static void a_client_skips_tickets_that_share_a_record(void **state)
{
	uint8_t two[2 * TICKET];

	(void)state;
	begin_client();
	memcpy(two, ticket, TICKET);
	memcpy(two + TICKET, ticket, TICKET);
	wire_send(&w, RECORD_HANDSHAKE, two, sizeof(two));
	/* and one whose header is in this record, the rest in the next */
	wire_send(&w, RECORD_HANDSHAKE, two, TICKET + 4);
	wire_send(&w, RECORD_HANDSHAKE, two + TICKET + 4, TICKET_BODY);
	wire_send(&w, RECORD_DATA, "data", 4);
	expect_data("data", 4);
	wire_free(&w);
}

static void a_ticket_at_a_server_is_unexpected(void **state)
{
	(void)state;
	begin(TLS_CONTEXT_LOOP);
	wire_send(&w, RECORD_HANDSHAKE, ticket, TICKET);
	expect_end(-EPROTO, ALERT_UNEXPECTED_MESSAGE);
}

static void another_handshake_message_is_unexpected(void **state)
{
	static const uint8_t types[] = { 0, 1, 2, 8, 11, 13, 20, 254 };
	uint8_t message[4] = { 0 };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(types); i++) {
		begin_client();
		message[0] = types[i];
		wire_send(&w, RECORD_HANDSHAKE, message, sizeof(message));
		expect_end(-EPROTO, ALERT_UNEXPECTED_MESSAGE);
	}
}

enum { BURST = 32 };

/* Legal (RFC 8446 5.1), and more of them than the line has places. */
static void a_burst(enum tls_context_kind kind)
{
	int i, turn;

	begin(kind);
	for (turn = 0; turn < 6; turn++) {
		for (i = 0; i < BURST; i++)
			wire_send(&w, RECORD_DATA, "", 0);
		wire_send(&w, RECORD_DATA, "data", 4);
	}
	for (turn = 0; turn < 6; turn++)
		expect_data("data", 4);
	wire_free(&w);
}

/* They change nothing, and cost an operation each. */
static void too_long_a_burst(enum tls_context_kind kind)
{
	int i;

	begin(kind);
	for (i = 0; i < BURST + 1; i++)
		wire_send(&w, RECORD_DATA, "", 0);
	wire_send(&w, RECORD_DATA, "data", 4);
	expect_end(-EPROTO, ALERT_UNEXPECTED_MESSAGE);
}

static void more_than_32_empty_records_in_a_row_are_unexpected(void **state)
{
	(void)state;
	both_kinds(too_long_a_burst);
}

static void tickets_until_told_off(int number, const char *end)
{
	int i;

	begin_client();
	for (i = 0; i < number; i++)
		wire_send(&w, RECORD_HANDSHAKE, ticket, TICKET);
	wire_send(&w, RECORD_DATA, "data", 4);
	if (end) {
		expect_end(-EPROTO, ALERT_UNEXPECTED_MESSAGE);
		return;
	}
	expect_data("data", 4);
	wire_free(&w);
}

static void more_than_32_tickets_in_a_row_are_unexpected(void **state)
{
	(void)state;
	tickets_until_told_off(BURST, NULL);
	tickets_until_told_off(BURST + 1, "told off");
}

static void a_burst_of_empty_records_is_passed_over(void **state)
{
	(void)state;
	both_kinds(a_burst);
}

static void an_empty_handshake_record_is_unexpected(void **state)
{
	(void)state;
	begin_client();
	wire_send(&w, RECORD_HANDSHAKE, "", 0);
	expect_end(-EPROTO, ALERT_UNEXPECTED_MESSAGE);
}

static void data_inside_a_handshake_message_is_unexpected(void **state)
{
	(void)state;
	begin_client();
	wire_send(&w, RECORD_HANDSHAKE, ticket, 10);
	wire_send(&w, RECORD_DATA, "between", 7);
	expect_end(-EPROTO, ALERT_UNEXPECTED_MESSAGE);
}

static void a_closure_inside_a_handshake_message_is_unexpected(void **state)
{
	(void)state;
	begin_client();
	wire_send(&w, RECORD_HANDSHAKE, ticket, 10);
	wire_send(&w, RECORD_ALERT, close_notify_alert, 2);
	expect_end(-EPROTO, ALERT_UNEXPECTED_MESSAGE);
}

static void a_fatal_alert_inside_a_handshake_message_is_told(void **state)
{
	(void)state;
	begin_client();
	wire_send(&w, RECORD_HANDSHAKE, ticket, 10);
	send_alert(2, ALERT_INTERNAL_ERROR);
	assert_int_equal(tls_read(w.conn, content, 1), -EPROTO);
	assert_int_equal(tls_conn_alert_received(w.conn), ALERT_INTERNAL_ERROR);
	expect_end(-EPROTO, ALERT_NONE);
}

static void a_ticket_longer_than_its_vectors_does_not_decode(void **state)
{
	static const uint8_t longest[] = { MESSAGE_NEW_SESSION_TICKET,
					   MESSAGE_TICKET_MAX >> 16,
					   MESSAGE_TICKET_MAX >> 8 & 255,
					   MESSAGE_TICKET_MAX & 255 };
	uint8_t longer[4];

	(void)state;
	memcpy(longer, longest, 4);
	longer[3]++;
	begin_client();
	wire_send(&w, RECORD_HANDSHAKE, longer, 4);
	expect_end(-EPROTO, ALERT_DECODE_ERROR);
	begin_client();
	set_blocking(w.conn_fd, false);
	wire_send(&w, RECORD_HANDSHAKE, longest, 4);
	tls_context_process(w.ctx);
	assert_int_equal(tls_read(w.conn, content, 1), -EAGAIN);
	wire_free(&w);
}

/* RFC 8446 4.6.2: it has not offered post_handshake_auth as far as we know. */
static void a_certificate_request_is_unexpected_and_explained(void **state)
{
	static const uint8_t request[] = { MESSAGE_CERTIFICATE_REQUEST, 0, 0, 3,
					   0, 0, 0 };

	(void)state;
	begin_client();
	wire_send(&w, RECORD_HANDSHAKE, request, sizeof(request));
	assert_int_equal(tls_read(w.conn, content, 1), -EPROTO);
	assert_non_null(strstr(tls_conn_error(w.conn), "certificate"));
	expect_end(-EPROTO, ALERT_UNEXPECTED_MESSAGE);
}

#define TEST(name) cmocka_unit_test(name)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(close_notify_is_the_end_of_file_every_time),
		TEST(writing_goes_on_after_the_peers_close_notify),
		TEST(reading_goes_on_after_our_close_notify),
		TEST(the_peers_fatal_alert_is_told),
		TEST(user_canceled_waits_for_close_notify),
		TEST(an_alert_of_another_length_is_a_decode_error),
		TEST(an_empty_alert_is_unexpected),
		TEST(more_than_32_warnings_in_a_row_are_unexpected),
		TEST(a_client_skips_tickets_split_anywhere),
		TEST(a_client_skips_a_ticket_of_one_byte_records),
		TEST(a_client_skips_tickets_that_share_a_record),
		TEST(a_ticket_at_a_server_is_unexpected),
		TEST(another_handshake_message_is_unexpected),
		TEST(a_burst_of_empty_records_is_passed_over),
		TEST(more_than_32_empty_records_in_a_row_are_unexpected),
		TEST(more_than_32_tickets_in_a_row_are_unexpected),
		TEST(an_empty_handshake_record_is_unexpected),
		TEST(data_inside_a_handshake_message_is_unexpected),
		TEST(a_closure_inside_a_handshake_message_is_unexpected),
		TEST(a_fatal_alert_inside_a_handshake_message_is_told),
		TEST(a_ticket_longer_than_its_vectors_does_not_decode),
		TEST(a_certificate_request_is_unexpected_and_explained),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
