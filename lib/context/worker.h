/* SPDX-License-Identifier: MIT */
/*
 * The worker thread of a TLS_CONTEXT_WORKER: transmits what the application
 * leaves behind when it does not come back to the library for a millisecond.
 * While nothing is held back it sleeps without a time limit.
 */
#ifndef ASYNCTLS_WORKER_H
#define ASYNCTLS_WORKER_H

#include <stdint.h>

struct tls_context;

/* 0 or -errno, with the words in error_set(). */
int worker_start(struct tls_context *ctx);
void worker_stop(struct tls_context *ctx);

/* The application is about to leave: rouse an idle worker if need be. */
void worker_watch(struct tls_context *ctx);

#endif
