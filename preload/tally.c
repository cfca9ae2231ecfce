/* SPDX-License-Identifier: MIT */
#include "tally.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/own.h"
#include "base/quiet.h"
#include "base/thread.h"
#include "base/util.h"
#include "hold.h"

enum {
	REASONS = 48, /* the last of them: "other reasons" */
	LOOK_NS = 1000 * 1000 * 1000,
	LINE = 16 << 10,
};

/* In the order in which they are shown. */
static const struct {
	const char *name;
	size_t offset;
} counters[] = {
#define COUNTER(name) { #name, offsetof(struct tally, name) }
	COUNTER(taken),	     COUNTER(returned),	  COUNTER(failed),
	COUNTER(tx_records), COUNTER(tx_bytes),	  COUNTER(rx_records),
	COUNTER(rx_bytes),   COUNTER(receives),	  COUNTER(refused_fork),
#undef COUNTER
};
enum { COUNTERS = sizeof(counters) / sizeof(*counters) };

struct destination {
	const char *path; /* NULL: none */
	struct own_fd kept;
};

struct reason {
	_Atomic(const char *) why;
	_Atomic uint64_t count;
};

/* ---- Threads ------------------------------------------------------------ */

/* Of a thread; in the list from its first use until its end. */
struct mine {
	struct tally tally;
	struct list node;
	enum { FRESH, LISTED, GONE } state;
};

static _Thread_local struct mine mine THREAD_NEAR;
static struct list threads = { &threads, &threads };
static struct tally ended; /* by threads that are in no list */
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_key_t key;
static bool have_key;

/* No signal's handler may end the process while its thread has a lock. */
static void lock(pthread_mutex_t *mutex, sigset_t *before)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, before);
	pthread_mutex_lock(mutex);
}

static void unlock(pthread_mutex_t *mutex, const sigset_t *before)
{
	pthread_mutex_unlock(mutex);
	pthread_sigmask(SIG_SETMASK, before, NULL);
}

static _Atomic uint64_t *counter(struct tally *t, int i)
{
	return (_Atomic uint64_t *)((char *)t + counters[i].offset);
}

static void thread_ends(void *arg)
{
	struct mine *m = arg;
	sigset_t before;
	int i;

	lock(&list_lock, &before);
	list_remove(&m->node);
	m->state = GONE;
	for (i = 0; i < COUNTERS; i++)
		atomic_fetch_add(counter(&ended, i), *counter(&m->tally, i));
	unlock(&list_lock, &before);
}

static bool enlist(void)
{
	sigset_t before;

	if (mine.state == GONE || !have_key ||
	    pthread_setspecific(key, &mine))
		return false;
	lock(&list_lock, &before);
	if (mine.state == FRESH) {
		list_init(&mine.node);
		list_move_tail(&threads, &mine.node);
		mine.state = LISTED;
	}
	unlock(&list_lock, &before);
	return true;
}

struct tally *tally_mine(void)
{
	if (mine.state == LISTED || enlist())
		return &mine.tally;
	return &ended;
}

static void sum_up(uint64_t sums[COUNTERS])
{
	struct list *l;
	sigset_t before;
	int i;

	lock(&list_lock, &before);
	for (i = 0; i < COUNTERS; i++)
		sums[i] = *counter(&ended, i);
	for (l = threads.next; l != &threads; l = l->next) {
		struct mine *m = container_of(l, struct mine, node);

		for (i = 0; i < COUNTERS; i++)
			sums[i] += *counter(&m->tally, i);
	}
	unlock(&list_lock, &before);
}

/* ---- Where it goes ------------------------------------------------------ */

static char program[64];
static pid_t pid;
static uint64_t started;
static struct destination stats, logfile;
static bool log_to_stderr;
static struct hold_counts (*held)(void);

static int open_to_append(const char *path)
{
	return open(path,
		    O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY |
			    O_NONBLOCK,
		    0666);
}

/* The program's descriptors have the numbers that they have without us. */
static int move_up(int fd)
{
	int low, up = -1;

	if (fd < 0)
		return -1;
	for (low = 1000; up < 0 && low > 2; low /= 2)
		up = fcntl(fd, F_DUPFD_CLOEXEC, low);
	close(fd);
	return up;
}

/* Programs change their directory, and overwrite their environment. */
static char *absolute(const char *path)
{
	char *cwd, *whole;

	if (*path == '/')
		return strdup(path);
	cwd = getcwd(NULL, 0);
	if (!cwd || asprintf(&whole, "%s/%s", cwd, path) < 0)
		whole = NULL;
	free(cwd);
	return whole;
}

static struct destination destination(const char *variable)
{
	struct destination d = { .kept.fd = -1 };
	const char *path = secure_getenv(variable);

