/* SPDX-License-Identifier: MIT */
#include "record/cipher.h"

const struct cipher ciphers[CIPHER_COUNT] = {
	[CIPHER_AES_128_GCM] = {
		.id = CIPHER_AES_128_GCM,
		.name = "AES-128-GCM",
		.kernel_name = "gcm(aes)",
		.key_len = 16,
		.kernel_iv_len = 12,
	},
	[CIPHER_AES_256_GCM] = {
		.id = CIPHER_AES_256_GCM,
		.name = "AES-256-GCM",
		.kernel_name = "gcm(aes)",
		.key_len = 32,
		.kernel_iv_len = 12,
	},
	[CIPHER_CHACHA20_POLY1305] = {
		.id = CIPHER_CHACHA20_POLY1305,
		.name = "ChaCha20-Poly1305",
		.kernel_name = "rfc7539(chacha20,poly1305)",
		.key_len = 32,
		.kernel_iv_len = 12,
	},
	[CIPHER_AES_128_CCM] = {
		.id = CIPHER_AES_128_CCM,
		.name = "AES-128-CCM",
		.kernel_name = "ccm(aes)",
		.key_len = 16,
		.kernel_iv_len = 16,
	},
	[CIPHER_AES_256_CCM] = {
		.id = CIPHER_AES_256_CCM,
		.name = "AES-256-CCM",
		.kernel_name = "ccm(aes)",
		.key_len = 32,
		.kernel_iv_len = 16,
	},
};

enum { SHA256_LEN = 32, SHA384_LEN = 48 };

#define SUITE(number, version, cipher, digest, name)                          \
	{ number, CIPHER_##version, &ciphers[CIPHER_##cipher], name, #digest, \
	  digest##_LEN }

/* The key exchange does not matter to records: all there are. */
const struct suite cipher_suites[] = {
	SUITE(0x009c, TLS12, AES_128_GCM, SHA256,
	      "TLS_RSA_WITH_AES_128_GCM_SHA256"),
	SUITE(0x009d, TLS12, AES_256_GCM, SHA384,
	      "TLS_RSA_WITH_AES_256_GCM_SHA384"),
	SUITE(0x009e, TLS12, AES_128_GCM, SHA256,
	      "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256"),
	SUITE(0x009f, TLS12, AES_256_GCM, SHA384,
	      "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384"),
	SUITE(0x00a2, TLS12, AES_128_GCM, SHA256,
	      "TLS_DHE_DSS_WITH_AES_128_GCM_SHA256"),
	SUITE(0x00a3, TLS12, AES_256_GCM, SHA384,
	      "TLS_DHE_DSS_WITH_AES_256_GCM_SHA384"),
	SUITE(0x00a8, TLS12, AES_128_GCM, SHA256,
	      "TLS_PSK_WITH_AES_128_GCM_SHA256"),
	SUITE(0x00a9, TLS12, AES_256_GCM, SHA384,
	      "TLS_PSK_WITH_AES_256_GCM_SHA384"),
	SUITE(0x00aa, TLS12, AES_128_GCM, SHA256,
	      "TLS_DHE_PSK_WITH_AES_128_GCM_SHA256"),
	SUITE(0x00ab, TLS12, AES_256_GCM, SHA384,
	      "TLS_DHE_PSK_WITH_AES_256_GCM_SHA384"),
	SUITE(0x00ac, TLS12, AES_128_GCM, SHA256,
	      "TLS_RSA_PSK_WITH_AES_128_GCM_SHA256"),
	SUITE(0x00ad, TLS12, AES_256_GCM, SHA384,
	      "TLS_RSA_PSK_WITH_AES_256_GCM_SHA384"),
	SUITE(0x1301, TLS13, AES_128_GCM, SHA256,
	      "TLS_AES_128_GCM_SHA256"),
	SUITE(0x1302, TLS13, AES_256_GCM, SHA384,
	      "TLS_AES_256_GCM_SHA384"),
	SUITE(0x1303, TLS13, CHACHA20_POLY1305, SHA256,
	      "TLS_CHACHA20_POLY1305_SHA256"),
	SUITE(0x1304, TLS13, AES_128_CCM, SHA256,
	      "TLS_AES_128_CCM_SHA256"),
	SUITE(0xc02b, TLS12, AES_128_GCM, SHA256,
	      "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
	SUITE(0xc02c, TLS12, AES_256_GCM, SHA384,
	      "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
	SUITE(0xc02f, TLS12, AES_128_GCM, SHA256,
	      "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
	SUITE(0xc030, TLS12, AES_256_GCM, SHA384,
	      "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
	SUITE(0xc09c, TLS12, AES_128_CCM, SHA256,
	      "TLS_RSA_WITH_AES_128_CCM"),
	SUITE(0xc09d, TLS12, AES_256_CCM, SHA256,
	      "TLS_RSA_WITH_AES_256_CCM"),
	SUITE(0xc09e, TLS12, AES_128_CCM, SHA256,
	      "TLS_DHE_RSA_WITH_AES_128_CCM"),
	SUITE(0xc09f, TLS12, AES_256_CCM, SHA256,
	      "TLS_DHE_RSA_WITH_AES_256_CCM"),
	SUITE(0xc0a4, TLS12, AES_128_CCM, SHA256,
	      "TLS_PSK_WITH_AES_128_CCM"),
	SUITE(0xc0a5, TLS12, AES_256_CCM, SHA256,
	      "TLS_PSK_WITH_AES_256_CCM"),
	SUITE(0xc0a6, TLS12, AES_128_CCM, SHA256,
	      "TLS_DHE_PSK_WITH_AES_128_CCM"),
	SUITE(0xc0a7, TLS12, AES_256_CCM, SHA256,
	      "TLS_DHE_PSK_WITH_AES_256_CCM"),
	SUITE(0xc0ac, TLS12, AES_128_CCM, SHA256,
	      "TLS_ECDHE_ECDSA_WITH_AES_128_CCM"),
	SUITE(0xc0ad, TLS12, AES_256_CCM, SHA256,
	      "TLS_ECDHE_ECDSA_WITH_AES_256_CCM"),
	SUITE(0xcca8, TLS12, CHACHA20_POLY1305, SHA256,
	      "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
	SUITE(0xcca9, TLS12, CHACHA20_POLY1305, SHA256,
	      "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
	SUITE(0xccaa, TLS12, CHACHA20_POLY1305, SHA256,
	      "TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
	SUITE(0xccab, TLS12, CHACHA20_POLY1305, SHA256,
	      "TLS_PSK_WITH_CHACHA20_POLY1305_SHA256"),
	SUITE(0xccac, TLS12, CHACHA20_POLY1305, SHA256,
	      "TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256"),
	SUITE(0xccad, TLS12, CHACHA20_POLY1305, SHA256,
	      "TLS_DHE_PSK_WITH_CHACHA20_POLY1305_SHA256"),
	SUITE(0xccae, TLS12, CHACHA20_POLY1305, SHA256,
	      "TLS_RSA_PSK_WITH_CHACHA20_POLY1305_SHA256"),
	{ .name = NULL },
};

const struct suite *suite_by_number(uint16_t number)
{
	const struct suite *suite;

	for (suite = cipher_suites; suite->name; suite++)
		if (suite->number == number)
			return suite;
	return NULL;
}

const char *suite_version(const struct suite *suite)
{
	return suite->version == CIPHER_TLS12 ? "TLSv1.2" : "TLSv1.3";
}
