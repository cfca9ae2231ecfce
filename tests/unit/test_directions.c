/* SPDX-License-Identifier: MIT */
/*
 * Reading and writing end apart (RFC 8446 6.1): what the end of one leaves of
 * the other, and by which number and which event it is known.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <linux/sockios.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "fake_engine.h"
#include "hostile.h"

enum { ANSWER = 150000, PIECE = 10000 };

static const uint8_t close_notify[] = { ALERT_LEVEL_WARNING, 0 };
static uint8_t data[ANSWER];
static struct fake_engine *fake;

/* Over TCP, its own end waiting in its calls. */
static void open_one(enum tls_context_kind kind, bool asynchronous)
{
	const int most = 1 << 20;

	fake = asynchronous ? fake_new() : NULL;
	wire_new(&w, &(struct wire_options){ .kind = kind,
					     .fake = fake,
					     .blocking = !fake,
					     .tcp = true });
	setsockopt(w.conn_fd, SOL_SOCKET, SO_RCVBUF, &most, sizeof(most));
	pattern_fill(data, 0, sizeof(data));
}

static void close_one(void)
{
	wire_free(&w);
	if (fake)
		fake_free(fake);
	fake = NULL;
}

static void on_everything(void (*check)(enum tls_context_kind, bool))
{
	check(TLS_CONTEXT_LOOP, false);
	check(TLS_CONTEXT_WORKER, false);
	check(TLS_CONTEXT_LOOP, true);
}

static void progress(void)
{
	if (fake)
		fake_complete_all(fake);
	assert_int_equal(tls_context_process(w.ctx), 0);
}

/* Read to the end of the stream; what that is. */
static ssize_t read_all(size_t *len)
{
	ssize_t n;

	*len = 0;
	do {
		progress();
		n = tls_read(w.conn, content, sizeof(content));
		if (n <= 0)
			continue;
		pattern_check(content, *len, (size_t)n);
		*len += (size_t)n;
	} while (n > 0 || n == -EAGAIN);
	return n;
}

static void expect_all_and(ssize_t end)
{
	size_t len;

	assert_int_equal(read_all(&len), end);
	assert_int_equal(len, ANSWER);
	assert_int_equal(tls_read(w.conn, content, 1), end);
}

/* All of it is with our kernel. */
static void peer_answers(bool closes)
{
	size_t at;
	int left;

	for (at = 0; at < ANSWER; at += PIECE)
		wire_send(&w, RECORD_DATA, data + at, PIECE);
	if (closes)
		wire_send(&w, RECORD_ALERT, close_notify, 2);
	do {
		assert_int_equal(ioctl(w.fd, SIOCOUTQ, &left), 0);
		usleep(1000);
	} while (left);
}

/* With our data unread: a reset. */
static void peer_goes(void)
{
	close(w.fd);
	w.fd = -1;
}

static int write_until_refused(void)
{
	ssize_t n;
	int i;

	for (i = 0; i < 10000; i++) {
		n = tls_write(w.conn, data, PIECE);
		if (n < 0 && n != -EAGAIN)
			return (int)n;
		progress();
	}
	fail_msg("ten thousand writes to nobody");
	return 0;
}

/* ---- A write that failed ----------------------------------------------- */

static void upload_refused(enum tls_context_kind kind, bool asynchronous)
{
	int error;

	open_one(kind, asynchronous);
	assert_int_equal(tls_write(w.conn, data, PIECE), PIECE);
	progress();
	peer_answers(true);
	peer_goes();
	error = write_until_refused();
	assert_true(error == -EPIPE || error == -ECONNRESET);
	assert_int_equal(tls_write(w.conn, data, 1), error);
	assert_int_equal(tls_flush(w.conn), error);
	assert_non_null(strstr(tls_last_error(), "sending failed"));
	expect_all_and(0);
	assert_int_equal(tls_close(w.conn, 100), error);
	w.conn = NULL;
	close_one();
}

static void a_failed_write_leaves_what_has_arrived(void **state)
{
	(void)state;
	on_everything(upload_refused);
}

/* What was read was not all, and that is known. */
static void reset_behind_data(enum tls_context_kind kind, bool asynchronous)
{
	open_one(kind, asynchronous);
	assert_int_equal(tls_write(w.conn, data, PIECE), PIECE);
	progress();
	peer_answers(false);
	peer_goes();
	write_until_refused();
	expect_all_and(-ECONNRESET);
	close_one();
}

static void a_reset_that_a_write_met_ends_reading_too(void **state)
{
	(void)state;
	on_everything(reset_behind_data);
}

static void told_of_failure(enum tls_context_kind kind, bool asynchronous)
{
	struct tls_event event;
	size_t len;

	open_one(kind, asynchronous);
	peer_answers(true);
	while (tls_context_wait(w.ctx, &event, 1, 1000) == 1 &&
	       !(event.events & TLS_READABLE))
		progress();
	peer_goes();
	write_until_refused();
	assert_int_equal(tls_context_wait(w.ctx, &event, 1, 1000), 1);
	assert_int_equal(event.events & (TLS_READABLE | TLS_CLOSED),
			 TLS_READABLE | TLS_CLOSED);
	assert_int_equal(read_all(&len), 0);
	close_one();
}

