/* SPDX-License-Identifier: MIT */
#include "cipher.h"

const struct cipher ciphers[CIPHER_COUNT] = {
	[CIPHER_AES_128_GCM] = {
		.id = CIPHER_AES_128_GCM,
		.suite = 0x1301,
		.name = "TLS_AES_128_GCM_SHA256",
		.kernel_name = "gcm(aes)",
		.digest = "SHA256",
		.key_len = 16,
		.secret_len = 32,
	},
	[CIPHER_AES_256_GCM] = {
		.id = CIPHER_AES_256_GCM,
		.suite = 0x1302,
		.name = "TLS_AES_256_GCM_SHA384",
		.kernel_name = "gcm(aes)",
		.digest = "SHA384",
		.key_len = 32,
		.secret_len = 48,
	},
	[CIPHER_CHACHA20_POLY1305] = {
		.id = CIPHER_CHACHA20_POLY1305,
		.suite = 0x1303,
		.name = "TLS_CHACHA20_POLY1305_SHA256",
		.kernel_name = "rfc7539(chacha20,poly1305)",
		.digest = "SHA256",
		.key_len = 32,
		.secret_len = 32,
	},
};

const struct cipher *cipher_by_suite(uint16_t suite)
{
	for (size_t i = 0; i < CIPHER_COUNT; i++)
		if (ciphers[i].suite == suite)
			return &ciphers[i];
	return NULL;
}
