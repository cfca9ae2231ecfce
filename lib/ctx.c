/* SPDX-License-Identifier: MIT */
#include "ctx.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine_afalg.h"
#include "error.h"
#include "sized.h"
#include "thread.h"
#include "worker.h"

enum {
	DEFAULT_DEPTH = 32,
	MAX_DEPTH = 4096,
	MIN_SLOTS = 64,
	DEFAULT_MEMORY = 64 << 20,
	LEAST_MEMORY = 1 << 20,
	DEFAULT_DEADLINE_MS = 1000,
	/*
	 * So often completions are reaped in one go: a peer who sends fast
	 * enough must not keep a call for ever.
	 */
	ROUNDS = 8,
};

/* ---- Moving on --------------------------------------------------------- */

static void signal_app(struct tls_context *ctx)
{
	const uint64_t one = 1;

	if (ctx->kind != TLS_CONTEXT_WORKER || ctx->signalled)
		return;
	ctx->signalled = write(ctx->event_fd, &one, sizeof(one)) > 0;
}

void ctx_mark(struct tls_context *ctx, struct tls_conn *conn)
{
	wake_conn(&ctx->wake, conn);
	if (!list_empty(&conn->ready) || !conn_events(conn))
		return;
	list_add_once(&ctx->ready, &conn->ready);
	signal_app(ctx);
	/* a thread in tls_context_wait() sleeps on the ring, not on that */
	wake_listeners(&ctx->wake);
}

static void destroy(struct tls_conn *conn)
{
	list_remove(&conn->all);
	list_remove(&conn->todo);
	tx_destroy(&conn->tx);
	rx_destroy(&conn->rx);
	tls_stats_add(&conn->core->stats, &conn->account.stats,
		      sizeof(struct tls_stats));
	free(conn->keylog);
	free(conn);
}

/*
 * A connection is closed, but what an engine writes to stays its own until the
 * engine is done, and is counted until then. (Operations of a ring that broke
 * down are never done.)
 */
static void release(struct tls_conn *conn)
{
	if (!conn->tx.queue.in_flight && !conn->rx.queue.in_flight &&
	    !conn->tx.sending && !conn->rx.receiving)
		destroy(conn);
}

static void advance_all(struct tls_context *ctx)
{
	struct list todo, *node;

	list_take_all(&todo, &ctx->core.todo);
	while ((node = list_take(&todo))) {
		struct tls_conn *conn =
			container_of(node, struct tls_conn, todo);

		if (conn->gone) {
			release(conn);
			continue;
		}
		conn_advance(conn);
		ctx_mark(ctx, conn);
	}
}

/* Who waits for memory, or for the rest of a record, is not forgotten. */
static void look_at_waiting(struct tls_context *ctx)
{
	uint64_t now = now_ns();

	if (now - ctx->core.looked < FEED_LOOK_NS)
		return;
	ctx->core.looked = now;
	feed_look(&ctx->core);
	tx_serve(&ctx->core);
}

static bool has_waiting(const struct core *core)
{
	return !list_empty(&core->thirsty) || !list_empty(&core->feed.parts);
}

/* Whom that serves is on core->todo. */
static void share_memory(struct tls_context *ctx)
{
	feed_serve(&ctx->core);
	if (ctx->core.tx_pool.gave_back && !list_empty(&ctx->core.thirsty))
		tx_serve(&ctx->core);
	else if (has_waiting(&ctx->core))
		look_at_waiting(ctx);
}

int ctx_error(const struct tls_context *ctx)
{
	if (!ctx->error)
		return 0;
	return error_set(ctx->error, "the kernel takes no more work from this "
			 "context (io_uring_enter: %s): has a sandbox "
			 "forbidden it, or closefrom() closed its descriptor? "
			 "Free it and create another", strerror(-ctx->error));
}

