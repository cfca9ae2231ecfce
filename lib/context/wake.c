/* SPDX-License-Identifier: MIT */
#include "context/wake.h"

#include <errno.h>

#include "conn/conn.h"
#include "io/ring.h"

void wake_all(struct wake *wake)
{
	wake->epoch++;
	wake->stale = wake->waiters;
}

void wake_reaped(struct wake *wake, unsigned count)
{
	wake->sent = false;
	if (count)
		wake_all(wake);
}

/* As the calls that wait see it when they look. */
static unsigned happened(const struct tls_conn *conn)
{
	unsigned what = 0;

	if (rx_readable(&conn->rx) || conn_read_status(conn) != -EAGAIN)
		what |= AWAIT_READ;
	if (conn->writing.error || conn->shut || tx_room(&conn->tx))
		what |= AWAIT_ROOM;
	if (conn->writing.error || conn_flushed(conn))
		what |= AWAIT_FLUSHED;
	return what;
}

void wake_conn(struct wake *wake, struct tls_conn *conn)
{
	if (!conn->awaited || !(conn->awaited & happened(conn)))
		return;
	conn->awaited = 0; /* who waits on says so again */
	wake_all(wake);
}

void wake_listeners(struct wake *wake)
{
	if (wake->listeners)
		wake_all(wake);
}

void wake_send(struct wake *wake)
{
	if (wake->stale && !wake->sent)
		wake->sent = ring_wake(wake->ring) == 0;
	ring_show(wake->ring);
}

void wake_wait(struct wake *wake, pthread_mutex_t *lock, int64_t ns)
{
	uint64_t epoch = wake->epoch;

	wake_send(wake);
	wake->waiters++;
	pthread_mutex_unlock(lock);
	ring_wait(wake->ring, ns);
	pthread_mutex_lock(lock);
	wake->waiters--;
	if (epoch != wake->epoch && wake->stale)
		wake->stale--;
}
