/* SPDX-License-Identifier: MIT */
#include "context/ctx_life.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/environment.h"
#include "base/error.h"
#include "base/sized.h"
#include "base/thread.h"
#include "context/ctx_gate.h"
#include "context/worker.h"

enum {
	DEFAULT_DEPTH = 32,
	MAX_DEPTH = 4096,
	MIN_SLOTS = 64,
	DEFAULT_MEMORY = 64 << 20,
	LEAST_MEMORY = 1 << 20,
	DEFAULT_DEADLINE_MS = 1000,
};

/* ---- Creation ---------------------------------------------------------- */

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

/* The environment's word, where it has one. */
static int choose_io(enum ring_io *io, const struct tls_config *config)
{
	static const char *const names[] = {
		[RING_AUTO] = "auto", [RING_URING] = "uring",
		[RING_POLL] = "poll",
	};
	const char *name;
	int i = environment_pick("ASYNCTLS_IO", names, RING_POLL + 1, &name);

	if (config->io > TLS_IO_POLL)
		return error_set(-EINVAL, "tls_config.io: %d is none of its "
				 "values", (int)config->io);
	*io = (enum ring_io)(i >= 0 ? i : (int)config->io);
	if (i != ENVIRONMENT_UNKNOWN)
		return 0;
	return error_set(-EINVAL, "ASYNCTLS_IO=%s: there is no such way to "
			 "the socket; use auto, uring or poll", name);
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
	ctx->event = own_fd(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
	ctx->poll_fd = epoll_create1(EPOLL_CLOEXEC);
	ctx->poll = own_fd(ctx->poll_fd);
	if (ctx->event.fd < 0 || ctx->poll_fd < 0 ||
	    epoll_ctl(ctx->poll_fd, EPOLL_CTL_ADD, ctx->event.fd, &in) ||
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
	core->keylog = own_fd(keylog_open(path));
	if (core->keylog.fd >= 0)
		return 0;
	return error_set(core->keylog.fd, "tls_config.keylog_file: %s: %s",
			 path, core->keylog.fd == -ENXIO ?
				       "a FIFO that nobody reads" :
				       strerror(-core->keylog.fd));
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
	core->keylog.fd = -1;
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
	int ret = alarm_start(&ctx->alarm, ctx->core.ring,
			      ctx->kind == TLS_CONTEXT_LOOP);

	if (ret)
		return error_set(ret, "no descriptor to wake a context by: %s "
				 "(ulimit -n)", strerror(-ret));
	ret = ring_submit(ctx->core.ring);
	if (ret && ret != -EAGAIN)
		return error_set(ret, "%s: %s: is it forbidden by a seccomp "
				 "profile?", ring_name(ctx->core.ring, NULL),
				 strerror(-ret));
	return 0;
}

static int start(struct tls_context *ctx, const struct tls_config *config)
{
	enum ring_kind kind = ctx->kind == TLS_CONTEXT_LOOP ? RING_OWNED :
							      RING_SHARED;
	struct core *core = &ctx->core;
	const char *why;
	enum ring_io io = RING_AUTO;
	int ret = make_fork_guard(ctx);

	if (!ret)
		ret = open_keylog(core, config->keylog_file);
	if (ret)
		return ret;
	ret = choose_io(&io, config);
	if (ret)
		return ret;
	ret = ring_new(&core->ring, kind, io, &why);
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
	ctx->poll_fd = ctx->poll.fd = ctx->event.fd = -1;
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

/* ---- The end ----------------------------------------------------------- */

static void close_descriptors(struct tls_context *ctx)
{
	own_fd_close(&ctx->poll);
	own_fd_close(&ctx->event);
	alarm_end(&ctx->alarm);
	own_fd_close(&ctx->core.keylog);
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
		ctx_destroy_conn(container_of(ctx->gone.next, struct tls_conn, all));
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
	if (tx_polls(&conn->tx))
		conn->tx.send_op.done(&conn->tx.send_op, -ECANCELED, -1);
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
		ctx_break_down(ctx, ret);
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
		return ctx_refuse_fork();
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
