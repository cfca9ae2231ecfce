/* SPDX-License-Identifier: MIT */
#include "conn/feed.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "conn/rx.h"

/*
 * Records without data that one call looks at, and connections that one round
 * looks for parts of.
 */
enum { CALL_RECORDS = 32, LOOK_CONNS = 256, LEAST_BUFFERS = 2 };

/* ---- Buffers ----------------------------------------------------------- */

static bool lend(struct core *core)
{
	struct feed *feed = &core->feed;
	struct block *b;
	unsigned i;

	if (!feed->spare_count)
		return false;
	b = pool_lend(&core->rx_pool);
	if (!b)
		return false;
	i = feed->spare[--feed->spare_count];
	if (block_is_warm(b))
		feed->warm++;
	feed->lent[i] = b;
	feed->lent_count++;
	ring_pool_add(core->ring, b->data, block_size(b), (int)i);
	return true;
}

bool feed_has_buffer(struct core *core)
{
	return core->feed.lent_count > core->feed.claims || lend(core);
}

struct block *feed_buffer(struct core *core, unsigned buffer)
{
	struct feed *feed = &core->feed;
	struct block *b = feed->lent[buffer];

	if (block_is_warm(b))
		feed->warm--;
	block_warm(b);
	feed->lent[buffer] = NULL;
	feed->lent_count--;
	feed->used++;
	return b;
}

void feed_return(struct core *core, unsigned buffer, struct block *block)
{
	struct feed *feed = &core->feed;

	if (block_is_warm(block))
		feed->warm++;
	feed->lent[buffer] = block;
	feed->lent_count++;
	ring_pool_add(core->ring, block->data, block_size(block), (int)buffer);
}

void feed_replace(struct core *core, unsigned buffer)
{
	struct feed *feed = &core->feed;

	feed->spare[feed->spare_count++] = (uint16_t)buffer;
	lend(core);
}

/* One that was asked back to have its pages given up. */
static void drawn(struct ring_op *op, int result, int buffer)
{
	struct feed *feed = container_of(op, struct feed, draw_op);
	struct core *core = container_of(feed, struct core, feed);
	struct block *b;

	(void)result;
	feed->drawn--;
	if (buffer < 0)
		return;
	b = feed_buffer(core, (unsigned)buffer);
	feed->used--;
	block_cool(b);
	feed_return(core, (unsigned)buffer, b);
}

bool feed_begin(struct core *core, size_t memory)
{
	struct feed *feed = &core->feed;
	size_t n = memory / 4 / POOL_SLAB;

	list_init(&feed->hungry);
	list_init(&feed->starved);
	list_init(&feed->parts);
	feed->draw_op.done = drawn;
	if (n < LEAST_BUFFERS)
		n = LEAST_BUFFERS;
	n = min_size(n, RING_BUFFERS);
	while (feed->spare_count < n) {
		feed->spare[feed->spare_count] =
			(uint16_t)(n - 1 - feed->spare_count);
		feed->spare_count++;
	}
	feed->room = pool_lend(&core->rx_pool);
	while (feed->room && lend(core))
		;
	return feed->lent_count > 0;
}

void feed_refill(struct core *core)
{
	struct feed *feed = &core->feed;
	unsigned i;

	feed->drawn = 0;
	for (i = 0; i < RING_BUFFERS; i++)
		if (feed->lent[i])
			ring_pool_add(core->ring, feed->lent[i]->data,
				      block_size(feed->lent[i]), (int)i);
}

/* ---- Turns ------------------------------------------------------------- */

void feed_wait(struct rx *rx)
{
	if (!rx->stopped)
		list_move_tail(&rx->core->feed.hungry, &rx->turn);
}

void feed_wait_part(struct rx *rx)
{
	if (rx->stopped)
		return;
	rx->pending = false;
	list_move_tail(&rx->core->feed.parts, &rx->turn);
}

void feed_leave(struct rx *rx)
{
	rx->pending = false;
	list_remove(&rx->turn);
}

