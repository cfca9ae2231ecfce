/* SPDX-License-Identifier: MIT */
#include "both.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "wire.h"

enum { CHUNK = 256 << 10, STALL_MS = 20000 };

const struct tls_secrets *both_secrets(int end)
{
	static const uint8_t up[32] = "from one end to the other",
			     down[32] = "and back again";
	static const struct tls_secrets ends[2] = {
		{ .size = sizeof(struct tls_secrets),
		  .cipher_suite = TLS_AES_128_GCM,
		  .secret_len = sizeof(up),
		  .tx_secret = up,
		  .rx_secret = down },
		{ .size = sizeof(struct tls_secrets),
		  .cipher_suite = TLS_AES_128_GCM,
		  .secret_len = sizeof(up),
		  .tx_secret = down,
		  .rx_secret = up,
		  .is_server = 1 },
	};

	return &ends[end];
}

void both_open(struct both *b, struct tls_context *ctx)
{
	int i;

	*b = (struct both){ .ctx = ctx };
	socket_pair(b->fd, true);
	for (i = 0; i < 2; i++) {
		set_blocking(b->fd[i], false);
		if (tls_handoff_secrets(&b->conn[i], ctx, b->fd[i],
					both_secrets(i)))
			fail_msg("%s", tls_last_error());
	}
}

void both_close(struct both *b)
{
	int i;

	for (i = 0; i < 2; i++) {
		tls_close(b->conn[i], 0);
		close(b->fd[i]);
	}
}

/* Returns how much was written, 0 if there is no room. */
static size_t write_some(struct both *b, const uint8_t *data, size_t len)
{
	ssize_t n = tls_write(b->conn[0], data, len < CHUNK ? len : CHUNK);

	if (n < 0 && n != -EAGAIN)
		fail_msg("writing: %zd, %s", n, tls_conn_error(b->conn[0]));
	return n < 0 ? 0 : (size_t)n;
}

static size_t read_some(struct both *b, size_t from)
{
	static uint8_t buf[CHUNK];
	ssize_t n = tls_read(b->conn[1], buf, sizeof(buf));

	if (n == -EAGAIN)
		return 0;
	if (n <= 0)
		fail_msg("reading: %zd, %s", n, tls_conn_error(b->conn[1]));
	pattern_check(buf, from, (size_t)n);
	return (size_t)n;
}

static void transfer(struct both *b, const uint8_t *data, size_t put,
		     size_t len)
{
	struct tls_event events[4];
	size_t got = 0, n, m;

	while (got < len) {
		n = put < len ? write_some(b, data + put, len - put) : 0;
		m = read_some(b, got);
		put += n;
		got += m;
		if (!n && !m &&
		    tls_context_wait(b->ctx, events, 4, STALL_MS) == 0)
			fail_msg("stalled: %zu written, %zu read of %zu", put,
				 got, len);
	}
}

void both_transfer(struct both *b, size_t len)
{
	uint8_t *data = malloc(len);

	assert_non_null(data);
	pattern_fill(data, 0, len);
	transfer(b, data, 0, len);
	free(data);
}

void both_receive(struct both *b, size_t len)
{
	transfer(b, NULL, len, len);
}
