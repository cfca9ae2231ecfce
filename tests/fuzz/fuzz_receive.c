/* SPDX-License-Identifier: MIT */
/*
 * Whatever a peer sends that has the keys, or has not: what is read is what it
 * sealed as data up to its first fault, and not a byte more; the fault is
 * reported and stays; what we wrote arrives.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "fuzz.h"

enum {
	MAX_DATA = 256 << 10,
	MAX_WIRE = 2 * MAX_DATA,
	ANY = 1,	/* an error of whatever sort */
	PATIENCE = 32,	/* with what has no effect, without data between */
};

/* What is to come of it, known from what was sealed. */
struct model {
	size_t data;  /* bytes of the pattern that are to be read */
	int end;      /* then: -errno, ANY, or 0 while there is no fault */
	bool closed;  /* close_notify: nothing after it is looked at */
	bool client, tls12;
	bool update; /* the record that is sealed ends with a KeyUpdate */
	int trifles;
	bool updated; /* ... KeyUpdates among them, which may not count */
	uint8_t message[4];
	unsigned have; /* of a message's header */
	size_t left;   /* of its body */
};

static struct {
	struct rig *r;
	struct model m;
	struct tap tap;
	size_t read, written;
	int error; /* once a call has returned one */
	uint8_t out[MAX_WIRE]; /* sealed, not yet delivered */
	size_t out_len, out_at;
} f;

static bool over(const struct model *m)
{
	return m->end || m->closed;
}

static void fault(struct model *m, int error)
{
	if (!over(m))
		m->end = error;
}

static bool in_message(const struct model *m)
{
	return m->have || m->left;
}

static void trifle(struct model *m)
{
	if (++m->trifles > PATIENCE)
		fault(m, -EPROTO);
}

/* The header of a message is there. */
static void model_message(struct model *m)
{
	uint8_t type = m->message[0];

	if (m->tls12 && type == (m->client ? MESSAGE_HELLO_REQUEST :
					     MESSAGE_CLIENT_HELLO))
		trifle(m);
	else if (m->tls12)
		fault(m, -EPROTO);
	else if (type == MESSAGE_KEY_UPDATE ? m->left != 1 :
		 type != MESSAGE_NEW_SESSION_TICKET || !m->client ||
		 m->left > MESSAGE_TICKET_MAX)
		fault(m, -EPROTO);
	else if (type == MESSAGE_NEW_SESSION_TICKET)
		trifle(m);
}

static void model_handshake(struct model *m, const uint8_t *at, size_t len)
{
	if (!len)
		fault(m, -EPROTO);
	for (; len && !over(m); at++, len--) {
		if (m->left) {
			m->left--;
			if (m->message[0] != MESSAGE_KEY_UPDATE)
				continue;
			if (*at > UPDATE_REQUESTED || len > 1)
				fault(m, -EPROTO);
			trifle(m);
			m->updated = true;
			m->update = !over(m);
			continue;
		}
		m->message[m->have++] = *at;
		if (m->have < 4)
			continue;
		m->have = 0;
		m->left = (size_t)m->message[1] << 16 |
			  (size_t)m->message[2] << 8 | m->message[3];
		model_message(m);
	}
}

static void model_alert(struct model *m, const uint8_t *at, size_t len)
{
	bool closes = len == 2 && at[1] == ALERT_CLOSE_NOTIFY;
	bool warns = len == 2 && !closes &&
		     (m->tls12 ? at[0] == ALERT_LEVEL_WARNING :
				 at[1] == ALERT_USER_CANCELED);

	if ((!closes && !warns) || (in_message(m) && !m->tls12))
		fault(m, -EPROTO);
	else if (warns && !over(m))
		trifle(m);
	else if (!over(m))
		m->closed = true;
}

static void model_data(struct model *m, size_t len)
{
	if (in_message(m))
		fault(m, -EPROTO);
	else if (!len)
		trifle(m);
	if (over(m))
		return;
	m->data += len;
	if (len) {
		m->trifles = 0;
		m->updated = false;
	}
}

static void model_record(struct model *m, uint8_t type, const uint8_t *at,
			 size_t len)
{
	m->update = false;
	if (len > RECORD_PLAIN_MAX)
		fault(m, -EMSGSIZE);
	else if (type == RECORD_ALERT)
		model_alert(m, at, len);
	else if (type == RECORD_HANDSHAKE)
		model_handshake(m, at, len);
	else if (type == RECORD_DATA)
		model_data(m, len);
	else
		fault(m, -EPROTO);
	if (m->update)
		wire_next_keys(&f.r->w);
}

