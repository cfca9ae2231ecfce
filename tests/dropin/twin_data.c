/* SPDX-License-Identifier: MIT */
/* Data, both ways, and how it is cut into records. */
#include "twin.h"

void sizes(const struct way *way)
{
	static const int lens[] = { 1, 100, 16383, 16384, 16385, 100000 };
	struct ends e = open_ends(way);

	for (size_t i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
		say_write(&e, i, lens[i]);
		peer_reads(&e);
		peer_writes(&e, lens[i]);
		while (say_read(&e, 1 << 20) > 0)
			;
	}
	close_ends(&e);
}

void pieces(const struct way *way)
{
	struct ends e = open_ends(way);

	peer_writes(&e, 1000);
	peer_writes(&e, 20000);
	say_peek(&e, 10);
	say_read(&e, 300);
	say_peek(&e, 2000);
	say_read(&e, 0);
	say_read(&e, 700);
	say_read(&e, 0);
	say_read(&e, 16384);
	say_read(&e, 16384);
	say_read(&e, 16384);
	say_read(&e, 0);
	say_read(&e, -1);
	say_write(&e, 0, 0);
	say_write(&e, 0, -1);
	say_write(&e, 0, 1);
	peer_reads(&e);
	close_ends(&e);
}

void with_ex(const struct way *way)
{
	struct ends e = open_ends(way);
	uint8_t buf[64];
	size_t n = 99;
	int ret;

	ret = SSL_write_ex(e.ssl, "hello", 5, &n);
	say(&e, "write_ex", ret);
	printf("\t\t%zu\n", n);
	ret = SSL_write_ex(e.ssl, "", 0, &n);
	say(&e, "write_ex", ret);
	printf("\t\t%zu\n", n);
	peer_reads(&e);
	ret = SSL_read_ex(e.ssl, buf, sizeof(buf), &n);
	say(&e, "read_ex", ret);
	peer_writes(&e, 60);
	ret = SSL_peek_ex(e.ssl, buf, 10, &n);
	say(&e, "peek_ex", ret);
	printf("\t\t%zu\n", n);
	ret = SSL_read_ex(e.ssl, buf, sizeof(buf), &n);
	say(&e, "read_ex", ret);
	printf("\t\t%zu\n", n);
	libssl.shutdown(e.peer);
	ret = SSL_read_ex(e.ssl, buf, sizeof(buf), &n);
	say(&e, "read_ex", ret);
	close_ends(&e);
}

/* After close_notify the socket is the program's. */
/* Nobody calls SSL_do_handshake(), and data comes with the end of it. */
void within_a_read(const struct way *way)
{
	int fds[2], ret = -1, wrote = -1;
	struct ends e;
	uint8_t buf[10];

	tcp_pair(fds);
	e = make_ends(way, fds);
	SSL_set_fd(e.ssl, e.fd);
	for (int i = 0; i < 100 && (ret <= 0 || wrote <= 0); i++) {
		if (wrote <= 0)
			wrote = libssl.write(e.peer, pattern(100), 100);
		usleep(200);
		if (ret <= 0)
			ret = SSL_read(e.ssl, buf, sizeof(buf));
	}
	told = true;
	say(&e, "first read", ret);
	say_peek(&e, 20);
	say_read(&e, 30);
	say_write(&e, 0, 20);
	peer_reads(&e);
	peer_writes(&e, 50);
	while (say_read(&e, 100) > 0)
		;
	libssl.shutdown(e.peer);
	say_read(&e, 10);
	say_shutdown(&e);
	close_ends(&e);
}

