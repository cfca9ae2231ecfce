/* SPDX-License-Identifier: MIT */
#include "engine/engine_gcrypt.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/secret.h"
#include "base/util.h"
#include "engine/engine.h"
#include "engine/known_answer.h"
#include "record/record.h"

#ifdef HAVE_GCRYPT
#include <gcrypt.h>

/*
 * The key stays where it is, in memory for keys. A handle of libgcrypt's lies in
 * the heap, so there is one only while a record is sealed or opened: 0.35 us for
 * AES-GCM, of 5 for 16 KiB. (GCRY_CIPHER_SECURE has room for 16 keys by default,
 * in a pool that the application owns, and setting it up drops privileges.)
 */
struct engine_key {
	const struct cipher *cipher;
	const uint8_t *bytes;
};

static gcry_error_t open_handle(gcry_cipher_hd_t *h,
				const struct cipher *cipher)
{
	int aes = cipher->key_len == 16 ? GCRY_CIPHER_AES128 :
					  GCRY_CIPHER_AES256;

	switch (cipher->id) {
	case CIPHER_AES_128_GCM:
	case CIPHER_AES_256_GCM:
		return gcry_cipher_open(h, aes, GCRY_CIPHER_MODE_GCM, 0);
	case CIPHER_AES_128_CCM:
	case CIPHER_AES_256_CCM:
		return gcry_cipher_open(h, aes, GCRY_CIPHER_MODE_CCM, 0);
	default:
		return gcry_cipher_open(h, GCRY_CIPHER_CHACHA20,
					GCRY_CIPHER_MODE_POLY1305, 0);
	}
}

/* Everything before the data, of which there are so many bytes. */
static gcry_error_t begin(gcry_cipher_hd_t h, const struct aead_op *op,
			  size_t len)
{
	const struct cipher *cipher = op->key->cipher;
	uint64_t ccm[3] = { len, op->aad_len, 16 };
	gcry_error_t error;

	error = gcry_cipher_setkey(h, op->key->bytes, cipher->key_len);
	if (!error)
		error = gcry_cipher_setiv(h, op->nonce, sizeof(op->nonce));
	if (!error && (cipher->id == CIPHER_AES_128_CCM ||
		       cipher->id == CIPHER_AES_256_CCM))
		error = gcry_cipher_ctl(h, GCRYCTL_SET_CCM_LENGTHS, ccm,
					sizeof(ccm));
	if (!error)
		error = gcry_cipher_authenticate(h, op->aad, op->aad_len);
	return error;
}

/* The data, the type byte and the padding, without putting them together. */
static gcry_error_t seal_record(gcry_cipher_hd_t h, const struct aead_op *op)
{
	const struct {
		const uint8_t *in;
		size_t len;
	} piece[] = {
		{ op->in, op->in_len },
		{ &op->tail, op->has_tail },
		{ record_zeros, op->pad },
	};
	uint8_t *out = op->out;
	int i, last = op->pad ? 2 : op->has_tail;
	gcry_error_t error = begin(h, op, aead_op_out_len(op) - 16);

	for (i = 0; i <= last && !error; i++) {
		if (i == last)
			error = gcry_cipher_final(h);
		if (!error)
			error = gcry_cipher_encrypt(h, out, piece[i].len,
						    piece[i].in, piece[i].len);
		out += piece[i].len;
	}
	return error ? error : gcry_cipher_gettag(h, out, 16);
}

static gcry_error_t open_record(gcry_cipher_hd_t h, const struct aead_op *op)
{
	size_t len = op->in_len - 16;
	gcry_error_t error = begin(h, op, len);

	if (!error)
		error = gcry_cipher_final(h);
	if (!error)
		error = gcry_cipher_decrypt(h, op->out, len, op->in, len);
	/* The received tag is still there: opening in place stops before it. */
	return error ? error : gcry_cipher_checktag(h, op->in + len, 16);
}

static int result_of(gcry_error_t error)
{
	switch (gcry_err_code(error)) {
	case GPG_ERR_NO_ERROR:
		return 0;
	case GPG_ERR_CHECKSUM:
		return -EBADMSG;
	case GPG_ERR_ENOMEM:
		return -ENOMEM;
	default:
		return -EIO;
	}
}