/* Nothing that a connection waits for will come. */
static void break_down(struct tls_context *ctx, int error)
{
	struct list *node;
	char words[100];

	ctx->error = error;
	snprintf(words, sizeof(words), "the kernel takes no more work from the "
		 "context (io_uring_enter: %s)", strerror(-error));
	for (node = ctx->conns.next; node != &ctx->conns; node = node->next) {
		struct tls_conn *conn =
			container_of(node, struct tls_conn, all);

		conn_break(conn, error, words);
		ctx_mark(ctx, conn);
	}
	/* who sleeps in the ring already is not refused, nor woken by it */
	wake_all(&ctx->wake);
	alarm_wake(&ctx->alarm);
	signal_app(ctx);
	ring_nudge(ctx->core.ring);
}

/* What has completed, and what follows from it. */
static unsigned step_once(struct tls_context *ctx)
{
	struct dispatch *d = &ctx->core.dispatch;
	bool woken = ctx->alarm.woken;
	unsigned n = ring_reap(ctx->core.ring);

	wake_reaped(&ctx->wake, n);
	if (ctx->alarm.woken && !woken)
		signal_app(ctx); /* if nobody waits, by the descriptor */
	if (ring_error(ctx->core.ring) && !ctx->error)
		break_down(ctx, ring_error(ctx->core.ring));
	if (d->flying_count)
		dispatch_expire(d, now_ns());
	share_memory(ctx);
	advance_all(ctx);
	return n;
}

unsigned ctx_step(struct tls_context *ctx)
{
	unsigned total = 0, n, rounds = 0;

	do {
		n = step_once(ctx);
		total += n;
	} while (n && ++rounds < ROUNDS);
	return total;
}

bool ctx_stuck(const struct tls_context *ctx)
{
	return ring_unsubmitted(ctx->core.ring) || !list_empty(&ctx->core.todo);
}

/*
 * A loop sleeps by its descriptor, which is to tell when something must be done
 * at a time. In a worker context the worker will see to it.
 */
static void set_alarm(struct tls_context *ctx)
{
	int64_t ns = ctx_limit_wait(ctx, ctx_stuck(ctx) ? NS_PER_MS : -1);
	uint64_t now;

	if (ns < 0 || ctx->error)
		return;
	now = now_ns();
	if (!alarm_set(&ctx->alarm, now + (uint64_t)ns, now) ||
	    ring_submit(ctx->core.ring))
		ring_nudge(ctx->core.ring);
}

bool ctx_all_reaped(struct tls_context *ctx)
{
	if (ctx->kind == TLS_CONTEXT_LOOP)
		set_alarm(ctx);
	return ctx->wake.stale || ring_listen(ctx->core.ring);
}

void ctx_submit(struct tls_context *ctx)
{
	unsigned rounds = 0;

	while (ring_unsubmitted(ctx->core.ring) && rounds++ < ROUNDS) {
		if (ring_submit(ctx->core.ring) && !ctx_step(ctx))
			break; /* the kernel takes nothing more for now */
		step_once(ctx);
	}
}

void ctx_flush_held(struct tls_context *ctx)
{
	struct list held, *node;

	list_take_all(&held, &ctx->core.held);
	while ((node = list_take(&held))) {
		struct tls_conn *conn =
			container_of(node, struct tls_conn, held);

		conn_push(conn);
		ctx_mark(ctx, conn);
	}
}

void ctx_wait_ring(struct tls_context *ctx, int64_t ns)
{
	if (ctx->kind == TLS_CONTEXT_LOOP) {
		ring_wait(ctx->core.ring, ns);
		return;
	}
	wake_wait(&ctx->wake, &ctx->lock, ns);
}

/* Of two waits, -1: for ever. */
static int64_t shorter(int64_t a, int64_t b)
{
	if (a < 0 || b < 0)
		return a < 0 ? b : a;
	return a < b ? a : b;
}

static int64_t tend_memory(struct tls_context *ctx, int64_t ns)
{
	struct core *core = &ctx->core;
	uint64_t now = now_ns();

	if (pool_trim(&core->tx_pool, now) | pool_trim(&core->rx_pool, now) |
	    pool_trim(&core->slots.pool, now) | feed_trim(core, now))
		ns = shorter(ns, POOL_TRIM_NS);
	if (!has_waiting(core))
		return ns;
	look_at_waiting(ctx);
	return shorter(ns, FEED_LOOK_NS);
}

