/* SPDX-License-Identifier: MIT */
#include "scenario.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "handoff_check.h"
#include "tls_pair.h"
#include "wire.h"

enum {
	LEN = 100 << 10,
	FILE_LEN = 40000, /* of the same bytes, behind them */
	PIECE = 20000,
	STALL_MS = 20000,
	TURNS = 100000,
};

static SSL_CTX *sctx, *cctx;
static uint8_t data[LEN + FILE_LEN];
static int file, version;
static const char *driver; /* of the kernel's, or NULL */
#ifdef __SANITIZE_THREAD__
static long step = 3; /* it is slow, and all are tried without it */
#else
static long step = 1;
#endif

static struct {
	struct tls_context *ctx;
	struct tls_conn *conn;
	struct tls_pair pair;
	bool failed; /* a call of the library's has said so */
	int refused; /* how often one has failed that does not end it */
	size_t put, got; /* by the client */
	uint8_t held[PIECE]; /* read by the server, not yet written */
	size_t held_len, held_at;
	off_t file_at;
} s;

void scenario_set_up(int tls_version)
{
	struct tls_pair pair;

	version = tls_version;
	open_pair(&pair, (struct tls_pair_options){ .unix_sockets = true,
						    .version = version,
						    PREPARED });
	SSL_CTX_up_ref(pair.sctx);
	SSL_CTX_up_ref(pair.cctx);
	sctx = pair.sctx;
	cctx = pair.cctx;
	tls_pair_free(&pair);
	pattern_fill(data, 0, sizeof(data));
	file = memfd_create("data", MFD_CLOEXEC);
	assert_int_equal(write(file, data, sizeof(data)), sizeof(data));
}

void scenario_use_driver(const char *name, long every)
{
	driver = name;
	step = every;
}

void scenario_tear_down(void)
{
	SSL_CTX_free(sctx);
	SSL_CTX_free(cctx);
	close(file);
}

static void must_have_words(const char *words, long n)
{
	if (!*words)
		fail_msg("%s failed: %ld and no words", inject_failed(), n);
}

struct tls_context *scenario_context(enum tls_context_kind kind)
{
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *ctx = NULL;
	int ret;

	config.kind = kind;
	config.engine = driver ? TLS_ENGINE_AFALG : TLS_ENGINE_CPU;
	config.driver = driver;
	ret = IN_LIBRARY(tls_context_new(&ctx, &config));
	if (ret) {
		assert_null(ctx);
		must_have_words(tls_last_error(), ret);
	}
	return ctx;
}

/* ---- The server, ours -------------------------------------------------- */

/* Whether n says that the connection is no more. */
static bool ends_it(ssize_t n)
{
	if (n >= 0 || n == -EAGAIN)
		return false;
	s.failed = true;
	if (*tls_conn_error(s.conn))
		return true;
	must_have_words(tls_last_error(), n);
	return ++s.refused > 100; /* it does not stick, but may stay so */
}

/* Nothing will come about by waiting: the call is to be made again. */
static bool again(ssize_t n)
{
	return n < 0 && n != -EAGAIN;
}

/* Whether anything moved; *over if the connection has ended. */
static bool echo(bool *over)
{
	ssize_t n;

	if (s.held_at == s.held_len) {
		n = IN_LIBRARY(tls_read(s.conn, s.held, sizeof(s.held)));
		*over = n == 0 || ends_it(n);
		if (n <= 0)
			return again(n);
		s.held_at = 0;
		s.held_len = (size_t)n;
	}
	n = IN_LIBRARY(tls_write(s.conn, s.held + s.held_at,
				 s.held_len - s.held_at));
	*over = ends_it(n);
	if (n > 0)
		s.held_at += (size_t)n;
	if (n > 0 && version == TLS1_3_VERSION)
		*over = ends_it(IN_LIBRARY(tls_conn_update_keys(s.conn, 0)));
	return n > 0 || again(n);
}

