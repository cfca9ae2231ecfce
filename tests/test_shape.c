/* SPDX-License-Identifier: MIT */
/*
 * Where records begin and end, as the peer sees them: their sizes and padding,
 * scattered buffers, files.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "ctx.h"
#include "fake_engine.h"
#include "wire.h"

static struct fake_engine *fake; /* NULL: on the CPU engine */
static struct wire w;
static size_t taken, read_back; /* of the pattern */
static uint8_t data[1 << 20];	/* the pattern from 0 on */
static uint8_t content[RECORD_PLAIN_MAX + 256];

static int on_the_cpu(void **state)
{
	(void)state;
	fake = NULL;
	taken = read_back = 0;
	pattern_fill(data, 0, sizeof(data));
	return 0;
}

static int asynchronously(void **state)
{
	on_the_cpu(state);
	fake = fake_new();
	return 0;
}

static int finish(void **state)
{
	(void)state;
	if (w.ctx)
		wire_free(&w);
	memset(&w, 0, sizeof(w));
	if (fake)
		fake_free(fake);
	return 0;
}

static void open_wire(struct wire_options options)
{
	options.fake = fake;
	options.kind = TLS_CONTEXT_LOOP;
	wire_new(&w, &options);
}

static struct tls_stats stats(void)
{
	struct tls_stats s;

	assert_int_equal(tls_context_stats(w.ctx, &s, sizeof(s)), 0);
	return s;
}

/* Let everything complete and leave that can. */
static void settle(void)
{
	do {
		if (fake)
			fake_complete_all(fake);
		assert_int_equal(tls_context_process(w.ctx), 0);
	} while (fake && fake_pending(fake));
}

static void write_pattern(size_t len, unsigned flags)
{
	assert_int_equal(tls_send(w.conn, data + taken, len, flags), len);
	taken += len;
}

/* The next record has len bytes, and they are the next of the pattern. */
static void expect_record(size_t len)
{
	uint8_t type;

	assert_int_equal(wire_receive(&w, &type, content), len);
	assert_int_equal(type, RECORD_DATA);
	pattern_check(content, read_back, len);
	read_back += len;
}

/* ... and that was all there is. */
static void expect_no_more(void)
{
	assert_int_equal(read_back, taken);
	assert_true(wire_silent(&w));
}

/* ---- Padding ----------------------------------------------------------- */

