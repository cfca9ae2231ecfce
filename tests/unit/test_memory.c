/* SPDX-License-Identifier: MIT */
/*
 * max_memory holds whatever peers do: send what nobody reads, or a part of a
 * record, or read nothing; and everybody is served all the same.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/secret.h"
#include "context/ctx.h"
#include "wire.h"

enum {
	THOUSAND = 1000,
	MANY = 10000,
	FEW_MIB = 4 << 20,
	LEAST = 1 << 20,
	/* what the process itself takes meanwhile */
	SLACK = 2 << 20,
	/* where a connection's records are kept account of */
	LINE = 1088,
};

struct peer {
	struct tls_conn *conn;
	int fd[2]; /* ours and its */
	size_t taken;
};

static struct wire w; /* one that is not among the peers */
static struct tls_secrets secrets;
static struct peer *peers;
static int peer_count;
static uint8_t content[4 * RECORD_PLAIN_MAX], record[RECORD_WIRE_MAX];
static size_t record_len;
static uint64_t sealed;
static uint8_t buf[1 << 18];

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

/*
 * Without pages of files: code is touched as it comes. And without keys, which
 * are no records: how large one is when expanded is up to the CPU engine (1,008
 * bytes with intel-ipsec-mb 1.3, 1,264 with 2.0).
 */
static size_t resident(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	size_t total, pages = 0, shared = 0;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%zu %zu %zu", &total, &pages, &shared), 3);
	fclose(f);
	return (pages - shared) * (size_t)sysconf(_SC_PAGESIZE) -
	       ((size_t)secret_counts().chunks << 16);
}

static struct tls_stats stats(void)
{
	struct tls_stats s;

	assert_int_equal(tls_context_stats(w.ctx, &s, sizeof(s)), 0);
	return s;
}

/* The number that can be had, of those wanted. */
static int allow_descriptors(int wanted)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_max < 2 * (rlim_t)wanted + 200) {
		struct rlimit more = { 2 * (rlim_t)wanted + 200,
				       2 * (rlim_t)wanted + 200 };

		if (!setrlimit(RLIMIT_NOFILE, &more))
			return wanted;
	}
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur >= 2 * (rlim_t)wanted + 200)
		return wanted;
	return (int)(limit.rlim_cur - 200) / 2;
}

/* The next record of each of them: they have the same keys. */
static void seal_record(size_t len)
{
	uint64_t seq = w.seal_seq;

	pattern_fill(content, 0, sizeof(content));
	w.seal_seq = sealed++;
	record_len = wire_seal(&w, RECORD_DATA, content, len, 0, record);
	w.seal_seq = seq;
}

static void connect_peer(struct peer *p)
{
	socket_pair(p->fd, false);
	set_blocking(p->fd[0], false);
	set_blocking(p->fd[1], false);
	assert_int_equal(tls_handoff_secrets(&p->conn, w.ctx, p->fd[0],
					     &secrets), 0);
	tls_conn_set_data(p->conn, p);
}

static void begin(enum tls_context_kind kind, size_t memory, int wanted)
{
	int count = allow_descriptors(wanted);

	if (count < wanted / 2)
		skip();
	wire_new(&w, &(struct wire_options){ .kind = kind,
					     .max_memory = memory,
					     .not_recorded = true });
	secrets = (struct tls_secrets){ .size = sizeof(secrets),
					.cipher_suite = TLS_AES_128_GCM,
					.secret_len = 32,
					.tx_secret = w.seal->secret,
					.rx_secret = w.seal->secret };
	sealed = 0;
	peers = calloc((size_t)count, sizeof(*peers));
	assert_non_null(peers);
	for (; peer_count < count; peer_count++)
		connect_peer(&peers[peer_count]);
	assert_int_equal(tls_context_process(w.ctx), 0);
}

