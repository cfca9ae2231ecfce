/* SPDX-License-Identifier: MIT */
#include "engine_cpu.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "engine_gcrypt.h"
#include "engine_ipsec_mb.h"
#include "error.h"

enum { KINDS = 2 };

static const struct {
	const char *name;
	int (*make)(struct engine **engine, const char **why);
} kinds[KINDS] = { /* the fastest first */
	{ "ipsec-mb", engine_ipsec_mb_new },
	{ "gcrypt", engine_gcrypt_new },
};

static int take_named(struct engine **engine, const char **why, const char *name)
{
	int i, ret;

	for (i = 0; i < KINDS && strcmp(name, kinds[i].name) != 0; i++)
		;
	if (i == KINDS) {
		*why = "ASYNCTLS_CPU names one that is not known";
		return error_set(-EINVAL, "ASYNCTLS_CPU=%s: there is no such "
				 "CPU engine; use ipsec-mb or gcrypt", name);
	}
	ret = kinds[i].make(engine, why);
	if (ret)
		return error_set(ret == -ENODEV ? -EINVAL : ret,
				 "ASYNCTLS_CPU=%s: %s", name, *why);
	*why = i ? "ASYNCTLS_CPU names another" : NULL;
	return 0;
}

static int take_first(struct engine **engine, const char **why)
{
	const char *why_not[KINDS];
	int ret = kinds[0].make(engine, &why_not[0]);

	*why = NULL;
	if (!ret)
		return 0;
	*why = why_not[0];
	ret = kinds[1].make(engine, &why_not[1]);
	if (!ret)
		return 0;
	*why = "neither intel-ipsec-mb nor libgcrypt works here (ASYNCTLS_CPU="
	       "ipsec-mb or gcrypt says why)";
	return error_set(ret, "no CPU engine: ipsec-mb: %s; gcrypt: %s",
			 why_not[0], why_not[1]);
}

static void add_spare(struct engine *engine)
{
	const char *why;
	int i;

	for (i = 0; i < KINDS && !engine->spare; i++) {
		if (kinds[i].make(&engine->spare, &why))
			engine->spare = NULL;
		else if (engine->spare->ops == engine->ops) {
			engine->ops->free(engine->spare);
			engine->spare = NULL;
		}
	}
}

int engine_cpu_new(struct engine **engine, const char **why)
{
	const char *name = secure_getenv("ASYNCTLS_CPU");
	int ret;

	if (name && *name)
		ret = take_named(engine, why, name);
	else
		ret = take_first(engine, why);
	if (!ret)
		add_spare(*engine);
	return ret;
}

void engine_cpu_free(struct engine *engine)
{
	if (!engine)
		return;
	if (engine->spare)
		engine->spare->ops->free(engine->spare);
	engine->ops->free(engine);
}
