/* SPDX-License-Identifier: MIT */
#include "engine/afalg_socket.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <linux/if_alg.h>

#include "record/record.h"

#ifndef SOL_ALG
#define SOL_ALG 279
#endif

enum { TAG_LEN = 16 };

int afalg_open(const char *driver)
{
	struct sockaddr_alg addr = { .salg_family = AF_ALG,
				     .salg_type = "aead" };
	int err, fd;

	if (strlen(driver) > AFALG_NAME_MAX)
		return -ENAMETOOLONG;
	strcpy((char *)addr.salg_name, driver);
	fd = socket(AF_ALG, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

int afalg_set_key(int fd, const uint8_t *key, unsigned key_len)
{
	if (setsockopt(fd, SOL_ALG, ALG_SET_KEY, key, key_len) < 0 ||
	    setsockopt(fd, SOL_ALG, ALG_SET_AEAD_AUTHSIZE, NULL, TAG_LEN) < 0)
		return -errno;
	return 0;
}

int afalg_accept(int fd)
{
	int op_fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

	return op_fd < 0 ? -errno : op_fd;
}

static struct cmsghdr *put_header(struct cmsghdr *cmsg, int type, size_t len)
{
	cmsg->cmsg_level = SOL_ALG;
	cmsg->cmsg_type = type;
	cmsg->cmsg_len = CMSG_LEN(len);
	return (struct cmsghdr *)((uint8_t *)cmsg + CMSG_SPACE(len));
}

static struct cmsghdr *put_u32(struct cmsghdr *cmsg, int type, uint32_t value)
{
	memcpy(CMSG_DATA(cmsg), &value, sizeof(value));
	return put_header(cmsg, type, sizeof(value));
}

void afalg_iv(uint8_t iv[AFALG_IV_MAX], const struct cipher *cipher,
	      const uint8_t nonce[12])
{
	memset(iv, 0, AFALG_IV_MAX);
	if (cipher->kernel_iv_len > RECORD_NONCE)
		*iv++ = AFALG_IV_MAX - 1 - RECORD_NONCE - 1;
	memcpy(iv, nonce, RECORD_NONCE);
}

/* The IV goes with every request: else the kernel would use the last one. */
static void fill_control(struct afalg_request *request,
			 const struct aead_op *op, const struct cipher *cipher)
{
	struct cmsghdr *cmsg = (struct cmsghdr *)request->control;
	uint8_t bytes[AFALG_IV_MAX];
	struct af_alg_iv *iv;

	cmsg = put_u32(cmsg, ALG_SET_OP,
		       op->seal ? ALG_OP_ENCRYPT : ALG_OP_DECRYPT);
	cmsg = put_u32(cmsg, ALG_SET_AEAD_ASSOCLEN, op->aad_len);
	iv = (struct af_alg_iv *)CMSG_DATA(cmsg);
	iv->ivlen = (uint32_t)cipher->kernel_iv_len;
	afalg_iv(bytes, cipher, op->nonce);
	memcpy(iv->iv, bytes, cipher->kernel_iv_len);
	explicit_bzero(bytes, sizeof(bytes)); /* of record 0 it is the IV */
	cmsg = put_header(cmsg, ALG_SET_IV, sizeof(*iv) + iv->ivlen);
	request->msg.msg_controllen =
		(size_t)((uint8_t *)cmsg - request->control);
}

void afalg_fill(struct afalg_request *request, const struct aead_op *op,
		const struct cipher *cipher)
{
	struct iovec *iov = request->iov;

	memcpy(request->aad, op->aad, op->aad_len);
	request->tail = op->tail;
	iov[0] = (struct iovec){ request->aad, op->aad_len };
	iov[1] = (struct iovec){ (void *)(uintptr_t)op->in, op->in_len };
	iov[2] = (struct iovec){ &request->tail, op->seal && op->has_tail };
	iov[3] = (struct iovec){ (void *)(uintptr_t)record_zeros,
				 op->seal ? op->pad : 0 };
	request->msg = (struct msghdr){
		.msg_iov = iov,
		.msg_iovlen = 4,
		.msg_control = request->control,
	};
	fill_control(request, op, cipher);
}
