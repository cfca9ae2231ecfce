/* SPDX-License-Identifier: MIT */
/*
 * One record sealed, or opened, now, in the calling thread: by the engine of the
 * process, which all threads share.
 */
#ifndef ASYNCTLS_SEAL_H
#define ASYNCTLS_SEAL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "keys/keys.h"

/*
 * The engine for this cipher, which any thread may use at any time; NULL, with
 * *why set to static text, if there is none.
 */
struct engine *seal_engine(const struct cipher *cipher, const char **why);

/* Bytes of a record with so much content. */
static inline size_t seal_len(const struct keygen *gen, size_t len)
{
	return len + gen->format->overhead;
}

/* Write the record to wire, seal_len() bytes of it: 0 or -errno. */
int seal_record(struct keygen *gen, struct engine *engine, uint64_t seq,
		uint8_t type, const uint8_t *content, size_t len,
		uint8_t *wire);

struct opened {
	uint8_t type;
	uint8_t *content;
	size_t len;
};

/*
 * Open a whole record in place: 0; -EBADMSG, -EPROTO, -EMSGSIZE as
 * record_parse_header() and record_content() have them; or the engine failed.
 * What the record's memory then holds is neither.
 */
int seal_open(struct keygen *gen, struct engine *engine, uint64_t seq,
	      uint8_t *record, size_t len, struct opened *opened);

#endif