	if (!path || !*path)
		return d;
	d.path = absolute(path);
	if (d.path && !strstr(d.path, "%p"))
		d.kept = own_fd(move_up(open_to_append(d.path)));
	return d;
}

/* With %p replaced, and an ending. false: too long. */
static bool name_of(const char *path, const char *ending, char name[PATH_MAX])
{
	const char *p = strstr(path, "%p");
	int len;

	if (p)
		len = snprintf(name, PATH_MAX, "%.*s%d%s%s", (int)(p - path),
			       path, (int)pid, p + 2, ending);
	else
		len = snprintf(name, PATH_MAX, "%s%s", path, ending);
	return len > 0 && len < PATH_MAX;
}

static void append_by_name(const char *path, const char *line, size_t len)
{
	char name[PATH_MAX];
	int fd = name_of(path, "", name) ? open_to_append(name) : -1;

	if (fd < 0)
		return;
	quiet_write(fd, line, len);
	close(fd);
}

static void append(const struct destination *d, const char *line, size_t len)
{
	int cancel;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	if (own_fd_is_ours(&d->kept))
		quiet_write(d->kept.fd, line, len);
	else
		append_by_name(d->path, line, len);
	pthread_setcancelstate(cancel, NULL);
}

/* ---- Connections that were left to OpenSSL ------------------------------ */

static struct reason reasons[REASONS];

static void log_reason(const char *why)
{
	char line[512];
	int len = snprintf(line, sizeof(line),
			   "asynctls: %s[%d]: a connection stays with "
			   "OpenSSL: %s\n",
			   program, (int)pid, why);

	if (len >= (int)sizeof(line)) {
		len = sizeof(line) - 1;
		line[len - 1] = '\n';
	}
	if (log_to_stderr)
		quiet_write(STDERR_FILENO, line, (size_t)len);
	else if (logfile.path)
		append(&logfile, line, (size_t)len);
}

/* Is the reason this one, or can it be? *first: it has become so now. */
static bool has_reason(struct reason *r, const char *why, bool *first)
{
	const char *there = atomic_load(&r->why);

	*first = !there && atomic_compare_exchange_strong(&r->why, &there, why);
	return *first || there == why || strcmp(there, why) == 0;
}

void tally_declined(const char *why)
{
	int before = errno, i;
	bool first;

	for (i = 0; i < REASONS - 1; i++)
		if (has_reason(&reasons[i], why, &first))
			break;
	if (i == REASONS - 1)
		has_reason(&reasons[i], "other reasons", &first);
	atomic_fetch_add(&reasons[i].count, 1);
	if (first)
		log_reason(why);
	errno = before;
}

static uint64_t declined(void)
{
	uint64_t sum = 0;
	int i;

	for (i = 0; i < REASONS; i++)
		sum += reasons[i].count;
	return sum;
}

/* ---- The line ----------------------------------------------------------- */

struct line {
	size_t len;
	char text[LINE];
};

/* What does not fit is left out. */
static void put(struct line *l, const char *text)
{
	size_t len = strlen(text);

	if (len >= LINE - l->len)
		return;
	memcpy(l->text + l->len, text, len + 1);
	l->len += len;
}

static void put_number(struct line *l, const char *name, uint64_t n)
{
	char text[64];

	snprintf(text, sizeof(text), "\"%s\":%llu", name,
		 (unsigned long long)n);
	put(l, text);
}

/* Bytes that are no ASCII as if they were Latin-1: always JSON. */
static void put_string(struct line *l, const char *s)
{
	char c[8];

	put(l, "\"");
	for (; *s; s++) {
		unsigned char byte = (unsigned char)*s;

		if (byte == '"' || byte == '\\')
			snprintf(c, sizeof(c), "\\%c", *s);
		else if (byte < 0x20 || byte > 0x7e)
			snprintf(c, sizeof(c), "\\u%04x", byte);
		else
			snprintf(c, sizeof(c), "%c", *s);
		put(l, c);
	}
	put(l, "\"");
}

enum { REST = 1024 }; /* of the line, behind the reasons */

static void put_reasons(struct line *l)
{
	bool any = false;
	int i;

	put(l, ",\"declined\":{");
	for (i = 0; i < REASONS; i++) {
		uint64_t count = atomic_load(&reasons[i].count);
		const char *why = atomic_load(&reasons[i].why);
		char number[32];

		if (!count || !why || l->len + 6 * strlen(why) > LINE - REST)
			continue;
		put(l, any ? "," : "");
		put_string(l, why);
		snprintf(number, sizeof(number), ":%llu",
			 (unsigned long long)count);
		put(l, number);
		any = true;
	}
	put(l, "}");
}

