/* SPDX-License-Identifier: MIT */
/* What ends a wait, or wakes a sleeper, though no peer has sent anything. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "context/ctx.h"
#include "fake_engine.h"
#include "wire.h"

static struct wire w;
static uint8_t buf[RECORD_PLAIN_MAX + 256];
static struct fake_engine *fake;
static unsigned timers_set;

int __real_timerfd_settime(int fd, int flags, const struct itimerspec *at,
			   struct itimerspec *old);
int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *at,
			   struct itimerspec *old);

int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *at,
			   struct itimerspec *old)
{
	timers_set++;
	return __real_timerfd_settime(fd, flags, at, old);
}

static bool polls(int timeout_ms)
{
	struct pollfd p = { .fd = tls_context_fd(w.ctx), .events = POLLIN };
	int n;

	do
		n = poll(&p, 1, timeout_ms);
	while (n < 0 && errno == EINTR);
	return n == 1;
}

static uint64_t enters(void)
{
	struct tls_stats s;

	assert_int_equal(tls_context_stats(w.ctx, &s, sizeof(s)), 0);
	return s.enters;
}

/* ---- Deadlines --------------------------------------------------------- */

static void begin(unsigned deadline_ms)
{
	timers_set = 0;
	fake = fake_new();
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP,
					     .fake = fake,
					     .deadline_ms = deadline_ms });
}

static void finish(void)
{
	wire_free(&w);
	fake_free(fake);
}

/* Sleep by its descriptor alone, as the header tells. */
static bool arrives(enum tls_context_kind kind, bool by_process)
{
	struct tls_event event;
	int i;

	(void)kind;
	for (i = 0; i < 100; i++) {
		if (by_process)
			tls_context_process(w.ctx);
		else
			tls_context_wait(w.ctx, &event, 1, 0);
		if (!wire_silent(&w))
			return true;
		if (!polls(10000))
			return false;
	}
	return false;
}

static void a_loops_descriptor_tells_of_an_overdue_record(void **state)
{
	uint8_t type;
	int by_process;

	(void)state;
	for (by_process = 0; by_process < 2; by_process++) {
		begin(50);
		assert_int_equal(tls_write(w.conn, "late", 4), 4);
		tls_flush(w.conn);
		assert_int_equal(fake_pending(fake), 1);
		assert_true(arrives(TLS_CONTEXT_LOOP, by_process));
		assert_int_equal(wire_receive(&w, &type, buf), 4);
		assert_in_range(timers_set, 1, 3);
		finish();
	}
}

/* So many turns with something in flight, and one time is set. */
static void a_deadline_is_set_once_for_many_turns(void **state)
{
	uint64_t before;
	int i;

	(void)state;
	begin(60000);
	assert_int_equal(tls_write(w.conn, "a", 1), 1);
	tls_flush(w.conn);
	tls_context_process(w.ctx);
	before = enters();
	for (i = 0; i < 100; i++)
		tls_context_process(w.ctx);
	assert_int_equal(timers_set, 1);
	assert_in_range(enters(), before, before + (on_uring(w.ctx) ? 0 : 110));
	finish();
}

static void without_a_deadline_no_time_is_set(void **state)
{
	struct tls_event event;
	uint8_t type;
	uint64_t before;
	int i;

	(void)state;
	timers_set = 0;
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP });
	tls_context_wait(w.ctx, &event, 1, 0);
	before = enters();
	for (i = 0; i < 100; i++) {
		tls_context_process(w.ctx);
		tls_context_wait(w.ctx, &event, 1, 0);
	}
	/* without, epoll is asked in each */
	assert_in_range(enters(), before, before + (on_uring(w.ctx) ? 0 : 220));
	assert_int_equal(timers_set, 0);
	assert_int_equal(tls_write(w.conn, "a", 1), 1);
	tls_flush(w.conn);
	tls_context_process(w.ctx);
	assert_int_equal(wire_receive(&w, &type, buf), 1);
	/* none but to give memory back in its time */
	assert_in_range(timers_set, 0, 1);
	wire_free(&w);
}

/* ---- tls_context_wake() ------------------------------------------------ */

static void *wake_soon(void *arg)
{
	(void)arg;
	usleep(20 * 1000);
	tls_context_wake(w.ctx);
	return NULL;
}