static void pad_records(uint16_t suite)
{
	static const size_t sizes[] = { 1, 254, 255, 256, 511, 700, 5000 };
	size_t i, zeros = 0;

	open_wire((struct wire_options){ .suite = suite });
	assert_int_equal(tls_conn_set_padding(w.conn, 256), 0);
	for (i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		write_pattern(sizes[i], 0);
	settle();
	for (i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		expect_record(sizes[i]);
		assert_int_equal(w.inner_len, (sizes[i] + 256) / 256 * 256);
		zeros += w.inner_len - sizes[i] - 1;
	}
	expect_no_more();
	assert_int_equal(stats().tx_padding_bytes, zeros);
	assert_int_equal(stats().tx_copied_bytes, fake ? taken : 0);
}

static void records_are_padded_to_a_multiple(void **state)
{
	(void)state;
	pad_records(TLS_AES_128_GCM);
}

static void records_of_aes_256_are_padded(void **state)
{
	(void)state;
	pad_records(TLS_AES_256_GCM);
}

static void records_of_chacha20_are_padded(void **state)
{
	(void)state;
	pad_records(TLS_CHACHA20_POLY1305);
}

static void padding_ends_where_a_record_must(void **state)
{
	(void)state;
	open_wire((struct wire_options){ 0 });
	assert_int_equal(tls_conn_set_padding(w.conn, 1000), 0);
	write_pattern(16380, 0);
	write_pattern(16384, 0);
	assert_int_equal(tls_conn_set_padding(w.conn, 16384), 0);
	write_pattern(1, 0);
	settle();
	expect_record(16380);
	assert_int_equal(w.inner_len, 16385);
	expect_record(16384);
	assert_int_equal(w.inner_len, 16385);
	expect_record(1);
	assert_int_equal(w.inner_len, 16384);
	expect_no_more();
}

static void alerts_are_padded_too(void **state)
{
	(void)state;
	open_wire((struct wire_options){ 0 });
	assert_int_equal(tls_conn_set_padding(w.conn, 64), 0);
	tls_shutdown(w.conn);
	settle();
	wire_expect_alert(&w, ALERT_CLOSE_NOTIFY);
	assert_int_equal(w.inner_len, 64);
}

static void padding_can_be_switched_off_again(void **state)
{
	(void)state;
	open_wire((struct wire_options){ 0 });
	assert_int_equal(tls_conn_set_padding(w.conn, 64), 0);
	write_pattern(10, 0);
	assert_int_equal(tls_conn_set_padding(w.conn, 0), 0);
	write_pattern(10, 0);
	settle();
	expect_record(10);
	assert_int_equal(w.inner_len, 64);
	expect_record(10);
	assert_int_equal(w.inner_len, 11);
	expect_no_more();
}

static void padding_over_a_record_is_refused(void **state)
{
	(void)state;
	open_wire((struct wire_options){ 0 });
	assert_int_equal(tls_conn_set_padding(w.conn, 16385), -EINVAL);
	assert_string_equal(tls_last_error(),
			    "no record can be padded to a multiple of 16385 "
			    "bytes: at most 16384");
	write_pattern(10, 0);
	settle();
	expect_record(10);
	assert_int_equal(w.inner_len, 11);
}

static void a_padded_record_fails_over_as_it_is(void **state)
{
	(void)state;
	open_wire((struct wire_options){ 0 });
	assert_int_equal(tls_conn_set_padding(w.conn, 512), 0);
	fake_refuse(fake, 1);
	write_pattern(100, 0);
	write_pattern(200, 0);
	write_pattern(300, 0);
	fake_complete(fake, 1, FAKE_FAILS);
	settle();
	expect_record(100);
	assert_int_equal(w.inner_len, 512);
	expect_record(200);
	assert_int_equal(w.inner_len, 512);
	expect_record(300);
	assert_int_equal(w.inner_len, 512);
	expect_no_more();
}

/* ---- Sizes ------------------------------------------------------------- */

static void expect_records_of(size_t limit)
{
	while (read_back < taken)
		expect_record(taken - read_back < limit ? taken - read_back :
							  limit);
	expect_no_more();
}

static void records_are_no_larger_than_asked(void **state)
{
	static const size_t limits[] = { 64, 65, 1000, 16383, 16384 };
	size_t i;

	(void)state;
	open_wire((struct wire_options){ 0 });
	for (i = 0; i < sizeof(limits) / sizeof(*limits); i++) {
		assert_int_equal(tls_conn_set_record_size(w.conn, limits[i]),
				 0);
		write_pattern(3 * limits[i] - 1, 0);
		settle();
		expect_records_of(limits[i]);
		write_pattern(limits[i], 0);
		settle();
		expect_records_of(limits[i]);
	}
	assert_int_equal(stats().tx_copied_bytes, fake ? taken : 0);
}

static void the_configuration_sets_what_to_begin_with(void **state)
{
	int fd;

	(void)state;
	open_wire((struct wire_options){ .record_size = 500 });
	write_pattern(1200, 0);
	settle();
	expect_records_of(500);
	/* and put together or read from a file, all the same */
	write_pattern(200, TLS_MORE);
	write_pattern(1200, 0);
	settle();
	expect_records_of(500);
	fd = memfd_create("records", 0);
	assert_int_equal(write(fd, data + taken, 1700), 1700);
	lseek(fd, 0, SEEK_SET);
	assert_int_equal(tls_sendfile(w.conn, fd, NULL, 1700), 1700);
	close(fd);
	taken += 1700;
	settle();
	expect_records_of(500);
}

static void an_open_record_keeps_its_size(void **state)
{
	(void)state;
	open_wire((struct wire_options){ 0 });
	write_pattern(1000, TLS_MORE);
	assert_int_equal(tls_conn_set_record_size(w.conn, 100), 0);
	write_pattern(16384 - 1000 + 250, 0);
	settle();
	expect_record(16384);
	expect_records_of(100);
}

static void sizes_beyond_a_record_are_refused(void **state)
{
	static const size_t wrong[] = { 0, 63, 16385, SIZE_MAX };
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *ctx;
	size_t i;

	(void)state;
	open_wire((struct wire_options){ 0 });
	for (i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		assert_int_equal(tls_conn_set_record_size(w.conn, wrong[i]),
				 -EINVAL);
		config.record_size = wrong[i];
		if (wrong[i])
			assert_int_equal(tls_context_new(&ctx, &config),
					 -EINVAL);
	}
	assert_string_equal(tls_last_error(),
			    "records of at most 18446744073709551615 bytes: "
			    "the limit may be 64 to 16384");
}

static void a_small_record_may_be_padded_beyond_its_size(void **state)
{
	(void)state;
	open_wire((struct wire_options){ .record_size = 100 });
	assert_int_equal(tls_conn_set_padding(w.conn, 512), 0);
	write_pattern(250, 0);
	settle();
	expect_record(100);
	assert_int_equal(w.inner_len, 512);
	expect_records_of(100);
}

static void expect_a_ramp(void)
{
	const size_t start = read_back;

	while (read_back - start < 16 << 10)
		expect_record(1369);
	while (read_back - start < 64 << 10)
		expect_record(4229);
	while (taken - read_back >= 16384)
		expect_record(16384);
	expect_record(taken - read_back);
	expect_no_more();
}

static void records_grow_on_a_new_connection(void **state)
{
	(void)state;
	open_wire((struct wire_options){ .record_ramp = true });
	write_pattern(120000, 0);
	settle();
	expect_a_ramp();
	write_pattern(40000, 0); /* and stay as they are */
	settle();
	expect_records_of(16384);
}

static void records_grow_again_after_a_second_without_data(void **state)
{
	(void)state;
	open_wire((struct wire_options){ .record_ramp = true });
	write_pattern(120000, 0);
	settle();
	expect_a_ramp();
	w.conn->tx.last_data = now_ns() - 1100 * (uint64_t)NS_PER_MS;
	write_pattern(100000, 0);
	settle();
	expect_a_ramp();
	w.conn->tx.last_data = now_ns() - 500 * (uint64_t)NS_PER_MS;
	write_pattern(20000, 0);
	settle();
	expect_records_of(16384);
}

static void growing_records_do_not_outgrow_their_limit(void **state)
{
	(void)state;
	open_wire((struct wire_options){ .record_ramp = true,
					 .record_size = 2000 });
	write_pattern(30000, 0);
	settle();
	while (read_back < 16 << 10)
		expect_record(1369);
	expect_records_of(2000);
}

/* ---- Scattered buffers ------------------------------------------------- */

/* Write pieces of these sizes, cut from the pattern, with one call. */
static ssize_t writev_pattern(const size_t *sizes, int n)
{
	struct iovec iov[64];
	size_t at = taken;
	ssize_t ret;
	int i;

	for (i = 0; i < n; i++) {
		iov[i] = (struct iovec){ data + at, sizes[i] };
		at += sizes[i];
	}
	ret = tls_writev(w.conn, iov, n);
	if (ret > 0)
		taken += (size_t)ret;
	return ret;
}

static void a_header_and_a_body_are_one_record(void **state)
{
	static const size_t sizes[] = { 200, 3000 };

	(void)state;
	open_wire((struct wire_options){ 0 });
	assert_int_equal(writev_pattern(sizes, 2), 3200);
	settle();
	expect_record(3200);
	expect_no_more();
	assert_int_equal(stats().tx_copied_bytes, 3200);
}

static void records_do_not_mind_where_buffers_end(void **state)
{
	static const size_t sizes[] = { 20000, 0, 1, 30000, 16384, 5, 0 };
	size_t total = 20000 + 1 + 30000 + 16384 + 5, n = total;

	(void)state;
	open_wire((struct wire_options){ 0 });
	assert_int_equal(writev_pattern(sizes, 7), total);
	settle();
	for (; n > RECORD_PLAIN_MAX; n -= RECORD_PLAIN_MAX)
		expect_record(RECORD_PLAIN_MAX);
	expect_record(n);
	expect_no_more();
}

static void what_lies_in_one_buffer_is_not_copied(void **state)
{
	static const size_t whole[] = { 2 * 16384, 16384, 0, 700 };
	static const size_t spanning[] = { 100, 16384 + 16284, 7 };

	(void)state;
	open_wire((struct wire_options){ 0 });
	assert_int_equal(writev_pattern(whole, 4), 3 * 16384 + 700);
	assert_int_equal(stats().tx_copied_bytes, 0);
	/* the record that a header begins is put together, the next is not */
	assert_int_equal(writev_pattern(spanning, 3), 2 * 16384 + 7);
	assert_int_equal(stats().tx_copied_bytes, 16384);
	settle();
	assert_int_equal(stats().tx_records[TLS_BY_CPU], 7);
}

static void an_open_record_is_gone_on_with(void **state)
{
	static const size_t sizes[] = { 20000, 300 };

	(void)state;
	open_wire((struct wire_options){ 0 });
	write_pattern(500, TLS_MORE);
	assert_int_equal(writev_pattern(sizes, 2), 20300);
	settle();
	expect_record(16384);
	expect_record(500 + 20300 - 16384);
	expect_no_more();
	/* each byte once, on either engine: of the second record too */
	assert_int_equal(stats().tx_copied_bytes, 20800);
}

static void nothing_to_write_is_written(void **state)
{
	static const size_t sizes[] = { 0, 0 };

	(void)state;
	open_wire((struct wire_options){ 0 });
	assert_int_equal(writev_pattern(sizes, 2), 0);
	assert_int_equal(tls_writev(w.conn, NULL, 0), 0);
	settle();
	expect_no_more();
	assert_int_equal(stats().tx_records[TLS_BY_CPU], 0);
}

static void lengths_that_make_no_sense_are_refused(void **state)
{
	const struct iovec iov[] = { { data, SSIZE_MAX }, { data, 1 } };

	(void)state;
	open_wire((struct wire_options){ 0 });
	assert_int_equal(tls_writev(w.conn, iov, -1), -EINVAL);
	assert_int_equal(tls_writev(w.conn, iov, 2), -EINVAL);
	assert_non_null(strstr(tls_last_error(), "tls_writev()"));
	write_pattern(5, 0);
	settle();
	expect_record(5);
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

/* Receive the records that have come; returns how many. */
static int drain(void)
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

static void any_shape_is_as_few_records_as_can_be(void **state)
{
	int round, n;

	(void)state;
	open_wire((struct wire_options){ 0 });
	srand(1);
	for (round = 0; round < 300; round++) {
		static const size_t upto[] = { 2, 100, 5000, 17000 };
		size_t sizes[8], total = 0;

		taken = read_back = 0;
		for (n = 0; n < 1 + round % 8; n++) {
			sizes[n] = (size_t)rand() % upto[rand() % 4];
			total += sizes[n];
		}
		assert_int_equal(writev_pattern(sizes, n), total);
		settle();
		assert_int_equal(drain(), (total + 16383) / 16384);
		expect_no_more();
	}
}

static void a_full_window_takes_part_and_goes_on_later(void **state)
{
	const size_t total = sizeof(data);
	struct tls_event event;
	int refusals = 0;

	(void)state;
	open_wire((struct wire_options){ .depth = 2 });
	while (taken < total) {
		size_t left = total - taken;
		size_t sizes[] = { left / 3, left / 2, left - left / 3 -
						       left / 2 };
		ssize_t n = writev_pattern(sizes, 3);

		if (n != -EAGAIN) {
			assert_true(n > 0);
			continue;
		}
		refusals++;
		do {
			settle();
			drain();
		} while (!tls_context_wait(w.ctx, &event, 1, 0));
		assert_int_equal(event.events, TLS_WRITABLE);
	}
	while (read_back < taken) {
		settle();
		drain();
	}
	expect_no_more();
	assert_true(refusals > 0);
}

/* ---- Files ------------------------------------------------------------- */

enum { MIB = 1 << 20 };

/* A file of the pattern, from byte 0 on; it has no name any more. */
static int pattern_file(size_t len)
{
	char name[] = "/tmp/asynctls-shape.XXXXXX";
	int fd = mkstemp(name);
	size_t at, n;

	assert_true(fd >= 0);
	unlink(name);
	for (at = 0; at < len; at += n) {
		static uint8_t buf[MIB];

		n = len - at < MIB ? len - at : MIB;
		pattern_fill(buf, at, n);
		assert_int_equal(write(fd, buf, n), n);
	}
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

static void a_file_leaves_in_full_records(void **state)
{
	const size_t len = 2 * 16384 + 100;
	int fd = pattern_file(len);
	off_t offset = 0;

	(void)state;
	open_wire((struct wire_options){ 0 });
	assert_int_equal(tls_sendfile(w.conn, fd, &offset, len), len);
	taken = len;
	assert_int_equal(offset, len);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 0);
	settle();
	expect_record(16384);
	expect_record(16384);
	expect_record(100);
	expect_no_more();
	/* the one copy is the kernel's, on either engine */
	assert_int_equal(stats().tx_copied_bytes, 0);
	close(fd);
}

static void without_an_offset_the_position_is_used(void **state)
{
	int fd = pattern_file(1000);

	(void)state;
	open_wire((struct wire_options){ 0 });
	assert_int_equal(tls_sendfile(w.conn, fd, NULL, 300), 300);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 300);
	assert_int_equal(tls_sendfile(w.conn, fd, NULL, 0), 0);
	assert_int_equal(tls_sendfile(w.conn, fd, NULL, 700), 700);
	taken = 1000;
	settle();
	expect_record(300);
	expect_record(700);
	expect_no_more();
	close(fd);
}

static void a_header_leaves_in_one_record_with_its_file(void **state)
{
	int fd = pattern_file(20000);
	off_t offset = 150;

	(void)state;
	open_wire((struct wire_options){ 0 });
	write_pattern(150, TLS_MORE);
	assert_int_equal(tls_sendfile(w.conn, fd, &offset, 19850), 19850);
	taken = 20000;
	settle();
	expect_record(16384);
	expect_record(20000 - 16384);
	expect_no_more();
	assert_int_equal(stats().tx_copied_bytes, 150);
	close(fd);
}

static void at_the_end_of_the_file_less_is_taken(void **state)
{
	int fd = pattern_file(20000);
	off_t offset = 0;

	(void)state;
	open_wire((struct wire_options){ 0 });
	assert_int_equal(tls_sendfile(w.conn, fd, &offset, SIZE_MAX), 20000);
	assert_int_equal(offset, 20000);
	assert_int_equal(tls_sendfile(w.conn, fd, &offset, 10), 0);
	assert_int_equal(offset, 20000);
	taken = 20000;
	settle();
	expect_record(16384);
	expect_record(20000 - 16384);
	expect_no_more();
	close(fd);
}

static void a_file_that_is_truncated_ends_there(void **state)
{
	const size_t len = MIB, cut = MIB / 2 + 77;
	int fd = pattern_file(len);
	off_t offset = 0;
	ssize_t n;

	(void)state;
	open_wire((struct wire_options){ .depth = 2 });
	n = tls_sendfile(w.conn, fd, &offset, len);
	assert_in_range(n, 1, cut - 1);
	assert_int_equal(ftruncate(fd, (off_t)cut), 0);
	while (n) {
		settle();
		drain();
		n = tls_sendfile(w.conn, fd, &offset, len - (size_t)offset);
		if (n < 0)
			assert_int_equal(n, -EAGAIN);
	}
	assert_int_equal(offset, cut);
	taken = cut;
	while (read_back < taken) {
		settle();
		drain();
	}
	expect_no_more();
	close(fd);
}

static void what_is_no_file_is_refused_and_harms_nothing(void **state)
{
	int pipes[2], fd = pattern_file(10), directory = open("/", O_RDONLY);
	int unreadable = open("/tmp", O_TMPFILE | O_WRONLY, 0600);
	off_t offset = 0;

	(void)state;
	assert_int_equal(pipe(pipes), 0);
	open_wire((struct wire_options){ 0 });
	assert_int_equal(tls_sendfile(w.conn, -1, &offset, 1), -EBADF);
	assert_int_equal(tls_sendfile(w.conn, directory, NULL, 1), -EISDIR);
	assert_non_null(strstr(tls_last_error(), "is a directory"));
	assert_int_equal(tls_sendfile(w.conn, pipes[0], NULL, 1), -EINVAL);
	assert_int_equal(tls_sendfile(w.conn, pipes[0], &offset, 1), -ESPIPE);
	assert_int_equal(tls_sendfile(w.conn, w.fd, &offset, 1), -ESPIPE);
	if (unreadable >= 0) /* not every file system has it */
		assert_int_equal(tls_sendfile(w.conn, unreadable, &offset, 1),
				 -EBADF);
	offset = -1;
	assert_int_equal(tls_sendfile(w.conn, fd, &offset, 1), -EINVAL);
	assert_string_equal(tls_conn_error(w.conn), "");
	assert_int_equal(tls_sendfile(w.conn, fd, NULL, 10), 10);
	taken = 10;
	settle();
	expect_record(10);
	expect_no_more();
	close(pipes[0]), close(pipes[1]);
	close(directory), close(unreadable), close(fd);
}

/*
 * Our own memory is a file that breaks off where a mapping goes beyond what is
 * mapped.
 */
static void a_file_that_breaks_off_is_told_after_what_was_read(void **state)
{
	const size_t len = 5 * 4096;
	int mapped = pattern_file(len), fd = open("/proc/self/mem", O_RDONLY);
	uint8_t *map = mmap(NULL, len + 4096, PROT_READ, MAP_SHARED, mapped, 0);
	off_t offset = (off_t)(uintptr_t)map;

	(void)state;
	assert_true(fd >= 0 && map != MAP_FAILED);
	open_wire((struct wire_options){ 0 });
	assert_int_equal(tls_sendfile(w.conn, fd, &offset, len + 100), len);
	assert_int_equal(offset, (uintptr_t)map + len);
	assert_int_equal(tls_sendfile(w.conn, fd, &offset, 100), -EIO);
	assert_non_null(strstr(tls_last_error(), "Input/output error"));
	assert_int_equal(offset, (uintptr_t)map + len);
	assert_string_equal(tls_conn_error(w.conn), "");
	taken = len;
	/* an open record stays open */
	write_pattern(5, TLS_MORE);
	assert_int_equal(tls_sendfile(w.conn, fd, &offset, 100), -EIO);
	write_pattern(5, 0);
	settle();
	expect_record(16384);
	expect_record(len - 16384);
	expect_record(10);
	expect_no_more();
	munmap(map, len + 4096);
	close(mapped);
	close(fd);
}

static void a_files_plaintext_is_fixed_once_it_is_taken(void **state)
{
	static uint8_t other[20000];
	int fd = pattern_file(sizeof(other));
	off_t offset = 0;

	(void)state;
	open_wire((struct wire_options){ 0 });
	assert_int_equal(tls_sendfile(w.conn, fd, &offset, sizeof(other)),
			 sizeof(other));
	assert_int_equal(pwrite(fd, other, sizeof(other), 0), sizeof(other));
	/* so the CPU engine seals what the kernel's had */
	fake_complete(fake, 1, FAKE_FAILS);
	fake_complete(fake, 0, FAKE_FAILS);
	taken = sizeof(other);
	settle();
	expect_record(16384);
	expect_record(sizeof(other) - 16384);
	expect_no_more();
	close(fd);
}

static void eight_mib_of_file_arrive(void **state)
{
	const size_t len = 8 * MIB;
	static uint8_t buf[256 << 10];
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *ctx;
	struct tls_conn *reader;
	int fd = pattern_file(len), calls = 0;
	off_t offset = 0;
	size_t got = 0;

	(void)state;
	open_wire((struct wire_options){ .tcp = true });
	config.kind = TLS_CONTEXT_LOOP;
	assert_int_equal(tls_context_new(&ctx, &config), 0);
	reader = wire_other_end(&w, ctx, false);
	while (got < len) {
		ssize_t n = tls_sendfile(w.conn, fd, &offset,
					 len - (size_t)offset);

		calls++;
		assert_true(n >= 0 || n == -EAGAIN);
		settle();
		while ((n = tls_read(reader, buf, sizeof(buf))) > 0) {
			pattern_check(buf, got, (size_t)n);
			got += (size_t)n;
		}
		assert_int_equal(n, -EAGAIN);
	}
	assert_int_equal(got, len);
	assert_int_equal(offset, len);
	assert_int_equal(stats().tx_copied_bytes, 0);
	assert_true(calls > 1);
	tls_close(reader, 0);
	tls_context_free(ctx);
	close(fd);
}

/* A blocking reader with a context of its own. */
static void *read_file_back(void *arg)
{
	static uint8_t buf[64 << 10];
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *ctx;
	struct tls_conn *reader;
	ssize_t n;

	(void)arg;
	assert_int_equal(tls_context_new(&ctx, &config), 0);
	reader = wire_other_end(&w, ctx, true);
	while ((n = tls_read(reader, buf, sizeof(buf))) > 0) {
		pattern_check(buf, read_back, (size_t)n);
		read_back += (size_t)n;
	}
	assert_int_equal(n, 0);
	tls_close(reader, 1000);
	tls_context_free(ctx);
	return NULL;
}

static void a_blocking_sendfile_takes_all(void **state)
{
	const size_t len = 8 * MIB;
	int fd = pattern_file(len);
	pthread_t thread;

	(void)state;
	wire_new(&w, &(struct wire_options){ .tcp = true, .blocking = true });
	pthread_create(&thread, NULL, read_file_back, NULL);
	assert_int_equal(tls_sendfile(w.conn, fd, NULL, len), len);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), len);
	assert_int_equal(tls_close(w.conn, 10000), 0);
	w.conn = NULL;
	pthread_join(thread, NULL);
	assert_int_equal(read_back, len);
	close(fd);
}

