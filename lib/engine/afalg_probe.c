/* SPDX-License-Identifier: MIT */
#include "engine/afalg_probe.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <kcapi.h>

#include "base/util.h"
#include "engine/known_answer.h"
#include "io/ring.h"

__attribute__((format(printf, 2, 3))) static bool
refuse(struct afalg_choice *choice, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(choice->refusal, sizeof(choice->refusal), format, args);
	va_end(args);
	return false;
}

/* ---- Finding a driver -------------------------------------------------- */

static bool have_afalg(struct afalg_choice *choice)
{
	int fd = socket(AF_ALG, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd >= 0) {
		close(fd);
		return true;
	}
	switch (errno) {
	case EAFNOSUPPORT:
		return refuse(choice, "the kernel has no AF_ALG "
				      "(CONFIG_CRYPTO_USER_API_AEAD, module "
				      "algif_aead), or it is blocked here");
	case EPERM:
	case EACCES:
		return refuse(choice, "AF_ALG sockets are forbidden here "
				      "(seccomp, a container's profile)");
	}
	return refuse(choice, "no AF_ALG socket: %s", strerror(errno));
}

/* The value of crypto.af_alg_restrict (Linux 7.3), '0' where there is none. */
static char restricted(void)
{
	FILE *file = fopen("/proc/sys/crypto/af_alg_restrict", "re");
	int value;

	if (!file)
		return '0';
	value = fgetc(file);
	fclose(file);
	return value == EOF ? '0' : (char)value;
}

static bool refuse_bind(struct afalg_choice *choice, const char *name, int err)
{
	char value = restricted();

	choice->unbound = true;
	if (err == -ENOENT && value != '0')
		return refuse(choice,
			      "crypto.af_alg_restrict=%c refuses %s: sysctl "
			      "crypto.af_alg_restrict=0 allows it",
			      value, name);
	if (err == -ENOENT)
		return refuse(choice,
			      "AF_ALG has no %s (drivers are named as in "
			      "/proc/crypto), or no module algif_aead",
			      name);
	if (err == -EMFILE || err == -ENFILE)
		return refuse(choice, "no descriptor left (ulimit -n)");
	if (err == -EPROTONOSUPPORT)
		return refuse(choice,
			      "libkcapi knows nothing of %s: no "
			      "CONFIG_CRYPTO_USER, module crypto_user",
			      name);
	return refuse(choice, "AF_ALG cannot open %s: %s", name,
		      strerror(-err));
}

/* An entry of /proc/crypto, as far as it matters. */
struct crypto_entry {
	char name[128];
	char driver[128];
	char type[32];
	long priority;
};

/* Take in a line; true if it ends the entry. */
static bool parse_line(struct crypto_entry *entry, const char *line)
{
	sscanf(line, "name : %127[^\n]", entry->name);
	sscanf(line, "driver : %127[^\n]", entry->driver);
	sscanf(line, "type : %31[^\n]", entry->type);
	sscanf(line, "priority : %ld", &entry->priority);
	return line[0] == '\n';
}

/*
 * What the kernel chose when the algorithm was bound by its name: the entry of
 * highest priority, the first of equals. The name itself, and false, if that is
 * unknown: /proc/crypto is not there (systemd's ProcSubset=pid, a container).
 */
static bool find_driver(char driver[AFALG_NAME_MAX + 1], const char *name)
{
	FILE *file = fopen("/proc/crypto", "re");
	struct crypto_entry entry = { 0 };
	long best = -1;
	char line[256];

	snprintf(driver, AFALG_NAME_MAX + 1, "%s", name);
	while (file && fgets(line, sizeof(line), file)) {
		if (!parse_line(&entry, line))
			continue;
		if (strcmp(entry.name, name) == 0 && entry.priority > best &&
		    strcmp(entry.type, "aead") == 0 &&
		    strlen(entry.driver) <= AFALG_NAME_MAX) {
			best = entry.priority;
			strcpy(driver, entry.driver);
		}
		memset(&entry, 0, sizeof(entry));
	}
	if (file)
		fclose(file);
	return best >= 0;
}

/*
 * "chacha20-simd" is the accelerated cipher itself, "simd-..." a wrapper that
 * hands the work to cryptd.
 */
static bool is_wrapper(const char *driver)
{
	return strstr(driver, "pcrypt(") || strstr(driver, "cryptd(") ||
	       strstr(driver, "simd-") || strncmp(driver, "__", 2) == 0;
}

