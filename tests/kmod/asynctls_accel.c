// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * A crypto accelerator that exists only for tests: the TLS AEADs as
 * asynchronous algorithms, slow, full, out of order and broken as wished.
 *
 * The device modelled has a queue and "parallelism" servers. A request takes
 * the server that is free first, starts when that is (at once if it is idle),
 * and its service lasts latency_us, give or take jitter_us. All of that is
 * arithmetic done on arrival, so that what this kernel does late costs the
 * device nothing: its servers are as busy as the submitter keeps them. When a
 * service is due, the one thread computes the result with the software
 * algorithm that the kernel would have chosen, and completes the request.
 *
 * With another order than ORDER_FINISHED the times stay, but another of the
 * outstanding requests is the one to complete.
 *
 * Everything is a parameter in /sys/module/asynctls_accel/parameters and may
 * be changed at any time; it holds for requests that arrive from then on.
 * "Every Nth" counts the accepted requests of the directions in "fail_ops"
 * since the last reset; 0 is never. A result shorter than it should be is not
 * among the faults: algif_aead reports the length it asked for, whatever the
 * driver did.
 *
 * The module can be removed when no transform is open. A request that is held
 * keeps its transform open: write to "release" first.
 */
#include <crypto/internal/aead.h>
#include <crypto/scatterwalk.h>
#include <linux/err.h>
#include <linux/hrtimer.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#define MAX_SERVERS	256
#define NONCE_LEN	12
#define TAG_LEN		16
#define NULL_MAX	(128 << 10)	/* bytes of a request, null cipher */

enum {
	ORDER_ARRIVED,	/* the oldest first */
	ORDER_REVERSED,	/* the latest first */
	ORDER_RANDOM,
	ORDER_FINISHED,	/* each at the end of its own service */
};

enum {
	OP_SEAL = 1,
	OP_OPEN = 2,
};

/* ---- Parameters ---------------------------------------------------------- */

static uint latency_us = 100;
module_param(latency_us, uint, 0644);
MODULE_PARM_DESC(latency_us, "how long a service lasts");

static uint jitter_us;
module_param(jitter_us, uint, 0644);
MODULE_PARM_DESC(jitter_us, "by how much it may be longer or shorter");

static uint parallelism = 1;
module_param(parallelism, uint, 0644);
MODULE_PARM_DESC(parallelism, "how many requests are served at once (1-256)");

static uint queue_length = 1000;
module_param(queue_length, uint, 0644);
MODULE_PARM_DESC(queue_length, "how many may wait for their service");

static uint full_errno = EBUSY;
module_param(full_errno, uint, 0644);
MODULE_PARM_DESC(full_errno, "what others get: 16 (EBUSY), 28 (ENOSPC)");

static uint order = ORDER_ARRIVED;
module_param(order, uint, 0644);
MODULE_PARM_DESC(order, "of completion: 0 as arrived, 1 reversed, 2 random, 3 as finished");

static uint fail_ops = OP_SEAL | OP_OPEN;
module_param(fail_ops, uint, 0644);
MODULE_PARM_DESC(fail_ops, "which may fail: 1 seal, 2 open, 3 both");

static uint fail_every;
module_param(fail_every, uint, 0644);
MODULE_PARM_DESC(fail_every, "every Nth fails with fail_errno");

static uint fail_errno = EIO;
module_param(fail_errno, uint, 0644);
MODULE_PARM_DESC(fail_errno, "5 (EIO) unless told otherwise");

static uint tag_every;
module_param(tag_every, uint, 0644);
MODULE_PARM_DESC(tag_every, "every Nth seals with a wrong tag or opens with -EBADMSG");

static uint hold_every;
module_param(hold_every, uint, 0644);
MODULE_PARM_DESC(hold_every, "every Nth is not completed until release is written");

static bool null_cipher;
module_param(null_cipher, bool, 0644);
MODULE_PARM_DESC(null_cipher, "copy only; the tag is the nonce and the length");

static int priority = 1;
static int set_priority(const char *value, const struct kernel_param *kp);
static const struct kernel_param_ops priority_ops = {
	.set = set_priority,
	.get = param_get_int,
};
module_param_cb(priority, &priority_ops, &priority, 0644);
MODULE_PARM_DESC(priority, "cra_priority: 1, never chosen unless named");