/* ---- The peer ---------------------------------------------------------- */

static size_t seal(uint8_t type, const uint8_t *at, size_t len, size_t pad)
{
	size_t n;

	if (f.out_len + RECORD_WIRE_MAX + 64 > sizeof(f.out))
		return 0;
	n = wire_seal(&f.r->w, type, at, len, pad, f.out + f.out_len);
	f.out_len += n;
	return n;
}

/* Whether it was asked for, and so does not count, is not modelled. */
static void reassure(void)
{
	uint8_t byte = pattern_byte(f.m.data);

	if ((f.m.trifles == PATIENCE || f.m.updated) && !f.m.tls12 &&
	    !in_message(&f.m) && seal(RECORD_DATA, &byte, 1, 0))
		model_record(&f.m, RECORD_DATA, &byte, 1);
}

/* Data goes on where the data before it ended; *len bytes of it. */
static size_t seal_data(struct input *in, size_t *len)
{
	static uint8_t data[RECORD_PLAIN_MAX + 1];
	uint8_t shape = take_byte(in);
	size_t pad;

	*len = shape & 1 ? take_number(in, RECORD_PLAIN_MAX + 1) :
			   take_byte(in);
	pad = shape & 2 ? take_byte(in) : 0;
	if (*len + pad > RECORD_PLAIN_MAX + 1 || f.m.data > MAX_DATA)
		return 0;
	if (!*len)
		reassure();
	pattern_fill(data, f.m.data, *len);
	return seal(RECORD_DATA, data, *len, pad);
}

static void send_data(struct input *in)
{
	size_t len;

	if (seal_data(in, &len))
		model_record(&f.m, RECORD_DATA, NULL, len);
}

static void send_typed(struct input *in, uint8_t type)
{
	const uint8_t *at;
	size_t len = take_bytes(in, &at, 255), inner = len;
	uint8_t real = type;

	while (!f.m.tls12 && !real && inner) /* a type of 0 is padding */
		real = at[--inner];
	if (real == RECORD_DATA)
		return; /* that would not be the pattern */
	reassure();
	if (seal(type, at, len, 0))
		model_record(&f.m, real, at, inner);
}

static void send_update(bool ask)
{
	const uint8_t message[] = { MESSAGE_KEY_UPDATE, 0, 0, 1, ask };

	reassure();
	if (seal(RECORD_HANDSHAKE, message, sizeof(message), 0))
		model_record(&f.m, RECORD_HANDSHAKE, message, sizeof(message));
}

static void send_raw(struct input *in)
{
	const uint8_t *at;
	size_t len = take_bytes(in, &at, 255);

	if (f.out_len + len > sizeof(f.out))
		return;
	memcpy(f.out + f.out_len, at, len);
	f.out_len += len;
	if (len)
		fault(&f.m, ANY);
}

static void send_corrupt(struct input *in)
{
	size_t len, n = seal_data(in, &len), at;

	if (!n)
		return;
	at = take_number(in, n - 1);
	f.out[f.out_len - n + at] ^= (uint8_t)(1u << (take_byte(in) & 7));
	fault(&f.m, at < RECORD_HEADER ? ANY : -EBADMSG);
}

/* A record left out, or sent twice: sequence numbers are no longer in step. */
static void skip_or_repeat(struct input *in)
{
	if (take_byte(in) & 1)
		f.r->w.seal_seq++;
	else if (f.r->w.seal_seq)
		f.r->w.seal_seq--;
	else
		return;
	if (seal(RECORD_DATA, (const uint8_t *)"again", 5, 0))
		fault(&f.m, -EBADMSG);
}

/* ---- Our end ----------------------------------------------------------- */

static void note_error(ssize_t n)
{
	require(!f.error || n == f.error); /* errors stick */
	if (n < 0 && n != -EAGAIN) {
		require(*tls_conn_error(f.r->w.conn));
		f.error = (int)n;
	}
}

static ssize_t read_some(size_t len)
{
	static uint8_t buf[4096];
	ssize_t n = tls_read(f.r->w.conn, buf, len);

	require(n <= (ssize_t)len);
	note_error(n);
	if (n <= 0)
		return n;
	require(f.read + (size_t)n <= f.m.data);
	pattern_check(buf, f.read, (size_t)n);
	f.read += (size_t)n;
	return n;
}

static void write_some(size_t len)
{
	static uint8_t buf[4097];
	ssize_t n;

	pattern_fill(buf, f.written, ++len);
	n = tls_send(f.r->w.conn, buf, len, len & 1 ? TLS_MORE : 0);
	note_error(n);
	if (n > 0)
		f.written += (size_t)n;
}

