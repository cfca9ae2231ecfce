/* SPDX-License-Identifier: MIT */
/*
 * A connection of OpenSSL's whose bytes arrive in arbitrary pieces is handed
 * over at arbitrary moments: then the streams go on to the byte, or the
 * hand-over is declined and the SSL goes on instead.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "fuzz.h"
#include "tls_pair.h"

enum { OURS, PEER, MAX_DATA = 64 << 10 };

static struct tls_context *ctx;
static SSL_CTX *sctx, *cctx;

static struct {
	struct tls_pair pair; /* with a relay between the ends */
	SSL *ssl, *peer;
	struct tls_conn *conn; /* that ssl became */
	size_t put[2], got[2]; /* of each end's pattern, by who sent it */
	bool ready[2];	       /* the handshake is over */
} f;

static void prepare(SSL_CTX *ssl_ctx)
{
	require(tls_handoff_prepare(ssl_ctx) == 0);
}

/* Certificates take time: these contexts are kept. */
static void prepare_contexts(void)
{
	const struct tls_pair_options options = {
		.unix_sockets = true,
		.prepare_ctx = prepare,
	};
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_pair pair;

	if (ctx)
		return;
	config.kind = TLS_CONTEXT_LOOP;
	config.engine = TLS_ENGINE_CPU;
	require(tls_context_new(&ctx, &config) == 0);
	require(tls_pair_open(&pair, &options) == 0);
	SSL_CTX_up_ref(pair.sctx);
	SSL_CTX_up_ref(pair.cctx);
	sctx = pair.sctx;
	cctx = pair.cctx;
	tls_pair_free(&pair);
}

static void speak_tls12(SSL *ssl)
{
	SSL_set_min_proto_version(ssl, TLS1_2_VERSION);
	SSL_set_max_proto_version(ssl, TLS1_2_VERSION);
}

