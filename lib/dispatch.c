/* SPDX-License-Identifier: MIT */
#include "dispatch.h"

#include <errno.h>

struct engine *dispatch_engine(const struct dispatch *d,
			       const struct cipher *cipher)
{
	if (d->kernel && !d->kernel->ops->refusal(d->kernel, cipher))
		return d->kernel;
	if (d->cpu && !d->cpu->ops->refusal(d->cpu, cipher))
		return d->cpu;
	return NULL;
}

bool dispatch_keeps_input(const struct dispatch *d,
			  const struct cipher *cipher)
{
	const struct engine *e = dispatch_engine(d, cipher);

	return e && !e->ops->synchronous;
}

static int submit_to(struct engine *engine, struct slot *slot)
{
	int ret;

	slot->op.key = keygen_bind(slot->gen, engine, &ret);
	if (!slot->op.key)
		return ret;
	return engine->ops->submit(engine, &slot->op);
}

/* The CPU engine has the last word: it completes at once or there is none. */
static void finish_on_cpu(struct dispatch *d, struct slot *slot)
{
	int ret = -EIO;

	slot->by_kernel = false;
	if (d->cpu && !d->cpu->ops->refusal(d->cpu, slot->gen->cipher))
		ret = submit_to(d->cpu, slot);
	if (ret != ENGINE_DONE)
		slot->op.result = ret;
}

static void count(struct dispatch *d, const struct slot *slot)
{
	int by = slot->by_kernel ? TLS_BY_KERNEL : TLS_BY_CPU;
	const struct aead_op *op = &slot->op;

	if (op->result)
		return;
	if (op->seal) {
		d->stats->tx_records[by]++;
		d->stats->tx_bytes[by] += slot->content_len;
	} else {
		d->stats->rx_records[by]++;
	}
}

int dispatch_submit(struct dispatch *d, struct slot *slot)
{
	struct engine *engine = dispatch_engine(d, slot->gen->cipher);
	int ret;

	if (engine && engine == d->kernel) {
		slot->by_kernel = true;
		ret = submit_to(engine, slot);
		if (ret == ENGINE_PENDING)
			return ENGINE_PENDING;
		if (ret == ENGINE_DONE) {
			dispatch_finish(d, slot);
			return ENGINE_DONE;
		}
		d->stats->failovers++;
	}
	finish_on_cpu(d, slot);
	count(d, slot);
	return ENGINE_DONE;
}

void dispatch_finish(struct dispatch *d, struct slot *slot)
{
	/*
	 * A driver's word that a tag is wrong is confirmed once before it
	 * costs the connection.
	 */
	if (slot->op.result && slot->by_kernel) {
		d->stats->failovers++;
		finish_on_cpu(d, slot);
	}
	count(d, slot);
}

bool dispatch_abandon(struct dispatch *d, struct slot *slot)
{
	return !d->kernel->ops->abandon(d->kernel, &slot->op);
}