int64_t ctx_limit_wait(struct tls_context *ctx, int64_t ns)
{
	struct afalg_stats stats;
	uint64_t now, due;

	if (ctx->error)
		return ns;
	ns = tend_memory(ctx, ns);
	/* a loop's waiting submits what is queued */
	if (ctx->kind == TLS_CONTEXT_LOOP ? !list_empty(&ctx->core.todo) :
					    ctx_stuck(ctx))
		ns = shorter(ns, NS_PER_MS);
	if (!ctx->core.dispatch.kernel)
		return ns;
	now = now_ns();
	due = dispatch_due(&ctx->core.dispatch);
	if (due != UINT64_MAX)
		ns = shorter(ns, due > now ? (int64_t)(due - now) : 0);
	if (!ctx->choice.kernel_in_use)
		return ns;
	if (now - ctx->last_trim >= CTX_TRIM_NS) {
		engine_afalg_trim(ctx->choice.kernel);
		ctx->last_trim = now;
	}
	engine_afalg_stats(ctx->choice.kernel, &stats);
	return stats.transforms ? shorter(ns, CTX_TRIM_NS) : ns;
}

/* Wait with the lock given up, and say for what. */
static void wait_for(struct tls_context *ctx, struct tls_conn *conn,
		     unsigned await, int64_t ns)
{
	struct wake *wake = &ctx->wake;

	if (conn)
		conn->awaited |= await;
	wake->listeners += !conn;
	wake->callers++;
	ctx_wait_ring(ctx, ctx_limit_wait(ctx, ns));
	wake->callers--;
	wake->listeners -= !conn;
}

bool ctx_block(struct tls_context *ctx, struct tls_conn *conn, unsigned await,
	       uint64_t deadline)
{
	uint64_t now = now_ns();
	int64_t ns = -1;

	if (ctx->error)
		return false;
	if (deadline != UINT64_MAX) {
		if (now >= deadline)
			return false;
		ns = (int64_t)(deadline - now);
	}
	if (ctx->kind == TLS_CONTEXT_WORKER) {
		uint64_t epoch = ctx->wake.epoch;

		if (conn)
			ctx_mark(ctx, conn); /* the caller has changed it */
		ctx_submit(ctx);
		ctx_step(ctx);
		if (epoch != ctx->wake.epoch)
			return true; /* maybe what the caller waits for */
	}
	wait_for(ctx, conn, await, ns);
	ctx_step(ctx);
	return true;
}

/* ---- Entering and leaving ---------------------------------------------- */

static _Thread_local int cancel_state; /* before the call under way */

static int refuse_fork(void)
{
	return error_set(-EPERM, "this process was forked from the one the "
			 "context belongs to");
}

/* The worker makes way for those who knock; the mutex alone is not so fair. */
static void lock(struct tls_context *ctx)
{
	if (pthread_mutex_trylock(&ctx->lock) == 0)
		return;
	ctx->knocking++;
	pthread_mutex_lock(&ctx->lock);
	ctx->knocking--;
}

int ctx_enter(struct tls_context *ctx)
{
	if (!*ctx->not_forked)
		return refuse_fork();
	if (ctx->kind == TLS_CONTEXT_LOOP && !thread_is_mine(ctx->owner))
		return error_set(-EPERM, "a TLS_CONTEXT_LOOP belongs to the "
				 "thread that created it: if that has ended, "
				 "tls_context_adopt()");
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	if (ctx->kind == TLS_CONTEXT_WORKER)
		lock(ctx);
	return 0;
}

/* The lock is as mutable as the state that it protects. */
static struct tls_context *mutable(const struct tls_context *ctx)
{
	return (struct tls_context *)(uintptr_t)ctx;
}

int ctx_look(const struct tls_context *ctx)
{
	return ctx_enter(mutable(ctx));
}

void ctx_look_away(const struct tls_context *ctx)
{
	if (ctx->kind == TLS_CONTEXT_WORKER)
		pthread_mutex_unlock(&mutable(ctx)->lock);
	pthread_setcancelstate(cancel_state, NULL);
}

bool ctx_comes_back(const struct tls_context *ctx)
{
	return ctx->kind == TLS_CONTEXT_LOOP ||
	       (ctx->in_turn && pthread_equal(ctx->turn, pthread_self()));
}

