/* SPDX-License-Identifier: MIT */
/*
 * A stream of records of every sort with any one bit flipped: what is before
 * that record is read, nothing from it on, and the peer is told exactly why.
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

#include "fake_engine.h"
#include "keys/keys.h"
#include "wire.h"

enum { RECORDS = 6, LARGE = 16000, STREAM_MAX = LARGE + 1000 };

struct setting {
	uint16_t suite;
	bool async;
};

static struct setting setting;
static struct fake_engine *fake; /* NULL: on the CPU engine */
static struct wire w;
static bool is_tls12;

/* The stream, and where each record begins; the last entry is its end. */
static uint8_t stream[STREAM_MAX];
static size_t begins[RECORDS + 1];
/* Application bytes before each record. */
static size_t data_before[RECORDS + 1];

static struct wire_options options(void)
{
	return (struct wire_options){
		.kind = TLS_CONTEXT_LOOP,
		.suite = setting.suite,
		.we_are_client = true,
		.fake = fake,
		.not_recorded = true,
	};
}

static int begin(void **state)
{
	struct wire_options o;

	setting = *(const struct setting *)*state;
	fake = setting.async ? fake_new() : NULL;
	o = options();
	wire_new(&w, &o);
	is_tls12 = !w.seal->format->hides_type;
	return 0;
}

static int finish(void **state)
{
	(void)state;
	wire_free(&w);
	if (fake)
		fake_free(fake);
	return 0;
}

static void add(int i, uint8_t type, const void *content, size_t len)
{
	begins[i + 1] = begins[i] + wire_seal(&w, type, content, len, i == 3,
					      stream + begins[i]);
	data_before[i + 1] = data_before[i] + (type == RECORD_DATA ? len : 0);
}

static void add_data(int i, size_t len)
{
	uint8_t data[LARGE];

	pattern_fill(data, data_before[i], len);
	add(i, RECORD_DATA, data, len);
}

/* None of these ends a connection. */
static void record_stream(size_t len)
{
	static const uint8_t ticket[] = { MESSAGE_NEW_SESSION_TICKET, 0, 0, 3,
					  'a', 'b', 'c' };
	static const uint8_t hello[] = { MESSAGE_HELLO_REQUEST, 0, 0, 0 };
	static const uint8_t update[] = { MESSAGE_KEY_UPDATE, 0, 0, 1,
					  UPDATE_NOT_REQUESTED };
	static const uint8_t alert[] = { ALERT_LEVEL_WARNING,
					 ALERT_USER_CANCELED };

	add_data(0, 3);
	if (is_tls12)
		add(1, RECORD_HANDSHAKE, hello, sizeof(hello));
	else
		add(1, RECORD_HANDSHAKE, ticket, sizeof(ticket));
	add(2, RECORD_ALERT, alert, sizeof(alert));
	add_data(3, len);
	if (is_tls12) {
		add(4, RECORD_ALERT, alert, sizeof(alert));
	} else {
		add(4, RECORD_HANDSHAKE, update, sizeof(update));
		wire_next_keys(&w);
	}
	add_data(5, 3);
}

struct outcome {
	int error, alert;
};

static struct outcome of_length(int record, size_t body)
{
	const struct record_format *format = w.seal->format;

	if (body > format->body_max)
		return (struct outcome){ -EMSGSIZE, ALERT_RECORD_OVERFLOW };
	if (body > begins[RECORDS] - begins[record] - RECORD_HEADER)
		return (struct outcome){ -ENODATA, ALERT_NONE };
	return (struct outcome){ -EBADMSG, ALERT_BAD_RECORD_MAC };
}

/* What is to come of a stream whose record has its byte changed already. */
static struct outcome expected(int record, size_t byte)
{
	const uint8_t *header = stream + begins[record];
	uint8_t type = header[0];

