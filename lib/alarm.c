/* SPDX-License-Identifier: MIT */
#include "alarm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/timerfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util.h"

/* The same time, as the clock is read at each call. */
enum { TOLERANCE_NS = NS_PER_MS };

static void empty(int fd)
{
	uint64_t count;

	if (read(fd, &count, sizeof(count)) < 0)
		return; /* another thread has */
}

/* -ECANCELED: the thread that had it polled has ended. */
static void woken(struct ring_op *op, int result, int buffer)
{
	struct alarm *alarm = container_of(op, struct alarm, wake_op);

	(void)buffer;
	alarm->wake_polled = false;
	if (result > 0) {
		empty(alarm->wake_fd[0]);
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
	empty(alarm->timer_fd);
	alarm->timer_polled = false;
	alarm->timer_at = 0;
}

void alarm_init(struct alarm *alarm)
{
	*alarm = (struct alarm){
		.wake_fd = { -1, -1 },
		.timer_fd = -1,
		.wake_op.done = woken,
		.timer_op.done = gone_off,
	};
}

int alarm_start(struct alarm *alarm, struct ring *ring, bool timed)
{
	alarm->ring = ring;
	if (pipe2(alarm->wake_fd, O_NONBLOCK | O_CLOEXEC))
		return -errno;
	if (timed)
		alarm->timer_fd = timerfd_create(CLOCK_MONOTONIC,
						 TFD_NONBLOCK | TFD_CLOEXEC);
	if (timed && alarm->timer_fd < 0)
		return -errno;
	alarm_rearm(alarm);
	return 0;
}

void alarm_end(struct alarm *alarm)
{
	if (alarm->wake_fd[0] >= 0) {
		close(alarm->wake_fd[0]);
		close(alarm->wake_fd[1]);
	}
	if (alarm->timer_fd >= 0)
		close(alarm->timer_fd);
}

void alarm_wake(struct alarm *alarm)
{
	int before = errno;

	/* write() might be the end of a thread that is to be cancelled */
	if (!atomic_exchange(&alarm->asked, true) &&
	    syscall(SYS_write, alarm->wake_fd[1], "", 1) < 0)
		atomic_store(&alarm->asked, false); /* closed under us */
	errno = before;
}

void alarm_rearm(struct alarm *alarm)
{
	if (!alarm->wake_polled)
		alarm->wake_polled = ring_poll(alarm->ring, alarm->wake_fd[0],
					       POLLIN, &alarm->wake_op) == 0;
}

void alarm_forget(struct alarm *alarm)
{
	alarm->wake_polled = alarm->timer_polled = false;
	alarm->timer_at = 0;
}

static bool set_timer(struct alarm *alarm, uint64_t when)
{
	const struct itimerspec at = {
		.it_value = { .tv_sec = (time_t)(when / 1000000000u),
			      .tv_nsec = (long)(when % 1000000000u) },
	};

	if (timerfd_settime(alarm->timer_fd, TFD_TIMER_ABSTIME, &at, NULL))
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
	if (!alarm->timer_polled)
		alarm->timer_polled = ring_poll(alarm->ring, alarm->timer_fd,
						POLLIN, &alarm->timer_op) == 0;
	return alarm->timer_polled;
}
