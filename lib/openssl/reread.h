/* SPDX-License-Identifier: MIT */
/*
 * Have OpenSSL read records that do not come from its socket: of a connection
 * that was handed over, its read state stands where that left it, under the key
 * it then had.
 */
#ifndef ASYNCTLS_REREAD_H
#define ASYNCTLS_REREAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ssl_st;

/*
 * SSL_read() them all, dropping data; what OpenSSL answers goes nowhere. The
 * BIOs and SSL_get_shutdown() are as before then, and the error queue; while it
 * lasts SSL_get_fd() says fd. quietly: the application's callbacks for
 * information and messages are not called (that for messages is then gone).
 * false: OpenSSL has not taken them all.
 */
bool reread(struct ssl_st *ssl, const uint8_t *records, size_t len, int fd,
	    bool quietly);

#endif