static void another_thread_ends_a_wait(enum tls_context_kind kind)
{
	struct tls_event event;
	pthread_t thread;
	int i;

	wire_new(&w, &(struct wire_options){ .kind = kind });
	for (i = 0; i < 5; i++) {
		pthread_create(&thread, NULL, wake_soon, NULL);
		assert_int_equal(tls_context_wait(w.ctx, &event, 1, -1), 0);
		pthread_join(thread, NULL);
		/* by its descriptor as well, until it is taken note of */
		assert_int_equal(tls_context_wait(w.ctx, &event, 1, 0), 0);
		assert_false(polls(0));
		tls_context_wake(w.ctx);
		tls_context_wake(w.ctx);
		assert_true(polls(10000));
		assert_int_equal(tls_context_wait(w.ctx, &event, 1, -1), 0);
		assert_int_equal(tls_context_wait(w.ctx, &event, 1, 0), 0);
		assert_false(polls(0));
	}
	wire_free(&w);
}

static void another_thread_ends_a_wait_in_a_loop(void **state)
{
	(void)state;
	another_thread_ends_a_wait(TLS_CONTEXT_LOOP);
}

static void another_thread_ends_a_wait_in_a_worker(void **state)
{
	(void)state;
	another_thread_ends_a_wait(TLS_CONTEXT_WORKER);
}

static void on_signal(int number)
{
	(void)number;
	tls_context_wake(w.ctx);
}

static void *raise_soon(void *thread)
{
	usleep(20 * 1000);
	pthread_kill(*(pthread_t *)thread, SIGUSR1);
	return NULL;
}

static void a_signal_handler_ends_a_wait(void **state)
{
	struct tls_event event;
	pthread_t me = pthread_self(), thread;
	int kind;

	(void)state;
	signal(SIGUSR1, on_signal);
	for (kind = TLS_CONTEXT_WORKER; kind <= TLS_CONTEXT_LOOP; kind++) {
		wire_new(&w, &(struct wire_options){ .kind = kind });
		pthread_create(&thread, NULL, raise_soon, &me);
		assert_int_equal(tls_context_wait(w.ctx, &event, 1, -1), 0);
		pthread_join(thread, NULL);
		wire_free(&w);
	}
}

static void *make_worker(void *arg)
{
	(void)arg;
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_WORKER });
	return NULL;
}

/* It polls on behalf of the thread that began it. */
static void a_wait_ends_though_the_thread_that_made_the_context_has(
	void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		struct tls_event event;
		pthread_t thread;

		pthread_create(&thread, NULL, make_worker, NULL);
		pthread_join(thread, NULL);
		pthread_create(&thread, NULL, wake_soon, NULL);
		assert_int_equal(tls_context_wait(w.ctx, &event, 1, -1), 0);
		pthread_join(thread, NULL);
		wire_free(&w);
	}
}

/* A wait that a wake ended has left the descriptor ready to tell. */
static void a_loop_may_sleep_after_a_wake(void **state)
{
	struct tls_event event;

	(void)state;
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP });
	assert_int_equal(tls_context_wait(w.ctx, &event, 1, 0), 0);
	tls_context_wake(w.ctx);
	assert_true(polls(1000));
	assert_int_equal(tls_context_wait(w.ctx, &event, 1, 0), 0);
	assert_false(polls(0));
	wire_send(&w, RECORD_DATA, "data", 4);
	assert_true(polls(10000));
	assert_int_equal(tls_context_wait(w.ctx, &event, 1, 0), 1);
	wire_free(&w);
}

static void *wake_and_go(void *arg)
{
	(void)arg;
	pthread_cancel(pthread_self());
	tls_context_wake(w.ctx);
	pthread_testcancel();
	return NULL;
}

/* It ends when the call has done what it was for. */
static void a_thread_cancelled_in_a_wake_has_woken(void **state)
{
	struct tls_event event;
	enum tls_context_kind kind;
	pthread_t thread;
	int i;

	(void)state;
	for (kind = TLS_CONTEXT_WORKER; kind <= TLS_CONTEXT_LOOP; kind++) {
		wire_new(&w, &(struct wire_options){ .kind = kind });
		for (i = 0; i < 3; i++) {
			pthread_create(&thread, NULL, wake_and_go, NULL);
			pthread_join(thread, NULL);
			assert_int_equal(tls_context_wait(w.ctx, &event, 1, -1),
					 0);
		}
		wire_free(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_loops_descriptor_tells_of_an_overdue_record),
		cmocka_unit_test(a_deadline_is_set_once_for_many_turns),
		cmocka_unit_test(without_a_deadline_no_time_is_set),
		cmocka_unit_test(another_thread_ends_a_wait_in_a_loop),
		cmocka_unit_test(another_thread_ends_a_wait_in_a_worker),
		cmocka_unit_test(a_signal_handler_ends_a_wait),
		cmocka_unit_test(a_loop_may_sleep_after_a_wake),
		cmocka_unit_test(a_thread_cancelled_in_a_wake_has_woken),
		cmocka_unit_test(
			a_wait_ends_though_the_thread_that_made_the_context_has),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
