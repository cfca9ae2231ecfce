// SPDX-License-Identifier: MIT
/*
 * A signal whose default action ends the process ends it all the same, but what
 * is held leaves before. The program does not see our handlers: it is told
 * SIG_DFL, and ours stand again when it sets that.
 */
#include <errno.h>
#include <signal.h>
#include <stddef.h>

#include "endings.h"
#include "hold.h"
#include "next.h"

static const int fatal[] = {
	SIGHUP,	 SIGINT,  SIGQUIT,   SIGILL,   SIGTRAP, SIGABRT, SIGBUS,
	SIGFPE,	 SIGSEGV, SIGPIPE,   SIGALRM,  SIGTERM, SIGUSR1, SIGUSR2,
	SIGPOLL, SIGPROF, SIGVTALRM, SIGXCPU,  SIGXFSZ, SIGSYS,
#ifdef SIGSTKFLT
	SIGSTKFLT,
#endif
	SIGPWR,
};
enum { FATAL = sizeof(fatal) / sizeof(fatal[0]) };

static atomic_bool guarding;

typedef int action_fn(int, const struct sigaction *, struct sigaction *);
static action_fn *_Atomic real;

static int set_action(int sig, const struct sigaction *act,
		      struct sigaction *old)
{
	action_fn *found = atomic_load(&real);

	if (!found) {
		found = NEXT(sigaction);
		atomic_store(&real, found);
	}
	return found(sig, act, old);
}

/* In the handler: comes when that returns, with the context as it was. */
static void end_by(int sig)
{
	struct sigaction by_default = { .sa_handler = SIG_DFL };

	hold_drain_dying(ENDS_SIGNAL_MS);
	if (ends_also && hold_is_mine())
		ends_also();
	set_action(sig, &by_default, NULL);
	raise(sig);
}

/* The same instruction faults again when the handler returns. */
static bool is_fault(int sig, const siginfo_t *info)
{
	return info->si_code > 0 && (sig == SIGSEGV || sig == SIGBUS ||
				     sig == SIGFPE || sig == SIGILL);
}

static void on_fatal(int sig, siginfo_t *info, void *context)
{
	int saved = errno;

	(void)context;
	if (is_fault(sig, info) || !hold_put_off(end_by, sig))
		end_by(sig);
	errno = saved;
}

static struct sigaction ours(void)
{
	struct sigaction act = { .sa_sigaction = on_fatal,
				 .sa_flags = SA_SIGINFO | SA_ONSTACK |
					     SA_RESTART };

	sigfillset(&act.sa_mask);
	return act;
}

static bool is_ours(const struct sigaction *act)
{
	return act->sa_flags & SA_SIGINFO && act->sa_sigaction == on_fatal;
}

static bool is_fatal(int sig)
{
	for (int i = 0; i < FATAL; i++)
		if (fatal[i] == sig)
			return true;
	return false;
}

static void guard(int sig)
{
	struct sigaction act = ours(), old;

	if (set_action(sig, NULL, &old) || is_ours(&old) ||
	    old.sa_handler != SIG_DFL)
		return;
	/* has another thread set its own in between? */
	if (set_action(sig, &act, &old) == 0 && !is_ours(&old) &&
	    old.sa_handler != SIG_DFL)
		set_action(sig, &old, NULL);
}

void signals_guard(void)
{
	if (atomic_exchange(&guarding, true))
		return;
	for (int i = 0; i < FATAL; i++)
		guard(fatal[i]);
}

/* ---- As the program sees it -------------------------------------------- */

INTERPOSED int sigaction(int sig, const struct sigaction *act,
			 struct sigaction *old)
{
	struct sigaction own, was;
	int result;

	if (!atomic_load(&guarding) || !is_fatal(sig))
		return set_action(sig, act, old);
	if (act && act->sa_handler == SIG_DFL) {
		own = ours();
		act = &own;
	}
	result = set_action(sig, act, &was);
	if (result || !old)
		return result;
	if (is_ours(&was))
		was = (struct sigaction){ .sa_handler = SIG_DFL };
	*old = was;
	return 0;
}

typedef void handler_fn(int);

static handler_fn *as_seen(int sig, handler_fn *set, handler_fn *was)
{
	int saved = errno;

	if (set == SIG_DFL && atomic_load(&guarding) && is_fatal(sig))
		guard(sig);
	errno = saved;
	return was == (handler_fn *)(void (*)(void))on_fatal ? SIG_DFL : was;
}

#define SETS_HANDLER(name)                                            \
	INTERPOSED handler_fn *name(int sig, handler_fn *handler);    \
	INTERPOSED handler_fn *name(int sig, handler_fn *handler)     \
	{                                                             \
		return as_seen(sig, handler, NEXT(name)(sig, handler)); \
	}

SETS_HANDLER(signal)
SETS_HANDLER(ssignal)
SETS_HANDLER(sysv_signal)
SETS_HANDLER(__sysv_signal)
SETS_HANDLER(bsd_signal)
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
SETS_HANDLER(sigset)