void feed_served(struct rx *rx)
{
	if (rx->claims)
		rx->core->feed.claims--;
	rx->claims = false;
}

static void serve(struct rx *rx)
{
	feed_leave(rx);
	rx->claims = true;
	rx->core->feed.claims++;
	rx_receive(rx);
	if (!rx->receiving)
		feed_served(rx);
}

/*
 * What there is of it is to be read on demand. With a part in hand no buffer
 * helps: memory for the whole is looked for like the rest.
 */
static void starve(struct rx *rx)
{
	struct feed *feed = &rx->core->feed;

	rx->pending = true;
	list_move_tail(rx->chunk ? &feed->parts : &feed->starved, &rx->turn);
	list_add_once(&rx->core->todo, rx->todo);
}

static struct rx *next_turn(struct feed *feed)
{
	struct list *from = list_empty(&feed->starved) ? &feed->hungry :
							 &feed->starved;

	return list_empty(from) ? NULL :
				  container_of(from->next, struct rx, turn);
}

void feed_serve(struct core *core)
{
	struct feed *feed = &core->feed;
	struct rx *rx;

	while ((rx = next_turn(feed)) && feed_has_buffer(core))
		serve(rx);
	if (feed->lent_count)
		return;
	while (!list_empty(&feed->hungry))
		starve(container_of(feed->hungry.next, struct rx, turn));
}

/* ---- On demand --------------------------------------------------------- */

/* Has the peer ended the stream, whatever is still to be read of it? */
static bool has_ended(const struct rx *rx)
{
	struct pollfd p = { .fd = rx->fd, .events = POLLRDHUP };

	return poll(&p, 1, 0) > 0;
}

/*
 * The record in front, in room: what is kept of it, then what the socket has.
 * Returns how many bytes that are, 0 where reading is not to go on.
 */
static size_t look(struct rx *rx, uint8_t *room)
{
	size_t have = rx->filled - rx->parsed;
	ssize_t n;

	if (have)
		memcpy(room, rx->chunk->data + rx->parsed, have);
	n = recv(rx->fd, room + have, RECORD_WIRE_MAX - have,
		 MSG_PEEK | MSG_DONTWAIT);
	if (n > 0)
		return have + (size_t)n;
	feed_leave(rx);
	if (n == 0 || (errno != EAGAIN && errno != EINTR))
		rx_ended(rx, n ? -errno : 0);
	return 0;
}

/* Room has it already: the socket need not keep it. */
static void consume(struct rx *rx, uint8_t *room, size_t len)
{
	size_t kept = rx->filled - rx->parsed;

	rx->account->stats.received_bytes += len - kept;
	while (kept < len) {
		ssize_t n = recv(rx->fd, room + kept, len - kept,
				 MSG_DONTWAIT);

		if (n <= 0)
			break; /* cannot be: it was there */
		kept += (size_t)n;
	}
}

/* Is there a block for it after all? Then it goes the ordinary way. */
static bool keep(struct rx *rx, uint8_t *room, size_t len, enum pool_kind kind)
{
	struct block *b = NULL;

	if (rx->looked_at)
		return false;
	if (rx->core->dispatch.cpu)
		b = pool_take(&rx->memory, kind);
	else
		b = pool_take_surely(&rx->memory, kind);
	if (!b)
		return false;
	consume(rx, room, len);
	memcpy(b->data, room, len);
	feed_leave(rx);
	rx_begin(rx, b, len);
	return true;
}

/* The record is not whole, nor will it ever be if the peer has ended. */
static void meet_part(struct rx *rx, uint8_t *room, size_t have, size_t len)
{
	if (has_ended(rx) && look(rx, room) == have) {
		feed_leave(rx);
		rx_ended(rx, 0);
	} else if (!rx->eof && !keep(rx, room, have, pool_kind_for(len))) {
		rx->wanted = len - (rx->filled - rx->parsed);
		feed_wait_part(rx);
	}
}

