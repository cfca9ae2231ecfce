/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "record/record.h"

static const struct record_format *tls13;

static ssize_t inner_of(const uint8_t *inner, size_t len, uint8_t *type)
{
	const uint8_t header[] = { RECORD_DATA, 3, 3, 0, 0 };

	return record_content(tls13, header, inner, len, RECORD_PLAIN_MAX,
			      type);
}

static void a_header_is_application_data_version_1_2_and_a_length(void **state)
{
	/* RFC 8448 section 3, the client's application data: 50 bytes */
	const uint8_t expected[] = { 0x17, 0x03, 0x03, 0x00, 0x43 };
	uint8_t header[RECORD_HEADER];

	(void)state;
	record_put_prefix(tls13, header, RECORD_DATA, 7,
			  50 + RECORD_OVERHEAD - RECORD_HEADER);
	assert_memory_equal(header, expected, sizeof(expected));
}

static void a_header_holds_the_longest_body(void **state)
{
	const uint8_t expected[] = { 0x17, 0x03, 0x03, 0x41, 0x00 };
	uint8_t header[RECORD_HEADER];
	int alert = ALERT_NONE;

	(void)state;
	record_put_prefix(tls13, header, RECORD_ALERT, 7,
			  RECORD_BODY_MAX_TLS13);
	assert_memory_equal(header, expected, sizeof(expected));
	assert_int_equal(record_parse_header(tls13, header, &alert),
			 RECORD_BODY_MAX_TLS13);
	assert_int_equal(alert, ALERT_NONE);
}

static void the_length_is_read_from_a_header(void **state)
{
	const uint8_t header[] = { 0x17, 0x03, 0x03, 0x01, 0x23 };
	int alert = ALERT_NONE;

	(void)state;
	assert_int_equal(record_parse_header(tls13, header, &alert), 0x123);
	assert_int_equal(alert, ALERT_NONE);
}

static void a_body_too_long_is_a_record_overflow(void **state)
{
	const uint8_t header[] = { 0x17, 0x03, 0x03, 0x41, 0x01 };
	int alert = ALERT_NONE;

	(void)state;
	assert_int_equal(record_parse_header(tls13, header, &alert), -EMSGSIZE);
	assert_int_equal(alert, ALERT_RECORD_OVERFLOW);
}

static void a_body_shorter_than_a_tag_does_not_authenticate(void **state)
{
	const uint8_t tag[] = { 0x17, 0x03, 0x03, 0x00, 0x10 };
	const uint8_t shorter[] = { 0x17, 0x03, 0x03, 0x00, 0x0f };
	int alert = ALERT_NONE;

	(void)state;
	assert_int_equal(record_parse_header(tls13, tag, &alert), RECORD_TAG);
	assert_int_equal(alert, ALERT_NONE);
	assert_int_equal(record_parse_header(tls13, shorter, &alert), -EBADMSG);
	assert_int_equal(alert, ALERT_BAD_RECORD_MAC);
}

static void a_record_in_the_clear_is_unexpected(void **state)
{
	static const uint8_t types[] = { 20, 21, 22, 24, 'H' };

	(void)state;
	for (size_t i = 0; i < sizeof(types); i++) {
		const uint8_t header[] = { types[i], 0x03, 0x03, 0x00, 0x20 };
		int alert = ALERT_NONE;

		assert_int_equal(record_parse_header(tls13, header, &alert), -EPROTO);
		assert_int_equal(alert, ALERT_UNEXPECTED_MESSAGE);
	}
}

static void another_version_does_not_decode(void **state)
{
	const uint8_t v1_0[] = { 0x17, 0x03, 0x01, 0x00, 0x20 };
	const uint8_t v2[] = { 0x17, 0x02, 0x03, 0x00, 0x20 };
	int alert = ALERT_NONE;

	(void)state;
	assert_int_equal(record_parse_header(tls13, v1_0, &alert), -EPROTO);
	assert_int_equal(alert, ALERT_DECODE_ERROR);
	alert = ALERT_NONE;
	assert_int_equal(record_parse_header(tls13, v2, &alert), -EPROTO);
	assert_int_equal(alert, ALERT_DECODE_ERROR);
}

/* RFC 8448 section 3, the server's application IV */
static const uint8_t iv[RECORD_NONCE] = { 0xcf, 0x78, 0x2b, 0x88, 0xdd, 0x83,
					  0x54, 0x9a, 0xad, 0xf1, 0xe9, 0x84 };

static void the_first_nonce_is_the_iv(void **state)
{
	uint8_t nonce[RECORD_NONCE];

	(void)state;
	record_nonce(nonce, iv, 0);
	assert_memory_equal(nonce, iv, sizeof(iv));
}

static void a_nonce_is_the_iv_xor_the_sequence_number(void **state)
{
	const uint8_t expected[] = { 0xcf, 0x78, 0x2b, 0x88, 0xdc, 0x81,
				     0x57, 0x9e, 0xa8, 0xf7, 0xee, 0x8c };
	uint8_t nonce[RECORD_NONCE];

	(void)state;
	record_nonce(nonce, iv, 0x0102030405060708);
	assert_memory_equal(nonce, expected, sizeof(expected));
}

