/* SPDX-License-Identifier: MIT */
#include "engine/engine_cpu.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "engine/engine.h"
#include "engine/engine_gcrypt.h"
#include "engine/engine_ipsec_mb.h"

enum { KINDS = 2 };

static const struct {
	const char *name;
	int (*make)(struct engine **engine, const char **why);
} kinds[KINDS] = { /* the fastest first */
	{ "ipsec-mb", engine_ipsec_mb_new },
	{ "gcrypt", engine_gcrypt_new },
};

static int take_named(int *kind, struct engine **engine, const char **why,
		      const char *name)
{
	int i, ret;

	for (i = 0; i < KINDS && strcmp(name, kinds[i].name) != 0; i++)
		;
	if (i == KINDS) {
		*why = "ASYNCTLS_CPU names one that is not known";
		return error_set(-EINVAL, "ASYNCTLS_CPU=%s: there is no such "
				 "CPU engine; use ipsec-mb or gcrypt", name);
	}
	*kind = i;
	ret = kinds[i].make(engine, why);
	if (ret)
		return error_set(ret == -ENODEV ? -EINVAL : ret,
				 "ASYNCTLS_CPU=%s: %s", name, *why);
	*why = "ASYNCTLS_CPU names another";
	return 0;
}

static int take_first(int *kind, struct engine **engine, const char **why)
{
	const char *why_not[KINDS] = { NULL };
	int ret = -ENODEV;

	for (*kind = 0; *kind < KINDS && ret == -ENODEV; ++*kind)
		ret = kinds[*kind].make(engine, &why_not[*kind]);
	--*kind;
	*why = why_not[0];
	if (!ret)
		return 0;
	if (ret != -ENODEV) {
		*why = why_not[*kind];
		return error_set(ret, "%s", *why);
	}
	*why = "neither intel-ipsec-mb nor libgcrypt works here (ASYNCTLS_CPU="
	       "ipsec-mb or gcrypt says why)";
	return error_set(ret, "no CPU engine: ipsec-mb: %s; gcrypt: %s",
			 why_not[0], why_not[1]);
}

int engine_cpu_new(struct engine **engine, const char **why)
{
	const char *name = secure_getenv("ASYNCTLS_CPU"), *why_not;
	int kind = 0, ret;

	if (name && *name)
		ret = take_named(&kind, engine, why, name);
	else
		ret = take_first(&kind, engine, why);
	if (ret)
		return ret;
	if (kind == 0)
		*why = NULL;
	if (kinds[!kind].make(&(*engine)->spare, &why_not))
		(*engine)->spare = NULL;
	return 0;
}

void engine_cpu_free(struct engine *engine)
{
	if (!engine)
		return;
	if (engine->spare)
		engine->spare->ops->free(engine->spare);
	engine->ops->free(engine);
}