static void an_ended_connection_says_so_before_the_file_is_looked_at(
	void **state)
{
	uint8_t type;

	(void)state;
	open_wire((struct wire_options){ 0 });
	wire_send(&w, RECORD_HANDSHAKE, "?", 0); /* an empty one is an error */
	settle();
	assert_int_equal(tls_sendfile(w.conn, -1, NULL, 1), -EPROTO);
	settle();
	wire_receive(&w, &type, content);
	assert_int_equal(type, RECORD_ALERT);
}

/* ---- What the socket did not take --------------------------------------- */

/* Fill the socket and what comes before it. */
static void fill_the_way(void)
{
	ssize_t n;


	do {
		n = tls_write(w.conn, data + taken, 100000);
		if (n > 0)
			taken += (size_t)n;
		settle();
	} while (n != -EAGAIN && taken < sizeof(data) - 100000);
	assert_int_equal(n, -EAGAIN);
}

/* After the close: whole records that the socket had taken, and no more. */
static size_t whole_records(void)
{
	uint8_t type;

	while (record_waits()) {
		ssize_t n = wire_receive(&w, &type, content);

		assert_int_equal(type, RECORD_DATA);
		pattern_check(content, read_back, (size_t)n);
		read_back += (size_t)n;
	}
	return read_back;
}

