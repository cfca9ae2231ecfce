/* SPDX-License-Identifier: MIT */
#ifndef ASYNCTLS_TESTS_CERTIFICATE_H
#define ASYNCTLS_TESTS_CERTIFICATE_H

#include <openssl/x509.h>

/*
 * A certificate for localhost, self-signed with key and valid for an hour, or
 * NULL: OpenSSL's error queue says why.
 */
X509 *certificate_new(EVP_PKEY *key);

#endif
