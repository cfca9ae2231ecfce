/* SPDX-License-Identifier: MIT */
#include "engine_cpu.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "record.h"
#include "secret.h"
#include "util.h"

#ifdef HAVE_IPSEC_MB
#include <intel-ipsec-mb.h>

struct engine_cpu {
	struct engine base;
	IMB_MGR *mgr;
};

/*
 * The three ciphers as one shape: begin, update (data, the type byte,
 * padding), finish. The library streams both AEADs, so the TLS 1.3 inner
 * plaintext needs no contiguous copy.
 */
struct engine_key {
	union {
		struct gcm_key_data gcm; /* first: it is aligned for vectors */
		uint8_t chacha[CIPHER_KEY_MAX];
	};
	const struct cipher *cipher;
};

static void gcm_128(IMB_MGR *m, const struct aead_op *op, uint8_t *tag)
{
	const struct gcm_key_data *key = &op->key->gcm;
	struct gcm_context_data ctx;
	size_t len = op->in_len;

	IMB_AES128_GCM_INIT(m, key, &ctx, op->nonce, op->aad, op->aad_len);
	if (op->seal) {
		IMB_AES128_GCM_ENC_UPDATE(m, key, &ctx, op->out, op->in, len);
		if (op->has_tail)
			IMB_AES128_GCM_ENC_UPDATE(m, key, &ctx, op->out + len,
						  &op->tail, 1);
		if (op->pad)
			IMB_AES128_GCM_ENC_UPDATE(m, key, &ctx,
						  op->out + len + 1,
						  record_zeros, op->pad);
		IMB_AES128_GCM_ENC_FINALIZE(m, key, &ctx, tag, 16);
	} else {
		IMB_AES128_GCM_DEC_UPDATE(m, key, &ctx, op->out, op->in,
					  len - 16);
		IMB_AES128_GCM_DEC_FINALIZE(m, key, &ctx, tag, 16);
	}
}

static void gcm_256(IMB_MGR *m, const struct aead_op *op, uint8_t *tag)
{
	const struct gcm_key_data *key = &op->key->gcm;
	struct gcm_context_data ctx;
	size_t len = op->in_len;

	IMB_AES256_GCM_INIT(m, key, &ctx, op->nonce, op->aad, op->aad_len);
	if (op->seal) {
		IMB_AES256_GCM_ENC_UPDATE(m, key, &ctx, op->out, op->in, len);
		if (op->has_tail)
			IMB_AES256_GCM_ENC_UPDATE(m, key, &ctx, op->out + len,
						  &op->tail, 1);
		if (op->pad)
			IMB_AES256_GCM_ENC_UPDATE(m, key, &ctx,
						  op->out + len + 1,
						  record_zeros, op->pad);
		IMB_AES256_GCM_ENC_FINALIZE(m, key, &ctx, tag, 16);
	} else {
		IMB_AES256_GCM_DEC_UPDATE(m, key, &ctx, op->out, op->in,
					  len - 16);
		IMB_AES256_GCM_DEC_FINALIZE(m, key, &ctx, tag, 16);
	}
}

static void chacha20_poly1305(IMB_MGR *m, const struct aead_op *op,
			      uint8_t *tag)
{
	const uint8_t *key = op->key->chacha;
	struct chacha20_poly1305_context_data ctx;
	size_t len = op->in_len;

	IMB_CHACHA20_POLY1305_INIT(m, key, &ctx, op->nonce, op->aad,
				   op->aad_len);
	if (op->seal) {
		IMB_CHACHA20_POLY1305_ENC_UPDATE(m, key, &ctx, op->out, op->in,
						 len);
		if (op->has_tail)
			IMB_CHACHA20_POLY1305_ENC_UPDATE(
				m, key, &ctx, op->out + len, &op->tail, 1);
		if (op->pad)
			IMB_CHACHA20_POLY1305_ENC_UPDATE(m, key, &ctx,
							 op->out + len + 1,
							 record_zeros, op->pad);
		IMB_CHACHA20_POLY1305_ENC_FINALIZE(m, &ctx, tag, 16);
	} else {
		IMB_CHACHA20_POLY1305_DEC_UPDATE(m, key, &ctx, op->out, op->in,
						 len - 16);
		IMB_CHACHA20_POLY1305_DEC_FINALIZE(m, &ctx, tag, 16);
	}
	explicit_bzero(&ctx, sizeof(ctx)); /* holds the one-time key */
}

