/* SPDX-License-Identifier: MIT */
/* asynctls-run --explain: what the lines of tally.h come to, in words. */
#ifndef ASYNCTLS_REPORT_H
#define ASYNCTLS_REPORT_H

#include <stdio.h>
#include <sys/types.h>

/* Of the file's lines from this offset on; the last one of each process. */
void report_print(FILE *to, const char *file, off_t from);

#endif
