/* SPDX-License-Identifier: MIT */
/* The kernel engine alone, on a ring, as the programs that run in a VM use it. */
#ifndef TESTS_AFALG_SETUP_H
#define TESTS_AFALG_SETUP_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/engine_afalg.h"
#include "io/ring.h"
#include "record/cipher.h"

/*
 * The driver that gcm(aes) is on this kernel, and pcrypt() of it, which is
 * asynchronous; from Linux 7.2 AF_ALG has nothing asynchronous any more.
 */
extern char generic_driver[128], parallel_driver[160];
/* What rings are from now on. */
extern enum ring_kind setup_kind;
extern enum ring_io setup_io;

enum { SOCKETS = 256 };

struct setup {
	struct ring *ring;
	struct engine *engine;
};

struct setup setup_start(const char *driver, bool any, unsigned max_sockets);
void setup_stop(struct setup *s);

/* Why the engine has no such cipher; NULL if it has. */
const char *setup_refusal(struct setup *s, enum cipher_id id);
void setup_assert_has(struct setup *s, enum cipher_id id);
struct afalg_stats setup_stats(struct setup *s);

/* Does this kernel restrict AF_ALG (from 7.3 on)? */
bool afalg_restricted(void);
/* Not any more; returns whether that could be had. */
bool afalg_allow(void);

/* Skips the test that calls it, with the reason, where no CPU engine works. */
void need_cpu_engine(void);

/* A group's setup: fills in the drivers' names. */
int find_drivers(void **state);

#endif