static void start_pair(uint8_t shape)
{
	struct tls_pair_options options = {
		.unix_sockets = true,
		.trickle = 1,
		.sctx = sctx,
		.cctx = cctx,
	};

	require(tls_pair_open(&f.pair, &options) == 0);
	f.ssl = shape & 1 ? f.pair.client : f.pair.server;
	f.peer = shape & 1 ? f.pair.server : f.pair.client;
	SSL_set_num_tickets(f.pair.server, shape >> 1 & 3);
	SSL_set_read_ahead(f.ssl, shape >> 3 & 1);
	SSL_set_mode(f.ssl, SSL_MODE_ENABLE_PARTIAL_WRITE |
				    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_set_mode(f.peer, SSL_MODE_ENABLE_PARTIAL_WRITE |
				     SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	if (shape & 16)
		SSL_set_ciphersuites(f.pair.client,
				     "TLS_CHACHA20_POLY1305_SHA256");
	if (shape & 32) {
		speak_tls12(f.pair.client);
		speak_tls12(f.pair.server);
	}
}

/* ---- Steps ------------------------------------------------------------- */

static void carry(bool to_ours, size_t most)
{
	bool to_server = to_ours == (f.ssl == f.pair.server);
	int from = f.pair.relay[to_server], to = f.pair.relay[!to_server];
	static char buf[65536];
	ssize_t n;

	/* relay[0] is towards the server */
	n = recv(from, buf, most < sizeof(buf) ? most : sizeof(buf),
		 MSG_DONTWAIT | MSG_PEEK);
	if (n > 0)
		n = send(to, buf, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n > 0)
		require(recv(from, buf, (size_t)n, 0) == n);
}

static bool expected(SSL *ssl, int ret)
{
	int error = SSL_get_error(ssl, ret);

	return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
}

static void shake(int end)
{
	SSL *ssl = end == OURS ? f.ssl : f.peer;
	int ret;

	if (f.ready[end])
		return;
	ret = SSL_do_handshake(ssl);
	require(ret == 1 || expected(ssl, ret));
	f.ready[end] = ret == 1;
}

static void put(int end, size_t len)
{
	static uint8_t buf[8192];
	ssize_t n;

	if (!f.ready[end] || f.put[end] > MAX_DATA)
		return;
	pattern_fill(buf, f.put[end] + (size_t)end * 1000, len);
	if (end == OURS && f.conn) {
		n = tls_write(f.conn, buf, len);
		require(n > 0 || n == -EAGAIN);
	} else {
		SSL *ssl = end == OURS ? f.ssl : f.peer;

		n = SSL_write(ssl, buf, (int)len);
		require(n > 0 || expected(ssl, (int)n));
	}
	if (n > 0)
		f.put[end] += (size_t)n;
}

static void get(int end, size_t len)
{
	static uint8_t buf[8192];
	ssize_t n;

	if (!f.ready[end])
		return;
	if (end == OURS && f.conn) {
		n = tls_read(f.conn, buf, len);
		if (n <= 0 && n != -EAGAIN)
			fprintf(stderr, "%s\n", tls_conn_error(f.conn));
		require(n > 0 || n == -EAGAIN);
	} else {
		SSL *ssl = end == OURS ? f.ssl : f.peer;

		n = SSL_read(ssl, buf, (int)len);
		require(n > 0 || expected(ssl, (int)n));
	}
	if (n <= 0)
		return;
	require(f.got[!end] + (size_t)n <= f.put[!end]);
	pattern_check(buf, f.got[!end] + (size_t)!end * 1000, (size_t)n);
	f.got[!end] += (size_t)n;
}

/* Of either end, whoever has it; the answer takes its own way. */
static void update_keys(int end, bool ask)
{
	SSL *ssl = end == OURS ? f.ssl : f.peer;

	if (!f.ready[end])
		return;
	if (ssl && SSL_version(ssl) == TLS1_3_VERSION)
		SSL_key_update(ssl, ask ? SSL_KEY_UPDATE_REQUESTED :
					  SSL_KEY_UPDATE_NOT_REQUESTED);
	else if (!ssl && SSL_version(f.peer) == TLS1_3_VERSION)
		require(tls_conn_update_keys(
				f.conn, ask ? TLS_UPDATE_REQUESTED : 0) == 0);
	/* they may be many, but not with nothing between them */
	put(end, 1);
}

static void hand_over(void)
{
	int ret;

	if (f.conn)
		return;
	ret = tls_handoff(&f.conn, ctx, f.ssl);
	require(ret == 0 || *tls_last_error());
	require(ret == 0 || !f.conn);
	if (ret == 0) {
		require(f.ready[OURS]);
		SSL_free(f.ssl);
		f.ssl = NULL;
		if (f.peer == f.pair.server)
			f.pair.client = NULL;
		else
			f.pair.server = NULL;
	}
}

static void step(struct input *in)
{
	uint8_t op = take_byte(in);

	switch (op % 12) {
	case 0:
	case 1:
		carry(op & 1, 1 + take_byte(in));
		break;
	case 2:
	case 3:
		carry(op & 1, 65536);
		break;
	case 4:
	case 5:
		shake(op & 1);
		break;
	case 6:
	case 7:
		put(op & 1, 1 + take_number(in, 8191));
		break;
	case 8:
	case 9:
		get(op & 1, 1 + take_number(in, 8191));
		break;
	case 10:
		hand_over();
		break;
	default:
		if (op & 16)
			update_keys(op & 32 ? OURS : PEER, op & 64);
		else
			require(tls_context_process(ctx) == 0);
	}
}

/* ---- The end of it ----------------------------------------------------- */

static void move_all(void)
{
	int idle;

	for (idle = 0; idle < 500; idle++) {
		size_t before = f.got[0] + f.got[1];

		shake(OURS);
		shake(PEER);
		carry(true, 65536);
		carry(false, 65536);
		get(OURS, 8192);
		get(PEER, 8192);
		if (f.conn)
			require(tls_flush(f.conn) >= 0);
		if (f.got[0] + f.got[1] > before)
			idle = 0;
		else if (idle > 10 && f.ready[OURS] && f.ready[PEER] &&
			 f.got[OURS] == f.put[OURS] &&
			 f.got[PEER] == f.put[PEER])
			break;
		rig_rest(idle);
	}
	require(f.ready[OURS] && f.ready[PEER]);
	require(f.got[OURS] == f.put[OURS]);
	require(f.got[PEER] == f.put[PEER]);
}

static void finish(void)
{
	move_all();
	put(OURS, 100);
	put(PEER, 100);
	move_all();
	/* with everything read nothing is in the way any more */
	hand_over();
	put(OURS, 100);
	put(PEER, 100);
	move_all();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };

	prepare_contexts();
	memset(&f, 0, sizeof(f));
	start_pair(take_byte(&in));
	while (in.left)
		step(&in);
	finish();
	if (f.conn)
		tls_close(f.conn, 0);
	tls_pair_free(&f.pair);
	return 0;
}
