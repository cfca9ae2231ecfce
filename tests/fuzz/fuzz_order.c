/* SPDX-License-Identifier: MIT */
/*
 * Whatever order an engine completes records in, whatever it refuses, fails,
 * takes for forged or never finishes, both directions carry the same bytes as
 * if nothing had been.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "context/ctx.h"
#include "fuzz.h"

enum { MAX_DATA = 512 << 10 };

static struct {
	struct rig *r;
	struct tap tap;
	size_t sent, read;	/* of the peer's pattern */
	size_t written, flushed; /* of ours */
	uint8_t out[RECORD_WIRE_MAX + 64]; /* of a record, not yet delivered */
	size_t out_len, out_at;
} f;

/* The socket may take a part only; the rest of it goes before the next. */
static bool deliver(void)
{
	ssize_t n = send(f.r->w.fd, f.out + f.out_at, f.out_len - f.out_at,
			 MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n > 0)
		f.out_at += (size_t)n;
	return f.out_at == f.out_len;
}

static void peer_sends(size_t len)
{
	static uint8_t data[RECORD_PLAIN_MAX];

	if (f.sent > MAX_DATA || !deliver())
		return;
	pattern_fill(data, f.sent, len);
	f.out_at = 0;
	f.out_len = wire_seal(&f.r->w, RECORD_DATA, data, len, 0, f.out);
	f.sent += len;
	deliver();
}

static void we_read(size_t len)
{
	static uint8_t buf[RECORD_PLAIN_MAX * 2];
	ssize_t n = tls_read(f.r->w.conn, buf, len);

	require(n == -EAGAIN || (n >= 0 && n <= (ssize_t)len));
	if (n <= 0)
		return;
	require(f.read + (size_t)n <= f.sent);
	pattern_check(buf, f.read, (size_t)n);
	f.read += (size_t)n;
}

static void we_write(size_t len, unsigned flags)
{
	static uint8_t buf[RECORD_PLAIN_MAX * 3];
	ssize_t n;

	if (f.written > MAX_DATA)
		return;
	pattern_fill(buf, f.written, len);
	n = tls_send(f.r->w.conn, buf, len, flags);
	require(n == -EAGAIN || (n >= 0 && n <= (ssize_t)len));
	if (n > 0)
		f.written += (size_t)n;
}

static void update_keys(bool ask)
{
	if (rig_is_tls12(f.r))
		return;
	require(tls_conn_update_keys(f.r->w.conn,
				     ask ? TLS_UPDATE_REQUESTED : 0) == 0);
}

/* As many as one likes, if there is data between them. */
static void peer_updates_keys(bool ask)
{
	const uint8_t message[] = { MESSAGE_KEY_UPDATE, 0, 0, 1, ask };

	if (rig_is_tls12(f.r) || !f.sent || !deliver())
		return;
	f.out_at = 0;
	f.out_len = wire_seal(&f.r->w, RECORD_HANDSHAKE, message,
			      sizeof(message), 0, f.out);
	wire_next_keys(&f.r->w);
	if (deliver())
		peer_sends(1);
}

static void complete(uint8_t which, enum fake_outcome how)
{
	unsigned n = fake_pending(f.r->fake);

	if (n)
		fake_complete(f.r->fake, which % n, how);
}

/* What is in flight is overdue; a driver that clings goes on writing to it. */
static void expire(void)
{
	struct dispatch *d = &f.r->w.ctx->core.dispatch;
	uint64_t deadline = d->deadline;

	d->deadline = 0;
	tls_context_process(f.r->w.ctx);
	d->deadline = deadline;
	fake_scribble(f.r->fake);
}

/* The engine has been given a rest: that is over. */
static void recover(void)
{
	f.r->w.conn->account.health = (struct health){ 0 };
	f.r->w.ctx->core.dispatch.health = (struct health){ 0 };
}

static void step(struct input *in)
{
	uint8_t op = take_byte(in);

	switch (op % 12) {
	case 0:
		we_write(1 + take_byte(in), op & 16 ? TLS_MORE : 0);
		break;
	case 1:
		we_write(1 + take_number(in, 3 * RECORD_PLAIN_MAX - 1), 0);
		break;
	case 2:
		if (op & 16)
			peer_updates_keys(op & 32);
		else
			peer_sends(take_byte(in));
		break;
	case 3:
		peer_sends(take_number(in, RECORD_PLAIN_MAX));
		break;
	case 4:
	case 5:
	case 6:
		complete(take_byte(in), FAKE_OK);
		break;
	case 7:
		op = take_byte(in);
		complete(op >> 2, op & 3);
		break;
	case 8:
		fake_refuse(f.r->fake, take_byte(in) & 63);
		break;
	case 9:
		we_read(1 + take_number(in, 2 * RECORD_PLAIN_MAX - 1));
		break;
	case 10:
		require(tls_context_process(f.r->w.ctx) == 0);
		wire_tap(&f.r->w, &f.tap);
		break;
	default:
		op = take_byte(in);
		if (op & 4)
			update_keys(op & 8);
		else if (op & 1)
			recover();
		else if (op & 2)
			expire();
		else
			require(tls_flush(f.r->w.conn) >= 0);
	}
}

static void finish(void)
{
	int idle = 0;

	while (idle < 500) {
		size_t before = f.read + f.tap.data + f.out_at;

		deliver();
		require(tls_flush(f.r->w.conn) >= 0);
		rig_settle(f.r);
		we_read(RECORD_PLAIN_MAX);
		wire_tap(&f.r->w, &f.tap);
		fake_scribble(f.r->fake);
		if (f.read + f.tap.data + f.out_at > before)
			idle = 0;
		else if (f.read == f.sent && f.tap.data == f.written)
			break;
		else
			rig_rest(idle++);
	}
	require(f.read == f.sent);
	require(f.tap.data == f.written);
	require(!*tls_conn_error(f.r->w.conn));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint8_t first = take_byte(&in);

	memset(&f, 0, sizeof(f));
	f.r = rig_open(1 | first);
	/* parked memory stays so: a context that had some is not used again */
	if (first & 1)
		fake_cling(f.r->fake);
	while (in.left)
		step(&in);
	finish();
	free(f.tap.bytes);
	rig_close(f.r);
	if (first & 1)
		rig_discard(f.r);
	return 0;
}
