/* SPDX-License-Identifier: MIT */
/*
 * What is not there: memory, descriptors, io_uring, an engine, a socket, the
 * process one was in. Either it works all the same, or an error says why not.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/seccomp.h>

#include <cmocka.h>

#include "base/util.h"
#include "conn/rx.h"
#include "conn/tx.h"
#include "ends.h"
#include "keys/keys.h"
#include "wire.h"

/* ---- Memory that runs out ---------------------------------------------- */

static long fail_at = -1; /* allocations to go until one fails; -1: none */
static bool fail_on;	  /* and all after it */
static bool failed;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_aligned_alloc(size_t align, size_t size);
void *__real_mmap64(void *addr, size_t len, int prot, int flags, int fd,
		  off_t offset);
void *__real_secret_alloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);
void *__wrap_mmap64(void *addr, size_t len, int prot, int flags, int fd,
		  off_t offset);
void *__wrap_secret_alloc(size_t size);

static bool fails(void)
{
	if (fail_at < 0)
		return false;
	if (fail_at > 0) {
		fail_at--;
		return false;
	}
	if (!fail_on)
		fail_at = -1;
	failed = true;
	errno = ENOMEM;
	return true;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_aligned_alloc(size_t align, size_t size)
{
	return fails() ? NULL : __real_aligned_alloc(align, size);
}

void *__wrap_mmap64(void *addr, size_t len, int prot, int flags, int fd,
		  off_t offset)
{
	if (fails())
		return MAP_FAILED;
	return __real_mmap64(addr, len, prot, flags, fd, offset);
}

void *__wrap_secret_alloc(size_t size)
{
	return fails() ? NULL : __real_secret_alloc(size);
}

static void fail_from(long n, bool on)
{
	fail_at = n;
	fail_on = on;
	failed = false;
}

/* Whether one failed since. */
static bool stop_failing(void)
{
	fail_at = -1;
	return failed;
}

static void expect_words(const char *words)
{
	assert_true(strlen(words) >= strlen("no memory"));
}

/* Four bytes each way over what may have been made under duress. */
static void expect_works(struct end e[2])
{
	char in[4];
	int i;

	for (i = 0; i < 2; i++) {
		assert_int_equal(tls_write(e[i].conn, "ping", 4), 4);
		assert_int_equal(tls_flush(e[i].conn), 0);
		assert_int_equal(tls_read(e[!i].conn, in, 4), 4);
		assert_memory_equal(in, "ping", 4);
	}
}

/* One context per kind; n is the allocation that fails. */
static bool make_without_memory(enum tls_context_kind kind, long n, bool on)
{
	const struct end_options options = { .kind = kind };
	struct tls_config config = TLS_CONFIG_INIT;
	struct end e[2] = { 0 };
	int fd[2], ret;
	bool hit;

	config.kind = kind;
	config.engine = TLS_ENGINE_CPU;
	fail_from(n, on);
	ret = tls_context_new(&e[0].ctx, &config);
	hit = stop_failing();
	assert_true(ret == 0 || hit);
	if (ret) {
		assert_int_equal(ret, -ENOMEM);
		expect_words(tls_last_error());
		return hit;
	}
	socket_pair(fd, false);
	e[0].fd = fd[0];
	assert_null(end_take(&e[0].conn, e[0].ctx, fd[0], 0, 0));
	assert_null(end_open(&e[1], fd[1], 1, &options));
	expect_works(e);
	ends_free(e);
	return hit;
}

static void a_context_without_memory_is_an_error_or_works(void **state)
{
	long n;

	(void)state;
	for (n = 0; make_without_memory(TLS_CONTEXT_LOOP, n, false); n++)
		make_without_memory(TLS_CONTEXT_LOOP, n, true);
	assert_true(n > 3);
	for (n = 0; make_without_memory(TLS_CONTEXT_WORKER, n, false); n++)
		make_without_memory(TLS_CONTEXT_WORKER, n, true);
	assert_true(n > 3);
}

/* A hand-over with a record received before, which takes memory too. */
static bool hand_over_without_memory(long n, bool on)
{
	struct wire w;
	struct tls_secrets secrets = {
		.size = sizeof(struct tls_secrets),
		.cipher_suite = TLS_AES_128_GCM,
		.secret_len = 32,
	};
	struct tls_conn *conn = NULL;
	uint8_t record[100];
	char in[4];
	int fd[2], ret;
	bool hit;

	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP,
					     .not_recorded = true });
	secrets.tx_secret = secrets.rx_secret = w.seal->secret;
	secrets.rx_data = record;
	secrets.rx_data_len = wire_seal(&w, RECORD_DATA, "ping", 4, 0, record);
	socket_pair(fd, false);
	fail_from(n, on);
	ret = tls_handoff_secrets(&conn, w.ctx, fd[0], &secrets);
	hit = stop_failing();
	if (ret) {
		assert_int_equal(ret, -ENOMEM);
		expect_words(tls_last_error());
	} else {
		ret = (int)tls_read(conn, in, 4);
		if (ret < 0)
			expect_words(tls_conn_error(conn));
		else
			assert_memory_equal(in, "ping", 4);
		assert_true(ret == 4 || hit);
		tls_close(conn, 0);
	}
	close(fd[0]);
	close(fd[1]);
	wire_free(&w);
	return hit;
}

