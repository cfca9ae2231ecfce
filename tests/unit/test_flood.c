/* SPDX-License-Identifier: MIT */
/*
 * A peer that sends what costs it little and us much, and never stops: another
 * one on the same context is served all the same, in a few turns, whatever
 * waits in the flooding one's socket.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "conn/conn.h"
#include "ends.h"
#include "wire.h"

/*
 * So many records in a row without data are no offence; nor are so many
 * KeyUpdates, if each has a record of data of ours to answer. What is unsent is
 * kept longer than a socket holds.
 */
enum { IN_A_ROW = 31, PAID = 2000, AHEAD = 1 << 20 };
enum { QUESTIONS = 20, QUESTION = 200 };

/* Until an answer has come: turns of a loop, and records of the flood. */
enum { TURNS = 3, RECORDS = 1000, FOR_EVER = 1000 };

struct flood {
	/* Seal one record of it into out; its length. */
	size_t (*record)(uint8_t *out);
	int in_a_row;
	bool paid;
	bool of_a_server; /* at a client of ours */
};

/* Its other end floods. */
static struct wire w;
static struct tls_conn *served, *asking; /* the two ends of another one */
static struct tls_context *clients;
static int fd[2];
static uint8_t unsent[2 * AHEAD];
static size_t sent, sealed;
static uint64_t paid;

/* ---- What there is too much of ----------------------------------------- */

static size_t request_of_an_update(uint8_t *out)
{
	static const uint8_t update[] = { MESSAGE_KEY_UPDATE, 0, 0, 1,
					  UPDATE_REQUESTED };
	size_t len;

	len = wire_seal(&w, RECORD_HANDSHAKE, update, sizeof(update), 0, out);
	wire_next_keys(&w);
	return len;
}

static size_t empty_record(uint8_t *out)
{
	return wire_seal(&w, RECORD_DATA, "", 0, 0, out);
}

static size_t ticket(uint8_t *out)
{
	static const uint8_t message[4 + 20] = { MESSAGE_NEW_SESSION_TICKET, 0,
						 0, 20 };

	return wire_seal(&w, RECORD_HANDSHAKE, message, sizeof(message), 0,
			 out);
}

static size_t byte(uint8_t *out)
{
	return wire_seal(&w, RECORD_DATA, "x", 1, 0, out);
}

static const struct flood updates = { request_of_an_update, IN_A_ROW };
static const struct flood paid_updates = { request_of_an_update, PAID, true };
static const struct flood empty_records = { empty_record, IN_A_ROW };
static const struct flood tickets = { ticket, IN_A_ROW, .of_a_server = true };
static const struct flood bytes = { byte, IN_A_ROW };

/* ---- The flood --------------------------------------------------------- */

static void seal_ahead(const struct flood *flood)
{
	int i;

	if (sealed - sent > AHEAD / 2)
		return;
	memmove(unsent, unsent + sent, sealed - sent);
	sealed -= sent;
	sent = 0;
	while (sealed < AHEAD) {
		for (i = 0; i < flood->in_a_row; i++)
			sealed += flood->record(unsent + sealed);
		sealed += byte(unsent + sealed);
	}
}

/* As much as its socket takes. */
static void fill_socket(void)
{
	ssize_t n;

	do {
		size_t len = min_size(sealed - sent, 4096);

		assert_true(len > 0);
		n = send(w.fd, unsent + sent, len, MSG_DONTWAIT);
		sent += n > 0 ? (size_t)n : 0;
	} while (n > 0);
	assert_int_equal(errno, EAGAIN);
}

/* Data that the flooding peer takes, and does not look at. */
static void pay(int count)
{
	static uint8_t away[1 << 16];
	ssize_t n, left;

	paid += (unsigned)count;
	do {
		n = count ? tls_write(w.conn, "x", 1) : 0;
		assert_true(n >= 0 || n == -EAGAIN);
		count -= n > 0;
		if (n > 0 && count)
			continue;
		left = tls_flush(w.conn);
		if (left < 0)
			fail_msg("%zd: %s", left, tls_conn_error(w.conn));
		while (recv(w.fd, away, sizeof(away), MSG_DONTWAIT) > 0)
			;
	} while (count || left);
}

static struct tls_stats stats(void)
{
	struct tls_stats s;

	assert_int_equal(tls_conn_stats(w.conn, &s, sizeof(s)), 0);
	return s;
}

static void pay_ahead(void)
{
	uint64_t left = paid - stats().rx_rekeys;

	if (left < 4 * PAID)
		pay(4 * PAID - (int)left);
}

static uint64_t records_of_flood(void)
{
	return stats().rx_records[TLS_BY_CPU];
}

/* ---- Who is to be served ----------------------------------------------- */

