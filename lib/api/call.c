/* SPDX-License-Identifier: MIT */
#include "api/call.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>

/* Thirty years, which is without end and can be counted. */
enum { LONGEST_S = 1 << 30 };

uint64_t call_deadline(int timeout_ms)
{
	if (timeout_ms < 0)
		return UINT64_MAX;
	return now_ns() + (uint64_t)timeout_ms * NS_PER_MS;
}

bool call_may_wait(const struct tls_conn *conn)
{
	int flags = fcntl(conn->fd, F_GETFL);

	return flags >= 0 && !(flags & O_NONBLOCK);
}

uint64_t call_socket_deadline(const struct tls_conn *conn, int option)
{
	struct timeval tv = { 0 };
	socklen_t len = sizeof(tv);

	if (getsockopt(conn->fd, SOL_SOCKET, option, &tv, &len) ||
	    (!tv.tv_sec && !tv.tv_usec))
		return UINT64_MAX;
	if (tv.tv_sec > LONGEST_S)
		return UINT64_MAX;
	return now_ns() + (uint64_t)tv.tv_sec * 1000 * NS_PER_MS +
	       (uint64_t)tv.tv_usec * 1000;
}

bool call_waits(const struct tls_conn *conn, unsigned flags, int option,
		uint64_t *deadline)
{
	if (*deadline)
		return true;
	if (flags & TLS_DONTWAIT || !call_may_wait(conn))
		return false;
	*deadline = call_socket_deadline(conn, option);
	return true;
}

int call_keep_thread(void)
{
	int cancel;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	return cancel;
}

void call_let_thread(int cancel)
{
	pthread_setcancelstate(cancel, NULL);
}
