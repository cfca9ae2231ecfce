/* SPDX-License-Identifier: MIT */
/* bench-plain: send() and recv() without TLS, the limit of the machine. */
#include "bench.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/utsname.h>

static const char *library(void)
{
	static struct utsname name;

	uname(&name);
	return name.release;
}

static void prepare(void)
{
}

static void *open_end(int fd, enum side side, bool under_test)
{
	(void)side;
	(void)under_test;
	return (void *)(intptr_t)fd;
}

static ssize_t write_end(void *end, const void *buf, size_t len)
{
	ssize_t n = send((int)(intptr_t)end, buf, len, 0);

	return n < 0 ? -errno : n;
}

static ssize_t read_end(void *end, void *buf, size_t len)
{
	ssize_t n = recv((int)(intptr_t)end, buf, len, 0);

	return n < 0 ? -errno : n;
}

static void finish(void *end)
{
	(void)end;
}

static void seal(void *end, const void *buf, size_t len, struct sealed *s)
{
	(void)end;
	sealed_add(s, buf, len);
}

const struct contender contender = {
	.name = "plain",
	.plain = true,
	.library = library,
	.prepare = prepare,
	.open = open_end,
	.write = write_end,
	.read = read_end,
	.finish = finish,
	.seal = seal,
	.close = finish,
};
