/* SPDX-License-Identifier: MIT */
#include "engine/engine_afalg.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "engine/afalg_probe.h"
#include "engine/afalg_socket.h"
#include "io/ring.h"

/*
 * An operation socket and its one request. The struct outlives the socket: it
 * is used again for the next one. In flight, key NULL means abandoned.
 */
struct op_socket {
	struct ring_op ring; /* first: a completion casts back */
	struct afalg_engine *engine;
	struct engine_key *key;
	struct aead_op *op;
	struct op_socket *next; /* idle of its key, or spare of the engine */
	struct op_socket *next_made;
	int fd;     /* -1: spare */
	size_t expect; /* bytes to be read */
	void (*released)(void *memory); /* of an abandoned operation */
	void *memory;
	struct afalg_request request;
};

/*
 * A key with idle sockets is in the engine's list of those, the latest in
 * front, so that at the limit a socket can be taken from the back.
 */
struct engine_key {
	int fd; /* transform socket; -1: closed until it is needed */
	const struct cipher *cipher;
	const uint8_t *bytes;
	unsigned unused; /* for so many trims */
	struct op_socket *idle;
	struct engine_key *prev, *next;
	struct list open; /* the engine's keys with a transform socket */
};

struct afalg_engine {
	struct engine engine; /* first */
	struct ring *ring;
	unsigned max_sockets;
	struct afalg_stats stats;
	struct op_socket *spare;
	struct op_socket *made; /* all there are */
	struct engine_key keys; /* head of the ring of keys with idle sockets */
	struct list open;
	struct afalg_choice choices[CIPHER_COUNT];
};

static struct afalg_engine *afalg_of(const struct engine *engine)
{
	return (struct afalg_engine *)(uintptr_t)engine;
}

static void *count_alloc(struct afalg_engine *afalg, size_t size)
{
	afalg->stats.allocations++;
	return calloc(1, size);
}

/* ---- Operation sockets ------------------------------------------------- */

static void push_idle(struct afalg_engine *afalg, struct op_socket *sock)
{
	struct engine_key *key = sock->key, *head = &afalg->keys;

	if (!key->idle) {
		key->next = head->next;
		key->prev = head;
		head->next->prev = key;
		head->next = key;
	}
	sock->next = key->idle;
	key->idle = sock;
}

static struct op_socket *pop_idle(struct engine_key *key)
{
	struct op_socket *sock = key->idle;

	if (!sock)
		return NULL;
	key->idle = sock->next;
	if (!key->idle) {
		key->prev->next = key->next;
		key->next->prev = key->prev;
	}
	return sock;
}

static void close_socket(struct afalg_engine *afalg, struct op_socket *sock)
{
	close(sock->fd);
	sock->fd = -1;
	sock->key = NULL;
	sock->op = NULL;
	sock->next = afalg->spare;
	afalg->spare = sock;
	afalg->stats.sockets_now--;
}

static void completed(struct ring_op *ring_op, int result, int buffer);

static struct op_socket *take_spare(struct afalg_engine *afalg)
{
	struct op_socket *sock = afalg->spare;

	if (sock) {
		afalg->spare = sock->next;
		return sock;
	}
	sock = count_alloc(afalg, sizeof(*sock));
	if (!sock)
		return NULL;
	sock->ring.done = completed;
	sock->engine = afalg;
	sock->next_made = afalg->made;
	afalg->made = sock;
	return sock;
}

static int open_transform(struct afalg_engine *afalg, struct engine_key *key)
{
	const struct cipher *cipher = key->cipher;
	int err, fd = afalg_open(afalg->choices[cipher->id].driver);

	if (fd < 0)
		return fd;
	err = afalg_set_key(fd, key->bytes, cipher->key_len);
	if (err) {
		close(fd);
		return err;
	}
	key->fd = fd;
	list_move_tail(&afalg->open, &key->open);
	afalg->stats.transforms++;
	return 0;
}

/* What operation sockets there are keep the transform for themselves. */
static void close_transform(struct afalg_engine *afalg, struct engine_key *key)
{
	if (key->fd < 0)
		return;
	close(key->fd);
	key->fd = -1;
	list_remove(&key->open);
	afalg->stats.transforms--;
}

