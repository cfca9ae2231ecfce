/* SPDX-License-Identifier: MIT */
/* Where records begin and end, as the peer sees it: sizes, padding, buffers. */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "context/ctx.h"
#include "either.h"

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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
