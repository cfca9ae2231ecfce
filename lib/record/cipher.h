/* SPDX-License-Identifier: MIT */
/*
 * The AEADs carried, and the cipher suites of TLS 1.2 and 1.3 made of them.
 */
#ifndef ASYNCTLS_CIPHER_H
#define ASYNCTLS_CIPHER_H

#include <stddef.h>
#include <stdint.h>

enum cipher_id {
	CIPHER_AES_128_GCM,
	CIPHER_AES_256_GCM,
	CIPHER_CHACHA20_POLY1305,
	CIPHER_AES_128_CCM,
	CIPHER_AES_256_CCM,
	CIPHER_COUNT,
};

/* An AEAD with a nonce of 12 bytes and a tag of 16. */
struct cipher {
	enum cipher_id id;
	const char *name;
	const char *kernel_name; /* of the algorithm in the kernel crypto API */
	unsigned key_len;
	size_t kernel_iv_len; /* there; see afalg_fill() */
};

enum cipher_version { CIPHER_TLS12, CIPHER_TLS13 };

struct suite {
	uint16_t number;
	enum cipher_version version;
	const struct cipher *cipher;
	const char *name;   /* as IANA lists it */
	const char *digest; /* of HKDF or the PRF, as OpenSSL names it */
	size_t digest_len;
};

enum { CIPHER_KEY_MAX = 32, CIPHER_SECRET_MAX = 48 };

/* All of them, indexed by cipher_id. */
extern const struct cipher ciphers[CIPHER_COUNT];

/* All suites, in order of their numbers; the end has no name. */
extern const struct suite cipher_suites[];

/* By number; NULL if it is not carried. */
const struct suite *suite_by_number(uint16_t number);

/* "TLSv1.2" or "TLSv1.3" */
const char *suite_version(const struct suite *suite);

#endif