static int accept_from(struct afalg_engine *afalg, struct engine_key *key)
{
	int err = key->fd < 0 ? open_transform(afalg, key) : 0;

	return err ? err : afalg_accept(key->fd);
}

static int open_socket(struct afalg_engine *afalg, struct engine_key *key,
		       struct op_socket **out)
{
	struct op_socket *sock = take_spare(afalg);

	if (!sock)
		return -ENOMEM;
	sock->fd = accept_from(afalg, key);
	if (sock->fd < 0) {
		int err = sock->fd;

		sock->fd = -1;
		sock->next = afalg->spare;
		afalg->spare = sock;
		return err;
	}
	sock->key = key;
	if (++afalg->stats.sockets_now > afalg->stats.sockets_peak)
		afalg->stats.sockets_peak = afalg->stats.sockets_now;
	*out = sock;
	return 0;
}

/* An idle socket of this key, or a new one; at the limit in place of another.
 */
static int get_socket(struct afalg_engine *afalg, struct engine_key *key,
		      struct op_socket **out)
{
	key->unused = 0;
	*out = pop_idle(key);
	if (*out)
		return 0;
	if (afalg->stats.sockets_now >= afalg->max_sockets) {
		if (afalg->keys.prev == &afalg->keys)
			return -EBUSY;
		close_socket(afalg, pop_idle(afalg->keys.prev));
	}
	return open_socket(afalg, key, out);
}

/* ---- Operations -------------------------------------------------------- */

/*
 * 0, or the operation's error. Fewer bytes than expected would be a shorter
 * message, correctly sealed: never let it pass.
 */
static int check_result(const struct op_socket *sock, int result)
{
	if (result >= 0 && (size_t)result == sock->expect)
		return 0;
	if (result == -EBADMSG && sock->op->seal)
		return -EIO;
	return result >= 0 ? -EIO : result;
}

/* A wrong tag is the peer's fault; after any other error nobody knows. */
static void completed(struct ring_op *ring_op, int result, int buffer)
{
	struct op_socket *sock = (struct op_socket *)ring_op;
	struct aead_op *op = sock->op;

	(void)buffer;
	/* The nonce of record 0 is the IV. */
	explicit_bzero(sock->request.control, sizeof(sock->request.control));
	if (!op) {
		if (sock->released)
			sock->released(sock->memory);
		close_socket(sock->engine, sock);
		return;
	}
	result = check_result(sock, result);
	sock->op = NULL;
	if ((result == 0 || result == -EBADMSG) && sock->key->fd >= 0)
		push_idle(sock->engine, sock);
	else
		close_socket(sock->engine, sock);
	op->engine_data = NULL;
	op->result = result;
	op->done(op);
}

static int afalg_submit(struct engine *engine, struct aead_op *op)
{
	struct afalg_engine *afalg = afalg_of(engine);
	struct op_socket *sock;
	int err;

	if (op->aad_len == 0 || op->aad_len > AFALG_AAD_MAX ||
	    (!op->seal && op->in_len < 16))
		return -EINVAL;
	err = get_socket(afalg, op->key, &sock);
	if (err)
		return err;
	afalg_fill(&sock->request, op, op->key->cipher);
	sock->expect = op->aad_len + aead_op_out_len(op);
	err = ring_engine_request(afalg->ring, sock->fd, &sock->request.msg,
				  op->out - op->aad_len, sock->expect,
				  &sock->ring);
	if (err) {
		push_idle(afalg, sock);
		return err;
	}
	sock->op = op;
	op->engine_data = sock;
	return ENGINE_PENDING;
}

static bool afalg_abandon(struct engine *engine, struct aead_op *op,
			  void (*released)(void *memory), void *memory)
{
	struct op_socket *sock = op->engine_data;

	(void)engine;
	if (!sock)
		return true;
	sock->op = NULL;
	sock->key = NULL;
	sock->released = released;
	sock->memory = memory;
	op->engine_data = NULL;
	return false;
}

/* ---- Keys -------------------------------------------------------------- */

