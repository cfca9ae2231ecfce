/* SPDX-License-Identifier: MIT */
/*
 * TLS 1.2: its keys and records as bytes, and what a peer may and may not do
 * with them.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/util.h"
#include "evp_record.h"
#include "hostile.h"
#include "keys/keys.h"

enum {
	ECDHE_AES_128_GCM = 0xc02b,
	ECDHE_AES_256_GCM = 0xc02c,
	ECDHE_AES_256_CCM = 0xc0ad,
	ECDHE_CHACHA20 = 0xcca9,
	MAX_TRIFLES = 32,
};

/* ---- Keys -------------------------------------------------------------- */

/* NIST's vectors for the key derivation of TLS 1.2, the first with SHA-256 */
static const struct keys_tls12 nist = {
	.master = {
		0x20, 0x2c, 0x88, 0xc0, 0x0f, 0x84, 0xa1, 0x7a, 0x20, 0x02,
		0x70, 0x79, 0x60, 0x47, 0x87, 0x46, 0x11, 0x76, 0x45, 0x55,
		0x39, 0xe7, 0x05, 0xbe, 0x73, 0x08, 0x90, 0x60, 0x2c, 0x28,
		0x9a, 0x50, 0x01, 0xe3, 0x4e, 0xeb, 0x3a, 0x04, 0x3e, 0x5d,
		0x52, 0xa6, 0x5e, 0x66, 0x12, 0x51, 0x88, 0xbf,
	},
	.server_random = {
		0xae, 0x6c, 0x80, 0x6f, 0x8a, 0xd4, 0xd8, 0x07, 0x84, 0x54,
		0x9d, 0xff, 0x28, 0xa4, 0xb5, 0x8f, 0xd8, 0x37, 0x68, 0x1a,
		0x51, 0xd9, 0x28, 0xc3, 0xe3, 0x0e, 0xe5, 0xff, 0x14, 0xf3,
		0x98, 0x68,
	},
	.client_random = {
		0x62, 0xe1, 0xfd, 0x91, 0xf2, 0x3f, 0x55, 0x8a, 0x60, 0x5f,
		0x28, 0x47, 0x8c, 0x58, 0xcf, 0x72, 0x63, 0x7b, 0x89, 0x78,
		0x4d, 0x95, 0x9d, 0xf7, 0xe9, 0x46, 0xd3, 0xf0, 0x7b, 0xd1,
		0xb6, 0x16,
	},
};

static const uint8_t nist_block[88] = {
	0xd0, 0x61, 0x39, 0x88, 0x9f, 0xff, 0xac, 0x1e, 0x3a, 0x71, 0x86, 0x5f,
	0x50, 0x4a, 0xa5, 0xd0, 0xd2, 0xa2, 0xe8, 0x95, 0x06, 0xc6, 0xf2, 0x27,
	0x9b, 0x67, 0x0c, 0x3e, 0x1b, 0x74, 0xf5, 0x31, 0x01, 0x6a, 0x25, 0x30,
	0xc5, 0x1a, 0x3a, 0x0f, 0x7e, 0x1d, 0x65, 0x90, 0xd0, 0xf0, 0x56, 0x6b,
	0x2f, 0x38, 0x7f, 0x8d, 0x11, 0xfd, 0x4f, 0x73, 0x1c, 0xdd, 0x57, 0x2d,
	0x2e, 0xae, 0x92, 0x7f, 0x6f, 0x2f, 0x81, 0x41, 0x0b, 0x25, 0xe6, 0x96,
	0x0b, 0xe6, 0x89, 0x85, 0xad, 0xd6, 0xc3, 0x84, 0x45, 0xad, 0x9f, 0x8c,
	0x64, 0xbf, 0x80, 0x68,
};

/* key_len and iv_len are those of the suite, by its RFC. */
static void check_keys(uint16_t number, const struct keys_tls12 *from,
		       const uint8_t *block, size_t key_len, size_t iv_len)
{
	static const uint8_t zeros[RECORD_NONCE];
	struct keygen *client, *server;

	assert_int_equal(keygen_new_tls12(&client, &server,
					  suite_by_number(number), from), 0);
	assert_memory_equal(client->key, block, key_len);
	assert_memory_equal(server->key, block + key_len, key_len);
	block += 2 * key_len;
	assert_memory_equal(client->iv, block, iv_len);
	assert_memory_equal(server->iv, block + iv_len, iv_len);
	assert_memory_equal(client->iv + iv_len, zeros, sizeof(zeros) - iv_len);
	keygen_put(client);
	keygen_put(server);
}

