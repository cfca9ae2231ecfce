/* SPDX-License-Identifier: MIT */
/* Variables of the environment that override what a program has chosen. */
#ifndef ASYNCTLS_ENVIRONMENT_H
#define ASYNCTLS_ENVIRONMENT_H

/*
 * The number of the name that the variable has for a value, *value being that;
 * ENVIRONMENT_NOTHING if it is not set, or not to be heeded in a program that runs
 * with privileges; ENVIRONMENT_UNKNOWN if it is none of them.
 */
enum { ENVIRONMENT_NOTHING = -1, ENVIRONMENT_UNKNOWN = -2 };
int environment_pick(const char *variable, const char *const *names, int count,
		     const char **value);

#endif
