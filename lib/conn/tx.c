/* SPDX-License-Identifier: MIT */
#include "conn/tx.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

/* Connections that are told at a time that memory has come back. */
enum { SERVED = 64 };

static void sent(struct ring_op *op, int result, int buffer);

/* How many records go under one key before the next one follows. */
static uint64_t first_limit(const struct core *core, const struct keygen *gen)
{
	uint64_t most = keygen_record_limit(gen->cipher);
	uint64_t wanted = core->rekey_records;

	if (gen->suite->version == CIPHER_TLS12)
		return most;
	if (!wanted)
		wanted = keygen_rekey_after(gen->cipher);
	return wanted < most ? wanted : most;
}

void tx_init(struct tx *tx, struct core *core, struct list *todo,
	     struct account *account, int fd, struct keygen *gen, uint64_t seq)
{
	*tx = (struct tx){
		.core = core,
		.todo = todo,
		.account = account,
		.fd = fd,
		.gen = keygen_get(gen),
		.seq = seq,
		.window = core->send_window,
		.record_size = core->record_size,
		.plain_max = RECORD_PLAIN_MAX,
		.memory.pool = &core->tx_pool,
	};
	tx->record_limit = first_limit(core, gen);
	list_init(&tx->thirst);
	queue_init(&tx->queue, &core->slots, &tx->memory);
}

/* ---- Memory ------------------------------------------------------------ */

/* What a record of so much content takes, but for padding. */
static size_t sealed_len(const struct tx *tx, size_t len)
{
	const struct record_format *format = tx->gen->format;

	return record_lead(format) + format->overhead + len;
}

/* Give back what a connection with nothing under way need not hold. */
static void release_blocks(struct tx *tx)
{
	if (tx->open)
		return;
	if (tx->wire)
		block_put(&tx->memory, tx->wire);
	if (tx->side)
		block_put(&tx->memory, tx->side);
	tx->wire = tx->side = NULL;
}

/*
 * For the open record; or for a full one, in both its forms if the second was
 * needed before.
 */
static bool has_memory(const struct tx *tx)
{
	return pool_may_take(&tx->memory, POOL_RECORD) ||
	       (tx->open &&
		block_room(tx->wire) >= sealed_len(tx, tx->open_len)) ||
	       (block_room(tx->wire) >= RECORD_SENT_MAX &&
		(!tx->side || block_room(tx->side) >= RECORD_PLAIN_MAX ||
		 !queue_count(&tx->queue)));
}

static bool takes_data(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	return poll(&p, 1, 0) > 0;
}

/* May it have of what is set aside? */
static bool is_lean(const struct tx *tx)
{
	return !tx->sending && pool_has_aside(tx->memory.pool) &&
	       takes_data(tx->fd);
}

static void writable(struct ring_op *op, int result, int buffer)
{
	struct tx *tx = container_of(op, struct tx, send_op);

	(void)result;
	(void)buffer;
	tx->sending = false;
	list_add_once(&tx->core->todo, tx->todo);
}

void tx_await_memory(struct tx *tx)
{
	if (has_memory(tx) || tx->stopped)
		return;
	list_move_tail(&tx->core->thirsty, &tx->thirst);
	if (queue_count(&tx->queue) || tx->sending || takes_data(tx->fd))
		return;
	tx->send_op.done = writable;
	tx->sending = !ring_poll(tx->core->ring, tx->fd, POLLOUT,
				 &tx->send_op);
}

void tx_serve(struct core *core)
{
	struct list lacking, *node;
	int i;

	list_init(&lacking);
	core->tx_pool.gave_back = false;
	for (i = 0; i < SERVED && (node = list_take(&core->thirsty)); i++) {
		struct tx *tx = container_of(node, struct tx, thirst);

		if (!tx_room(tx)) {
			list_move_tail(&lacking, node);
			continue;
		}
		list_add_once(&core->todo, tx->todo);
	}
	while ((node = list_take(&lacking)))
		list_move_tail(&core->thirsty, node);
}

bool tx_polls(const struct tx *tx)
{
	return tx->sending && tx->send_op.done == writable;
}

void tx_stop(struct tx *tx)
{
	tx->stopped = true;
	list_remove(&tx->thirst);
}

/* What is written alone takes no more than it needs. */
static enum pool_kind kind_for(const struct tx *tx, size_t len)
{
	if (queue_count(&tx->queue) > 1 || tx->waiting > POOL_MIDDLE_BYTES)
		return POOL_RECORD;
	return pool_kind_for(len);
}

