// SPDX-License-Identifier: MIT
#define _GNU_SOURCE 1
#include "../../examples/common.h"
#include "../../examples/content.h"
#include "pump.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WRITE_MAX = 65536, GIVE_UP_S = 60 };

static const struct cipher_suite suites[] = {
	{ "AES-128-GCM", "TLS_AES_128_GCM_SHA256",
	  "ECDHE-ECDSA-AES128-GCM-SHA256",
	  "TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256" },
	{ "AES-256-GCM", "TLS_AES_256_GCM_SHA384",
	  "ECDHE-ECDSA-AES256-GCM-SHA384",
	  "TLS-ECDHE-ECDSA-WITH-AES-256-GCM-SHA384" },
	{ "CHACHA20-POLY1305", "TLS_CHACHA20_POLY1305_SHA256",
	  "ECDHE-ECDSA-CHACHA20-POLY1305",
	  "TLS-ECDHE-ECDSA-WITH-CHACHA20-POLY1305-SHA256" },
	{ "AES-128-CCM", "TLS_AES_128_CCM_SHA256", "ECDHE-ECDSA-AES128-CCM",
	  "TLS-ECDHE-ECDSA-WITH-AES-128-CCM" },
	{ "AES-256-CCM", NULL, "ECDHE-ECDSA-AES256-CCM",
	  "TLS-ECDHE-ECDSA-WITH-AES-256-CCM" },
};

/* ---- Flags --------------------------------------------------------------- */

static const struct option flags[] = {
	{ "cert", required_argument, NULL, 'c' },
	{ "key", required_argument, NULL, 'k' },
	{ "port", required_argument, NULL, 'p' },
	{ "version", required_argument, NULL, 'v' },
	{ "cipher", required_argument, NULL, 'C' },
	{ "bytes", required_argument, NULL, 'b' },
	{ "update", required_argument, NULL, 'u' },
	{ "padding", required_argument, NULL, 'P' },
	{ "seed", required_argument, NULL, 's' },
	{ "worker", no_argument, NULL, 'w' },
	{ "unanswered", no_argument, NULL, 'U' },
	{ NULL, 0, NULL, 0 },
};

static const struct cipher_suite *find_suite(const char *cipher)
{
	size_t i;

	for (i = 0; i < sizeof(suites) / sizeof(*suites); i++)
		if (!strcmp(suites[i].cipher, cipher))
			return &suites[i];
	die("no cipher %s", cipher);
}

static void take_flag(struct pump_options *o, int flag)
{
	switch (flag) {
	case 'c':
		o->cert = optarg;
		break;
	case 'k':
		o->key = optarg;
		break;
	case 'p':
		o->port = optarg;
		break;
	case 'v':
		o->tls12 = !strcmp(optarg, "1.2");
		break;
	case 'C':
		o->suite = find_suite(optarg);
		break;
	case 'b':
		o->bytes = parse_size("bytes", optarg);
		break;
	case 'u':
		o->update = parse_size("update", optarg);
		break;
	case 'P':
		o->padding = (unsigned)atoi(optarg);
		break;
	case 's':
		o->seed = (unsigned)atoi(optarg);
		break;
	case 'w':
		o->worker = true;
		break;
	case 'U':
		o->unanswered = true;
		break;
	default:
		exit(2);
	}
}

static struct pump_options options_of(int argc, char **argv)
{
	struct pump_options o = {
		.port = "0",
		.suite = suites,
		.bytes = 8 << 20,
		.seed = 1,
	};
	int flag;

	while ((flag = getopt_long(argc, argv, "", flags, NULL)) != -1)
		take_flag(&o, flag);
	if (optind + 1 != argc)
		die("server or client?");
	o.server = !strcmp(argv[optind], "server");
	return o;
}

/* ---- Socket -------------------------------------------------------------- */

static int accept_one(const char *port)
{
	char name[64];
	int listener = listen_on("127.0.0.1", port, name, sizeof(name)), fd;
	struct pollfd poll_for = { listener, POLLIN, 0 };

	printf("listening on %s\n", name);
	fflush(stdout);
	poll(&poll_for, 1, -1);
	fd = accept(listener, NULL, NULL);
	if (fd < 0)
		die("accept: %s", strerror(errno));
	close(listener);
	return fd;
}

static int connect_to(const char *port)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)atoi(port)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		die("connect to port %s: %s", port, strerror(errno));
	return fd;
}

