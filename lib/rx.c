/* SPDX-License-Identifier: MIT */
#include "rx.h"

#include <errno.h>
#include <string.h>

static void received(struct ring_op *op, int result, int buffer);

void rx_init(struct rx *rx, struct core *core, struct list *todo,
	     struct account *account, int fd, struct keygen *gen, uint64_t seq)
{
	*rx = (struct rx){
		.core = core,
		.todo = todo,
		.account = account,
		.fd = fd,
		.plain_max = RECORD_PLAIN_MAX,
		.ignore_eof = core->ignore_eof,
		.alert = ALERT_NONE,
		.parse_alert = ALERT_NONE,
		.gen = keygen_get(gen),
		.seq = seq,
		.ahead = core->depth,
		.memory.pool = &core->rx_pool,
		.recv_op.done = received,
	};
	queue_init(&rx->queue, &core->slots);
}

/* ---- Receiving --------------------------------------------------------- */

/* Have the ring's pool hold buffer number i. False: no memory. */
static bool refill(struct core *core, int i)
{
	struct block *b = core->receive_blocks[i];

	if (b)
		return true;
	b = core->receive_blocks[i] = pool_take_unowned(&core->rx_pool);
	if (b)
		ring_pool_add(core->ring, b->data, RX_BLOCK, i);
	return b;
}

bool rx_fill_pool(struct core *core)
{
	bool any = false;
	int i;

	for (i = 0; i < core->receive_buffers; i++)
		any |= refill(core, i);
	return any;
}

void rx_refill_pool(struct core *core)
{
	int i;

	for (i = 0; i < core->receive_buffers; i++) {
		struct block *b = core->receive_blocks[i];

		if (b)
			ring_pool_add(core->ring, b->data, RX_BLOCK, i);
		else
			refill(core, i);
	}
}

static void drop_chunk(struct rx *rx)
{
	if (rx->chunk)
		block_put(&rx->memory, rx->chunk);
	rx->chunk = NULL;
	rx->parsed = rx->filled = 0;
}

/* The block that the ring chose becomes the connection's. */
static void adopt(struct rx *rx, int buffer)
{
	struct core *core = rx->core;
	struct block *b = core->receive_blocks[buffer];

	core->receive_blocks[buffer] = NULL;
	pool_adopt(&rx->memory, b);
	refill(core, buffer);
	drop_chunk(rx);
	rx->chunk = b;
}

/*
 * There is no memory. With records in line this is tried again after them;
 * without, nothing would bring it about, and a reader would wait for ever.
 */
static void starve(struct rx *rx)
{
	if (queue_count(&rx->queue) || rx->parse_error)
		return;
	rx->parse_error = -ENOMEM;
	rx->parse_alert = ALERT_INTERNAL_ERROR;
	list_add_once(&rx->core->todo, rx->todo);
}

static void received(struct ring_op *op, int result, int buffer)
{
	struct rx *rx = container_of(op, struct rx, recv_op);

	rx->receiving = false;
	rx->account->stats.receives++;
	if (buffer >= 0)
		adopt(rx, buffer);
	if (result > 0) {
		rx->filled += (size_t)result;
		rx->account->stats.received_bytes += (size_t)result;
	} else if (result == 0) {
		rx->eof = true;
	} else if (result == -ENOBUFS && !rx_fill_pool(rx->core)) {
		starve(rx);
	} else if (result != -EINTR && result != -EAGAIN &&
		   result != -ENOBUFS && result != -ECANCELED &&
		   result != -ENOMEM) {
		rx->eof = true;
		rx->parse_error = result;
	}
	list_add_once(&rx->core->todo, rx->todo);
}

/* How many bytes the record that begins at rx->parsed is short of. */
static size_t missing(const struct rx *rx)
{
	const uint8_t *at = rx->chunk->data + rx->parsed;
	size_t have = rx->filled - rx->parsed;
	size_t want = RECORD_HEADER;

	if (have >= RECORD_HEADER)
		want += (size_t)at[3] << 8 | at[4];
	return have < want ? want - have : 0;
}

