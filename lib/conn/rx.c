/* SPDX-License-Identifier: MIT */
#include "conn/rx.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

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
	};
	list_init(&rx->turn);
	queue_init(&rx->queue, &core->slots, &rx->memory);
}

/* ---- Receiving --------------------------------------------------------- */

static void drop_chunk(struct rx *rx)
{
	if (rx->chunk)
		block_put(&rx->memory, rx->chunk);
	rx->chunk = NULL;
	rx->parsed = rx->filled = 0;
}

/* For len bytes that begin with a record. */
static enum pool_kind kind_for(const uint8_t *bytes, size_t len)
{
	size_t record = RECORD_HEADER;

	if (len >= RECORD_HEADER)
		record += (size_t)bytes[3] << 8 | bytes[4];
	return pool_kind_for(len > record ? len : record);
}

/* Without a block for a copy, the buffer itself becomes one. */
static struct block *copy_in_place(struct rx *rx, unsigned buffer,
				   struct block *b, size_t len,
				   enum pool_kind kind)
{
	uint8_t bytes[POOL_RECORD_BYTES];

	memcpy(bytes, b->data, len);
	pool_take_back(b);
	b = pool_take_surely(&rx->memory, kind);
	memcpy(b->data, bytes, len);
	feed_replace(rx->core, buffer);
	return b;
}

/*
 * The buffer that the ring chose becomes the connection's, or what is in it
 * does, in less memory.
 */
