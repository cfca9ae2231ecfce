/* SPDX-License-Identifier: MIT */
/*
 * A peer that breaks the protocol, or breaks off: which error and which alert
 * each fault gets, that nothing unauthenticated is read, and that what is
 * legal is taken whatever its shape.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "hostile.h"
#include "keys/keys.h"

/* ---- What is no record ------------------------------------------------- */

static void send_then_fail(enum tls_context_kind kind, const void *bytes,
			   size_t len, int error, int alert)
{
	begin(kind);
	wire_send_raw(&w, bytes, len);
	expect_end(error, alert);
}

static void garbage_of(enum tls_context_kind kind)
{
	static const char http[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
	static const uint8_t sslv2[] = { 0x80, 0x2e, 1, 0, 2, 0, 0x15, 0 };
	static const uint8_t zero[64], ones[] = { 255, 255, 255, 255, 255 };

	send_then_fail(kind, http, strlen(http), -EPROTO, 10);
	send_then_fail(kind, sslv2, sizeof(sslv2), -EPROTO, 10);
	send_then_fail(kind, zero, sizeof(zero), -EPROTO, 10);
	send_then_fail(kind, ones, sizeof(ones), -EPROTO, 10);
}

static void garbage_is_an_unexpected_message(void **state)
{
	(void)state;
	both_kinds(garbage_of);
}

static void cleartext_of(enum tls_context_kind kind)
{
	static const uint8_t ccs[] = { 20, 3, 3, 0, 1, 1 };
	static const uint8_t close_notify[] = { 21, 3, 3, 0, 2, 1, 0 };
	static const uint8_t hello_request[] = { 22, 3, 3, 0, 4, 0, 0, 0, 0 };
	static const uint8_t heartbeat[] = { 24, 3, 3, 0, 3, 1, 0, 0 };

	send_then_fail(kind, ccs, sizeof(ccs), -EPROTO, 10);
	send_then_fail(kind, close_notify, sizeof(close_notify), -EPROTO, 10);
	send_then_fail(kind, hello_request, sizeof(hello_request), -EPROTO, 10);
	send_then_fail(kind, heartbeat, sizeof(heartbeat), -EPROTO, 10);
}

static void a_record_in_the_clear_is_an_unexpected_message(void **state)
{
	(void)state;
	both_kinds(cleartext_of);
}

/* ---- Lengths ----------------------------------------------------------- */

static void too_long(enum tls_context_kind kind)
{
	static const uint8_t header[] = { 23, 3, 3, 0x41, 0x01 };

	send_then_fail(kind, header, sizeof(header), -EMSGSIZE, 22);
}

static void a_body_over_the_limit_is_a_record_overflow(void **state)
{
	(void)state;
	both_kinds(too_long);
}

static void content_too_long(enum tls_context_kind kind)
{
	size_t len;

	begin(kind);
	memset(content, 'x', sizeof(content));
	len = wire_seal(&w, RECORD_DATA, content, RECORD_PLAIN_MAX + 1, 0,
			record);
	wire_send_raw(&w, record, len);
	expect_end(-EMSGSIZE, ALERT_RECORD_OVERFLOW);
}

static void content_over_the_limit_is_a_record_overflow(void **state)
{
	(void)state;
	both_kinds(content_too_long);
}

static void longest_with(size_t len, size_t pad)
{
	pattern_fill(content, 0, len);
	wire_send_raw(&w, record, wire_seal(&w, RECORD_DATA, content, len, pad,
					    record));
	memset(content, 0, sizeof(content));
	assert_int_equal(tls_read(w.conn, content, sizeof(content)), len);
	pattern_check(content, 0, len);
}

static void the_longest_record_is_read(void **state)
{
	(void)state;
	begin(TLS_CONTEXT_LOOP);
	longest_with(RECORD_PLAIN_MAX, 0);
	longest_with(RECORD_PLAIN_MAX - 1, 1);
	longest_with(1, RECORD_PLAIN_MAX - 1);
	wire_free(&w);
}

static void padding_over_the_limit_is_a_record_overflow(void **state)
{
	/* content, type and padding: 2^14 + 2; and all that a body can hold */
	static const size_t pads[] = { RECORD_PLAIN_MAX - 9,
				       RECORD_PLAIN_MAX + 229 };
	size_t i;

	(void)state;
	for (i = 0; i < 2; i++) {
		begin(TLS_CONTEXT_LOOP);
		wire_send_raw(&w, record,
			      wire_seal(&w, RECORD_DATA, "0123456789", 10,
					pads[i], record));
		expect_end(-EMSGSIZE, ALERT_RECORD_OVERFLOW);
	}
}

static void a_forged_body_of_any_short_length_is_a_bad_record(void **state)
{
	size_t len;

	(void)state;
	for (len = 0; len <= 40; len++) {
		begin(TLS_CONTEXT_LOOP);
		memset(record, 0x5a, sizeof(record));
		record_put_prefix(w.seal->format, record, RECORD_DATA, 0, len);
		wire_send_raw(&w, record, RECORD_HEADER + len);
		expect_end(-EBADMSG, ALERT_BAD_RECORD_MAC);
	}
}

/* ---- Bits -------------------------------------------------------------- */

struct expected {
	int error, alert;
};

/* For bit of a record whose body has 23 bytes. */
static struct expected of_flipped(unsigned bit)
{
	unsigned body = 23 ^ (bit / 8 == 3 ? 256u << bit % 8 :
					     bit / 8 == 4 ? 1u << bit % 8 : 0);

	switch (bit / 8) {
	case 0: /* type */
		return (struct expected){ -EPROTO, ALERT_UNEXPECTED_MESSAGE };
	case 1: /* version */
	case 2:
		return (struct expected){ -EPROTO, ALERT_DECODE_ERROR };
	}
	if (body > RECORD_BODY_MAX_TLS13)
		return (struct expected){ -EMSGSIZE, ALERT_RECORD_OVERFLOW };
	if (body > 23) /* waited for until the stream ends */
		return (struct expected){ -ENODATA, ALERT_NONE };
	return (struct expected){ -EBADMSG, ALERT_BAD_RECORD_MAC };
}

static void flip_each_bit(enum tls_context_kind kind)
{
	unsigned bit, bits = 8;

	for (bit = 0; bit < bits; bit++) {
		const struct expected e = of_flipped(bit);
		size_t len;

		begin(kind);
		len = wire_seal(&w, RECORD_DATA, "secret", 6, 0, record);
		bits = (unsigned)len * 8;
		record[bit / 8] ^= (uint8_t)(1u << bit % 8);
		wire_send_raw(&w, record, len);
		end_stream();
		expect_end(e.error, e.alert);
	}
	assert_int_equal(bits, (5 + 23) * 8);
}

static void a_record_with_any_bit_flipped_is_refused(void **state)
{
	(void)state;
	both_kinds(flip_each_bit);
}

/* ---- Order ------------------------------------------------------------- */

static void replay(enum tls_context_kind kind)
{
	size_t len;

	begin(kind);
	len = wire_seal(&w, RECORD_DATA, "once", 4, 0, record);
	wire_send_raw(&w, record, len);
	wire_send_raw(&w, record, len);
	expect_data("once", 4);
	expect_end(-EBADMSG, ALERT_BAD_RECORD_MAC);
}

static void a_replayed_record_is_a_bad_record(void **state)
{
	(void)state;
	both_kinds(replay);
}

static void a_missing_record_is_a_bad_record(void **state)
{
	(void)state;
	begin(TLS_CONTEXT_LOOP);
	w.seal_seq++;
	wire_send(&w, RECORD_DATA, "second", 6);
	expect_end(-EBADMSG, ALERT_BAD_RECORD_MAC);
}

static void a_record_sent_back_to_us_is_a_bad_record(void **state)
{
	ssize_t n;

	(void)state;
	begin(TLS_CONTEXT_WORKER);
	tls_write(w.conn, "mine", 4);
	tls_flush(w.conn);
	n = recv(w.fd, record, sizeof(record), 0);
	assert_int_equal(n, 4 + RECORD_OVERHEAD);
	wire_send_raw(&w, record, (size_t)n);
	w.open_seq = 1;
	expect_end(-EBADMSG, ALERT_BAD_RECORD_MAC);
}

/* ---- Nothing inside ---------------------------------------------------- */

static void empty_records_in_a_row(enum tls_context_kind kind)
{
	int i;

	wire_new(&w, &(struct wire_options){ .kind = kind });
	for (i = 1; i <= 1000; i++) {
		wire_send(&w, RECORD_DATA, "", 0);
		if (i != 1 && i % 30)
			continue;
		tls_context_process(w.ctx);
		assert_int_equal(tls_read(w.conn, content, 10), -EAGAIN);
		wire_send(&w, RECORD_DATA, "data", 4);
		set_blocking(w.conn_fd, true);
		expect_data("data", 4);
		set_blocking(w.conn_fd, false);
	}
	wire_free(&w);
}

static void empty_records_are_no_end_of_file(void **state)
{
	(void)state;
	both_kinds(empty_records_in_a_row);
}

static void padding_of_any_length_is_taken_off(void **state)
{
	size_t pad, len;

	(void)state;
	begin(TLS_CONTEXT_LOOP);
	for (pad = 0; pad <= 255; pad++) {
		len = wire_seal(&w, RECORD_DATA, "tiny", 4, pad, record);
		assert_int_equal(len, 4 + RECORD_OVERHEAD + pad);
		wire_send_raw(&w, record, len);
		assert_int_equal(tls_read(w.conn, content, 100), 4);
		assert_memory_equal(content, "tiny", 4);
	}
	wire_free(&w);
}

static void content_that_ends_in_zeros_keeps_them(void **state)
{
	static const uint8_t zeros[100];

	(void)state;
	begin(TLS_CONTEXT_LOOP);
	wire_send_raw(&w, record, wire_seal(&w, RECORD_DATA, zeros, 100, 100,
					    record));
	assert_int_equal(tls_read(w.conn, content, 1000), 100);
	assert_memory_equal(content, zeros, 100);
	wire_free(&w);
}

static void a_record_of_nothing_but_padding_is_unexpected(void **state)
{
	static const size_t pads[] = { 0, 1, 100, RECORD_PLAIN_MAX };
	size_t i;

	(void)state;
	for (i = 0; i < 4; i++) {
		begin(TLS_CONTEXT_WORKER);
		wire_send_raw(&w, record,
			      wire_seal(&w, 0, "", 0, pads[i], record));
		expect_end(-EPROTO, ALERT_UNEXPECTED_MESSAGE);
	}
}

static void a_sealed_body_of_only_a_tag_is_unexpected(void **state)
{
	(void)state;
	begin(TLS_CONTEXT_LOOP);
	/* (size_t)-1 of padding takes the type byte away */
	wire_send_raw(&w, record,
		      wire_seal(&w, 0, "", 0, (size_t)-1, record));
	assert_int_equal(record[4], RECORD_TAG);
	expect_end(-EPROTO, ALERT_UNEXPECTED_MESSAGE);
}

static void a_record_of_an_unknown_type_is_unexpected(void **state)
{
	static const uint8_t types[] = { 1, 19, 20, 24, 255 };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(types); i++) {
		begin(TLS_CONTEXT_LOOP);
		wire_send(&w, types[i], "\x01", 1);
		expect_end(-EPROTO, ALERT_UNEXPECTED_MESSAGE);
	}
}

