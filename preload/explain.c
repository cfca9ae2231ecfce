/* SPDX-License-Identifier: MIT */
#include "explain.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "report.h"

static const int forwarded[] = {
	SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2,
};
enum { FORWARDED = sizeof(forwarded) / sizeof(*forwarded) };

struct run {
	const char *name;
	pid_t child; /* 0: it has ended, with this status */
	int status;
	bool told;	  /* that there is more to wait for */
	bool interrupted; /* after the end of the child */
	sigset_t watched, before;
	struct sigaction child_before;
	char dir[PATH_MAX - 8], stats[PATH_MAX];
	off_t from;
};

/* ---- The file ----------------------------------------------------------- */

static void complain(const char *doing, const char *what)
{
	fprintf(stderr, "asynctls-run: cannot %s %s: %s\n", doing, what,
		strerror(errno));
}

/*
 * Servers become other users, who are to write and not to read; and in a directory
 * of our own, since the kernel has rules for files in those that all share.
 */
static bool make_stats(struct run *r)
{
	const char *tmp = getenv("TMPDIR");
	int fd;

	snprintf(r->dir, sizeof(r->dir), "%s/asynctls-run.XXXXXX",
		 tmp && *tmp == '/' ? tmp : "/tmp");
	if (!mkdtemp(r->dir)) {
		complain("make a directory", r->dir);
		r->dir[0] = '\0';
		return false;
	}
	snprintf(r->stats, sizeof(r->stats), "%s/stats", r->dir);
	fd = open(r->stats, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || fchmod(fd, 0622) || chmod(r->dir, 0711)) {
		complain("make", r->stats);
		return false;
	}
	close(fd);
	return true;
}

static bool use_stats(struct run *r, const char *stats)
{
	struct stat st;

	if (!stats)
		return make_stats(r);
	snprintf(r->stats, sizeof(r->stats), "%s", stats);
	r->from = stat(stats, &st) ? 0 : st.st_size;
	return true;
}

static void remove_stats(struct run *r)
{
	char now[PATH_MAX + 4];

	snprintf(now, sizeof(now), "%s.now", r->stats);
	unlink(now);
	if (!r->dir[0])
		return;
	unlink(r->stats);
	rmdir(r->dir);
}

/* Those that go on running answer about once a second, if they do anything. */
static void ask(const struct run *r)
{
	const struct timespec while_they_look = { 1, 500 * 1000 * 1000 };
	char now[PATH_MAX + 4];
	int fd;

	snprintf(now, sizeof(now), "%s.now", r->stats);
	fd = open(now, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
		return;
	close(fd);
	nanosleep(&while_they_look, NULL);
}

/* ---- Processes ---------------------------------------------------------- */

static void watch_signals(struct run *r)
{
	struct sigaction plain = { .sa_handler = SIG_DFL };
	int i;

	sigemptyset(&r->watched);
	sigaddset(&r->watched, SIGCHLD);
	for (i = 0; i < FORWARDED; i++)
		sigaddset(&r->watched, forwarded[i]);
	/* whose children are ignored does not hear how they end */
	sigaction(SIGCHLD, &plain, &r->child_before);
	sigprocmask(SIG_BLOCK, &r->watched, &r->before);
}

static bool start(struct run *r, const char *path, char **argv)
{
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	watch_signals(r);
	r->child = fork();
	if (r->child < 0) {
		complain("start", path);
		return false;
	}
	if (r->child)
		return true;
	sigaction(SIGCHLD, &r->child_before, NULL);
	sigprocmask(SIG_SETMASK, &r->before, NULL);
	execvp(path, argv);
	complain("execute", path);
	_exit(errno == ENOENT ? 127 : 126);
}

/* Those that have become ours. */
static void signal_children(int signal)
{
	char path[64];
	FILE *f;
	int pid;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children",
		 (int)getpid());
	f = fopen(path, "re");
	while (f && fscanf(f, "%d", &pid) == 1)
		kill(pid, signal);
	if (f)
		fclose(f);
}

static void pass_on(struct run *r, const siginfo_t *info)
{
	if (!r->child) {
		r->interrupted |= r->told;
		signal_children(info->si_signo);
	} else if (info->si_code != SI_KERNEL) {
		kill(r->child, info->si_signo);
	}
}

/* false: there are no more. */
static bool reap(struct run *r)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != r->child)
			continue;
		r->child = 0;
		r->status = status;
	}
	return pid == 0 || errno != ECHILD;
}

static void tell_of_the_rest(struct run *r)
{
	fprintf(stderr, "asynctls-run: %s has left processes behind, as daemons "
		"do; the report comes when they have ended.\n"
		"  Signals to process %d are passed on to them; after a second "
		"one the report comes at once.\n", r->name, (int)getpid());
	r->told = true;
}

static void wait_for_all(struct run *r)
{
	const struct timespec second = { 1, 0 };
	siginfo_t info;
	int got;

	while (reap(r)) {
		got = sigtimedwait(&r->watched, &info,
				   r->child || r->told ? NULL : &second);
		if (got < 0 && errno == EAGAIN)
			tell_of_the_rest(r);
		if (got <= 0 || got == SIGCHLD)
			continue;
		if (r->interrupted) {
			ask(r);
			return;
		}
		pass_on(r, &info);
	}
}

/* As the program has ended. */
static int end_alike(const struct run *r)
{
	const struct rlimit none = { 0, 0 };
	const struct sigaction plain = { .sa_handler = SIG_DFL };
	int signal;
	sigset_t this;

	if (r->child) /* interrupted */
		return 130;
	if (!WIFSIGNALED(r->status))
		return WEXITSTATUS(r->status);
	signal = WTERMSIG(r->status);
	setrlimit(RLIMIT_CORE, &none); /* it has left its own */
	sigaction(signal, &plain, NULL);
	sigemptyset(&this);
	sigaddset(&this, signal);
	raise(signal);
	sigprocmask(SIG_UNBLOCK, &this, NULL);
	return 128 + signal;
}

int explain(const char *path, char **argv, const char *stats)
{
	struct run r = { .name = argv[0] };

	if (!use_stats(&r, stats) || setenv("ASYNCTLS_STATS", r.stats, 1) ||
	    !start(&r, path, argv)) {
		remove_stats(&r);
		return 125;
	}
	wait_for_all(&r);
	report_print(stderr, r.stats, r.from);
	remove_stats(&r);
	return end_alike(&r);
}