static void connect_other(void)
{
	struct tls_config config = TLS_CONFIG_INIT;
	int i;

	config.kind = TLS_CONTEXT_LOOP;
	config.engine = TLS_ENGINE_CPU;
	assert_int_equal(tls_context_new(&clients, &config), 0);
	socket_pair(fd, false);
	for (i = 0; i < 2; i++)
		set_blocking(fd[i], false);
	assert_null(end_take(&served, w.ctx, fd[0], 0, 0));
	assert_null(end_take(&asking, clients, fd[1], 1, 0));
}

static void disconnect_other(void)
{
	assert_int_equal(tls_close(asking, 0), 0);
	assert_int_equal(tls_close(served, 0), 0);
	tls_context_free(clients);
	close(fd[0]);
	close(fd[1]);
}

static void ask(int i)
{
	uint8_t question[QUESTION];

	memset(question, i, QUESTION);
	assert_int_equal(tls_write(asking, question, QUESTION), QUESTION);
	assert_int_equal(tls_flush(asking), 0);
}

static bool answered(int i)
{
	uint8_t answer[QUESTION], question[QUESTION];
	ssize_t n;

	tls_context_process(clients);
	n = tls_read(asking, answer, QUESTION);
	if (n == -EAGAIN)
		return false;
	memset(question, i, QUESTION);
	assert_int_equal(n, QUESTION);
	assert_memory_equal(answer, question, QUESTION);
	return true;
}

/*
 * An application that looks at one connection at a time: the context is to see
 * that it is not always the same.
 */
static void turn(void)
{
	static uint8_t buf[RECORD_PLAIN_MAX];
	struct tls_event event;
	ssize_t n;

	assert_int_equal(tls_context_wait(w.ctx, &event, 1, 20000), 1);
	n = tls_read(event.conn, buf, sizeof(buf));
	if (n == -EAGAIN)
		return;
	if (n <= 0)
		fail_msg("%zd: %s", n, tls_conn_error(event.conn));
	if (event.conn != served)
		return;
	assert_int_equal(tls_write(served, buf, (size_t)n), n);
	assert_true(tls_flush(served) >= 0);
}

/* ---- Tests ------------------------------------------------------------- */

static void flood_and_turn(const struct flood *flood)
{
	seal_ahead(flood);
	fill_socket();
	turn();
}

/* How many turns it takes; *records is how many of the flood meanwhile. */
static int ask_and_count(const struct flood *flood, int i, uint64_t *records)
{
	const uint64_t before = records_of_flood();
	int turns;

	ask(i);
	for (turns = 0; !answered(i) && turns < FOR_EVER; turns++)
		flood_and_turn(flood);
	*records = records_of_flood() - before;
	return turns;
}

static void flooded(const struct flood *flood, enum tls_context_kind kind)
{
	const struct wire_options options = {
		.kind = kind,
		.we_are_client = flood->of_a_server,
		.not_recorded = true,
	};
	uint64_t records;
	int i;

	wire_new(&w, &options);
	connect_other();
	sent = sealed = 0;
	paid = 0;
	for (i = 0; i < QUESTIONS; i++) {
		if (flood->paid)
			pay_ahead();
		flood_and_turn(flood);
		fill_socket();
		assert_in_range(ask_and_count(flood, i, &records), 1, TURNS);
		/* a worker goes on whenever it likes */
		if (kind == TLS_CONTEXT_LOOP)
			assert_in_range(records, 0, RECORDS);
	}
	assert_true(records_of_flood() > QUESTIONS * IN_A_ROW);
	disconnect_other();
	wire_free(&w);
}

static void another_is_served(const struct flood *flood)
{
	flooded(flood, TLS_CONTEXT_LOOP);
	flooded(flood, TLS_CONTEXT_WORKER);
}

static void beside_requests_of_key_updates_another_is_served(void **state)
{
	(void)state;
	another_is_served(&updates);
}

static void beside_updates_that_our_data_prompts_another_is_served(void **state)
{
	(void)state;
	another_is_served(&paid_updates);
}

static void beside_empty_records_another_is_served(void **state)
{
	(void)state;
	another_is_served(&empty_records);
}

static void beside_tickets_another_is_served(void **state)
{
	(void)state;
	another_is_served(&tickets);
}

static void beside_single_bytes_another_is_served(void **state)
{
	(void)state;
	another_is_served(&bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			beside_requests_of_key_updates_another_is_served),
		cmocka_unit_test(
			beside_updates_that_our_data_prompts_another_is_served),
		cmocka_unit_test(beside_empty_records_another_is_served),
		cmocka_unit_test(beside_tickets_another_is_served),
		cmocka_unit_test(beside_single_bytes_another_is_served),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