static void the_key_block_is_that_of_the_published_vector(void **state)
{
	(void)state;
	check_keys(ECDHE_AES_128_GCM, &nist, nist_block, 16, 4);
	check_keys(ECDHE_AES_256_CCM, &nist, nist_block, 32, 4);
	check_keys(ECDHE_CHACHA20, &nist, nist_block, 32, 12);
}

/* P_hash of RFC 5246 5, from HMAC; len is a multiple of the digest's. */
static void p_sha384(const struct keys_tls12 *from, uint8_t *out, size_t len)
{
	uint8_t seed[13 + 64] = "key expansion";
	uint8_t a[48 + sizeof(seed)];
	size_t a_len = sizeof(seed), done;

	memcpy(seed + 13, from->server_random, 32);
	memcpy(seed + 45, from->client_random, 32);
	memcpy(a, seed, sizeof(seed));
	for (done = 0; done < len; done += 48) {
		HMAC(EVP_sha384(), from->master, 48, a, a_len, a, NULL);
		a_len = 48;
		memcpy(a + 48, seed, sizeof(seed));
		HMAC(EVP_sha384(), from->master, 48, a, sizeof(a), out + done,
		     NULL);
	}
}

static void a_sha384_suite_expands_as_hmac_says(void **state)
{
	uint8_t block[96];

	(void)state;
	p_sha384(&nist, block, sizeof(block));
	check_keys(ECDHE_AES_256_GCM, &nist, block, 32, 4);
}

/* ---- Records as bytes -------------------------------------------------- */

static const struct record_format *format_of(uint16_t number)
{
	return record_format(suite_by_number(number));
}

static void the_explicit_nonce_is_the_sequence_number(void **state)
{
	/* content of 50 bytes: RFC 5246 6.2.3.3, RFC 5288 3 */
	const uint8_t expected[] = { 0x15, 3, 3, 0, 74, 0, 1, 2, 3, 4, 5, 6, 7,
				     0xee };
	uint8_t wire[14];

	(void)state;
	memset(wire, 0xee, sizeof(wire));
	record_put_prefix(format_of(ECDHE_AES_128_GCM), wire, RECORD_ALERT,
			  0x01020304050607, 50 + 8 + 16);
	assert_memory_equal(wire, expected, sizeof(expected));
	assert_int_equal(record_nonce_number(format_of(ECDHE_AES_128_GCM), wire,
					     99), 0x01020304050607);
}

static void chacha20_has_no_explicit_nonce(void **state)
{
	const uint8_t expected[] = { 0x17, 3, 3, 0, 66, 0xee };
	uint8_t wire[6];

	(void)state;
	memset(wire, 0xee, sizeof(wire));
	record_put_prefix(format_of(ECDHE_CHACHA20), wire, RECORD_DATA, 7,
			  50 + 16);
	assert_memory_equal(wire, expected, sizeof(expected));
	assert_int_equal(record_nonce_number(format_of(ECDHE_CHACHA20), wire,
					     99), 99);
}

/* seq_num + type + version + length of the plaintext: RFC 5246 6.2.3.3 */
static void the_additional_data_has_the_plaintexts_length(void **state)
{
	const uint8_t expected[] = { 0, 0, 0, 0, 0, 0, 1, 2, 0x16, 3, 3, 1, 4 };
	uint8_t aad[13];

	(void)state;
	record_aad(format_of(ECDHE_AES_256_CCM), aad, RECORD_HANDSHAKE, 0x102,
		   0x104 + 8 + 16);
	assert_memory_equal(aad, expected, sizeof(expected));
	record_aad(format_of(ECDHE_CHACHA20), aad, RECORD_HANDSHAKE, 0x102,
		   0x104 + 16);
	assert_memory_equal(aad, expected, sizeof(expected));
}

static void check_body(uint16_t number, uint8_t type, size_t len,
		       ssize_t result, int alert)
{
	const uint8_t header[] = { type, 3, 3, (uint8_t)(len >> 8),
				   (uint8_t)len };
	int got = ALERT_NONE;

	assert_int_equal(record_parse_header(format_of(number), header, &got),
			 result);
	assert_int_equal(got, alert);
}