/* Part of a record goes to a new block, where the rest of it has room. */
static bool move_part(struct rx *rx)
{
	size_t have = rx->filled - rx->parsed;
	struct block *b = pool_take(&rx->memory);

	if (!b)
		return false;
	memcpy(b->data, rx->chunk->data + rx->parsed, have);
	drop_chunk(rx);
	rx->chunk = b;
	rx->filled = have;
	return true;
}

/*
 * What a connection may hold before the application must read. Opening on this
 * CPU gains nothing from holding more than is being read, and loses the cache.
 */
static bool backlogged(const struct rx *rx)
{
	const size_t per_block = RX_BLOCK / RECORD_PLAIN_MAX;

	const struct engine *e = dispatch_engine(&rx->core->dispatch,
						 rx->gen->cipher);

	if (!e || e->ops->synchronous)
		return queue_count(&rx->queue) > 0;
	return rx->memory.held > 1 + 2 * rx->core->depth / per_block ||
	       queue_full(&rx->queue) ||
	       (rx->memory.held && !pool_may_take(&rx->memory));
}

static void receive(struct rx *rx)
{
	int ret;

	if (rx->receiving || rx->eof || rx->closed || rx->parse_error ||
	    rx->error || backlogged(rx))
		return;
	if (!rx->chunk) {
		ret = ring_recv_pooled(rx->core->ring, rx->fd, &rx->recv_op);
	} else {
		size_t need = missing(rx);

		if (!need)
			return;
		if (RX_BLOCK - rx->filled < need && !move_part(rx)) {
			starve(rx);
			return;
		}
		ret = ring_recv(rx->core->ring, rx->fd,
				rx->chunk->data + rx->filled,
				RX_BLOCK - rx->filled, &rx->recv_op);
	}
	rx->receiving = ret == 0;
	if (ret)
		list_add_once(&rx->core->todo, rx->todo); /* to try again */
}

/* ---- Opening ----------------------------------------------------------- */

static void opened(struct rx *rx, struct slot *slot)
{
	if (queue_completed(&rx->queue, slot, slot->op.result != 0))
		rx->account->stats.out_of_order++;
}

/* It was taken for a record of an earlier generation. */
static void rebind(struct rx *rx, struct slot *slot)
{
	bool had_waited = slot->state == SLOT_OPEN;

	queue_rebind(slot, rx->gen, slot->seq);
	if (slot->side_block && !had_waited)
		rx->waiting++;
}

static void open_done(struct aead_op *op)
{
	struct slot *slot = container_of(op, struct slot, op);
	struct rx *rx = slot->owner;

	dispatch_finish(&rx->core->dispatch, slot);
	opened(rx, slot);
	if (slot->gen != rx->gen)
		rebind(rx, slot);
	list_add_once(&rx->core->todo, rx->todo);
}

/* Where the plaintext goes: on the spot, or beside it with room for the AAD. */
static bool place(struct rx *rx, struct slot *slot)
{
	const struct record_format *format = rx->gen->format;
	uint8_t *out;

	slot->op.out = slot->wire + format->prefix;
	if (!slot->engine || slot->engine->ops->synchronous)
		return true;
	out = block_carve(&rx->memory, &rx->out,
			  record_lead(format) + slot->wire_len);
	if (!out)
		return false;
	slot->side_block = rx->out;
	slot->op.out = out + format->aad_len;
	return true;
}

/* The ciphertext stays where it is. */
static bool relocate(struct slot *slot)
{
	struct rx *rx = slot->owner;

	if (!block_replace(&rx->memory, &slot->side_block))
		return false;
	slot->op.out = slot->side_block->data + slot->gen->format->aad_len;
	return true;
}