static int set_release(const char *value, const struct kernel_param *kp);
static const struct kernel_param_ops release_ops = { .set = set_release };
module_param_cb(release, &release_ops, NULL, 0200);
MODULE_PARM_DESC(release, "complete what is held: 0 well, else with this errno");

static int set_reset(const char *value, const struct kernel_param *kp);
static const struct kernel_param_ops reset_ops = { .set = set_reset };
module_param_cb(reset, &reset_ops, NULL, 0200);
MODULE_PARM_DESC(reset, "set the counters to 0");

/* ---- Counters, under the lock -------------------------------------------- */

static unsigned long long requests;
module_param(requests, ullong, 0444);
MODULE_PARM_DESC(requests, "arrived, the rejected ones included");

static unsigned long long rejected;
module_param(rejected, ullong, 0444);
MODULE_PARM_DESC(rejected, "the queue was full");

static unsigned long long completed;
module_param(completed, ullong, 0444);
MODULE_PARM_DESC(completed, "with any result");

static unsigned long long failed;
module_param(failed, ullong, 0444);
MODULE_PARM_DESC(failed, "completed with an error, or a tag made wrong");

static unsigned long long busy_ns; /* of what has left the line */
static int get_busy(char *buffer, const struct kernel_param *kp);
static const struct kernel_param_ops busy_ops = { .get = get_busy };
module_param_cb(busy_ns, &busy_ops, NULL, 0444);
MODULE_PARM_DESC(busy_ns, "sum of all service up to this moment");

static uint peak_queue;
module_param(peak_queue, uint, 0444);
MODULE_PARM_DESC(peak_queue, "most that waited at once");

static uint outstanding;
module_param(outstanding, uint, 0444);
MODULE_PARM_DESC(outstanding, "accepted, not completed and not held (now)");

static uint peak_outstanding;
module_param(peak_outstanding, uint, 0444);

static uint held;
module_param(held, uint, 0444);
MODULE_PARM_DESC(held, "never completing (now)");

/* ---- The device ---------------------------------------------------------- */

/* A request's place in the device's time, ns. */
struct service {
	u64 start;
	u64 end;
	u64 length;
};

struct accel_request {
	struct list_head node;
	struct aead_request *req;
	struct service service;
	bool seal;
	bool wrong_tag;
	int error;			/* is all that is done, if not 0 */
	struct aead_request child;	/* last, its context follows */
};

static DEFINE_SPINLOCK(lock);
static LIST_HEAD(line);		/* outstanding, in order of arrival */
static LIST_HEAD(held_line);
static u64 free_at[MAX_SERVERS];
static u64 counted;		/* requests that might have failed */
static struct task_struct *thread;
static u8 *null_buffer;		/* the thread's */

static u64 service_length(void)
{
	u64 length = (u64)latency_us * NSEC_PER_USEC;
	u64 spread = min_t(u64, (u64)jitter_us * NSEC_PER_USEC, length);

	if (!spread)
		return length;
	return length - spread + get_random_u32() % (2 * spread + 1);
}

static void assign_server(struct accel_request *r, u64 now)
{
	uint i, servers = clamp_t(uint, parallelism, 1, MAX_SERVERS);
	u64 *first = free_at;

	for (i = 1; i < servers; i++)
		if (free_at[i] < *first)
			first = &free_at[i];
	r->service.length = service_length();
	r->service.start = max(now, *first);
	r->service.end = r->service.start + r->service.length;
	*first = r->service.end;
}

static uint count_waiting(u64 now)
{
	struct accel_request *r;
	uint count = 0;

	list_for_each_entry(r, &line, node)
		count += r->service.start > now;
	return count;
}

static bool all_servers_busy(u64 now)
{
	uint i, servers = clamp_t(uint, parallelism, 1, MAX_SERVERS);

	for (i = 0; i < servers; i++)
		if (free_at[i] <= now)
			return false;
	return true;
}

static struct accel_request *first_to_end(void)
{
	struct accel_request *r, *first = NULL;

	list_for_each_entry(r, &line, node)
		if (!first || r->service.end < first->service.end)
			first = r;
	return first;
}

static bool is_nth(uint every)
{
	return every && counted % every == 0;
}

/* Returns whether the request is to be held. */
static bool decide_fate(struct accel_request *r)
{
	if (!(fail_ops & (r->seal ? OP_SEAL : OP_OPEN)))
		return false;
	counted++;
	if (is_nth(fail_every))
		r->error = -(int)fail_errno;
	r->wrong_tag = is_nth(tag_every);
	return is_nth(hold_every);
}

