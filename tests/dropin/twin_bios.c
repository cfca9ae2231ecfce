/* SPDX-License-Identifier: MIT */
/* BIOs of all kinds, calls that pass the drop-in by, and two processes. */
#include "twin.h"

static BIO *mem[2]; /* what comes in, what goes out */

static void shuttle(const struct ends *e)
{
	uint8_t buf[1 << 15];
	ssize_t n;

	while ((n = BIO_read(mem[1], buf, sizeof(buf))) > 0)
		send(e->fd, buf, (size_t)n, MSG_NOSIGNAL);
	usleep(200);
	while ((n = recv(e->fd, buf, sizeof(buf), 0)) > 0)
		BIO_write(mem[0], buf, (int)n);
}

/* As asyncio has it. */
void over_memory(const struct way *way)
{
	int fds[2], ours = 0, theirs = 0;
	struct ends e;

	tcp_pair(fds);
	e = make_ends(way, fds);
	mem[0] = BIO_new(BIO_s_mem());
	mem[1] = BIO_new(BIO_s_mem());
	BIO_set_mem_eof_return(mem[0], -1);
	BIO_set_mem_eof_return(mem[1], -1);
	SSL_set_bio(e.ssl, mem[0], mem[1]);
	for (int i = 0; i < 100 && (ours != 1 || theirs != 1); i++) {
		if (ours != 1)
			ours = SSL_do_handshake(e.ssl);
		shuttle(&e);
		if (theirs != 1)
			theirs = libssl.handshake(e.peer);
		shuttle(&e);
	}
	told = true;
	for (int i = 0; i < 3; i++) {
		say_write(&e, 0, 30000);
		shuttle(&e);
		peer_reads(&e);
		peer_writes(&e, 30000);
		shuttle(&e);
		while (say_read(&e, 1000 * (i + 1)) > 0)
			;
		printf("\twaiting: %zu %zu\n", BIO_ctrl_pending(mem[0]),
		       BIO_ctrl_pending(mem[1]));
	}
	libssl.shutdown(e.peer);
	shuttle(&e);
	say_read(&e, 10);
	say_shutdown(&e);
	shuttle(&e);
	peer_reads(&e);
	close_ends(&e);
}

static int narrow; /* bytes that a BIO of ours takes at once */

/* HAProxy's leave what a read has set, too. */
static int narrow_write(BIO *bio, const char *in, int len)
{
	if (narrow <= 0) {
		BIO_set_retry_write(bio);
		return -1;
	}
	if (len > narrow)
		len = narrow;
	narrow -= len;
	return (int)send(*(int *)BIO_get_data(bio), in, (size_t)len, 0);
}

static int narrow_read(BIO *bio, char *out, int len)
{
	int n = (int)recv(*(int *)BIO_get_data(bio), out, (size_t)len, 0);

	BIO_clear_retry_flags(bio);
	if (n < 0 && errno == EAGAIN)
		BIO_set_retry_read(bio);
	return n;
}

