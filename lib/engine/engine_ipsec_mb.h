/* SPDX-License-Identifier: MIT */
/* AEADs in this process with intel-ipsec-mb, synchronous. */
#ifndef ASYNCTLS_ENGINE_IPSEC_MB_H
#define ASYNCTLS_ENGINE_IPSEC_MB_H

struct engine;

/*
 * 0, -ENOMEM, or -ENODEV where there is no intel-ipsec-mb (not x86-64, or
 * built without); *why then says so (static text).
 */
int engine_ipsec_mb_new(struct engine **engine, const char **why);

#endif
