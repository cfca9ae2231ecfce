// SPDX-License-Identifier: MIT
/*
 * echo-client: sends a file, or made-up bytes, to a server that sends them
 * back, and compares.
 *
 * One thread writes and one reads, both with blocking calls on the same
 * connection, as a context of the kind TLS_CONTEXT_WORKER allows: neither can
 * keep the other from going on when the network is full.
 *
 * Flags, OpenSSL's handshake and the progress line are in client-setup.c; what
 * is sent comes from content.c. Neither is about the library.
 */
#define _GNU_SOURCE 1
#include "client-setup.h"
#include "content.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { QUIET_MS = 100 };

static struct client_options options; /* constant once the threads run */

static void *writer(void *arg)
{
	struct tls_conn *conn = arg;
	content_scratch scratch;
	uint64_t sent, len;
	const char *chunk;
	ssize_t n;

	for (sent = 0; sent < options.bytes; sent += (uint64_t)n) {
		len = options.bytes - sent;
		chunk = content(sent, &len, scratch);
		n = tls_write(conn, chunk, len);
		if (n < 0)
			return NULL; /* sticks: the reader reports it */
	}
	/* No more from here, but the answer is still to come. */
	tls_shutdown(conn);
	return NULL;
}

/* The server broke the protocol, and is to hear so: by the library's alert. */
static void complain(struct tls_conn *conn, pthread_t other)
{
	int fd = tls_conn_fd(conn);

	/* It may wait for us to read before it reads what is in front. */
	client_drop(fd, QUIET_MS);
	pthread_join(other, NULL); /* its calls fail, too */
	tls_close(conn, 1000);
	client_leave(fd);
}

static _Noreturn void failed(struct tls_conn *conn, pthread_t other,
			     ssize_t error, uint64_t received)
{
	char words[256];

	snprintf(words, sizeof(words), "%s", tls_conn_error(conn));
	if (error == -EBADMSG || error == -EMSGSIZE || error == -EPROTO)
		complain(conn, other);
	die("after %" PRIu64 " of %" PRIu64 " bytes: %s", received,
	    options.bytes, words);
}

/* Read up to the server's close_notify, while another thread writes. */
static void reader(struct tls_conn *conn, pthread_t other)
{
	static content_scratch scratch;
	static char buf[CHUNK];
	uint64_t received = 0;
	ssize_t n;

	while ((n = tls_read(conn, buf, sizeof(buf))) > 0) {
		if ((uint64_t)n > options.bytes - received)
			die("more came back than the %" PRIu64 " bytes sent",
			    options.bytes);
		content_compare(buf, received, (uint64_t)n, scratch);
		received += (uint64_t)n;
		progress(received, options.bytes, options.timeout);
	}
	progress_end();
	if (n < 0)
		failed(conn, other, n, received);
	if (received < options.bytes)
		die("the server closed after %" PRIu64 " of %" PRIu64
		    " bytes; does it echo?",
		    received, options.bytes);
}

static void report(const struct tls_conn *conn, double seconds)
{
	char how[256];

	tls_conn_describe(conn, how, sizeof(how));
	printf("%" PRIu64 " bytes in %.3f s, %.3f GB/s each way, %s: "
	       "all %" PRIu64 " bytes identical\n",
	       options.bytes, seconds,
	       seconds > 0 ? (double)options.bytes / seconds / 1e9 : 0, how,
	       options.bytes);
}

static void exchange(struct tls_conn *conn)
{
	struct timespec start, end;
	pthread_t thread;

	clock_gettime(CLOCK_MONOTONIC, &start);
	thread = start_thread(writer, conn);
	reader(conn, thread);
	pthread_join(thread, NULL);
	clock_gettime(CLOCK_MONOTONIC, &end);
	report(conn, (double)(end.tv_sec - start.tv_sec) +
			     (double)(end.tv_nsec - start.tv_nsec) / 1e9);
}

/* From the handshake to the close. */
static void run(struct tls_context *ctx, SSL_CTX *ssl_ctx)
{
	SSL *ssl = client_connect(&options, ssl_ctx);
	int fd = SSL_get_fd(ssl);
	struct tls_conn *conn;

	if (options.resume)
		puts(SSL_session_reused(ssl) ? "session resumed" :
					       "new session");
	if (tls_handoff(&conn, ctx, ssl))
		die("hand-over: %s", tls_last_error());
	SSL_free(ssl); /* the connection does not need it any more */

	exchange(conn);
	tls_close(conn, 1000);
	close(fd); /* only now: until tls_close() the library uses it */
}

int main(int argc, char **argv)
{
	struct tls_context *ctx;
	SSL_CTX *ssl_ctx;

	client_options(&options, argc, argv);
	if (options.file)
		options.bytes = content_open(options.file);
	else
		content_make();
	signal(SIGPIPE, SIG_IGN);
	progress(0, options.bytes, options.timeout);

	if (tls_context_new(&ctx, &options.config))
		die("cannot create a context: %s", tls_last_error());
	ssl_ctx = client_ssl_ctx(&options);
	if (tls_handoff_prepare(ssl_ctx)) /* before any handshake */
		die("cannot prepare for hand-over: %s", tls_last_error());
	run(ctx, ssl_ctx);
	if (options.resume)
		run(ctx, ssl_ctx);
	SSL_CTX_free(ssl_ctx);
	tls_context_free(ctx);
	return 0;
}