static void a_hand_over_without_memory_is_an_error_or_works(void **state)
{
	long n;

	(void)state;
	for (n = 0; hand_over_without_memory(n, false); n++)
		hand_over_without_memory(n, true);
	assert_true(n > 3);
}

/* An error of the connection has its words there, another is the call's. */
static void expect_error(struct tls_conn *conn, ssize_t n)
{
	assert_true(n < 0);
	if (n == -ENOMEM)
		expect_words(tls_last_error());
	else
		expect_words(tls_conn_error(conn));
}

static bool write_without_memory(bool blocking, long n, bool on)
{
	struct end e[2];
	ssize_t ret;
	char in[4];
	bool hit;

	ends_new(e, &(struct ends_options){ .blocking = true });
	set_blocking(e[0].fd, blocking);
	fail_from(n, on);
	ret = tls_write(e[0].conn, "ping", 4);
	hit = stop_failing();
	set_blocking(e[0].fd, true);
	if (ret == 4) /* what was taken is sent, or the connection fails */
		ret = tls_flush(e[0].conn);
	assert_true(ret == 0 || hit);
	if (ret)
		expect_error(e[0].conn, ret);
	else
		assert_int_equal(tls_read(e[1].conn, in, 4), 4);
	if (ret == 0 || ret == -ENOMEM)
		expect_works(e);
	ends_free(e);
	return hit;
}

static void a_write_without_memory_is_an_error_or_works(void **state)
{
	int blocking;
	long n;

	(void)state;
	for (blocking = 0; blocking < 2; blocking++) {
		for (n = 0; write_without_memory(blocking, n, false); n++)
			write_without_memory(blocking, n, true);
		assert_true(n > 1);
	}
}

/* Once there is memory again, the peer learns why. */
static void expect_internal_error(struct end *end, struct end *peer,
				  ssize_t error)
{
	char in[4];

	assert_int_equal(tls_flush(end->conn), error);
	assert_int_equal(tls_conn_alert_sent(end->conn), ALERT_INTERNAL_ERROR);
	assert_int_equal(tls_read(peer->conn, in, 4), -EPROTO);
	assert_int_equal(tls_conn_alert_received(peer->conn),
			 ALERT_INTERNAL_ERROR);
}

static bool read_without_memory(long n, bool on)
{
	struct end e[2];
	char in[4];
	ssize_t ret;
	bool hit;

	ends_new(e, &(struct ends_options){ .blocking = true });
	assert_int_equal(tls_write(e[1].conn, "ping", 4), 4);
	assert_int_equal(tls_flush(e[1].conn), 0);
	fail_from(n, on);
	ret = tls_read(e[0].conn, in, 4);
	hit = stop_failing();
	assert_true(ret == 4 || hit);
	if (ret == 4) {
		expect_works(e);
	} else {
		expect_error(e[0].conn, ret);
		expect_internal_error(&e[0], &e[1], ret);
	}
	ends_free(e);
	return hit;
}

