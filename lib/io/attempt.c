/* SPDX-License-Identifier: MIT */
#include "io/attempt.h"

#include <errno.h>

enum { PIECES = 64 /* of a message, in one call */ };

size_t attempt_total(const struct msghdr *msg)
{
	size_t i, len = 0;

	for (i = 0; i < msg->msg_iovlen; i++)
		len += msg->msg_iov[i].iov_len;
	return len;
}

/* The pieces of a message behind its first skip bytes. */
static size_t pieces(const struct msghdr *msg, size_t skip, struct iovec *out)
{
	size_t i, n = 0;

	for (i = 0; i < msg->msg_iovlen && n < PIECES; i++) {
		struct iovec piece = msg->msg_iov[i];

		if (skip >= piece.iov_len) {
			skip -= piece.iov_len;
			continue;
		}
		piece.iov_base = (char *)piece.iov_base + skip;
		piece.iov_len -= skip;
		skip = 0;
		out[n++] = piece;
	}
	return n;
}

/* -EINTR never: the call does not wait. */
static ssize_t send_once(const struct outgoing *out, size_t sent, size_t *asked)
{
	const int flags = MSG_NOSIGNAL | MSG_DONTWAIT;
	struct iovec iov[PIECES];
	struct msghdr msg = { .msg_iov = iov };
	ssize_t n;

	if (!out->msg) {
		*asked = out->len - sent;
		n = send(out->fd, (const char *)out->buf + sent, *asked, flags);
	} else {
		msg.msg_iovlen = pieces(out->msg, sent, iov);
		*asked = attempt_total(&msg);
		n = sendmsg(out->fd, &msg, flags);
	}
	return n < 0 ? -errno : n;
}

long attempt_send(const struct outgoing *out, size_t *sent, unsigned *calls)
{
	size_t asked;
	ssize_t n;

	do {
		++*calls;
		n = send_once(out, *sent, &asked);
		if (n < 0)
			break;
		*sent += (size_t)n;
		if ((size_t)n < asked)
			return -EAGAIN; /* the next call would say so */
	} while (*sent < out->len);
	if (n == -EAGAIN || !*sent)
		return n;
	return (long)*sent;
}

long attempt_receive(int fd, void *buf, size_t len, unsigned *calls)
{
	ssize_t n;

	++*calls;
	n = recv(fd, buf, len, MSG_DONTWAIT);
	return n < 0 ? -errno : n;
}