/* Equal or not in a time that does not depend on where they differ. */
static bool tags_equal(const uint8_t *a, const uint8_t *b)
{
	uint8_t diff = 0;
	int i;

	for (i = 0; i < 16; i++)
		diff |= a[i] ^ b[i];
	return diff == 0;
}

static int cpu_submit(struct engine *engine, struct aead_op *op)
{
	IMB_MGR *m = container_of(engine, struct engine_cpu, base)->mgr;
	uint8_t tag[16];
	uint8_t *sealed_tag = op->out + op->in_len + op->has_tail + op->pad;

	switch (op->key->cipher->id) {
	case CIPHER_AES_128_GCM:
		gcm_128(m, op, op->seal ? sealed_tag : tag);
		break;
	case CIPHER_AES_256_GCM:
		gcm_256(m, op, op->seal ? sealed_tag : tag);
		break;
	default:
		chacha20_poly1305(m, op, op->seal ? sealed_tag : tag);
		break;
	}
	op->result = 0;
	/* The received tag is still there: opening in place stops before it. */
	if (!op->seal && !tags_equal(tag, op->in + op->in_len - 16))
		op->result = -EBADMSG;
	return ENGINE_DONE;
}

static const char *cpu_refusal(const struct engine *engine,
			       const struct cipher *cipher)
{
	(void)engine;
	(void)cipher;
	return NULL;
}

static const char *cpu_driver(const struct engine *engine,
			      const struct cipher *cipher)
{
	(void)engine;
	(void)cipher;
	return "intel-ipsec-mb";
}

static int cpu_key_new(struct engine *engine, const struct cipher *cipher,
		       const uint8_t *key, struct engine_key **out)
{
	IMB_MGR *m = container_of(engine, struct engine_cpu, base)->mgr;
	struct engine_key *k;

	k = secret_alloc(sizeof(*k)); /* aligned for vectors */
	if (!k)
		return -ENOMEM;
	k->cipher = cipher;
	switch (cipher->id) {
	case CIPHER_AES_128_GCM:
		IMB_AES128_GCM_PRE(m, key, &k->gcm);
		break;
	case CIPHER_AES_256_GCM:
		IMB_AES256_GCM_PRE(m, key, &k->gcm);
		break;
	default:
		memcpy(k->chacha, key, cipher->key_len);
		break;
	}
	*out = k;
	return 0;
}

static void cpu_key_free(struct engine *engine, struct engine_key *key)
{
	(void)engine;
	secret_free(key, sizeof(*key));
}

static bool cpu_abandon(struct engine *engine, struct aead_op *op,
			void (*released)(void *memory), void *memory)
{
	(void)engine;
	(void)op;
	(void)released;
	(void)memory;
	return true; /* nothing is ever in flight */
}

static void cpu_free(struct engine *engine)
{
	struct engine_cpu *cpu = container_of(engine, struct engine_cpu, base);

	free_mb_mgr(cpu->mgr);
	free(cpu);
}

static const struct engine_ops cpu_ops = {
	.name = "cpu",
	.synchronous = true,
	.refusal = cpu_refusal,
	.driver = cpu_driver,
	.key_new = cpu_key_new,
	.key_free = cpu_key_free,
	.submit = cpu_submit,
	.abandon = cpu_abandon,
	.free = cpu_free,
};

int engine_cpu_new(struct engine **engine, const char **why)
{
	struct engine_cpu *cpu = calloc(1, sizeof(*cpu));

	*why = "no memory for the CPU engine";
	if (!cpu)
		return -ENOMEM;
	cpu->mgr = alloc_mb_mgr(0);
	if (!cpu->mgr) {
		free(cpu);
		return -ENOMEM;
	}
	init_mb_mgr_auto(cpu->mgr, NULL);
	if (imb_get_errno(cpu->mgr)) {
		*why = "intel-ipsec-mb finds no instruction set it can use on "
		       "this CPU (it needs AES-NI or its own emulation)";
		free_mb_mgr(cpu->mgr);
		free(cpu);
		return -ENODEV;
	}
	cpu->base.ops = &cpu_ops;
	*engine = &cpu->base;
	return 0;
}

#else

int engine_cpu_new(struct engine **engine, const char **why)
{
	(void)engine;
	*why = "this build has no CPU engine: intel-ipsec-mb (x86-64 only) was "
	       "not there when it was configured";
	return -ENODEV;
}

#endif
