/* SPDX-License-Identifier: MIT */
/* One published test vector per cipher: what every engine must agree with. */
#ifndef ASYNCTLS_KNOWN_ANSWER_H
#define ASYNCTLS_KNOWN_ANSWER_H

#include <stddef.h>
#include <stdint.h>

#include "record/cipher.h"

struct known_answer {
	const uint8_t *key; /* the cipher's key_len bytes */
	const uint8_t *nonce;
	const uint8_t *aad;
	uint8_t aad_len;
	const uint8_t *plain;
	size_t plain_len;
	const uint8_t *sealed; /* plain_len + 16 bytes */
};

enum { KNOWN_ANSWER_MAX = 144 }; /* bytes of AAD and sealed text together */

extern const struct known_answer known_answers[CIPHER_COUNT];

#endif
