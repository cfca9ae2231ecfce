/* SPDX-License-Identifier: MIT */
/*
 * Clients that a server has told, with an alert, why it wants no more of them.
 *
 * close(2) of a socket with bytes unread resets the connection, and the client
 * loses what it has not read: the alert. So only the server's own direction is
 * ended at first, and what the client still sends is read and dropped, until it
 * ends, too, or has had enough bytes and time.
 */
#ifndef EXAMPLES_SERVER_LEAVE_H
#define EXAMPLES_SERVER_LEAVE_H

#include "common.h"

/* Those of a thread. Adds a descriptor of its own to the thread's epoll. */
struct leavers {
	int epoll;
	struct leaver *first; /* NULL: none is left */
};

/* Its data.ptr in the thread's epoll is l. Exits with a message if it fails. */
void leavers_init(struct leavers *l, int epoll);

/* Take a socket that nobody else uses any more, to close it in time. */
void leave(struct leavers *l, int fd);

/* Act on an event of the epoll. */
void leavers_event(struct leavers *l);

/* Close what has had its time; now is now_ms(). Call it about once a second. */
void leavers_look(struct leavers *l, int64_t now);

#endif