static void a_flush_ends_in_time_and_says_what_is_left(void **state)
{
	uint64_t began;
	ssize_t left;

	(void)state;
	open_wire((struct wire_options){ .depth = 2, .blocking = true });
	set_blocking(w.conn_fd, false);
	fill_the_way();
	set_blocking(w.conn_fd, true); /* that must not matter */
	began = now_ns();
	left = tls_flush_timeout(w.conn, 30);
	assert_true(left > 0);
	assert_in_range(now_ns() - began, 29 * (uint64_t)NS_PER_MS,
			2000 * (uint64_t)NS_PER_MS);
	assert_int_equal(tls_flush_timeout(w.conn, 0), left);
	assert_true(now_ns() - began < 3000 * (uint64_t)NS_PER_MS);
	/* a record taken in part, then read in part, is still not taken */
	assert_int_equal(whole_records() + (size_t)left, taken);
	/* and what is left in line is not lost */
	while (read_back < taken) {
		settle();
		tls_flush_timeout(w.conn, 10);
		whole_records();
	}
	assert_int_equal(tls_flush_timeout(w.conn, -1), 0);
	expect_no_more();
}

static void a_flush_tells_when_the_rest_is_gone(void **state)
{
	struct tls_event event;

	(void)state;
	open_wire((struct wire_options){ .depth = 2 });
	fill_the_way();
	while (tls_context_wait(w.ctx, &event, 1, 0))
		;
	w.conn->wants_room = false;
	assert_true(tls_flush_timeout(w.conn, 5) > 0);
	assert_int_equal(tls_context_wait(w.ctx, &event, 1, 0), 0);
	while (read_back < taken) {
		settle();
		whole_records();
	}
	assert_int_equal(tls_context_wait(w.ctx, &event, 1, 1000), 1);
	assert_int_equal(event.events, TLS_WRITABLE);
	assert_int_equal(tls_flush_timeout(w.conn, 0), 0);
}

