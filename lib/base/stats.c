/* SPDX-License-Identifier: MIT */
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "asynctls.h"
#include "base/sized.h"
#include "base/util.h"

/* Of two contexts or connections, the larger is that of both. */
static const size_t peaks[] = {
	offsetof(struct tls_stats, tx_in_flight_peak),
	offsetof(struct tls_stats, rx_in_flight_peak),
	offsetof(struct tls_stats, op_sockets_peak),
	offsetof(struct tls_stats, memory_peak),
};

static bool is_peak(size_t offset)
{
	size_t i;

	for (i = 0; i < sizeof(peaks) / sizeof(peaks[0]); i++)
		if (peaks[i] == offset)
			return true;
	return false;
}

void tls_stats_add(struct tls_stats *total, const struct tls_stats *more,
		   size_t size)
{
	uint64_t *to = (uint64_t *)total;
	const uint64_t *from = (const uint64_t *)more;
	size_t i;

	size = min_size(size, sizeof(*total));
	for (i = 0; i < size / sizeof(*to); i++) {
		if (!is_peak(i * sizeof(*to)))
			to[i] += from[i];
		else if (to[i] < from[i])
			to[i] = from[i];
	}
}

#define BY_ENGINE(field) s->field[TLS_BY_CPU], s->field[TLS_BY_KERNEL]
#define PAIR "{\"cpu\":%ju,\"kernel\":%ju}"
#define REASONS \
	"{\"no_socket\":%ju,\"full\":%ju,\"no_memory\":%ju," \
	"\"deadline\":%ju,\"tag\":%ju,\"error\":%ju}"

static int write_json(const struct tls_stats *s, char *buf, size_t len)
{
	const uint64_t *f = s->failovers_for;

	return snprintf(
		buf, len,
		"{\"tx_records\":" PAIR ",\"tx_bytes\":" PAIR
		",\"rx_records\":" PAIR ",\"rx_bytes\":" PAIR
		",\"tx_copied_bytes\":%ju,\"tx_padding_bytes\":%ju"
		",\"tx_in_flight_now\":%ju"
		",\"rx_in_flight_now\":%ju,\"tx_in_flight_peak\":%ju"
		",\"rx_in_flight_peak\":%ju,\"out_of_order\":%ju"
		",\"failovers\":%ju,\"failovers_for\":" REASONS
		",\"pauses\":%ju,\"sends\":%ju"
		",\"sent_records\":%ju,\"ready_wait_ns\":%ju"
		",\"sent_bytes\":%ju,\"receives\":%ju"
		",\"received_bytes\":%ju,\"enters\":%ju,\"allocations\":%ju"
		",\"connections\":%ju,\"connections_now\":%ju"
		",\"connections_failed\":%ju,\"op_sockets_now\":%ju"
		",\"op_sockets_peak\":%ju,\"memory_now\":%ju"
		",\"memory_peak\":%ju,\"memory_parked\":%ju"
		",\"deferred_scheduled\":%ju,\"deferred_cancelled\":%ju"
		",\"deferred_run\":%ju,\"tx_rekeys\":%ju"
		",\"rx_rekeys\":%ju}",
		BY_ENGINE(tx_records), BY_ENGINE(tx_bytes),
		BY_ENGINE(rx_records), BY_ENGINE(rx_bytes), s->tx_copied_bytes,
		s->tx_padding_bytes, s->tx_in_flight_now, s->rx_in_flight_now,
		s->tx_in_flight_peak, s->rx_in_flight_peak, s->out_of_order,
		s->failovers, f[0], f[1], f[2], f[3],
		f[4], f[5], s->pauses, s->sends, s->sent_records,
		s->ready_wait_ns, s->sent_bytes, s->receives, s->received_bytes,
		s->enters, s->allocations, s->connections, s->connections_now,
		s->connections_failed, s->op_sockets_now, s->op_sockets_peak,
		s->memory_now, s->memory_peak, s->memory_parked,
		s->deferred_scheduled, s->deferred_cancelled, s->deferred_run,
		s->tx_rekeys, s->rx_rekeys);
}

int tls_stats_json(const struct tls_stats *stats, size_t size, char *buf,
		   size_t len)
{
	struct tls_stats s;

	sized_give(&s, sizeof(s), stats, size);
	return write_json(&s, buf, len);
}