static void leave_worker(struct tls_context *ctx)
{
	if (ctx->core.dispatch.kernel || !ctx_comes_back(ctx))
		ctx_submit(ctx);
	ctx->last_call = now_ns();
	worker_watch(ctx);
	wake_send(&ctx->wake);
}

void ctx_leave(struct tls_context *ctx)
{
	if (ctx->kind == TLS_CONTEXT_WORKER)
		leave_worker(ctx);
	ctx_look_away(ctx);
}

int ctx_enter_conn(struct tls_conn *conn)
{
	return ctx_enter(conn->ctx);
}

void ctx_leave_conn(struct tls_conn *conn)
{
	ctx_mark(conn->ctx, conn);
	ctx_leave(conn->ctx);
}

/* ---- Connections ------------------------------------------------------- */

void ctx_add(struct tls_context *ctx, struct tls_conn *conn)
{
	conn->ctx = ctx;
	list_move_tail(&ctx->conns, &conn->all);
	ctx->core.stats.connections++;
	ctx->core.stats.connections_now++;
	list_add_once(&ctx->core.todo, &conn->todo);
}

static bool in_flight(const struct tls_conn *conn)
{
	return conn->rx.receiving || conn->tx.sending;
}

static void cancel(struct tls_context *ctx, struct tls_conn *conn)
{
	if (conn->rx.receiving)
		ring_cancel(ctx->core.ring, &conn->rx.recv_op);
	if (conn->tx.sending)
		ring_cancel(ctx->core.ring, &conn->tx.send_op);
}

/* Nothing is to be started again that is cancelled now. */
static void begin_closing(struct tls_conn *conn)
{
	conn->closing = true;
	rx_stop(&conn->rx);
	tx_stop(&conn->tx);
	list_remove(&conn->held);
}

/*
 * A receive left in flight would keep the socket open after the application
 * has closed its descriptor, and a send would read memory that is gone. Where
 * the ring has broken down, that is for ctx_free().
 */
static void end_operations(struct tls_context *ctx, struct tls_conn *conn)
{
	begin_closing(conn);
	while (in_flight(conn) && !ctx->error) {
		cancel(ctx, conn);
		ctx_submit(ctx);
		if (in_flight(conn))
			ctx_block(ctx, conn, 0, now_ns() + NS_PER_MS);
	}
}

/* It is the context's no more, but to be released. */
static void let_go(struct tls_context *ctx, struct tls_conn *conn)
{
	list_remove(&conn->ready);
	ctx->worker_saw = NULL; /* the memory may become another's */
	list_move_tail(&ctx->gone, &conn->all);
	ctx->core.stats.connections_now--;
	conn->gone = true;
	release(conn);
}

ssize_t ctx_remove(struct tls_context *ctx, struct tls_conn *conn)
{
	ssize_t ret;

	end_operations(ctx, conn);
	ret = conn->writing.error ? conn->writing.error :
				    (ssize_t)conn->tx.unsent;
	let_go(ctx, conn);
	ctx_step(ctx); /* others may wait for its memory */
	return ret;
}

/* Returns whether there was anything to be cancelled. */
static bool cancel_all(struct tls_context *ctx, const struct list *conns)
{
	struct list *node;
	bool any = false;

	for (node = conns->next; node != conns; node = node->next) {
		struct tls_conn *conn =
			container_of(node, struct tls_conn, all);

		cancel(ctx, conn);
		any |= in_flight(conn);
	}
	return any;
}

static void remove_some(struct tls_context *ctx, struct list *conns)
{
	struct list *node;

	ctx_submit(ctx);
	for (node = conns->next; node != conns; node = node->next)
		begin_closing(container_of(node, struct tls_conn, all));
	while (cancel_all(ctx, conns) && !ctx->error) {
		if (ring_submit(ctx->core.ring) || !ctx_step(ctx))
			ctx_block(ctx, NULL, 0, now_ns() + NS_PER_MS);
	}
	while (!list_empty(conns)) {
		struct tls_conn *conn =
			container_of(conns->next, struct tls_conn, all);

		descriptor_release(&conn->descriptor);
		let_go(ctx, conn);
	}
}