static void disconnect_peers(void)
{
	int i;

	for (i = 0; i < peer_count; i++) {
		tls_close(peers[i].conn, 0);
		close(peers[i].fd[0]);
		close(peers[i].fd[1]);
	}
	free(peers);
	peers = NULL;
	peer_count = 0;
}

/* Also what a test has left that failed: the next ones need descriptors. */
static int clean_up(void **state)
{
	(void)state;
	disconnect_peers();
	if (w.ctx)
		wire_free(&w);
	memset(&w, 0, sizeof(w));
	return 0;
}

static void end(void)
{
	disconnect_peers();
	assert_int_equal(stats().connections_failed, 0);
	tls_close(w.conn, 0);
	w.conn = NULL;
	assert_int_equal(stats().memory_now, 0);
	clean_up(NULL);
}

/* As an application that looks at no event does. */
static void let_arrive(void)
{
	struct tls_event events[64];
	int i;

	for (i = 0; i < 20 + peer_count / 64; i++)
		assert_true(tls_context_wait(w.ctx, events, 64, 0) >= 0);
}

static void send_part(size_t from, size_t to)
{
	int i;

	for (i = 0; i < peer_count; i++)
		assert_int_equal(send(peers[i].fd[1], record + from, to - from,
				      0), to - from);
	let_arrive();
}

static size_t limit_of(size_t memory)
{
	return memory ? memory : (size_t)64 << 20;
}

static void check_limit(size_t memory, size_t before)
{
	size_t now = resident();

	assert_in_range(stats().memory_peak, 1, limit_of(memory));
	if (SANITIZED)
		return;
	if (now > before + limit_of(memory) + SLACK +
			  (size_t)peer_count * LINE)
		fail_msg("%zu KiB resident, of %zu", (now - before) >> 10,
			 limit_of(memory) >> 10);
}

/* Read len bytes in pieces of at most so many, though that has to be awaited. */
static void read_all(struct tls_conn *conn, size_t len, size_t piece)
{
	uint64_t deadline = now_ns() + 20000 * (uint64_t)NS_PER_MS;
	struct tls_event events[64];
	size_t got = 0;

	while (got < len) {
		ssize_t n = tls_read(conn, buf,
				     piece < len - got ? piece : len - got);

		if (n == -EAGAIN) {
			tls_context_wait(w.ctx, events, 64, 1);
			assert_true(now_ns() < deadline);
			continue;
		}
		if (n <= 0)
			fail_msg("%zd: %s", n, tls_conn_error(conn));
		pattern_check(buf, got, (size_t)n);
		got += (size_t)n;
	}
}

/* The one that is not among them has as much to say, and is answered. */
static void check_other(void)
{
	uint64_t seq = w.seal_seq;
	uint8_t type;

	pattern_fill(content, 0, RECORD_PLAIN_MAX);
	wire_send(&w, RECORD_DATA, content, RECORD_PLAIN_MAX);
	read_all(w.conn, RECORD_PLAIN_MAX, sizeof(buf));
	assert_int_equal(tls_write(w.conn, "answer", 6), 6);
	assert_true(tls_flush(w.conn) >= 0);
	assert_int_equal(wire_receive(&w, &type, content), 6);
	assert_int_equal(w.seal_seq, seq + 1);
}

/* ---- What nobody reads ------------------------------------------------- */

static void leave_unread(enum tls_context_kind kind, size_t memory, int n,
			 size_t len)
{
	size_t before;
	int i;

	begin(kind, memory, n);
	before = resident();
	seal_record(len);
	send_part(0, record_len);
	check_limit(memory, before);
	if (len < 1001 && !memory) /* small data waits in small memory */
		assert_true(stats().memory_now <=
			    (size_t)peer_count * LINE);
	check_other();
	for (i = peer_count - 1; i >= 0; i -= 2)
		read_all(peers[i].conn, len, sizeof(buf));
	for (i = peer_count - 2; i >= 0; i -= 2)
		read_all(peers[i].conn, len, sizeof(buf));
	check_limit(memory, before);
	assert_int_equal(stats().memory_now, 0);
	end();
}

