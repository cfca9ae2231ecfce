/* SPDX-License-Identifier: MIT */
/* From an SSL, or from secrets, to a connection of a context. */
#ifndef ASYNCTLS_TAKEOVER_H
#define ASYNCTLS_TAKEOVER_H

#include "asynctls.h"
#include "context/ctx.h"

/* As tls_handoff() and tls_handoff_secrets(), inside ctx_enter(). */
int takeover_ssl(struct tls_conn **out, struct tls_context *ctx,
		 struct ssl_st *ssl, const struct tls_options *options);
int takeover_secrets(struct tls_conn **out, struct tls_context *ctx, int fd,
		     const struct tls_secrets *secrets);

#endif