/*
 * So many at a time share system calls, and their alerts memory. The latest
 * first: the kernel looks for operations in lists that begin with those.
 */
void ctx_remove_all(struct tls_context *ctx)
{
	enum { AT_ONCE = 128 };
	struct list some;

	while (!list_empty(&ctx->conns)) {
		unsigned n = 0;

		list_init(&some);
		while (n++ < AT_ONCE && !list_empty(&ctx->conns)) {
			struct list *last = ctx->conns.prev;

			conn_shutdown(container_of(last, struct tls_conn, all));
			list_move_tail(&some, last);
		}
		remove_some(ctx, &some);
	}
}

static bool store(struct tls_context *ctx, struct tls_conn *conn,
		  struct tls_event *event)
{
	unsigned events = conn_events(conn);

	if (!events) {
		list_remove(&conn->ready);
		if (conn->wants_room) /* somebody else has had it */
			tx_await_memory(&conn->tx);
		return false;
	}
	*event = (struct tls_event){ conn, conn->data, events };
	if (events & TLS_WRITABLE)
		conn->wants_room = conn->wants_flush = false;
	if (events & TLS_CLOSED) {
		conn->end_told |= conn->reading.error || conn->rx.closed;
		conn->fault_told |= conn->writing.error != 0;
	}
	list_move_tail(&ctx->ready, &conn->ready);
	return true;
}

static void clear_signal(struct tls_context *ctx)
{
	uint64_t count;

	if (ctx->signalled)
		ctx->signalled =
			read(ctx->event_fd, &count, sizeof(count)) < 0;
}

int ctx_collect(struct tls_context *ctx, struct tls_event *events, int max)
{
	struct list *node;
	int n = 0;

	clear_signal(ctx);
	/* connections stored queue up again behind the mark */
	list_move_tail(&ctx->ready, &ctx->ready_end);
	while (n < max && (node = ctx->ready.next) != &ctx->ready_end)
		n += store(ctx, container_of(node, struct tls_conn, ready),
			   &events[n]);
	list_remove(&ctx->ready_end);
	return n;
}

/* ---- Beginning and end ------------------------------------------------- */

static int check(const struct tls_config *config)
{
	if (config->kind > TLS_CONTEXT_LOOP)
		return error_set(-EINVAL, "tls_config.kind: no kind of context "
				 "has the number %d", (int)config->kind);
	if (config->depth > MAX_DEPTH)
		return error_set(-EINVAL, "tls_config.depth is %u; at most %d "
				 "records can be in flight", config->depth,
				 MAX_DEPTH);
	if (config->record_size)
		return conn_check_record_size(config->record_size);
	return 0;
}

static int make_fork_guard(struct tls_context *ctx)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *p = mmap(NULL, page, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return error_set(-ENOMEM, "no memory for a context");
	ctx->not_forked = p;
	*ctx->not_forked = 1;
	if (madvise(p, page, MADV_WIPEONFORK))
		return error_set(-errno, "madvise(MADV_WIPEONFORK): %s",
				 strerror(errno));
	return 0;
}

static int make_poll_fd(struct tls_context *ctx)
{
	struct epoll_event in = { .events = EPOLLIN };

	ctx->poll_fd = ring_fd(ctx->core.ring);
	if (ctx->kind == TLS_CONTEXT_LOOP)
		return 0;
	ctx->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ctx->poll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (ctx->event_fd < 0 || ctx->poll_fd < 0 ||
	    epoll_ctl(ctx->poll_fd, EPOLL_CTL_ADD, ctx->event_fd, &in) ||
	    epoll_ctl(ctx->poll_fd, EPOLL_CTL_ADD, ring_fd(ctx->core.ring),
		      &in))
		return error_set(-errno, "no descriptor to poll a context by: "
				 "%s (ulimit -n)", strerror(errno));
	return 0;
}

static int open_keylog(struct core *core, const char *path)
{
	if (!path)
		return 0;
	core->keylog_fd = keylog_open(path);
	if (core->keylog_fd >= 0)
		return 0;
	return error_set(core->keylog_fd, "tls_config.keylog_file: %s: %s",
			 path, core->keylog_fd == -ENXIO ?
				       "a FIFO that nobody reads" :
				       strerror(-core->keylog_fd));
}