static void data_that_1000_leave_unread_is_within_the_limit(void **state)
{
	static const size_t lens[] = { 1, 10, 1000, RECORD_PLAIN_MAX };
	int i, kind;

	(void)state;
	for (kind = 0; kind < 2; kind++)
		for (i = 0; i < 4; i++) {
			leave_unread((enum tls_context_kind)kind, FEW_MIB,
				     THOUSAND, lens[i]);
			leave_unread((enum tls_context_kind)kind, 0, THOUSAND,
				     lens[i]);
		}
}

static void data_that_10000_leave_unread_is_within_the_limit(void **state)
{
	(void)state;
	leave_unread(TLS_CONTEXT_LOOP, FEW_MIB, MANY, 1000);
	leave_unread(TLS_CONTEXT_LOOP, 0, MANY, 1000);
	leave_unread(TLS_CONTEXT_WORKER, FEW_MIB, MANY, 1);
}

static void send_parts(enum tls_context_kind kind, size_t memory)
{
	size_t before;
	int i;

	begin(kind, memory, THOUSAND);
	before = resident();
	seal_record(RECORD_PLAIN_MAX);
	send_part(0, 3);
	send_part(3, 16000);
	check_limit(memory, before);
	check_other();
	for (i = 0; i < peer_count; i++)
		assert_int_equal(tls_read(peers[i].conn, buf, sizeof(buf)),
				 -EAGAIN);
	check_limit(memory, before);
	send_part(16000, record_len);
	for (i = peer_count - 1; i >= 0; i--)
		read_all(peers[i].conn, RECORD_PLAIN_MAX, sizeof(buf));
	check_limit(memory, before);
	assert_int_equal(stats().memory_now, 0);
	end();
}

static void parts_of_records_are_within_the_limit(void **state)
{
	int kind;

	(void)state;
	for (kind = 0; kind < 2; kind++) {
		send_parts((enum tls_context_kind)kind, FEW_MIB);
		send_parts((enum tls_context_kind)kind, 0);
	}
}

/* ---- On demand --------------------------------------------------------- */

/* All memory to receive into is taken, and w's socket is the one in question. */
static void begin_starved(enum tls_context_kind kind)
{
	begin(kind, LEAST, THOUSAND);
	seal_record(1000);
	send_part(0, record_len);
	assert_int_equal(w.ctx->core.feed.lent_count, 0);
	assert_false(pool_may_take(&w.conn->rx.memory, POOL_RECORD));
}

static void expect_starved(void)
{
	assert_int_equal(w.conn->rx.memory.held, 0);
	assert_in_range(stats().memory_peak, 1, LEAST);
}

static void read_in_pieces(enum tls_context_kind kind)
{
	begin_starved(kind);
	pattern_fill(content, 0, sizeof(content));
	wire_send(&w, RECORD_DATA, content, RECORD_PLAIN_MAX);
	wire_send(&w, RECORD_DATA, content + RECORD_PLAIN_MAX, 5);
	wire_send(&w, RECORD_DATA, content + RECORD_PLAIN_MAX + 5, 2000);
	read_all(w.conn, RECORD_PLAIN_MAX + 2005, 999);
	expect_starved();
	assert_int_equal(tls_read(w.conn, buf, 1), -EAGAIN);
	pattern_fill(content, 0, sizeof(content));
	wire_send(&w, RECORD_DATA, content, 100);
	wire_send(&w, RECORD_DATA, content + 100, 100);
	let_arrive();
	assert_int_equal(tls_recv(w.conn, buf, 70, TLS_PEEK), 70);
	pattern_check(buf, 0, 70);
	assert_int_equal(tls_recv(w.conn, buf, 700, TLS_PEEK), 100);
	pattern_check(buf, 0, 100);
	read_all(w.conn, 200, 200);
	expect_starved();
	end();
}

