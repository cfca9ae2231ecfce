/* SPDX-License-Identifier: MIT */
#ifndef BENCH_CERTIFICATE_H
#define BENCH_CERTIFICATE_H

#include <openssl/x509.h>

/* A new P-256 key and its self-signed certificate, or exit with a message. */
void certificate_new(EVP_PKEY **key, X509 **cert);

#endif