static bool bind_once(struct afalg_choice *choices, enum cipher_id id,
		      const char *name, bool named)
{
	struct afalg_choice *choice = &choices[id];
	unsigned i;
	int fd;

	for (i = 0; i < id; i++) {
		if (!named && strcmp(ciphers[i].kernel_name, name))
			continue;
		*choice = choices[i];
		return !choice->unbound;
	}
	fd = afalg_open(name); /* libkcapi would print what goes wrong */
	if (fd < 0)
		return refuse_bind(choice, name, fd);
	close(fd);
	return true;
}

void afalg_probe_find(struct afalg_choice choices[CIPHER_COUNT],
		      enum cipher_id id, const struct afalg_options *options)
{
	struct afalg_choice *choice = &choices[id];
	const char *name = options->driver;

	if (!have_afalg(choice))
		return;
	if (!name)
		name = ciphers[id].kernel_name;
	if (strlen(name) > AFALG_NAME_MAX) {
		refuse(choice, "AF_ALG takes names of at most %d characters",
		       AFALG_NAME_MAX);
		return;
	}
	if (!bind_once(choices, id, name, options->driver))
		return;
	if (options->driver)
		strcpy(choice->driver, name);
	else if (!find_driver(choice->driver, name) && !options->any_driver)
		refuse(choice,
		       "/proc/crypto does not tell what driver serves %s (is "
		       "it hidden, as by ProcSubset=pid?), and it may be a "
		       "software wrapper; name it to use it",
		       name);
	if (!options->any_driver && is_wrapper(choice->driver))
		refuse(choice,
		       "%s is a software wrapper that burns the same CPUs; "
		       "name it to use it",
		       choice->driver);
}

/* ---- Checking it ------------------------------------------------------- */

enum {
	REQUESTS = AFALG_PROBE_SOCKETS,
	ROUNDS = 4,
	PLAIN = 1 << 14,
	SEALED = PLAIN + 1 + 16,
	BEFORE = 64, /* room before the output, for the AAD */
	SPACE = 20480,
	PATIENCE = 2, /* seconds */
	SHORTLY = NS_PER_MS, /* nanoseconds */
};

/*
 * In a mapping of its own that a child does not inherit: it may be unmapped
 * with requests in flight, and a fork() does not divert what they write.
 */
struct buffers {
	uint8_t in[SPACE];
	uint8_t kcapi_in[SPACE];
	uint8_t kcapi_out[SPACE];
	uint8_t out[REQUESTS][SPACE];
};

struct request {
	struct aead_op op; /* first: done() casts back */
	bool done;
};

struct probe {
	struct afalg_choice *choice;
	struct engine *engine;
	struct ring *ring;
	const struct cipher *cipher;
	const struct known_answer *answer;
	struct kcapi_handle *kcapi;
	struct engine_key *key;
	struct buffers *buffers;
	struct request requests[REQUESTS];
};

static bool not_implemented(struct probe *probe, const char *how)
{
	return refuse(probe->choice, "%s does not implement %s (%s)",
		      probe->choice->driver, probe->cipher->name, how);
}

static bool failed(struct probe *probe, int err)
{
	return refuse(probe->choice, "%s fails: %s", probe->choice->driver,
		      strerror(-err));
}

static void request_done(struct aead_op *op)
{
	((struct request *)op)->done = true;
}

static bool all_done(const struct probe *probe, unsigned count)
{
	while (count--)
		if (!probe->requests[count].done)
			return false;
	return true;
}

/* Wait for the first count requests; give up those that do not come. */
static bool wait_for(struct probe *probe, unsigned count)
{
	const uint64_t end = now_ns() + PATIENCE * 1000 * (uint64_t)NS_PER_MS;
	uint64_t now;

	for (;;) {
		bool all = ring_submit(probe->ring) == 0;

		ring_reap(probe->ring);
		if (all_done(probe, count))
			return true;
		now = now_ns();
		if (now >= end || ring_error(probe->ring))
			break;
		ring_wait(probe->ring, all ? (int64_t)(end - now) : SHORTLY);
	}
	while (count--)
		if (!probe->requests[count].done)
			probe->engine->ops->abandon(probe->engine,
						    &probe->requests[count].op,
						    NULL, NULL);
	if (ring_error(probe->ring))
		return failed(probe, ring_error(probe->ring));
	return refuse(probe->choice,
		      "%s did not complete a request within %d s",
		      probe->choice->driver, PATIENCE);
}

/* Request number i, everything but direction and content filled in. */
static struct aead_op *prepare(struct probe *probe, unsigned i)
{
	struct request *request = &probe->requests[i];
	struct aead_op *op = &request->op;

	request->done = false;
	*op = (struct aead_op){
		.key = probe->key,
		.in = probe->buffers->in,
		.out = probe->buffers->out[i] + BEFORE,
		.done = request_done,
	};
	memcpy(op->nonce, probe->answer->nonce, sizeof(op->nonce));
	return op;
}

