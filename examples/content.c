// SPDX-License-Identifier: MIT
#define _GNU_SOURCE 1
#include "common.h"
#include "content.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *map; /* the file, or NULL: made-up bytes */
static content_scratch noise;

/* splitmix64: any bit of n changes every bit of the result. */
static uint64_t mix(uint64_t n)
{
	n += 0x9e3779b97f4a7c15;
	n = (n ^ (n >> 30)) * 0xbf58476d1ce4e5b9;
	n = (n ^ (n >> 27)) * 0x94d049bb133111eb;
	return n ^ (n >> 31);
}

void content_make(void)
{
	size_t i;

	for (i = 0; i < CHUNK / sizeof(*noise); i++)
		noise[i] = mix(~i);
}

uint64_t content_open(const char *file)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *area;

	if (fd < 0 || fstat(fd, &st))
		die("cannot read %s: %s", file, strerror(errno));
	if (!S_ISREG(st.st_mode))
		die("%s is not a regular file", file);
	if (st.st_size > 0) {
		area = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE,
			    fd, 0);
		if (area == MAP_FAILED)
			die("cannot map %s: %s", file, strerror(errno));
		map = area;
	}
	close(fd);
	return (uint64_t)st.st_size;
}

const char *content(uint64_t offset, uint64_t *len, content_scratch scratch)
{
	size_t at = offset % CHUNK, i;
	uint64_t key = mix(offset / CHUNK);

	if (*len > CHUNK - at)
		*len = CHUNK - at;
	if (map)
		return map + offset;
	for (i = at / 8; i < (at + *len + 7) / 8; i++)
		scratch[i] = noise[i] ^ key;
	return (const char *)scratch + at;
}

void content_compare(const char *buf, uint64_t offset, uint64_t len,
		     content_scratch scratch)
{
	const char *chunk;
	uint64_t part, i;

	for (; len > 0; offset += part, buf += part, len -= part) {
		part = len;
		chunk = content(offset, &part, scratch);
		if (!memcmp(chunk, buf, part))
			continue;
		for (i = 0; chunk[i] == buf[i]; i++)
			;
		die("what came back differs at offset %" PRIu64, offset + i);
	}
}
