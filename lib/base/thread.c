/* SPDX-License-Identifier: MIT */
#include "base/thread.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct thread {
	atomic_uint refs; /* the thread's own, and of who keeps it */
	atomic_bool ended;
	int rounds; /* of destructors */
};

static _Thread_local struct thread *self THREAD_NEAR;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static bool have_key;

/*
 * The application's own destructors may call the library, in whatever order
 * they are run: the last round but one is early enough. (In the last one the
 * thread sanitizer takes leave of the thread.)
 */
enum { ROUNDS = PTHREAD_DESTRUCTOR_ITERATIONS - 1 };

static void end(void *arg)
{
	struct thread *thread = arg;

	if (++thread->rounds < ROUNDS &&
	    pthread_setspecific(key, thread) == 0)
		return;
	self = NULL;
	atomic_store(&thread->ended, true);
	thread_put(thread);
}

static void make_key(void)
{
	have_key = pthread_key_create(&key, end) == 0;
}

static struct thread *make_self(void)
{
	struct thread *thread;

	pthread_once(&once, make_key);
	if (!have_key)
		return NULL;
	thread = calloc(1, sizeof(*thread));
	if (!thread)
		return NULL;
	atomic_init(&thread->refs, 1);
	if (pthread_setspecific(key, thread)) {
		free(thread);
		return NULL;
	}
	return thread;
}

struct thread *thread_keep(void)
{
	if (!self)
		self = make_self();
	if (self)
		atomic_fetch_add(&self->refs, 1);
	return self;
}

void thread_put(struct thread *thread)
{
	if (thread && atomic_fetch_sub(&thread->refs, 1) == 1)
		free(thread);
}

bool thread_is_mine(const struct thread *thread)
{
	return thread == self && self;
}

bool thread_has_ended(const struct thread *thread)
{
	return atomic_load(&thread->ended);
}