static void accept_request(struct accel_request *r, u64 now)
{
	struct accel_request *first;

	if (decide_fate(r)) {
		list_add_tail(&r->node, &held_line);
		held++;
		return;
	}
	assign_server(r, now);
	first = first_to_end();
	list_add_tail(&r->node, &line);
	peak_outstanding = max(peak_outstanding, ++outstanding);
	if (!first || r->service.end < first->service.end)
		wake_up_process(thread);
}

/*
 * A submitter that allows a backlog is told -EBUSY too, but that means its
 * request will complete (crypto_wait_req() waits for it).
 */
static int submit(struct aead_request *req, bool seal)
{
	bool backlog = req->base.flags & CRYPTO_TFM_REQ_MAY_BACKLOG;
	struct accel_request *r = aead_request_ctx(req);
	u64 now = ktime_get_ns();
	int ret = -EINPROGRESS;
	uint waiting;

	r->req = req;
	r->seal = seal;
	r->wrong_tag = false;
	r->error = 0;
	r->service = (struct service){};
	spin_lock_bh(&lock);
	requests++;
	waiting = count_waiting(now);
	if (all_servers_busy(now) && waiting >= queue_length)
		ret = backlog ? -EBUSY : -(int)full_errno;
	else if (all_servers_busy(now))
		peak_queue = max(peak_queue, waiting + 1);
	if (ret == -EINPROGRESS || backlog)
		accept_request(r, now);
	else
		rejected++;
	spin_unlock_bh(&lock);
	return ret;
}

/* Which of the outstanding requests completes next, when one is due. */
static struct accel_request *choose(struct accel_request *due)
{
	struct accel_request *r;
	uint skip;

	switch (order) {
	case ORDER_ARRIVED:
		return list_first_entry(&line, struct accel_request, node);
	case ORDER_REVERSED:
		return list_last_entry(&line, struct accel_request, node);
	case ORDER_RANDOM:
		skip = get_random_u32() % outstanding;
		list_for_each_entry(r, &line, node)
			if (skip-- == 0)
				return r;
		fallthrough;
	default:
		return due;
	}
}

/* The next to complete, off the line; NULL before *when (U64_MAX: ever). */
static struct accel_request *take_due(u64 *when)
{
	struct accel_request *due, *chosen = NULL;

	spin_lock_bh(&lock);
	due = first_to_end();
	*when = due ? due->service.end : U64_MAX;
	if (due && due->service.end <= ktime_get_ns()) {
		chosen = choose(due);
		if (chosen != due)
			swap(chosen->service, due->service);
		list_del(&chosen->node);
		outstanding--;
		busy_ns += chosen->service.length;
	}
	spin_unlock_bh(&lock);
	return chosen;
}

/* ---- What is computed ---------------------------------------------------- */

struct accel_tfm {
	struct crypto_aead *child;
};

static int child_crypt(struct accel_request *r)
{
	struct aead_request *req = r->req;
	struct accel_tfm *ctx = crypto_aead_ctx(crypto_aead_reqtfm(req));
	DECLARE_CRYPTO_WAIT(wait);

	aead_request_set_tfm(&r->child, ctx->child);
	aead_request_set_callback(&r->child, CRYPTO_TFM_REQ_MAY_SLEEP |
				  CRYPTO_TFM_REQ_MAY_BACKLOG,
				  crypto_req_done, &wait);
	aead_request_set_crypt(&r->child, req->src, req->dst, req->cryptlen,
			       req->iv);
	aead_request_set_ad(&r->child, req->assoclen);
	return crypto_wait_req(r->seal ? crypto_aead_encrypt(&r->child) :
					 crypto_aead_decrypt(&r->child), &wait);
}

static void make_null_tag(u8 tag[TAG_LEN], struct aead_request *req, uint len)
{
	__be32 be_len = cpu_to_be32(len);

	memcpy(tag, req->iv, NONCE_LEN);
	memcpy(tag + NONCE_LEN, &be_len, sizeof(be_len));
}

