/* SPDX-License-Identifier: MIT */
/*
 * The process begins, and ends. The environment is read now: programs clear it.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "claim.h"
#include "endings.h"
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
	tally_start();
	tally_also(hold_counts);
	hold_start(!is_off("ASYNCTLS_GATHER"));
	hold_each_second = tally_look;
	claim_start();
	ends_also = tally_end;
	ends_start();
	pthread_atfork(NULL, NULL, tally_forked);
	guest_start(!is_off("ASYNCTLS_DROPIN"));
}
