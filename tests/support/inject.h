/* SPDX-License-Identifier: MIT */
/*
 * Stands in front of what the library calls, and has the n-th such call fail.
 * Only calls made inside IN_LIBRARY() count: the test's own do not.
 */
#ifndef TESTS_INJECT_H
#define TESTS_INJECT_H

#include <stdbool.h>

enum inject_into {
	INJECT_NOTHING,
	INJECT_MEMORY,	/* malloc() and its like, mmap() */
	INJECT_CALLS,	/* system calls, threads, what liburing wraps */
	INJECT_FILES,	/* fcntl(), and what tls_sendfile() reads with */
	INJECT_QUEUE,	/* ring_send() and its like: no room */
	INJECT_RESULTS, /* what sends and receives complete with */
	INJECT_ENGINE,	/* what requests to a driver complete with */
};

/* As the error of a result: one byte, then the rest as if nothing had been. */
enum { INJECT_SHORT = 1 };

/* Have call n (0 the next) fail with -error, and so times in all. */
void inject(enum inject_into where, long n, int error, long times);
/* No more; whether any call has failed since. */
bool inject_stop(void);
/* The call that failed last, for messages. */
const char *inject_failed(void);

extern bool inject_armed;

#define IN_LIBRARY(call)                                                    \
	({                                                                  \
		__atomic_store_n(&inject_armed, true, __ATOMIC_SEQ_CST);    \
		__typeof__(call) in_library_result = (call);                \
		__atomic_store_n(&inject_armed, false, __ATOMIC_SEQ_CST);   \
		in_library_result;                                          \
	})

#endif
