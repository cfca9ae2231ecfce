/* SPDX-License-Identifier: MIT */
#include "fake_engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "engine/engine_cpu.h"

enum { MAX_PENDING = 4096 };

struct fake_engine {
	struct engine base;
	struct engine *cpu;
	struct aead_op *pending[MAX_PENDING];
	unsigned count, keys;
	bool clings;
	struct {
		uint8_t *out;
		size_t len;
		void (*released)(void *memory);
		void *memory;
	} abandoned[MAX_PENDING];
	unsigned abandoned_count;
	uint64_t refusals; /* bit n: the n-th submission from now on */
};

static struct fake_engine *fake_of(const struct engine *engine)
{
	return container_of((struct engine *)engine, struct fake_engine, base);
}

static const char *refusal(const struct engine *engine,
			   const struct cipher *cipher)
{
	(void)engine;
	(void)cipher;
	return NULL;
}

static const char *driver(const struct engine *engine,
			  const struct cipher *cipher)
{
	(void)engine;
	(void)cipher;
	return "fake";
}

static int key_new(struct engine *engine, const struct cipher *cipher,
		   const uint8_t *key, struct engine_key **out)
{
	struct engine *cpu = fake_of(engine)->cpu;
	int ret = cpu->ops->key_new(cpu, cipher, key, out);

	fake_of(engine)->keys += ret == 0;
	return ret;
}

static void key_free(struct engine *engine, struct engine_key *key)
{
	struct engine *cpu = fake_of(engine)->cpu;

	fake_of(engine)->keys--;
	cpu->ops->key_free(cpu, key);
}

static int submit(struct engine *engine, struct aead_op *op)
{
	struct fake_engine *fake = fake_of(engine);
	bool refused = fake->refusals & 1;

	fake->refusals >>= 1;
	if (refused)
		return -EBUSY;
	if (fake->count == MAX_PENDING)
		return -ENOSPC;
	fake->pending[fake->count++] = op;
	return ENGINE_PENDING;
}

static void take_out(struct fake_engine *fake, unsigned i)
{
	fake->count--;
	memmove(&fake->pending[i], &fake->pending[i + 1],
		(fake->count - i) * sizeof(fake->pending[0]));
}

static bool abandon(struct engine *engine, struct aead_op *op,
		    void (*released)(void *memory), void *memory)
{
	struct fake_engine *fake = fake_of(engine);
	unsigned i;

	for (i = 0; fake->pending[i] != op; i++)
		;
	take_out(fake, i);
	if (!fake->clings)
		return true;
	i = fake->abandoned_count++;
	fake->abandoned[i].out = op->out - op->aad_len;
	fake->abandoned[i].len = op->aad_len + aead_op_out_len(op);
	fake->abandoned[i].released = released;
	fake->abandoned[i].memory = memory;
	return false;
}

void fake_cling(struct fake_engine *fake)
{
	fake->clings = true;
}

unsigned fake_scribble(struct fake_engine *fake)
{
	unsigned i;

	for (i = 0; i < fake->abandoned_count; i++)
		memset(fake->abandoned[i].out, 0xdb, fake->abandoned[i].len);
	return fake->abandoned_count;
}

void fake_let_go(struct fake_engine *fake)
{
	unsigned i;

	fake_scribble(fake);
	for (i = 0; i < fake->abandoned_count; i++)
		fake->abandoned[i].released(fake->abandoned[i].memory);
	fake->abandoned_count = 0;
}

static void no_free(struct engine *engine)
{
	(void)engine; /* the test frees it */
}

static const struct engine_ops ops = {
	.name = "fake",
	.refusal = refusal,
	.driver = driver,
	.key_new = key_new,
	.key_free = key_free,
	.submit = submit,
	.abandon = abandon,
	.free = no_free,
};

struct fake_engine *fake_new(void)
{
	struct fake_engine *fake = calloc(1, sizeof(*fake));
	const char *why;

	fake->base.ops = &ops;
	if (engine_cpu_new(&fake->cpu, &why))
		abort();
	return fake;
}

void fake_free(struct fake_engine *fake)
{
	engine_cpu_free(fake->cpu);
	free(fake);
}

struct engine *fake_as_engine(struct fake_engine *fake)
{
	return &fake->base;
}

void fake_refuse(struct fake_engine *fake, unsigned n)
{
	fake->refusals |= (uint64_t)1 << n;
}

unsigned fake_keys(const struct fake_engine *fake)
{
	return fake->keys;
}

unsigned fake_pending(const struct fake_engine *fake)
{
	return fake->count;
}

void fake_complete(struct fake_engine *fake, unsigned i,
		   enum fake_outcome outcome)
{
	static const int errors[] = {
		[FAKE_FAILS] = -EIO,
		[FAKE_FORGED] = -EBADMSG,
		[FAKE_FULL] = -ENOSPC,
	};
	struct aead_op *op = fake->pending[i];

	take_out(fake, i);
	/* as AF_ALG does it */
	memcpy(op->out - op->aad_len, op->aad, op->aad_len);
	if (outcome == FAKE_OK) {
		fake->cpu->ops->submit(fake->cpu, op);
	} else {
		memset(op->out, 0xdb, aead_op_out_len(op));
		op->result = errors[outcome];
	}
	op->done(op);
}

void fake_complete_all(struct fake_engine *fake)
{
	while (fake->count)
		fake_complete(fake, 0, FAKE_OK);
}
