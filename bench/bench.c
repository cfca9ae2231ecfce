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

static void print_bulk(const struct shared *r, struct cost cost)
{
	uint64_t ns = r->end_ns - r->begin_ns;

	printf(", \"bytes\": %llu, \"wall_ns\": %llu, \"gb_per_s\": %.4f, "
	       "\"cpu_s_per_gb\": %.4f, \"peer_cpu_s_per_gb\": %.4f",
	       (unsigned long long)r->bytes, (unsigned long long)ns,
	       (double)r->bytes / (double)ns,
	       (cost.user + cost.sys) * 1e9 / (double)r->bytes,
	       (r->peer.user + r->peer.sys) * 1e9 / (double)r->bytes);
}

static void print_requests(const struct shared *r, struct cost cost)
{
	uint64_t ns = r->end_ns - r->begin_ns;

	printf(", \"requests\": %llu, \"wall_ns\": %llu, "
	       "\"bytes\": %llu, \"requests_per_s\": %.1f, "
	       "\"cpu_us_per_request\": %.3f, "
	       "\"p50_us\": %.2f, \"p99_us\": %.2f, \"p99_9_us\": %.2f",
	       (unsigned long long)r->requests, (unsigned long long)ns,
	       (unsigned long long)r->bytes,
	       (double)r->requests * 1e9 / (double)ns,
	       (cost.user + cost.sys) * 1e6 / (double)r->requests,
	       r->percentiles[0], r->percentiles[1], r->percentiles[2]);
}

static void print_memory(const struct shared *r, struct cost cost)
{
	(void)cost;
	printf(", \"idle_bytes\": %.0f, \"active_bytes\": %.0f", r->idle_bytes,
	       r->active_bytes);
}

static const struct workload {
	const char *name, *what;
	void (*run)(struct shared *shared, struct cost *cost);
	void (*print)(const struct shared *r, struct cost cost);
} workloads[] = {
	{ "send", "bulk data to a peer that opens nothing", bulk_send,
	  print_bulk },
	{ "receive", "bulk data from a peer that sealed it beforehand",
	  bulk_receive, print_bulk },
	{ "both", "bulk data, sealed and opened by this library", bulk_both,
	  print_bulk },
	{ "request", "64 bytes answered by --size, on --conns connections",
	  request_response, print_requests },
	{ "fetch", "clients only: --path of a server of files at --port", fetch,
	  print_requests },
	{ "memory", "of --conns connections, idle and active", memory,
	  print_memory },
	{ 0 },
};

static void help(void)
{
	const struct workload *w;

	printf("usage: %s WORKLOAD [options]\n", program_invocation_short_name);
	puts("Measure one library; prints one line of JSON.\n");
	for (w = workloads; w->name; w++)
		printf("  %-15s %s\n", w->name, w->what);
	puts("\n"
	     "  --size N[K]     bytes of an application write (16K)\n"
	     "  --ms N          how long to go on (1000)\n"
	     "  --bytes N[KMG]  receive: length of the stream (1G)\n"
	     "  --conns N       request, memory: connections (1)\n"
	     "  --port N        fetch: of the server, on 127.0.0.1\n"
	     "  --path P        fetch: the file, as HTTP names it\n"
	     "  --wait          fetch: print \"ready\" before the clock runs, "
	     "and\n"
	     "                  wait for a line\n"
	     "  --pairs N       send, both: threads on as many processors, "
	     "the\n"
	     "                  peer of each on the same one\n"
	     "  --cipher C      aes-128-gcm (default), aes-256-gcm,\n"
	     "                  chacha20-poly1305\n"
	     "  --version V     1.3 (default) or 1.2\n"
	     "  --cpu N         where the end under test runs (0)\n"
	     "  --peer-cpu N    where its peer runs (1)\n"
	     "  --cc NAME       congestion control of both ends (reno)\n"
	     "  --nodelay       TCP_NODELAY on both ends\n"
	     "  --epoll         send, both: non-blocking, waiting in epoll\n"
	     "  --ktls          OpenSSL: let the kernel seal\n"
	     "  --engine E      libasynctls: cpu (default), afalg, auto\n"
	     "  --context K     libasynctls: loop (default) or worker");
}

static const struct option flags[] = {
	{ "size", required_argument, NULL, 's' },
	{ "ms", required_argument, NULL, 'm' },
	{ "bytes", required_argument, NULL, 'b' },
	{ "conns", required_argument, NULL, 'N' },
	{ "port", required_argument, NULL, 'o' },
	{ "path", required_argument, NULL, 'a' },
	{ "wait", no_argument, NULL, 'w' },
	{ "pairs", required_argument, NULL, 'T' },
	{ "cipher", required_argument, NULL, 'c' },
	{ "version", required_argument, NULL, 'v' },
	{ "cpu", required_argument, NULL, 'p' },
	{ "peer-cpu", required_argument, NULL, 'P' },
	{ "cc", required_argument, NULL, 'C' },
	{ "nodelay", no_argument, NULL, 'n' },
	{ "epoll", no_argument, NULL, 'e' },
	{ "ktls", no_argument, NULL, 't' },
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
		  "chacha20-poly1305, not '%s'",
		  text);
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
	case 'N':
		o->conns = (unsigned)parse_number("conns", optarg, 1, 100000);
		break;
	case 'o':
		o->port = (unsigned)parse_number("port", optarg, 1, 65535);
		break;
	case 'a':
		o->path = optarg;
		break;
	case 'w':
		o->wait = true;
		break;
	case 'T':
		o->pairs = (unsigned)parse_number("pairs", optarg, 1, 64);
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
	case 't':
		o->ktls = true;
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

static const struct workload *find_workload(void)
{
	const struct workload *w;

	for (w = workloads; w->name; w++)
		if (!strcmp(w->name, options.workload))
			return w;
	die_usage("no workload '%s'", options.workload);
}

static void check_options(void)
{
	if (strcmp(options.workload, "request"))
		return;
	if (options.size > RESPONSE_MAX)
		die_usage("a response has at most %d bytes", RESPONSE_MAX);
}

static const char *version(void)
{
	if (contender.plain)
		return "none";
	return options.version == 12 ? "1.2" : "1.3";
}

static void print_result(const struct workload *w, const struct shared *r,
			 struct cost cost)
{
	printf("{\"contender\": \"%s\", \"library\": \"%s\", "
	       "\"workload\": \"%s\", \"size\": %zu, \"cipher\": \"%s\", "
	       "\"version\": \"%s\", \"connections\": %u",
	       contender.name, contender.library(), w->name, options.size,
	       contender.plain ? "none" : options.cipher->flag, version(),
	       options.conns);
	printf(", \"user_s\": %.6f, \"sys_s\": %.6f, "
	       "\"peer_user_s\": %.6f, \"peer_sys_s\": %.6f",
	       cost.user, cost.sys, r->peer.user, r->peer.sys);
	w->print(r, cost);
	if (contender.more)
		printf(", %s", contender.more());
	puts("}");
}

int main(int argc, char **argv)
{
	const struct workload *w;
	struct shared *shared;
	struct cost cost = { 0 };

	parse(argc, argv);
	w = find_workload();
	check_options();
	allow_many_descriptors();
	signal(SIGPIPE, SIG_IGN);
	shared = shared_new();
	pin(options.cpu);
	w->run(shared, &cost);
	print_result(w, shared, cost);
	return 0;
}
