/* SPDX-License-Identifier: MIT */
#include "afalg_setup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/engine_cpu.h"

static const char restrict_path[] = "/proc/sys/crypto/af_alg_restrict";

char generic_driver[128], parallel_driver[160];
enum ring_kind setup_kind;
enum ring_io setup_io;

struct setup setup_start(const char *driver, bool any, unsigned max_sockets)
{
	struct afalg_options options = { driver, any, max_sockets };
	struct setup s;
	const char *why;

	assert_int_equal(ring_new(&s.ring, setup_kind, setup_io, &why), 0);
	assert_int_equal(engine_afalg_new(&s.engine, s.ring, &options), 0);
	return s;
}

void setup_stop(struct setup *s)
{
	ring_free(s->ring);
	s->engine->ops->free(s->engine);
}

const char *setup_refusal(struct setup *s, enum cipher_id id)
{
	return s->engine->ops->refusal(s->engine, &ciphers[id]);
}

void setup_assert_has(struct setup *s, enum cipher_id id)
{
	if (setup_refusal(s, id))
		fail_msg("%s: %s", ciphers[id].name, setup_refusal(s, id));
}

struct afalg_stats setup_stats(struct setup *s)
{
	struct afalg_stats now;

	engine_afalg_stats(s->engine, &now);
	return now;
}

bool afalg_restricted(void)
{
	return access(restrict_path, F_OK) == 0;
}

bool afalg_allow(void)
{
	FILE *file = fopen(restrict_path, "we");

	return file && fputs("0", file) >= 0 && fclose(file) == 0;
}

void need_cpu_engine(void)
{
	struct engine *engine;
	const char *why;

	if (engine_cpu_new(&engine, &why)) {
		print_message("%s\n", why);
		skip();
	}
	engine_cpu_free(engine);
}

/* Less the pcrypt() that other tests have put around it. */
int find_drivers(void **state)
{
	struct setup s = setup_start(NULL, true, SOCKETS);
	const struct cipher *cipher = &ciphers[CIPHER_AES_128_GCM];
	const char *driver;

	(void)state;
	setup_assert_has(&s, CIPHER_AES_128_GCM);
	driver = s.engine->ops->driver(s.engine, cipher);
	while (strncmp(driver, "pcrypt(", 7) == 0)
		driver += 7;
	snprintf(generic_driver, sizeof(generic_driver), "%.*s",
		 (int)strcspn(driver, ")"), driver);
	snprintf(parallel_driver, sizeof(parallel_driver),
		 afalg_restricted() ? "%s" : "pcrypt(%s)", generic_driver);
	setup_stop(&s);
	return 0;
}
