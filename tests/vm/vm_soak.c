/* SPDX-License-Identifier: MIT */
/*
 * Many connections echo while the accelerator of tests/kmod changes its mind
 * about everything, several times a second: not a byte is wrong, nothing hangs,
 * no nonce is used twice, keys are updated all the time, and in the end
 * everything is given back. A wrong tag on transmit is left out: nobody on our
 * side could know.
 *
 * The clients' context is a worker's, the server's a loop in a thread of its
 * own; the main thread makes the trouble. Assertions are the main thread's;
 * the others tell in words what went wrong.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include <cmocka.h>

#include "accel.h"
#include "base/util.h"
#include "context/ctx_gate.h"
#include "ends.h"
#include "recorder.h"
#include "wire.h"

enum {
	LINKS = 64,
	SECONDS = 10,	    /* unless ASYNCTLS_SOAK_SECONDS says otherwise */
	PATIENCE_MS = 20000, /* without a byte on one connection: it hangs */
	DEADLINE_MS = 250,
	REST_MS = 100,
	FEW_SOCKETS = 48,
	REKEY_RECORDS = 25,
	CHUNK = 20 << 10,
	WINDOW = 4 << 10, /* more is sent while less is not yet back */
	SECRET = 48,
	CLIENT = 0,
	SERVER = 1,
	SKIPPED = 77,
};

struct link {
	int fd[2];
	struct tls_conn *conn[2];
	uint8_t secret[2][SECRET];
	/* the client's */
	struct dice dice;
	size_t put, got; /* bytes of the pattern, from first on */
	size_t first;
	uint64_t moved; /* now_ns() of the latest byte that came back */
	bool shut;
	/* the server's: received and to be sent back */
	uint8_t buf[CHUNK];
	size_t off, len;
};

struct side {
	int which;
	pthread_t thread;
	struct tls_context *ctx;
	unsigned open; /* connections */
	struct tls_stats stats;
	char words[200];
};

static struct link links[LINKS];
static struct recorder *recorder;
static pthread_barrier_t started;
static atomic_bool stopping; /* finish what was sent, then close */
static atomic_bool failed;

__attribute__((format(printf, 2, 3))) static void
say(struct side *s, const char *format, ...)
{
	va_list args;

	failed = true;
	if (s->words[0])
		return;
	va_start(args, format);
	vsnprintf(s->words, sizeof(s->words), format, args);
	va_end(args);
}

static void say_conn(struct side *s, const struct link *l, const char *what,
		     ssize_t n)
{
	say(s, "connection %d, %s: %zd, %s; %zu bytes out, %zu back",
	    (int)(l - links), what, n, tls_conn_error(l->conn[s->which]),
	    l->put, l->got);
}

static void end_link(struct side *s, struct link *l)
{
	ssize_t lost = tls_close(l->conn[s->which], 5000);

	l->conn[s->which] = NULL;
	close(l->fd[s->which]);
	s->open--;
	if (lost)
		say(s, "connection %d: closing said %zd", (int)(l - links),
		    lost);
}

/* ---- The clients ------------------------------------------------------- */

/* Returns whether the stream goes on. */
static bool take_back(struct side *s, struct link *l)
{
	static uint8_t buf[CHUNK];
	ssize_t n, i;

	while ((n = tls_read(l->conn[CLIENT], buf, sizeof(buf))) > 0) {
		for (i = 0; i < n; i++)
			if (buf[i] != pattern_byte(l->first + l->got + i))
				break;
		if (i < n) {
			say_conn(s, l, "a wrong byte at", i);
			return false;
		}
		l->got += (size_t)n;
		l->moved = now_ns();
	}
	if (n == -EAGAIN)
		return true;
	if (n || l->got != l->put)
		say_conn(s, l, "reading", n);
	return false;
}

static void send_more(struct side *s, struct link *l)
{
	static uint8_t buf[CHUNK];

	while (l->put - l->got < WINDOW) {
		size_t len = dice_size(&l->dice, sizeof(buf));
		ssize_t n;

		pattern_fill(buf, l->first + l->put, len);
		n = tls_write(l->conn[CLIENT], buf, len);
		if (n > 0)
			l->put += (size_t)n;
		else if (n != -EAGAIN)
			say_conn(s, l, "writing", n);
		if (n < (ssize_t)len)
			break;
	}
}

static void turn_client(struct side *s, struct link *l)
{
	ssize_t n;

	if (!take_back(s, l)) {
		end_link(s, l);
		return;
	}
	if (!stopping) {
		send_more(s, l);
	} else if (!l->shut) {
		l->shut = true;
		n = tls_shutdown(l->conn[CLIENT]);
		if (n < 0)
			say_conn(s, l, "ending", n);
	}
	if (now_ns() - l->moved > PATIENCE_MS * (uint64_t)NS_PER_MS)
		say_conn(s, l, "no byte for ms", PATIENCE_MS);
}