static void a_record_is_read_in_pieces_from_the_socket(void **state)
{
	(void)state;
	read_in_pieces(TLS_CONTEXT_LOOP);
	read_in_pieces(TLS_CONTEXT_WORKER);
}

static void read_on(size_t from, size_t len)
{
	ssize_t n;

	while ((n = tls_read(w.conn, buf, len)) == -EAGAIN)
		let_arrive();
	assert_int_equal(n, len);
	pattern_check(buf, from, len);
}

/* Others' data is read, and there is memory for all. */
static void relieve(void)
{
	int i;

	for (i = 0; i < peer_count; i++)
		while (tls_read(peers[i].conn, buf, sizeof(buf)) > 0)
			;
	let_arrive();
	assert_true(pool_may_take(&w.conn->rx.memory, POOL_RECORD));
}

/*
 * A record is begun on demand, by reading a part of it or by looking, and then
 * memory comes back: it is gone on with, and not begun again.
 */
static void relieved_within_a_record(enum tls_context_kind kind, bool peek)
{
	const size_t part = peek ? 0 : 5000;
	static const uint8_t update[] = { MESSAGE_KEY_UPDATE, 0, 0, 1, 0 };

	begin_starved(kind);
	pattern_fill(content, 0, sizeof(content));
	wire_send(&w, RECORD_DATA, content, 16000);
	let_arrive();
	if (peek)
		assert_int_equal(tls_recv(w.conn, buf, 100, TLS_PEEK), 100);
	else
		read_on(0, part);
	relieve();
	read_on(part, 16000 - part);
	wire_send(&w, RECORD_HANDSHAKE, update, sizeof(update));
	wire_next_keys(&w);
	wire_send(&w, RECORD_DATA, content + 16000, 10);
	let_arrive();
	read_on(16000, 10);
	assert_int_equal(tls_read(w.conn, buf, sizeof(buf)), -EAGAIN);
	end();
}

static void memory_back_within_a_record_repeats_nothing(void **state)
{
	(void)state;
	relieved_within_a_record(TLS_CONTEXT_LOOP, false);
	relieved_within_a_record(TLS_CONTEXT_WORKER, false);
	relieved_within_a_record(TLS_CONTEXT_LOOP, true);
	relieved_within_a_record(TLS_CONTEXT_WORKER, true);
}

static void readable_is_told(enum tls_context_kind kind)
{
	struct tls_event events[64];
	int i, n, told = 0;

	begin_starved(kind);
	for (i = 0; i < peer_count; i++)
		tls_conn_want(peers[i].conn, 0);
	assert_int_equal(tls_context_wait(w.ctx, events, 64, 0), 0);
	wire_send(&w, RECORD_DATA, content, 100);
	for (i = 0; i < 100 && !told; i++) {
		n = tls_context_wait(w.ctx, events, 64, 1000);
		told += n && events[0].conn == w.conn;
	}
	assert_int_equal(events[0].events, TLS_READABLE);
	assert_int_equal(tls_read(w.conn, buf, 10), 10);
	assert_int_equal(tls_context_wait(w.ctx, events, 64, 0), 1);
	assert_int_equal(tls_read(w.conn, buf, sizeof(buf)), 90);
	assert_int_equal(tls_read(w.conn, buf, sizeof(buf)), -EAGAIN);
	assert_int_equal(tls_context_wait(w.ctx, events, 64, 0), 0);
	expect_starved();
	end();
}

static void what_is_in_the_socket_is_told_readable(void **state)
{
	(void)state;
	readable_is_told(TLS_CONTEXT_LOOP);
	readable_is_told(TLS_CONTEXT_WORKER);
}

static void *send_later(void *arg)
{
	usleep(20000);
	wire_send_raw(&w, record, (size_t)arg / 2);
	usleep(20000);
	wire_send_raw(&w, record + (size_t)arg / 2,
		      (size_t)arg - (size_t)arg / 2);
	return NULL;
}

