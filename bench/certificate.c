/* SPDX-License-Identifier: MIT */
#include "certificate.h"
#include "common.h"

#include <openssl/evp.h>

void certificate_new(EVP_PKEY **key, X509 **cert)
{
	X509_NAME *name;

	*key = EVP_EC_gen("P-256");
	*cert = X509_new();
	name = *cert ? X509_get_subject_name(*cert) : NULL;
	if (!*key || !name || !X509_set_version(*cert, 2) ||
	    !ASN1_INTEGER_set(X509_get_serialNumber(*cert), 1) ||
	    !X509_gmtime_adj(X509_getm_notBefore(*cert), -60) ||
	    !X509_gmtime_adj(X509_getm_notAfter(*cert), 86400) ||
	    !X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
					(const unsigned char *)"localhost", -1,
					-1, 0) ||
	    !X509_set_issuer_name(*cert, name) ||
	    !X509_set_pubkey(*cert, *key) ||
	    !X509_sign(*cert, *key, EVP_sha256()))
		die("certificate: %s", openssl_words());
}
