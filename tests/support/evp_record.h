/* SPDX-License-Identifier: MIT */
/* Single records sealed and opened with OpenSSL's EVP. */
#ifndef ASYNCTLS_TESTS_EVP_RECORD_H
#define ASYNCTLS_TESTS_EVP_RECORD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "keys/keys.h"

/*
 * Seal inner (with TLS 1.3 type byte and padding are in it) as record seq into
 * wire; returns the record's length.
 */
size_t evp_seal(const struct keygen *gen, uint64_t seq, uint8_t type,
		const void *inner, size_t len, uint8_t *wire);

/*
 * Open a whole record: how long what is inside is, or -1 if it does not
 * authenticate.
 */
ssize_t evp_open(const struct keygen *gen, uint64_t seq, const uint8_t *wire,
		 uint8_t *inner);

/* The AEAD by itself; the tag is behind the ciphertext. */
void evp_seal_raw(const struct cipher *cipher, const uint8_t *key,
		  const uint8_t *nonce, const uint8_t *aad, size_t aad_len,
		  const uint8_t *in, size_t len, uint8_t *out);

#endif
