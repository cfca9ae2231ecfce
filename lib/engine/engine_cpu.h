/* SPDX-License-Identifier: MIT */
/*
 * The CPU engine of a context: intel-ipsec-mb where that works, or libgcrypt;
 * the environment variable ASYNCTLS_CPU (ipsec-mb, gcrypt) may name one. The
 * other, if it works, is the spare of the one that was taken.
 */
#ifndef ASYNCTLS_ENGINE_CPU_H
#define ASYNCTLS_ENGINE_CPU_H

#include <stdbool.h>

struct engine;

/*
 * 0; *why then says why it is not intel-ipsec-mb, or is NULL. -ENODEV if there
 * is none, -EINVAL if the environment names one that is not known or does not
 * work, -ENOMEM: with words, and in *why in general (static text).
 */
int engine_cpu_new(struct engine **engine, const char **why);
void engine_cpu_free(struct engine *engine); /* NULL is fine */

#endif
