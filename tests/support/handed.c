/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "handed.h"
#include "handoff_check.h"

struct tls_conn *handed_over(struct tls_context *ctx, SSL *ssl)
{
	struct tls_conn *conn;

	if (tls_handoff(&conn, ctx, ssl))
		fail_msg("%s", tls_last_error());
	return conn;
}

void handed_declined(struct tls_context *ctx, SSL *ssl, int error,
		     const char *words)
{
	struct tls_conn *conn = NULL;

	assert_int_equal(tls_handoff(&conn, ctx, ssl), error);
	assert_null(conn);
	if (!strstr(tls_last_error(), words))
		fail_msg("\"%s\" does not say \"%s\"", tls_last_error(), words);
}

void handed_hears(struct tls_conn *conn, const char *what)
{
	size_t len = strlen(what), got = 0;
	char buf[256];
	ssize_t n;

	assert_true(len <= sizeof(buf));
	for (; got < len; got += (size_t)n) {
		n = tls_read(conn, buf + got, len - got);
		if (n <= 0)
			fail_msg("%zd: %s", n, tls_conn_error(conn));
	}
	assert_memory_equal(buf, what, len);
}

void handed_says(struct tls_conn *conn, SSL *peer, const char *what)
{
	assert_int_equal(tls_write(conn, what, strlen(what)), strlen(what));
	assert_int_equal(tls_flush(conn), 0);
	hear(peer, what);
}