static int afalg_key_new(struct engine *engine, const struct cipher *cipher,
			 const uint8_t *bytes, struct engine_key **out)
{
	struct afalg_engine *afalg = afalg_of(engine);
	const struct afalg_choice *choice = &afalg->choices[cipher->id];
	struct engine_key *key;
	int err;

	if (choice->refusal[0])
		return -EOPNOTSUPP;
	key = count_alloc(afalg, sizeof(*key));
	if (!key)
		return -ENOMEM;
	key->cipher = cipher;
	key->bytes = bytes;
	key->fd = -1;
	list_init(&key->open);
	err = open_transform(afalg, key);
	if (err)
		free(key);
	else
		*out = key;
	return err;
}

static void close_idle(struct afalg_engine *afalg, struct engine_key *key)
{
	struct op_socket *sock;

	while ((sock = pop_idle(key)))
		close_socket(afalg, sock);
}

/*
 * Abandoned requests keep their own operation sockets, and the kernel the
 * transform under them.
 */
static void afalg_key_free(struct engine *engine, struct engine_key *key)
{
	struct afalg_engine *afalg = afalg_of(engine);

	close_idle(afalg, key);
	close_transform(afalg, key);
	free(key);
}

/* ---- The engine -------------------------------------------------------- */

static const char *afalg_refusal(const struct engine *engine,
				 const struct cipher *cipher)
{
	const char *refusal = afalg_of(engine)->choices[cipher->id].refusal;

	return refusal[0] ? refusal : NULL;
}

static const char *afalg_driver(const struct engine *engine,
				const struct cipher *cipher)
{
	return afalg_of(engine)->choices[cipher->id].driver;
}

static void afalg_free(struct engine *engine)
{
	struct afalg_engine *afalg = afalg_of(engine);
	struct op_socket *sock;

	while ((sock = afalg->made)) {
		afalg->made = sock->next_made;
		if (sock->fd >= 0)
			close(sock->fd);
		free(sock);
	}
	free(afalg);
}

static const struct engine_ops afalg_ops = {
	.name = "afalg",
	.refusal = afalg_refusal,
	.driver = afalg_driver,
	.key_new = afalg_key_new,
	.key_free = afalg_key_free,
	.submit = afalg_submit,
	.abandon = afalg_abandon,
	.free = afalg_free,
};

static void probe_all(struct afalg_engine *afalg,
		      const struct afalg_options *options)
{
	unsigned id;

	for (id = 0; id < CIPHER_COUNT; id++)
		afalg_probe_find(afalg->choices, id, options);
	for (id = 0; id < CIPHER_COUNT; id++)
		afalg_probe_check(&afalg->choices[id], &afalg->engine,
				  afalg->ring, id, options);
}

int engine_afalg_new(struct engine **engine, struct ring *ring,
		     const struct afalg_options *options)
{
	struct afalg_engine *afalg = calloc(1, sizeof(*afalg));

	if (!afalg)
		return -ENOMEM;
	afalg->engine.ops = &afalg_ops;
	afalg->ring = ring;
	afalg->keys.prev = afalg->keys.next = &afalg->keys;
	list_init(&afalg->open);
	/* room for what earlier checks may have had to abandon */
	afalg->max_sockets = CIPHER_COUNT * AFALG_PROBE_SOCKETS;
	probe_all(afalg, options);
	afalg->max_sockets = options->max_sockets;
	afalg->stats.sockets_peak = afalg->stats.sockets_now;
	*engine = &afalg->engine;
	return 0;
}

void engine_afalg_trim(struct engine *engine)
{
	struct afalg_engine *afalg = afalg_of(engine);
	struct list *node, *next;

	for (node = afalg->open.next; node != &afalg->open; node = next) {
		struct engine_key *key =
			container_of(node, struct engine_key, open);

		next = node->next;
		if (key->unused++)
			close_idle(afalg, key);
		if (key->unused > AFALG_TRIMS)
			close_transform(afalg, key);
	}
}

void engine_afalg_stats(const struct engine *engine, struct afalg_stats *stats)
{
	*stats = afalg_of(engine)->stats;
}
