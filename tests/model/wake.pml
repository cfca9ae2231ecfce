/* SPDX-License-Identifier: MIT */
/*
 * A model of lib/context/wake.c and of what calls it: ctx_mark(), ctx_step() and
 * ctx_block() in lib/context/ctx.c, ctx_leave() in ctx_gate.c, run() and
 * worker_watch() in worker.c. Names are theirs. What is changed there is to be
 * changed here.
 *
 * One connection with a blocked reader and a blocked writer, a thread that waits
 * for events, a worker that waits for a socket that takes nothing, threads that
 * call in passing, and one that holds something back. A good record and a
 * forged one come together; the window stays full. Nobody may sleep for ever
 * while what he waits for has happened. Time limits are left out: they would
 * hide it.
 *
 * One hold of the lock is one atomic step, since who does not have it sees
 * nothing of what is done under it. The ring's queue is not under the lock.
 *
 * tests/system/model.sh also has it find each of these faults:
 *	OLD_MARK	a connection on the ready list is passed over, whoever
 *			is blocked in a call on it
 *	OLD_WATCH	nobody tells a worker that waits in the ring
 *	OLD_SENT	a wake that another thread's reap took away counts as
 *			sent
 *	OLD_REAP	who reaps does not tell
 */

#define READ 1
#define ROOM 2

/* The ring: completions of receives, of others, and the wake. */
byte received, others;
bool nop;
#define COMPLETED (received || others || nop)

/* The connection. */
bool good, forged; /* records in line */
bool error, shut;
bool ready;	   /* on the list */
bool told;	   /* of the error */
byte awaited;
#define EVENTS	 (good || (error && !told))
#define HAPPENED (((good || error) -> READ : 0) | ((error || shut) -> ROOM : 0))

/* struct wake */
byte waiters, callers, listeners, stale, epoch;
bool sent;

/* The worker's. */
bool held, worker_waits, worker_idle;

byte done; /* calls that have returned */

inline wake_all()
{
	epoch++;
	stale = waiters;
}

inline wake_send()
{
	if
	:: stale && !sent -> sent = true; nop = true
	:: else
	fi
}

inline ctx_mark()
{
#ifdef OLD_MARK
	if
	:: !ready && EVENTS ->
		ready = true;
		if
		:: callers -> wake_all()
		:: else
		fi
	:: else
	fi
#else
	if
	:: awaited & HAPPENED -> awaited = 0; wake_all()
	:: else
	fi;
	if
	:: !ready && EVENTS ->
		ready = true;
		if
		:: listeners -> wake_all()
		:: else
		fi
	:: else
	fi
#endif
}

/* The head meets the forged record when there is nothing before it. */
inline conn_advance()
{
	if
	:: forged && !good -> forged = false; error = true
	:: else
	fi
}

inline ctx_step()
{
#ifndef OLD_SENT
	sent = false;
#endif
	nop = false;
	if
	:: received || others ->
		if
		:: received -> good = true; forged = true
		:: else
		fi;
		received = 0;
		others = 0;
#ifndef OLD_REAP
		wake_all();
#endif
		conn_advance();
#ifndef OLD_REAP
		ctx_mark()
#endif
	:: else
	fi
}

inline worker_watch()
{
	if
	:: worker_idle -> worker_idle = false
	:: else
	fi;
#ifndef OLD_WATCH
	if
	:: worker_waits && held -> worker_waits = false; wake_all()
	:: else
	fi
#endif
}

inline ctx_leave()
{
	ctx_step();
	worker_watch();
	wake_send()
}

/* The two halves of wake_wait(). */
inline give_up()
{
	since = epoch;
	wake_send();
	waiters++
}

inline come_back()
{
	waiters--;
	if
	:: since != epoch && stale -> stale--
	:: else
	fi
}

/*
 * ctx_block() up to where it sleeps: sleeps is set if it does, and else the
 * caller is to look again.
 */
inline ctx_block(await)
{
	ctx_mark();
	since = epoch;
	ctx_step();
	sleeps = since == epoch;
	if
	:: sleeps ->
		awaited = awaited | await;
		callers++;
		give_up()
	:: else
	fi
}

active proctype reader()
{
	byte since;
	bool sleeps;

	do
	:: atomic {
		ctx_step();
		if
		:: good ->
			good = false; /* read_some(), and settle() */
			conn_advance();
			ctx_mark();
			ctx_leave();
			sleeps = false
		:: !good && error ->
			ctx_leave();
			done++;
			break
		:: else -> ctx_block(READ)
		fi
	   }
	   if
	   :: sleeps ->
		atomic { COMPLETED; }
		atomic { come_back(); callers-- ; ctx_step() }
	   :: else
	   fi
	od
}

active proctype writer()
{
	byte since;
	bool sleeps;

	do
	:: atomic {
		if
		:: error || shut ->
			ctx_leave();
			done++;
			break
		:: else -> ctx_block(ROOM)
		fi
	   }
	   if
	   :: sleeps ->
		atomic { COMPLETED; }
		atomic { come_back(); callers--; ctx_step() }
	   :: else
	   fi
	od
}

/* tls_context_wait(), until it has heard of the error. */
active proctype listener()
{
	byte since;
	bool sleeps;

	do
	:: atomic {
		ctx_step();
		if
		:: ready && EVENTS ->
			told = error;
			sleeps = false;
			if
			:: error -> ctx_leave(); done++; break
			:: else -> ctx_leave(); goto busy
			fi
		:: ready && !EVENTS -> ready = false; ctx_block(0)
		:: else -> ctx_block(0)
		fi;
		listeners = listeners + sleeps
	   }
	   if
	   :: sleeps ->
		atomic { COMPLETED; }
		atomic {
			come_back();
			callers--;
			listeners--;
			ctx_step()
		}
	   :: else
	   fi;
	   goto next;
busy:	   /* readable, as long as the reader has not read it */
	   atomic { !EVENTS || error }
next:	   skip
	od
}

/* It has pushed what it could, and a socket is full: so it waits for that. */
active proctype worker()
{
	byte since;
	bool idles;

	do
	:: atomic {
		held = false;
		ctx_step();
		idles = callers > 0;
		if
		:: idles -> worker_idle = true; wake_send()
		:: else -> worker_waits = true; give_up()
		fi
	   }
	   if
	   :: idles ->
end_idle:	atomic { !worker_idle }
	   :: else ->
end_waits:	atomic { COMPLETED; }
		atomic { worker_waits = false; come_back(); ctx_step() }
	   fi
	od
}

active proctype passer()
{
	atomic { ctx_step(); ctx_leave() }
}

/* tls_shutdown(), which may come before or after the rest, or not at all. */
active proctype closer()
{
	if
	:: atomic { shut = true; ctx_mark(); ctx_leave() }
	:: skip
	fi
}

/* A write to another connection, which completes nothing. */
active proctype holder()
{
	atomic { held = true; ctx_leave() }
}

active proctype kernel()
{
	atomic { received = 1 }
	atomic { others = 1 }
}

/* Where nothing moves any more, nothing may be left to be done. */
active proctype judge()
{
	atomic {
		timeout;
		assert(!held);
		assert(done == 3)
	}
}