static void adopt(struct rx *rx, unsigned buffer, size_t len)
{
	struct core *core = rx->core;
	struct block *b = feed_buffer(core, buffer), *copy;
	enum pool_kind kind = kind_for(b->data, len);

	core->feed.filled += len > POOL_MIDDLE_BYTES;
	if (len && (kind == POOL_WHOLE || (kind == POOL_RECORD &&
					   !pool_tight(&core->rx_pool)))) {
		pool_adopt(&rx->memory, b);
		feed_replace(core, buffer);
		rx_begin(rx, b, 0);
		return;
	}
	copy = len ? pool_take(&rx->memory, kind) : NULL;
	if (len && !copy) {
		rx_begin(rx, copy_in_place(rx, buffer, b, len, kind), 0);
		return;
	}
	if (copy)
		memcpy(copy->data, b->data, len);
	rx_begin(rx, copy, 0);
	feed_return(core, buffer, b);
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

void rx_ended(struct rx *rx, int result)
{
	rx->eof = true;
	if (result)
		rx->parse_error = result;
}

/*
 * Records without data that one connection's turn takes: each may cost a key
 * derivation, and there are others.
 */
enum { TURN_RECORDS = 32 };

static void received(struct ring_op *op, int result, int buffer)
{
	struct rx *rx = container_of(op, struct rx, recv_op);

	rx->receiving = false;
	rx->account->stats.receives++;
	feed_served(rx);
	if (buffer >= 0)
		adopt(rx, (unsigned)buffer, result > 0 ? (size_t)result : 0);
	if (result > 0) {
		rx->filled += (size_t)result;
		rx->account->stats.received_bytes += (size_t)result;
	} else if (result == -ENOBUFS && !rx->chunk) {
		feed_wait(rx);
	} else if (result == 0) {
		rx_ended(rx, 0);
	} else if (result != -EINTR && result != -EAGAIN &&
		   result != -ENOBUFS && result != -ECANCELED &&
		   result != -ENOMEM) {
		rx_ended(rx, result);
	}
	list_add_once(&rx->core->todo, rx->todo);
}

/* There is data now, or there is trouble, which a receive tells. */
static void polled(struct ring_op *op, int result, int buffer)
{
	struct rx *rx = container_of(op, struct rx, recv_op);

	(void)buffer;
	rx->receiving = false;
	op->drained = false;
	if (result > 0)
		feed_wait(rx);
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

/* The record in hand, of len bytes as a whole, goes to a block of that kind. */
static bool move_part(struct rx *rx, enum pool_kind kind)
{
	size_t have = rx->filled - rx->parsed;
	struct block *b = pool_take(&rx->memory, kind);

	if (!b)
		return false;
	memcpy(b->data, rx->chunk->data + rx->parsed, have);
	rx_begin(rx, b, have);
	return true;
}

/* Nobody but the connection itself refers to the chunk: to its beginning. */
static bool shift_part(struct rx *rx, size_t len)
{
	size_t have = rx->filled - rx->parsed;

	if (rx->chunk->refs > 1 || block_size(rx->chunk) < len)
		return false;
	memmove(rx->chunk->data, rx->chunk->data + rx->parsed, have);
	rx->parsed = 0;
	rx->filled = have;
	return true;
}

/*
 * The rest of a record has room behind what there is of it; and where memory is
 * short, that takes no more of it than it needs.
 */
static bool make_room(struct rx *rx, size_t need)
{
	size_t len = rx->filled - rx->parsed + need;
	enum pool_kind least = pool_kind_for(len), kind = least;
	bool tight = pool_tight(&rx->core->rx_pool);

	if (kind > POOL_MIDDLE && !tight)
		kind = POOL_WHOLE; /* as more is coming */
	if (tight && least < block_kind(rx->chunk) && move_part(rx, least))
		return true;
	if (block_size(rx->chunk) - rx->filled >= need || shift_part(rx, len) ||
	    move_part(rx, kind) || (kind != least && move_part(rx, least)))
		return true;
	rx->wanted = need;
	if (pool_may_take(&rx->memory, least))
		starve(rx); /* it is the system's refusal */
	else if (!queue_count(&rx->queue))
		feed_wait_part(rx);
	return false;
}

/*
 * What a connection may hold before the application must read. Opening on this
 * CPU gains nothing from holding more than is being read, and loses the cache.
 */
static bool backlogged(const struct rx *rx)
{
	const size_t per_block = POOL_SLAB / RECORD_PLAIN_MAX;
	const size_t most = 1 + 2 * rx->core->depth / per_block;

	const struct engine *e = dispatch_engine(&rx->core->dispatch,
						 rx->gen->cipher);

	if (!queue_count(&rx->queue))
		return false;
	return !e || e->ops->synchronous ||
	       rx->memory.held > most * POOL_SLAB || !queue_room(&rx->queue) ||
	       !pool_may_take(&rx->memory, POOL_WHOLE);
}

static int receive_next(struct rx *rx)
{
	struct core *core = rx->core;

	rx->recv_op.done = received;
	if (rx->claims)
		return ring_take_pooled(core->ring, rx->fd, &rx->recv_op);
	if (feed_has_buffer(core))
		return ring_recv_pooled(core->ring, rx->fd, &rx->recv_op);
	rx->recv_op.done = polled;
	return ring_poll(core->ring, rx->fd, POLLIN | POLLRDHUP, &rx->recv_op);
}

static int receive_rest(struct rx *rx, size_t need)
{
	if (!make_room(rx, need))
		return 0;
	rx->recv_op.done = received;
	rx->receiving = true;
	return ring_recv(rx->core->ring, rx->fd, rx->chunk->data + rx->filled,
			 block_size(rx->chunk) - rx->filled, &rx->recv_op);
}

void rx_receive(struct rx *rx)
{
	size_t need = 0;
	int ret;

	if (rx->receiving || rx->eof || rx->closed || rx->parse_error ||
	    rx->error || rx->stopped || !list_empty(&rx->turn) ||
	    rx->looked_at || backlogged(rx))
		return;
	if (rx->chunk) {
		need = missing(rx);
		if (!need)
			return;
		ret = receive_rest(rx, need);
	} else {
		rx->receiving = true;
		ret = receive_next(rx);
	}
	if (ret) {
		rx->receiving = false;
		list_add_once(&rx->core->todo, rx->todo); /* to try again */
	}
}

void rx_begin(struct rx *rx, struct block *block, size_t len)
{
	drop_chunk(rx);
	rx->chunk = block;
	rx->filled = len;
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

/*
 * What comes first in line does not wait for memory: without any, the CPU's
 * engine opens it on the spot, or, where there is none, the limit gives way.
 */
static uint8_t *carve_out(struct rx *rx, struct slot *slot, size_t len)
{
	enum pool_kind kind = block_kind(rx->chunk);
	uint8_t *out = block_carve(&rx->memory, &rx->out, len, kind);
	struct block *b;

	if (out || queue_count(&rx->queue) > 1 ||
	    pool_may_take(&rx->memory, kind))
		return out;
	if (rx->core->dispatch.cpu) {
		slot->engine = NULL;
		return NULL;
	}
	b = pool_take_surely(&rx->memory, pool_kind_for(len));
	return b ? block_begin(&rx->memory, &rx->out, len, b) : NULL;
}

/* Where the plaintext goes: on the spot, or beside it with room for the AAD. */
static bool place(struct rx *rx, struct slot *slot)
{
	const struct record_format *format = rx->gen->format;
	uint8_t *out;

	slot->op.out = slot->wire + format->prefix;
	if (!slot->engine || slot->engine->ops->synchronous)
		return true;
	out = carve_out(rx, slot, record_lead(format) + slot->wire_len);
	if (!out)
		return !slot->engine; /* on the spot after all */
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

/* What of the operation is the same wherever its record lies. */
static void describe(struct rx *rx, struct slot *slot)
{
	const struct record_format *format = rx->gen->format;
	size_t body = slot->wire_len - RECORD_HEADER;

	slot->owner = rx;
	slot->account = rx->account;
	slot->relocate = relocate;
	set_nonce(slot);
	record_aad(format, slot->aad, slot->wire[0], slot->seq, body);
	slot->op.aad = slot->aad;
	slot->op.aad_len = format->aad_len;
	slot->op.in = slot->wire + format->prefix;
	slot->op.in_len = slot->wire_len - format->prefix;
	slot->op.done = open_done;
}

/* A whole record is at rx->parsed: into the line. */
static bool take_record(struct rx *rx, size_t body)
{
	struct slot *slot = queue_push(&rx->queue, rx->gen, rx->seq);

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
	rx->seq++;
	rx->parsed += slot->wire_len;
	describe(rx, slot);
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

/* Type and content; 0 or -errno. */
static int peel(struct rx *rx, struct slot *slot)
{
	size_t len = aead_op_out_len(&slot->op);
	ssize_t n = record_content(slot->gen->format, slot->wire, slot->op.out,
				   len, rx->plain_max, &slot->type);

	if (n < 0)
		return (int)n;
	slot->examined = true;
	slot->content = slot->op.out;
	slot->content_len = (size_t)n;
	return 0;
}

/* Type and content of the head; whether it is to stay for reading. */
static bool examine(struct rx *rx, struct slot *slot)
{
	int alert = ALERT_UNEXPECTED_MESSAGE;
	int ret = peel(rx, slot);
	size_t n = slot->content_len;

	if (ret) {
		fail(rx, ret, ret == -EMSGSIZE ? ALERT_RECORD_OVERFLOW : alert);
		return false;
	}
	if (slot->type == RECORD_DATA && n && !rx->in_message) {
		int by = slot->by_kernel ? TLS_BY_KERNEL : TLS_BY_CPU;

		rx->account->stats.rx_bytes[by] += n;
		rx->ahead += rx->ahead < rx->core->depth;
		return true;
	}
	ret = rx->control(rx, slot->type, slot->content, n, &alert);
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

static void fail_open(struct rx *rx, const struct slot *slot)
{
	bool forged = slot->op.result == -EBADMSG;

	fail(rx, forged ? -EBADMSG : -EIO,
	     forged ? ALERT_BAD_RECORD_MAC : ALERT_INTERNAL_ERROR);
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
		if (!rx->budget && !head->examined) {
			list_add_once(&rx->core->todo, rx->todo);
			return;
		}
		if (head->state == SLOT_OPEN)
			start(rx, head);
		if (head->state == SLOT_SUBMITTED)
			return;
		if (dispatch_unconfirmed(head))
			confirm(rx, head);
		if (head->state == SLOT_FAILED) {
			fail_open(rx, head);
			return;
		}
		if (head->examined || examine(rx, head))
			return;
		rx->budget--;
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
	rx->budget = TURN_RECORDS;
	do {
		cut(rx);
		look_at_head(rx);
	} while (rx->budget && more_to_cut(rx));
	if (more_to_cut(rx))
		list_add_once(&rx->core->todo, rx->todo);
	if (!rx->closed)
		open_ahead(rx);
	if (!queue_count(&rx->queue) && rx->out) {
		block_put(&rx->memory, rx->out);
		rx->out = NULL;
	}
	rx_receive(rx);
}

bool rx_open_now(struct rx *rx, struct slot *slot, uint8_t *record,
		 size_t len)
{
	struct keygen *gen = keygen_get(rx->gen);
	bool stays;

	*slot = (struct slot){ .gen = gen, .seq = rx->seq, .wire = record,
			       .wire_len = len,
			       .op.out = record + gen->format->prefix };
	describe(rx, slot);
	if (slot->seq == UINT64_MAX)
		fail(rx, -EKEYEXPIRED, ALERT_INTERNAL_ERROR);
	else if (dispatch_submit(&rx->core->dispatch, slot) != ENGINE_DONE ||
		 slot->op.result)
		fail_open(rx, slot);
	else
		rx->seq++;
	/* of what is looked at several times the first counts */
	stays = !rx->error &&
		(rx->looked_at ? !peel(rx, slot) : examine(rx, slot));
	if (!stays)
		slot->content_len = 0;
	keygen_put(gen);
	return !rx->error;
}

static bool has_content(const struct rx *rx)
{
	const struct slot *head = queue_head(&rx->queue);

	return head && head->examined && head->content_len;
}

bool rx_readable(const struct rx *rx)
{
	return (has_content(rx) || (rx->pending && !rx->closed)) && !rx->error;
}

static size_t read_line(struct rx *rx, uint8_t *buf, size_t len)
{
	size_t done = 0;

	while (done < len && has_content(rx) && !rx->error) {
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

size_t rx_read(struct rx *rx, uint8_t *buf, size_t len)
{
	size_t done, before;

	rx->budget = TURN_RECORDS;
	done = read_line(rx, buf, len);
	do {
		before = done;
		if (done == len || !rx->pending || !rx_readable(rx))
			break;
		done += feed_read(rx, buf + done, len - done, false);
		rx_advance(rx);
		done += read_line(rx, buf + done, len - done);
	} while (done > before);
	return done;
}

size_t rx_peek(struct rx *rx, uint8_t *buf, size_t len)
{
	const struct slot *head;

	if (rx_readable(rx) && !has_content(rx)) {
		size_t n = feed_read(rx, buf, len, true);

		rx_advance(rx);
		if (n)
			return n;
	}
	if (!has_content(rx) || rx->error)
		return 0;
	head = queue_head(&rx->queue);
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
	copy = block_carve(&rx->memory, &rx->out, len, pool_kind_for(len));
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
	rx->chunk = pool_take(&rx->memory, kind_for(sealed, len));
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

void rx_stop(struct rx *rx)
{
	rx->stopped = true;
	feed_leave(rx);
}

void rx_destroy(struct rx *rx)
{
	unsigned i;

	rx_stop(rx);
	for (i = 0; i < queue_count(&rx->queue); i++)
		abandon(rx, queue_at(&rx->queue, i));
	while (queue_count(&rx->queue))
		queue_pop(&rx->queue, &rx->memory);
	drop_chunk(rx);
	if (rx->out)
		block_put(&rx->memory, rx->out);
	rx->out = NULL;
	queue_destroy(&rx->queue);
	keygen_put(rx->gen);
	rx->gen = NULL;
}