/* ---- The server -------------------------------------------------------- */

static void turn_server(struct side *s, struct link *l)
{
	ssize_t n = 0;

	while (n >= 0) {
		if (l->off == l->len) {
			n = tls_read(l->conn[SERVER], l->buf, sizeof(l->buf));
			if (n <= 0)
				break;
			l->off = 0;
			l->len = (size_t)n;
		}
		n = tls_write(l->conn[SERVER], l->buf + l->off,
			      l->len - l->off);
		if (n > 0)
			l->off += (size_t)n;
	}
	if (n == -EAGAIN) {
		tls_conn_want(l->conn[SERVER],
			      l->off < l->len ? TLS_WRITABLE | TLS_CLOSED :
						TLS_READABLE | TLS_CLOSED);
		return;
	}
	if (n)
		say_conn(s, l, "echoing", n);
	end_link(s, l);
}

/* ---- Both -------------------------------------------------------------- */

static bool open_link(struct side *s, struct link *l)
{
	static const struct {
		uint16_t number;
		size_t secret_len;
	} suites[] = {
		{ TLS_AES_128_GCM, 32 },
		{ TLS_AES_256_GCM, 48 },
		{ 0xc02b, 48 }, /* TLS 1.2, AES-128-GCM */
		{ 0xc02c, 48 }, /* TLS 1.2, AES-256-GCM */
	};
	const unsigned i = (unsigned)(l - links) % 4;
	const struct tls_secrets secrets = {
		.size = sizeof(struct tls_secrets),
		.cipher_suite = suites[i].number,
		.secret_len = suites[i].secret_len,
		.tx_secret = l->secret[s->which],
		.rx_secret = l->secret[!s->which],
		.master_secret = l->secret[0],
		.client_random = l->secret[1],
		.server_random = l->secret[1],
		.is_server = s->which == SERVER,
	};

	if (tls_handoff_secrets(&l->conn[s->which], s->ctx, l->fd[s->which],
				&secrets)) {
		say(s, "%s", tls_last_error());
		return false;
	}
	tls_conn_set_data(l->conn[s->which], l);
	s->open++;
	return true;
}

static bool open_side(struct side *s)
{
	struct tls_config config = TLS_CONFIG_INIT;
	int i;

	config.kind = s->which == CLIENT ? TLS_CONTEXT_WORKER :
					   TLS_CONTEXT_LOOP;
	config.driver = ACCEL_GCM;
	config.deadline_ms = DEADLINE_MS;
	config.max_op_sockets = s->which == SERVER ? FEW_SOCKETS : 0;
	config.rekey_records = REKEY_RECORDS;
	if (tls_context_new(&s->ctx, &config)) {
		say(s, "%s", tls_last_error());
		return false;
	}
	recorder_attach(recorder, s->ctx);
	for (i = 0; i < LINKS; i++)
		if (!open_link(s, &links[i]))
			return false;
	return true;
}

static void turn(struct side *s, struct link *l)
{
	if (!l->conn[s->which])
		return;
	if (s->which == CLIENT)
		turn_client(s, l);
	else
		turn_server(s, l);
}

static void shorten(struct health *health, uint64_t until)
{
	health->pauses = 0;
	if (health->paused_until > until)
		health->paused_until = until;
}

/* Seconds of rest are right, but this is to be trouble for the engine. */
static void shorten_rests(struct side *s)
{
	const uint64_t until = now_ns() + REST_MS * NS_PER_MS;
	int i;

	if (ctx_enter(s->ctx))
		return;
	shorten(&s->ctx->core.dispatch.health, until);
	for (i = 0; i < LINKS; i++)
		if (links[i].conn[s->which])
			shorten(&links[i].conn[s->which]->account.health,
				until);
	ctx_leave(s->ctx);
}

/* What drivers still had comes back once they have let go of it. */
static void expect_all_back(struct side *s)
{
	const uint64_t end = now_ns() + 5000 * (uint64_t)NS_PER_MS;
	struct tls_event event;

	do {
		tls_context_wait(s->ctx, &event, 1, 50);
		tls_context_stats(s->ctx, &s->stats, sizeof(s->stats));
	} while ((s->stats.memory_now || s->stats.memory_parked ||
		  s->stats.op_sockets_now) && now_ns() < end);
	if (s->stats.memory_now || s->stats.memory_parked ||
	    s->stats.op_sockets_now || s->stats.connections_now)
		say(s, "not given back: %ju bytes, %ju parked, %ju op sockets, "
		       "%ju connections", s->stats.memory_now,
		    s->stats.memory_parked, s->stats.op_sockets_now,
		    s->stats.connections_now);
}