static void a_read_without_memory_is_an_internal_error_or_works(void **state)
{
	long n;

	(void)state;
	for (n = 0; read_without_memory(n, false); n++)
		read_without_memory(n, true);
	assert_true(n > 0);
}

/* The next generation takes memory at either end, its engine's keys do, too. */
static bool update_without_memory(int end, long n, bool on)
{
	struct end e[2];
	char in[4];
	ssize_t ret;
	bool hit;

	ends_new(e, &(struct ends_options){ .blocking = true });
	set_blocking(e[0].fd, false);
	if (end == 0)
		fail_from(n, on);
	assert_int_equal(tls_conn_update_keys(e[0].conn, 0), 0);
	ret = tls_write(e[0].conn, "ping", 4);
	hit = stop_failing();
	set_blocking(e[0].fd, true);
	if (ret == 4)
		ret = tls_flush(e[0].conn);
	if (ret < 0)
		expect_error(e[0].conn, ret);
	if (ret == -ENOMEM) /* that has passed */
		expect_works(e);
	if (ret == 0 && end == 1) {
		fail_from(n, on);
		ret = tls_read(e[1].conn, in, 4);
		hit = stop_failing();
		if (ret < 0) {
			expect_error(e[1].conn, ret);
			expect_internal_error(&e[1], &e[0], ret);
		} else {
			expect_works(e);
		}
	}
	assert_true(ret >= 0 || hit);
	ends_free(e);
	return hit;
}

static void a_key_update_without_memory_is_an_error_or_works(void **state)
{
	int end;
	long n;

	(void)state;
	for (end = 0; end < 2; end++) {
		for (n = 0; update_without_memory(end, n, false); n++)
			update_without_memory(end, n, true);
		assert_true(n > 0);
	}
}

static void many_connections_move_in_little_memory(void **state)
{
	enum { CONNS = 50, LEN = 3 * RECORD_PLAIN_MAX };
	static uint8_t buf[LEN];
	struct end e[CONNS][2];
	struct tls_config config = TLS_CONFIG_INIT;
	const size_t most = 1 << 20; /* less is taken for that */
	struct tls_context *ctx[2];
	struct tls_stats s;
	int i, side, fd[2];

	(void)state;
	config.kind = TLS_CONTEXT_LOOP;
	config.engine = TLS_ENGINE_CPU;
	config.max_memory = 1;
	for (side = 0; side < 2; side++)
		assert_int_equal(tls_context_new(&ctx[side], &config), 0);
	for (i = 0; i < CONNS; i++) {
		socket_pair(fd, false);
		for (side = 0; side < 2; side++) {
			e[i][side].fd = fd[side];
			set_blocking(fd[side], false);
			assert_null(end_take(&e[i][side].conn, ctx[side],
					     fd[side], side, 0));
		}
		pattern_fill(buf, (size_t)i, LEN);
		assert_int_equal(tls_write(e[i][0].conn, buf, LEN), LEN);
		tls_context_stats(ctx[0], &s, sizeof(s));
		assert_in_range(s.memory_now, 0, most);
	}
	for (side = 0; side < 2; side++)
		assert_int_equal(tls_context_process(ctx[side]), 0);
	for (i = 0; i < CONNS; i++) {
		set_blocking(e[i][1].fd, true);
		for (size_t got = 0; got < LEN;) {
			ssize_t n = tls_read(e[i][1].conn, buf, LEN - got);

			assert_true(n > 0);
			pattern_check(buf, (size_t)i + got, (size_t)n);
			got += (size_t)n;
			tls_context_stats(ctx[1], &s, sizeof(s));
			assert_in_range(s.memory_now, 0, most);
		}
	}
	for (side = 0; side < 2; side++) {
		tls_context_stats(ctx[side], &s, sizeof(s));
		assert_in_range(s.memory_peak, POOL_RECORD_BYTES, most);
		tls_context_free(ctx[side]);
		for (i = 0; i < CONNS; i++)
			close(e[i][side].fd);
	}
}