/* Some more, of the file. */
static bool send_file(bool *over)
{
	ssize_t n;

	n = IN_LIBRARY(tls_sendfile(s.conn, file, &s.file_at,
				    sizeof(data) - (size_t)s.file_at));
	*over = ends_it(n);
	if (n > 0 && !*over) /* the socket is slow: this cancels a send */
		*over = ends_it(IN_LIBRARY(tls_flush_timeout(s.conn, 1)));
	return n > 0 || again(n);
}

/*
 * As an application with an event loop of its own. What could not be sent any
 * more is told there: nothing would come to be read.
 */
static void wait_for_something(bool *over)
{
	struct pollfd fds[] = {
		{ .fd = tls_context_fd(s.ctx), .events = POLLIN },
		{ .fd = s.pair.fd[1], .events = POLLIN },
	};
	struct tls_event events[4];
	int i, n;

	n = IN_LIBRARY(tls_context_wait(s.ctx, events, 4, 0));
	if (n < 0)
		fail_msg("%s failed: waiting: %d", inject_failed(), n);
	for (i = 0; i < n; i++)
		*over |= events[i].events & TLS_CLOSED &&
			 *tls_conn_error(s.conn);
	s.failed |= *over;
	while (n == 0 && (n = poll(fds, 2, STALL_MS)) < 0)
		assert_int_equal(errno, EINTR);
	if (n == 0)
		fail_msg("%s failed: stalled at %zu of %zu bytes sent",
			 inject_failed(), s.got, s.put);
}

/* ---- The client, OpenSSL's --------------------------------------------- */

static bool client_writes(void)
{
	int n, len = PIECE;

	if (s.put >= LEN)
		return false;
	if (LEN - s.put < PIECE)
		len = (int)(LEN - s.put);
	n = SSL_write(s.pair.client, data + s.put, len);
	if (n <= 0)
		return false;
	s.put += (size_t)n;
	if (version == TLS1_3_VERSION)
		SSL_key_update(s.pair.client, SSL_KEY_UPDATE_REQUESTED);
	return true;
}

/* What comes is what was sent, whatever went wrong. */
static bool client_reads(bool *ended)
{
	static uint8_t buf[PIECE];
	int n = SSL_read(s.pair.client, buf, sizeof(buf));

	*ended = n <= 0 && SSL_get_error(s.pair.client, n) !=
				   SSL_ERROR_WANT_READ;
	if (n <= 0)
		return false;
	if (s.got + (size_t)n > s.put ||
	    memcmp(buf, data + s.got, (size_t)n) != 0)
		fail_msg("%s failed: wrong bytes at %zu", inject_failed(),
			 s.got);
	s.got += (size_t)n;
	return true;
}

/* ---- The scenario ------------------------------------------------------ */

/*
 * Where it fails the SSL is as before. A second time it has all it needs,
 * unless that was lacking during the handshake.
 */
static bool hand_over(void)
{
	int i, ret = -1;

	for (i = 0; i < 2 && ret; i++) {
		ret = IN_LIBRARY(tls_handoff(&s.conn, s.ctx, s.pair.server));
		s.failed |= ret != 0;
		if (ret)
			must_have_words(tls_last_error(), ret);
	}
	if (ret == 0)
		return true;
	tls_pair_set_blocking(&s.pair, true);
	assert_still_usable(s.pair.server, s.pair.client);
	return false;
}

/* The server's part, until the client has got len bytes. */
static bool converse(bool (*serve)(bool *over), size_t len)
{
	bool over = false, ended = false, moved;
	int turns;

	for (turns = 0; s.got < len && !over; turns++) {
		assert_true(turns < TURNS);
		moved = client_writes();
		moved |= client_reads(&ended);
		moved |= serve(&over);
		assert_true(!ended || over || s.failed);
		if (!moved && !over)
			wait_for_something(&over);
	}
	return !over;
}

static bool echo_and_send(void)
{
	if (!converse(echo, LEN))
		return false;
	s.file_at = LEN;
	s.put = sizeof(data);
	return converse(send_file, sizeof(data));
}

