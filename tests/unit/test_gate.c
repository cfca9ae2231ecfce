/* SPDX-License-Identifier: MIT */
/*
 * Every public call, in one table: beside a KeyUpdate in another thread (the
 * thread sanitizer says what it thinks of that), in a forked child, and in
 * another thread than a loop's own. With --names it prints what the table has;
 * tests/system/gate.sh compares that with what the library exports.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "ends.h"
#include "handoff_check.h"
#include "tls_pair.h"
#include "wire.h"

static struct tls_context *ctx;
static struct tls_conn *conn;  /* whose keys are updated */
static struct tls_conn *spare; /* to be shut down and closed */
static int spare_fd[2];
static struct tls_pair pair;
static int file;
static char buf[400];
static struct tls_stats stats;

/* ---- The table --------------------------------------------------------- */

static intptr_t last_error(void)
{
	return tls_last_error() == NULL;
}

static intptr_t context_new(void)
{
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *another;

	config.engine = TLS_ENGINE_CPU;
	if (tls_context_new(&another, &config))
		return -1;
	tls_context_free(another);
	return 0;
}

static intptr_t context_fd(void)
{
	return tls_context_fd(ctx);
}

static intptr_t context_process(void)
{
	return tls_context_process(ctx);
}

static intptr_t conn_want(void)
{
	return tls_conn_want(conn, TLS_READABLE);
}

static intptr_t context_wait(void)
{
	struct tls_event events[2];

	return tls_context_wait(ctx, events, 2, 0);
}

static intptr_t context_describe(void)
{
	return tls_context_describe(ctx, buf, sizeof(buf));
}

static intptr_t context_stats(void)
{
	return tls_context_stats(ctx, &stats, sizeof(stats));
}

static intptr_t prepare(void)
{
	return tls_handoff_prepare(pair.sctx);
}

static intptr_t handoff(void)
{
	struct tls_conn *taken;
	int ret = tls_handoff(&taken, ctx, pair.server);

	if (!ret)
		tls_close(taken, 0);
	return ret;
}

static intptr_t handoff_secrets(void)
{
	static const uint8_t secret[32] = "a secret";
	const struct tls_secrets secrets = {
		.size = sizeof(secrets),
		.cipher_suite = TLS_AES_128_GCM,
		.secret_len = sizeof(secret),
		.tx_secret = secret,
		.rx_secret = secret,
	};

	return tls_handoff_secrets(&spare, ctx, spare_fd[0], &secrets);
}

static intptr_t write_(void)
{
	return tls_write(conn, "a", 1);
}

static intptr_t send_(void)
{
	return tls_send(conn, "b", 1, TLS_MORE);
}

static intptr_t writev_(void)
{
	const struct iovec iov = { "c", 1 };

	return tls_writev(conn, &iov, 1);
}

static intptr_t sendfile_(void)
{
	off_t offset = 0;

	return tls_sendfile(conn, file, &offset, 10);
}

static intptr_t flush(void)
{
	return tls_flush(conn);
}

static intptr_t flush_timeout(void)
{
	return tls_flush_timeout(conn, 0);
}

static intptr_t read_(void)
{
	return tls_read(conn, buf, sizeof(buf));
}

static intptr_t recv_(void)
{
	return tls_recv(conn, buf, sizeof(buf), TLS_PEEK);
}

static intptr_t conn_ignore_eof(void)
{
	return tls_conn_ignore_eof(conn, 0);
}

static intptr_t conn_leftover(void)
{
	return tls_conn_leftover(conn, buf, sizeof(buf));
}

static intptr_t conn_set_send_window(void)
{
	return tls_conn_set_send_window(conn, 1 << 20);
}

static intptr_t handoff_with(void)
{
	struct tls_conn *taken;
	int ret = tls_handoff_with(&taken, ctx, pair.client, NULL);

	if (!ret)
		tls_close(taken, 0);
	return ret;
}

