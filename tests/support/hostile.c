/* SPDX-License-Identifier: MIT */
#include "hostile.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

uint8_t content[RECORD_PLAIN_MAX + 256];
uint8_t record[RECORD_WIRE_MAX + 64];
struct wire w;

/* Our end waits in its calls. */
void begin(enum tls_context_kind kind)
{
	wire_new(&w, &(struct wire_options){ .kind = kind, .blocking = true });
}

void begin_client(void)
{
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP,
					     .blocking = true,
					     .we_are_client = true });
}

void both_kinds(void (*check)(enum tls_context_kind kind))
{
	check(TLS_CONTEXT_LOOP);
	check(TLS_CONTEXT_WORKER);
}

/* Nobody sends any more. */
void end_stream(void)
{
	assert_int_equal(shutdown(w.fd, SHUT_WR), 0);
}

void expect_data(const void *data, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = tls_read(w.conn, content + done, len - done);

		if (n <= 0)
			fail_msg("read %zd: %s", n, tls_conn_error(w.conn));
		done += (size_t)n;
	}
	assert_memory_equal(content, data, len);
}

static void expect_no_more_to_read(int error)
{
	static uint8_t received[RECORD_PLAIN_MAX + 256];
	uint8_t type;

	assert_int_equal(tls_read(w.conn, content, 1), error);
	assert_int_equal(tls_write(w.conn, "on", 2), 2);
	assert_int_equal(tls_flush(w.conn), 0);
	assert_int_equal(wire_receive(&w, &type, received), 2);
	assert_int_equal(tls_read(w.conn, content, sizeof(content)), error);
	assert_int_equal(tls_close(w.conn, 1000), 0);
	w.conn = NULL;
	wire_expect_alert(&w, ALERT_CLOSE_NOTIFY);
}

void expect_no_more_to_write(int error)
{
	assert_int_equal(tls_write(w.conn, "x", 1), error);
	assert_int_equal(tls_send(w.conn, "x", 1, TLS_MORE), error);
	assert_int_equal(tls_flush(w.conn), error);
	assert_int_equal(tls_shutdown(w.conn), error);
}

void expect_sticky(int error)
{
	if (error == -ENODATA) {
		expect_no_more_to_read(error);
		return;
	}
	assert_int_equal(tls_read(w.conn, content, 1), error);
	expect_no_more_to_write(error);
	assert_int_equal(tls_read(w.conn, content, sizeof(content)), error);
	assert_int_equal(tls_close(w.conn, 1000), error);
	w.conn = NULL;
}

/*
 * The next read fails so, the alert arrives at the peer, and nothing else
 * does; ends w.
 */
void expect_end(int error, int alert)
{
	memset(content, 0xdb, 64);
	assert_int_equal(tls_read(w.conn, content, sizeof(content)), error);
	assert_int_equal(content[0], 0xdb);
	assert_int_equal(content[63], 0xdb);
	assert_int_not_equal(strlen(tls_conn_error(w.conn)), 0);
	tls_context_process(w.ctx);
	assert_int_equal(tls_conn_alert_sent(w.conn), alert);
	if (alert != ALERT_NONE)
		wire_expect_alert(&w, alert);
	expect_sticky(error);
	assert_true(wire_silent(&w));
	wire_free(&w);
}