/* As block_carve(). */
static uint8_t *carve(struct tx *tx, struct block **block, size_t len,
		      enum pool_kind kind)
{
	uint8_t *p = block_carve(&tx->memory, block, len, kind);
	struct block *b;

	if (p || queue_count(&tx->queue) > 1 || !is_lean(tx))
		return p;
	kind = pool_kind_for(len) == POOL_SMALL ? POOL_SMALL : POOL_RECORD;
	b = pool_take_aside(&tx->memory, kind);
	return b ? block_begin(&tx->memory, block, len, b) : NULL;
}

/* ---- Sealing ----------------------------------------------------------- */

/* The prefix is written last: some engines leave the AAD in its place. */
static void sealed(struct tx *tx, struct slot *slot)
{
	bool failed = slot->op.result != 0;

	record_put_prefix(slot->gen->format, slot->wire, slot->type,
			  keygen_nonce_number(slot->gen, slot->seq),
			  slot->wire_len - RECORD_HEADER);
	if (queue_completed(&tx->queue, slot, failed))
		tx->account->stats.out_of_order++;
	/* a generation ends with its last completion, not its last send */
	keygen_put(slot->gen);
	slot->gen = NULL;
	if (failed || !slot->side_block)
		return;
	/* the plaintext is not needed again; the next one finds it in cache */
	block_put(&tx->memory, slot->side_block);
	slot->side_block = NULL;
}

static void seal_done(struct aead_op *op)
{
	struct slot *slot = container_of(op, struct slot, op);
	struct tx *tx = slot->owner;

	dispatch_finish(&tx->core->dispatch, slot);
	sealed(tx, slot);
	list_add_once(&tx->core->todo, tx->todo);
}

static bool has_place(const struct tx *tx)
{
	return tx->queue.in_flight < tx->core->depth && tx->held < tx->window &&
	       queue_room(&tx->queue);
}

bool tx_room(const struct tx *tx)
{
	return has_place(tx) &&
	       (has_memory(tx) || (!queue_count(&tx->queue) && is_lean(tx)));
}

bool tx_starved(const struct tx *tx)
{
	return !tx->error && !tx_worn_out(tx) && !queue_count(&tx->queue) &&
	       has_memory(tx);
}

/*
 * A copy of the plaintext, for an engine that needs one. Without memory for it
 * the CPU's takes what comes first in line, or the limit gives way.
 */
static const uint8_t *copy(struct tx *tx, struct slot *slot,
			   const uint8_t *in, size_t len)
{
	uint8_t *copy = carve(tx, &tx->side, len, kind_for(tx, len));
	struct block *b;

	if (!copy && queue_count(&tx->queue) == 1 && !has_memory(tx)) {
		if (tx->core->dispatch.cpu) {
			slot->engine = NULL;
			return in;
		}
		b = pool_take_surely(&tx->memory, pool_kind_for(len));
		copy = b ? block_begin(&tx->memory, &tx->side, len, b) : NULL;
	}
	if (!copy)
		return NULL;
	slot->side_block = tx->side;
	tx->account->stats.tx_copied_bytes += len;
	return memcpy(copy, in, len);
}

/* Memory for a record in both its forms; in is the plaintext to seal. */
static bool place(struct tx *tx, struct slot *slot, const uint8_t *in,
		  size_t len, struct block *in_block)
{
	bool keep = slot->engine && !slot->engine->ops->synchronous;
	const struct record_format *format = tx->gen->format;
	size_t lead = keep ? record_lead(format) : 0;

	if (format->hides_type)
		slot->op.pad = (uint16_t)record_padding(len, tx->pad_block,
							tx->plain_max);
	slot->wire_len = format->overhead + len + slot->op.pad;
	slot->wire = carve(tx, &tx->wire, lead + slot->wire_len,
			   kind_for(tx, lead + slot->wire_len));
	if (!slot->wire)
		return false;
	slot->wire += lead;
	slot->wire_block = tx->wire;
	if (in_block) {
		block_get(in_block);
		slot->side_block = in_block;
	} else if (keep) {
		in = copy(tx, slot, in, len);
	}
	slot->op.in = in;
	return in;
}

/* The plaintext stays: the kernel has read it by the time it is slow. */
static bool relocate(struct slot *slot)
{
	struct tx *tx = slot->owner;

	if (!block_replace(&tx->memory, &slot->wire_block))
		return false;
	slot->wire = slot->wire_block->data;
	slot->op.out = slot->wire + slot->gen->format->prefix;
	return true;
}

/* Records of this connection in an engine, or about to be given to one. */
static unsigned queue_hint(const struct tx *tx)
{
	return tx->queue.in_flight +
	       (unsigned)((tx->waiting + RECORD_PLAIN_MAX - 1) /
			  RECORD_PLAIN_MAX);
}

