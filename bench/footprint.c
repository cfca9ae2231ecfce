/* SPDX-License-Identifier: MIT */
/*
 * footprint: what connections cost in memory and descriptors.
 *
 * Opens connections to sockets that nobody reads, lets them idle, then has all
 * of them write until no more is taken, read that, have each write a little
 * twenty times, and divides by their number what the allocator, the library's
 * statistics and /proc/self say. What the first one brings with it (libcrypto's
 * tables, the ring's pages) is the context's.
 */
#include <asynctls.h>

#include <dirent.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

struct usage {
	size_t bytes; /* allocated, and of records */
	size_t resident;
	int descriptors;
};

static struct tls_context *ctx;
static uint8_t secret[32];

static void die(const char *what, const char *why)
{
	fprintf(stderr, "footprint: %s: %s\n", what, why);
	exit(1);
}

static int count_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n;
}

static size_t resident(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	size_t total, pages = 0;

	if (f && fscanf(f, "%zu %zu", &total, &pages) != 2)
		pages = 0;
	if (f)
		fclose(f);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static struct usage measure(void)
{
	struct tls_stats stats;

	tls_context_stats(ctx, &stats, sizeof(stats));
	return (struct usage){
		.bytes = mallinfo2().uordblks + mallinfo2().hblkhd +
			 stats.memory_now,
		.resident = resident(),
		.descriptors = count_descriptors(),
	};
}

static struct tls_conn *take_over(int fd)
{
	const struct tls_secrets secrets = {
		.size = sizeof(struct tls_secrets),
		.cipher_suite = TLS_AES_128_GCM,
		.secret_len = sizeof(secret),
		.tx_secret = secret,
		.rx_secret = secret,
	};
	struct tls_conn *conn;

	if (tls_handoff_secrets(&conn, ctx, fd, &secrets))
		die("hand-over", tls_last_error());
	return conn;
}

static void report(const char *what, struct usage before, struct usage after,
		   int connections)
{
	printf("%-28s %7.0f bytes in use, %7.0f resident, %.2f descriptors\n",
	       what,
	       ((double)after.bytes - (double)before.bytes) / connections,
	       ((double)after.resident - (double)before.resident) / connections,
	       (double)(after.descriptors - before.descriptors) / connections);
}

static void allow_descriptors(int n)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur < (rlim_t)n + 64)
		die("descriptors", "too few for so many connections; raise "
				   "ulimit -n or ask for fewer");
}

/* As an event loop that has nothing else to do, for two seconds. */
static void rest(void)
{
	struct pollfd p = { .fd = tls_context_fd(ctx), .events = POLLIN };
	int i;

	for (i = 0; i < 20; i++) {
		poll(&p, 1, 100);
		tls_context_process(ctx);
	}
}

int main(int argc, char **argv)
{
	struct tls_config config = TLS_CONFIG_INIT;
	static char data[16384], sink[65536];
	struct usage none, before, idle, active;
	struct tls_conn **conns;
	int i, n = argc == 2 ? atoi(argv[1]) : 1000;
	int (*fd)[2];

	if (n <= 0 || argc > 2) {
		fprintf(stderr, "usage: footprint [CONNECTIONS]\n");
		return 2;
	}
	allow_descriptors(2 * n);
	conns = calloc((size_t)n, sizeof(*conns));
	fd = calloc((size_t)n, sizeof(*fd));
	for (i = 0; i < n; i++)
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd[i]))
			die("socketpair", "no more");
	none = (struct usage){ mallinfo2().uordblks, resident(),
			       count_descriptors() };
	config.kind = TLS_CONTEXT_LOOP;
	if (tls_context_new(&ctx, &config))
		die("context", tls_last_error());
	tls_close(take_over(fd[0][0]), 0);
	before = measure();
	for (i = 0; i < n; i++)
		conns[i] = take_over(fd[i][0]);
	tls_context_process(ctx);
	idle = measure();
	for (i = 0; i < n; i++)
		while (tls_write(conns[i], data, sizeof(data)) > 0)
			;
	active = measure();
	printf("%d connections, TLS_AES_128_GCM_SHA256\n", n);
	report("a context", none, before, 1);
	report("each idle connection", before, idle, n);
	report("each with a peer that stalls", before, active, n);
	for (i = 0; i < n; i++)
		while (read(fd[i][1], sink, sizeof(sink)) > 0)
			tls_context_process(ctx);
	for (i = 0; i < 20 * n; i++) {
		tls_write(conns[i % n], data, 100);
		tls_context_process(ctx);
	}
	rest();
	report("each idle again", before, measure(), n);
	for (i = 0; i < n; i++)
		tls_close(conns[i], 0);
	report("each after closing", before, measure(), n);
	tls_context_free(ctx);
	return 0;
}
