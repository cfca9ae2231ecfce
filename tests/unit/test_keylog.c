/* SPDX-License-Identifier: MIT */
/* The secrets that KeyUpdates make, logged as OpenSSL logs them. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "asynctls.h"
#include "both.h"
#include "handed.h"
#include "handoff_check.h"
#include "wire.h"

/* ---- OpenSSL's own log ------------------------------------------------- */

enum { MAX_LINES = 64 };
static char openssl_said[MAX_LINES][256];
static int lines;

/* OpenSSL has the letter N where we have the number. */
static void keep_line(const SSL *ssl, const char *line)
{
	static int number[2];
	int client = line[0] == 'C';

	(void)ssl;
	assert_true(lines < MAX_LINES);
	if (strstr(line, "_TRAFFIC_SECRET_0 "))
		number[client] = 0;
	else if (strstr(line, "_TRAFFIC_SECRET_N "))
		number[client]++;
	else
		return;
	snprintf(openssl_said[lines++], 256, "%.22s%d%s\n", line,
		 number[client], line + 23);
}

static void log_and_prepare(SSL_CTX *ssl_ctx)
{
	static int contexts;

	/* one end's lines are enough: the client's, which comes second */
	if (contexts++ % 2)
		SSL_CTX_set_keylog_callback(ssl_ctx, keep_line);
	prepare_for_handoff(ssl_ctx);
}

/* ---- Ours -------------------------------------------------------------- */

static char path[] = "/tmp/asynctls-keylog-XXXXXX";
static struct tls_context *ctx;

static int begin(void **state)
{
	struct tls_config config = TLS_CONFIG_INIT;

	(void)state;
	lines = 0;
	strcpy(path + strlen(path) - 6, "XXXXXX");
	close(mkstemp(path));
	unlink(path);
	config.keylog_file = path;
	return tls_context_new(&ctx, &config);
}

static int end(void **state)
{
	(void)state;
	tls_context_free(ctx);
	return unlink(path);
}

static size_t read_log(char *text, size_t room)
{
	FILE *f = fopen(path, "r");
	size_t len;

	assert_non_null(f);
	len = fread(text, 1, room - 1, f);
	fclose(f);
	text[len] = '\0';
	return len;
}

static void converse(struct tls_conn *conn, SSL *peer)
{
	say(peer, "from the peer");
	handed_hears(conn, "from the peer");
	handed_says(conn, peer, "and back");
}

/* Every line of ours is one of OpenSSL's; returns how many there are. */
static int assert_openssl_agrees(void)
{
	char text[1 << 15], *line = text, *next;
	int ours = 0, i;

	read_log(text, sizeof(text));
	for (; (next = strchr(line, '\n')); line = next, ours++) {
		next++;
		for (i = 0; i < lines; i++)
			if (!strncmp(line, openssl_said[i],
				     (size_t)(next - line)))
				break;
		if (i == lines)
			fail_msg("OpenSSL did not say %.*s", (int)(next - line),
				 line);
	}
	return ours;
}

static void the_log_goes_on_where_openssls_ends(void **state)
{
	struct tls_pair pair;
	struct tls_conn *conn;

	(void)state;
	open_pair(&pair, (struct tls_pair_options){
				 .prepare_ctx = log_and_prepare,
				 .suite = "TLS_AES_256_GCM_SHA384",
			 });
	/* generation 1 of both directions is before the hand-over */
	SSL_key_update(pair.client, SSL_KEY_UPDATE_REQUESTED);
	assert_still_usable(pair.client, pair.server);
	conn = handed_over(ctx, pair.server);
	assert_int_equal(assert_openssl_agrees(), 0);
	SSL_key_update(pair.client, SSL_KEY_UPDATE_NOT_REQUESTED);
	converse(conn, pair.client);
	assert_int_equal(assert_openssl_agrees(), 1);
	SSL_key_update(pair.client, SSL_KEY_UPDATE_REQUESTED);
	converse(conn, pair.client);
	assert_int_equal(assert_openssl_agrees(), 3);
	assert_int_equal(tls_conn_update_keys(conn, TLS_UPDATE_REQUESTED), 0);
	converse(conn, pair.client);
	converse(conn, pair.client);
	assert_int_equal(assert_openssl_agrees(), 5);
	tls_close(conn, 1000);
	tls_pair_free(&pair);
}