/* How long it is; 0 where reading is not to go on. */
static size_t length(struct rx *rx, uint8_t *room, size_t have)
{
	size_t len = RECORD_HEADER;
	ssize_t body;

	if (have >= RECORD_HEADER) {
		body = record_parse_header(rx->gen->format, room,
					   &rx->parse_alert);
		if (body < 0) {
			feed_leave(rx);
			rx->parse_error = (int)body;
			return 0;
		}
		len += (size_t)body;
	}
	if (have > RECORD_HEADER && have >= len)
		return len;
	meet_part(rx, room, have, len);
	return 0;
}

/* Opened in place: how many bytes of it the caller gets. */
static size_t open_in(struct rx *rx, uint8_t *room, size_t len, uint8_t *buf,
		      size_t most, bool peek)
{
	struct slot slot;
	size_t n = 0;

	if (!rx_open_now(rx, &slot, room, len))
		return 0;
	if (slot.content_len) {
		n = min_size(most, slot.content_len - rx->delivered);
		memcpy(buf, slot.content + rx->delivered, n);
		rx->delivered += peek ? 0 : n;
		if (rx->delivered < slot.content_len) {
			rx->looked_at = true;
			rx->seq--; /* it is still to come */
			list_remove(&rx->turn);
			return n;
		}
	}
	rx->delivered = 0;
	rx->looked_at = false;
	consume(rx, room, len);
	rx_begin(rx, NULL, 0);
	if (rx->pending && !rx->stopped)
		list_add_once(&rx->core->feed.starved, &rx->turn);
	return n;
}

size_t feed_read(struct rx *rx, uint8_t *buf, size_t len, bool peek)
{
	uint8_t *room = rx->core->feed.room->data;
	size_t n = 0;
	int i;

	for (i = 0; i < CALL_RECORDS && rx->pending && !n; i++) {
		size_t have = look(rx, room);
		size_t record = have ? length(rx, room, have) : 0;

		if (record && !keep(rx, room, record, pool_kind_for(record)))
			n = open_in(rx, room, record, buf, len, peek);
		if (rx->error || rx->closed)
			break;
	}
	return n;
}

/* ---- Now and then ------------------------------------------------------ */

/* Whether the whole of it has come, or memory; or it never will. */
static void look_for_rest(struct rx *rx)
{
	uint8_t *room = rx->core->feed.room->data;
	int there = 0;
	size_t have;

	if (rx->pending) {
		starve(rx); /* it is the reader's turn */
		return;
	}
	ioctl(rx->fd, FIONREAD, &there);
	if ((size_t)there < rx->wanted && !has_ended(rx) &&
	    !pool_may_take(&rx->memory, POOL_RECORD)) {
		feed_wait_part(rx);
		return;
	}
	have = look(rx, room);
	if (have && length(rx, room, have))
		starve(rx);
	else
		list_add_once(&rx->core->todo, rx->todo);
}

void feed_look(struct core *core)
{
	struct feed *feed = &core->feed;
	struct list parts, *node;
	int i;

	list_take_all(&parts, &feed->parts);
	for (i = 0; i < LOOK_CONNS && (node = list_take(&parts)); i++)
		look_for_rest(container_of(node, struct rx, turn));
	while ((node = list_take(&feed->parts)))
		list_move_tail(&parts, node);
	list_take_all(&feed->parts, &parts);
}

/*
 * Buffers that were used have pages: few, or many if they were filled. When no
 * more are, they are to come back for those to be given up, in drawn().
 */
bool feed_trim(struct core *core, uint64_t now)
{
	struct feed *feed = &core->feed;

	if (now - feed->trimmed < POOL_TRIM_NS)
		return feed->warm > 0;
	feed->trimmed = now;
	if (feed->warm && !feed->drawn &&
	    (!feed->used || (!feed->filled && feed->was_filled))) {
		int n = ring_pool_draw(core->ring, feed->lent_count,
				       &feed->draw_op);

		feed->drawn = n > 0 ? (unsigned)n : 0;
		feed->was_filled = false;
	}
	feed->was_filled |= feed->filled > 0;
	feed->filled = feed->used = 0;
	return feed->warm > 0;
}
