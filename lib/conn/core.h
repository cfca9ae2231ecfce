/* SPDX-License-Identifier: MIT */
/* What the connections of one context share. */
#ifndef ASYNCTLS_CORE_H
#define ASYNCTLS_CORE_H

#include "asynctls.h"
#include "base/own.h"
#include "base/util.h"
#include "conn/feed.h"
#include "io/ring.h"
#include "line/dispatch.h"
#include "line/pool.h"
#include "line/queue.h"

struct core {
	struct ring *ring;
	struct dispatch dispatch;
	struct pool tx_pool, rx_pool;
	struct slot_cache slots;
	struct tls_stats stats; /* its own, and of connections that ended */
	unsigned depth;
	/* what connections begin with: tls_config.record_size, .record_ramp */
	size_t record_size;
	bool record_ramp;
	size_t send_window;
	bool ignore_eof;
	struct own_fd keylog; /* none: not wanted */
	uint64_t rekey_records; /* tls_config's; 0: the cipher's own limit */
	/* connections with completions not yet acted upon */
	struct list todo;
	/* connections with sealed records not yet given to the socket */
	struct list held;
	/* what waits for memory to send from, see tx.h */
	struct list thirsty;
	uint64_t looked; /* when they and feed.parts last were, by time */
	struct feed feed;
};

#endif