/* ---- Descriptors ------------------------------------------------------- */

static void set_descriptors(rlim_t n)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = n;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static int next_descriptor(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

static void no_descriptor_for_a_context(enum tls_context_kind kind)
{
	struct tls_config config = TLS_CONFIG_INIT;
	int before = count_descriptors(), n, ret = -1;
	struct tls_context *ctx;
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	config.kind = kind;
	config.engine = TLS_ENGINE_CPU;
	for (n = 0; n < 10 && ret; n++) {
		set_descriptors((rlim_t)(next_descriptor() + n));
		ret = tls_context_new(&ctx, &config);
		set_descriptors(limit.rlim_cur);
		/* some are needed for a moment only */
		assert_in_range(count_descriptors(), before,
				before + (ret ? 0 : n));
		if (!ret)
			break;
		assert_int_equal(ret, -EMFILE);
		expect_words(tls_last_error());
		assert_non_null(strstr(tls_last_error(), "ulimit -n"));
	}
	assert_in_range(n, 1, 7);
	tls_context_free(ctx);
	assert_int_equal(count_descriptors(), before);
}

static void a_context_without_descriptors_is_an_error(void **state)
{
	(void)state;
	no_descriptor_for_a_context(TLS_CONTEXT_LOOP);
	no_descriptor_for_a_context(TLS_CONTEXT_WORKER);
}

/* What the libraries below do as they begin they do once in a process. */
static void the_first_context_of_a_process_ends_none(void **state)
{
	char *const args[] = { "test_limits", "--first", NULL };
	int status;
	pid_t child;

	(void)state;
	child = fork();
	if (!child) {
		execv("/proc/self/exe", args);
		_exit(1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void a_hand_over_takes_no_descriptor(void **state)
{
	struct end e[2];
	struct rlimit limit;
	struct tls_conn *conn;
	const char *why;
	int fd[2];

	(void)state;
	getrlimit(RLIMIT_NOFILE, &limit);
	ends_new(e, &(struct ends_options){ .blocking = true });
	socket_pair(fd, true);
	set_descriptors((rlim_t)next_descriptor());
	why = end_take(&conn, e[0].ctx, fd[0], 0, 0);
	if (!why)
		expect_works(e);
	set_descriptors(limit.rlim_cur);
	assert_null(why);
	assert_int_equal(tls_close(conn, 0), 0);
	close(fd[0]);
	close(fd[1]);
	ends_free(e);
}

/* ---- io_uring ---------------------------------------------------------- */

/* Have io_uring_setup() fail so, in this process from now on. */
static void forbid_io_uring(int err)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K,
			 SECCOMP_RET_ERRNO | (err & SECCOMP_RET_DATA)),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = { sizeof(code) / sizeof(code[0]),
					    code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		_exit(101);
}

/* The child's exit code: 0 if it found what it should. */
static void expect_child_succeeds(pid_t child)
{
	int status;

	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void without_io_uring(int err, int expected, const char *first,
			     const char *second)
{
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *ctx;
	pid_t child;

	for (int kind = 0; kind < 2; kind++) {
		config.kind = (enum tls_context_kind)kind;
		child = fork();
		if (child) {
			expect_child_succeeds(child);
			continue;
		}
		forbid_io_uring(err);
		unsetenv("ASYNCTLS_IO");
		config.io = TLS_IO_URING;
		if (tls_context_new(&ctx, &config) != expected)
			_exit(1);
		if (!strstr(tls_last_error(), first))
			_exit(2);
		_exit(strstr(tls_last_error(), second) ? 0 : 3);
	}
}

static void a_forbidden_io_uring_is_named_with_what_forbids_it(void **state)
{
	(void)state;
	without_io_uring(EPERM, -EPERM, "seccomp", "kernel.io_uring_disabled");
}

static void a_kernel_without_io_uring_is_named(void **state)
{
	(void)state;
	without_io_uring(ENOSYS, -ENOSYS, "CONFIG_IO_URING", "seccomp");
	without_io_uring(EINVAL, -ENOSYS, "too old", "5.19");
}

/* There is another way, and it is said which, and why. */
static void without_io_uring_a_context_takes_epoll(void **state)
{
	static const char expected[] = "sockets: epoll; not io_uring: io_uring "
				       "is forbidden here: by a seccomp";
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *ctx;
	char words[4000];
	int kind;

	(void)state;
	for (kind = 0; kind < 2; kind++) {
		pid_t child = fork();

		if (child) {
			expect_child_succeeds(child);
			continue;
		}
		config.kind = (enum tls_context_kind)kind;
		forbid_io_uring(EPERM);
		unsetenv("ASYNCTLS_IO");
		if (tls_context_new(&ctx, &config))
			_exit(1);
		tls_context_describe(ctx, words, sizeof(words));
		tls_context_free(ctx);
		_exit(strncmp(words, expected, strlen(expected)) ? 2 : 0);
	}
}

/* All of it, in every thread there is. */
static void forbid_io_uring_now(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, SYS_io_uring_setup, 0, 2),
		BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, SYS_io_uring_register, 1,
			 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = { sizeof(code) / sizeof(code[0]),
					    code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
		    SECCOMP_FILTER_FLAG_TSYNC, &program))
		_exit(101);
}

static bool takes_epoll(const struct tls_context *ctx)
{
	static const char expected[] = "sockets: epoll; not io_uring: ";
	char words[4000];

	tls_context_describe(ctx, words, sizeof(words));
	return !strncmp(words, expected, strlen(expected));
}

/* A process enters its sandbox when all is open: what then? */
static void forbidden_in_mid_life(enum tls_context_kind kind)
{
	const struct ends_options options = {
		.end = { { .kind = kind }, { .kind = kind } },
		.blocking = true,
	};
	struct tls_event event;
	struct end e[2];

	ends_new(e, &options);
	expect_works(e);
	forbid_io_uring_now();
	tls_write(e[0].conn, "x", 1);
	if (tls_context_wait(e[0].ctx, &event, 1, 1000) != -EPERM)
		_exit(1);
	if (!strstr(tls_last_error(), "sandbox"))
		_exit(2);
	if (tls_write(e[0].conn, "x", 1) != -EPERM ||
	    !strstr(tls_conn_error(e[0].conn), "io_uring"))
		_exit(3);
	ends_free(e);
	ends_new(e, &options);
	if (!takes_epoll(e[0].ctx) || !takes_epoll(e[1].ctx))
		_exit(4);
	expect_works(e);
	ends_free(e);
}

static void a_sandbox_in_mid_life_ends_a_context_and_not_the_next(void **state)
{
	int kind;

	(void)state;
	for (kind = 0; kind < 2; kind++) {
		pid_t child = fork();

		if (child) {
			expect_child_succeeds(child);
			continue;
		}
		unsetenv("ASYNCTLS_IO");
		forbidden_in_mid_life((enum tls_context_kind)kind);
		_exit(0);
	}
}

/* ---- Arguments --------------------------------------------------------- */

static void refuse(const struct tls_config *config, int error,
		   const char *about)
{
	struct tls_context *ctx = NULL;
	int before = count_descriptors();

	assert_int_equal(tls_context_new(&ctx, config), error);
	assert_null(ctx);
	if (!strstr(tls_last_error(), about))
		fail_msg("%s", tls_last_error());
	assert_int_equal(count_descriptors(), before);
}

static void an_impossible_config_is_refused(void **state)
{
	const struct tls_config good = TLS_CONFIG_INIT;
	struct tls_config bad = { 0 };

	(void)state;
	refuse(&bad, -EINVAL, "size");
	bad = good;
	bad.kind = (enum tls_context_kind)2;
	refuse(&bad, -EINVAL, "kind");
	bad = good;
	bad.engine = (enum tls_engine)3;
	refuse(&bad, -EINVAL, "engine");
	bad = good;
	bad.io = (enum tls_io)3;
	refuse(&bad, -EINVAL, "io");
	bad = good;
	bad.depth = 4097;
	refuse(&bad, -EINVAL, "depth");
}

static void an_unknown_engine_in_the_environment_is_refused(void **state)
{
	const struct tls_config config = TLS_CONFIG_INIT;

	(void)state;
	setenv("ASYNCTLS_ENGINE", "nonsense", 1);
	refuse(&config, -EINVAL, "nonsense");
	unsetenv("ASYNCTLS_ENGINE");
}

static void an_unknown_cpu_engine_in_the_environment_is_refused(void **state)
{
	struct tls_config config = TLS_CONFIG_INIT;

	(void)state;
	setenv("ASYNCTLS_CPU", "nonsense", 1);
	refuse(&config, -EINVAL, "ASYNCTLS_CPU=nonsense");
	config.engine = TLS_ENGINE_CPU;
	refuse(&config, -EINVAL, "use ipsec-mb or gcrypt");
	unsetenv("ASYNCTLS_CPU");
}

static void a_context_says_which_cpu_engine_it_has(void **state)
{
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *ctx;
	char words[2000];
	int ret;

	(void)state;
	config.engine = TLS_ENGINE_CPU;
	setenv("ASYNCTLS_CPU", "gcrypt", 1);
	ret = tls_context_new(&ctx, &config);
	unsetenv("ASYNCTLS_CPU");
	if (ret == -EINVAL) {
		print_message("%s\n", tls_last_error());
		skip(); /* this build has none */
	}
	assert_int_equal(ret, 0);
	tls_context_describe(ctx, words, sizeof(words));
	tls_context_free(ctx);
	assert_non_null(strstr(words, "AES-128-GCM: cpu, libgcrypt (not "
				      "intel-ipsec-mb: ASYNCTLS_CPU names"));
}

static void an_engine_that_is_not_there_is_refused_with_the_reason(void **state)
{
	const struct tls_config config = TLS_CONFIG_INIT;
	int fd = socket(AF_ALG, SOCK_SEQPACKET, 0);

	(void)state;
	if (fd >= 0) {
		close(fd);
		skip(); /* for a VM: this host has it */
	}
	setenv("ASYNCTLS_ENGINE", "afalg", 1);
	refuse(&config, -ENODEV, "AF_ALG");
	unsetenv("ASYNCTLS_ENGINE");
}

static void refuse_socket(struct tls_context *ctx, int fd, int error)
{
	const struct tls_secrets secrets = {
		.size = sizeof(struct tls_secrets),
		.cipher_suite = TLS_AES_128_GCM,
		.secret_len = 32,
		.tx_secret = (const uint8_t *)"thirty-two bytes that nobody has",
		.rx_secret = (const uint8_t *)"thirty-two bytes that nobody has",
	};
	struct tls_conn *conn = NULL;

	assert_int_equal(tls_handoff_secrets(&conn, ctx, fd, &secrets), error);
	assert_null(conn);
	expect_words(tls_last_error());
}

static void what_is_no_stream_socket_is_refused(void **state)
{
	struct wire w;
	int fd[2], other;

	(void)state;
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP,
					     .not_recorded = true });
	assert_int_equal(pipe(fd), 0);
	refuse_socket(w.ctx, fd[0], -ENOTSOCK);
	close(fd[0]);
	close(fd[1]);
	refuse_socket(w.ctx, fd[1], -EBADF);
	refuse_socket(w.ctx, -1, -EBADF);
	other = open("/dev/null", O_RDWR);
	refuse_socket(w.ctx, other, -ENOTSOCK);
	close(other);
	other = socket(AF_INET, SOCK_DGRAM, 0);
	refuse_socket(w.ctx, other, -ENOTSOCK);
	close(other);
	other = socket(AF_INET, SOCK_STREAM, 0);
	refuse_socket(w.ctx, other, -ENOTCONN);
	close(other);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fd), 0);
	refuse_socket(w.ctx, fd[0], -ENOTSOCK);
	close(fd[0]);
	close(fd[1]);
	wire_free(&w);
}