/* Run the first request by itself; it completed if this returns true. */
static bool run_one(struct probe *probe)
{
	struct engine *engine = probe->engine;
	int err = engine->ops->submit(engine, &probe->requests[0].op);

	if (err)
		return failed(probe, err);
	return wait_for(probe, 1);
}

static struct aead_op *prepare_answer(struct probe *probe, bool seal)
{
	const struct known_answer *answer = probe->answer;
	struct aead_op *op = prepare(probe, 0);

	op->seal = seal;
	op->aad = answer->aad;
	op->aad_len = answer->aad_len;
	op->in_len = answer->plain_len + (seal ? 0 : 16);
	memcpy(probe->buffers->in, seal ? answer->plain : answer->sealed,
	       op->in_len);
	return op;
}

static bool known_answer_seal(struct probe *probe)
{
	struct aead_op *op = prepare_answer(probe, true);

	if (!run_one(probe))
		return false;
	if (op->result ||
	    memcmp(op->out, probe->answer->sealed, aead_op_out_len(op)))
		return not_implemented(probe, "known answer");
	return true;
}

static bool known_answer_open(struct probe *probe)
{
	struct aead_op *op = prepare_answer(probe, false);

	if (!run_one(probe))
		return false;
	if (op->result ||
	    memcmp(op->out, probe->answer->plain, aead_op_out_len(op)))
		return not_implemented(probe, "known answer, opened");
	return true;
}

static bool forgery_refused(struct probe *probe)
{
	struct aead_op *op = prepare_answer(probe, false);

	probe->buffers->in[op->in_len - 1] ^= 1;
	if (!run_one(probe))
		return false;
	if (op->result != -EBADMSG)
		return not_implemented(probe, "accepts a wrong tag");
	return true;
}

/* The same through libkcapi, which puts the AAD before input and output. */
static bool known_answer_sync(struct probe *probe)
{
	const struct known_answer *answer = probe->answer;
	size_t plain = answer->aad_len + answer->plain_len;
	uint8_t *in = probe->buffers->kcapi_in;
	uint8_t *out = probe->buffers->kcapi_out;
	uint8_t iv[AFALG_IV_MAX];
	ssize_t n;

	kcapi_aead_setassoclen(probe->kcapi, answer->aad_len);
	memcpy(in, answer->aad, answer->aad_len);
	memcpy(in + answer->aad_len, answer->plain, answer->plain_len);
	afalg_iv(iv, probe->cipher, answer->nonce);
	n = kcapi_aead_encrypt(probe->kcapi, in, plain, iv, out, plain + 16,
			       KCAPI_ACCESS_SENDMSG);
	if (n != (ssize_t)plain + 16 ||
	    memcmp(out + answer->aad_len, answer->sealed,
		   answer->plain_len + 16))
		return not_implemented(probe, "known answer, libkcapi");
	memcpy(out, answer->aad, answer->aad_len);
	n = kcapi_aead_decrypt(probe->kcapi, out, plain + 16, iv, in, plain,
			       KCAPI_ACCESS_SENDMSG);
	if (n != (ssize_t)plain ||
	    memcmp(in + answer->aad_len, answer->plain, answer->plain_len))
		return not_implemented(probe, "known answer, libkcapi");
	return true;
}

/* ---- Sixteen records at once ------------------------------------------- */

static const uint8_t header[5] = { 23, 3, 3, SEALED >> 8, SEALED & 0xff };

static void prepare_record(struct probe *probe, unsigned i)
{
	struct aead_op *op = prepare(probe, i);

	op->seal = true;
	op->has_tail = true;
	op->tail = 23;
	op->aad = header;
	op->aad_len = sizeof(header);
	op->in_len = PLAIN;
	op->nonce[0] ^= 0x80;
	op->nonce[11] ^= (uint8_t)i;
}

/* Submit record i; *pending: it has not completed when that returns. */
static int run_record(struct probe *probe, unsigned i, bool *pending)
{
	int err;

	prepare_record(probe, i);
	err = probe->engine->ops->submit(probe->engine, &probe->requests[i].op);
	if (err)
		return err;
	err = ring_submit(probe->ring);
	ring_reap(probe->ring);
	/* what the kernel did not take is not what a driver has */
	*pending = !err && !probe->requests[i].done;
	return 0;
}

/*
 * All of them, without waiting, and how many were pending. Each is looked at
 * by itself: if all were submitted first, a quick driver would be through with
 * many by then and look like one that completes inside submit.
 */
