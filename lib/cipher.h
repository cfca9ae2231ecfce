/* SPDX-License-Identifier: MIT */
/* The AEADs carried, by every name somebody knows them under. */
#ifndef ASYNCTLS_CIPHER_H
#define ASYNCTLS_CIPHER_H

#include <stddef.h>
#include <stdint.h>

enum cipher_id {
	CIPHER_AES_128_GCM,
	CIPHER_AES_256_GCM,
	CIPHER_CHACHA20_POLY1305,
	CIPHER_COUNT,
};

struct cipher {
	enum cipher_id id;
	uint16_t suite;		/* TLS 1.3 cipher suite number */
	const char *name;	/* TLS 1.3 cipher suite name */
	const char *kernel_name; /* of the algorithm in the kernel crypto API */
	const char *digest;	/* the suite's hash, as OpenSSL names it */
	size_t key_len;
	size_t secret_len;	/* output length of that hash */
};

enum { CIPHER_KEY_MAX = 32, CIPHER_SECRET_MAX = 48 };

/* All of them, indexed by cipher_id. */
extern const struct cipher ciphers[CIPHER_COUNT];

/* By suite number; NULL if it is not carried. */
const struct cipher *cipher_by_suite(uint16_t suite);

#endif