/* From another thread it is refused in other words, while the owner lives. */
static intptr_t context_adopt(void)
{
	int ret = tls_context_adopt(ctx);

	return ret == -EBUSY ? -EPERM : ret;
}

/* Anybody may, and it has no result; but no child's. */
static intptr_t context_wake(void)
{
	tls_context_wake(ctx);
	return -EPERM;
}

static intptr_t shutdown_(void)
{
	return tls_shutdown(spare);
}

static intptr_t conn_update_keys(void)
{
	return tls_conn_update_keys(conn, 0);
}

static intptr_t conn_set_record_size(void)
{
	return tls_conn_set_record_size(conn, 1000);
}

static intptr_t conn_set_padding(void)
{
	return tls_conn_set_padding(conn, 0);
}

static intptr_t conn_fd(void)
{
	return tls_conn_fd(conn);
}

static intptr_t conn_set_data(void)
{
	tls_conn_set_data(conn, NULL);
	return -EPERM;
}

/* The data is there; NULL is the refusal. */
static intptr_t conn_data(void)
{
	return tls_conn_data(conn) ? 0 : -EPERM;
}

/* The words are the application's to look at whenever it likes. */
static intptr_t conn_error(void)
{
	return strlen(tls_conn_error(conn)) ? 0 : -EPERM;
}

static intptr_t conn_alert_sent(void)
{
	return tls_conn_alert_sent(conn) == -1 ? -EPERM : 0;
}

static intptr_t conn_alert_received(void)
{
	return tls_conn_alert_received(conn) == -1 ? -EPERM : 0;
}

static intptr_t conn_describe(void)
{
	return tls_conn_describe(conn, buf, sizeof(buf));
}

static intptr_t conn_stats(void)
{
	return tls_conn_stats(conn, &stats, sizeof(stats));
}

static intptr_t stats_add(void)
{
	static struct tls_stats total;

	tls_stats_add(&total, &stats, sizeof(stats));
	return 0;
}

static intptr_t stats_json(void)
{
	return tls_stats_json(&stats, sizeof(stats), buf, sizeof(buf)) > 0 ? 0 : -1;
}

static intptr_t close_(void)
{
	return tls_close(spare, 0);
}

static intptr_t context_free(void)
{
	tls_context_free(ctx);
	return -EPERM;
}

enum {
	OFTEN = 1,  /* may be called again and again */
	OPENLY = 2, /* is no context's, and refused to nobody */
	LAST = 4,   /* nothing is left after it */
};

/* Each returns -EPERM where it is refused; in this order. */
static const struct call {
	const char *name;
	intptr_t (*make)(void);
	unsigned how;
} calls[] = {
	{ "last_error", last_error, OFTEN | OPENLY },
	{ "context_new", context_new, OPENLY },
	{ "context_fd", context_fd, OFTEN },
	{ "context_process", context_process, OFTEN },
	{ "context_adopt", context_adopt, OFTEN },
	{ "context_wake", context_wake, OFTEN },
	{ "conn_want", conn_want, OFTEN },
	{ "context_wait", context_wait, OFTEN },
	{ "context_describe", context_describe, OFTEN },
	{ "context_stats", context_stats, OFTEN },
	{ "handoff_prepare", prepare, OPENLY },
	{ "handoff", handoff, 0 },
	{ "handoff_with", handoff_with, 0 },
	{ "handoff_secrets", handoff_secrets, 0 },
	{ "write", write_, OFTEN },
	{ "send", send_, OFTEN },
	{ "writev", writev_, OFTEN },
	{ "sendfile", sendfile_, OFTEN },
	{ "flush", flush, OFTEN },
	{ "flush_timeout", flush_timeout, OFTEN },
	{ "read", read_, OFTEN },
	{ "recv", recv_, OFTEN },
	{ "conn_leftover", conn_leftover, OFTEN },
	{ "conn_ignore_eof", conn_ignore_eof, OFTEN },
	{ "conn_set_send_window", conn_set_send_window, OFTEN },
	{ "shutdown", shutdown_, 0 },
	{ "conn_update_keys", conn_update_keys, OFTEN },
	{ "conn_set_record_size", conn_set_record_size, OFTEN },
	{ "conn_set_padding", conn_set_padding, OFTEN },
	{ "conn_fd", conn_fd, OFTEN },
	{ "conn_set_data", conn_set_data, OFTEN },
	{ "conn_data", conn_data, OFTEN },
	{ "conn_error", conn_error, OFTEN },
	{ "conn_alert_sent", conn_alert_sent, OFTEN },
	{ "conn_alert_received", conn_alert_received, OFTEN },
	{ "conn_describe", conn_describe, OFTEN },
	{ "conn_stats", conn_stats, OFTEN },
	{ "stats_add", stats_add, OFTEN | OPENLY },
	{ "stats_json", stats_json, OFTEN | OPENLY },
	{ "close", close_, 0 },
	{ "context_free", context_free, LAST },
};
enum { CALLS = sizeof(calls) / sizeof(calls[0]) };