static void start(struct rx *rx, struct slot *slot)
{
	if (slot->side_block)
		rx->waiting--;
	if (dispatch_submit(&rx->core->dispatch, slot) == ENGINE_DONE)
		opened(rx, slot);
	else
		queue_submitted(&rx->queue, slot,
				&rx->account->stats.rx_in_flight_peak);
}

/* A synchronous engine gains nothing by opening before a record's turn. */
static void open_ahead(struct rx *rx)
{
	unsigned i;

	for (i = 0; rx->waiting && i < queue_count(&rx->queue) &&
		    rx->queue.in_flight < rx->ahead; i++) {
		struct slot *slot = queue_at(&rx->queue, i);

		if (slot->state == SLOT_OPEN && slot->side_block)
			start(rx, slot);
	}
}

/* A peer of TLS 1.2 chooses a part of it. */
static void set_nonce(struct slot *slot)
{
	record_nonce(slot->op.nonce, slot->gen->iv,
		     record_nonce_number(slot->gen->format, slot->wire,
					 slot->seq));
}

/* A whole record is at rx->parsed: into the line. */
static bool take_record(struct rx *rx, size_t body)
{
	struct slot *slot = queue_push(&rx->queue, rx->gen, rx->seq);
	const struct record_format *format = rx->gen->format;

	if (!slot)
		return false;
	slot->wire = rx->chunk->data + rx->parsed;
	slot->wire_len = RECORD_HEADER + body;
	slot->engine = dispatch_choose(&rx->core->dispatch, rx->gen->cipher,
				       rx->account, body,
				       queue_count(&rx->queue));
	if (!place(rx, slot)) {
		queue_unpush(&rx->queue, &rx->memory);
		return false;
	}
	block_get(rx->chunk);
	slot->wire_block = rx->chunk;
	slot->owner = rx;
	slot->account = rx->account;
	slot->relocate = relocate;
	rx->seq++;
	rx->parsed += slot->wire_len;
	set_nonce(slot);
	record_aad(format, slot->aad, slot->wire[0], slot->seq, body);
	slot->op.aad = slot->aad;
	slot->op.aad_len = format->aad_len;
	slot->op.in = slot->wire + format->prefix;
	slot->op.in_len = slot->wire_len - format->prefix;
	slot->op.done = open_done;
	if (slot->side_block && !rx->waiting++ &&
	    rx->queue.in_flight < rx->ahead)
		start(rx, slot);
	return true;
}

/* Cut what was received into records, as far as it goes. */
static void cut(struct rx *rx)
{
	while (rx->chunk && !rx->parse_error && !rx->closed && !rx->error &&
	       rx->queue.in_flight < rx->core->depth) {
		size_t have = rx->filled - rx->parsed;
		ssize_t body;

		if (have < RECORD_HEADER)
			break;
		body = record_parse_header(rx->gen->format,
					   rx->chunk->data + rx->parsed,
					   &rx->parse_alert);
		if (body < 0) {
			rx->parse_error = (int)body;
			break;
		}
		if (have < RECORD_HEADER + (size_t)body)
			break;
		if (!take_record(rx, (size_t)body)) {
			starve(rx);
			break;
		}
	}
	if (rx->chunk && rx->parsed == rx->filled && !rx->receiving)
		drop_chunk(rx);
}

/* ---- At the head ------------------------------------------------------- */

static void fail(struct rx *rx, int error, int alert)
{
	if (rx->error)
		return;
	rx->error = error;
	rx->alert = alert;
}

/* Nothing is left in line: what stopped the cutting is next. */
static void meet_the_end(struct rx *rx)
{
	if (rx->parse_error)
		fail(rx, rx->parse_error, rx->parse_alert);
	else if (!rx->eof || (rx->chunk && !missing(rx)))
		return;
	else if (rx->ignore_eof)
		rx->closed = true;
	else
		fail(rx, -ENODATA, ALERT_NONE);
}

/*
 * A peer that sends one KeyUpdate after the other makes what is opened ahead
 * be opened again each time: ahead shrinks with each, and grows with data.
 */
