/* SPDX-License-Identifier: MIT */
#include "wire.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "context/ctx_gate.h"
#include "evp_record.h"
#include "fake_engine.h"
#include "keys/keys.h"
#include "recorder.h"

static const uint8_t our_secret[CIPHER_SECRET_MAX] = "our application traffic "
						     "secret of this test";
static const uint8_t peer_secret[CIPHER_SECRET_MAX] = "the other end's "
						      "application secret";

/* ---- Sockets and patterns ---------------------------------------------- */

static void tcp_pair(int fd[2])
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	int one = 1;

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(listener, (void *)&addr, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (void *)&addr, &len), 0);
	fd[0] = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(fd[0], (void *)&addr, len), 0);
	fd[1] = accept(listener, NULL, NULL);
	assert_true(fd[1] >= 0);
	close(listener);
	setsockopt(fd[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd[1], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

void socket_pair(int fd[2], bool tcp)
{
	if (tcp)
		tcp_pair(fd);
	else
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
}

void set_blocking(int fd, bool blocking)
{
	int flags = fcntl(fd, F_GETFL);

	flags = blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK;
	assert_int_equal(fcntl(fd, F_SETFL, flags), 0);
}

int count_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 3; /* ".", ".." and the directory itself */
}

uint8_t pattern_byte(size_t i)
{
	return (uint8_t)(i * 2654435761u >> 13);
}

/*
 * The bytes come again after so many. Copied and compared as a whole, since
 * loops over them are most of what a program does under a sanitizer.
 */
enum { PERIOD = 1 << 21 };
static uint8_t pattern[PERIOD];

/* At once: no test is to find memory in use that was not before. */
__attribute__((constructor, no_sanitize("address", "thread", "undefined")))
static void make_pattern(void)
{
	size_t i;

	for (i = 0; i < PERIOD; i++)
		pattern[i] = (uint8_t)(i * 2654435761u >> 13);
}

/* How many bytes from there lie in one piece. */
static size_t piece(size_t from, size_t len)
{
	return min_size(len, PERIOD - from % PERIOD);
}

void pattern_fill(uint8_t *buf, size_t from, size_t len)
{
	while (len) {
		size_t n = piece(from, len);

		memcpy(buf, pattern + from % PERIOD, n);
		buf += n;
		from += n;
		len -= n;
	}
}

bool pattern_matches(const uint8_t *buf, size_t from, size_t len)
{
	while (len) {
		size_t n = piece(from, len);

		if (memcmp(buf, pattern + from % PERIOD, n) != 0)
			return false;
		buf += n;
		from += n;
		len -= n;
	}
	return true;
}

void pattern_check(const uint8_t *buf, size_t from, size_t len)
{
	size_t i;

	if (pattern_matches(buf, from, len))
		return;
	for (i = 0; i < len; i++)
		if (buf[i] != pattern_byte(from + i))
			fail_msg("byte %zu is wrong", from + i);
}

/* ---- The connection ---------------------------------------------------- */

static void put_engines(struct wire *w, const struct wire_options *o)
{
	struct dispatch *d = &w->ctx->core.dispatch;

	assert_int_equal(ctx_enter(w->ctx), 0); /* the worker is about */
	if (o->fake)
		d->kernel = fake_as_engine(o->fake);
	if (o->no_cpu)
		d->cpu = NULL;
	ctx_leave(w->ctx);
	if (o->not_recorded)
		return;
	w->recorder = recorder_new();
	recorder_attach(w->recorder, w->ctx);
}

static void make_context(struct wire *w, const struct wire_options *o)
{
	struct tls_config config = TLS_CONFIG_INIT;

	config.kind = o->kind;
	config.engine = o->driver ? TLS_ENGINE_AFALG : TLS_ENGINE_CPU;
	config.driver = o->driver;
	config.depth = o->depth;
	config.max_memory = o->max_memory;
	config.deadline_ms = o->deadline_ms;
	config.hybrid = o->hybrid;
	config.record_size = o->record_size;
	config.record_ramp = o->record_ramp;
	config.rekey_records = o->rekey_records;
	config.send_window = o->send_window;
	if (tls_context_new(&w->ctx, &config))
		fail_msg("%s", tls_last_error());
	put_engines(w, o);
}

/* What both ends are made of; with TLS 1.2 one master secret serves both. */
static struct tls_secrets secrets_of(const struct suite *suite, bool ours,
				     bool is_server)
{
	static const struct keys_tls12 tls12 = { "the master secret", "c", "s" };
	bool tls13 = suite->version == CIPHER_TLS13;

	return (struct tls_secrets){
		.size = sizeof(struct tls_secrets),
		.cipher_suite = suite->number,
		.secret_len = tls13 ? suite->digest_len : KEYS_MASTER,
		.tx_secret = ours ? our_secret : peer_secret,
		.rx_secret = ours ? peer_secret : our_secret,
		.master_secret = tls12.master,
		.client_random = tls12.client_random,
		.server_random = tls12.server_random,
		.is_server = is_server,
	};
}

static void make_test_keys(struct wire *w, const struct suite *suite,
			   const struct tls_secrets *s)
{
	struct keys_tls12 tls12;

	if (suite->version == CIPHER_TLS13) {
		assert_int_equal(keygen_new(&w->seal, suite, peer_secret), 0);
		assert_int_equal(keygen_new(&w->open, suite, our_secret), 0);
		return;
	}
	memcpy(tls12.master, s->master_secret, KEYS_MASTER);
	memcpy(tls12.client_random, s->client_random, KEYS_RANDOM);
	memcpy(tls12.server_random, s->server_random, KEYS_RANDOM);
	assert_int_equal(keygen_new_tls12(s->is_server ? &w->seal : &w->open,
					  s->is_server ? &w->open : &w->seal,
					  suite, &tls12), 0);
}

static void connect_to(struct wire *w, const struct wire_options *o)
{
	const struct suite *suite =
		suite_by_number(o->suite ? o->suite : TLS_AES_128_GCM);
	struct tls_secrets secrets = secrets_of(suite, true, !o->we_are_client);
	int fd[2];

	secrets.tx_seq = o->tx_seq;
	secrets.rx_seq = o->rx_seq;
	secrets.max_fragment = o->max_fragment;
	socket_pair(fd, o->tcp);
	w->conn_fd = fd[0];
	w->fd = fd[1];
	set_blocking(w->conn_fd, o->blocking);
	w->seal_seq = o->rx_seq;
	w->open_seq = o->tx_seq;
	make_test_keys(w, suite, &secrets);
	if (tls_handoff_secrets(&w->conn, w->ctx, w->conn_fd, &secrets))
		fail_msg("%s", tls_last_error());
}

static void disconnect(struct wire *w)
{
	keygen_put(w->seal);
	keygen_put(w->open);
	close(w->conn_fd);
	if (w->fd >= 0)
		close(w->fd);
}

struct tls_conn *wire_other_end(struct wire *w, struct tls_context *ctx,
				bool blocking)
{
	struct tls_secrets secrets =
		secrets_of(w->open->suite, false, !w->conn->is_server);
	struct tls_conn *conn;

	set_blocking(w->fd, blocking);
	if (tls_handoff_secrets(&conn, ctx, w->fd, &secrets))
		fail_msg("%s", tls_last_error());
	return conn;
}

void wire_new(struct wire *w, const struct wire_options *o)
{
	memset(w, 0, sizeof(*w));
	make_context(w, o);
	connect_to(w, o);
}

void wire_reopen(struct wire *w, const struct wire_options *o)
{
	assert_null(w->conn);
	disconnect(w);
	if (w->recorder)
		recorder_forget(w->recorder); /* the keys are the same */
	connect_to(w, o);
}

void wire_free(struct wire *w)
{
	if (w->conn)
		tls_close(w->conn, 0);
	tls_context_free(w->ctx);
	if (w->recorder)
		recorder_free(w->recorder);
	disconnect(w);
}

/* ---- Keys -------------------------------------------------------------- */

static void ratchet(struct keygen **gen, uint64_t *seq)
{
	struct keygen *next;

	assert_int_equal(keygen_next(&next, *gen), 0);
	keygen_put(*gen);
	*gen = next;
	*seq = 0;
}

void wire_next_keys(struct wire *w)
{
	ratchet(&w->seal, &w->seal_seq);
}

/* ---- Records ----------------------------------------------------------- */

size_t wire_seal(struct wire *w, uint8_t type, const void *content, size_t len,
		 size_t pad, uint8_t *out)
{
	const struct record_format *format = w->seal->format;
	uint8_t inner[RECORD_BODY_MAX + 64];
	size_t inner_len = len;

	assert_true(len + 1 + pad <= sizeof(inner));
	memset(inner, 0, len + 1 + pad);
	memcpy(inner, content, len);
	if (format->hides_type) {
		inner[len] = type;
		inner_len += 1 + pad;
	}
	return evp_seal(w->seal, w->seal_seq++, type, inner, inner_len, out);
}

void wire_send_raw(struct wire *w, const void *bytes, size_t len)
{
	assert_int_equal(send(w->fd, bytes, len, MSG_NOSIGNAL), len);
}

void wire_send(struct wire *w, uint8_t type, const void *content, size_t len)
{
	uint8_t record[RECORD_WIRE_MAX];

	wire_send_raw(w, record, wire_seal(w, type, content, len, 0, record));
}

ssize_t wire_open(struct wire *w, uint8_t *record, uint8_t *type,
		  uint8_t *content)
{
	ssize_t len = evp_open(w->open, w->open_seq++, record, content);
	const struct record_format *format = w->open->format;

	if (len < 0)
		fail_msg("record %d does not authenticate",
			 (int)w->open_seq - 1);
	w->inner_len = (size_t)len;
	len = record_content(format, record, content, (size_t)len,
			     RECORD_PLAIN_MAX, type);
	if (len == 5 && *type == RECORD_HANDSHAKE &&
	    content[0] == MESSAGE_KEY_UPDATE && format->hides_type)
		ratchet(&w->open, &w->open_seq);
	return len;
}

/*
 * What a shared ring completes for this thread cuts its system calls short,
 * MSG_WAITALL or not. Returns less than len at the end of the stream alone.
 */
static size_t receive_all(int fd, uint8_t *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = recv(fd, buf + done, len - done, MSG_WAITALL);

		if (n == 0 || (n < 0 && errno != EINTR))
			break;
		if (n > 0)
			done += (size_t)n;
	}
	return done;
}

