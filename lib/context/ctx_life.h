/* SPDX-License-Identifier: MIT */
/* A context's creation, end, and another owner. */
#ifndef ASYNCTLS_CTX_LIFE_H
#define ASYNCTLS_CTX_LIFE_H

#include "context/ctx.h"

int ctx_new(struct tls_context **out, const struct tls_config *config);
/* Every connection must be gone. */
void ctx_free(struct tls_context *ctx);

/* What tls_context_adopt() does. */
int ctx_adopt(struct tls_context *ctx);

#endif
