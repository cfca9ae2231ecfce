/* SPDX-License-Identifier: MIT */
#include "line/dispatch.h"

#include <errno.h>
#include <limits.h>

enum {
	CONN_FAILURES = 4,
	CONTEXT_FAILURES = 32,
	MAX_DOUBLINGS = 6,
};

#define PAUSE_NS (1000 * (uint64_t)NS_PER_MS)

void dispatch_init(struct dispatch *d, struct engine *kernel,
		   struct engine *cpu, uint64_t deadline, bool hybrid)
{
	*d = (struct dispatch){
		.kernel = kernel,
		.cpu = cpu,
		.deadline = deadline,
		.window = UINT_MAX,
	};
	list_init(&d->flying);
	hybrid_init(&d->hybrid, hybrid && kernel && cpu);
}

/* ---- Choosing ---------------------------------------------------------- */

static bool has(const struct engine *engine, const struct cipher *cipher)
{
	return engine && !engine->ops->refusal(engine, cipher);
}

struct engine *dispatch_engine(const struct dispatch *d,
			       const struct cipher *cipher)
{
	if (has(d->kernel, cipher))
		return d->kernel;
	return has(d->cpu, cipher) ? d->cpu : NULL;
}

/* The clock is read only while there is a pause to come to an end. */
static bool paused(struct health *health)
{
	if (!health->paused_until)
		return false;
	if (now_ns() < health->paused_until)
		return true;
	health->paused_until = 0;
	return false;
}

struct engine *dispatch_choose(struct dispatch *d, const struct cipher *cipher,
			       struct account *account, size_t len,
			       unsigned queue)
{
	struct engine *first = dispatch_engine(d, cipher);

	if (first != d->kernel || !has(d->cpu, cipher))
		return first;
	if (d->flying_count >= d->window || paused(&account->health) ||
	    paused(&d->health) || hybrid_prefers_cpu(&d->hybrid, len, queue))
		return d->cpu;
	return first;
}

/* ---- How the kernel engine is doing ------------------------------------ */

/* Returns whether that gives it a rest. */
static bool fail_once(struct health *health, unsigned limit)
{
	unsigned doublings = health->pauses;

	if (++health->failures < limit)
		return false;
	if (doublings > MAX_DOUBLINGS)
		doublings = MAX_DOUBLINGS;
	health->failures = limit - 1; /* the first try after it decides */
	health->pauses++;
	health->paused_until = now_ns() + (PAUSE_NS << doublings);
	return true;
}

static void note_failure(struct dispatch *d, struct slot *slot)
{
	struct account *account = slot->account;

	account->stats.pauses += fail_once(&account->health, CONN_FAILURES);
	account->stats.pauses += fail_once(&d->health, CONTEXT_FAILURES);
}

static void note_success(struct dispatch *d, struct slot *slot)
{
	if (d->hybrid.on)
		hybrid_kernel_done(&d->hybrid, slot->submitted, now_ns(),
				   d->flying_count > 0);
	slot->account->health = (struct health){ 0 };
	d->health = (struct health){ 0 };
	if (d->window != UINT_MAX && ++d->grown >= d->window) {
		d->window++;
		d->grown = 0;
	}
}

static void shrink_window(struct dispatch *d)
{
	if (d->window > d->flying_count)
		d->window = d->flying_count ? d->flying_count : 1;
	d->grown = 0;
}

static int reason_of(int error, bool refused)
{
	switch (error) {
	case -EMFILE:
	case -ENFILE:
		return TLS_FAILOVER_NO_SOCKET;
	case -EBUSY:
		return refused ? TLS_FAILOVER_NO_SOCKET : TLS_FAILOVER_FULL;
	case -ENOSPC:
		return TLS_FAILOVER_FULL;
	case -ENOMEM:
	case -ENOBUFS:
		return TLS_FAILOVER_NO_MEMORY;
	case -ETIMEDOUT:
		return TLS_FAILOVER_DEADLINE;
	case -EBADMSG:
		return TLS_FAILOVER_TAG;
	}
	return TLS_FAILOVER_ERROR;
}

/* ---- Operations -------------------------------------------------------- */

/* The CPU engine has the last word: it completes at once or there is none. */
static void finish_on_cpu(struct dispatch *d, struct slot *slot)
{
	int ret = -EIO;

	slot->by_kernel = false;
	if (has(d->cpu, slot->gen->cipher))
		ret = keygen_submit(slot->gen, d->cpu, &slot->op);
	if (ret != ENGINE_DONE)
		slot->op.result = ret;
}