static int gcrypt_submit(struct engine *engine, struct aead_op *op)
{
	gcry_cipher_hd_t h;
	gcry_error_t error = open_handle(&h, op->key->cipher);

	(void)engine;
	if (!error) {
		error = op->seal ? seal_record(h, op) : open_record(h, op);
		gcry_cipher_close(h); /* wipes */
	}
	op->result = result_of(error);
	return ENGINE_DONE;
}

static const char *gcrypt_refusal(const struct engine *engine,
				  const struct cipher *cipher)
{
	(void)engine;
	(void)cipher;
	return NULL;
}

static const char *gcrypt_driver(const struct engine *engine,
				 const struct cipher *cipher)
{
	(void)engine;
	(void)cipher;
	return "libgcrypt";
}

static int gcrypt_key_new(struct engine *engine, const struct cipher *cipher,
			  const uint8_t *key, struct engine_key **out)
{
	struct engine_key *k = secret_alloc(sizeof(*k));

	(void)engine;
	if (!k)
		return -ENOMEM;
	*k = (struct engine_key){ cipher, key };
	*out = k;
	return 0;
}

static void gcrypt_key_free(struct engine *engine, struct engine_key *key)
{
	(void)engine;
	secret_free(key, sizeof(*key));
}

static void gcrypt_free(struct engine *engine)
{
	free(engine);
}

static const struct engine_ops gcrypt_ops = {
	.name = "cpu",
	.synchronous = true,
	.refusal = gcrypt_refusal,
	.driver = gcrypt_driver,
	.key_new = gcrypt_key_new,
	.key_free = gcrypt_key_free,
	.submit = gcrypt_submit,
	.free = gcrypt_free,
};

static bool answers(const struct cipher *cipher)
{
	const struct known_answer *k = &known_answers[cipher->id];
	struct engine_key key = { cipher, k->key };
	uint8_t sealed[KNOWN_ANSWER_MAX];
	struct aead_op op = {
		.key = &key,
		.seal = true,
		.aad = k->aad,
		.aad_len = (uint8_t)k->aad_len,
		.in = k->plain,
		.in_len = k->plain_len,
		.out = sealed,
	};

	memcpy(op.nonce, k->nonce, sizeof(op.nonce));
	gcrypt_submit(NULL, &op);
	return !op.result && memcmp(sealed, k->sealed, k->plain_len + 16) == 0;
}

/*
 * As it begins libgcrypt opens this, and ends the process where it cannot for
 * want of a descriptor.
 */
static int can_begin(void)
{
	int fd = open("/proc/sys/crypto/fips_enabled", O_RDONLY | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	else if (errno == EMFILE || errno == ENFILE)
		return -errno;
	return 0;
}

/* In FIPS mode it has no ChaCha20, and no GCM with a nonce of one's own. */
static bool gives_the_answers(void)
{
	int i;

	if (!gcry_control(GCRYCTL_ANY_INITIALIZATION_P))
		gcry_check_version(NULL);
	for (i = 0; i < CIPHER_COUNT; i++)
		if (!answers(&ciphers[i]))
			return false;
	return true;
}

/* Found out once. 0, -ENODEV if it does not work, or -errno: try again. */
static int begin_to_use(void)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static bool begun, usable;
	int err = 0;

	pthread_mutex_lock(&lock);
	if (!begun)
		err = can_begin();
	if (!begun && !err) {
		usable = gives_the_answers();
		begun = true;
	}
	if (!err && !usable)
		err = -ENODEV;
	pthread_mutex_unlock(&lock);
	return err;
}

int engine_gcrypt_new(struct engine **engine, const char **why)
{
	int err = begin_to_use();

	if (err) {
		*why = err == -ENODEV ?
			       "it does not give the published answers for all "
			       "ciphers: is it in FIPS mode?" :
			       "no descriptor left to begin with (ulimit -n)";
		return err;
	}
	*engine = calloc(1, sizeof(**engine));
	if (!*engine) {
		*why = "no memory for the CPU engine";
		return -ENOMEM;
	}
	(*engine)->ops = &gcrypt_ops;
	return 0;
}

#else

int engine_gcrypt_new(struct engine **engine, const char **why)
{
	(void)engine;
	*why = "this build was configured without it";
	return -ENODEV;
}

#endif
