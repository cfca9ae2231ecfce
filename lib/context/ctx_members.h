/* SPDX-License-Identifier: MIT */
/* The connections of a context: they come, have events to report, and go. */
#ifndef ASYNCTLS_CTX_MEMBERS_H
#define ASYNCTLS_CTX_MEMBERS_H

#include "context/ctx.h"

void ctx_add(struct tls_context *ctx, struct tls_conn *conn);
/*
 * End a connection's use of its socket, and free it once no engine has a record
 * of it. Returns its error, or how many application bytes were not sent.
 */
ssize_t ctx_remove(struct tls_context *ctx, struct tls_conn *conn);
/* Close all connections as by tls_close(conn, 0), at one stroke. */
void ctx_remove_all(struct tls_context *ctx);

/* Store the events there are; those not stored keep their turn. */
int ctx_collect(struct tls_context *ctx, struct tls_event *events, int max);

#endif