static void the_last_sequence_number_leaves_four_bytes_of_the_iv(void **state)
{
	const uint8_t expected[] = { 0xcf, 0x78, 0x2b, 0x88, 0x22, 0x7c,
				     0xab, 0x65, 0x52, 0x0e, 0x16, 0x7b };
	uint8_t nonce[RECORD_NONCE];

	(void)state;
	record_nonce(nonce, iv, UINT64_MAX);
	assert_memory_equal(nonce, expected, sizeof(expected));
}

static void the_type_stands_behind_the_content(void **state)
{
	const uint8_t inner[] = { 'a', 'b', 'c', RECORD_DATA };
	uint8_t type = 0;

	(void)state;
	assert_int_equal(inner_of(inner, sizeof(inner), &type), 3);
	assert_int_equal(type, RECORD_DATA);
}

static void padding_is_left_out(void **state)
{
	const uint8_t inner[] = { 'a', 0, RECORD_HANDSHAKE, 0, 0, 0 };
	uint8_t type = 0;

	(void)state;
	assert_int_equal(inner_of(inner, sizeof(inner), &type), 2);
	assert_int_equal(type, RECORD_HANDSHAKE);
}

static void content_may_be_empty(void **state)
{
	const uint8_t inner[] = { RECORD_DATA, 0 };
	uint8_t type = 0;

	(void)state;
	assert_int_equal(inner_of(inner, sizeof(inner), &type), 0);
	assert_int_equal(type, RECORD_DATA);
}

static void padding_alone_has_no_type(void **state)
{
	const uint8_t inner[] = { 0, 0, 0 };
	uint8_t type = 0;

	(void)state;
	assert_int_equal(inner_of(inner, sizeof(inner), &type), -EPROTO);
	assert_int_equal(inner_of(inner, 0, &type), -EPROTO);
}

static void content_may_be_16384_bytes_and_not_one_more(void **state)
{
	uint8_t inner[RECORD_PLAIN_MAX + 3];
	uint8_t type = 0;

	(void)state;
	memset(inner, RECORD_DATA, sizeof(inner));
	assert_int_equal(inner_of(inner, RECORD_PLAIN_MAX + 1, &type),
			 RECORD_PLAIN_MAX);
	assert_int_equal(inner_of(inner, RECORD_PLAIN_MAX + 2, &type),
			 -EMSGSIZE);
	/* padding counts as well */
	inner[RECORD_PLAIN_MAX] = 0;
	inner[RECORD_PLAIN_MAX + 1] = 0;
	assert_int_equal(inner_of(inner, RECORD_PLAIN_MAX + 1, &type),
			 RECORD_PLAIN_MAX - 1);
	assert_int_equal(inner_of(inner, RECORD_PLAIN_MAX + 2, &type),
			 -EMSGSIZE);
}

static void padding_fills_up_a_block_or_the_record(void **state)
{
	(void)state;
	assert_int_equal(record_padding(0, 0, RECORD_PLAIN_MAX), 0);
	assert_int_equal(record_padding(100, 0, RECORD_PLAIN_MAX), 0);
	assert_int_equal(record_padding(100, 1, RECORD_PLAIN_MAX), 0);
	assert_int_equal(record_padding(0, 64, RECORD_PLAIN_MAX), 63);
	assert_int_equal(record_padding(62, 64, RECORD_PLAIN_MAX), 1);
	assert_int_equal(record_padding(63, 64, RECORD_PLAIN_MAX), 0);
	assert_int_equal(record_padding(64, 64, RECORD_PLAIN_MAX), 63);
	assert_int_equal(record_padding(100, 100, RECORD_PLAIN_MAX), 99);
	/* 2^14 + 1 with the type byte, whatever the block */
	assert_int_equal(record_padding(16383, 64, RECORD_PLAIN_MAX), 0);
	assert_int_equal(record_padding(16384, 64, RECORD_PLAIN_MAX), 0);
	assert_int_equal(record_padding(16380, 1000, RECORD_PLAIN_MAX), 4);
	assert_int_equal(record_padding(0, RECORD_PLAIN_MAX, RECORD_PLAIN_MAX), 16383);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_header_is_application_data_version_1_2_and_a_length),
		cmocka_unit_test(a_header_holds_the_longest_body),
		cmocka_unit_test(the_length_is_read_from_a_header),
		cmocka_unit_test(a_body_too_long_is_a_record_overflow),
		cmocka_unit_test(
			a_body_shorter_than_a_tag_does_not_authenticate),
		cmocka_unit_test(a_record_in_the_clear_is_unexpected),
		cmocka_unit_test(another_version_does_not_decode),
		cmocka_unit_test(the_first_nonce_is_the_iv),
		cmocka_unit_test(a_nonce_is_the_iv_xor_the_sequence_number),
		cmocka_unit_test(
			the_last_sequence_number_leaves_four_bytes_of_the_iv),
		cmocka_unit_test(the_type_stands_behind_the_content),
		cmocka_unit_test(padding_is_left_out),
		cmocka_unit_test(content_may_be_empty),
		cmocka_unit_test(padding_alone_has_no_type),
		cmocka_unit_test(content_may_be_16384_bytes_and_not_one_more),
		cmocka_unit_test(padding_fills_up_a_block_or_the_record),
	};

	tls13 = record_format(suite_by_number(0x1301));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
