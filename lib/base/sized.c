/* SPDX-License-Identifier: MIT */
#include "base/sized.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "base/util.h"

static bool is_zero(const uint8_t *bytes, size_t len)
{
	while (len && !*bytes)
		bytes++, len--;
	return !len;
}

int sized_take(void *to, size_t our_size, const void *from, size_t least,
	       const char *name)
{
	size_t size = 0;

	if (!from)
		return error_set(-EINVAL, "%s is NULL", name);
	memcpy(&size, from, sizeof(size));
	if (size < least)
		return error_set(-EINVAL, "%s.size is %zu, and was never less "
				 "than %zu: start from the macro whose name "
				 "ends in _INIT", name, size, least);
	if (size > our_size &&
	    !is_zero((const uint8_t *)from + our_size, size - our_size))
		return error_set(-E2BIG, "%s sets fields that this version of "
				 "libasynctls does not know (%zu bytes, of "
				 "which it knows %zu): leave them 0, or use "
				 "the version that the program was compiled "
				 "with", name, size, our_size);
	memset(to, 0, our_size);
	memcpy(to, from, min_size(size, our_size));
	memcpy(to, &our_size, sizeof(our_size));
	return 0;
}

void sized_give(void *to, size_t size, const void *from, size_t our_size)
{
	memcpy(to, from, min_size(size, our_size));
	if (size > our_size)
		memset((uint8_t *)to + our_size, 0, size - our_size);
}
