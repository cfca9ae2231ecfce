/* SPDX-License-Identifier: MIT */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>

#include "asynctls.h"

static _Thread_local char words[512] = "no error";

int error_set(int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(words, sizeof(words), format, args);
	va_end(args);
	return err;
}

const char *tls_last_error(void)
{
	return words;
}