ssize_t wire_receive(struct wire *w, uint8_t *type,
		     uint8_t content[RECORD_PLAIN_MAX + 256])
{
	uint8_t record[RECORD_WIRE_MAX];
	size_t len;

	if (receive_all(w->fd, record, RECORD_HEADER) != RECORD_HEADER)
		return -1;
	len = (size_t)record[3] << 8 | record[4];
	assert_in_range(len, RECORD_TAG, RECORD_BODY_MAX_TLS13);
	assert_int_equal(receive_all(w->fd, record + RECORD_HEADER, len), len);
	return wire_open(w, record, type, content);
}

/* ---- Everything that arrives ------------------------------------------- */

void wire_tap(struct wire *w, struct tap *tap)
{
	ssize_t n;

	for (;;) {
		if (tap->room - tap->len < 65536) {
			tap->room = tap->room * 2 + 65536;
			tap->bytes = realloc(tap->bytes, tap->room);
			assert_non_null(tap->bytes);
		}
		n = recv(w->fd, tap->bytes + tap->len, tap->room - tap->len,
			 MSG_DONTWAIT);
		if (n <= 0)
			break;
		tap->len += (size_t)n;
	}
	tap->ended = n == 0;
	while (tap->len - tap->opened >= RECORD_HEADER) {
		uint8_t *at = tap->bytes + tap->opened;
		size_t len = RECORD_HEADER + ((size_t)at[3] << 8 | at[4]);
		uint8_t content[RECORD_BODY_MAX];
		ssize_t plain;
		uint8_t type;

		if (tap->len - tap->opened < len)
			break;
		plain = wire_open(w, at, &type, content);
		tap->opened += len;
		tap->records++;
		tap->alert = type == RECORD_ALERT ? content[1] : ALERT_NONE;
		if (type != RECORD_DATA)
			continue;
		pattern_check(content, tap->data, (size_t)plain);
		tap->data += (size_t)plain;
	}
}

void wire_expect_alert(struct wire *w, int description)
{
	uint8_t content[RECORD_PLAIN_MAX + 256], type;

	assert_int_equal(wire_receive(w, &type, content), 2);
	assert_int_equal(type, RECORD_ALERT);
	assert_int_equal(content[1], description);
}

bool wire_silent(struct wire *w)
{
	struct pollfd p = { .fd = w->fd, .events = POLLIN };

	return poll(&p, 1, 0) == 0;
}

bool on_uring(const struct tls_context *ctx)
{
	return strcmp(ring_name(ctx->core.ring, NULL), "io_uring") == 0;
}
