/* SPDX-License-Identifier: MIT */
#include "accel_wire.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <cmocka.h>

int accel_restored(void **state)
{
	(void)state;
	accel_restore();
	return 0;
}

/* A connection on the accelerator, which has seen nothing of it yet. */
void accel_open(struct wire *w, struct wire_options options)
{
	if (!options.driver)
		options.driver = ACCEL_GCM;
	options.tcp = true;
	wire_new(w, &options);
	accel_wait_idle();
	accel_set("reset", 1);
}

struct tls_stats accel_stats(struct wire *w)
{
	struct tls_stats s;

	assert_int_equal(tls_context_stats(w->ctx, &s, sizeof(s)), 0);
	return s;
}

double ms_since(uint64_t then)
{
	return (double)(now_ns() - then) / NS_PER_MS;
}

/* ---- Streams ----------------------------------------------------------- */

void *write_stream(void *arg)
{
	struct sender *s = arg;
	static uint8_t buf[CHUNK];
	size_t done = 0;

	while (done < s->len) {
		size_t n = min_size(s->len - done, sizeof(buf));
		ssize_t wrote;

		pattern_fill(buf, s->from + done, n);
		wrote = tls_write(s->w->conn, buf, n);
		if (wrote != (ssize_t)n) {
			s->result = wrote < 0 ? wrote : -EAGAIN;
			return NULL;
		}
		done += n;
	}
	s->result = tls_flush(s->w->conn);
	return NULL;
}

void *send_stream(void *arg)
{
	struct sender *s = arg;
	static uint8_t buf[RECORD];
	size_t done;

	for (done = 0; done < s->len; done += RECORD) {
		pattern_fill(buf, s->from + done, RECORD);
		wire_send(s->w, RECORD_DATA, buf, RECORD);
	}
	return NULL;
}

/* The peer opens the records and finds len bytes of the pattern. */
void peer_receives(struct wire *w, size_t from, size_t len)
{
	uint8_t content[RECORD + 256], type;
	size_t done = 0;

	while (done < len) {
		ssize_t n = wire_receive(w, &type, content);

		assert_true(n > 0);
		assert_int_equal(type, RECORD_DATA);
		pattern_check(content, from + done, (size_t)n);
		done += (size_t)n;
	}
	assert_int_equal(done, len);
}

void we_receive(struct wire *w, size_t from, size_t len)
{
	static uint8_t buf[CHUNK];
	size_t done = 0;

	while (done < len) {
		ssize_t n = tls_read(w->conn, buf,
				     min_size(len - done, sizeof(buf)));

		if (n <= 0)
			fail_msg("after %zu bytes: %s", done,
				 tls_conn_error(w->conn));
		pattern_check(buf, from + done, (size_t)n);
		done += (size_t)n;
	}
}

/* Ours to the peer, and is it one unbroken stream? */
void transmit(struct wire *w, size_t len)
{
	struct sender s = { .w = w, .len = len };
	pthread_t thread;

	pthread_create(&thread, NULL, write_stream, &s);
	peer_receives(w, 0, len);
	pthread_join(thread, NULL);
	assert_int_equal(s.result, 0);
}

void receive(struct wire *w, size_t len)
{
	struct sender s = { .w = w, .len = len };
	pthread_t thread;

	pthread_create(&thread, NULL, send_stream, &s);
	we_receive(w, 0, len);
	pthread_join(thread, NULL);
}

struct wire_options accel_blocking(enum tls_context_kind kind)
{
	return (struct wire_options){ .kind = kind, .blocking = true };
}

/* ---- A sink ------------------------------------------------------------ */

/* Takes all that comes and looks at nothing, until the stream ends. */
static void *drain(void *arg)
{
	static uint8_t buf[1 << 18];
	const int *fd = arg;

	while (recv(*fd, buf, sizeof(buf), 0) > 0)
		;
	return NULL;
}

/* A connection to a sink, on a null cipher. */
void sink_open(struct sink *sink, enum tls_context_kind kind,
		      unsigned depth)
{
	struct wire_options options = accel_blocking(kind);

	options.depth = depth;
	options.not_recorded = true; /* what is measured is not the test */
	accel_open(&sink->w, options);
	accel_set("null_cipher", 1);
	pthread_create(&sink->thread, NULL, drain, &sink->w.fd);
}

void sink_close(struct sink *sink)
{
	tls_close(sink->w.conn, 0);
	sink->w.conn = NULL;
	shutdown(sink->w.conn_fd, SHUT_RDWR);
	pthread_join(sink->thread, NULL);
	wire_free(&sink->w);
	accel_restore();
}