/* What was meant for the CPU engine is timed now and then. */
static void run_on_cpu(struct dispatch *d, struct slot *slot)
{
	uint64_t began;

	if (!hybrid_times_cpu(&d->hybrid, slot->op.in_len)) {
		finish_on_cpu(d, slot);
		return;
	}
	began = now_ns();
	finish_on_cpu(d, slot);
	hybrid_cpu_done(&d->hybrid, slot->op.in_len, now_ns() - began);
}

static void fail_over(struct dispatch *d, struct slot *slot, int error,
		      bool refused)
{
	int reason = reason_of(error, refused);

	slot->account->stats.failovers++;
	slot->account->stats.failovers_for[reason]++;
	finish_on_cpu(d, slot);
	if (reason == TLS_FAILOVER_FULL)
		shrink_window(d);
	else if (reason == TLS_FAILOVER_TAG && slot->op.result)
		return; /* it was right: that is the peer's doing */
	else if (error != -EBUSY)
		note_failure(d, slot);
}

static void count(const struct slot *slot)
{
	struct tls_stats *stats = &slot->account->stats;
	int by = slot->by_kernel ? TLS_BY_KERNEL : TLS_BY_CPU;
	const struct aead_op *op = &slot->op;

	if (op->result)
		return;
	if (op->seal) {
		stats->tx_records[by]++;
		stats->tx_bytes[by] += slot->content_len;
		stats->tx_copied_bytes += op->copied;
	} else {
		stats->rx_records[by]++;
	}
}

static void take_off(struct dispatch *d, struct slot *slot)
{
	list_remove(&slot->flying);
	d->flying_count--;
}

int dispatch_submit(struct dispatch *d, struct slot *slot)
{
	int ret;

	if (slot->engine != d->kernel || !d->kernel) {
		run_on_cpu(d, slot);
		count(slot);
		return ENGINE_DONE;
	}
	slot->by_kernel = true;
	ret = keygen_submit(slot->gen, d->kernel, &slot->op);
	if (ret == ENGINE_PENDING) {
		slot->submitted = now_ns();
		list_move_tail(&d->flying, &slot->flying);
		d->flying_count++;
		return ENGINE_PENDING;
	}
	fail_over(d, slot, ret, true);
	count(slot);
	return ENGINE_DONE;
}

void dispatch_finish(struct dispatch *d, struct slot *slot)
{
	if (slot->by_kernel) {
		take_off(d, slot);
		if (dispatch_unconfirmed(slot))
			return;
		if (slot->op.result)
			fail_over(d, slot, slot->op.result, false);
		else
			note_success(d, slot);
	}
	count(slot);
}

bool dispatch_unconfirmed(const struct slot *slot)
{
	return slot->by_kernel && !slot->op.seal &&
	       slot->op.result == -EBADMSG;
}

void dispatch_confirm(struct dispatch *d, struct slot *slot)
{
	if (has(d->cpu, slot->gen->cipher))
		fail_over(d, slot, -EBADMSG, false);
	slot->by_kernel = false;
	count(slot);
}

uint64_t dispatch_due(const struct dispatch *d)
{
	if (list_empty(&d->flying))
		return UINT64_MAX;
	return container_of(d->flying.next, struct slot, flying)->submitted +
	       d->deadline;
}

static void unpark(void *block)
{
	block_unpark(block);
}

/* Returns whether its output may be written to by nobody any more. */
static bool recall(struct dispatch *d, struct slot *slot)
{
	struct block *output = slot_output(slot);

	block_park(output);
	if (!d->kernel->ops->abandon(d->kernel, &slot->op, unpark, output))
		return false;
	block_unpark(output);
	return true;
}

void dispatch_expire(struct dispatch *d, uint64_t now)
{
	while (dispatch_due(d) <= now) {
		struct slot *slot =
			container_of(d->flying.next, struct slot, flying);

		slot->op.result = -ETIMEDOUT;
		if (!recall(d, slot) && !slot->relocate(slot)) {
			take_off(d, slot);
			slot->by_kernel = false; /* nowhere to repeat it */
			slot->op.result = -ENOMEM;
		}
		slot->op.done(&slot->op);
	}
}

void dispatch_abandon(struct dispatch *d, struct slot *slot)
{
	take_off(d, slot);
	recall(d, slot);
}
