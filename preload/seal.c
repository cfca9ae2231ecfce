/* SPDX-License-Identifier: MIT */
#include "seal.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "engine/engine_cpu.h"
#include "engine/engine_gcrypt.h"

static struct engine *cpu, *ccm;
static const char *no_cpu, *no_ccm;

/*
 * intel-ipsec-mb has CCM by jobs alone, which are the manager's: that is for one
 * thread at a time. Its other ciphers, and libgcrypt, have no state but the key.
 */
static void make_engines(void)
{
	const char *why;

	if (engine_cpu_new(&cpu, &why)) {
		cpu = NULL;
		no_cpu = why;
	}
	if (engine_gcrypt_new(&ccm, &no_ccm))
		ccm = NULL;
}

struct engine *seal_engine(const struct cipher *cipher, const char **why)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, make_engines);
	if (cipher->id == CIPHER_AES_128_CCM ||
	    cipher->id == CIPHER_AES_256_CCM) {
		*why = "AES-CCM takes libgcrypt, which does not work here";
		return ccm;
	}
	*why = no_cpu;
	return cpu;
}

static int submit(struct keygen *gen, struct engine *engine,
		  struct aead_op *op)
{
	int ret = keygen_submit(gen, engine, op);

	explicit_bzero(op->nonce, sizeof(op->nonce));
	return ret == ENGINE_DONE ? op->result : ret;
}

int seal_record(struct keygen *gen, struct engine *engine, uint64_t seq,
		uint8_t type, const uint8_t *content, size_t len,
		uint8_t *wire)
{
	const struct record_format *format = gen->format;
	size_t body = seal_len(gen, len) - RECORD_HEADER;
	uint8_t aad[RECORD_AAD_MAX];
	struct aead_op op = {
		.seal = true,
		.has_tail = format->hides_type,
		.tail = type,
		.aad = aad,
		.aad_len = format->aad_len,
		.in = content,
		.in_len = len,
		.out = wire + format->prefix,
	};
	uint64_t number = keygen_nonce_number(gen, seq);

	record_aad(format, aad, type, seq, body);
	record_put_prefix(format, wire, type, number, body);
	record_nonce(op.nonce, gen->iv, number);
	return submit(gen, engine, &op);
}

/* In a renegotiation a ChangeCipherSpec is sealed as any other record is. */
static ssize_t parse_header(const struct record_format *format,
			    const uint8_t *record)
{
	uint8_t header[RECORD_HEADER];
	int alert;

	memcpy(header, record, sizeof(header));
	if (header[0] == RECORD_CHANGE_CIPHER_SPEC && !format->hides_type)
		header[0] = RECORD_HANDSHAKE;
	return record_parse_header(format, header, &alert);
}

int seal_open(struct keygen *gen, struct engine *engine, uint64_t seq,
	      uint8_t *record, size_t len, struct opened *opened)
{
	const struct record_format *format = gen->format;
	uint8_t aad[RECORD_AAD_MAX];
	struct aead_op op = {
		.aad = aad,
		.aad_len = format->aad_len,
		.in = record + format->prefix,
		.in_len = len - format->prefix,
		.out = record + format->prefix,
	};
	ssize_t n = parse_header(format, record);
	int ret;

	if (n < 0)
		return (int)n;
	record_nonce(op.nonce, gen->iv,
		     record_nonce_number(format, record, seq));
	record_aad(format, aad, record[0], seq, len - RECORD_HEADER);
	ret = submit(gen, engine, &op);
	if (ret)
		return ret;
	n = record_content(format, record, op.out, aead_op_out_len(&op),
			   RECORD_PLAIN_MAX, &opened->type);
	if (n < 0)
		return (int)n;
	opened->content = op.out;
	opened->len = (size_t)n;
	return 0;
}