/* One record into the line and to an engine. False: no room. */
static bool seal(struct tx *tx, uint8_t type, const uint8_t *in, size_t len,
		 struct block *in_block)
{
	struct slot *slot = queue_push(&tx->queue, tx->gen, tx->seq);
	const struct record_format *format = tx->gen->format;

	if (!slot)
		return false;
	slot->engine = dispatch_choose(&tx->core->dispatch, tx->gen->cipher,
				       tx->account, len, queue_hint(tx));
	if (!place(tx, slot, in, len, in_block)) {
		queue_unpush(&tx->queue, &tx->memory);
		return false;
	}
	tx->seq++;
	if (!tx->held)
		tx->ready_since = now_ns();
	tx->held += slot->wire_len;
	slot->owner = tx;
	slot->account = tx->account;
	slot->relocate = relocate;
	slot->type = type;
	slot->content_len = type == RECORD_DATA ? len : 0;
	tx->account->stats.tx_padding_bytes += slot->op.pad;
	record_aad(format, slot->aad, type, slot->seq,
		   slot->wire_len - RECORD_HEADER);
	slot->op.seal = true;
	slot->op.has_tail = format->hides_type;
	slot->op.tail = type;
	slot->op.aad = slot->aad;
	slot->op.aad_len = format->aad_len;
	slot->op.in_len = len;
	slot->op.out = slot->wire + format->prefix;
	slot->op.done = seal_done;
	if (dispatch_submit(&tx->core->dispatch, slot) == ENGINE_DONE)
		sealed(tx, slot);
	else
		queue_submitted(&tx->queue, slot,
				&tx->account->stats.tx_in_flight_peak);
	return true;
}

/* How much the record begun now is to hold. */
static size_t record_limit(struct tx *tx)
{
	size_t most = min_size(tx->record_size, tx->plain_max);

	if (most > tx->window && most > RECORD_PLAIN_MIN)
		most = tx->window > RECORD_PLAIN_MIN ? tx->window :
						       RECORD_PLAIN_MIN;
	if (!tx->core->record_ramp)
		return most;
	/* what is still held has not been idle but slow */
	if (!tx->held && now_ns() - tx->last_data > TX_RAMP_IDLE_NS)
		tx->ramped = 0;
	if (tx->ramped < TX_RAMP_SMALL_UNTIL)
		return min_size(TX_RAMP_SMALL, most);
	if (tx->ramped < TX_RAMP_MIDDLE_UNTIL)
		return min_size(TX_RAMP_MIDDLE, most);
	return most;
}

void tx_update_keys(struct tx *tx, bool request)
{
	tx->update_due = true;
	tx->update_request |= request;
}

/* The next generation is there before the KeyUpdate that leads to it. */
static int send_update(struct tx *tx)
{
	const uint8_t message[] = { MESSAGE_KEY_UPDATE, 0, 0, 1,
				    tx->update_request };
	struct keygen *next;
	int ret = keygen_next(&next, tx->gen);

	if (ret)
		return ret;
	if (!seal(tx, RECORD_HANDSHAKE, message, sizeof(message), NULL)) {
		keygen_put(next);
		return -EAGAIN;
	}
	keygen_put(tx->gen);
	tx->gen = next;
	tx->seq = 0;
	tx->updates++;
	tx->asked += tx->update_request;
	tx->update_due = tx->update_request = false;
	tx->account->stats.tx_rekeys++;
	return 0;
}

bool tx_worn_out(const struct tx *tx)
{
	return tx->gen->suite->version == CIPHER_TLS12 &&
	       tx->seq + (tx->open != NULL) >= tx->record_limit;
}

static bool is_update_due(const struct tx *tx)
{
	return tx->update_due || tx->seq >= tx->record_limit;
}

int tx_send_update(struct tx *tx)
{
	int ret;

	if (tx->error)
		return tx->error;
	if (tx->gen->suite->version == CIPHER_TLS12 || !is_update_due(tx))
		return 0;
	ret = tx_room(tx) ? send_update(tx) : -EAGAIN;
	if (ret == -EAGAIN)
		tx_await_memory(tx);
	if (ret == -EIO)
		tx->error = ret;
	return ret;
}

/* Where there is room; but a KeyUpdate may have to go first. */
static bool seal_data(struct tx *tx, const uint8_t *in, size_t len,
		      struct block *in_block)
{
	if (is_update_due(tx) && (tx_send_update(tx) || !tx_room(tx)))
		return false;
	if (!seal(tx, RECORD_DATA, in, len, in_block))
		return false;
	if (tx->core->record_ramp) {
		tx->last_data = now_ns();
		tx->ramped += len;
	}
	return true;
}

