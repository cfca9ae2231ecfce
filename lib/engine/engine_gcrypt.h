/* SPDX-License-Identifier: MIT */
/*
 * AEADs in this process with libgcrypt, synchronous: not as fast as
 * intel-ipsec-mb, but on every architecture.
 *
 * libgcrypt is the whole process's. If nobody has begun to use it, it is begun
 * with gcry_check_version() and nothing more, so that the application may still
 * set up its secure memory as it likes; none of that is used here.
 */
#ifndef ASYNCTLS_ENGINE_GCRYPT_H
#define ASYNCTLS_ENGINE_GCRYPT_H

struct engine;

/*
 * 0, -ENOMEM, or -ENODEV where libgcrypt does not do what is wanted of it (or
 * built without); *why then says so (static text).
 */
int engine_gcrypt_new(struct engine **engine, const char **why);

#endif
