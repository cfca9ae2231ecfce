/* SPDX-License-Identifier: MIT */
#include "accel.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define PARAMETERS "/sys/module/asynctls_accel/parameters/"

enum { PATIENCE = 10000 /* ms */ };

static const struct {
	const char *name;
	long value;
} defaults[] = {
	{ "fail_every", 0 },	 { "fail_errno", EIO },
	{ "tag_every", 0 },	 { "hold_every", 0 },
	{ "fail_ops", ACCEL_SEAL | ACCEL_OPEN },
	{ "latency_us", 100 },	 { "jitter_us", 0 },
	{ "parallelism", 1 },	 { "queue_length", 1000 },
	{ "full_errno", EBUSY }, { "order", ACCEL_ARRIVED },
	{ "null_cipher", 0 },	 { "priority", 1 },
};

bool accel_present(void)
{
	return access(PARAMETERS "latency_us", F_OK) == 0;
}

static FILE *parameter_file(const char *name, const char *mode)
{
	char path[100];
	FILE *file;

	snprintf(path, sizeof(path), PARAMETERS "%s", name);
	file = fopen(path, mode);
	if (!file)
		fail_msg("%s: %s", path, strerror(errno));
	return file;
}

void accel_set(const char *name, long value)
{
	FILE *file = parameter_file(name, "we");

	fprintf(file, "%ld", value);
	if (fclose(file))
		fail_msg("%s = %ld: %s", name, value, strerror(errno));
}

uint64_t accel_get(const char *name)
{
	FILE *file = parameter_file(name, "re");
	unsigned long long value = 0;

	if (fscanf(file, "%llu", &value) != 1)
		fail_msg("%s is no number", name);
	fclose(file);
	return value;
}

void accel_wait_idle(void)
{
	int ms;

	for (ms = 0; accel_get("outstanding"); ms++) {
		if (ms == PATIENCE)
			fail_msg("the accelerator stays busy");
		usleep(1000);
	}
}

void accel_wait_for(const char *counter, uint64_t value)
{
	int ms;

	for (ms = 0; accel_get(counter) < value; ms++) {
		if (ms == PATIENCE)
			fail_msg("the accelerator's %s stays below %llu",
				 counter, (unsigned long long)value);
		usleep(1000);
	}
}

void accel_restore(void)
{
	unsigned i;

	for (i = 0; i < sizeof(defaults) / sizeof(*defaults); i++)
		accel_set(defaults[i].name, defaults[i].value);
	accel_set("release", 0);
	accel_wait_idle();
	accel_set("reset", 1);
}