static void put_held(struct line *l)
{
	struct hold_counts h = held();
	const struct {
		const char *name;
		uint64_t count;
	} parts[] = {
		{ "sends", h.sends },	    { "bytes", h.bytes },
		{ "by_timer", h.by_timer }, { "by_sleep", h.by_sleep },
		{ "by_limit", h.by_limit }, { "by_end", h.by_end },
		{ "stuck", h.stuck },	    { "ticks", h.ticks },
		{ "orphans", h.orphans },
	};
	size_t i;

	put(l, ",\"held\":{");
	for (i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		put(l, i ? "," : "");
		put_number(l, parts[i].name, parts[i].count);
	}
	put(l, "}");
}

static void compose(struct line *l, const char *at,
		    const uint64_t sums[COUNTERS])
{
	int i;

	l->len = 0;
	put(l, "{");
	put_number(l, "pid", (uint64_t)pid);
	put(l, ",");
	put_number(l, "started", started);
	put(l, ",\"program\":");
	put_string(l, program);
	put(l, ",\"at\":");
	put_string(l, at);
	for (i = 0; i < COUNTERS; i++) {
		put(l, ",");
		put_number(l, counters[i].name, sums[i]);
	}
	put_reasons(l);
	if (held)
		put_held(l);
	put(l, "}\n");
}

/* ---- When --------------------------------------------------------------- */

/* These belong to write_lock. */
static pthread_mutex_t write_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t told[COUNTERS + 1]; /* by the last line at an end */
static struct stat answered;	    /* FILE.now that was the last */
static struct line line;

static _Atomic uint64_t next_look;

/* In the child of a vfork() the memory, and all that it says, is the parent's. */
static bool may_write(void)
{
	return stats.path && getpid() == pid;
}

static void write_line(const char *at)
{
	uint64_t sums[COUNTERS + 1];

	sum_up(sums);
	sums[COUNTERS] = declined();
	if (!sums[0] && !sums[COUNTERS])
		return; /* no connection was there */
	if (*at == 'e') {
		if (memcmp(sums, told, sizeof(told)) == 0)
			return;
		memcpy(told, sums, sizeof(told));
	}
	compose(&line, at, sums);
	append(&stats, line.text, line.len);
}

/* Is there a request that was not there before? */
static bool asked(void)
{
	char name[PATH_MAX];
	struct stat st;

	if (!name_of(stats.path, ".now", name) || stat(name, &st))
		return false;
	if (st.st_ino == answered.st_ino && st.st_dev == answered.st_dev &&
	    st.st_mtim.tv_sec == answered.st_mtim.tv_sec &&
	    st.st_mtim.tv_nsec == answered.st_mtim.tv_nsec)
		return false;
	answered = st;
	return true;
}

bool tally_wanted(void)
{
	return stats.path;
}

void tally_look(void)
{
	uint64_t now, next = atomic_load(&next_look);
	int before = errno;
	sigset_t signals;

	if (!stats.path || (now = now_ns()) < next || !may_write() ||
	    !atomic_compare_exchange_strong(&next_look, &next, now + LOOK_NS))
		return;
	lock(&write_lock, &signals);
	if (asked())
		write_line("now");
	unlock(&write_lock, &signals);
	errno = before;
}

void tally_end(void)
{
	int before = errno;
	sigset_t signals;

	if (!may_write())
		return;
	lock(&write_lock, &signals);
	write_line("exit");
	unlock(&write_lock, &signals);
	errno = before;
}

void tally_also(struct hold_counts (*counts)(void))
{
	held = counts;
}

void tally_start(void)
{
	const char *to = secure_getenv("ASYNCTLS_LOG");

	snprintf(program, sizeof(program), "%s", program_invocation_short_name);
	pid = getpid();
	started = now_ns();
	have_key = pthread_key_create(&key, thread_ends) == 0;
	stats = destination("ASYNCTLS_STATS");
	log_to_stderr = to && strcmp(to, "stderr") == 0;
	if (!log_to_stderr)
		logfile = destination("ASYNCTLS_LOG");
	if (stats.path)
		asked();
}

/*
 * Other threads, which are none of ours, may have had the locks and be in the
 * list; the memory that they were in is used again.
 */
void tally_forked(void)
{
	int i;

	pid = getpid();
	started = now_ns();
	pthread_mutex_init(&list_lock, NULL);
	pthread_mutex_init(&write_lock, NULL);
	list_init(&threads);
	memset(&mine.tally, 0, sizeof(mine.tally));
	memset(&ended, 0, sizeof(ended));
	memset(told, 0, sizeof(told));
	for (i = 0; i < REASONS; i++) {
		atomic_store(&reasons[i].why, NULL);
		atomic_store(&reasons[i].count, 0);
	}
	if (mine.state == LISTED) {
		list_init(&mine.node);
		list_move_tail(&threads, &mine.node);
	}
}