static long narrow_ctrl(BIO *bio, int command, long number, void *where)
{
	(void)bio, (void)number, (void)where;
	if (told && command == BIO_CTRL_FLUSH)
		printf("\t\tflush\n");
	return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *narrow_method(void)
{
	BIO_METHOD *method = BIO_meth_new(
		BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "narrow");

	BIO_meth_set_read(method, narrow_read);
	BIO_meth_set_write(method, narrow_write);
	BIO_meth_set_ctrl(method, narrow_ctrl);
	return method;
}

/* As PostgreSQL and others do: a method of the program's own. */
static void open_own(struct ends *e, const struct way *way, BIO_METHOD *method)
{
	int fds[2];
	BIO *bio;

	tcp_pair(fds);
	*e = make_ends(way, fds);
	bio = BIO_new(method);
	BIO_set_init(bio, 1);
	BIO_set_data(bio, &e->fd);
	SSL_set_bio(e->ssl, bio, bio);
	narrow = 1 << 30;
	shake(e);
	told = true;
}

/* ... which says nothing of an end. */
void own_ends(const struct way *way)
{
	BIO_METHOD *method = narrow_method();
	struct ends e;

	open_own(&e, way, method);
	peer_writes(&e, 100);
	shutdown(e.peer_fd, SHUT_WR);
	say_read(&e, 1000);
	say_read(&e, 1000);
	close_ends(&e);
	BIO_meth_free(method);
}

void over_own(const struct way *way)
{
	BIO_METHOD *method = narrow_method();
	struct ends e;

	open_own(&e, way, method);
	for (int i = 0; i < 12; i++) {
		narrow = i % 4 == 3 ? 0 : 3000 * i;
		if (say_write(&e, 0, 40000) > 0)
			break;
		peer_reads(&e);
	}
	narrow = 1 << 30;
	say_write(&e, 0, 40000);
	peer_reads(&e);
	peer_writes(&e, 20000);
	while (say_read(&e, 1 << 20) > 0)
		;
	if (way->version == TLS1_3_VERSION) {
		SSL_key_update(e.ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
		narrow = 0;
		printf("\tfull: %s\n",
		       error_name(SSL_get_error(
			       e.ssl, SSL_write(e.ssl, pattern(100), 100))));
		say_errors();
		narrow = 1 << 30;
		say_write(&e, 0, 100);
		peer_reads(&e);
	}
	narrow = 10;
	say_shutdown(&e);
	narrow = 1 << 30;
	say_shutdown(&e);
	peer_reads(&e);
	libssl.shutdown(e.peer);
	say_shutdown(&e);
	close(e.peer_fd);
	e.peer_fd = -1;
	close_ends(&e);
	BIO_meth_free(method);
}

/* Of what is in front of SSL_read() and SSL_write(), some is not to be had: a
 * program that has libssl's own functions by dlsym(). */
void past_us(const struct way *way)
{
	uint8_t buf[20000];
	struct ends e;

	for (int i = 0; i < 3; i++) {
		e = open_ends(way);
		if (i)
			say_write(&e, 0, 100);
		if (i == 2) {
			peer_writes(&e, 5000);
			say_read(&e, 1000);
		}
		say(&e, "its own write",
		    libssl.write(e.ssl, pattern(300), 300));
		say_write(&e, 0, 20000);
		peer_reads(&e);
		peer_writes(&e, 20000);
		say(&e, "its own read", libssl.read(e.ssl, buf, 300));
		say_read(&e, 1000);
		say(&e, "its own read", libssl.read(e.ssl, buf, 20000));
		say_read(&e, 20000);
		say_read(&e, 20000);
		say_read(&e, 20000);
		say(&e, "its own shutdown", libssl.shutdown(e.ssl));
		peer_reads(&e);
		close_ends(&e);
	}
}

/* Data goes by a BIO with the SSL in it; which is all of it, or some. */
static void through_bio(const struct way *way, bool mixed)
{
	struct ends e = open_ends(way);
	BIO *bio = BIO_new(BIO_f_ssl());
	uint8_t buf[20000];
	int n;

	BIO_set_ssl(bio, e.ssl, BIO_NOCLOSE);
	say(&e, "handshake", (int)BIO_do_handshake(bio));
	if (mixed)
		say_write(&e, 0, 20);
	n = BIO_write(bio, pattern(30000), 30000);
	printf("\t\twritten %d\n", n);
	peer_reads(&e);
	peer_writes(&e, 20000);
	n = BIO_read(bio, buf, 300);
	printf("\t\tread %d: %08x\n", n, n > 0 ? sum(buf, (size_t)n) : 0);
	printf("\t\tpending %zu\n", BIO_ctrl_pending(bio));
	if (mixed)
		say_read(&e, 200);
	while ((n = BIO_read(bio, buf, sizeof(buf))) > 0)
		printf("\t\tread %d: %08x\n", n, sum(buf, (size_t)n));
	printf("\t\t%d, again %d\n", n, BIO_should_retry(bio));
	BIO_free_all(bio);
	peer_reads(&e);
	close_ends(&e);
}

void bio_with_ssl(const struct way *way)
{
	through_bio(way, false);
	through_bio(way, true);
}

static void say_bios(const struct ends *e, const BIO *r, const BIO *w)
{
	printf("\tfd %d %d %d, BIOs %d %d\n", SSL_get_fd(e->ssl) == e->fd,
	       SSL_get_rfd(e->ssl) == e->fd, SSL_get_wfd(e->ssl) == e->fd,
	       SSL_get_rbio(e->ssl) == r, SSL_get_wbio(e->ssl) == w);
}

static void both_ways(const struct ends *e)
{
	say_write(e, 0, 20000);
	peer_reads(e);
	peer_writes(e, 20000);
	say_read(e, 300);
	while (say_read(e, 16384) > 0)
		;
}

/* To another descriptor, or the same, or to BIOs of another kind and back. */
void moves(const struct way *way)
{
	struct ends e = open_ends(way);
	BIO *bio = SSL_get_rbio(e.ssl), *buffer;
	int before;

	say_bios(&e, bio, bio);
	both_ways(&e);
	say_bios(&e, bio, bio);
	printf("\tthe same %d\n", SSL_set_fd(e.ssl, e.fd));
	both_ways(&e);
	peer_writes(&e, 20000);
	peer_writes(&e, 700);
	say_read(&e, 100);
	say_write(&e, 0, 100);
	before = e.fd;
	e.fd = dup(before);
	printf("\tanother %d\n", SSL_set_fd(e.ssl, e.fd));
	close(before);
	bio = SSL_get_rbio(e.ssl);
	say_bios(&e, bio, bio);
	while (say_read(&e, 16384) > 0)
		;
	both_ways(&e);
	before = e.fd;
	e.fd = dup(before);
	printf("\trfd %d\n", SSL_set_rfd(e.ssl, e.fd));
	both_ways(&e);
	printf("\twfd %d\n", SSL_set_wfd(e.ssl, e.fd));
	close(before);
	both_ways(&e);
	bio = BIO_new_socket(e.fd, BIO_NOCLOSE);
	buffer = BIO_push(BIO_new(BIO_f_buffer()), bio);
	BIO_up_ref(bio);
	peer_writes(&e, 700);
	say_write(&e, 0, 100);
	SSL_set0_rbio(e.ssl, bio);
	SSL_set0_wbio(e.ssl, buffer);
	say_bios(&e, bio, buffer);
	say_write(&e, 0, 100);
	peer_reads(&e);
	printf("\tflush %ld\n", (long)BIO_flush(buffer));
	peer_reads(&e);
	while (say_read(&e, 16384) > 0)
		;
	bio = BIO_new_socket(e.fd, BIO_NOCLOSE);
	SSL_set_bio(e.ssl, bio, bio);
	both_ways(&e);
	say_shutdown(&e);
	peer_reads(&e);
	close_ends(&e);
}

/* In the middle of a record, of each direction. */
void moves_within(const struct way *way)
{
	struct ends e = open_ends(way);
	static uint8_t got[1 << 21];
	size_t had = 0, sent = 0, len = 1 << 20;
	int ret, before;

	small_buffers(&e);
	told = false;
	SSL_set_mode(e.ssl, SSL_MODE_ENABLE_PARTIAL_WRITE);
	while (sent < len) {
		ret = SSL_write(e.ssl, pattern(len) + sent, (int)(len - sent));
		if (ret > 0) {
			sent += (size_t)ret;
			continue;
		}
		if (SSL_get_error(e.ssl, ret) != SSL_ERROR_WANT_WRITE)
			break;
		before = e.fd;
		e.fd = dup(before);
		SSL_set_fd(e.ssl, e.fd);
		close(before);
		poll(&(struct pollfd){ e.fd, POLLOUT, 0 }, 1, 10);
		while ((ret = libssl.read(e.peer, got + had,
					  (int)(sizeof(got) - had))) > 0)
			had += (size_t)ret;
	}
	for (int turns = 0; had < sent && turns < 1000; turns++) {
		usleep(1000);
		while ((ret = libssl.read(e.peer, got + had,
					  (int)(sizeof(got) - had))) > 0)
			had += (size_t)ret;
	}
	printf("\tsent %zu, arrived %zu: %08x\n", sent, had, sum(got, had));
	say_errors();
	close_ends(&e);
}

void without_bios(const struct way *way)
{
	struct ends e = open_ends(way);

	say_write(&e, 0, 100);
	peer_writes(&e, 100);
	say_read(&e, 10);
	SSL_set_bio(e.ssl, NULL, NULL);
	say_bios(&e, NULL, NULL);
	peer_reads(&e);
	say_read(&e, 200);
	SSL_set_fd(e.ssl, e.fd);
	both_ways(&e);
	SSL_set_bio(e.ssl, NULL, NULL);
	say_read(&e, 200);
	say_write(&e, 0, 100);
	close_ends(&e);
}

static void child_goes_on(const struct ends *e, const int *begin, int late)
{
	char byte;

	if (late && read(*begin, &byte, 1) < 0)
		_exit(1);
	SSL_write(e->ssl, pattern(5000), 5000);
	SSL_shutdown(e->ssl);
	SSL_free(e->ssl);
	_exit(0);
}

/* Who has let go of a connection after fork() has not touched it. */
void forks(const struct way *way)
{
	for (int i = 0; i < 6; i++) {
		struct ends e = open_ends(way);
		int begin[2], status;
		pid_t child;

		if (pipe(begin))
			DIE("no pipe\n");
		say_write(&e, 0, 100);
		child = fork();
		if (!child)
			child_goes_on(&e, begin, i % 2);
		if (i % 2 == 0)
			waitpid(child, &status, 0);
		if (i / 2 == 1) {
			SSL_set_quiet_shutdown(e.ssl, 1);
			say_shutdown(&e);
		}
		if (i / 2 == 2)
			SSL_set_shutdown(e.ssl, SSL_SENT_SHUTDOWN);
		SSL_free(e.ssl);
		e.ssl = NULL;
		if (write(begin[1], "", 1) != 1)
			DIE("no pipe\n");
		if (i % 2)
			waitpid(child, &status, 0);
		printf("\tchild %d\n", status);
		peer_reads(&e);
		close(begin[0]);
		close(begin[1]);
		close_ends(&e);
	}
}
