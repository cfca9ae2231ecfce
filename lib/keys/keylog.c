/* SPDX-License-Identifier: MIT */
#include "keys/keylog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/quiet.h"

/* O_NONBLOCK: a FIFO is neither waited for now nor written to with waiting. */
int keylog_open(const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC |
				    O_NOCTTY | O_NONBLOCK, 0600);

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

	end = put_hex(end, log->client_random, KEYLOG_RANDOM);
	*end++ = ' ';
	end = put_hex(end, secret, len);
	*end++ = '\n';
	/* secrets are for no file that has got its number since */
	if (own_fd_is_ours(log->file))
		quiet_write(log->file->fd, line, (size_t)(end - line));
	explicit_bzero(line, sizeof(line));
}
