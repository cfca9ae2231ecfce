/* SPDX-License-Identifier: MIT */
#include "base/environment.h"

#include <stdlib.h>
#include <string.h>

int environment_pick(const char *variable, const char *const *names, int count,
		     const char **value)
{
	int i;

	*value = secure_getenv(variable);
	if (!*value || !**value)
		return ENVIRONMENT_NOTHING;
	for (i = 0; i < count; i++)
		if (strcmp(*value, names[i]) == 0)
			return i;
	return ENVIRONMENT_UNKNOWN;
}
