/* SPDX-License-Identifier: MIT */
/*
 * The test accelerator (tests/kmod/asynctls_accel.c says what it models), from
 * a test's side: its parameters, counters and drivers by name.
 */
#ifndef TESTS_ACCEL_H
#define TESTS_ACCEL_H

#include <stdbool.h>
#include <stdint.h>

#define ACCEL_GCM "asynctls-accel-gcm"
#define ACCEL_CHACHA "asynctls-accel-chacha"

/* Values of the parameters "order" and "fail_ops". */
enum { ACCEL_ARRIVED, ACCEL_REVERSED, ACCEL_RANDOM, ACCEL_FINISHED };
enum { ACCEL_SEAL = 1, ACCEL_OPEN = 2 };

/* Is the module loaded? */
bool accel_present(void);

/* Both fail the test if there is no such parameter. */
void accel_set(const char *parameter, long value);
uint64_t accel_get(const char *counter);

/*
 * Release what is held, wait until nothing is outstanding, then set every
 * parameter to its default and the counters to 0.
 */
void accel_restore(void);
/* Wait until nothing is outstanding; the test fails after some seconds. */
void accel_wait_idle(void);
/* Wait until counter is at least value. */
void accel_wait_for(const char *counter, uint64_t value);

#endif