static void update_keys(bool ask)
{
	if (!f.m.tls12)
		note_error(tls_conn_update_keys(
			f.r->w.conn, ask ? TLS_UPDATE_REQUESTED : 0));
}

static void deliver(size_t most)
{
	size_t len = f.out_len - f.out_at;
	ssize_t n;

	if (len > most)
		len = most;
	n = send(f.r->w.fd, f.out + f.out_at, len,
		 MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n > 0)
		f.out_at += (size_t)n;
	require(tls_context_process(f.r->w.ctx) == 0);
}

static void complete(struct input *in)
{
	uint8_t how = take_byte(in);
	unsigned n = f.r->fake ? fake_pending(f.r->fake) : 0;

	if (n)
		fake_complete(f.r->fake, (how >> 2) % n, how & 3);
}

static void step(struct input *in)
{
	uint8_t op = take_byte(in);

	switch (op % 16) {
	case 0:
	case 1:
	case 2:
		send_data(in);
		break;
	case 3:
		send_typed(in, RECORD_HANDSHAKE);
		break;
	case 4:
		send_typed(in, RECORD_ALERT);
		break;
	case 5:
		send_typed(in, take_byte(in));
		break;
	case 6:
		send_raw(in);
		break;
	case 7:
		send_corrupt(in);
		break;
	case 8:
		skip_or_repeat(in);
		break;
	case 9:
	case 10:
		deliver(op & 16 ? MAX_WIRE : take_byte(in));
		break;
	case 11:
		read_some(1 + take_number(in, 4095));
		break;
	case 12:
		write_some(take_number(in, 4096));
		break;
	case 13:
		wire_tap(&f.r->w, &f.tap);
		break;
	case 14:
		complete(in);
		break;
	default:
		if (op & 16)
			send_update(op & 32);
		else
			update_keys(op & 32);
	}
}

/* ---- The end of it ----------------------------------------------------- */

static void deliver_the_rest(void)
{
	int idle = 0;

	while (f.out_at < f.out_len && idle < 100) {
		size_t before = f.out_at + f.read;

		deliver(MAX_WIRE);
		rig_settle(f.r);
		read_some(4096);
		idle = f.out_at + f.read > before ? 0 : idle + 1;
		rig_rest(idle);
	}
	/* nobody receives on after the end */
	require(f.out_at == f.out_len || f.error || f.m.closed);
}

static void finish(void)
{
	ssize_t n;

	deliver_the_rest();
	shutdown(f.r->w.fd, SHUT_WR);
	do {
		rig_settle(f.r);
		n = read_some(4096);
		wire_tap(&f.r->w, &f.tap);
	} while (n > 0 || n == -EAGAIN);
	require(f.read == f.m.data);
	if (f.m.end == ANY)
		require(n < 0);
	else if (f.m.end)
		require(n == f.m.end);
	else
		require(n == (f.m.closed ? 0 : -ENODATA));
	require(tls_read(f.r->w.conn, &n, 1) == f.error);
	if (f.error == -ENODATA) /* of reading alone */
		require(tls_conn_alert_sent(f.r->w.conn) == ALERT_NONE);
	else if (f.error)
		require(tls_write(f.r->w.conn, "x", 1) == f.error);
}

/* What was written has gone out before the alert, which comes once. */
static void check_sent(void)
{
	int alert = ALERT_NONE, turn;

	for (turn = 0; turn < 500; turn++) {
		tls_flush(f.r->w.conn);
		rig_settle(f.r);
		wire_tap(&f.r->w, &f.tap);
		alert = tls_conn_alert_sent(f.r->w.conn);
		if (f.tap.data == f.written && f.tap.alert == alert)
			break;
		rig_rest(turn);
	}
	require(f.tap.data == f.written);
	require(f.tap.alert == alert ||
		(f.m.tls12 && f.tap.alert == ALERT_NO_RENEGOTIATION));
	require(f.tap.opened == f.tap.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint8_t first = take_byte(&in);

	memset(&f, 0, offsetof(__typeof__(f), out));
	f.out_len = f.out_at = 0;
	f.tap.alert = ALERT_NONE;
	f.r = rig_open(first);
	f.m.client = first & 2;
	f.m.tls12 = rig_is_tls12(f.r);
	while (in.left)
		step(&in);
	finish();
	check_sent();
	free(f.tap.bytes);
	rig_close(f.r);
	return 0;
}