static void *run_side(void *arg)
{
	struct side *s = arg;
	struct tls_event events[LINKS];
	bool fine = open_side(s);
	int i, n;

	pthread_barrier_wait(&started);
	while (fine && s->open && !failed) {
		n = tls_context_wait(s->ctx, events, LINKS, 100);
		if (n < 0)
			say(s, "waiting: %d, %s", n, tls_last_error());
		shorten_rests(s);
		for (i = 0; i < n; i++)
			turn(s, events[i].data);
		/* who heard nothing may be due to begin, to end or to fail */
		for (i = 0; s->which == CLIENT && i < LINKS; i++)
			turn(s, &links[i]);
	}
	if (!failed)
		expect_all_back(s);
	tls_context_free(s->ctx);
	return NULL;
}

/* ---- Trouble ----------------------------------------------------------- */

static uint64_t die;

static unsigned roll(unsigned sides)
{
	die ^= die << 13;
	die ^= die >> 7;
	die ^= die << 17;
	return (unsigned)((die >> 20) % sides);
}

/* Half of the time something does not go wrong. */
static long every(unsigned least, unsigned most)
{
	return roll(2) ? 0 : (long)(least + roll(most - least + 1));
}

/* A request on its way in must not see the old directions and the new N. */
static void fail_tags(long nth)
{
	if (!nth) {
		accel_set("tag_every", 0);
		usleep(10 * 1000);
		accel_set("fail_ops", ACCEL_SEAL | ACCEL_OPEN);
		return;
	}
	accel_set("fail_ops", ACCEL_OPEN);
	usleep(10 * 1000);
	accel_set("tag_every", nth);
}

static void switch_something(void)
{
	switch (roll(7)) {
	case 0:
		accel_set("latency_us", 100 << roll(8));
		accel_set("jitter_us", 50 << roll(8));
		break;
	case 1:
		accel_set("parallelism", 4 << roll(5));
		break;
	case 2:
		accel_set("order", (long)roll(4));
		break;
	case 3:
		accel_set("full_errno", roll(2) ? EBUSY : ENOSPC);
		accel_set("queue_length", roll(3) ? (long)roll(8) : 1000);
		break;
	case 4:
		accel_set("fail_every", every(3, 50));
		break;
	case 5:
		fail_tags(every(3, 50));
		break;
	case 6:
		accel_set("hold_every", every(20, 200));
		break;
	}
	if (roll(4) == 0)
		accel_set("release", roll(2) ? 0 : EIO);
}

static void trouble(unsigned seconds)
{
	const uint64_t end = now_ns() + seconds * (uint64_t)1000 * NS_PER_MS;
	unsigned switched = 0;

	accel_set("queue_length", 2); /* of everything some from the start */
	accel_set("parallelism", 4);
	accel_set("latency_us", 2000);
	accel_set("fail_every", 50);
	accel_set("hold_every", 100);
	while (now_ns() < end && !failed) {
		switch_something();
		switched++;
		usleep((100 + roll(400)) * 1000);
	}
	print_message("switched %u times\n", switched);
}

static void calm_down(void)
{
	accel_set("hold_every", 0);
	accel_set("fail_every", 0);
	accel_set("tag_every", 0);
	accel_set("queue_length", 1000);
	accel_set("latency_us", 100);
	accel_set("jitter_us", 0);
	accel_set("parallelism", 16);
	usleep(10 * 1000);
	accel_set("release", 0);
}

/* ---- The report -------------------------------------------------------- */

static const char *const reasons[TLS_FAILOVER_COUNT] = {
	[TLS_FAILOVER_NO_SOCKET] = "no socket",
	[TLS_FAILOVER_FULL] = "queue full",
	[TLS_FAILOVER_NO_MEMORY] = "no memory",
	[TLS_FAILOVER_DEADLINE] = "deadline",
	[TLS_FAILOVER_TAG] = "tag",
	[TLS_FAILOVER_ERROR] = "error",
};