int rx_update_keys(struct rx *rx)
{
	struct keygen *next;
	int ret = keygen_next(&next, rx->gen);
	unsigned i;

	if (ret)
		return ret;
	keygen_put(rx->gen);
	rx->gen = next;
	rx->seq = 0;
	for (i = 1; i < queue_count(&rx->queue); i++) {
		struct slot *slot = queue_at(&rx->queue, i);

		slot->seq = rx->seq++;
		if (slot->state != SLOT_SUBMITTED)
			rebind(rx, slot);
	}
	rx->ahead = (rx->ahead + 1) / 2;
	rx->account->stats.rx_rekeys++;
	return 0;
}

/* Type and content of the head; whether it is to stay for reading. */
static bool examine(struct rx *rx, struct slot *slot)
{
	size_t len = aead_op_out_len(&slot->op);
	int alert = ALERT_UNEXPECTED_MESSAGE;
	ssize_t n = record_content(slot->gen->format, slot->wire, slot->op.out,
				   len, rx->plain_max, &slot->type);
	int ret;

	if (n < 0) {
		fail(rx, (int)n, n == -EMSGSIZE ? ALERT_RECORD_OVERFLOW : alert);
		return false;
	}
	slot->examined = true;
	slot->content = slot->op.out;
	slot->content_len = (size_t)n;
	if (slot->type == RECORD_DATA && n && !rx->in_message) {
		int by = slot->by_kernel ? TLS_BY_KERNEL : TLS_BY_CPU;

		rx->account->stats.rx_bytes[by] += (size_t)n;
		rx->ahead += rx->ahead < rx->core->depth;
		return true;
	}
	ret = rx->control(rx, slot->type, slot->content, (size_t)n, &alert);
	if (ret)
		fail(rx, ret, alert);
	return false;
}

/* It is this record's turn, and the key is right: is the tag wrong? */
static void confirm(struct rx *rx, struct slot *slot)
{
	queue_rebind(slot, slot->gen, slot->seq);
	set_nonce(slot);
	dispatch_confirm(&rx->core->dispatch, slot);
	opened(rx, slot);
}

static void look_at_head(struct rx *rx)
{
	struct slot *head;

	while (!rx->error && !rx->closed && (head = queue_head(&rx->queue))) {
		/* what is behind it has been numbered from 0 again */
		if (head->seq == UINT64_MAX && !head->examined) {
			fail(rx, -EKEYEXPIRED, ALERT_INTERNAL_ERROR);
			return;
		}
		if (head->state == SLOT_OPEN)
			start(rx, head);
		if (head->state == SLOT_SUBMITTED)
			return;
		if (dispatch_unconfirmed(head))
			confirm(rx, head);
		if (head->state == SLOT_FAILED) {
			bool forged = head->op.result == -EBADMSG;

			fail(rx, forged ? -EBADMSG : -EIO,
			     forged ? ALERT_BAD_RECORD_MAC :
				      ALERT_INTERNAL_ERROR);
			return;
		}
		if (head->examined || examine(rx, head))
			return;
		if (!rx->error)
			queue_pop(&rx->queue, &rx->memory);
	}
	if (!rx->closed)
		meet_the_end(rx);
}

/* More records have come than the line has places, and it is empty again. */
static bool more_to_cut(const struct rx *rx)
{
	return !queue_count(&rx->queue) && rx->chunk && !missing(rx) &&
	       !rx->parse_error && !rx->error && !rx->closed;
}

void rx_advance(struct rx *rx)
{
	do {
		cut(rx);
		look_at_head(rx);
	} while (more_to_cut(rx));
	if (!rx->closed)
		open_ahead(rx);
	if (!queue_count(&rx->queue) && rx->out) {
		block_put(&rx->memory, rx->out);
		rx->out = NULL;
	}
	receive(rx);
}