static void a_body_has_2048_bytes_more_than_content_at_most(void **state)
{
	const size_t max = (1 << 14) + 2048; /* RFC 5246 6.2.3 */

	(void)state;
	check_body(ECDHE_AES_128_GCM, 23, max, (ssize_t)max, ALERT_NONE);
	check_body(ECDHE_AES_128_GCM, 23, max + 1, -EMSGSIZE,
		   ALERT_RECORD_OVERFLOW);
	check_body(ECDHE_AES_128_GCM, 23, 24, 24, ALERT_NONE);
	check_body(ECDHE_AES_128_GCM, 23, 23, -EBADMSG, ALERT_BAD_RECORD_MAC);
	check_body(ECDHE_CHACHA20, 23, 16, 16, ALERT_NONE);
	check_body(ECDHE_CHACHA20, 23, 15, -EBADMSG, ALERT_BAD_RECORD_MAC);
	check_body(ECDHE_CHACHA20, 21, 20, 20, ALERT_NONE);
	check_body(ECDHE_CHACHA20, 22, 20, 20, ALERT_NONE);
	check_body(ECDHE_CHACHA20, 20, 20, -EPROTO, ALERT_UNEXPECTED_MESSAGE);
	check_body(ECDHE_CHACHA20, 24, 20, -EPROTO, ALERT_UNEXPECTED_MESSAGE);
}

/* ---- Bits -------------------------------------------------------------- */

static void begin_tls12(uint16_t number, enum tls_context_kind kind)
{
	wire_new(&w, &(struct wire_options){ .kind = kind,
					     .suite = number,
					     .blocking = true });
}

/* What becomes of a record of len bytes with a flipped bit. */
static void flip(unsigned bit, size_t len)
{
	size_t body = len - 5;
	int error = -EBADMSG, alert = ALERT_BAD_RECORD_MAC;
	uint8_t type = record[0];

	if (bit / 8 == 3 || bit / 8 == 4)
		body ^= bit / 8 == 3 ? 256u << bit % 8 : 1u << bit % 8;
	if (bit / 8 == 0 && (type < 21 || type > 23)) {
		error = -EPROTO;
		alert = ALERT_UNEXPECTED_MESSAGE;
	} else if (bit / 8 == 1 || bit / 8 == 2) {
		error = -EPROTO;
		alert = ALERT_DECODE_ERROR;
	} else if (body > RECORD_BODY_MAX) {
		error = -EMSGSIZE;
		alert = ALERT_RECORD_OVERFLOW;
	} else if (body > len - 5) { /* waited for until the stream ends */
		error = -ENODATA;
		alert = ALERT_NONE;
	}
	wire_send_raw(&w, record, len);
	end_stream();
	expect_end(error, alert);
}

static void flip_each_bit(uint16_t number)
{
	unsigned bit, bits = 8;

	for (bit = 0; bit < bits; bit++) {
		size_t len;

		begin_tls12(number, bit % 2 ? TLS_CONTEXT_LOOP :
					      TLS_CONTEXT_WORKER);
		len = wire_seal(&w, RECORD_DATA, "secret", 6, 0, record);
		bits = (unsigned)len * 8;
		record[bit / 8] ^= (uint8_t)(1u << bit % 8);
		flip(bit, len);
	}
}

static void a_record_with_any_bit_flipped_is_refused(void **state)
{
	(void)state;
	flip_each_bit(ECDHE_AES_128_GCM);
	flip_each_bit(ECDHE_CHACHA20);
	flip_each_bit(ECDHE_AES_256_CCM);
}

static void a_record_out_of_its_place_is_a_bad_record(void **state)
{
	(void)state;
	begin_tls12(ECDHE_AES_128_GCM, TLS_CONTEXT_LOOP);
	/* the nonce is on the wire, the number in the additional data */
	w.seal_seq++;
	wire_send(&w, RECORD_DATA, "second", 6);
	expect_end(-EBADMSG, ALERT_BAD_RECORD_MAC);
}

