/* SPDX-License-Identifier: MIT */
/*
 * Peers that are slow, stop half-way, or reset the connection in any state it
 * can be in: memory stays bounded and comes back, and the others do not notice.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "both.h"
#include "conn/rx.h"
#include "conn/tx.h"
#include "context/ctx.h"
#include "either.h"

static const uint8_t key_update[] = { MESSAGE_KEY_UPDATE, 0, 0, 1, 1 };

/* ---- Slow ones --------------------------------------------------------- */

static void records_arrive_byte_by_byte(void **state)
{
	static const size_t lengths[] = { 0, 1, 700, RECORD_PLAIN_MAX };
	static uint8_t record[RECORD_WIRE_MAX];
	size_t i, at, len, got = 0;

	(void)state;
	open_wire((struct wire_options){ 0 });
	for (i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		pattern_fill(content, got, lengths[i]);
		len = wire_seal(&w, RECORD_DATA, content, lengths[i], 0,
				record);
		for (at = 0; at < len; at++) {
			assert_int_equal(tls_read(w.conn, content, 1),
					 -EAGAIN);
			wire_send_raw(&w, record + at, 1);
			/* one block to fill, whatever the record's length */
			assert_in_range(w.ctx->core.rx_pool.held, 0,
					POOL_SLAB);
		}
		settle();
		if (!lengths[i])
			continue;
		assert_int_equal(tls_read(w.conn, content, sizeof(content)),
				 lengths[i]);
		pattern_check(content, got, lengths[i]);
		got += lengths[i];
	}
}

