/* SPDX-License-Identifier: MIT */
/* Files as records, and files that are none, end early or break off. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "either.h"

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

/* Reads the pattern until the end, waiting. */
static void *read_file_back(void *arg)
{
	static uint8_t buf[64 << 10];
	struct tls_conn *reader = arg;
	ssize_t n;

	while ((n = tls_read(reader, buf, sizeof(buf))) > 0) {
		pattern_check(buf, read_back, (size_t)n);
		read_back += (size_t)n;
	}
	assert_int_equal(n, 0);
	tls_close(reader, 1000);
	return NULL;
}

static void a_blocking_sendfile_takes_all(void **state)
{
	const size_t len = 8 * MIB;
	int fd = pattern_file(len);
	struct tls_context *ctx;
	pthread_t thread;

	(void)state;
	wire_new(&w, &(struct wire_options){ .tcp = true, .blocking = true });
	assert_int_equal(tls_context_new(&ctx, NULL), 0);
	pthread_create(&thread, NULL, read_file_back,
		       wire_other_end(&w, ctx, true));
	assert_int_equal(tls_sendfile(w.conn, fd, NULL, len), len);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), len);
	assert_int_equal(tls_close(w.conn, 10000), 0);
	w.conn = NULL;
	pthread_join(thread, NULL);
	tls_context_free(ctx);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
