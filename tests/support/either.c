/* SPDX-License-Identifier: MIT */
#include "either.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cmocka.h>

struct fake_engine *fake; /* NULL: on the CPU engine */
struct wire w;
size_t taken, read_back; /* of the pattern */
uint8_t data[1 << 20];	/* the pattern from 0 on */
uint8_t content[RECORD_PLAIN_MAX + 256];

int on_the_cpu(void **state)
{
	(void)state;
	fake = NULL;
	taken = read_back = 0;
	pattern_fill(data, 0, sizeof(data));
	return 0;
}

int asynchronously(void **state)
{
	on_the_cpu(state);
	fake = fake_new();
	return 0;
}

int finish(void **state)
{
	(void)state;
	if (w.ctx)
		wire_free(&w);
	memset(&w, 0, sizeof(w));
	if (fake)
		fake_free(fake);
	return 0;
}

void open_wire(struct wire_options options)
{
	options.fake = fake;
	options.kind = TLS_CONTEXT_LOOP;
	wire_new(&w, &options);
}

struct tls_stats stats(void)
{
	struct tls_stats s;

	assert_int_equal(tls_context_stats(w.ctx, &s, sizeof(s)), 0);
	return s;
}

void settle(void)
{
	do {
		if (fake)
			fake_complete_all(fake);
		assert_int_equal(tls_context_process(w.ctx), 0);
	} while (fake && fake_pending(fake));
}

void write_pattern(size_t len, unsigned flags)
{
	assert_int_equal(tls_send(w.conn, data + taken, len, flags), len);
	taken += len;
}

void expect_record(size_t len)
{
	uint8_t type;

	assert_int_equal(wire_receive(&w, &type, content), len);
	assert_int_equal(type, RECORD_DATA);
	pattern_check(content, read_back, len);
	read_back += len;
}

void expect_no_more(void)
{
	assert_int_equal(read_back, taken);
	assert_true(wire_silent(&w));
}

/* Of a record that the socket took half of, the rest may need our help. */
static bool record_waits(void)
{
	uint8_t header[RECORD_HEADER];
	int have = 0;

	if (ioctl(w.fd, FIONREAD, &have) || have < RECORD_HEADER)
		return false;
	recv(w.fd, header, sizeof(header), MSG_PEEK);
	return have >= RECORD_HEADER + (header[3] << 8 | header[4]);
}

int drain(void)
{
	int records = 0;
	uint8_t type;

	while (record_waits()) {
		ssize_t n = wire_receive(&w, &type, content);

		assert_true(n > 0);
		pattern_check(content, read_back, (size_t)n);
		read_back += (size_t)n;
		records++;
	}
	return records;
}
