/* SPDX-License-Identifier: MIT */
/* The words behind tls_last_error(). */
#ifndef ASYNCTLS_ERROR_H
#define ASYNCTLS_ERROR_H

/* Keep the formatted words for this thread and return err. */
int error_set(int err, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