void small_buffers(const struct ends *e)
{
	int size = 64 << 10;

	setsockopt(e->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	setsockopt(e->peer_fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
}

/*
 * How much a socket takes may differ by what is sent at once; so that is not
 * said, but what is returned, and what arrives.
 */
static void full(const struct way *way, long mode, size_t len)
{
	struct ends e = open_ends(way);
	static uint8_t copies[2][4 << 20], got[4 << 20];
	size_t sent = 0, had = 0;
	int ret, waits = 0, turns = 0;

	small_buffers(&e);
	SSL_set_mode(e.ssl, mode);
	memcpy(copies[0], pattern(len), len);
	memcpy(copies[1], pattern(len), len);
	told = false;
	while (sent < len && turns < 100000) {
		const uint8_t *from =
			copies[mode & SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
				       ? turns++ % 2
				       : (turns++, 0)];

		ret = SSL_write(e.ssl, from + sent, (int)(len - sent));
		if (ret > 0) {
			sent += (size_t)ret;
			continue;
		}
		if (SSL_get_error(e.ssl, ret) != SSL_ERROR_WANT_WRITE)
			break;
		waits++;
		poll(&(struct pollfd){ e.fd, POLLOUT, 0 }, 1, 10);
		while ((ret = libssl.read(e.peer, got + had,
					  (int)(sizeof(got) - had))) > 0)
			had += (size_t)ret;
	}
	for (turns = 0; had < len && turns < 1000; turns++) {
		usleep(1000);
		while (had < sizeof(got) &&
		       (ret = libssl.read(e.peer, got + had,
					  (int)(sizeof(got) - had))) > 0)
			had += (size_t)ret;
	}
	printf("\tmode %ld: sent %zu of %zu, waited %s, arrived %zu: %08x\n",
	       mode, sent, len, waits ? "yes" : "no", had, sum(got, had));
	close_ends(&e);
}

void full_socket(const struct way *way)
{
	full(way, 0, 1 << 20);
	full(way, SSL_MODE_ENABLE_PARTIAL_WRITE, 1 << 20);
	full(way, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER, 1 << 20);
	full(way,
	     SSL_MODE_ENABLE_PARTIAL_WRITE |
		     SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER,
	     1 << 20);
}

/* Repeated with less, or with more, than before: redis does. */
void other_retry(const struct way *way)
{
	static const int lens[] = { 1 << 20, 300000, 700000 };
	struct ends e = open_ends(way);
	size_t sent = 0, turn = 0;
	uint8_t *from = pattern(1 << 20);

	small_buffers(&e);
	told = false;
	SSL_set_mode(e.ssl, SSL_MODE_ENABLE_PARTIAL_WRITE |
				    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	while (sent < 1 << 20) {
		size_t len = min((size_t)lens[turn++ % 3], (1 << 20) - sent);
		int ret = SSL_write(e.ssl, from + sent, (int)len);

		if (ret > 0)
			sent += (size_t)ret;
		else if (SSL_get_error(e.ssl, ret) != SSL_ERROR_WANT_WRITE)
			break;
		else
			peer_drains(&e);
	}
	printf("\tsent %zu\n", sent);
	say_errors();
	close_ends(&e);
}

void wrong_retry(const struct way *way)
{
	static uint8_t other[1 << 20];

	for (int i = 0; i < 2; i++) {
		struct ends e = open_ends(way);

		small_buffers(&e);
		say(&e, "write", SSL_write(e.ssl, pattern(1 << 20), 1 << 20));
		if (i == 0)
			say(&e, "write", SSL_write(e.ssl, other, 1 << 20));
		else
			say(&e, "write", SSL_write(e.ssl, pattern(1), 10));
		close_ends(&e);
	}
}

void partial(const struct way *way)
{
	struct ends e = open_ends(way);

	SSL_set_mode(e.ssl, SSL_MODE_ENABLE_PARTIAL_WRITE);
	say_write(&e, 0, 40000);
	say_write(&e, 16384, 40000 - 16384);
	say_write(&e, 32768, 40000 - 32768);
	peer_reads(&e);
	close_ends(&e);
}

void fragments(const struct way *way)
{
	struct ends e = open_ends(way);

	printf("\t%ld\n", SSL_set_max_send_fragment(e.ssl, 4000));
	say_write(&e, 0, 10000);
	peer_reads(&e);
	printf("\t%ld\n", SSL_set_split_send_fragment(e.ssl, 1000));
	say_write(&e, 0, 2500);
	peer_reads(&e);
	printf("\t%ld\n", SSL_set_max_send_fragment(e.ssl, 100));
	say_write(&e, 0, 2500);
	peer_reads(&e);
	printf("\t%ld\n", SSL_set_max_send_fragment(e.ssl, 600));
	printf("\t%ld\n", SSL_set_max_send_fragment(e.ssl, 16384));
	say_write(&e, 0, 2500);
	peer_reads(&e);
	close_ends(&e);
}

static void short_records(struct ends *e)
{
	printf("\t%ld\n", SSL_CTX_set_max_send_fragment(e->ctx[0], 2000));
}

void fragments_of_all(const struct way *way)
{
	struct ends e;

	prepare = short_records;
	e = open_ends(way);
	say_write(&e, 0, 5000);
	peer_reads(&e);
	close_ends(&e);
}

void ahead(const struct way *way)
{
	struct ends e = open_ends(way);

	SSL_set_read_ahead(e.ssl, 1);
	printf("\tahead %d\n", SSL_get_read_ahead(e.ssl));
	peer_writes(&e, 9000);
	peer_writes(&e, 100);
	say_read(&e, 1000);
	while (say_read(&e, 16384) > 0)
		;
	SSL_set_read_ahead(e.ssl, 0);
	printf("\tahead %d\n", SSL_get_read_ahead(e.ssl));
	peer_writes(&e, 20000);
	while (say_read(&e, 16384) > 0)
		;
	close_ends(&e);
}

void over_unix(const struct way *way)
{
	struct ends e;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds))
		DIE("no socketpair\n");
	e = open_with(way, fds);
	for (int i = 0; i < 3; i++) {
		say_write(&e, 0, 30000);
		peer_reads(&e);
		peer_writes(&e, 30000);
		while (say_read(&e, 1000 * (i + 1)) > 0)
			;
	}
	libssl.shutdown(e.peer);
	say_read(&e, 10);
	say_shutdown(&e);
	peer_reads(&e);
	close_ends(&e);
}
