/* SPDX-License-Identifier: MIT */
/* The CPU engine: AEADs in this process with intel-ipsec-mb, synchronous. */
#ifndef ASYNCTLS_ENGINE_CPU_H
#define ASYNCTLS_ENGINE_CPU_H

struct engine;

/*
 * 0, -ENOMEM, or -ENODEV where there is no intel-ipsec-mb (not x86-64, or
 * built without); *why then says so (static text).
 */
int engine_cpu_new(struct engine **engine, const char **why);

#endif
