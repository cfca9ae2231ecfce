/* SPDX-License-Identifier: MIT */
#include "engine/choice.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/environment.h"
#include "base/error.h"
#include "engine/engine_afalg.h"
#include "engine/engine_cpu.h"

enum { DEFAULT_OP_SOCKETS = 256 };

static const char *const engine_names[] = {
	[TLS_ENGINE_AUTO] = "auto",
	[TLS_ENGINE_AFALG] = "afalg",
	[TLS_ENGINE_CPU] = "cpu",
};

static int engine_from_environment(struct choice *c)
{
	const char *name;
	int i = environment_pick("ASYNCTLS_ENGINE", engine_names,
				 TLS_ENGINE_CPU + 1, &name);

	if (i >= 0)
		c->wanted = (enum tls_engine)i;
	if (i != ENVIRONMENT_UNKNOWN)
		return 0;
	return error_set(-EINVAL, "ASYNCTLS_ENGINE=%s: there is no such "
			 "engine; use auto, afalg or cpu", name);
}

static int settle(struct choice *c, const struct tls_config *config)
{
	const char *driver = secure_getenv("ASYNCTLS_DRIVER");
	int ret;

	*c = (struct choice){ .wanted = config->engine };
	if (config->engine > TLS_ENGINE_CPU)
		return error_set(-EINVAL, "tls_config.engine: no engine has "
				 "the number %d", (int)config->engine);
	if (config->hybrid > TLS_HYBRID_OFF)
		return error_set(-EINVAL, "tls_config.hybrid: %d is none of "
				 "its values", (int)config->hybrid);
	c->driver = driver && *driver ? driver : config->driver;
	if (c->driver && !*c->driver)
		c->driver = NULL;
	if (c->driver && c->wanted == TLS_ENGINE_AUTO)
		c->wanted = TLS_ENGINE_AFALG;
	ret = engine_from_environment(c);
	c->hybrid = config->hybrid == TLS_HYBRID_ON ||
		    (config->hybrid == TLS_HYBRID_DEFAULT &&
		     c->wanted == TLS_ENGINE_AUTO);
	return ret;
}

static const char *refusal(const struct engine *e, const struct cipher *cipher)
{
	return e->ops->refusal(e, cipher);
}

static int open_kernel(struct choice *c, const struct tls_config *config,
		       struct ring *ring)
{
	const struct afalg_options options = {
		.driver = c->driver,
		.any_driver = c->wanted == TLS_ENGINE_AFALG || !c->cpu,
		.max_sockets = config->max_op_sockets ? config->max_op_sockets :
							DEFAULT_OP_SOCKETS,
	};
	int i, ret = engine_afalg_new(&c->kernel, ring, &options);

	if (ret)
		return error_set(ret, "the afalg engine could not be made: %s",
				 strerror(-ret));
	for (i = 0; i < CIPHER_COUNT; i++)
		c->kernel_in_use |= !refusal(c->kernel, &ciphers[i]);
	if (!c->kernel_in_use && c->wanted == TLS_ENGINE_AFALG)
		return error_set(-ENODEV, "the afalg engine was asked for, "
				 "but: %s", refusal(c->kernel, &ciphers[0]));
	return 0;
}

int choice_make(struct choice *c, const struct tls_config *config,
		struct ring *ring)
{
	int ret = settle(c, config);

	if (ret)
		return ret;
	ret = engine_cpu_new(&c->cpu, &c->cpu_why);
	if (ret && (ret != -ENODEV || c->wanted == TLS_ENGINE_CPU))
		return ret;
	if (c->wanted != TLS_ENGINE_CPU)
		ret = open_kernel(c, config, ring);
	else
		ret = 0;
	if (!ret && !c->cpu && !c->kernel_in_use)
		ret = error_set(-ENODEV, "no engine: %s; and not afalg: %s "
				"(ASYNCTLS_DRIVER names another driver)",
				c->cpu_why, refusal(c->kernel, &ciphers[0]));
	if (ret)
		choice_destroy(c);
	return ret;
}

void choice_destroy(struct choice *c)
{
	if (c->kernel)
		c->kernel->ops->free(c->kernel);
	engine_cpu_free(c->cpu);
	c->kernel = c->cpu = NULL;
}

static int describe_cipher(const struct choice *c, const struct cipher *cipher,
			   char *buf, size_t len)
{
	const char *not = c->kernel ? refusal(c->kernel, cipher) :
				      "another engine was asked for";

	if (!not)
		return snprintf(buf, len, "%s: afalg, driver %s%s\n",
				cipher->name,
				c->kernel->ops->driver(c->kernel, cipher),
				c->hybrid && c->cpu ? ", or cpu by record" :
						      "");
	if (!c->cpu)
		return snprintf(buf, len, "%s: none; not afalg: %s; not cpu: "
				"%s\n", cipher->name, not, c->cpu_why);
	return snprintf(buf, len, "%s: cpu, %s%s%s%s; not afalg: %s\n",
			cipher->name, c->cpu->ops->driver(c->cpu, cipher),
			c->cpu_why ? " (not intel-ipsec-mb: " : "",
			c->cpu_why ? c->cpu_why : "", c->cpu_why ? ")" : "",
			not);
}

int choice_describe(const struct choice *c, char *buf, size_t len)
{
	size_t total = 0;
	int i;

	for (i = 0; i < CIPHER_COUNT; i++) {
		size_t at = total < len ? total : len;

		total += (size_t)describe_cipher(c, &ciphers[i],
						 len ? buf + at : NULL,
						 len - at);
	}
	return (int)total;
}