	if (byte == 0 && !(is_tls12 && type >= RECORD_ALERT &&
			   type <= RECORD_DATA))
		return (struct outcome){ -EPROTO, ALERT_UNEXPECTED_MESSAGE };
	if (byte == 1 || byte == 2)
		return (struct outcome){ -EPROTO, ALERT_DECODE_ERROR };
	if (byte == 3 || byte == 4)
		return of_length(record, (size_t)header[3] << 8 | header[4]);
	return (struct outcome){ -EBADMSG, ALERT_BAD_RECORD_MAC };
}

static void settle(void)
{
	do {
		if (fake)
			fake_complete_all(fake);
		assert_int_equal(tls_context_process(w.ctx), 0);
	} while (fake && fake_pending(fake));
}

/* Everything that can be read, until the end of it. */
static size_t read_all(ssize_t *end)
{
	static uint8_t buf[STREAM_MAX];
	size_t done = 0;

	do {
		settle();
		*end = tls_read(w.conn, buf, sizeof(buf));
		if (*end > 0) {
			pattern_check(buf, done, (size_t)*end);
			done += (size_t)*end;
		}
	} while (*end > 0 || *end == -EAGAIN);
	return done;
}

static int alert_received(void)
{
	struct tap tap = { .alert = ALERT_NONE };
	int alert;

	settle();
	wire_tap(&w, &tap);
	alert = tap.alert;
	free(tap.bytes);
	/* the answer to a HelloRequest */
	return alert == ALERT_NO_RENEGOTIATION ? ALERT_NONE : alert;
}

static void play(size_t data, struct outcome outcome)
{
	size_t len = begins[RECORDS];
	ssize_t end;

	assert_int_equal(send(w.fd, stream, len, MSG_NOSIGNAL), len);
	shutdown(w.fd, SHUT_WR);
	assert_int_equal(read_all(&end), data);
	assert_int_equal(end, outcome.error);
	assert_int_equal(tls_read(w.conn, &end, 1), outcome.error);
	assert_int_equal(alert_received(), outcome.alert);
	assert_int_equal(tls_conn_alert_sent(w.conn), outcome.alert);
}

static void start_again(size_t len)
{
	const struct wire_options o = options();

	tls_close(w.conn, 0);
	w.conn = NULL;
	settle();
	wire_reopen(&w, &o);
	record_stream(len);
}

static void flip(int record, size_t byte, int bit, size_t len)
{
	start_again(len);
	stream[begins[record] + byte] ^= (uint8_t)(1 << bit);
	play(data_before[record], expected(record, byte));
}

static void any_bit_of_any_record(void **state)
{
	int record, bit;
	size_t byte;

	(void)state;
	start_again(20);
	play(data_before[RECORDS],
	     (struct outcome){ -ENODATA, ALERT_NONE });
	for (record = 0; record < RECORDS; record++)
		for (byte = 0; byte < begins[record + 1] - begins[record];
		     byte++)
			for (bit = 0; bit < 8; bit++)
				flip(record, byte, bit, 20);
}

static void some_bits_of_a_large_record(void **state)
{
	size_t bit;

	(void)state;
	start_again(LARGE);
	for (bit = 0; bit < 8 * (begins[4] - begins[3]); bit += 1021)
		flip(3, bit / 8, (int)(bit % 8), LARGE);
}

static struct setting settings[] = {
	{ TLS_AES_128_GCM, false },
	{ TLS_AES_128_GCM, true },
	{ 0xc02f, false }, /* ECDHE_RSA_WITH_AES_128_GCM_SHA256 */
	{ 0xc02f, true },
	{ 0xcca8, false }, /* ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 */
};

#define TEST(name, of, i) { #name " of " of, name, begin, finish, &settings[i] }
#define BOTH(of, i)                         \
	TEST(any_bit_of_any_record, of, i), \
	TEST(some_bits_of_a_large_record, of, i)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH("TLS 1.3 (cpu)", 0),
		BOTH("TLS 1.3 (async)", 1),
		BOTH("TLS 1.2 (cpu)", 2),
		BOTH("TLS 1.2 (async)", 3),
		BOTH("TLS 1.2 with ChaCha20 (cpu)", 4),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
