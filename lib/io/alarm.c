/* SPDX-License-Identifier: MIT */
#include "io/alarm.h"

#include <errno.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/util.h"

/* The same time, as the clock is read at each call. */
enum { TOLERANCE_NS = NS_PER_MS };

static void empty(const struct own_fd *own)
{
	uint64_t count;

	if (!own_fd_is_ours(own) || read(own->fd, &count, sizeof(count)) < 0)
		return; /* another thread has, or it is not ours any more */
}

/* -ECANCELED: the thread that had it polled has ended. */
static void woken(struct ring_op *op, int result, int buffer)
{
	struct alarm *alarm = container_of(op, struct alarm, wake_op);

	(void)buffer;
	alarm->wake_polled = false;
	if (result > 0 && result & POLLHUP) {
		alarm->lost = true;
		return;
	}
	if (result > 0) {
		empty(&alarm->wake[0]);
		atomic_store(&alarm->asked, false); /* no sooner */
		alarm->woken = true;
	}
	alarm_rearm(alarm);
}

static void gone_off(struct ring_op *op, int result, int buffer)
{
	struct alarm *alarm = container_of(op, struct alarm, timer_op);

	(void)result;
	(void)buffer;
	empty(&alarm->timer);
	alarm->timer_polled = false;
	alarm->timer_at = 0;
}

void alarm_init(struct alarm *alarm)
{
	*alarm = (struct alarm){
		.wake = { { .fd = -1 }, { .fd = -1 } },
		.timer.fd = -1,
		.wake_op.done = woken,
		.timer_op.done = gone_off,
	};
}

int alarm_start(struct alarm *alarm, struct ring *ring, bool timed)
{
	int err;

	alarm->ring = ring;
	err = own_pipe(alarm->wake);
	if (err)
		return err;
	if (timed)
		alarm->timer = own_fd(timerfd_create(
			CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
	if (timed && alarm->timer.fd < 0)
		return -errno;
	alarm_rearm(alarm);
	return 0;
}

void alarm_end(struct alarm *alarm)
{
	own_fd_close(&alarm->wake[0]);
	own_fd_close(&alarm->wake[1]);
	own_fd_close(&alarm->timer);
}

void alarm_wake(struct alarm *alarm)
{
	int before = errno;

	/* write() might be the end of a thread that is to be cancelled */
	if (!atomic_exchange(&alarm->asked, true) &&
	    (!own_fd_is_ours(&alarm->wake[1]) ||
	     syscall(SYS_write, alarm->wake[1].fd, "", 1) < 0))
		atomic_store(&alarm->asked, false); /* closed under us */
	errno = before;
}

static void poll_timer(struct alarm *alarm)
{
	if (!alarm->timer_polled)
		alarm->timer_polled = ring_poll(alarm->ring, alarm->timer.fd,
						POLLIN, &alarm->timer_op) == 0;
}

/* The timer before it is set: when memory is short, it may be too late. */
void alarm_rearm(struct alarm *alarm)
{
	if (!alarm->wake_polled)
		alarm->wake_polled = ring_poll(alarm->ring, alarm->wake[0].fd,
					       POLLIN, &alarm->wake_op) == 0;
	if (alarm->timer.fd >= 0)
		poll_timer(alarm);
}

void alarm_forget(struct alarm *alarm)
{
	alarm->wake_polled = alarm->timer_polled = false;
	alarm->timer_at = 0;
}

static bool set_timer(struct alarm *alarm, uint64_t when)
{
	const struct itimerspec at = { .it_value = timespec_of(when) };

	if (timerfd_settime(alarm->timer.fd, TFD_TIMER_ABSTIME, &at, NULL))
		return false;
	alarm->timer_at = when;
	return true;
}

bool alarm_set(struct alarm *alarm, uint64_t when, uint64_t now)
{
	bool ahead = alarm->timer_at > now &&
		     alarm->timer_at <= when + TOLERANCE_NS;

	if (!ahead && !set_timer(alarm, when))
		return false;
	poll_timer(alarm);
	return alarm->timer_polled;
}

bool alarm_watched(const struct alarm *alarm)
{
	return ring_started(alarm->ring, &alarm->timer_op);
}