static int null_crypt(struct accel_request *r)
{
	struct aead_request *req = r->req;
	uint text = req->cryptlen - (r->seal ? 0 : TAG_LEN);
	uint end = req->assoclen + text;
	u8 tag[TAG_LEN], there[TAG_LEN];

	if (end > NULL_MAX)
		return -EMSGSIZE;
	make_null_tag(tag, req, text);
	if (!r->seal) {
		scatterwalk_map_and_copy(there, req->src, end, TAG_LEN, 0);
		if (memcmp(tag, there, TAG_LEN))
			return -EBADMSG;
	}
	if (req->src != req->dst) {
		scatterwalk_map_and_copy(null_buffer, req->src, 0, end, 0);
		scatterwalk_map_and_copy(null_buffer, req->dst, 0, end, 1);
	}
	if (r->seal)
		scatterwalk_map_and_copy(tag, req->dst, end, TAG_LEN, 1);
	return 0;
}

static int break_tag(struct accel_request *r)
{
	struct aead_request *req = r->req;
	uint at = req->assoclen + req->cryptlen + TAG_LEN - 1;
	u8 last;

	if (!r->seal)
		return -EBADMSG;
	scatterwalk_map_and_copy(&last, req->dst, at, 1, 0);
	last ^= 1;
	scatterwalk_map_and_copy(&last, req->dst, at, 1, 1);
	return 0;
}

static void finish(struct accel_request *r)
{
	struct aead_request *req = r->req;
	int err = r->error;

	if (!err)
		err = null_cipher ? null_crypt(r) : child_crypt(r);
	if (!err && r->wrong_tag)
		err = break_tag(r);
	spin_lock_bh(&lock);
	completed++;
	failed += err || r->wrong_tag;
	spin_unlock_bh(&lock);
	local_bh_disable();
	aead_request_complete(req, err);
	local_bh_enable();
}

static int work(void *unused)
{
	struct accel_request *r;
	u64 when;

	while (!kthread_should_stop()) {
		/* before looking: who comes after that wakes us */
		set_current_state(TASK_IDLE);
		r = take_due(&when);
		if (r) {
			__set_current_state(TASK_RUNNING);
			finish(r);
			cond_resched();
		} else if (when == U64_MAX) {
			schedule();
		} else {
			ktime_t at = ns_to_ktime(when);

			schedule_hrtimeout(&at, HRTIMER_MODE_ABS);
		}
	}
	__set_current_state(TASK_RUNNING);
	return 0;
}

/* ---- The algorithms ------------------------------------------------------ */

struct accel_alg {
	struct aead_alg alg;
	struct crypto_aead *base; /* keeps what the children are of */
};

static struct accel_alg *alg_of(struct crypto_aead *tfm)
{
	return container_of(crypto_aead_alg(tfm), struct accel_alg, alg);
}

static const char *driver_of(struct crypto_aead *tfm)
{
	return crypto_tfm_alg_driver_name(crypto_aead_tfm(tfm));
}

static int accel_init(struct crypto_aead *tfm)
{
	struct accel_tfm *ctx = crypto_aead_ctx(tfm);

	/* by driver: the name may mean ourselves */
	ctx->child = crypto_alloc_aead(driver_of(alg_of(tfm)->base), 0, 0);
	if (IS_ERR(ctx->child))
		return PTR_ERR(ctx->child);
	crypto_aead_set_reqsize(tfm, sizeof(struct accel_request) +
				crypto_aead_reqsize(ctx->child));
	return 0;
}

static void accel_exit(struct crypto_aead *tfm)
{
	struct accel_tfm *ctx = crypto_aead_ctx(tfm);

	crypto_free_aead(ctx->child);
}

static int accel_setkey(struct crypto_aead *tfm, const u8 *key, uint len)
{
	struct accel_tfm *ctx = crypto_aead_ctx(tfm);

	crypto_aead_clear_flags(ctx->child, CRYPTO_TFM_REQ_MASK);
	crypto_aead_set_flags(ctx->child, crypto_aead_get_flags(tfm) &
			      CRYPTO_TFM_REQ_MASK);
	return crypto_aead_setkey(ctx->child, key, len);
}

static int accel_setauthsize(struct crypto_aead *tfm, uint authsize)
{
	struct accel_tfm *ctx = crypto_aead_ctx(tfm);

	/* faults and the null cipher know of no other */
	if (authsize != TAG_LEN)
		return -EINVAL;
	return crypto_aead_setauthsize(ctx->child, authsize);
}

static int accel_encrypt(struct aead_request *req)
{
	return submit(req, true);
}

static int accel_decrypt(struct aead_request *req)
{
	return submit(req, false);
}

