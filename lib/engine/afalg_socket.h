/* SPDX-License-Identifier: MIT */
/* AF_ALG as system calls: transform sockets, operation sockets, requests. */
#ifndef ASYNCTLS_AFALG_SOCKET_H
#define ASYNCTLS_AFALG_SOCKET_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "engine/engine.h"

enum {
	AFALG_NAME_MAX = 63, /* of an algorithm or driver, in a sockaddr_alg */
	AFALG_AAD_MAX = 20,
	AFALG_IV_MAX = 16,
};

/*
 * The message of one request. It has all it needs in itself but the input,
 * since an abandoned operation may be gone before the kernel looks.
 */
struct afalg_request {
	struct msghdr msg;
	struct iovec iov[4];
	_Alignas(struct cmsghdr)
		uint8_t control[2 * CMSG_SPACE(sizeof(uint32_t)) +
				CMSG_SPACE(sizeof(uint32_t) + AFALG_IV_MAX)];
	uint8_t aad[AFALG_AAD_MAX];
	uint8_t tail;
};

/* A transform socket bound to driver, or -errno. */
int afalg_open(const char *driver);
/* Key and tag length of a transform socket. 0 or -errno. */
int afalg_set_key(int fd, const uint8_t *key, unsigned key_len);
/* An operation socket of a transform socket with a key, or -errno. */
int afalg_accept(int fd);

/*
 * The IV for a nonce, cipher->kernel_iv_len bytes of it. The kernel's ccm()
 * takes the counter block: what its length field needs in bytes less one, the
 * nonce, a counter of 0 (RFC 3610 2.3).
 */
void afalg_iv(uint8_t iv[AFALG_IV_MAX], const struct cipher *cipher,
	      const uint8_t nonce[12]);

/* Fill request for op; the AAD must be at most AFALG_AAD_MAX bytes. */
void afalg_fill(struct afalg_request *request, const struct aead_op *op,
		const struct cipher *cipher);

#endif