/* A peer need not count for its nonces. */
static void any_explicit_nonce_is_taken(void **state)
{
	const uint64_t number = 0xfeedfacedeadbeef;
	uint8_t nonce[RECORD_NONCE], aad[RECORD_AAD_MAX];

	(void)state;
	begin_tls12(ECDHE_AES_128_GCM, TLS_CONTEXT_LOOP);
	record_put_prefix(w.seal->format, record, RECORD_DATA, number,
			  4 + 8 + 16);
	record_aad(w.seal->format, aad, RECORD_DATA, 0, 4 + 8 + 16);
	record_nonce(nonce, w.seal->iv, number);
	evp_seal_raw(w.seal->cipher, w.seal->key, nonce, aad, sizeof(aad),
		     (const uint8_t *)"data", 4, record + 13);
	wire_send_raw(&w, record, 13 + 4 + 16);
	expect_data("data", 4);
	wire_free(&w);
}

/* ---- Alerts and messages ----------------------------------------------- */

static const uint8_t hello_request[4] = { 0 };
static const uint8_t client_hello[] = { 1, 0, 0, 2, 3, 3 };

static void send_warning(uint8_t description)
{
	const uint8_t alert[2] = { ALERT_LEVEL_WARNING, description };

	wire_send(&w, RECORD_ALERT, alert, 2);
}

static void warnings_are_passed_over(void **state)
{
	(void)state;
	begin_tls12(ECDHE_AES_128_GCM, TLS_CONTEXT_LOOP);
	send_warning(ALERT_NO_RENEGOTIATION);
	send_warning(112); /* unrecognized_name */
	send_warning(ALERT_USER_CANCELED);
	wire_send(&w, RECORD_DATA, "data", 4);
	expect_data("data", 4);
	assert_int_equal(tls_conn_alert_received(w.conn), ALERT_NONE);
	send_warning(ALERT_CLOSE_NOTIFY);
	assert_int_equal(tls_read(w.conn, content, 10), 0);
	assert_int_equal(tls_conn_alert_received(w.conn), ALERT_CLOSE_NOTIFY);
	/* and it may be answered, as in TLS 1.3 */
	assert_int_equal(tls_write(w.conn, "after", 5), 5);
	assert_int_equal(tls_flush(w.conn), 0);
	wire_free(&w);
}

static void a_fatal_alert_ends_it(void **state)
{
	const uint8_t alert[2] = { ALERT_LEVEL_FATAL, ALERT_NO_RENEGOTIATION };

	(void)state;
	begin_tls12(ECDHE_CHACHA20, TLS_CONTEXT_LOOP);
	wire_send(&w, RECORD_ALERT, alert, 2);
	assert_int_equal(tls_read(w.conn, content, 10), -EPROTO);
	assert_int_equal(tls_conn_alert_received(w.conn),
			 ALERT_NO_RENEGOTIATION);
	assert_int_equal(tls_conn_alert_sent(w.conn), ALERT_NONE);
	wire_free(&w);
}

static void begin_role(bool client)
{
	wire_new(&w, &(struct wire_options){ .suite = ECDHE_CHACHA20,
					     .kind = TLS_CONTEXT_LOOP,
					     .we_are_client = client,
					     .blocking = true });
}

static void send_hello(bool to_client)
{
	if (to_client)
		wire_send(&w, RECORD_HANDSHAKE, hello_request, 4);
	else
		wire_send(&w, RECORD_HANDSHAKE, client_hello,
			  sizeof(client_hello));
}

/* RFC 5246 7.2.2: by a warning, and it goes on. */
static void check_refusal(bool client)
{
	begin_role(client);
	assert_int_equal(tls_send(w.conn, "before", 6, TLS_MORE), 6);
	send_hello(client);
	send_hello(client); /* answered already */
	wire_send(&w, RECORD_DATA, "data", 4);
	expect_data("data", 4);
	assert_int_equal(tls_write(w.conn, "after", 5), 5);
	assert_int_equal(tls_flush(w.conn), 0);

	uint8_t type;

	assert_int_equal(wire_receive(&w, &type, content), 6);
	assert_int_equal(wire_receive(&w, &type, content), 2);
	assert_int_equal(type, RECORD_ALERT);
	assert_int_equal(content[0], ALERT_LEVEL_WARNING);
	assert_int_equal(content[1], ALERT_NO_RENEGOTIATION);
	assert_int_equal(wire_receive(&w, &type, content), 5);
	assert_int_equal(type, RECORD_DATA);
	assert_true(wire_silent(&w));
	wire_free(&w);
}

static void renegotiation_is_refused_and_it_goes_on(void **state)
{
	(void)state;
	check_refusal(true);
	check_refusal(false);
}

