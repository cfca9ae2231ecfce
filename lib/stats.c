/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "asynctls.h"

#define BY_ENGINE(field) s->field[TLS_BY_CPU], s->field[TLS_BY_KERNEL]
#define PAIR "{\"cpu\":%ju,\"kernel\":%ju}"
#define REASONS \
	"{\"no_socket\":%ju,\"full\":%ju,\"no_memory\":%ju," \
	"\"deadline\":%ju,\"tag\":%ju,\"error\":%ju}"

int tls_stats_json(const struct tls_stats *s, char *buf, size_t len)
{
	return snprintf(
		buf, len,
		"{\"tx_records\":" PAIR ",\"tx_bytes\":" PAIR
		",\"rx_records\":" PAIR ",\"rx_bytes\":" PAIR
		",\"tx_copied_bytes\":%ju,\"tx_padding_bytes\":%ju"
		",\"tx_in_flight_peak\":%ju"
		",\"rx_in_flight_peak\":%ju,\"out_of_order\":%ju"
		",\"failovers\":" REASONS ",\"pauses\":%ju,\"sends\":%ju,\"sent_bytes\":%ju"
		",\"receives\":%ju,\"received_bytes\":%ju,\"enters\":%ju"
		",\"allocations\":%ju,\"connections\":%ju"
		",\"connections_now\":%ju,\"connections_failed\":%ju"
		",\"op_sockets_now\":%ju,\"op_sockets_peak\":%ju"
		",\"memory_now\":%ju,\"memory_peak\":%ju"
		",\"memory_parked\":%ju"
		",\"deferred_scheduled\":%ju,\"deferred_cancelled\":%ju"
		",\"deferred_run\":%ju}",
		BY_ENGINE(tx_records), BY_ENGINE(tx_bytes),
		BY_ENGINE(rx_records), BY_ENGINE(rx_bytes), s->tx_copied_bytes,
		s->tx_padding_bytes, s->tx_in_flight_peak, s->rx_in_flight_peak, s->out_of_order,
		s->failovers[0], s->failovers[1], s->failovers[2],
		s->failovers[3], s->failovers[4], s->failovers[5], s->pauses,
		s->sends, s->sent_bytes, s->receives,
		s->received_bytes, s->enters, s->allocations, s->connections,
		s->connections_now, s->connections_failed, s->op_sockets_now,
		s->op_sockets_peak, s->memory_now, s->memory_peak, s->memory_parked,
		s->deferred_scheduled, s->deferred_cancelled, s->deferred_run);
}
