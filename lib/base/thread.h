/* SPDX-License-Identifier: MIT */
/*
 * Who a thread is: an address that no other thread has for as long as anybody
 * keeps it, unlike a pthread_t or a number of the kernel's, which later threads
 * are given again. And whether it has ended.
 */
#ifndef ASYNCTLS_THREAD_H
#define ASYNCTLS_THREAD_H

#include <stdbool.h>

struct thread;

/*
 * For a _Thread_local of few bytes that every call looks at: at a fixed distance,
 * not to be asked of the loader. There is room for some of that kind after
 * dlopen(), too.
 */
#define THREAD_NEAR __attribute__((tls_model("initial-exec")))

/* The caller's, with a reference; NULL: no memory. */
struct thread *thread_keep(void);
void thread_put(struct thread *thread);

bool thread_is_mine(const struct thread *thread);
/* Its destructors of thread-specific data have been run, nearly all of them. */
bool thread_has_ended(const struct thread *thread);

#endif