bool rx_readable(const struct rx *rx)
{
	const struct slot *head = queue_head(&rx->queue);

	return head && head->examined && head->content_len && !rx->error;
}

size_t rx_read(struct rx *rx, uint8_t *buf, size_t len)
{
	size_t done = 0;

	while (done < len && rx_readable(rx)) {
		struct slot *head = queue_head(&rx->queue);
		size_t n = min_size(len - done, head->content_len);

		memcpy(buf + done, head->content, n);
		done += n;
		head->content += n;
		head->content_len -= n;
		if (head->content_len)
			break;
		queue_pop(&rx->queue, &rx->memory);
		look_at_head(rx);
	}
	return done;
}

size_t rx_peek(const struct rx *rx, uint8_t *buf, size_t len)
{
	const struct slot *head = queue_head(&rx->queue);

	if (!rx_readable(rx))
		return 0;
	len = min_size(len, head->content_len);
	memcpy(buf, head->content, len);
	return len;
}

/* Of what looked like a record, and was cut, but is none. */
static size_t leftover_of_slot(struct rx *rx, uint8_t *buf, size_t len)
{
	struct slot *head = queue_head(&rx->queue);

	len = min_size(len, head->wire_len);
	memcpy(buf, head->wire, len);
	head->wire += len;
	head->wire_len -= len;
	if (head->wire_len)
		return len;
	if (head->state == SLOT_OPEN && head->side_block)
		rx->waiting--;
	queue_pop(&rx->queue, &rx->memory);
	return len;
}

size_t rx_leftover(struct rx *rx, uint8_t *buf, size_t len)
{
	size_t done = 0, n;

	while (done < len && queue_count(&rx->queue))
		done += leftover_of_slot(rx, buf + done, len - done);
	if (!rx->chunk)
		return done;
	n = min_size(len - done, rx->filled - rx->parsed);
	memcpy(buf + done, rx->chunk->data + rx->parsed, n);
	rx->parsed += n;
	if (rx->parsed == rx->filled)
		drop_chunk(rx);
	return done + n;
}

/* ---- Beginning and end ------------------------------------------------- */

int rx_preload_plain(struct rx *rx, const uint8_t *plain, size_t len)
{
	struct slot *slot;
	uint8_t *copy;

	if (!len)
		return 0;
	copy = block_carve(&rx->memory, &rx->out, len);
	if (!copy)
		return -ENOMEM;
	slot = queue_push(&rx->queue, rx->gen, rx->seq);
	if (!slot) {
		block_put(&rx->memory, rx->out);
		return -ENOMEM;
	}
	slot->side_block = rx->out;
	slot->owner = rx;
	slot->type = RECORD_DATA;
	slot->examined = true;
	slot->content = memcpy(copy, plain, len);
	slot->content_len = len;
	queue_completed(&rx->queue, slot, false);
	return 0;
}

int rx_preload_sealed(struct rx *rx, const uint8_t *sealed, size_t len)
{
	if (!len)
		return 0;
	rx->chunk = pool_take(&rx->memory);
	if (!rx->chunk)
		return -ENOMEM;
	memcpy(rx->chunk->data, sealed, len);
	rx->filled = len;
	return 0;
}

static void abandon(struct rx *rx, struct slot *slot)
{
	if (slot->state != SLOT_SUBMITTED)
		return;
	dispatch_abandon(&rx->core->dispatch, slot);
	slot->op.result = -ECANCELED;
	queue_completed(&rx->queue, slot, true);
}

void rx_destroy(struct rx *rx)
{
	unsigned i;

	for (i = 0; i < queue_count(&rx->queue); i++)
		abandon(rx, queue_at(&rx->queue, i));
	while (queue_count(&rx->queue))
		queue_pop(&rx->queue, &rx->memory);
	drop_chunk(rx);
	if (rx->out)
		block_put(&rx->memory, rx->out);
	rx->out = NULL;
	keygen_put(rx->gen);
	rx->gen = NULL;
}