static void a_message_may_be_spread_over_records(void **state)
{
	size_t i;

	(void)state;
	begin_role(false);
	for (i = 0; i < sizeof(client_hello); i++)
		wire_send(&w, RECORD_HANDSHAKE, client_hello + i, 1);
	wire_send(&w, RECORD_DATA, "data", 4);
	expect_data("data", 4);
	tls_context_process(w.ctx);
	wire_expect_alert(&w, ALERT_NO_RENEGOTIATION);
	wire_free(&w);
}

static void the_other_roles_message_is_unexpected(void **state)
{
	(void)state;
	begin_role(true);
	send_hello(false);
	expect_end(-EPROTO, ALERT_UNEXPECTED_MESSAGE);
	begin_role(false);
	send_hello(true);
	expect_end(-EPROTO, ALERT_UNEXPECTED_MESSAGE);
}

/* RFC 8446's messages mean nothing here. */
static void a_key_update_is_unexpected(void **state)
{
	const uint8_t message[] = { MESSAGE_KEY_UPDATE, 0, 0, 1, 0 };

	(void)state;
	begin_role(true);
	wire_send(&w, RECORD_HANDSHAKE, message, sizeof(message));
	expect_end(-EPROTO, ALERT_UNEXPECTED_MESSAGE);
}

static void send_nothing(int i)
{
	if (i % 3 == 0)
		wire_send(&w, RECORD_DATA, "", 0);
	else if (i % 3 == 1)
		send_warning(ALERT_NO_RENEGOTIATION);
	else
		send_hello(false);
}

static void what_means_nothing_may_be_sent_so_often_and_no_more(void **state)
{
	int i;

	(void)state;
	begin_role(false);
	for (i = 0; i < MAX_TRIFLES; i++)
		send_nothing(i);
	wire_send(&w, RECORD_DATA, "data", 4);
	expect_data("data", 4);
	tls_context_process(w.ctx);
	wire_expect_alert(&w, ALERT_NO_RENEGOTIATION);
	/* data in between begins the count anew */
	for (i = 0; i <= MAX_TRIFLES; i++)
		send_nothing(i);
	expect_end(-EPROTO, ALERT_UNEXPECTED_MESSAGE);
}

/* ---- Shape and limits -------------------------------------------------- */

static void check_max_fragment(uint16_t number)
{
	static uint8_t buf[3000];
	uint8_t type;
	size_t got;

	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP,
					     .suite = number,
					     .blocking = true,
					     .max_fragment = 1024 });
	assert_int_equal(tls_conn_set_record_size(w.conn, 16384), 0);
	if (w.seal->format->hides_type)
		assert_int_equal(tls_conn_set_padding(w.conn, 4096), 0);
	pattern_fill(buf, 0, sizeof(buf));
	assert_int_equal(tls_write(w.conn, buf, sizeof(buf)), sizeof(buf));
	assert_int_equal(tls_flush(w.conn), 0);
	for (got = 0; got < sizeof(buf);) {
		ssize_t n = wire_receive(&w, &type, content);

		assert_int_equal(n, min_size(1024, sizeof(buf) - got));
		assert_true(w.inner_len <= 1024 + 1);
		pattern_check(content, got, (size_t)n);
		got += (size_t)n;
	}
	wire_send(&w, RECORD_DATA, buf, 1024);
	expect_data(buf, 1024);
	wire_send(&w, RECORD_DATA, buf, 1025);
	expect_end(-EMSGSIZE, ALERT_RECORD_OVERFLOW);
}

static void a_negotiated_fragment_length_holds_both_ways(void **state)
{
	(void)state;
	check_max_fragment(ECDHE_AES_128_GCM);
	check_max_fragment(ECDHE_CHACHA20);
	check_max_fragment(TLS_AES_128_GCM);
}

static void content_over_16384_bytes_is_a_record_overflow(void **state)
{
	static uint8_t buf[RECORD_PLAIN_MAX + 1];

	(void)state;
	begin_tls12(ECDHE_AES_128_GCM, TLS_CONTEXT_LOOP);
	wire_send(&w, RECORD_DATA, buf, RECORD_PLAIN_MAX);
	expect_data(buf, RECORD_PLAIN_MAX);
	wire_send(&w, RECORD_DATA, buf, RECORD_PLAIN_MAX + 1);
	expect_end(-EMSGSIZE, ALERT_RECORD_OVERFLOW);
}