#define ACCEL_ALG(name, driver) { .alg = {				\
	.base.cra_name		= name,					\
	.base.cra_driver_name	= driver,				\
	.base.cra_flags		= CRYPTO_ALG_ASYNC,			\
	.base.cra_blocksize	= 1,					\
	.base.cra_ctxsize	= sizeof(struct accel_tfm),		\
	.base.cra_module	= THIS_MODULE,				\
	.init			= accel_init,				\
	.exit			= accel_exit,				\
	.setkey			= accel_setkey,				\
	.setauthsize		= accel_setauthsize,			\
	.encrypt		= accel_encrypt,			\
	.decrypt		= accel_decrypt,			\
	.ivsize			= NONCE_LEN,				\
	.maxauthsize		= TAG_LEN,				\
} }

static struct accel_alg algs[] = {
	ACCEL_ALG("gcm(aes)", "asynctls-accel-gcm"),
	ACCEL_ALG("rfc7539(chacha20,poly1305)", "asynctls-accel-chacha"),
};

static int register_alg(struct accel_alg *a)
{
	int err;

	/* Held: else a name that only templates answer to would be ours. */
	a->base = crypto_alloc_aead(a->alg.base.cra_name, 0, 0);
	if (IS_ERR(a->base))
		return PTR_ERR(a->base);
	a->alg.base.cra_priority = priority;
	err = crypto_register_aead(&a->alg);
	if (err)
		crypto_free_aead(a->base);
	return err;
}

static void unregister_alg(struct accel_alg *a)
{
	crypto_unregister_aead(&a->alg);
	crypto_free_aead(a->base);
}

/* ---- Parameters with a meaning of their own ------------------------------ */

static int get_busy(char *buffer, const struct kernel_param *kp)
{
	unsigned long long sum;
	struct accel_request *r;
	u64 now;

	spin_lock_bh(&lock);
	now = ktime_get_ns();
	sum = busy_ns;
	list_for_each_entry(r, &line, node)
		if (r->service.start < now)
			sum += min(now, r->service.end) - r->service.start;
	spin_unlock_bh(&lock);
	return sysfs_emit(buffer, "%llu\n", sum);
}

static int set_priority(const char *value, const struct kernel_param *kp)
{
	int i, err = param_set_int(value, kp);

	for (i = 0; !err && i < ARRAY_SIZE(algs); i++)
		WRITE_ONCE(algs[i].alg.base.cra_priority, priority);
	return err;
}

static int set_release(const char *value, const struct kernel_param *kp)
{
	struct accel_request *r;
	int err, how;

	err = kstrtoint(value, 0, &how);
	if (err || how < 0 || how > MAX_ERRNO)
		return err ?: -EINVAL;
	spin_lock_bh(&lock);
	list_for_each_entry(r, &held_line, node)
		r->error = -how;
	outstanding += held;
	held = 0;
	list_splice_tail_init(&held_line, &line);
	spin_unlock_bh(&lock);
	if (thread)
		wake_up_process(thread);
	return 0;
}

static int set_reset(const char *value, const struct kernel_param *kp)
{
	spin_lock_bh(&lock);
	requests = rejected = completed = failed = busy_ns = counted = 0;
	peak_queue = 0;
	peak_outstanding = outstanding;
	if (!outstanding)
		memset(free_at, 0, sizeof(free_at));
	spin_unlock_bh(&lock);
	return 0;
}

/* ---- The module ---------------------------------------------------------- */

static void stop(void)
{
	kthread_stop(thread);
	kvfree(null_buffer);
}

static int __init accel_module_init(void)
{
	int i, err;

	null_buffer = kvmalloc(NULL_MAX, GFP_KERNEL);
	if (!null_buffer)
		return -ENOMEM;
	thread = kthread_run(work, NULL, "asynctls_accel");
	if (IS_ERR(thread)) {
		kvfree(null_buffer);
		return PTR_ERR(thread);
	}
	for (i = 0; i < ARRAY_SIZE(algs); i++) {
		err = register_alg(&algs[i]);
		if (!err)
			continue;
		while (i--)
			unregister_alg(&algs[i]);
		stop();
		return err;
	}
	return 0;
}

/* No transform is open by now, so nothing is outstanding or held. */
static void __exit accel_module_exit(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(algs); i++)
		unregister_alg(&algs[i]);
	WARN_ON(!list_empty(&line) || !list_empty(&held_line));
	stop();
}

module_init(accel_module_init);
module_exit(accel_module_exit);

MODULE_DESCRIPTION("An asynchronous crypto accelerator for tests");
MODULE_LICENSE("Dual MIT/GPL");
