/* SPDX-License-Identifier: MIT */
/*
 * Calls end though completions never do: a peer decides how fast they come. The
 * ring is made to say that there is always one more.
 */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "context/ctx.h"
#include "wire.h"

/* Each may bring what one receive brings, of each connection. */
enum { BOUND = 150, FOR_EVER = 100000 };

static struct wire w;
static atomic_bool flooded;
static atomic_uint reaps;

unsigned __real_ring_reap(struct ring *ring);
unsigned __wrap_ring_reap(struct ring *ring);
bool __real_ring_unsubmitted(const struct ring *ring);
bool __wrap_ring_unsubmitted(const struct ring *ring);

unsigned __wrap_ring_reap(struct ring *ring)
{
	unsigned n = __real_ring_reap(ring);

	if (!flooded)
		return n;
	if (++reaps > FOR_EVER)
		flooded = false; /* the test has failed, but is to end */
	return n + 1;
}

bool __wrap_ring_unsubmitted(const struct ring *ring)
{
	return flooded || __real_ring_unsubmitted(ring);
}

static ssize_t process(void)
{
	return tls_context_process(w.ctx);
}

static ssize_t look(void)
{
	struct tls_event event;

	return tls_context_wait(w.ctx, &event, 1, 0);
}

static ssize_t wait_a_little(void)
{
	struct tls_event event;

	return tls_context_wait(w.ctx, &event, 1, 1);
}

static ssize_t read_nothing(void)
{
	char buf[10];

	return tls_read(w.conn, buf, sizeof(buf)) == -EAGAIN ? 0 : -1;
}

static ssize_t flush(void)
{
	return tls_flush(w.conn);
}

static ssize_t write_more(void)
{
	return tls_send(w.conn, "a", 1, TLS_MORE) - 1;
}

static void check(enum tls_context_kind kind, ssize_t (*call)(void),
		  unsigned bound)
{
	wire_new(&w, &(struct wire_options){ .kind = kind });
	look();
	reaps = 0;
	flooded = true;
	assert_int_equal(call(), 0);
	assert_in_range(reaps, 0, bound);
	flooded = false;
	wire_free(&w);
}

static void no_call_goes_on_for_ever(enum tls_context_kind kind)
{
	check(kind, process, BOUND);
	check(kind, look, BOUND);
	check(kind, read_nothing, BOUND);
	check(kind, flush, BOUND);
	check(kind, write_more, BOUND);
	/* it may look as often as it can until its time has come */
	check(kind, wait_a_little, FOR_EVER - 1);
}

static void no_call_in_a_loop_goes_on_for_ever(void **state)
{
	(void)state;
	no_call_goes_on_for_ever(TLS_CONTEXT_LOOP);
}

static void no_call_in_a_worker_context_goes_on_for_ever(void **state)
{
	(void)state;
	no_call_goes_on_for_ever(TLS_CONTEXT_WORKER);
}

/* ... and by that descriptor the next call is made. */
static void what_a_call_leaves_a_loops_descriptor_tells(void **state)
{
	ssize_t (*const calls[])(void) = { process, look };
	struct pollfd p = { .events = POLLIN };
	int i;

	(void)state;
	for (i = 0; i < 2; i++) {
		wire_new(&w, &(struct wire_options){ .kind =
							     TLS_CONTEXT_LOOP });
		p.fd = tls_context_fd(w.ctx);
		look();
		assert_int_equal(poll(&p, 1, 0), 0);
		flooded = true;
		reaps = 0;
		calls[i]();
		flooded = false;
		assert_int_equal(poll(&p, 1, 10000), 1);
		wire_free(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_call_in_a_loop_goes_on_for_ever),
		cmocka_unit_test(no_call_in_a_worker_context_goes_on_for_ever),
		cmocka_unit_test(what_a_call_leaves_a_loops_descriptor_tells),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