static void a_failed_write_is_told_and_data_stays_readable(void **state)
{
	(void)state;
	on_everything(told_of_failure);
}

/* ---- The peer's end ---------------------------------------------------- */

static void write_to_half_closed(size_t len)
{
	struct tap tap = { 0 };
	size_t put = 0;
	ssize_t n;

	while (tap.data < len) {
		n = tls_write(w.conn, data + put, len - put);
		assert_true(n >= 0 || n == -EAGAIN);
		put += n > 0 ? (size_t)n : 0;
		progress();
		assert_true(tls_flush(w.conn) >= 0);
		progress();
		wire_tap(&w, &tap);
	}
	free(tap.bytes);
}

/* The peer has sent all it has, and would have our answer. */
static void after_the_peers_fin(enum tls_context_kind kind, bool asynchronous)
{
	open_one(kind, asynchronous);
	peer_answers(false);
	assert_int_equal(shutdown(w.fd, SHUT_WR), 0);
	expect_all_and(-ENODATA);
	assert_non_null(strstr(tls_last_error(), "truncated"));
	assert_string_equal(tls_last_error(), tls_conn_error(w.conn));
	write_to_half_closed(100000);
	assert_int_equal(tls_close(w.conn, 1000), 0);
	w.conn = NULL;
	close_one();
}

static void writing_goes_on_after_the_peers_fin(void **state)
{
	(void)state;
	on_everything(after_the_peers_fin);
}

/* ... which nobody has read up to. */
static void fin_in_the_background(enum tls_context_kind kind,
				  bool asynchronous)
{
	struct tls_event event;

	open_one(kind, asynchronous);
	assert_int_equal(shutdown(w.fd, SHUT_WR), 0);
	assert_int_equal(tls_context_wait(w.ctx, &event, 1, 1000), 1);
	assert_int_equal(event.events, TLS_READABLE | TLS_CLOSED);
	write_to_half_closed(100000);
	assert_int_equal(tls_read(w.conn, content, 1), -ENODATA);
	assert_int_equal(tls_context_wait(w.ctx, &event, 1, 0), 0);
	close_one();
}

static void a_fin_noticed_in_passing_stops_no_write(void **state)
{
	(void)state;
	on_everything(fin_in_the_background);
}