static bool run_records(struct probe *probe, unsigned *count)
{
	bool pending;
	unsigned i;
	int err;

	for (i = 0; i < PLAIN; i++)
		probe->buffers->in[i] = (uint8_t)(i * 7 + (i >> 8));
	for (i = 0; i < REQUESTS; i++) {
		err = run_record(probe, i, &pending);
		if (err) {
			wait_for(probe, i);
			return failed(probe, err);
		}
		*count += pending;
	}
	return wait_for(probe, REQUESTS);
}

/* What libkcapi makes of record i, with its header. */
static bool same_as_sync(struct probe *probe, unsigned i)
{
	const struct aead_op *op = &probe->requests[i].op;
	uint8_t *in = probe->buffers->kcapi_in;
	uint8_t *out = probe->buffers->kcapi_out;
	uint8_t iv[AFALG_IV_MAX];
	ssize_t n;

	memcpy(in, header, sizeof(header));
	memcpy(in + sizeof(header), probe->buffers->in, PLAIN);
	in[sizeof(header) + PLAIN] = op->tail;
	kcapi_aead_setassoclen(probe->kcapi, sizeof(header));
	afalg_iv(iv, probe->cipher, op->nonce);
	n = kcapi_aead_encrypt(probe->kcapi, in, sizeof(header) + PLAIN + 1, iv,
			       out, sizeof(header) + SEALED,
			       KCAPI_ACCESS_SENDMSG);
	return op->result == 0 && n == (ssize_t)sizeof(header) + SEALED &&
	       memcmp(op->out, out + sizeof(header), SEALED) == 0;
}

static bool all_same_as_sync(struct probe *probe)
{
	unsigned i;

	for (i = 0; i < REQUESTS; i++)
		if (!same_as_sync(probe, i))
			return refuse(probe->choice,
				      "%s: records sealed asynchronously and "
				      "through libkcapi differ",
				      probe->choice->driver);
	return true;
}

/*
 * A driver that completes inside submit never has any pending. Where some
 * were, but few, this thread was held up and found them completed: try again.
 */
static bool records(struct probe *probe, bool any_driver)
{
	unsigned pending, round = 0;

	do {
		pending = 0;
		if (!run_records(probe, &pending) || !all_same_as_sync(probe))
			return false;
		if (any_driver || pending >= REQUESTS / 2)
			return true;
	} while (pending && ++round < ROUNDS);
	return refuse(probe->choice,
		      "%s completes inside submit (%u of %d), it is not "
		      "asynchronous",
		      probe->choice->driver, REQUESTS - pending, REQUESTS);
}

/* ---- All of it --------------------------------------------------------- */

static bool set_keys(struct probe *probe)
{
	const uint8_t *key = probe->answer->key;
	const struct cipher *cipher = probe->cipher;
	int err;

	err = kcapi_aead_init(&probe->kcapi, probe->choice->driver, 0);
	if (err) {
		probe->kcapi = NULL;
		return refuse_bind(probe->choice, probe->choice->driver, err);
	}
	if (kcapi_aead_ivsize(probe->kcapi) != cipher->kernel_iv_len ||
	    kcapi_aead_setkey(probe->kcapi, key, cipher->key_len) ||
	    kcapi_aead_settaglen(probe->kcapi, 16))
		return not_implemented(probe, "key, nonce or tag length");
	err = probe->engine->ops->key_new(probe->engine, cipher, key,
					  &probe->key);
	if (err)
		return failed(probe, err);
	return true;
}

static bool map_buffers(struct probe *probe)
{
	struct buffers *buffers;

	buffers = mmap(NULL, sizeof(*buffers), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buffers == MAP_FAILED)
		return refuse(probe->choice, "no memory");
	madvise(buffers, sizeof(*buffers), MADV_DONTFORK);
	probe->buffers = buffers;
	return true;
}

static void clean_up(struct probe *probe)
{
	if (probe->key)
		probe->engine->ops->key_free(probe->engine, probe->key);
	if (probe->kcapi)
		kcapi_aead_destroy(probe->kcapi);
	if (probe->buffers)
		munmap(probe->buffers, sizeof(*probe->buffers));
}

/*
 * What can wait for ever comes after what cannot: libkcapi's calls have no
 * time limit, and a driver that completes nothing never gets to them.
 */
void afalg_probe_check(struct afalg_choice *choice, struct engine *engine,
		       struct ring *ring, enum cipher_id id,
		       const struct afalg_options *options)
{
	struct probe probe = {
		.choice = choice,
		.engine = engine,
		.ring = ring,
		.cipher = &ciphers[id],
		.answer = &known_answers[id],
	};

	if (choice->refusal[0])
		return;
	if (map_buffers(&probe) && set_keys(&probe) &&
	    known_answer_seal(&probe) && known_answer_open(&probe) &&
	    forgery_refused(&probe) && known_answer_sync(&probe))
		records(&probe, options->any_driver);
	clean_up(&probe);
}