static void block(enum tls_context_kind kind)
{
	pthread_t thread;
	size_t len;

	begin_starved(kind);
	set_blocking(w.conn_fd, true);
	pattern_fill(content, 0, sizeof(content));
	len = wire_seal(&w, RECORD_DATA, content, RECORD_PLAIN_MAX, 0, record);
	pthread_create(&thread, NULL, send_later, (void *)len);
	assert_int_equal(tls_read(w.conn, buf, sizeof(buf)), RECORD_PLAIN_MAX);
	pthread_join(thread, NULL);
	pattern_check(buf, 0, RECORD_PLAIN_MAX);
	expect_starved();
	end();
}

static void a_blocking_read_waits_for_a_whole_record(void **state)
{
	(void)state;
	block(TLS_CONTEXT_LOOP);
	block(TLS_CONTEXT_WORKER);
}

static ssize_t read_status(void)
{
	struct tls_event events[64];
	ssize_t n;
	int i;

	for (i = 0; i < 1000; i++) {
		n = tls_read(w.conn, buf, sizeof(buf));
		if (n != -EAGAIN)
			break;
		tls_context_wait(w.ctx, events, 64, 1);
	}
	return n;
}

static void what_is_no_data_is_followed_without_memory(void **state)
{
	static const uint8_t update[] = { MESSAGE_KEY_UPDATE, 0, 0, 1, 0 };
	static const uint8_t closing[] = { 1, ALERT_CLOSE_NOTIFY };
	int i;

	(void)state;
	begin_starved(TLS_CONTEXT_LOOP);
	for (i = 0; i < 5; i++) {
		wire_send(&w, RECORD_HANDSHAKE, update, sizeof(update));
		wire_next_keys(&w);
		pattern_fill(content, 0, sizeof(content));
		wire_send(&w, RECORD_DATA, content, 300);
		read_all(w.conn, 300, 77);
	}
	assert_int_equal(stats().rx_rekeys, 5);
	wire_send(&w, RECORD_DATA, content, 0);
	wire_send(&w, RECORD_ALERT, closing, sizeof(closing));
	assert_int_equal(read_status(), 0);
	expect_starved();
	end();
}

static void a_forged_record_is_an_error_without_memory(void **state)
{
	size_t len;

	(void)state;
	begin_starved(TLS_CONTEXT_LOOP);
	wire_send(&w, RECORD_DATA, content, 10);
	len = wire_seal(&w, RECORD_DATA, content, 1000, 0, record);
	record[100] ^= 1;
	wire_send_raw(&w, record, len);
	assert_int_equal(read_status(), 10);
	assert_int_equal(read_status(), -EBADMSG);
	assert_non_null(strstr(tls_conn_error(w.conn), "record 1 "));
	assert_int_equal(tls_context_process(w.ctx), 0);
	wire_expect_alert(&w, ALERT_BAD_RECORD_MAC);
	tls_close(w.conn, 0);
	w.conn = NULL;
	wire_reopen(&w, &(struct wire_options){ .not_recorded = true });
	w.ctx->core.stats.connections_failed = 0;
	end();
}

static void the_end_within_a_record_is_an_error_without_memory(void **state)
{
	size_t len;

	(void)state;
	begin_starved(TLS_CONTEXT_LOOP);
	wire_send(&w, RECORD_DATA, content, 10);
	len = wire_seal(&w, RECORD_DATA, content, 1000, 0, record);
	wire_send_raw(&w, record, len - 1);
	shutdown(w.fd, SHUT_WR);
	assert_int_equal(read_status(), 10);
	assert_int_equal(read_status(), -ENODATA);
	tls_close(w.conn, 0);
	w.conn = NULL;
	wire_reopen(&w, &(struct wire_options){ .not_recorded = true });
	w.ctx->core.stats.connections_failed = 0;
	end();
}

