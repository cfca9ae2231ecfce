/* SPDX-License-Identifier: MIT */
/* Ends, good and bad. */
#include "twin.h"

void peer_closes(const struct way *way)
{
	struct ends e = open_ends(way);

	peer_writes(&e, 100);
	libssl.shutdown(e.peer);
	say_read(&e, 50);
	say_read(&e, 100);
	say_read(&e, 100);
	say_read(&e, 100);
	say_peek(&e, 100);
	say_write(&e, 0, 500);
	peer_reads(&e);
	say_shutdown(&e);
	peer_reads(&e);
	say_shutdown(&e);
	say_read(&e, 100);
	say_write(&e, 0, 10);
	close_ends(&e);
}

void without_tls(const struct way *way)
{
	for (int i = 0; i < 2; i++) {
		struct ends e = open_ends(way);
		uint8_t buf[1000];
		ssize_t n;

		peer_writes(&e, 100);
		libssl.shutdown(e.peer);
		send(e.peer_fd, pattern(500), 500, 0);
		wait_for_arrival(e.peer_fd);
		if (i)
			say_shutdown(&e);
		say_read(&e, 200);
		say_read(&e, 200);
		say_shutdown(&e);
		n = recv(e.fd, buf, sizeof(buf), 0);
		printf("\tin the clear %zd %08x\n", n,
		       n > 0 ? sum(buf, (size_t)n) : 0);
		close_ends(&e);
	}
}

void we_close(const struct way *way)
{
	struct ends e = open_ends(way);

	say_write(&e, 0, 10);
	say_shutdown(&e);
	say_write(&e, 0, 10);
	peer_reads(&e);
	say_shutdown(&e);
	say_read(&e, 10);
	libssl.shutdown(e.peer);
	say_shutdown(&e);
	say_shutdown(&e);
	close_ends(&e);
}

/* What follows the end of TLS is the program's to read. */
void plain_behind(const struct way *way)
{
	static const uint8_t plains[][16] = {
		"no secret at all",
		{ 22, 3, 3, 0, 4, 0, 0, 0, 0, 'm', 'o', 'r', 'e' },
		{ 23, 3, 3, 0, 4, 0, 0, 0, 0, 'm', 'o', 'r', 'e' },
	};
	uint8_t got[100];
	ssize_t n;

	for (int i = 0; i < 6; i++) {
		struct ends e = open_ends(way);

		peer_writes(&e, 100);
		say_read(&e, 100);
		if (i % 2)
			say_shutdown(&e);
		libssl.shutdown(e.peer);
		send(e.peer_fd, plains[i / 2], 16, 0);
		wait_for_arrival(e.peer_fd);
		if (!(i % 2))
			say_read(&e, 100);
		say_shutdown(&e);
		n = recv(e.fd, got, sizeof(got), 0);
		printf("\tplain: %zd, %08x\n", n,
		       n > 0 ? sum(got, (size_t)n) : 0);
		close_ends(&e);
	}
}

void close_with_data(const struct way *way)
{
	struct ends e = open_ends(way);

	peer_writes(&e, 100);
	say_shutdown(&e);
	say_read(&e, 50);
	say_shutdown(&e);
	peer_reads(&e);
	close_ends(&e);
	e = open_ends(way);
	peer_writes(&e, 100);
	say_shutdown(&e);
	say_shutdown(&e);
	say_shutdown(&e);
	say_read(&e, 50);
	peer_reads(&e);
	close_ends(&e);
	e = open_ends(way);
	SSL_set_quiet_shutdown(e.ssl, 1);
	say_shutdown(&e);
	say_read(&e, 50);
	peer_reads(&e);
	close_ends(&e);
}

static void ignore_eof(struct ends *e)
{
	SSL_CTX_set_options(e->ctx[0], SSL_OP_IGNORE_UNEXPECTED_EOF);
}

void ends_without(const struct way *way)
{
	for (int i = 0; i < 3; i++) {
		struct ends e;

		prepare = i == 1 ? ignore_eof : NULL;
		e = open_ends(way);
		peer_writes(&e, 10);
		if (i == 2) { /* in the middle of a record */
			uint8_t part[] = { 23, 3, 3, 0, 100, 1, 2, 3 };

			say_read(&e, 10);
			send(e.peer_fd, part, sizeof(part), 0);
			say_read(&e, 10);
		}
		shutdown(e.peer_fd, SHUT_WR);
		say_read(&e, 100);
		say_read(&e, 100);
		say_read(&e, 100);
		say_write(&e, 0, 10);
		say_shutdown(&e);
		peer_reads(&e);
		close_ends(&e);
	}
}

void reset(const struct way *way)
{
	struct linger linger = { .l_onoff = 1 };
	struct ends e = open_ends(way);

	setsockopt(e.peer_fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(e.peer_fd);
	e.peer_fd = -1;
	say_read(&e, 100);
	say_read(&e, 100);
	close_ends(&e);
}

void nonsense(const struct way *way)
{
	static const uint8_t records[][40] = {
		{ 23, 3, 3, 0, 30, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 },
		{ 23, 3, 3, 0xff, 0xff, 1, 2, 3 },
		{ 23, 3, 3, 0, 3, 1, 2, 3 },
		{ 23, 3, 3, 0, 0 },
		{ 22, 3, 3, 0, 35, 1, 2, 3 },
		{ 20, 3, 3, 0, 1, 1 },
		{ 99, 3, 3, 0, 35, 1, 2, 3 },
		{ 23, 9, 9, 0, 35, 1, 2, 3 },
		{ 21, 3, 3, 0, 2, 2, 40 },
		{ 'G', 'E', 'T', ' ', '/', ' ' },
	};

	for (size_t i = 0; i < 2 * sizeof(records) / sizeof(*records); i++) {
		struct ends e = open_ends(way);

		peer_writes(&e, 10);
		send(e.peer_fd, records[i / 2], i % 2 ? 40 : 5, 0);
		say_read(&e, 100);
		say_read(&e, 100);
		say_read(&e, 100);
		say_write(&e, 0, 10);
		say_shutdown(&e);
		peer_reads(&e);
		close_ends(&e);
	}
}

/* The peer finds a record of ours changed on the way, and says so. */
void peer_alerts(const struct way *way)
{
	struct ends e = open_ends(way);
	uint8_t byte = 0x55;

	peer_writes(&e, 10);
	send(e.fd, &byte, 1, 0);
	send(e.fd, pattern(100), 100, 0);
	peer_reads(&e);
	say_read(&e, 100);
	say_read(&e, 100);
	say_read(&e, 100);
	say_write(&e, 0, 10);
	say_shutdown(&e);
	close_ends(&e);
}

void broken_pipe(const struct way *way)
{
	struct ends e = open_ends(way);

	/* of what is held, an error is told by the next call */
	shutdown(e.fd, SHUT_WR);
	SSL_write(e.ssl, pattern(100000), 100000);
	usleep(1);
	say_write(&e, 0, 100000);
	peer_reads(&e);
	close_ends(&e);
}