/* ---- What they are called on ------------------------------------------- */

static struct end ends[2];
static int fd[2];

static void begin(enum tls_context_kind kind)
{
	const struct end_options options = { .kind = kind };

	socket_pair(fd, false);
	set_blocking(fd[0], false);
	set_blocking(fd[1], false);
	assert_null(end_open(&ends[0], fd[0], 0, &options));
	ctx = ends[0].ctx;
	conn = ends[0].conn;
	open_pair(&pair, (struct tls_pair_options){ PREPARED });
	socket_pair(spare_fd, false);
	file = open("/proc/self/exe", O_RDONLY);
	assert_true(file >= 0);
}

/* What conn talks to, in a loop of the caller's. */
static void open_the_other_end(void)
{
	const struct end_options options = { .kind = TLS_CONTEXT_LOOP };

	assert_null(end_open(&ends[1], fd[1], 1, &options));
}

static void finish(void)
{
	end_close(&ends[0]);
	tls_pair_free(&pair);
	close(spare_fd[0]);
	close(spare_fd[1]);
	close(file);
}

/* ---- Beside a KeyUpdate ------------------------------------------------ */

static atomic_bool enough;
static atomic_uint updates;

static void swallow(struct tls_conn *from)
{
	static char bytes[20000];

	while (tls_read(from, bytes, sizeof(bytes)) > 0)
		;
}

/*
 * Both ends send under new keys and follow the other's, again and again. The
 * other end is a loop of this thread's.
 */
static void *update_keys(void *arg)
{
	(void)arg;
	open_the_other_end();
	while (!enough) {
		tls_conn_update_keys(conn, TLS_UPDATE_REQUESTED);
		tls_write(conn, "x", 1);
		tls_flush(conn);
		swallow(ends[1].conn);
		tls_write(ends[1].conn, "y", 1);
		tls_flush(ends[1].conn);
		swallow(conn);
		updates++;
	}
	end_close(&ends[1]);
	return NULL;
}

static void make_all(bool once)
{
	size_t i;

	for (i = 0; i < CALLS; i++)
		if (!(calls[i].how & LAST) && (once || calls[i].how & OFTEN))
			calls[i].make();
}

static void every_call_may_be_made_beside_a_key_update(void **state)
{
	pthread_t thread;
	int round;

	(void)state;
	begin(TLS_CONTEXT_WORKER);
	assert_int_equal(pthread_create(&thread, NULL, update_keys, NULL), 0);
	for (round = 0; round < 50 || updates < 50; round++)
		make_all(!round);
	assert_string_equal(tls_conn_error(conn), "");
	enough = true;
	pthread_join(thread, NULL);
	finish();
}

/* ---- Cancelled in a call ----------------------------------------------- */

static void *read_for_ever(void *arg)
{
	(void)arg;
	set_blocking(fd[0], true);
	tls_read(conn, buf, sizeof(buf));
	pthread_testcancel();
	return &buf; /* was not cancelled */
}

