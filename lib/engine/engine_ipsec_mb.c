/* SPDX-License-Identifier: MIT */
#include "engine/engine_ipsec_mb.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "base/util.h"
#include "engine/engine.h"
#include "record/record.h"

#ifdef HAVE_IPSEC_MB
#include <intel-ipsec-mb.h>

struct engine_ipsec_mb {
	struct engine base;
	IMB_MGR *mgr;
};

/* The AES ciphers by key length, as the library has them. */
struct gcm {
	aes_gcm_init_t init;
	aes_gcm_enc_dec_update_t seal, open;
	aes_gcm_enc_dec_finalize_t seal_tag, open_tag;
};

struct engine_key {
	union {
		struct gcm_key_data gcm; /* first: it is aligned for vectors */
		struct {
			_Alignas(16) uint32_t seal[15 * 4], open[15 * 4];
		} ccm;
		uint8_t chacha[CIPHER_KEY_MAX];
	};
	struct gcm by; /* how to use gcm */
	const struct cipher *cipher;
};

/*
 * GCM and ChaCha20-Poly1305 are streamed: begin, update (data, the type byte,
 * padding), finish. So the TLS 1.3 inner plaintext needs no contiguous copy.
 */
static void gcm(const struct aead_op *op, uint8_t *tag)
{
	const struct gcm_key_data *key = &op->key->gcm;
	const struct gcm *by = &op->key->by;
	struct gcm_context_data ctx;
	size_t len = op->in_len;

	by->init(key, &ctx, op->nonce, op->aad, op->aad_len);
	if (op->seal) {
		by->seal(key, &ctx, op->out, op->in, len);
		if (op->has_tail)
			by->seal(key, &ctx, op->out + len, &op->tail, 1);
		if (op->pad)
			by->seal(key, &ctx, op->out + len + 1, record_zeros,
				 op->pad);
		by->seal_tag(key, &ctx, tag, 16);
	} else {
		by->open(key, &ctx, op->out, op->in, len - 16);
		by->open_tag(key, &ctx, tag, 16);
	}
	explicit_bzero(&ctx, sizeof(ctx)); /* holds the nonce, and key stream */
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

/*
 * The library has CCM for a message in one piece only: where something goes
 * behind the data, they are put together in the output and sealed in place.
 */
static const uint8_t *ccm_message(struct aead_op *op, size_t *len)
{
	*len = op->in_len;
	if (!op->seal) {
		*len -= 16;
		return op->in;
	}
	if (!op->has_tail)
		return op->in;
	memcpy(op->out, op->in, op->in_len);
	op->out[op->in_len] = op->tail;
	memset(op->out + op->in_len + 1, 0, op->pad);
	op->copied = (uint16_t)op->in_len;
	*len += 1 + (size_t)op->pad;
	return op->out;
}

/* Returns whether it was done. */
static bool ccm(IMB_MGR *m, struct aead_op *op, uint8_t *tag)
{
	IMB_JOB *job = IMB_GET_NEXT_JOB(m);
	size_t len;

	job->src = ccm_message(op, &len);
	job->dst = op->out;
	job->cipher_mode = IMB_CIPHER_CCM;
	job->hash_alg = IMB_AUTH_AES_CCM;
	job->cipher_direction = op->seal ? IMB_DIR_ENCRYPT : IMB_DIR_DECRYPT;
	job->chain_order = op->seal ? IMB_ORDER_HASH_CIPHER :
				      IMB_ORDER_CIPHER_HASH;
	job->enc_keys = op->key->ccm.seal;
	job->dec_keys = op->key->ccm.open;
	job->key_len_in_bytes = op->key->cipher->key_len;
	job->iv = op->nonce;
	job->iv_len_in_bytes = sizeof(op->nonce);
	job->u.CCM.aad = op->aad;
	job->u.CCM.aad_len_in_bytes = op->aad_len;
	job->cipher_start_src_offset_in_bytes = 0;
	job->hash_start_src_offset_in_bytes = 0;
	job->msg_len_to_cipher_in_bytes = len;
	job->msg_len_to_hash_in_bytes = len;
	job->auth_tag_output = tag;
	job->auth_tag_output_len_in_bytes = 16;
	job = IMB_SUBMIT_JOB(m);
	if (!job)
		job = IMB_FLUSH_JOB(m);
	return job && job->status == IMB_STATUS_COMPLETED;
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

static int ipsec_mb_submit(struct engine *engine, struct aead_op *op)
{
	IMB_MGR *m = container_of(engine, struct engine_ipsec_mb, base)->mgr;
	uint8_t received[16];
	uint8_t *tag = received;

	if (op->seal)
		tag = op->out + op->in_len + op->has_tail + op->pad;
	op->result = 0;
	switch (op->key->cipher->id) {
	case CIPHER_AES_128_GCM:
	case CIPHER_AES_256_GCM:
		gcm(op, tag);
		break;
	case CIPHER_AES_128_CCM:
	case CIPHER_AES_256_CCM:
		if (!ccm(m, op, tag))
			op->result = -EIO;
		break;
	default:
		chacha20_poly1305(m, op, tag);
		break;
	}
	/* The received tag is still there: opening in place stops before it. */
	if (!op->seal && !op->result &&
	    !tags_equal(tag, op->in + op->in_len - 16))
		op->result = -EBADMSG;
	return ENGINE_DONE;
}

static const char *ipsec_mb_refusal(const struct engine *engine,
				    const struct cipher *cipher)
{
	(void)engine;
	(void)cipher;
	return NULL;
}

static const char *ipsec_mb_driver(const struct engine *engine,
				   const struct cipher *cipher)
{
	(void)engine;
	(void)cipher;
	return "intel-ipsec-mb";
}

static void set_key(IMB_MGR *m, struct engine_key *k, const uint8_t *key)
{
	switch (k->cipher->id) {
	case CIPHER_AES_128_GCM:
		k->by = (struct gcm){
			m->gcm128_init, m->gcm128_enc_update,
			m->gcm128_dec_update, m->gcm128_enc_finalize,
			m->gcm128_dec_finalize,
		};
		IMB_AES128_GCM_PRE(m, key, &k->gcm);
		break;
	case CIPHER_AES_256_GCM:
		k->by = (struct gcm){
			m->gcm256_init, m->gcm256_enc_update,
			m->gcm256_dec_update, m->gcm256_enc_finalize,
			m->gcm256_dec_finalize,
		};
		IMB_AES256_GCM_PRE(m, key, &k->gcm);
		break;
	case CIPHER_AES_128_CCM:
		IMB_AES_KEYEXP_128(m, key, k->ccm.seal, k->ccm.open);
		break;
	case CIPHER_AES_256_CCM:
		IMB_AES_KEYEXP_256(m, key, k->ccm.seal, k->ccm.open);
		break;
	default:
		memcpy(k->chacha, key, k->cipher->key_len);
		break;
	}
}

static int ipsec_mb_key_new(struct engine *engine, const struct cipher *cipher,
			    const uint8_t *key, struct engine_key **out)
{
	IMB_MGR *m = container_of(engine, struct engine_ipsec_mb, base)->mgr;
	struct engine_key *k;

	k = secret_alloc(sizeof(*k)); /* aligned for vectors */
	if (!k)
		return -ENOMEM;
	k->cipher = cipher;
	set_key(m, k, key);
	*out = k;
	return 0;
}

static void ipsec_mb_key_free(struct engine *engine, struct engine_key *key)
{
	(void)engine;
	secret_free(key, sizeof(*key));
}

static void ipsec_mb_free(struct engine *engine)
{
	struct engine_ipsec_mb *mb =
		container_of(engine, struct engine_ipsec_mb, base);

	free_mb_mgr(mb->mgr);
	free(mb);
}

static const struct engine_ops ipsec_mb_ops = {
	.name = "cpu",
	.synchronous = true,
	.refusal = ipsec_mb_refusal,
	.driver = ipsec_mb_driver,
	.key_new = ipsec_mb_key_new,
	.key_free = ipsec_mb_key_free,
	.submit = ipsec_mb_submit,
	.free = ipsec_mb_free,
};

int engine_ipsec_mb_new(struct engine **engine, const char **why)
{
	struct engine_ipsec_mb *mb = calloc(1, sizeof(*mb));

	*why = "no memory for the CPU engine";
	if (!mb)
		return -ENOMEM;
	mb->mgr = alloc_mb_mgr(0);
	if (!mb->mgr) {
		free(mb);
		return -ENOMEM;
	}
	init_mb_mgr_auto(mb->mgr, NULL);
	if (imb_get_errno(mb->mgr) ||
	    !(mb->mgr->features & IMB_FEATURE_AESNI)) {
		*why = "it needs AES-NI, which this CPU lacks";
		free_mb_mgr(mb->mgr);
		free(mb);
		return -ENODEV;
	}
	mb->base.ops = &ipsec_mb_ops;
	*engine = &mb->base;
	return 0;
}

#else

int engine_ipsec_mb_new(struct engine **engine, const char **why)
{
	(void)engine;
	*why = "this build was configured without it";
	return -ENODEV;
}

#endif