static void there_is_no_padding_and_no_key_update(void **state)
{
	(void)state;
	begin_tls12(ECDHE_AES_128_GCM, TLS_CONTEXT_LOOP);
	assert_int_equal(tls_conn_set_padding(w.conn, 64), -EOPNOTSUPP);
	assert_non_null(strstr(tls_last_error(), "TLS 1.2"));
	assert_int_equal(tls_conn_set_padding(w.conn, 0), 0);
	assert_int_equal(tls_conn_update_keys(w.conn, 0), -EOPNOTSUPP);
	assert_non_null(strstr(tls_last_error(), "TLS 1.2"));
	wire_free(&w);
}

/* What was written before arrives, then close_notify; and that is all. */
static void it_ends_before_its_key_is_worn_out(void **state)
{
	uint8_t type;
	int i;

	(void)state;
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP,
					     .suite = ECDHE_AES_128_GCM,
					     .blocking = true,
					     .tx_seq = (1 << 24) - 3 });
	for (i = 0; i < 3; i++)
		assert_int_equal(tls_write(w.conn, "data", 4), 4);
	assert_int_equal(tls_write(w.conn, "more", 4), -EKEYEXPIRED);
	assert_non_null(strstr(tls_conn_error(w.conn), "TLS 1.2"));
	tls_context_process(w.ctx);
	for (i = 0; i < 3; i++) {
		assert_int_equal(wire_receive(&w, &type, content), 4);
		assert_int_equal(type, RECORD_DATA);
	}
	wire_expect_alert(&w, ALERT_CLOSE_NOTIFY);
	expect_no_more_to_write(-EKEYEXPIRED);
	assert_true(wire_silent(&w));
	/* the other direction has a key of its own */
	wire_send(&w, RECORD_DATA, "heard", 5);
	expect_data("heard", 5);
	wire_free(&w);
}

static void begin_at(uint64_t tx_seq)
{
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP,
					     .suite = ECDHE_AES_128_GCM,
					     .blocking = true,
					     .tx_seq = tx_seq });
}

/* What was taken arrives, close_notify behind it, and that is known in time. */
static void expect_last(size_t len)
{
	uint8_t type;

	assert_int_equal(wire_receive(&w, &type, content), len);
	assert_int_equal(type, RECORD_DATA);
	wire_expect_alert(&w, ALERT_CLOSE_NOTIFY);
	assert_int_equal(tls_write(w.conn, "more", 4), -EKEYEXPIRED);
	assert_int_equal(tls_close(w.conn, -1), -EKEYEXPIRED);
	w.conn = NULL;
	wire_free(&w);
}

/* An open record has its number from the beginning. */
static void an_open_record_is_sent_though_the_key_is_worn_out(void **state)
{
	const uint64_t last = (1 << 24) - 1;
	struct iovec iov[] = { { "in ", 3 }, { "pieces", 6 } };
	FILE *file = tmpfile();
	off_t offset = 0;

	(void)state;
	begin_at(last);
	assert_int_equal(tls_send(w.conn, "open", 4, TLS_MORE), 4);
	tls_context_process(w.ctx);
	expect_last(4);

	begin_at(last);
	assert_int_equal(tls_writev(w.conn, iov, 2), 9);
	tls_context_process(w.ctx);
	expect_last(9);

	begin_at(last);
	assert_int_equal(ftruncate(fileno(file), 40000), 0);
	assert_int_equal(tls_sendfile(w.conn, fileno(file), &offset, 40000),
			 RECORD_PLAIN_MAX);
	assert_int_equal(offset, RECORD_PLAIN_MAX);
	tls_context_process(w.ctx);
	expect_last(RECORD_PLAIN_MAX);
	fclose(file);
}

static void a_key_worn_out_already_takes_nothing(void **state)
{
	(void)state;
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP,
					     .suite = ECDHE_AES_256_CCM,
					     .blocking = true,
					     .tx_seq = 1 << 22 });
	assert_int_equal(tls_write(w.conn, "data", 4), -EKEYEXPIRED);
	tls_context_process(w.ctx);
	wire_expect_alert(&w, ALERT_CLOSE_NOTIFY);
	expect_no_more_to_write(-EKEYEXPIRED);
	assert_int_equal(tls_close(w.conn, 1000), -EKEYEXPIRED);
	w.conn = NULL;
	wire_free(&w);
}