/* The lock is not left held: the call ends, and then the thread. */
static void a_thread_is_cancelled_only_when_its_call_has_ended(void **state)
{
	pthread_t thread;
	void *result;

	(void)state;
	begin(TLS_CONTEXT_WORKER);
	open_the_other_end();
	pthread_create(&thread, NULL, read_for_ever, NULL);
	usleep(50 * 1000);
	pthread_cancel(thread);
	usleep(50 * 1000);
	assert_int_equal(tls_write(conn, "not locked", 10), 10);
	assert_int_equal(tls_write(ends[1].conn, "data", 4), 4);
	assert_int_equal(tls_flush(ends[1].conn), 0);
	pthread_join(thread, &result);
	assert_ptr_equal(result, PTHREAD_CANCELED);
	assert_memory_equal(buf, "data", 4);
	assert_int_equal(tls_flush(conn), 0);
	end_close(&ends[1]);
	finish();
}

/* ---- Where they are refused -------------------------------------------- */

/* The number of the first call that was not refused, CALLS if there is none. */
static size_t first_not_refused(void)
{
	size_t i;

	for (i = 0; i < CALLS; i++) {
		intptr_t ret;

		if (calls[i].how & OPENLY)
			continue;
		ret = calls[i].make();
		if (ret != -EPERM)
			return i;
	}
	return CALLS;
}

static void check_none(size_t i)
{
	if (i < CALLS)
		fail_msg("tls_%s() is not refused", calls[i].name);
}

/* Nothing has been touched: it goes on. */
static void check_alive(void)
{
	char in[10];

	tls_conn_want(conn, TLS_READABLE | TLS_WRITABLE | TLS_CLOSED);
	assert_int_equal(tls_write(conn, "alive", 5), 5);
	assert_int_equal(tls_flush(conn), 0);
	assert_int_equal(tls_read(ends[1].conn, in, sizeof(in)), 5);
	assert_int_equal(tls_write(spare, "too", 3), 3);
	assert_int_equal(tls_close(spare, 0), 0);
}

static void in_a_forked_child(enum tls_context_kind kind)
{
	int status;
	pid_t pid;

	begin(kind);
	open_the_other_end();
	tls_conn_set_data(conn, &status);
	assert_int_equal(handoff_secrets(), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		_exit((int)first_not_refused());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	check_none((size_t)WEXITSTATUS(status));
	assert_non_null(tls_conn_data(conn));
	check_alive();
	end_close(&ends[1]);
	finish();
}

static void every_call_is_refused_in_a_forked_child(void **state)
{
	(void)state;
	in_a_forked_child(TLS_CONTEXT_WORKER);
	in_a_forked_child(TLS_CONTEXT_LOOP);
}

static void *try_all(void *arg)
{
	*(size_t *)arg = first_not_refused();
	return NULL;
}

static void every_call_is_refused_in_another_thread_than_a_loops(void **state)
{
	pthread_t thread;
	size_t i = 0;

	(void)state;
	begin(TLS_CONTEXT_LOOP);
	open_the_other_end();
	tls_conn_set_data(conn, &i);
	assert_int_equal(handoff_secrets(), 0);
	pthread_create(&thread, NULL, try_all, &i);
	pthread_join(thread, NULL);
	check_none(i);
	assert_non_null(tls_conn_data(conn));
	check_alive();
	end_close(&ends[1]);
	finish();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_call_may_be_made_beside_a_key_update),
		cmocka_unit_test(
			a_thread_is_cancelled_only_when_its_call_has_ended),
		cmocka_unit_test(every_call_is_refused_in_a_forked_child),
		cmocka_unit_test(
			every_call_is_refused_in_another_thread_than_a_loops),
	};
	size_t i;

	if (argc > 1 && strcmp(argv[1], "--names") == 0) {
		for (i = 0; i < CALLS; i++)
			puts(calls[i].name);
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