static void drop_open(struct tx *tx)
{
	block_put(&tx->memory, tx->open_block);
	tx->open_block = NULL;
	tx->open = NULL;
	tx->open_len = 0;
}

int tx_seal_open(struct tx *tx)
{
	if (tx->error)
		return tx->error;
	if (!tx->open)
		return 0;
	if (!tx_room(tx) ||
	    !seal_data(tx, tx->open, tx->open_len, tx->open_block))
		return -EAGAIN;
	if (tx->side == tx->open_block)
		block_trim(tx->side, tx->open + tx->open_size,
			   tx->open + tx->open_len);
	drop_open(tx);
	return 0;
}

/* The plaintext's memory, and in advance that of the record it will be. */
static uint8_t *open_record(struct tx *tx, size_t limit)
{
	const size_t len = sealed_len(tx, limit);
	uint8_t *wire, *open;

	if (block_room(tx->wire) < len) {
		wire = carve(tx, &tx->wire, len, pool_kind_for(len));
		if (!wire)
			return NULL;
		block_trim(tx->wire, wire + len, wire);
		block_put(&tx->memory, tx->wire);
	}
	open = carve(tx, &tx->side, limit, pool_kind_for(limit));
	if (!open && !queue_count(&tx->queue))
		release_blocks(tx); /* one alone is of no use */
	return open;
}

/* Add to the open record, opening one of at most limit bytes if need be. */
static size_t fill_open(struct tx *tx, struct source *from, size_t limit)
{
	size_t n;

	if (!tx->open) {
		tx->open = open_record(tx, limit);
		if (!tx->open)
			return 0;
		tx->open_block = tx->side;
		tx->open_size = limit;
	}
	n = source_read(from, tx->open + tx->open_len,
			tx->open_size - tx->open_len);
	if (from->iov)
		tx->account->stats.tx_copied_bytes += n;
	tx->open_len += n;
	if (!tx->open_len)
		drop_open(tx); /* the file had nothing */
	return n;
}

/*
 * The next record's worth; 0 if there is no room for it. What lies in one
 * piece is sealed from there, what does not is put together in the open
 * record.
 */
static size_t write_record(struct tx *tx, struct source *from, bool more)
{
	const uint8_t *piece;
	size_t limit, n;
	bool lean;

	if (tx->open && tx->open_len == tx->open_size && tx_seal_open(tx))
		return 0;
	if (tx->open)
		return fill_open(tx, from, 0);
	if (!has_place(tx) || tx_worn_out(tx))
		return 0;
	limit = record_limit(tx);
	lean = !has_memory(tx);
	if (lean && (queue_count(&tx->queue) || !is_lean(tx)))
		return 0;
	if (lean)
		limit = min_size(limit, TX_LEAN);
	piece = source_piece(from, &n);
	if (n < limit && (more || n < from->left)) {
		n = fill_open(tx, from, limit);
		if (lean && n) /* what is set aside is to come back */
			tx_seal_open(tx);
		return n;
	}
	n = min_size(n, limit);
	if (!seal_data(tx, piece, n, NULL))
		return 0;
	source_skip(from, n);
	return n;
}

ssize_t tx_write(struct tx *tx, struct source *from, bool more)
{
	size_t done = 0;

	while (from->left && !from->error && !tx->error) {
		size_t n;

		tx->waiting = from->left;
		n = write_record(tx, from, more);

		if (!n)
			break;
		done += n;
		tx->unsent += n;
		/* not later: sealed records are sent while they are in cache */
		if (tx_due(tx))
			tx_push(tx);
	}
	tx->waiting = 0;
	/* A full window keeps it open; the next call or flush tries again. */
	if (!more && !from->left)
		tx_seal_open(tx);
	if (from->left || (tx->open && !more))
		tx_await_memory(tx);
	return tx->error ? tx->error : (ssize_t)done;
}

int tx_alert(struct tx *tx, uint8_t level, uint8_t description)
{
	const uint8_t alert[2] = { level, description };
	int ret = tx_seal_open(tx);

	if (ret)
		return ret;
	if (seal(tx, RECORD_ALERT, alert, sizeof(alert), NULL))
		return 0;
	tx_await_memory(tx);
	return -EAGAIN;
}

/* ---- Sending ----------------------------------------------------------- */