/* ---- fork() ------------------------------------------------------------ */

/* Which call did not refuse, or 0. */
static int use_in_child(struct end *e)
{
	struct tls_event event;
	struct tls_stats stats;
	struct tls_conn *conn;
	char byte = 0;

	if (tls_write(e->conn, "child", 5) != -EPERM)
		return 1;
	if (tls_send(e->conn, "child", 5, TLS_MORE) != -EPERM)
		return 2;
	if (tls_read(e->conn, &byte, 1) != -EPERM)
		return 3;
	if (tls_flush(e->conn) != -EPERM)
		return 4;
	if (tls_shutdown(e->conn) != -EPERM)
		return 5;
	if (tls_context_process(e->ctx) != -EPERM)
		return 6;
	if (tls_context_wait(e->ctx, &event, 1, 0) != -EPERM)
		return 7;
	if (tls_context_stats(e->ctx, &stats, sizeof(stats)) != -EPERM)
		return 8;
	if (!end_take(&conn, e->ctx, e->fd, 0, 0))
		return 9;
	if (!strstr(tls_last_error(), "fork"))
		return 10;
	if (tls_close(e->conn, 100) != -EPERM)
		return 11;
	tls_context_free(e->ctx);
	return 0;
}

static void fork_with(enum tls_context_kind kind)
{
	const struct end_options o = { .kind = kind };
	struct end e[2];
	pid_t child;

	ends_new(e, &(struct ends_options){ .end = { o, o },
					    .blocking = true });
	expect_works(e);
	assert_int_equal(tls_write(e[0].conn, "par", 3), 3);
	child = fork();
	if (!child)
		_exit(use_in_child(&e[0]));
	expect_child_succeeds(child);
	assert_int_equal(tls_write(e[0].conn, "ent", 3), 3);
	assert_int_equal(tls_flush(e[0].conn), 0);
	for (size_t got = 0; got < 6;) {
		char in[6];
		ssize_t n = tls_read(e[1].conn, in, sizeof(in));

		assert_true(n > 0);
		assert_memory_equal(in, &"parent"[got], n);
		got += (size_t)n;
	}
	expect_works(e);
	ends_free(e);
}

