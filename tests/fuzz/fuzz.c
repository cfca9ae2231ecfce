/* SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "conn/rx.h"
#include "conn/tx.h"
#include "context/ctx.h"
#include "keys/keys.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	/* what fails in tests/support/wire.c is a finding, not an exit */
	return setenv("CMOCKA_TEST_ABORT", "1", 1);
}

uint8_t take_byte(struct input *in)
{
	if (!in->left)
		return 0;
	in->left--;
	return *in->at++;
}

size_t take_number(struct input *in, size_t most)
{
	size_t n = take_byte(in);

	n = n << 8 | take_byte(in);
	return n % (most + 1);
}

size_t take_bytes(struct input *in, const uint8_t **bytes, size_t most)
{
	size_t n = take_byte(in) % (most + 1);

	if (n > in->left)
		n = in->left;
	*bytes = in->at;
	in->at += n;
	in->left -= n;
	return n;
}

/* ---- Connections ------------------------------------------------------- */

static const uint16_t suites[] = {
	TLS_AES_128_GCM, TLS_AES_256_GCM, TLS_CHACHA20_POLY1305,
	TLS_AES_128_CCM, 0xc02f, 0xc030, 0xcca8, 0xc09e,
};

static bool of_tls12(uint16_t suite)
{
	return suite >> 8 != 0x13;
}

static struct rig rigs[2][2];

static void make(struct rig *r, const struct wire_options *options)
{
	if (!r->w.ctx)
		wire_new(&r->w, options);
	else
		wire_reopen(&r->w, options);
}

/* An input must not feel what another has done. */
static void forget(struct rig *r)
{
	struct dispatch *d = &r->w.ctx->core.dispatch;

	d->health = (struct health){ 0 };
	d->window = UINT_MAX;
	d->grown = 0;
}

bool rig_is_tls12(const struct rig *r)
{
	return !r->w.seal->format->hides_type;
}

struct rig *rig_open(uint8_t shape)
{
	const uint16_t suite = suites[shape >> 2 & 7];
	const bool async = shape & 1;
	struct rig *r = &rigs[async][of_tls12(suite)];
	struct wire_options options = {
		.kind = TLS_CONTEXT_LOOP,
		.suite = suite,
		.we_are_client = shape & 2,
		/* TLS 1.2 has no way to update, and would end */
		.rekey_records = of_tls12(suite) ? 0 : RIG_REKEY,
		.depth = RIG_DEPTH,
		.max_memory = RIG_MEMORY,
		.deadline_ms = 1000000,
	};

	if (async && !r->fake)
		r->fake = fake_new();
	options.fake = r->fake;
	make(r, &options);
	forget(r);
	return r;
}

void rig_settle(struct rig *r)
{
	do {
		if (r->fake)
			fake_complete_all(r->fake);
		require(tls_context_process(r->w.ctx) == 0);
	} while (r->fake && fake_pending(r->fake));
}

void rig_rest(int idle_turns)
{
	if (idle_turns > 5)
		usleep(1000);
}

static void check_memory(struct rig *r)
{
	/* overdue records may get a block each, whatever the limit */
	const size_t slots = r->w.ctx->core.slots.size;
	const size_t most = RIG_MEMORY + slots * POOL_RECORD_BYTES +
			    slots * POOL_SLAB;
	struct tls_stats s;

	require(tls_context_stats(r->w.ctx, &s, sizeof(s)) == 0);
	require(s.memory_peak <= most);
	require(s.connections_now == 0);
	require(s.tx_in_flight_now == 0 && s.rx_in_flight_now == 0);
	require(r->w.ctx->core.tx_pool.held == 0);
	require(r->w.ctx->core.rx_pool.held == 0);
	require(list_empty(&r->w.ctx->gone));
}

void rig_close(struct rig *r)
{
	tls_close(r->w.conn, 0);
	r->w.conn = NULL;
	rig_settle(r);
	check_memory(r);
}

void rig_discard(struct rig *r)
{
	wire_free(&r->w);
	if (r->fake)
		fake_free(r->fake);
	*r = (struct rig){ 0 };
}