static void a_flush_seals_the_open_record(void **state)
{
	(void)state;
	open_wire((struct wire_options){ 0 });
	write_pattern(100, TLS_MORE);
	if (fake) {
		assert_int_equal(tls_flush_timeout(w.conn, 5), 100);
		settle();
	}
	assert_int_equal(tls_flush_timeout(w.conn, 1000), 0);
	expect_record(100);
	expect_no_more();
}

/* Content in whole records of everything that still comes. */
static size_t content_until_the_end(void)
{
	static uint8_t all[2 * sizeof(data)];
	size_t have = 0, at = 0, sum = 0;
	ssize_t n;

	while ((n = recv(w.fd, all + have, sizeof(all) - have, 0)) > 0)
		have += (size_t)n;
	while (have - at >= RECORD_HEADER) {
		size_t body = (size_t)all[at + 3] << 8 | all[at + 4];

		if (have - at < RECORD_HEADER + body)
			break;
		at += RECORD_HEADER + body;
		sum += body - RECORD_TAG - 1;
	}
	return sum;
}

/* A socket half full of a record, records behind it, and an open one. */
static void close_over_a_full_socket(int timeout_ms, bool tcp)
{
	const int small = 64 << 10;
	uint64_t began;
	ssize_t lost;

	open_wire((struct wire_options){ .depth = tcp ? 8 : 2, .tcp = tcp });
	if (tcp) {
		setsockopt(w.conn_fd, SOL_SOCKET, SO_SNDBUF, &small,
			   sizeof(small));
		setsockopt(w.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	}
	fill_the_way();
	usleep(tcp ? 20000 : 0); /* its buffers may have grown */
	settle();
	fill_the_way();
	/* as much as the last record has room for */
	if (tls_send(w.conn, data + taken, 777, TLS_MORE) == 777)
		taken += 777;
	began = now_ns();
	lost = tls_close(w.conn, timeout_ms);
	w.conn = NULL;
	assert_true(lost > 0);
	assert_true(now_ns() - began < 2000 * (uint64_t)NS_PER_MS);
	if (timeout_ms)
		assert_true(now_ns() - began >= timeout_ms * 900000u);
	shutdown(w.conn_fd, SHUT_WR);
	assert_int_equal(content_until_the_end() + (size_t)lost, taken);
}

static void a_close_counts_what_a_full_socket_did_not_take(void **state)
{
	(void)state;
	close_over_a_full_socket(0, false);
}

static void a_close_counts_it_after_its_time_too(void **state)
{
	(void)state;
	close_over_a_full_socket(30, false);
}

/* Here the send ends in the middle of a record when it is cancelled. */
static void a_close_counts_a_send_cut_short(void **state)
{
	(void)state;
	close_over_a_full_socket(20, true);
}

static void a_close_counts_what_a_hung_engine_has(void **state)
{
	uint64_t began;

	(void)state;
	open_wire((struct wire_options){ 0 });
	fake_cling(fake);
	write_pattern(3000, 0);
	write_pattern(4000, 0);
	fake_complete(fake, 0, FAKE_OK); /* it leaves */
	tls_context_process(w.ctx);
	write_pattern(500, 0);
	fake_complete(fake, 1, FAKE_OK); /* it may not */
	write_pattern(60, TLS_MORE);	 /* open */
	assert_int_equal(fake_pending(fake), 1);
	began = now_ns();
	assert_int_equal(tls_close(w.conn, 50), 4560);
	w.conn = NULL;
	assert_in_range(now_ns() - began, 49 * (uint64_t)NS_PER_MS,
			900 * (uint64_t)NS_PER_MS);
	fake_scribble(fake);
	expect_record(3000);
	assert_true(wire_silent(&w));
}

static void a_close_in_time_loses_nothing(void **state)
{
	(void)state;
	open_wire((struct wire_options){ 0 });
	write_pattern(40000, 0);
	write_pattern(60, TLS_MORE);
	assert_int_equal(tls_close(w.conn, 1000), 0);
	w.conn = NULL;
	expect_record(16384);
	expect_record(16384);
	expect_record(40000 - 2 * 16384);
	expect_record(60);
	wire_expect_alert(&w, ALERT_CLOSE_NOTIFY);
	expect_no_more();
}

/* A worker's context has other threads that could take completions away. */
static void a_workers_close_counts_too(void **state)
{
	ssize_t n, lost;

	(void)state;
	wire_new(&w, &(struct wire_options){ .depth = 2 });
	while ((n = tls_write(w.conn, data + taken, 100000)) > 0)
		taken += (size_t)n;
	assert_int_equal(n, -EAGAIN);
	lost = tls_close(w.conn, 30);
	w.conn = NULL;
	assert_true(lost > 0);
	assert_int_equal(whole_records() + (size_t)lost, taken);
}

/* ------------------------------------------------------------------------ */

#define CPU(test) { #test " (cpu)", test, on_the_cpu, finish, NULL }
#define ASYNC(test) { #test " (async)", test, asynchronously, finish, NULL }
#define BOTH(test) CPU(test), ASYNC(test)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(records_are_padded_to_a_multiple),
		BOTH(records_of_aes_256_are_padded),
		BOTH(records_of_chacha20_are_padded),
		BOTH(padding_ends_where_a_record_must),
		BOTH(alerts_are_padded_too),
		BOTH(padding_can_be_switched_off_again),
		BOTH(padding_over_a_record_is_refused),
		ASYNC(a_padded_record_fails_over_as_it_is),
		BOTH(records_are_no_larger_than_asked),
		BOTH(the_configuration_sets_what_to_begin_with),
		BOTH(an_open_record_keeps_its_size),
		CPU(sizes_beyond_a_record_are_refused),
		BOTH(a_small_record_may_be_padded_beyond_its_size),
		BOTH(records_grow_on_a_new_connection),
		BOTH(records_grow_again_after_a_second_without_data),
		BOTH(growing_records_do_not_outgrow_their_limit),
		BOTH(a_header_and_a_body_are_one_record),
		BOTH(records_do_not_mind_where_buffers_end),
		CPU(what_lies_in_one_buffer_is_not_copied),
		BOTH(an_open_record_is_gone_on_with),
		BOTH(nothing_to_write_is_written),
		BOTH(lengths_that_make_no_sense_are_refused),
		BOTH(any_shape_is_as_few_records_as_can_be),
		BOTH(a_full_window_takes_part_and_goes_on_later),
		BOTH(a_file_leaves_in_full_records),
		BOTH(without_an_offset_the_position_is_used),
		BOTH(a_header_leaves_in_one_record_with_its_file),
		BOTH(at_the_end_of_the_file_less_is_taken),
		BOTH(a_file_that_is_truncated_ends_there),
		BOTH(what_is_no_file_is_refused_and_harms_nothing),
		BOTH(a_file_that_breaks_off_is_told_after_what_was_read),
		ASYNC(a_files_plaintext_is_fixed_once_it_is_taken),
		BOTH(eight_mib_of_file_arrive),
		CPU(a_blocking_sendfile_takes_all),
		CPU(an_ended_connection_says_so_before_the_file_is_looked_at),
		BOTH(a_flush_ends_in_time_and_says_what_is_left),
		BOTH(a_flush_tells_when_the_rest_is_gone),
		BOTH(a_flush_seals_the_open_record),
		BOTH(a_close_counts_what_a_full_socket_did_not_take),
		BOTH(a_close_counts_it_after_its_time_too),
		BOTH(a_close_counts_a_send_cut_short),
		ASYNC(a_close_counts_what_a_hung_engine_has),
		CPU(a_close_in_time_loses_nothing),
		CPU(a_workers_close_counts_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