static void print_stats(const char *who, const struct tls_stats *s)
{
	int i;

	print_message("%s: sealed %ju by the kernel, %ju by the CPU; opened "
		      "%ju and %ju; out of order %ju\n", who,
		      s->tx_records[TLS_BY_KERNEL], s->tx_records[TLS_BY_CPU],
		      s->rx_records[TLS_BY_KERNEL], s->rx_records[TLS_BY_CPU],
		      s->out_of_order);
	print_message("%s: failovers %ju:", who, s->failovers);
	for (i = 0; i < TLS_FAILOVER_COUNT; i++)
		print_message(" %s %ju%s", reasons[i], s->failovers_for[i],
			      i + 1 < TLS_FAILOVER_COUNT ? "," : "\n");
	print_message("%s: pauses %ju, op sockets at most %ju, memory at most "
		      "%ju KiB; KeyUpdates %ju sent, %ju received\n", who,
		      s->pauses, s->op_sockets_peak, s->memory_peak >> 10,
		      s->tx_rekeys, s->rx_rekeys);
}

static void check_stats(const struct tls_stats *s)
{
	uint64_t sum = 0;
	int i;

	for (i = 0; i < TLS_FAILOVER_COUNT; i++)
		sum += s->failovers_for[i];
	assert_int_equal(sum, s->failovers);
	assert_int_equal(s->connections_failed, 0);
	assert_true(s->tx_records[TLS_BY_KERNEL] > 0);
	assert_true(s->rx_records[TLS_BY_KERNEL] > 0);
	assert_true(s->tx_rekeys > 0 && s->rx_rekeys > 0);
}

static void report(const struct side sides[2], unsigned seconds)
{
	struct recorder_counts seals = recorder_counts(recorder);
	struct tls_stats both = sides[0].stats;
	size_t bytes = 0;
	int i;

	for (i = 0; i < LINKS; i++)
		bytes += links[i].got;
	print_message("%zu KiB came back in %u s, over %d connections\n",
		      bytes >> 10, seconds, LINKS);
	print_stats("clients", &sides[CLIENT].stats);
	print_stats("server", &sides[SERVER].stats);
	print_message("%ju seals under %ju engine keys, %ju of them again "
		      "after a failure\n", seals.seals, seals.keys,
		      seals.repeats);
	tls_stats_add(&both, &sides[1].stats, sizeof(both));
	check_stats(&sides[CLIENT].stats);
	check_stats(&sides[SERVER].stats);
	assert_true(seals.repeats > 0);
	assert_true(seals.repeats <= both.failovers);
}

/* ---- ------------------------------------------------------------------- */

static void make_links(void)
{
	int i;

	memset(links, 0, sizeof(links));
	for (i = 0; i < LINKS; i++) {
		struct link *l = &links[i];

		socket_pair(l->fd, true);
		set_blocking(l->fd[0], false);
		set_blocking(l->fd[1], false);
		assert_int_equal(getrandom(l->secret, sizeof(l->secret), 0),
				 sizeof(l->secret));
		l->dice.state = die + (uint64_t)i * 7919 + 1;
		l->first = (size_t)i * 100003;
		l->moved = now_ns();
	}
}

static unsigned from_environment(const char *name, unsigned otherwise)
{
	const char *value = getenv(name);

	return value && *value ? (unsigned)strtoul(value, NULL, 10) :
				 otherwise;
}

static void not_a_byte_is_wrong_whatever_the_accelerator_does(void **state)
{
	unsigned seconds = from_environment("ASYNCTLS_SOAK_SECONDS", SECONDS);
	unsigned seed = from_environment("ASYNCTLS_SOAK_SEED",
					 (unsigned)now_ns());
	struct side sides[2] = { { .which = CLIENT }, { .which = SERVER } };
	int i, descriptors = count_descriptors();

	(void)state;
	print_message("ASYNCTLS_SOAK_SEED=%u\n", seed);
	die = seed * 2654435761u + 88172645463325252u;
	recorder = recorder_new();
	make_links();
	accel_restore();
	pthread_barrier_init(&started, NULL, 3);
	alarm(seconds + 60); /* the last watchdog */
	for (i = 0; i < 2; i++)
		pthread_create(&sides[i].thread, NULL, run_side, &sides[i]);
	pthread_barrier_wait(&started);
	trouble(seconds);
	calm_down();
	stopping = true;
	for (i = 0; i < 2; i++)
		pthread_join(sides[i].thread, NULL);
	alarm(0);
	accel_restore();
	for (i = 0; i < 2; i++)
		if (sides[i].words[0])
			fail_msg("%s: %s", i ? "server" : "clients",
				 sides[i].words);
	report(sides, seconds);
	assert_int_equal(count_descriptors(), descriptors);
	recorder_free(recorder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			not_a_byte_is_wrong_whatever_the_accelerator_does),
	};

	if (!accel_present()) {
		print_message("asynctls_accel is not loaded (tests/kmod)\n");
		return SKIPPED;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