/* ---- What nobody takes ------------------------------------------------- */

static size_t write_until_refused(struct peer *p)
{
	ssize_t n;

	do {
		pattern_fill(content, p->taken, RECORD_PLAIN_MAX);
		n = tls_write(p->conn, content, RECORD_PLAIN_MAX);
		p->taken += n > 0 ? (size_t)n : 0;
	} while (n > 0);
	if (n != -EAGAIN)
		fail_msg("%zd: %s, %s", n, tls_last_error(),
			 tls_conn_error(p->conn));
	return p->taken;
}

/* Take all there is at a peer, unopened. */
static size_t take(struct peer *p)
{
	size_t got = 0;
	ssize_t n;

	while ((n = read(p->fd[1], buf, sizeof(buf))) > 0)
		got += (size_t)n;
	return got;
}

static void take_the_rest(struct peer *p)
{
	while (tls_flush(p->conn) > 0) {
		take(p);
		assert_int_equal(tls_context_process(w.ctx), 0);
	}
}

static void write_to_all(enum tls_context_kind kind, size_t memory)
{
	struct tls_event events[64];
	const int small = 4608;
	size_t before, writable = 0, wire = 0;
	int i, n, turns;

	begin(kind, memory, THOUSAND);
	before = resident();
	for (i = 0; i < peer_count; i++) {
		setsockopt(peers[i].fd[0], SOL_SOCKET, SO_SNDBUF, &small,
			   sizeof(small));
		write_until_refused(&peers[i]);
		assert_true(peers[i].taken > 0);
	}
	check_limit(memory, before);
	check_other();
	for (turns = 0; writable < (size_t)peer_count; turns++) {
		assert_true(turns < 20000);
		for (i = 0; i < peer_count; i++)
			wire += take(&peers[i]);
		n = tls_context_wait(w.ctx, events, 64, 10);
		for (i = 0; i < n; i++) {
			writable += (events[i].events & TLS_WRITABLE) != 0;
			if (events[i].events & TLS_WRITABLE) /* room it is */
				assert_int_equal(tls_write(events[i].conn, "x",
							   1), 1);
		}
	}
	assert_true(wire > 0);
	check_limit(memory, before);
	for (i = 0; i < peer_count; i++)
		take_the_rest(&peers[i]);
	assert_int_equal(stats().memory_now, 0);
	end();
}

static void peers_that_read_nothing_are_within_the_limit(void **state)
{
	int kind;

	(void)state;
	for (kind = 0; kind < 2; kind++) {
		write_to_all((enum tls_context_kind)kind, LEAST);
		write_to_all((enum tls_context_kind)kind, FEW_MIB);
		write_to_all((enum tls_context_kind)kind, 0);
	}
}

/* A larger transfer beside them, and one whose writer waits. */
static void transfer_beside(enum tls_context_kind kind, bool blocking)
{
	struct tls_event events[64];
	struct peer *last;
	struct tap tap = { 0 };
	size_t taken = 0;
	uint64_t deadline;
	ssize_t n;
	int i;

	begin(kind, LEAST, THOUSAND);
	last = &peers[peer_count - 1];
	for (i = 0; i < peer_count; i++)
		write_until_refused(&peers[i]);
	assert_false(pool_may_take(&w.conn->tx.memory, POOL_SMALL));
	set_blocking(w.conn_fd, blocking);
	deadline = now_ns() + 20000 * (uint64_t)NS_PER_MS;
	while (tap.data < 1 << 20) {
		size_t len = min_size((1 << 20) - taken, 1 << 14);

		pattern_fill(buf, taken, len);
		n = len ? tls_write(w.conn, buf, len) : 0;
		assert_true(n >= 0 || n == -EAGAIN);
		assert_true(!blocking || n == (ssize_t)len);
		taken += n > 0 ? (size_t)n : 0;
		wire_tap(&w, &tap);
		if (n <= 0)
			tls_context_wait(w.ctx, events, 64, 1);
		assert_true(now_ns() < deadline);
	}
	assert_in_range(stats().memory_peak, 1, LEAST);
	/* those that hold nothing can say good-bye, too */
	assert_int_equal(tls_shutdown(w.conn), 0);
	while (tap.alert != ALERT_CLOSE_NOTIFY)
		wire_tap(&w, &tap);
	free(tap.bytes);
	tls_close(last->conn, 0);
	connect_peer(last);
	end();
}

