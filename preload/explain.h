/* SPDX-License-Identifier: MIT */
/*
 * asynctls-run --explain: the program as a child, until it and all that it leaves
 * behind (daemons) have ended; and then words about its connections.
 *
 * Signals that end programs or are their own affair (TERM, INT, HUP, QUIT, USR1,
 * USR2) are passed on to it, or to what it has left. Those of a terminal reach it
 * without us.
 */
#ifndef ASYNCTLS_EXPLAIN_H
#define ASYNCTLS_EXPLAIN_H

/*
 * Run path with argv. Returns the program's exit status; if a signal has ended
 * it, ends by the same one. stats: where ASYNCTLS_STATS is to point to, or NULL
 * for a file that is private to this.
 */
int explain(const char *path, char **argv, const char *stats);

#endif