static size_t memory_limit(const struct tls_config *config)
{
	if (!config->max_memory)
		return DEFAULT_MEMORY;
	return config->max_memory > LEAST_MEMORY ? config->max_memory :
						   LEAST_MEMORY;
}

static void init_core(struct tls_context *ctx, const struct tls_config *config)
{
	struct core *core = &ctx->core;
	size_t memory = memory_limit(config);
	unsigned slots;

	core->depth = config->depth ? config->depth : DEFAULT_DEPTH;
	core->record_size = config->record_size ? config->record_size :
						  RECORD_PLAIN_MAX;
	core->record_ramp = config->record_ramp != 0;
	core->ignore_eof = config->ignore_eof != 0;
	core->send_window = config->send_window ? config->send_window :
				(size_t)core->depth * 2 * RECORD_PLAIN_MAX;
	core->keylog_fd = -1;
	core->rekey_records = config->rekey_records;
	slots = core->depth * 2 < MIN_SLOTS ? MIN_SLOTS : core->depth * 2;
	slot_cache_init(&core->slots, slots);
	pool_init(&core->tx_pool, memory / 2, true);
	pool_init(&core->rx_pool, memory / 2, false);
	list_init(&core->todo);
	list_init(&core->held);
	list_init(&core->thirsty);
	list_init(&ctx->conns);
	list_init(&ctx->gone);
	list_init(&ctx->ready);
	list_init(&ctx->ready_end);
}

static int start_alarm(struct tls_context *ctx)
{
	int ret = alarm_start(&ctx->alarm, ctx->core.ring);

	if (ret)
		return error_set(ret, "no descriptor to wake a context by: %s "
				 "(ulimit -n)", strerror(-ret));
	ret = ring_submit(ctx->core.ring);
	if (ret && ret != -EAGAIN)
		return error_set(ret, "io_uring_enter: %s: is it forbidden by "
				 "a seccomp profile?", strerror(-ret));
	return 0;
}

static int start(struct tls_context *ctx, const struct tls_config *config)
{
	enum ring_kind kind = ctx->kind == TLS_CONTEXT_LOOP ? RING_OWNED :
							      RING_SHARED;
	struct core *core = &ctx->core;
	const char *why;
	int ret = make_fork_guard(ctx);

	if (!ret)
		ret = open_keylog(core, config->keylog_file);
	if (ret)
		return ret;
	ret = ring_new(&core->ring, kind, &why);
	if (ret)
		return error_set(ret, "%s", why);
	ctx->wake.ring = core->ring;
	ret = choice_make(&ctx->choice, config, core->ring);
	if (ret)
		return ret;
	dispatch_init(&core->dispatch,
		      ctx->choice.kernel_in_use ? ctx->choice.kernel : NULL,
		      ctx->choice.cpu,
		      (config->deadline_ms ? config->deadline_ms :
					     DEFAULT_DEADLINE_MS) *
			      (uint64_t)NS_PER_MS,
		      ctx->choice.hybrid);
	if (!feed_begin(core, memory_limit(config)))
		return error_set(-ENOMEM, "no memory to receive into");
	ret = make_poll_fd(ctx);
	if (!ret)
		ret = start_alarm(ctx);
	if (ret || ctx->kind == TLS_CONTEXT_LOOP)
		return ret;
	return worker_start(ctx);
}

int ctx_new(struct tls_context **out, const struct tls_config *given)
{
	struct tls_config known = TLS_CONFIG_INIT;
	const struct tls_config *config = &known;
	struct tls_context *ctx;
	int ret = 0;

	if (given)
		ret = sized_take(&known, sizeof(known), given,
				 offsetof(struct tls_config, driver),
				 "tls_config");
	if (!ret)
		ret = check(config);
	if (ret)
		return ret;
	ctx = calloc(1, sizeof(*ctx));
	if (!ctx)
		return error_set(-ENOMEM, "no memory for a context");
	ctx->kind = config->kind;
	ctx->owner = thread_keep();
	ctx->poll_fd = ctx->event_fd = -1;
	alarm_init(&ctx->alarm);
	init_core(ctx, config);
	ret = ctx->owner ? start(ctx, config) :
			   error_set(-ENOMEM, "no memory for a context");
	if (ret) {
		ctx_free(ctx);
		return ret;
	}
	*out = ctx;
	return 0;
}

