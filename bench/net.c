/* SPDX-License-Identifier: MIT */
#include "bench.h"
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static double seconds(struct timeval t)
{
	return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

struct cost cost_now(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (struct cost){ seconds(usage.ru_utime),
			      seconds(usage.ru_stime) };
}

struct cost cost_since(struct cost before)
{
	struct cost now = cost_now();

	return (struct cost){ now.user - before.user, now.sys - before.sys };
}

void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("cannot run on processor %d: %s", cpu, strerror(errno));
}

void begin_peer(void)
{
	pin(options.peer_cpu);
	contender.prepare();
}

struct shared *shared_new(void)
{
	size_t len = options.pairs * sizeof(struct shared);
	void *shared = mmap(NULL, len, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (shared == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	return shared;
}

static void set_nodelay(int fd, int on)
{
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
		die("TCP_NODELAY: %s", strerror(errno));
}

static void set_options(int fd)
{
	if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, options.cc,
		       (socklen_t)strlen(options.cc)))
		die("congestion control %s: %s", options.cc, strerror(errno));
	/* Libraries that handshake in many writes would wait for Nagle. */
	set_nodelay(fd, 1);
}

int net_listen(void)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) ||
	    listen(fd, SOMAXCONN))
		die("cannot listen on 127.0.0.1: %s", strerror(errno));
	return fd;
}

int net_accept(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		die("accept: %s", strerror(errno));
	set_options(fd);
	return fd;
}

static int connect_to(const struct sockaddr_in *addr)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0)
		set_options(fd);
	if (fd < 0 || connect(fd, (const void *)addr, sizeof(*addr)))
		die("connect: %s", strerror(errno));
	return fd;
}

int net_connect(int listener)
{
	struct sockaddr_in addr;
	socklen_t len = sizeof(addr);

	if (getsockname(listener, (struct sockaddr *)&addr, &len))
		die("getsockname: %s", strerror(errno));
	return connect_to(&addr);
}

int net_connect_port(unsigned port)
{
	return connect_to(&(struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	});
}

void *net_open(int fd, enum side side, bool under_test)
{
	void *end = contender.open(fd, side, under_test);

	set_nodelay(fd, options.nodelay);
	return end;
}

void net_nonblocking(int fd)
{
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK))
		die("fcntl: %s", strerror(errno));
}

/* Without its peer the end under test would wait for ever. */
static void peer_ended(int sig, siginfo_t *info, void *context)
{
	static const char words[] = "bench: the peer failed\n";

	(void)sig;
	(void)context;
	if (info->si_code == CLD_EXITED && info->si_status == 0)
		return;
	if (write(2, words, sizeof(words) - 1) < 0)
		_exit(2);
	_exit(1);
}

static void watch_peers(void)
{
	struct sigaction act = { .sa_sigaction = peer_ended,
				 .sa_flags = SA_SIGINFO | SA_RESTART };

	if (sigaction(SIGCHLD, &act, NULL))
		die("sigaction: %s", strerror(errno));
}

pid_t fork_peer(void (*run)(int, struct shared *), int listener,
		struct shared *shared)
{
	pid_t parent = getpid(), child;

	watch_peers();
	child = fork();
	if (child < 0)
		die("fork: %s", strerror(errno));
	if (child)
		return child;
	/* An interrupted benchmark leaves no peers behind. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	run(listener, shared);
	_exit(0);
}

void wait_peer(pid_t peer)
{
	int status;

	if (waitpid(peer, &status, 0) != peer || status)
		die("the peer failed");
}

void shared_sum(struct shared *shared, int n)
{
	int i;

	for (i = 1; i < n; i++) {
		shared->bytes += shared[i].bytes;
		shared->peer.user += shared[i].peer.user;
		shared->peer.sys += shared[i].peer.sys;
		if (shared[i].begin_ns < shared->begin_ns)
			shared->begin_ns = shared[i].begin_ns;
		if (shared[i].end_ns > shared->end_ns)
			shared->end_ns = shared[i].end_ns;
	}
}

void sealed_add(struct sealed *s, const void *bytes, size_t len)
{
	if (s->len + len > s->size) {
		s->size = 2 * s->size + len;
		s->bytes = realloc(s->bytes, s->size);
		if (!s->bytes)
			die("no memory for %zu sealed bytes", s->size);
	}
	memcpy(s->bytes + s->len, bytes, len);
	s->len += len;
}