bool tx_due(const struct tx *tx)
{
	return tx->held >= TX_GATHER || !has_place(tx) ||
	       /* that brings memory back */
	       !list_empty(&tx->thirst) || pool_tight(tx->memory.pool);
}

/* The peer may read it from now on, whatever comes of the send. */
static void give(struct tx *tx, const struct slot *slot)
{
	tx->given++;
	tx->updates -= slot->type == RECORD_HANDSHAKE;
	tx->data_given += slot->type == RECORD_DATA;
}

/* Point iov at the ready records from the head on, neighbours as one. */
static int gather(struct tx *tx)
{
	unsigned i, n = 0, count = queue_count(&tx->queue);
	size_t skip = tx->head_sent;

	for (i = 0; i < count; i++, skip = 0) {
		const struct slot *slot = queue_at(&tx->queue, i);
		uint8_t *from = slot->wire + skip;
		size_t len = slot->wire_len - skip;

		if (slot->state != SLOT_READY)
			break;
		if (n && (uint8_t *)tx->iov[n - 1].iov_base +
				 tx->iov[n - 1].iov_len == from)
			tx->iov[n - 1].iov_len += len;
		else if (n == TX_IOV)
			break;
		else
			tx->iov[n++] = (struct iovec){ from, len };
		if (i == tx->given)
			give(tx, slot);
	}
	return (int)n;
}

void tx_push(struct tx *tx)
{
	struct slot *head = queue_head(&tx->queue);
	uint64_t now;
	int n, ret;

	if (tx->sending || tx->paused || tx->error || !head)
		return;
	if (head->state == SLOT_FAILED) {
		tx->error = -EIO;
		list_add_once(&tx->core->todo, tx->todo);
		return;
	}
	n = gather(tx);
	if (!n)
		return;
	tx->send_op.done = sent;
	tx->msg = (struct msghdr){ .msg_iov = tx->iov,
				   .msg_iovlen = (size_t)n };
	if (n == 1)
		ret = ring_send(tx->core->ring, tx->fd, tx->iov->iov_base,
				tx->iov->iov_len, &tx->send_op);
	else
		ret = ring_sendmsg(tx->core->ring, tx->fd, &tx->msg,
				   &tx->send_op);
	tx->sending = ret == 0;
	if (ret)
		list_add_once(&tx->core->todo, tx->todo); /* to try again */
	now = now_ns();
	tx->account->stats.ready_wait_ns += now - tx->ready_since;
	tx->ready_since = now;
}

static void advance(struct tx *tx, size_t n)
{
	tx->account->stats.sent_bytes += n;
	tx->held -= n;
	n += tx->head_sent;
	while (queue_count(&tx->queue)) {
		const struct slot *head = queue_head(&tx->queue);

		if (head->state != SLOT_READY || n < head->wire_len)
			break;
		n -= head->wire_len;
		tx->unsent -= head->content_len;
		tx->given--;
		tx->account->stats.sent_records++;
		queue_pop(&tx->queue, &tx->memory);
	}
	tx->head_sent = n;
	if (!queue_count(&tx->queue))
		release_blocks(tx);
}

static void sent(struct ring_op *op, int result, int buffer)
{
	struct tx *tx = container_of(op, struct tx, send_op);

	(void)buffer;
	tx->sending = false;
	tx->account->stats.sends++;
	/*
	 * None of these is the connection's fault; -ECANCELED comes when the
	 * thread that submitted the send has ended. The next push resumes.
	 */
	if (result >= 0)
		advance(tx, (size_t)result);
	else if (result != -EINTR && result != -EAGAIN && result != -ENOBUFS &&
		 result != -ECANCELED && result != -ENOMEM)
		tx->error = result;
	list_add_once(&tx->core->todo, tx->todo);
}

/* ---- The end ----------------------------------------------------------- */

static void abandon(struct tx *tx, struct slot *slot)
{
	if (slot->state != SLOT_SUBMITTED)
		return;
	dispatch_abandon(&tx->core->dispatch, slot);
	slot->op.result = -ECANCELED;
	queue_completed(&tx->queue, slot, true);
}

void tx_destroy(struct tx *tx)
{
	unsigned i;

	tx_stop(tx);
	for (i = 0; i < queue_count(&tx->queue); i++)
		abandon(tx, queue_at(&tx->queue, i));
	while (queue_count(&tx->queue))
		queue_pop(&tx->queue, &tx->memory);
	if (tx->open_block)
		block_put(&tx->memory, tx->open_block);
	tx->open_block = NULL;
	tx->open = NULL;
	release_blocks(tx);
	queue_destroy(&tx->queue);
	keygen_put(tx->gen);
	tx->gen = NULL;
}