static void close_descriptors(struct tls_context *ctx)
{
	if (ctx->kind == TLS_CONTEXT_WORKER) {
		if (ctx->poll_fd >= 0)
			close(ctx->poll_fd);
		if (ctx->event_fd >= 0)
			close(ctx->event_fd);
	}
	alarm_end(&ctx->alarm);
	if (ctx->core.keylog_fd >= 0)
		close(ctx->core.keylog_fd);
}

/*
 * What the kernel would not end it may write to for some time yet: not to memory
 * that is somebody else's by then.
 */
static void free_memory(struct tls_context *ctx, bool disown)
{
	struct core *core = &ctx->core;

	if (disown) {
		pool_disown(&core->tx_pool);
		pool_disown(&core->rx_pool);
	}
	pool_destroy(&core->tx_pool);
	pool_destroy(&core->rx_pool);
	slot_cache_destroy(&core->slots);
}

void ctx_free(struct tls_context *ctx)
{
	struct core *core = &ctx->core;
	bool ended;

	worker_stop(ctx);
	while (!list_empty(&ctx->gone))
		destroy(container_of(ctx->gone.next, struct tls_conn, all));
	ended = ring_free(core->ring);
	close_descriptors(ctx);
	choice_destroy(&ctx->choice);
	free_memory(ctx, !ended);
	thread_put(ctx->owner);
	if (ctx->not_forked)
		munmap(ctx->not_forked, (size_t)sysconf(_SC_PAGESIZE));
	free(ctx);
}

/* ---- Adoption ---------------------------------------------------------- */

/*
 * The kernel has frozen what the thread had in flight. Nothing was received, but
 * how much of a send was sent, nobody knows.
 */
static void pick_up(struct tls_conn *conn)
{
	if (conn->tx.sending) {
		conn_break(conn, -EOWNERDEAD, "the thread that owned the "
			   "context ended with a send under way: how much of "
			   "it was sent is unknown");
		conn->tx.sending = false;
	}
	if (conn->rx.receiving)
		conn->rx.recv_op.done(&conn->rx.recv_op, -ECANCELED, -1);
	list_add_once(&conn->core->todo, &conn->todo);
}

static int renew(struct tls_context *ctx)
{
	struct core *core = &ctx->core;
	struct list *node;
	const char *why;
	int ret;

	alarm_forget(&ctx->alarm);
	ret = ring_renew(core->ring, &why);
	if (ret) {
		break_down(ctx, ret);
		return error_set(ret, "%s", why);
	}
	ctx->poll_fd = ring_fd(core->ring);
	alarm_rearm(&ctx->alarm);
	feed_refill(core);
	for (node = ctx->conns.next; node != &ctx->conns; node = node->next)
		pick_up(container_of(node, struct tls_conn, all));
	/* an engine's answers do not arrive either */
	dispatch_expire(&core->dispatch, UINT64_MAX - 1);
	ctx_step(ctx);
	ctx_submit(ctx);
	return 0;
}

int ctx_adopt(struct tls_context *ctx)
{
	struct thread *owner = ctx->owner, *me;

	if (!*ctx->not_forked)
		return refuse_fork();
	if (ctx->kind != TLS_CONTEXT_LOOP)
		return error_set(-EINVAL, "a TLS_CONTEXT_WORKER belongs to no "
				 "thread: there is nothing to adopt");
	if (thread_is_mine(owner))
		return 0;
	if (!thread_has_ended(owner))
		return error_set(-EBUSY, "the thread that the context belongs "
				 "to has not ended");
	me = thread_keep();
	if (!me)
		return error_set(-ENOMEM, "no memory to adopt a context");
	if (!atomic_compare_exchange_strong(&ctx->owner, &owner, me)) {
		thread_put(me);
		return error_set(-EBUSY, "another thread has adopted the "
				 "context");
	}
	thread_put(owner);
	return renew(ctx);
}