static void by_its_number(enum tls_context_kind kind, bool asynchronous)
{
	const struct linger now = { .l_onoff = 1 };
	size_t len;

	open_one(kind, asynchronous);
	peer_goes();
	assert_int_equal(read_all(&len), -ENODATA);
	close_one();

	open_one(kind, asynchronous);
	setsockopt(w.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	peer_goes();
	assert_int_equal(read_all(&len), -ECONNRESET);
	assert_int_equal(tls_write(w.conn, data, 1), -ECONNRESET);
	assert_non_null(strstr(tls_last_error(), "reset"));
	assert_int_equal(tls_recv(w.conn, data, 1, 99), -EINVAL);
	assert_int_equal(tls_close(w.conn, 0), -ECONNRESET);
	assert_non_null(strstr(tls_last_error(), "reset"));
	w.conn = NULL;
	close_one();
}

static void a_fin_and_a_reset_are_told_apart(void **state)
{
	(void)state;
	on_everything(by_its_number);
}

/* ---- A FIN that is an end ---------------------------------------------- */

static void ignored(enum tls_context_kind kind, bool asynchronous)
{
	open_one(kind, asynchronous);
	assert_int_equal(tls_conn_ignore_eof(w.conn, 1), 0);
	peer_answers(false);
	assert_int_equal(shutdown(w.fd, SHUT_WR), 0);
	expect_all_and(0);
	assert_string_equal(tls_conn_error(w.conn), "");
	write_to_half_closed(1000);
	close_one();
}

static void a_fin_may_be_an_end_like_another(void **state)
{
	(void)state;
	on_everything(ignored);
}

static void ignored_late(enum tls_context_kind kind, bool asynchronous)
{
	struct tls_event event;

	open_one(kind, asynchronous);
	assert_int_equal(shutdown(w.fd, SHUT_WR), 0);
	assert_int_equal(tls_context_wait(w.ctx, &event, 1, 1000), 1);
	assert_int_equal(tls_conn_ignore_eof(w.conn, 1), 0);
	assert_int_equal(tls_read(w.conn, content, 1), 0);
	assert_int_equal(tls_conn_ignore_eof(w.conn, 0), 0);
	assert_int_equal(tls_read(w.conn, content, 1), 0);
	close_one();
}

static void that_may_be_said_when_it_has_come(void **state)
{
	(void)state;
	on_everything(ignored_late);
}

/* ---- Behind close_notify ----------------------------------------------- */

/* Cleartext that looks like the start of a record, and some that does not. */
static void behind(enum tls_context_kind kind, bool asynchronous,
		   const char *clear, size_t len)
{
	static char got[100];
	ssize_t n;

	open_one(kind, asynchronous);
	assert_int_equal(tls_conn_leftover(w.conn, got, 1), -EINVAL);
	assert_non_null(strstr(tls_last_error(), "close_notify"));
	n = (ssize_t)wire_seal(&w, RECORD_DATA, data, 100, 0, record);
	n += (ssize_t)wire_seal(&w, RECORD_ALERT, close_notify, 2, 0,
				record + n);
	memcpy(record + n, clear, len);
	wire_send_raw(&w, record, (size_t)n + len);
	do {
		progress();
		n = tls_read(w.conn, content, sizeof(content));
	} while (n > 0 || n == -EAGAIN);
	assert_int_equal(n, 0);
	assert_int_equal(tls_conn_leftover(w.conn, got, 3), 3);
	assert_memory_equal(got, clear, 3);
	n = tls_conn_leftover(w.conn, got, sizeof(got));
	assert_int_equal(n, len - 3);
	assert_memory_equal(got, clear + 3, len - 3);
	assert_int_equal(tls_conn_leftover(w.conn, got, sizeof(got)), 0);
	/* what comes later is in the socket */
	wire_send_raw(&w, "later", 5);
	assert_int_equal(recv(w.conn_fd, got, sizeof(got), 0), 5);
	close_one();
}

static void cleartext_behind(enum tls_context_kind kind, bool asynchronous)
{
	static const char fake_record[] = "\x17\x03\x03\x00\x18 a record, but "
					  "of whom? and \x17\x03\x03\x00";

	behind(kind, asynchronous, "226 in the clear\r\n", 18);
	behind(kind, asynchronous, fake_record, sizeof(fake_record) - 1);
}

static void what_came_behind_close_notify_can_be_had(void **state)
{
	(void)state;
	on_everything(cleartext_behind);
}

/* ---- What waited -------------------------------------------------------- */

/* Not since the machine was started, nor for as long as nothing was to be sent. */
static void what_waits_is_counted_from_when_it_is_held(void **state)
{
	const uint64_t idle = 100 * (uint64_t)NS_PER_MS;
	struct tls_stats s;

	(void)state;
	begin(TLS_CONTEXT_LOOP);
	usleep((useconds_t)(idle / 1000));
	assert_int_equal(tls_send(w.conn, "kept open", 9, TLS_MORE), 9);
	usleep((useconds_t)(idle / 1000));
	assert_int_equal(tls_shutdown(w.conn), 0);
	assert_int_equal(tls_conn_stats(w.conn, &s, sizeof(s)), 0);
	assert_true(s.sends > 0);
	assert_in_range(s.ready_wait_ns, 0, idle - 1);
	wire_free(&w);

	begin(TLS_CONTEXT_LOOP);
	usleep((useconds_t)(idle / 1000));
	assert_int_equal(tls_shutdown(w.conn), 0); /* an alert comes first */
	assert_int_equal(tls_conn_stats(w.conn, &s, sizeof(s)), 0);
	assert_in_range(s.ready_wait_ns, 0, idle - 1);
	wire_free(&w);
}

/* ---- Words -------------------------------------------------------------- */

static void a_write_after_shutdown_says_why_it_fails(void **state)
{
	(void)state;
	begin(TLS_CONTEXT_LOOP);
	assert_int_equal(tls_shutdown(w.conn), 0);
	assert_int_equal(tls_write(w.conn, "x", 1), -EPIPE);
	assert_non_null(strstr(tls_last_error(), "tls_shutdown"));
	assert_string_equal(tls_conn_error(w.conn), "");
	wire_free(&w);
}

static void each_failure_has_its_own_words(void **state)
{
	(void)state;
	open_one(TLS_CONTEXT_LOOP, false);
	assert_int_equal(shutdown(w.fd, SHUT_WR), 0);
	assert_int_equal(tls_read(w.conn, content, 1), -ENODATA);
	peer_goes();
	write_until_refused();
	assert_non_null(strstr(tls_last_error(), "sending failed"));
	assert_int_equal(tls_read(w.conn, content, 1), -ENODATA);
	assert_non_null(strstr(tls_last_error(), "close_notify"));
	assert_non_null(strstr(tls_conn_error(w.conn), "close_notify"));
	close_one();
}

#define TEST(name) cmocka_unit_test(name)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_failed_write_leaves_what_has_arrived),
		TEST(a_reset_that_a_write_met_ends_reading_too),
		TEST(a_failed_write_is_told_and_data_stays_readable),
		TEST(writing_goes_on_after_the_peers_fin),
		TEST(a_fin_noticed_in_passing_stops_no_write),
		TEST(a_fin_and_a_reset_are_told_apart),
		TEST(a_fin_may_be_an_end_like_another),
		TEST(that_may_be_said_when_it_has_come),
		TEST(what_came_behind_close_notify_can_be_had),
		TEST(what_waits_is_counted_from_when_it_is_held),
		TEST(a_write_after_shutdown_says_why_it_fails),
		TEST(each_failure_has_its_own_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
