/* SPDX-License-Identifier: MIT */
/* The command line of every contender, and the line of JSON it prints. */
#include "bench.h"
#include "common.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct cipher ciphers[] = {
	{ "aes-128-gcm", "TLS_AES_128_GCM_SHA256",
	  "ECDHE-ECDSA-AES128-GCM-SHA256", "AES-128-GCM" },
	{ "aes-256-gcm", "TLS_AES_256_GCM_SHA384",
	  "ECDHE-ECDSA-AES256-GCM-SHA384", "AES-256-GCM" },
	{ "chacha20-poly1305", "TLS_CHACHA20_POLY1305_SHA256",
	  "ECDHE-ECDSA-CHACHA20-POLY1305", "CHACHA20-POLY1305" },
};

struct options options = {
	.size = 16 << 10,
	.ms = 1000,
	.bytes = 1 << 30,
	.conns = 1,
	.pairs = 1,
	.cipher = ciphers,
	.version = 13,
	.cpu = 0,
	.peer_cpu = 1,
	.cc = "reno",
	.engine = "cpu",
	.context = "loop",
};

static void help(void)
{
	printf("usage: %s WORKLOAD [options]\n",
	       program_invocation_short_name);
	puts("Measure one library; prints one line of JSON.\n\n"
	     "  send      bulk data to a peer that opens nothing\n"
	     "  receive   bulk data from a peer that sealed it beforehand\n"
	     "  both      bulk data, sealed and opened by this library\n\n"
	     "  --size N[K]     bytes of an application write (16K)\n"
	     "  --ms N          how long to go on (1000)\n"
	     "  --bytes N[KMG]  receive: length of the stream (1G)\n"
	     "  --cipher C      aes-128-gcm (default), aes-256-gcm,\n"
	     "                  chacha20-poly1305\n"
	     "  --version V     1.3 (default) or 1.2\n"
	     "  --cpu N         where the end under test runs (0)\n"
	     "  --peer-cpu N    where its peer runs (1)\n"
	     "  --cc NAME       congestion control of both ends (reno)\n"
	     "  --nodelay       TCP_NODELAY on both ends\n"
	     "  --epoll         send: non-blocking, waiting in epoll\n"
	     "  --engine E      libasynctls: cpu (default), afalg, auto\n"
	     "  --context K     libasynctls: loop (default) or worker");
}

static const struct option flags[] = {
	{ "size", required_argument, NULL, 's' },
	{ "ms", required_argument, NULL, 'm' },
	{ "bytes", required_argument, NULL, 'b' },
	{ "cipher", required_argument, NULL, 'c' },
	{ "version", required_argument, NULL, 'v' },
	{ "cpu", required_argument, NULL, 'p' },
	{ "peer-cpu", required_argument, NULL, 'P' },
	{ "cc", required_argument, NULL, 'C' },
	{ "nodelay", no_argument, NULL, 'n' },
	{ "epoll", no_argument, NULL, 'e' },
	{ "engine", required_argument, NULL, 'E' },
	{ "context", required_argument, NULL, 'k' },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

static const struct cipher *parse_cipher(const char *text)
{
	size_t i;

	for (i = 0; i < sizeof(ciphers) / sizeof(ciphers[0]); i++)
		if (!strcmp(text, ciphers[i].flag))
			return &ciphers[i];
	die_usage("--cipher wants aes-128-gcm, aes-256-gcm or "
		  "chacha20-poly1305, not '%s'", text);
}

static int parse_version(const char *text)
{
	if (!strcmp(text, "1.2"))
		return 12;
	if (!strcmp(text, "1.3"))
		return 13;
	die_usage("--version wants 1.2 or 1.3, not '%s'", text);
}

static size_t parse_length(const char *flag, const char *text, size_t max)
{
	size_t len = parse_size(flag, text);

	if (!len || len > max)
		die_usage("--%s wants 1 to %zu bytes, not '%s'", flag, max,
			  text);
	return len;
}

static void take_option(int flag)
{
	struct options *o = &options;

	switch (flag) {
	case 's':
		o->size = parse_length("size", optarg, 256 << 10);
		break;
	case 'm':
		o->ms = (unsigned)parse_number("ms", optarg, 1, 600000);
		break;
	case 'b':
		o->bytes = parse_length("bytes", optarg, 1ull << 34);
		break;
	case 'c':
		o->cipher = parse_cipher(optarg);
		break;
	case 'v':
		o->version = parse_version(optarg);
		break;
	case 'p':
		o->cpu = (int)parse_number("cpu", optarg, 0, 1023);
		break;
	case 'P':
		o->peer_cpu = (int)parse_number("peer-cpu", optarg, 0, 1023);
		break;
	case 'C':
		o->cc = optarg;
		break;
	case 'n':
		o->nodelay = true;
		break;
	case 'e':
		o->epoll = true;
		break;
	case 'E':
		o->engine = optarg;
		break;
	case 'k':
		o->context = optarg;
		break;
	case 'h':
		help();
		exit(0);
	default:
		exit_usage(); /* getopt_long() has named it */
	}
}

static void parse(int argc, char **argv)
{
	int flag;

	while ((flag = getopt_long(argc, argv, "", flags, NULL)) != -1)
		take_option(flag);
	if (optind + 1 != argc)
		die_usage(optind == argc ? "which workload?"
					 : "one workload at a time");
	options.workload = argv[optind];
}

static void print_result(const struct shared *r, struct cost cost)
{
	const char *stats = contender.statistics ? contender.statistics()
						 : NULL;

	printf("{\"contender\": \"%s\", \"library\": \"%s\", "
	       "\"workload\": \"%s\", \"size\": %zu, \"cipher\": \"%s\", "
	       "\"version\": \"%s\", \"bytes\": %llu, \"wall_ns\": %llu, "
	       "\"user_s\": %.6f, \"sys_s\": %.6f, "
	       "\"peer_user_s\": %.6f, \"peer_sys_s\": %.6f",
	       contender.name, contender.library(), options.workload,
	       options.size, contender.plain ? "none" : options.cipher->flag,
	       contender.plain	      ? "none"
	       : options.version == 12 ? "1.2"
				      : "1.3",
	       (unsigned long long)r->bytes,
	       (unsigned long long)(r->end_ns - r->begin_ns), cost.user,
	       cost.sys, r->peer.user, r->peer.sys);
	printf(", \"gb_per_s\": %.3f, \"cpu_s_per_gb\": %.3f",
	       (double)r->bytes / (double)(r->end_ns - r->begin_ns),
	       (cost.user + cost.sys) / ((double)r->bytes / 1e9));
	if (stats)
		printf(", \"statistics\": %s", stats);
	puts("}");
}

int main(int argc, char **argv)
{
	struct shared *shared;
	struct cost cost = { 0 };

	parse(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	shared = shared_new();
	pin(options.cpu);
	if (!strcmp(options.workload, "send"))
		bulk_send(shared, true, &cost);
	else if (!strcmp(options.workload, "both"))
		bulk_send(shared, false, &cost);
	else if (!strcmp(options.workload, "receive"))
		bulk_receive(shared, &cost);
	else
		die_usage("no workload '%s'", options.workload);
	print_result(shared, cost);
	return 0;
}
