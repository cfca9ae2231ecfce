// SPDX-License-Identifier: MIT
#include "endings.h"

#include <alloca.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hold.h"
#include "next.h"

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

void (*ends_also)(void);

/* ---- Descriptors ------------------------------------------------------- */

INTERPOSED int close(int fd)
{
	hold_before_close(fd);
	return NEXT(close)(fd);
}

INTERPOSED int dup2(int from, int to)
{
	if (from != to)
		hold_before_close(to);
	return NEXT(dup2)(from, to);
}

INTERPOSED int dup3(int from, int to, int flags)
{
	if (from != to)
		hold_before_close(to);
	return NEXT(dup3)(from, to, flags);
}

#if __GLIBC_PREREQ(2, 34)
INTERPOSED int close_range(unsigned from, unsigned to, int flags)
{
	if (!((unsigned)flags & CLOSE_RANGE_CLOEXEC))
		hold_before_close_range(from, to);
	return NEXT(close_range)(from, to, flags);
}

INTERPOSED void closefrom(int from)
{
	hold_before_close_range(from < 0 ? 0 : (unsigned)from, ~0u);
	NEXT(closefrom)(from);
}
#endif

INTERPOSED int fclose(FILE *file)
{
	hold_before_close(fileno_unlocked(file));
	return NEXT(fclose)(file);
}

/* The end of our writing follows what is still owed. */
INTERPOSED int shutdown(int fd, int how)
{
	if (how == SHUT_RD || !hold_before_shutdown(fd))
		return NEXT(shutdown)(fd, how);
	return how == SHUT_WR ? 0 : NEXT(shutdown)(fd, SHUT_RD);
}

/* Descriptors that another process will write to. */
static void before_passing(const struct msghdr *message)
{
	struct msghdr m = *message;
	int saved = errno, fd;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
		    c->cmsg_len < CMSG_LEN(0))
			continue;
		for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(fd);
		     i++) {
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			hold_drain_fd(fd, ENDS_SIGNAL_MS);
		}
	}
	errno = saved;
}

INTERPOSED ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	if (message && message->msg_controllen)
		before_passing(message);
	return NEXT(sendmsg)(fd, message, flags);
}

/* ---- exit -------------------------------------------------------------- */

static void end(void)
{
	if (!hold_is_mine())
		return;
	hold_no_more();
	hold_drain_dying(HOLD_END_MS);
	if (ends_also)
		ends_also();
}

/* Behind the program's own atexit(): libraries' destructors may yet write. */
__attribute__((destructor)) static void at_exit(void)
{
	end();
}

void ends_start(void)
{
	at_quick_exit(end); /* first of all, and so called last */
	hold_at_first = signals_guard;
}

INTERPOSED void _exit(int status)
{
	end();
	NEXT(_exit)(status);
	__builtin_unreachable();
}

INTERPOSED void _Exit(int status)
{
	end();
	NEXT(_Exit)(status);
	__builtin_unreachable();
}

/* ---- exec -------------------------------------------------------------- */

/* It may fail, and the program go on. In a vfork()ed child: nothing. */
static void before_exec(void)
{
	int saved = errno;

	if (!hold_is_mine())
		return;
	hold_drain_dying(HOLD_END_MS);
	if (ends_also)
		ends_also();
	errno = saved;
}

INTERPOSED int execve(const char *path, char *const argv[], char *const env[])
{
	before_exec();
	return NEXT(execve)(path, argv, env);
}

INTERPOSED int execv(const char *path, char *const argv[])
{
	before_exec();
	return NEXT(execv)(path, argv);
}

INTERPOSED int execvp(const char *file, char *const argv[])
{
	before_exec();
	return NEXT(execvp)(file, argv);
}

INTERPOSED int execvpe(const char *file, char *const argv[], char *const env[])
{
	before_exec();
	return NEXT(execvpe)(file, argv, env);
}

INTERPOSED int fexecve(int fd, char *const argv[], char *const env[])
{
	before_exec();
	return NEXT(fexecve)(fd, argv, env);
}

#if __GLIBC_PREREQ(2, 34)
INTERPOSED int execveat(int fd, const char *path, char *const argv[],
			char *const env[], int flags)
{
	before_exec();
	return NEXT(execveat)(fd, path, argv, env, flags);
}
#endif

/* How many there are with the NULL behind them. */
static size_t count(const char *first, va_list list)
{
	size_t n = 1;

	if (!first)
		return n;
	do
		n++;
	while (va_arg(list, char *));
	return n;
}

static void collect(char **argv, size_t n, const char *first, va_list list)
{
	argv[0] = (char *)(uintptr_t)first;
	for (size_t i = 1; i < n; i++)
		argv[i] = va_arg(list, char *);
}

INTERPOSED int execl(const char *path, const char *first, ...)
{
	va_list list;
	char **argv;
	size_t n;

	va_start(list, first);
	n = count(first, list);
	va_end(list);
	argv = alloca(n * sizeof(*argv));
	va_start(list, first);
	collect(argv, n, first, list);
	va_end(list);
	return execv(path, argv);
}

INTERPOSED int execlp(const char *file, const char *first, ...)
{
	va_list list;
	char **argv;
	size_t n;

	va_start(list, first);
	n = count(first, list);
	va_end(list);
	argv = alloca(n * sizeof(*argv));
	va_start(list, first);
	collect(argv, n, first, list);
	va_end(list);
	return execvp(file, argv);
}

INTERPOSED int execle(const char *path, const char *first, ...)
{
	char **argv, **env;
	va_list list;
	size_t n;

	va_start(list, first);
	n = count(first, list);
	va_end(list);
	argv = alloca(n * sizeof(*argv));
	va_start(list, first);
	collect(argv, n, first, list);
	env = va_arg(list, char **);
	va_end(list);
	return execve(path, argv, env);
}
