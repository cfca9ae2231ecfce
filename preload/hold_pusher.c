// SPDX-License-Identifier: MIT
/*
 * The thread of ours: sends what has been held for two ticks, and what is stuck
 * now and then; sleeps when nothing is held.
 */
#include "hold_inside.h"

#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

enum state { NONE, STARTING, RUNNING, FAILED };

/*
 * Ticks with nothing to do before it sleeps: each of them, and a wake-up, is
 * some microseconds of CPU.
 */
enum { IDLE_TICKS = 4, STUCK_TICKS = 8 };

static _Atomic enum state state;
static pthread_t thread; /* of ours */
static atomic_bool to_end;
static _Atomic unsigned asleep, tick;
static _Atomic uint64_t ticks; /* that it was awake for */

static void futex_wait(_Atomic unsigned *word, unsigned value, uint64_t ns)
{
	struct timespec ts = timespec_of(ns);

	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, ns ? &ts : NULL,
		NULL, 0);
}

unsigned pusher_tick(void)
{
	return atomic_load_explicit(&tick, memory_order_relaxed);
}

uint64_t pusher_ticks(void)
{
	return atomic_load_explicit(&ticks, memory_order_relaxed);
}

static bool is_due(const struct held *h, unsigned now)
{
	return (int)(now - h->due) >= 0;
}

static struct held *first_due(struct list *list, unsigned now)
{
	for (struct list *l = list->next; l != list; l = l->next) {
		struct held *h = container_of(l, struct held, node);

		if (is_due(h, now))
			return h;
	}
	return NULL;
}

static void expire(struct held *h)
{
	struct orphan *orphan = container_of(h, struct orphan, held);

	if (now_ns() < orphan->until)
		return;
	h->owed = 0;
	h->start = h->end;
}

/*
 * One at a time, so that its thread waits for no more than that. A thread that has
 * the lock is about it, and the next tick is near; but not for ever.
 */
static bool send_one(struct holder *holder, unsigned now)
{
	struct held *h;

	if (pthread_mutex_trylock(&holder->lock)) {
		if (holder->passed++ % 2 == 0)
			return false;
		pthread_mutex_lock(&holder->lock);
	}
	h = first_due(&holder->fresh, now);
	if (!h)
		h = first_due(&holder->stuck, now);
	if (h && holder == &hold_orphanage)
		expire(h);
	if (h)
		holder_send(holder, h, BY_TIMER);
	pthread_mutex_unlock(&holder->lock);
	return h;
}

/* Is anything held, or has been since the last tick? And stuck? */
static bool look(unsigned *listed, bool *stuck)
{
	unsigned sum = 0, held = 0, owing = 0;
	bool active;

	for each_holder(holder) {
		held += atomic_load(&holder->held);
		owing += atomic_load(&holder->owing);
		sum += atomic_load_explicit(&holder->listed,
					    memory_order_relaxed);
	}
	active = held || sum != *listed;
	*listed = sum;
	*stuck = owing;
	return active;
}

/* Until something is held; or for some ticks, if something is stuck. */
static void doze(unsigned *listed)
{
	bool stuck;

	atomic_store(&asleep, 1);
	if (!look(listed, &stuck) && !atomic_load(&to_end))
		futex_wait(&asleep, 1, stuck ? STUCK_TICKS * TICK_NS : 0);
	atomic_store(&asleep, 0);
	if (stuck)
		atomic_fetch_add(&tick, STUCK_TICKS);
}

static void do_tick(void)
{
	unsigned now = atomic_fetch_add(&tick, 1) + 1;

	atomic_fetch_add(&ticks, 1);
	for each_holder(holder)
		while ((atomic_load(&holder->held) ||
			atomic_load(&holder->owing)) &&
		       send_one(holder, now))
			;
}

static void each_second(uint64_t *last)
{
	void (*call)(void) = hold_each_second;
	uint64_t now;

	if (!call)
		return;
	now = now_ns();
	if (now - *last < 1000000000u)
		return;
	*last = now;
	call();
}

static void *push(void *arg)
{
	static _Atomic unsigned never;
	unsigned listed = 0, idle = 0;
	uint64_t second = now_ns();
	bool stuck;

	(void)arg;
	while (!atomic_load(&to_end)) {
		futex_wait(&never, 0, TICK_NS);
		do_tick();
		each_second(&second);
		if (look(&listed, &stuck))
			idle = 0;
		else if (++idle >= IDLE_TICKS)
			doze(&listed);
	}
	return NULL;
}

static bool make_thread(void)
{
	enum { STACK = 128 << 10 };
	sigset_t all, before;
	pthread_attr_t attr;
	int error;

	if (pthread_attr_init(&attr))
		return false;
	pthread_attr_setstacksize(&attr, STACK);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&thread, &attr, push, NULL);
	if (error == EINVAL) { /* more thread-local data than that */
		pthread_attr_setstacksize(&attr, 8 << 20);
		error = pthread_create(&thread, &attr, push, NULL);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	if (!error)
		pthread_setname_np(thread, "asynctls-hold");
	return !error;
}

bool pusher_ready(void)
{
	enum state none = NONE;

	if (atomic_load_explicit(&state, memory_order_acquire) == RUNNING)
		return true;
	if (!atomic_compare_exchange_strong(&state, &none, STARTING))
		return none != FAILED;
	if (hold_at_first)
		hold_at_first();
	if (make_thread()) {
		atomic_store(&state, RUNNING);
		return true;
	}
	atomic_store(&state, FAILED);
	hold_flush_process(); /* what others held meanwhile */
	return false;
}

void pusher_wake(void)
{
	if (atomic_load(&asleep) && atomic_exchange(&asleep, 0))
		syscall(SYS_futex, &asleep, FUTEX_WAKE_PRIVATE, 1, NULL, NULL,
			0);
}

void pusher_forked(void)
{
	atomic_store(&state, NONE);
	atomic_store(&asleep, 0);
	atomic_store(&to_end, false);
}

void pusher_end(void)
{
	enum state running = RUNNING;

	hold_no_more();
	hold_drain_process(HOLD_END_MS);
	if (!atomic_compare_exchange_strong(&state, &running, FAILED))
		return;
	atomic_store(&to_end, true);
	pusher_wake();
	pthread_join(thread, NULL);
	hold_drain_process(HOLD_END_MS);
}
