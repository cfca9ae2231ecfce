// SPDX-License-Identifier: MIT
#define _GNU_SOURCE 1
#include "server-setup.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>

static void help(const struct server_program *program)
{
	puts(program->usage);
	if (program->help)
		fputs(program->help, stdout);
	puts("  --cert FILE     certificate chain, PEM\n"
	     "  --key FILE      its private key, PEM\n"
	     "  --port N        0 lets the kernel choose\n"
	     "  --host H        address to listen on (default: 127.0.0.1)\n"
	     "  --threads N     each has a context of its own (default: 1)\n"
	     "  --stats         print a line of JSON at the end");
	puts(TLS_HELP ENGINE_HELP "  --help          print this");
}

static const struct option common_flags[] = {
	{ "cert", required_argument, NULL, 'c' },
	{ "key", required_argument, NULL, 'k' },
	{ "port", required_argument, NULL, 'p' },
	{ "host", required_argument, NULL, 'H' },
	{ "threads", required_argument, NULL, 't' },
	{ "stats", no_argument, NULL, 's' },
	{ "tls", required_argument, NULL, 'T' },
	{ "cipher", required_argument, NULL, 'C' },
	{ "help", no_argument, NULL, 'h' },
	ENGINE_LONG_OPTIONS,
};

enum { COMMON_FLAGS = sizeof(common_flags) / sizeof(*common_flags) };

static void take_option(struct server_options *o,
			const struct server_program *program, int flag)
{
	if (parse_engine_flag(&o->config, flag, optarg))
		return;
	switch (flag) {
	case 'c':
		o->cert = optarg;
		break;
	case 'k':
		o->key = optarg;
		break;
	case 'p':
		parse_number("port", optarg, 0, 65535);
		o->port = optarg;
		break;
	case 'H':
		o->host = optarg;
		break;
	case 't':
		o->threads = (unsigned)parse_number("threads", optarg, 1, 1024);
		break;
	case 'T':
		o->tls = optarg;
		break;
	case 'C':
		o->cipher = optarg;
		break;
	case 's':
		o->stats = true;
		break;
	case 'h':
		help(program);
		exit(0);
	case '?':
		exit_usage(); /* getopt_long() has named it */
	default:
		program->take(flag, optarg);
	}
}

void server_options(struct server_options *o,
		    const struct server_program *program, int argc,
		    char **argv)
{
	struct option flags[COMMON_FLAGS + 8 + 1] = { 0 };
	int flag, i;

	memcpy(flags, common_flags, sizeof(common_flags));
	for (i = 0; program->flags && program->flags[i].name; i++)
		flags[COMMON_FLAGS + i] = program->flags[i];

	*o = (struct server_options){
		.host = "127.0.0.1",
		.threads = 1,
		.config = TLS_CONFIG_INIT,
	};
	o->config.kind = TLS_CONTEXT_LOOP;
	keylog_config(&o->config);
	while ((flag = getopt_long(argc, argv, "", flags, NULL)) != -1)
		take_option(o, program, flag);
	if (optind < argc)
		die_usage("unexpected argument '%s'", argv[optind]);
	if (!o->cert || !o->key)
		die_usage("a server needs --cert FILE and --key FILE");
	if (!o->port)
		die_usage("--port N is missing (0 lets the kernel choose)");
}

SSL_CTX *server_ssl_ctx(const struct server_options *o)
{
	SSL_CTX *ssl_ctx = SSL_CTX_new(TLS_server_method());

	if (!ssl_ctx)
		die("OpenSSL: %s", openssl_words());
	choose_tls(ssl_ctx, o->tls, o->cipher);
	if (SSL_CTX_use_certificate_chain_file(ssl_ctx, o->cert) != 1)
		die("cannot use the certificate %s: %s", o->cert,
		    openssl_words());
	if (SSL_CTX_use_PrivateKey_file(ssl_ctx, o->key, SSL_FILETYPE_PEM) != 1)
		die("cannot use the key %s: %s", o->key, openssl_words());
	/* Without it no suite with DHE is ever chosen. */
	SSL_CTX_set_dh_auto(ssl_ctx, 1);
	keylog_ssl_ctx(ssl_ctx);
	return ssl_ctx;
}

int prepare_process(void)
{
	sigset_t signals;
	int fd;

	allow_many_descriptors();
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	/* Threads inherit it: a signal stays pending, for all to see. */
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	fd = signalfd(-1, &signals, SFD_CLOEXEC);
	if (fd < 0)
		die("signalfd: %s", strerror(errno));
	return fd;
}

void stats_print(const struct tls_stats *stats)
{
	char json[4096];

	tls_stats_json(stats, sizeof(*stats), json, sizeof(json));
	puts(json);
}
