/* SPDX-License-Identifier: MIT */
/*
 * NEXT(close)(fd) calls the close() that ours stands in front of: the next one
 * in the order in which the dynamic linker looks symbols up.
 */
#ifndef ASYNCTLS_NEXT_H
#define ASYNCTLS_NEXT_H

#include <dlfcn.h>
#include <stdatomic.h>

/* Visible to the program, and so in front of what it would have called. */
#define INTERPOSED __attribute__((visibility("default")))

#define NEXT(name)                                                         \
	({                                                                 \
		static _Atomic(__typeof__(&name)) next_;                   \
		__typeof__(&name) it_ =                                    \
			atomic_load_explicit(&next_, memory_order_relaxed); \
		if (!it_) {                                                \
			it_ = (__typeof__(&name))dlsym(RTLD_NEXT, #name);  \
			atomic_store_explicit(&next_, it_,                 \
					      memory_order_relaxed);       \
		}                                                          \
		it_;                                                       \
	})

#endif
