/* SPDX-License-Identifier: MIT */
#include "source.h"

#include <string.h>

#include "util.h"

const uint8_t *source_piece(struct source *from, size_t *len)
{
	*len = 0;
	if (!from->left)
		return NULL;
	while (from->skip == from->iov->iov_len) {
		from->iov++;
		from->skip = 0;
	}
	*len = from->iov->iov_len - from->skip;
	return (const uint8_t *)from->iov->iov_base + from->skip;
}

void source_skip(struct source *from, size_t len)
{
	from->skip += len;
	from->left -= len;
}

size_t source_read(struct source *from, uint8_t *buf, size_t len)
{
	size_t done = 0, n;

	while (done < len && from->left) {
		const uint8_t *piece = source_piece(from, &n);

		n = min_size(n, len - done);
		memcpy(buf + done, piece, n);
		source_skip(from, n);
		done += n;
	}
	return done;
}