/* ---- Truncation -------------------------------------------------------- */

static void expect_truncated(void)
{
	assert_int_equal(tls_read(w.conn, content, 100), -ENODATA);
	assert_non_null(strstr(tls_conn_error(w.conn), "truncated"));
	expect_end(-ENODATA, ALERT_NONE);
}

static void truncate_after(enum tls_context_kind kind)
{
	size_t len, keep;

	begin(kind);
	end_stream(); /* right after the hand-over */
	expect_truncated();

	begin(kind);
	wire_send(&w, RECORD_DATA, "whole", 5);
	end_stream();
	expect_data("whole", 5);
	expect_truncated();

	for (keep = 1; keep < 5 + RECORD_OVERHEAD; keep++) {
		begin(kind);
		len = wire_seal(&w, RECORD_DATA, "whole", 5, 0, record);
		assert_true(keep < len);
		wire_send_raw(&w, record, keep);
		end_stream();
		expect_truncated();
	}
}

static void an_end_without_close_notify_is_a_truncation(void **state)
{
	(void)state;
	both_kinds(truncate_after);
}

static void reset(enum tls_context_kind kind)
{
	const struct linger now = { .l_onoff = 1 };

	wire_new(&w, &(struct wire_options){ .kind = kind,
					     .blocking = true,
					     .tcp = true });
	wire_send(&w, RECORD_DATA, "x", 1);
	expect_data("x", 1);
	setsockopt(w.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(w.fd);
	w.fd = -1;
	assert_int_equal(tls_read(w.conn, content, 1), -ECONNRESET);
	assert_int_not_equal(strlen(tls_conn_error(w.conn)), 0);
	expect_sticky(-ECONNRESET);
	wire_free(&w);
}

static void a_reset_is_an_error(void **state)
{
	(void)state;
	both_kinds(reset);
}

/* ---- Pieces ------------------------------------------------------------ */

static void one_byte_at_a_time(enum tls_context_kind kind)
{
	size_t len, i;
	int turn;

	wire_new(&w, &(struct wire_options){ .kind = kind, .tcp = true });
	for (turn = 0; turn < 3; turn++) {
		len = wire_seal(&w, RECORD_DATA, "pieces", 6, 3, record);
		for (i = 0; i < len; i++) {
			assert_int_equal(tls_read(w.conn, content, 100),
					 -EAGAIN);
			wire_send_raw(&w, record + i, 1);
		}
		set_blocking(w.conn_fd, true);
		expect_data("pieces", 6);
		set_blocking(w.conn_fd, false);
	}
	wire_free(&w);
}

static void records_may_arrive_byte_by_byte(void **state)
{
	(void)state;
	both_kinds(one_byte_at_a_time);
}

static const uint8_t close_notify_alert[2] = { 1, ALERT_CLOSE_NOTIFY };

static void one_segment(enum tls_context_kind kind)
{
	static uint8_t all[60 * 1000];
	size_t len = 0;
	int i;

	wire_new(&w, &(struct wire_options){ .kind = kind,
					     .blocking = true,
					     .tcp = true });
	for (i = 0; i < 200; i++) {
		pattern_fill(content, (size_t)i * 200, 200);
		len += wire_seal(&w, RECORD_DATA, content, 200, (size_t)i % 3,
				 all + len);
	}
	len += wire_seal(&w, RECORD_ALERT, close_notify_alert, 2, 0, all + len);
	wire_send_raw(&w, all, len);
	for (len = 0; len < 200 * 200;) {
		ssize_t n = tls_read(w.conn, content, 777);

		assert_true(n > 0);
		pattern_check(content, len, (size_t)n);
		len += (size_t)n;
	}
	assert_int_equal(tls_read(w.conn, content, 777), 0);
	wire_free(&w);
}

static void records_may_arrive_all_at_once(void **state)
{
	(void)state;
	both_kinds(one_segment);
}

static void good_then_bad(enum tls_context_kind kind)
{
	size_t len = 0;
	int i;

	begin(kind);
	for (i = 0; i < 10; i++)
		len += wire_seal(&w, RECORD_DATA, &"0123456789"[i], 1, 0,
				 record + len);
	len += wire_seal(&w, RECORD_DATA, "forged", 6, 0, record + len);
	record[len - 1] ^= 1;
	len += wire_seal(&w, RECORD_DATA, "true", 4, 0, record + len);
	wire_send_raw(&w, record, len);
	expect_data("0123456789", 10);
	expect_end(-EBADMSG, ALERT_BAD_RECORD_MAC);
}

static void data_before_the_fault_is_read_first(void **state)
{
	(void)state;
	both_kinds(good_then_bad);
}

static void what_was_written_before_the_fault_is_sent(void **state)
{
	uint8_t type;

	(void)state;
	begin(TLS_CONTEXT_LOOP);
	tls_write(w.conn, "a", 1);
	tls_write(w.conn, "b", 1);
	tls_send(w.conn, "c", 1, TLS_MORE);
	wire_send_raw(&w, "garbage", 7);
	assert_int_equal(tls_read(w.conn, content, 1), -EPROTO);
	tls_context_process(w.ctx);
	assert_int_equal(wire_receive(&w, &type, content), 1);
	assert_int_equal(wire_receive(&w, &type, content), 1);
	assert_int_equal(wire_receive(&w, &type, content), 1);
	assert_memory_equal(content, "c", 1);
	expect_end(-EPROTO, ALERT_UNEXPECTED_MESSAGE);
}

#define TEST(name) cmocka_unit_test(name)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(garbage_is_an_unexpected_message),
		TEST(a_record_in_the_clear_is_an_unexpected_message),
		TEST(a_body_over_the_limit_is_a_record_overflow),
		TEST(content_over_the_limit_is_a_record_overflow),
		TEST(the_longest_record_is_read),
		TEST(padding_over_the_limit_is_a_record_overflow),
		TEST(a_forged_body_of_any_short_length_is_a_bad_record),
		TEST(a_record_with_any_bit_flipped_is_refused),
		TEST(a_replayed_record_is_a_bad_record),
		TEST(a_missing_record_is_a_bad_record),
		TEST(a_record_sent_back_to_us_is_a_bad_record),
		TEST(empty_records_are_no_end_of_file),
		TEST(padding_of_any_length_is_taken_off),
		TEST(content_that_ends_in_zeros_keeps_them),
		TEST(a_record_of_nothing_but_padding_is_unexpected),
		TEST(a_sealed_body_of_only_a_tag_is_unexpected),
		TEST(a_record_of_an_unknown_type_is_unexpected),
		TEST(an_end_without_close_notify_is_a_truncation),
		TEST(a_reset_is_an_error),
		TEST(records_may_arrive_byte_by_byte),
		TEST(records_may_arrive_all_at_once),
		TEST(data_before_the_fault_is_read_first),
		TEST(what_was_written_before_the_fault_is_sent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
