/* SPDX-License-Identifier: MIT */
#include "base/quiet.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

void quiet_write(int fd, const char *bytes, size_t len)
{
	const struct timespec now = { 0 };
	sigset_t both, before, pending;
	ssize_t n;

	sigemptyset(&both);
	sigaddset(&both, SIGPIPE);
	sigaddset(&both, SIGXFSZ);
	pthread_sigmask(SIG_BLOCK, &both, &before);
	sigpending(&pending);
	n = write(fd, bytes, len);
	if (n < 0 && (errno == EPIPE || errno == EFBIG)) {
		/* one that was waiting before is the application's */
		if (sigismember(&pending, SIGPIPE))
			sigdelset(&both, SIGPIPE);
		if (sigismember(&pending, SIGXFSZ))
			sigdelset(&both, SIGXFSZ);
		sigtimedwait(&both, NULL, &now);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}
