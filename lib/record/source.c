/* SPDX-License-Identifier: MIT */
#include "record/source.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/util.h"

int source_file(struct source *from, int fd, const off_t *offset, size_t count)
{
	struct stat st;
	off_t at;

	if (fstat(fd, &st))
		return error_set(-errno, "descriptor %d: %s", fd,
				 strerror(errno));
	if (S_ISDIR(st.st_mode))
		return error_set(-EISDIR, "descriptor %d is a directory", fd);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return error_set(offset ? -ESPIPE : -EINVAL, "descriptor %d is "
				 "no file with places to read from", fd);
	at = offset ? *offset : lseek(fd, 0, SEEK_CUR);
	if (at < 0)
		return error_set(-EINVAL, "a file has no offset %lld",
				 (long long)at);
	*from = (struct source){ .fd = fd, .at = at, .left = count };
	return 0;
}

const uint8_t *source_piece(struct source *from, size_t *len)
{
	*len = 0;
	if (!from->left || !from->iov)
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

static size_t read_pieces(struct source *from, uint8_t *buf, size_t len)
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

static size_t read_file(struct source *from, uint8_t *buf, size_t len)
{
	size_t done = 0;

	while (done < len && from->left) {
		ssize_t n = pread(from->fd, buf + done,
				  min_size(len - done, from->left), from->at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			from->error = error_set(-errno, "reading descriptor "
						"%d: %s", from->fd,
						strerror(errno));
			break;
		}
		from->left = n ? from->left - (size_t)n : 0;
		from->at += n;
		done += (size_t)n;
	}
	return done;
}

size_t source_read(struct source *from, uint8_t *buf, size_t len)
{
	return from->iov ? read_pieces(from, buf, len) :
			   read_file(from, buf, len);
}
