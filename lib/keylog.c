/* SPDX-License-Identifier: MIT */
#include "keylog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int keylog_open(const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : fd;
}

static char *put_hex(char *to, const uint8_t *bytes, size_t len)
{
	static const char digits[] = "0123456789abcdef";

	while (len--) {
		*to++ = digits[*bytes >> 4];
		*to++ = digits[*bytes++ & 15];
	}
	return to;
}

/* In one piece, so that lines of several threads and processes stay whole. */
void keylog_write(const struct keylog *log, bool client, unsigned number,
		  const uint8_t *secret, size_t len)
{
	char line[256];
	char *end = line + sprintf(line, "%s_TRAFFIC_SECRET_%u ",
				   client ? "CLIENT" : "SERVER", number);
	ssize_t n;

	end = put_hex(end, log->client_random, KEYLOG_RANDOM);
	*end++ = ' ';
	end = put_hex(end, secret, len);
	*end++ = '\n';
	n = write(log->fd, line, (size_t)(end - line));
	(void)n;
	explicit_bzero(line, sizeof(line));
}