/* close_notify from the client, then from us; nothing is lost. */
static bool part(void)
{
	bool over = false, ended = false;
	ssize_t n;
	int turns;

	SSL_shutdown(s.pair.client);
	for (turns = 0; !over; turns++) {
		assert_true(turns < TURNS);
		if (!echo(&over) && !over)
			wait_for_something(&over);
	}
	if (*tls_conn_error(s.conn))
		return false;
	n = IN_LIBRARY(tls_shutdown(s.conn));
	if (ends_it(n))
		return false;
	n = IN_LIBRARY(tls_close(s.conn, STALL_MS));
	s.conn = NULL;
	if (n)
		return false;
	client_reads(&ended);
	assert_int_equal(SSL_get_shutdown(s.pair.client) &
				 SSL_RECEIVED_SHUTDOWN,
			 SSL_RECEIVED_SHUTDOWN);
	return true;
}

bool scenario_play(struct tls_context *ctx)
{
	const struct tls_pair_options options = {
		.unix_sockets = true,
		.version = version,
		.sctx = sctx,
		.cctx = cctx,
	};
	const int small = 4608;
	bool well;
	int ret;

	memset(&s, 0, sizeof(s));
	s.ctx = ctx;
	assert_int_equal(tls_pair_open(&s.pair, &options), 0);
	/* so small that sends have to wait */
	setsockopt(s.pair.fd[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	ret = IN_LIBRARY(tls_pair_handshake(&s.pair));
	assert_int_equal(ret, 0); /* what it costs us must not break it */
	well = hand_over();
	if (well) {
		well = echo_and_send() && part();
		if (s.conn)
			IN_LIBRARY(tls_close(s.conn, 0));
	}
	tls_pair_free(&s.pair);
	return well;
}

/* ---- With everything failing in turn ------------------------------------ */

/* A context for this one life; whether anything failed. */
static bool with_a_context(enum tls_context_kind kind, enum inject_into where,
			   long n, int error, long times)
{
	int before = count_descriptors();
	struct tls_context *ctx;
	bool well = false, hit;

	inject(where, n, error, times);
	ctx = scenario_context(kind);
	if (ctx) {
		well = scenario_play(ctx);
		hit = inject_stop();
		if (!well) /* the context is as good as new */
			assert_true(scenario_play(ctx));
		tls_context_free(ctx);
	} else {
		hit = inject_stop();
	}
	if (!well && !hit)
		fail_msg("something failed by itself");
	assert_int_equal(count_descriptors(), before);
	return hit;
}

void scenario_in_contexts(enum tls_context_kind kind, enum inject_into where,
			  int error, long many, long least)
{
	long n;

	for (n = 0; with_a_context(kind, where, n, error, 1); n += step)
		if (many != 1)
			with_a_context(kind, where, n, error, many);
	if (n < least)
		fail_msg("only %ld could fail", n);
}

/* Whether a peer is to blame for it, or nobody. */
static bool fatal(int error)
{
	return error == ECONNRESET || error == EPIPE;
}

static bool in_context(struct tls_context *ctx, enum inject_into where, long n,
		       int error, long times)
{
	bool well, hit;

	inject(where, n, error, times);
	well = scenario_play(ctx);
	hit = inject_stop();
	if (!well && !(hit && fatal(error)))
		fail_msg("%s failed with %d, and the connection with it",
			 inject_failed(), error);
	return hit;
}

void scenario_in_a_context(enum tls_context_kind kind, enum inject_into where,
			   int error, long least)
{
	struct tls_context *ctx = scenario_context(kind);
	long n;

	assert_non_null(ctx);
	for (n = 0; in_context(ctx, where, n, error, 1); n += step)
		if (error == EAGAIN)
			in_context(ctx, where, n, error, 5);
	if (n < least)
		fail_msg("only %ld could fail", n);
	assert_true(scenario_play(ctx));
	tls_context_free(ctx);
}