static void a_forked_child_is_refused_and_harms_nothing(void **state)
{
	(void)state;
	fork_with(TLS_CONTEXT_LOOP);
	fork_with(TLS_CONTEXT_WORKER);
}

#define TEST(name) cmocka_unit_test(name)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(a_context_without_memory_is_an_error_or_works),
		TEST(a_hand_over_without_memory_is_an_error_or_works),
		TEST(a_write_without_memory_is_an_error_or_works),
		TEST(a_read_without_memory_is_an_internal_error_or_works),
		TEST(a_key_update_without_memory_is_an_error_or_works),
		TEST(many_connections_move_in_little_memory),
		TEST(a_context_without_descriptors_is_an_error),
		TEST(a_hand_over_takes_no_descriptor),
		TEST(a_forbidden_io_uring_is_named_with_what_forbids_it),
		TEST(a_sandbox_in_mid_life_ends_a_context_and_not_the_next),
		TEST(the_first_context_of_a_process_ends_none),
		TEST(a_kernel_without_io_uring_is_named),
		TEST(without_io_uring_a_context_takes_epoll),
		TEST(an_impossible_config_is_refused),
		TEST(an_unknown_engine_in_the_environment_is_refused),
		TEST(an_unknown_cpu_engine_in_the_environment_is_refused),
		TEST(a_context_says_which_cpu_engine_it_has),
		TEST(an_engine_that_is_not_there_is_refused_with_the_reason),
		TEST(what_is_no_stream_socket_is_refused),
		TEST(a_forked_child_is_refused_and_harms_nothing),
	};

	if (argc > 1 && strcmp(argv[1], "--first") == 0) {
		a_context_without_descriptors_is_an_error(NULL);
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
