/* SPDX-License-Identifier: MIT */
#include "ends.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "context/ctx.h"
#include "fake_engine.h"
#include "wire.h"

static const uint8_t secrets[2][CIPHER_SECRET_MAX] = {
	"what the server seals with, 48 bytes",
	"what the client seals with, 48 bytes",
};

const char *end_take(struct tls_conn **conn, struct tls_context *ctx, int fd,
		     int side, uint16_t number)
{
	static const struct keys_tls12 tls12 = { "both ends'", "c", "s" };
	const struct suite *suite =
		suite_by_number(number ? number : TLS_AES_128_GCM);
	const struct tls_secrets s = {
		.size = sizeof(struct tls_secrets),
		.cipher_suite = suite->number,
		.secret_len = suite->version == CIPHER_TLS13 ?
				      suite->digest_len :
				      KEYS_MASTER,
		.tx_secret = secrets[side],
		.rx_secret = secrets[!side],
		.master_secret = tls12.master,
		.client_random = tls12.client_random,
		.server_random = tls12.server_random,
		.is_server = side == 0,
	};

	if (tls_handoff_secrets(conn, ctx, fd, &s))
		return tls_last_error();
	return NULL;
}

const char *end_open(struct end *end, int fd, int side,
		     const struct end_options *o)
{
	struct tls_config config = TLS_CONFIG_INIT;

	*end = (struct end){ .fd = fd };
	config.kind = o->kind;
	config.engine = TLS_ENGINE_CPU;
	config.max_memory = o->max_memory;
	if (tls_context_new(&end->ctx, &config))
		return tls_last_error();
	if (o->fake)
		end->ctx->core.dispatch.kernel = fake_as_engine(o->fake);
	return end_take(&end->conn, end->ctx, fd, side, o->suite);
}

void end_close(struct end *end)
{
	if (end->conn)
		tls_close(end->conn, 0);
	tls_context_free(end->ctx);
	close(end->fd);
}

void ends_new(struct end end[2], const struct ends_options *o)
{
	int fd[2], side;

	socket_pair(fd, o->tcp);
	for (side = 0; side < 2; side++) {
		const char *why;

		set_blocking(fd[side], o->blocking);
		why = end_open(&end[side], fd[side], side, &o->end[side]);
		if (why)
			fail_msg("%s", why);
	}
}

void ends_free(struct end end[2])
{
	end_close(&end[0]);
	end_close(&end[1]);
}

size_t dice_size(struct dice *dice, size_t max)
{
	uint64_t x = dice->state ? dice->state : 88172645463325252u;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	dice->state = x;
	if (x & 1 && max > 300)
		max = 300;
	return (size_t)(x >> 8) % max + 1;
}
