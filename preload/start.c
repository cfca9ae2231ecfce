/* SPDX-License-Identifier: MIT */
/*
 * The process begins, and ends. The environment is read now: programs clear it.
 */
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "claim.h"
#include "guest.h"
#include "hold.h"
#include "tally.h"

static bool is_off(const char *name)
{
	const char *value = secure_getenv(name);

	return value && (!strcmp(value, "off") || !strcmp(value, "0"));
}

__attribute__((constructor)) static void start(void)
{
	secret_keep_in_children(); /* claim.h has the rule */
	claim_start();
	hold_start(!is_off("ASYNCTLS_GATHER"));
	tally_start();
	guest_start(!is_off("ASYNCTLS_DROPIN"));
}
