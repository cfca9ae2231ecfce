/* SPDX-License-Identifier: MIT */
/*
 * Descriptors of the library's own, known by their inode: a program that closes
 * all it does not know (closefrom(), a daemon) closes them under us, and their
 * numbers may be other files' by then, which are not ours to read, to write to,
 * or to close.
 */
#ifndef ASYNCTLS_OWN_H
#define ASYNCTLS_OWN_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

struct own_fd {
	int fd; /* -1: none */
	dev_t dev;
	ino_t ino;
};

static inline struct own_fd own_fd(int fd)
{
	struct own_fd own = { .fd = fd };
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0) {
		own.dev = st.st_dev;
		own.ino = st.st_ino;
	}
	return own;
}

/* Both ends of a pipe, neither of which waits. 0 or -errno. */
static inline int own_pipe(struct own_fd ends[2])
{
	int fd[2];

	if (pipe2(fd, O_NONBLOCK | O_CLOEXEC))
		return -errno;
	ends[0] = own_fd(fd[0]);
	ends[1] = own_fd(fd[1]);
	return 0;
}

/* Has nobody closed it under us? Async-signal-safe. */
static inline bool own_fd_is_ours(const struct own_fd *own)
{
	struct stat st;

	if (own->fd < 0)
		return false;
	if (fstat(own->fd, &st))
		return errno != EBADF;
	return !own->ino || (st.st_dev == own->dev && st.st_ino == own->ino);
}

/* If it is; afterwards there is none. */
static inline void own_fd_close(struct own_fd *own)
{
	if (own_fd_is_ours(own))
		close(own->fd);
	own->fd = -1;
}

#endif