static void data_passes_those_that_read_nothing(void **state)
{
	(void)state;
	transfer_beside(TLS_CONTEXT_LOOP, false);
	transfer_beside(TLS_CONTEXT_WORKER, false);
	transfer_beside(TLS_CONTEXT_LOOP, true);
	transfer_beside(TLS_CONTEXT_WORKER, true);
}

/* ---- Afterwards -------------------------------------------------------- */

static void be_idle(enum tls_context_kind kind)
{
	const uint64_t until = now_ns() + 1200 * (uint64_t)NS_PER_MS;
	struct tls_event events[64];

	while (kind == TLS_CONTEXT_LOOP && now_ns() < until)
		tls_context_wait(w.ctx, events, 64, 300);
	if (kind == TLS_CONTEXT_WORKER)
		usleep(1200000);
}

/* Bursts both ways, so that all kinds of memory are used. */
static void burst(size_t len)
{
	int i;

	seal_record(len);
	send_part(0, record_len);
	for (i = 0; i < peer_count; i++)
		read_all(peers[i].conn, len, sizeof(buf));
	for (i = 0; i < peer_count; i++)
		tls_write(peers[i].conn, buf, len);
	let_arrive();
}

static void give_back(enum tls_context_kind kind)
{
	size_t before, after, used;
	uint64_t woken;
	int i;

	begin(kind, 0, THOUSAND);
	burst(1); /* each expands its keys once */
	before = resident();
	burst(RECORD_PLAIN_MAX);
	for (i = 0; i < peer_count; i++)
		write_until_refused(&peers[i]);
	used = resident();
	for (i = 0; i < peer_count; i++)
		take_the_rest(&peers[i]);
	assert_int_equal(stats().memory_now, 0);
	be_idle(kind);
	after = resident();
	print_message("%zu KiB before, %zu in use, %zu idle\n", before >> 10,
		      used >> 10, after >> 10);
	if (!SANITIZED) {
		assert_true(used - before > 20 << 20);
		assert_true(after < before + SLACK);
	}
	woken = stats().enters;
	be_idle(kind);
	/* nothing is left to be given back, and nobody wakes for it */
	if (kind == TLS_CONTEXT_WORKER)
		assert_int_equal(stats().enters, woken);
	assert_true(ctx_limit_wait(w.ctx, -1) < 0);
	end();
}

static void an_idle_context_gives_memory_back(void **state)
{
	(void)state;
	give_back(TLS_CONTEXT_LOOP);
	give_back(TLS_CONTEXT_WORKER);
}

#define TEST(name) cmocka_unit_test_teardown(name, clean_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_idle_context_gives_memory_back),
		TEST(data_that_1000_leave_unread_is_within_the_limit),
		TEST(data_that_10000_leave_unread_is_within_the_limit),
		TEST(parts_of_records_are_within_the_limit),
		TEST(a_record_is_read_in_pieces_from_the_socket),
		TEST(memory_back_within_a_record_repeats_nothing),
		TEST(what_is_in_the_socket_is_told_readable),
		TEST(a_blocking_read_waits_for_a_whole_record),
		TEST(what_is_no_data_is_followed_without_memory),
		TEST(a_forged_record_is_an_error_without_memory),
		TEST(the_end_within_a_record_is_an_error_without_memory),
		TEST(peers_that_read_nothing_are_within_the_limit),
		TEST(data_passes_those_that_read_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