static void write_until_full(void)
{
	const int small = 64 << 10;
	size_t before;
	ssize_t n;

	setsockopt(w.conn_fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	setsockopt(w.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	/* until the kernel takes no more either, which it does in its time */
	do {
		before = taken;
		usleep(20000);
		settle();
		while ((n = tls_write(w.conn, data + taken,
				      sizeof(data) - taken)) > 0) {
			taken += (size_t)n;
			settle();
		}
		assert_int_equal(n, -EAGAIN);
	} while (taken > before);
}

/* Its window stays closed, and we come back to it again and again. */
static void a_peer_that_does_not_read_costs_no_more_with_time(void **state)
{
	struct tls_stats before, after;
	struct tap tap = { 0 };
	struct both other;
	int i;

	(void)state;
	open_wire((struct wire_options){ .tcp = true,
					 .max_memory = 1 << 20,
					 .not_recorded = true });
	write_until_full();
	before = stats();
	both_open(&other, w.ctx);
	for (i = 0; i < 200; i++) {
		assert_int_equal(tls_write(w.conn, data, 1), -EAGAIN);
		assert_true(tls_flush(w.conn) > 0);
		settle();
	}
	after = stats();
	assert_int_equal(after.memory_now, before.memory_now);
	assert_int_equal(after.allocations, before.allocations);
	assert_in_range(after.memory_now, 1, 1 << 20);
	/* one that does read has its share (the fake one would wait) */
	if (!fake)
		both_transfer(&other, 300000);
	both_close(&other);
	while (tap.data < taken) {
		settle();
		wire_tap(&w, &tap);
	}
	assert_int_equal(tap.data, taken);
	free(tap.bytes);
}

/* ---- Resets ------------------------------------------------------------ */

/* What is going on when the reset comes. */
static void idle(void)
{
}

static void half_a_record_has_come(void)
{
	uint8_t record[200];

	wire_send_raw(&w, record,
		      wire_seal(&w, RECORD_DATA, data, 100, 0, record) - 7);
	settle();
}

static void data_is_unread(void)
{
	wire_send(&w, RECORD_DATA, data, 100);
	settle();
}

static void records_are_being_opened(void)
{
	int i;

	for (i = 0; i < 5; i++)
		wire_send(&w, RECORD_DATA, data, 100);
	tls_context_process(w.ctx);
}

static void records_are_being_sealed(void)
{
	int i;

	for (i = 0; i < 5; i++)
		tls_write(w.conn, data, 100);
}

static void a_record_is_open(void)
{
	tls_send(w.conn, data, 100, TLS_MORE);
}

static void a_send_waits(void)
{
	write_until_full();
}

static void we_have_closed(void)
{
	tls_shutdown(w.conn);
	settle();
}

static void we_have_closed_behind_a_send_that_waits(void)
{
	write_until_full();
	tls_shutdown(w.conn);
}

static void the_peer_has_closed(void)
{
	static const uint8_t close_notify[] = { 1, ALERT_CLOSE_NOTIFY };

	wire_send(&w, RECORD_ALERT, close_notify, 2);
	settle();
}

static void keys_are_being_updated(void)
{
	wire_send(&w, RECORD_HANDSHAKE, key_update, sizeof(key_update));
	wire_next_keys(&w);
	tls_write(w.conn, data, 100);
	tls_conn_update_keys(w.conn, 0);
	tls_write(w.conn, data, 100);
	tls_context_process(w.ctx);
}

static void memory_is_parked(void)
{
	if (!fake)
		return;
	fake_cling(fake);
	records_are_being_sealed();
	records_are_being_opened();
	dispatch_expire(&w.ctx->core.dispatch, UINT64_MAX - 1);
}

static void an_alert_is_to_go_out(void)
{
	wire_send_raw(&w, data, 100); /* that is no record */
	tls_context_process(w.ctx);
}

static void (*const situations[])(void) = {
	idle,
	half_a_record_has_come,
	data_is_unread,
	records_are_being_opened,
	records_are_being_sealed,
	a_record_is_open,
	a_send_waits,
	we_have_closed,
	we_have_closed_behind_a_send_that_waits,
	the_peer_has_closed,
	keys_are_being_updated,
	memory_is_parked,
	an_alert_is_to_go_out,
};

static void reset_by_peer(void)
{
	const struct linger now = { .l_onoff = 1 };

	setsockopt(w.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(w.fd);
	w.fd = -1;
}

/* Reading and writing come to an end, with words and for good. */
static void expect_the_end(void)
{
	ssize_t n, m;
	int turns;

	for (turns = 0; turns < 1000; turns++) {
		settle();
		n = tls_read(w.conn, content, sizeof(content));
		m = tls_write(w.conn, data, 10);
		if (n <= 0 && n != -EAGAIN && m < 0 && m != -EAGAIN)
			break;
		usleep(n == -EAGAIN ? 1000 : 0);
	}
	assert_in_range(turns, 0, 999);
	if (n < 0) {
		assert_int_equal(tls_read(w.conn, content, 1), n);
		assert_int_not_equal(strlen(tls_conn_error(w.conn)), 0);
	}
	assert_int_equal(tls_write(w.conn, data, 10), m);
}

static void expect_all_given_back(void)
{
	const struct core *core = &w.ctx->core;

	tls_close(w.conn, 0);
	w.conn = NULL;
	settle();
	if (fake)
		fake_let_go(fake);
	assert_int_equal(core->tx_pool.held + core->rx_pool.held, 0);
	assert_int_equal(core->tx_pool.parked + core->rx_pool.parked, 0);
	assert_int_equal(stats().connections_now, 0);
	assert_true(list_empty(&w.ctx->gone));
}

static void reset_in_each_situation(void (*then)(void))
{
	struct wire_options options = { .kind = TLS_CONTEXT_LOOP,
					.tcp = true,
					.max_memory = 1 << 20,
					.fake = fake };
	size_t i;

	open_wire(options);
	for (i = 0; i < sizeof(situations) / sizeof(situations[0]); i++) {
		situations[i]();
		reset_by_peer();
		then();
		expect_all_given_back();
		taken = 0;
		wire_reopen(&w, &options);
		w.ctx->core.dispatch.health = (struct health){ 0 };
	}
	/* another does as if nothing had been */
	write_pattern(1000, 0);
	tls_flush(w.conn);
	settle();
	expect_record(1000);
}

static void a_reset_ends_a_connection_in_any_state(void **state)
{
	(void)state;
	reset_in_each_situation(expect_the_end);
}

/* We close at once instead, without looking: idle() does nothing. */
static void a_close_after_a_reset_gives_all_back_too(void **state)
{
	(void)state;
	reset_in_each_situation(idle);
}

/* ---- Many -------------------------------------------------------------- */

enum { STALLED = 2000, MEMORY = 16 << 20 };

struct stalled {
	int fd[2];
	struct tls_conn *conn;
};

/* Each stops somewhere else: in a header, in a record, at reading, ... */
static void stall(struct stalled *s, int i)
{
	const uint8_t header[] = { RECORD_DATA, 3, 3, 0x40, 0x11 };
	static const uint8_t body[3000];
	const int small = 4608;

	socket_pair(s->fd, false);
	set_blocking(s->fd[0], false);
	setsockopt(s->fd[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	assert_int_equal(tls_handoff_secrets(&s->conn, w.ctx, s->fd[0],
					     both_secrets(0)), 0);
	switch (i % 5) {
	case 0:
		send(s->fd[1], header, 1 + (size_t)i % 4, 0);
		break;
	case 1:
		send(s->fd[1], header, sizeof(header), 0);
		send(s->fd[1], body, 1 + (size_t)i % sizeof(body), 0);
		break;
	case 2:
		while (tls_write(s->conn, data, RECORD_PLAIN_MAX) > 0)
			;
		break;
	case 3:
		tls_send(s->conn, data, 100, TLS_MORE);
		break;
	}
}

static void raise_descriptors(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur < 2 * STALLED + 100)
		skip();
}

static void thousands_that_stall_leave_the_others_alone(void **state)
{
	const size_t most = MEMORY;
	struct stalled *all = calloc(STALLED, sizeof(*all));
	struct both others;
	int i;

	(void)state;
	raise_descriptors();
	/* all have the same keys */
	open_wire((struct wire_options){ .max_memory = MEMORY,
					 .not_recorded = true });
	for (i = 0; i < STALLED; i++)
		stall(&all[i], i);
	settle();
	assert_in_range(stats().memory_now, 1, most);
	both_open(&others, w.ctx);
	both_transfer(&others, 2 << 20);
	both_close(&others);
	assert_in_range(stats().memory_peak, 1, most);
	assert_int_equal(stats().connections_failed, 0);
	for (i = 0; i < STALLED; i++) {
		tls_close(all[i].conn, 0);
		close(all[i].fd[0]);
		close(all[i].fd[1]);
	}
	free(all);
	assert_int_equal(w.ctx->core.tx_pool.held, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(records_arrive_byte_by_byte),
		BOTH(a_peer_that_does_not_read_costs_no_more_with_time),
		BOTH(a_reset_ends_a_connection_in_any_state),
		BOTH(a_close_after_a_reset_gives_all_back_too),
		CPU(thousands_that_stall_leave_the_others_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