static char engines[2000]; /* of the last */

static uint64_t copied_by(uint16_t number)
{
	static uint8_t buf[10000];
	struct tls_stats s;

	begin_tls12(number, TLS_CONTEXT_LOOP);
	assert_int_equal(tls_write(w.conn, buf, sizeof(buf)), sizeof(buf));
	assert_int_equal(tls_conn_stats(w.conn, &s, sizeof(s)), 0);
	tls_context_describe(w.ctx, engines, sizeof(engines));
	wire_free(&w);
	return s.tx_copied_bytes;
}

/*
 * There it is to be sealed with the type byte, by intel-ipsec-mb in one piece;
 * libgcrypt takes it in two.
 */
static void ccm_is_copied_only_in_tls_1_3(void **state)
{
	uint64_t copied = copied_by(TLS_AES_128_CCM);

	(void)state;
	assert_int_equal(copied, strstr(engines, "cpu, libgcrypt") ? 0 : 10000);
	assert_int_equal(copied_by(ECDHE_AES_256_CCM), 0);
	assert_int_equal(copied_by(ECDHE_AES_128_GCM), 0);
	assert_int_equal(copied_by(ECDHE_CHACHA20), 0);
}

/* ---- Secrets ----------------------------------------------------------- */

static void refused(struct tls_secrets s, int error, const char *words)
{
	struct tls_conn *conn;

	assert_int_equal(tls_handoff_secrets(&conn, w.ctx, w.conn_fd, &s),
			 error);
	if (!strstr(tls_last_error(), words))
		fail_msg("\"%s\" has no \"%s\"", tls_last_error(), words);
}

static void incomplete_secrets_are_refused(void **state)
{
	const struct tls_secrets good = {
		.size = sizeof(struct tls_secrets),
		.cipher_suite = ECDHE_AES_128_GCM,
		.secret_len = KEYS_MASTER,
		.master_secret = nist.master,
		.client_random = nist.client_random,
		.server_random = nist.server_random,
	};
	struct tls_secrets s;

	(void)state;
	begin_tls12(ECDHE_AES_128_GCM, TLS_CONTEXT_LOOP);
	s = good, s.secret_len = 32;
	refused(s, -EINVAL, "a master_secret of 48 bytes");
	s = good, s.master_secret = NULL;
	refused(s, -EINVAL, "master_secret");
	s = good, s.client_random = NULL;
	refused(s, -EINVAL, "client_random");
	s = good, s.server_random = NULL;
	refused(s, -EINVAL, "server_random");
	s = good, s.max_fragment = 63;
	refused(s, -EINVAL, "max_fragment is 63");
	s = good, s.cipher_suite = 0xc0ae;
	refused(s, -EOPNOTSUPP, "0xc0ae");
	wire_free(&w);
}

#define TEST(name) cmocka_unit_test(name)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_key_block_is_that_of_the_published_vector),
		TEST(a_sha384_suite_expands_as_hmac_says),
		TEST(the_explicit_nonce_is_the_sequence_number),
		TEST(chacha20_has_no_explicit_nonce),
		TEST(the_additional_data_has_the_plaintexts_length),
		TEST(a_body_has_2048_bytes_more_than_content_at_most),
		TEST(a_record_with_any_bit_flipped_is_refused),
		TEST(a_record_out_of_its_place_is_a_bad_record),
		TEST(any_explicit_nonce_is_taken),
		TEST(warnings_are_passed_over),
		TEST(a_fatal_alert_ends_it),
		TEST(renegotiation_is_refused_and_it_goes_on),
		TEST(a_message_may_be_spread_over_records),
		TEST(the_other_roles_message_is_unexpected),
		TEST(a_key_update_is_unexpected),
		TEST(what_means_nothing_may_be_sent_so_often_and_no_more),
		TEST(a_negotiated_fragment_length_holds_both_ways),
		TEST(content_over_16384_bytes_is_a_record_overflow),
		TEST(there_is_no_padding_and_no_key_update),
		TEST(it_ends_before_its_key_is_worn_out),
		TEST(an_open_record_is_sent_though_the_key_is_worn_out),
		TEST(a_key_worn_out_already_takes_nothing),
		TEST(ccm_is_copied_only_in_tls_1_3),
		TEST(incomplete_secrets_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
