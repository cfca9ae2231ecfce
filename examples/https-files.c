// SPDX-License-Identifier: MIT
/*
 * https-files: serves the files below a directory over HTTP/1.1, with
 * tls_sendfile().
 *
 * What it does with a connection is in http-peer.c; threads and the event loop
 * are in server-loop.c. HTTP is in http-request.c, http-file.c and
 * http-response.c, which know nothing of connections.
 */
#define _GNU_SOURCE 1
#include "http-peer.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <string.h>
#include <unistd.h>

static struct http_options http = {
	.root = -1,
	.idle_ms = 60 * 1000,
	.grace_ms = 60 * 1000,
};

/* HTTP/1.1 or, if a client can only do others, a clear end (RFC 7301 3.2). */
static int choose_protocol(SSL *ssl, const unsigned char **out,
			   unsigned char *out_len, const unsigned char *in,
			   unsigned in_len, void *arg)
{
	static const unsigned char ours[] = "\x08http/1.1\x08http/1.0";

	(void)ssl;
	(void)arg;
	if (SSL_select_next_proto((unsigned char **)out, out_len, ours,
				  sizeof(ours) - 1, in, in_len) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	return SSL_TLSEXT_ERR_OK;
}

static void take_flag(int flag, const char *text)
{
	switch (flag) {
	case 'r':
		http.root = open(text, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (http.root < 0)
			die("cannot serve %s: %s", text, strerror(errno));
		break;
	case 'i':
		http.idle_ms = 1000 * (int64_t)parse_number("idle", text, 1, 86400);
		break;
	case 'g':
		http.grace_ms = 1000 * (int64_t)parse_number("grace", text, 0, 86400);
		break;
	}
}

static const struct option own_flags[] = {
	{ "root", required_argument, NULL, 'r' },
	{ "idle", required_argument, NULL, 'i' },
	{ "grace", required_argument, NULL, 'g' },
	{ NULL, 0, NULL, 0 },
};

static const struct server_program program = {
	.usage = "usage: https-files --root DIR --cert FILE --key FILE --port N"
		 " [options]\n"
		 "Serve the files below a directory over HTTPS, until SIGTERM.\n",
	.help = "  --root DIR      what to serve; nothing outside of it\n"
		"  --idle N        seconds without a request, or without taking"
		" any of\n"
		"                  the answer, before a client is left (60)\n"
		"  --grace N       seconds for downloads to end after SIGTERM"
		" (60)\n",
	.flags = own_flags,
	.take = take_flag,
};

int main(int argc, char **argv)
{
	static struct server_options options;
	SSL_CTX *ssl_ctx;

	server_options(&options, &program, argc, argv);
	if (http.root < 0)
		die_usage("--root DIR is missing");
	ssl_ctx = server_ssl_ctx(&options);
	SSL_CTX_set_alpn_select_cb(ssl_ctx, choose_protocol, NULL);
	serve(&options, ssl_ctx, http_service(&http));
	SSL_CTX_free(ssl_ctx);
	close(http.root);
	return 0;
}
