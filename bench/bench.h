/* SPDX-License-Identifier: MIT */
/*
 * What the programs of the benchmark share. Each contender is one program with
 * the same command line: bench.c has main(), the workloads are written once
 * against struct contender, and a contender says how its library does it.
 *
 * A run is two processes and loopback TCP between them: the one started, whose
 * end is under test, and a child, its peer. Each is pinned to a processor.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct cipher {
	const char *flag;   /* on the command line */
	const char *suite;  /* of TLS 1.3 */
	const char *suite2; /* of TLS 1.2, by OpenSSL's name */
	const char *gnutls; /* GnuTLS's name of the AEAD */
};

struct options {
	const char *workload;
	size_t size;  /* bytes of a write, or of a response */
	unsigned ms;  /* how long to go on */
	size_t bytes; /* of a stream sealed beforehand */
	unsigned conns;
	unsigned port;    /* of somebody else's server */
	const char *path; /* to ask it for */
	bool wait;        /* before the clock runs, for who measures it */
	unsigned pairs;   /* threads, each with a connection and its peer */
	const struct cipher *cipher;
	int version; /* 12 or 13 */
	int cpu, peer_cpu;
	bool epoll;
	bool nodelay;
	const char *cc; /* congestion control */
	bool ktls;      /* OpenSSL only */
	/* libasynctls only */
	const char *engine, *context;
};
extern struct options options;

struct cost {
	double user, sys; /* seconds */
};

/* What both processes write their results to. */
struct shared {
	uint64_t begin_ns, end_ns; /* first write, last byte received */
	uint64_t bytes;            /* of plaintext, or raw at a sink */
	uint64_t requests;
	struct cost peer;
	double percentiles[3];           /* p50, p99, p99.9 in microseconds */
	double idle_bytes, active_bytes; /* resident, per connection */
};

enum side { SERVER, CLIENT };

/* Bytes sealed beforehand. */
struct sealed {
	uint8_t *bytes;
	size_t len, size;
};
void sealed_add(struct sealed *s, const void *bytes, size_t len);

/* Calls that cannot fail exit with a message. Descriptors come blocking. */
struct contender {
	const char *name;
	bool plain; /* no TLS: wire bytes are plaintext */
	/* Name and version of the library that is really loaded. */
	const char *(*library)(void);
	/* Once in each thread that opens ends. */
	void (*prepare)(void);
	/*
	 * Handshake on fd. An end under test is used through read() and
	 * write(); another through seal(), or its descriptor alone.
	 */
	void *(*open)(int fd, enum side side, bool under_test);
	/* As write(2) and read(2), errors as -errno. */
	ssize_t (*write)(void *end, const void *buf, size_t len);
	ssize_t (*read)(void *end, void *buf, size_t len);
	/* Send what is held back, and close_notify. */
	void (*finish)(void *end);
	/* Append the records of len bytes to s; nothing is sent. */
	void (*seal)(void *end, const void *buf, size_t len, struct sealed *s);
	/* Free what idle connections need not; called before memory is read. */
	void (*close)(void *end);
	/*
	 * Answer requests on n ends until all are closed; NULL: in an epoll
	 * loop with read() and write().
	 */
	void (*serve)(void **ends, const int *fds, unsigned n);
	/* Members of JSON to put into the result; may be NULL. */
	const char *(*more)(void);
};
extern const struct contender contender; /* the one this program is */

/* ---- net.c: processes, processors, sockets, clocks ----------------------- */

uint64_t now_ns(void);
struct cost cost_now(void);
struct cost cost_since(struct cost before);
void pin(int cpu);
/* One for each pair; and their sum, into the first. */
struct shared *shared_new(void);
void shared_sum(struct shared *shared, int n);

/* A listening socket on 127.0.0.1, and its two ends' options. */
int net_listen(void);
int net_accept(int listener);
int net_connect(int listener);
int net_connect_port(unsigned port);
/* contender.open(), and only then Nagle's algorithm as the options say. */
void *net_open(int fd, enum side side, bool under_test);
void net_nonblocking(int fd);

/* Fork the peer, which calls begin_peer(); wait_peer() exits if it failed. */
pid_t fork_peer(void (*run)(int listener, struct shared *), int listener,
		struct shared *shared);
void begin_peer(void);
void wait_peer(pid_t peer);

/* ---- workloads ----------------------------------------------------------- */

/* Each stores what the end under test cost. */
void bulk_send(struct shared *shared, struct cost *cost);
void bulk_both(struct shared *shared, struct cost *cost);
void bulk_receive(struct shared *shared, struct cost *cost);
void request_response(struct shared *shared, struct cost *cost);
/* Only clients: of a server of files that somebody else runs. */
void fetch(struct shared *shared, struct cost *cost);
void memory(struct shared *shared, struct cost *cost);

/* For a contender that serves requests in its own way. */
enum { REQUEST = 64, RESPONSE_MAX = 16 << 10 };
/* How many requests are whole with n more bytes, *got of the next. */
unsigned request_count(size_t *got, size_t n);
const char *response_bytes(void); /* options.size of them */

#endif
