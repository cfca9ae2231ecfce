/* SPDX-License-Identifier: MIT */
/*
 * What a connection holds of its descriptor: the number, so that no other
 * connection of this process gets it, and what it has changed of the socket.
 */
#ifndef ASYNCTLS_DESCRIPTOR_H
#define ASYNCTLS_DESCRIPTOR_H

struct descriptor {
	int fd; /* -1: held no more */
	int low_water; /* SO_RCVLOWAT as it was; 0: not changed */
};

/*
 * Hold this socket. 0, or -errno with words: -EALREADY if a connection does, of
 * whichever context. What a fork() copied holds nothing in the child.
 */
int descriptor_hold(struct descriptor *d, int fd);
/* Leave it as it was found. */
void descriptor_release(struct descriptor *d);

#endif
