/* SPDX-License-Identifier: MIT */
#include "engine/hybrid.h"

enum { FULL_RECORD = 1 << 14, TIMED_LEN_MIN = 1024 };

void hybrid_init(struct hybrid *h, bool on)
{
	*h = (struct hybrid){
		.on = on,
		.min_len = 1024,
		.min_queue = 2,
	};
}

bool hybrid_prefers_cpu(struct hybrid *h, size_t len, unsigned queue)
{
	if (!h->on)
		return false;
	if (++h->turn % HYBRID_EXPLORE == 0)
		return false;
	return len < h->min_len || queue < h->min_queue;
}

/* A moving average over about eight values; the first is taken as it is. */
static uint64_t average(uint64_t old, uint64_t value)
{
	return old ? old - old / 8 + value / 8 : value;
}

static size_t clamp(uint64_t value, size_t low, size_t high)
{
	if (value < low)
		return low;
	return value > high ? high : (size_t)value;
}

static void learn(struct hybrid *h)
{
	uint64_t cpu_record = h->cpu_ps_per_byte * FULL_RECORD / 1000;

	if (!h->cpu_ps_per_byte || !h->interval)
		return;
	h->min_len = clamp(h->interval * 1000 / h->cpu_ps_per_byte,
			   HYBRID_LEN_MIN, HYBRID_LEN_MAX);
	/* queue * cpu_record > latency + queue * interval */
	if (cpu_record <= h->interval)
		h->min_queue = HYBRID_QUEUE_MAX;
	else
		h->min_queue = (unsigned)clamp(
			h->latency / (cpu_record - h->interval) + 1, 1,
			HYBRID_QUEUE_MAX);
}

void hybrid_kernel_done(struct hybrid *h, uint64_t submitted, uint64_t now,
			bool busy)
{
	if (!h->on)
		return;
	h->latency = average(h->latency, now - submitted);
	/* only between completions of a queue that was never empty */
	if (h->last_done > submitted)
		h->interval = average(h->interval, now - h->last_done);
	else if (!busy && !h->interval)
		h->interval = now - submitted; /* for want of better */
	h->last_done = now;
	learn(h);
}

bool hybrid_times_cpu(struct hybrid *h, size_t len)
{
	return h->on && len >= TIMED_LEN_MIN &&
	       h->sample++ % HYBRID_SAMPLE == 0;
}

void hybrid_cpu_done(struct hybrid *h, size_t len, uint64_t ns)
{
	h->cpu_ps_per_byte = average(h->cpu_ps_per_byte, ns * 1000 / len);
	learn(h);
}