void pump_no_block(int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

void pump_poll(int fd, bool writing)
{
	struct pollfd poll_for = { fd, POLLIN, 0 };

	if (writing)
		poll_for.events |= POLLOUT;
	if (poll(&poll_for, 1, -1) < 0 && errno != EINTR)
		die("poll: %s", strerror(errno));
}

/* ---- The stream ---------------------------------------------------------- */

static struct {
	struct pump_options o;
	const struct library *library;
	uint64_t sent, received;
	uint64_t write_len; /* of the write begun, else 0 */
	uint64_t updated;   /* how much had been sent at the last KeyUpdate */
	bool shut, ended;
} end;

/* The directions have different bytes: echoing would not do. */
static uint64_t place(bool to_client, uint64_t offset)
{
	return offset + ((uint64_t)to_client << 40);
}

/*
 * How much may have been sent by now: the first part at once, the second by
 * the client when the first is through both ways, and by the server when the
 * client's second has come.
 */
static uint64_t may_send(void)
{
	uint64_t part = end.o.bytes;

	return end.received >= (end.o.server ? 2 : 1) * part ? 2 * part : part;
}

/* A few bytes, or about a record, or several. */
static uint64_t random_len(uint64_t max)
{
	unsigned r = (unsigned)rand_r(&end.o.seed);
	uint64_t len;

	switch (r % 4) {
	case 0:
		len = 1 + (unsigned)rand_r(&end.o.seed) % 100;
		break;
	case 1:
		len = 16380 + (unsigned)rand_r(&end.o.seed) % 10;
		break;
	case 2:
		len = 1 + (unsigned)rand_r(&end.o.seed) % 16384;
		break;
	default:
		len = 1 + (unsigned)rand_r(&end.o.seed) % WRITE_MAX;
	}
	return len < max ? len : max;
}

/* Each of these returns whether it got on. */
static bool send_some(void)
{
	static content_scratch scratch;
	const char *data;
	ssize_t n;

	if (end.sent == may_send())
		return false;
	if (end.o.update && end.sent - end.updated >= end.o.update) {
		end.library->update();
		end.updated = end.sent;
	}
	if (!end.write_len)
		end.write_len = random_len(may_send() - end.sent);
	/* The end of a chunk may make it shorter, and does so every time. */
	data = content(place(end.o.server, end.sent), &end.write_len, scratch);
	n = end.library->write(data, end.write_len);
	if (n == -EAGAIN)
		return false;
	end.sent += (uint64_t)n;
	end.write_len = 0;
	return true;
}

static bool receive_some(void)
{
	static content_scratch scratch;
	static char buf[WRITE_MAX];
	ssize_t n;

	if (end.ended)
		return false;
	n = end.library->read(buf, sizeof(buf));
	if (n == -EAGAIN)
		return false;
	if (n == 0) {
		end.ended = true;
		return true;
	}
	if (end.received + (uint64_t)n > 2 * end.o.bytes)
		die("more than %" PRIu64 " bytes came", 2 * end.o.bytes);
	content_compare(buf, place(!end.o.server, end.received), (uint64_t)n,
			scratch);
	end.received += (uint64_t)n;
	return true;
}

/* The client ends first. */
static bool shut_down(void)
{
	if (end.shut || end.sent < 2 * end.o.bytes ||
	    end.received < 2 * end.o.bytes || (end.o.server && !end.ended))
		return false;
	end.shut = end.library->shutdown() == 0;
	return end.shut;
}

static void pump(void)
{
	while (!end.shut || !end.ended) {
		bool got_on = send_some();

		got_on |= receive_some();
		got_on |= shut_down();
		if (!got_on)
			end.library->wait(end.sent < may_send() || end.shut);
	}
	if (end.received < 2 * end.o.bytes)
		die("only %" PRIu64 " of %" PRIu64 " bytes came", end.received,
		    2 * end.o.bytes);
}

static void too_late(int sig)
{
	(void)sig;
	fprintf(stderr, "%s: after %d s: sent %" PRIu64 ", received %" PRIu64
		" of %" PRIu64 "\n", program_invocation_short_name, GIVE_UP_S,
		end.sent, end.received, 2 * end.o.bytes);
	_exit(1);
}

int pump_main(int argc, char **argv, const struct library *library)
{
	char how[256];
	int fd, on = 1;

	end.o = options_of(argc, argv);
	end.library = library;
	if (end.o.update && !library->update)
		die("%s has no KeyUpdate", library->name);
	content_make();
	signal(SIGPIPE, SIG_IGN);
	signal(SIGALRM, too_late);
	alarm(GIVE_UP_S);
	fd = end.o.server ? accept_one(end.o.port) : connect_to(end.o.port);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	library->open(&end.o, fd);
	library->describe(how, sizeof(how));
	pump();
	library->close();
	close(fd);
	printf("%s: %s, %" PRIu64 " bytes each way identical\n", library->name,
	       how, 2 * end.o.bytes);
	return 0;
}