static void a_connection_of_secrets_is_logged_by_its_client_random(void **state)
{
	uint8_t random[32] = { 0x00, 0x9f, 0xff };
	struct tls_secrets s = *both_secrets(0);
	struct tls_conn *conn[2];
	char text[1000], last[200];
	int fd[2];

	(void)state;
	socket_pair(fd, false);
	s.client_random = random;
	assert_int_equal(tls_handoff_secrets(&conn[0], ctx, fd[0], &s), 0);
	/* this one has none, and no line */
	assert_int_equal(
		tls_handoff_secrets(&conn[1], ctx, fd[1], both_secrets(1)), 0);
	assert_int_equal(tls_conn_update_keys(conn[0], 0), 0);
	assert_int_equal(tls_write(conn[0], "x", 1), 1);
	assert_int_equal(tls_flush(conn[0]), 0);
	handed_hears(conn[1], "x");
	assert_int_equal(read_log(text, sizeof(text)),
			 strlen("CLIENT_TRAFFIC_SECRET_1 ") + 64 + 1 + 64 + 1);
	snprintf(last, sizeof(last), "CLIENT_TRAFFIC_SECRET_1 009fff%058d ", 0);
	assert_memory_equal(text, last, strlen(last));
	tls_close(conn[0], 0);
	tls_close(conn[1], 0);
	close(fd[0]);
	close(fd[1]);
}

static void the_file_is_for_its_owner_alone(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void a_file_that_cannot_be_written_is_an_error(void **state)
{
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *other;

	(void)state;
	config.keylog_file = "/nowhere/keys";
	assert_int_equal(tls_context_new(&other, &config), -ENOENT);
	assert_non_null(strstr(tls_last_error(), "keylog_file: /nowhere/keys"));
}

/* ---- A FIFO ------------------------------------------------------------ */

static char fifo[] = "/tmp/asynctls-fifo-XXXXXX";

/* Each KeyUpdate is a line. */
static void update_keys(struct tls_context *logging, int times)
{
	struct tls_conn *conn[2];
	struct tls_secrets s = *both_secrets(0);
	static const uint8_t random[32];
	int fd[2], i;

	socket_pair(fd, false);
	s.client_random = random;
	assert_int_equal(tls_handoff_secrets(&conn[0], logging, fd[0], &s), 0);
	assert_int_equal(
		tls_handoff_secrets(&conn[1], ctx, fd[1], both_secrets(1)), 0);
	for (i = 0; i < times; i++) {
		assert_int_equal(tls_conn_update_keys(conn[0], 0), 0);
		assert_int_equal(tls_write(conn[0], "x", 1), 1);
		assert_int_equal(tls_flush(conn[0]), 0);
		handed_hears(conn[1], "x");
	}
	tls_close(conn[0], 0);
	tls_close(conn[1], 0);
	close(fd[0]);
	close(fd[1]);
}

static void make_fifo(void)
{
	strcpy(fifo + strlen(fifo) - 6, "XXXXXX");
	close(mkstemp(fifo));
	unlink(fifo);
	assert_int_equal(mkfifo(fifo, 0600), 0);
}

static void a_fifo_that_nobody_reads_is_an_error(void **state)
{
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *other;

	(void)state;
	make_fifo();
	alarm(20); /* opening it could wait for a reader */
	config.keylog_file = fifo;
	assert_int_equal(tls_context_new(&other, &config), -ENXIO);
	alarm(0);
	assert_non_null(strstr(tls_last_error(), "FIFO that nobody reads"));
	unlink(fifo);
}

static void a_fifo_is_not_waited_for_and_sends_no_signal(void **state)
{
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *other;
	sigset_t pending;
	char line[24];
	int reader;

	(void)state;
	make_fifo();
	reader = open(fifo, O_RDONLY | O_NONBLOCK);
	config.keylog_file = fifo;
	assert_int_equal(tls_context_new(&other, &config), 0);
	alarm(60);
	update_keys(other, 600); /* of 154 bytes: more than 64 KiB */
	assert_int_equal(read(reader, line, 24), 24);
	assert_memory_equal(line, "CLIENT_TRAFFIC_SECRET_1 ", 24);
	close(reader);
	update_keys(other, 2);
	alarm(0);
	sigpending(&pending);
	assert_false(sigismember(&pending, SIGPIPE));
	tls_context_free(other);
	unlink(fifo);
}

static void a_file_that_may_not_grow_sends_no_signal(void **state)
{
	struct rlimit limit, none;

	(void)state;
	getrlimit(RLIMIT_FSIZE, &limit);
	none = limit;
	none.rlim_cur = 10;
	setrlimit(RLIMIT_FSIZE, &none);
	update_keys(ctx, 2);
	setrlimit(RLIMIT_FSIZE, &limit);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(the_log_goes_on_where_openssls_ends),
		TEST(a_connection_of_secrets_is_logged_by_its_client_random),
		TEST(the_file_is_for_its_owner_alone),
		TEST(a_file_that_cannot_be_written_is_an_error),
		TEST(a_fifo_that_nobody_reads_is_an_error),
		TEST(a_fifo_is_not_waited_for_and_sends_no_signal),
		TEST(a_file_that_may_not_grow_sends_no_signal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
