/* SPDX-License-Identifier: MIT */
/*
 * An accelerator (tests/kmod) that is full, fails, lies, never completes, or is
 * shared with a forked child: the stream goes on, unbroken.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/err.h>

#include "accel_wire.h"
#include "context/ctx.h"
#include "tls_pair.h"

static void assert_exited(pid_t pid)
{
	int status;

	assert_true(pid > 0);
	while (waitpid(pid, &status, 0) < 0)
		assert_int_equal(errno, EINTR);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- Failover ---------------------------------------------------------- */

/* What fails or is refused is done by the CPU engine, and counted. */
static void goes_on(const char *what, void (*stream)(struct wire *, size_t),
		    const char *counter, int reason)
{
	const uint64_t records = STREAM / RECORD;
	struct wire_options options = accel_blocking(TLS_CONTEXT_WORKER);
	struct tls_stats s;
	struct wire w;

	options.deadline_ms = 20000; /* a busy host may stop the VM */
	accel_open(&w, options);
	accel_set("latency_us", 2000);
	accel_set("parallelism", 4);
	if (strcmp(counter, "rejected") == 0) {
		accel_set("latency_us", 10 * 1000);
		accel_set("queue_length", 4);
		accel_set("parallelism", 1);
	} else {
		accel_set(what, strcmp(what, "tag_every") ? 7 : 5);
	}
	stream(&w, STREAM);
	s = accel_stats(&w);
	print_message("%s: %d of %d records failed over\n", what,
		      (int)s.failovers, (int)records);
	assert_true(s.failovers > 0);
	assert_int_equal(s.failovers, accel_get(counter));
	assert_int_equal(s.failovers, s.failovers_for[reason]);
	/* more still where a queue was seen to be full */
	assert_true(s.tx_records[TLS_BY_CPU] + s.rx_records[TLS_BY_CPU] >=
		    s.failovers);
	assert_int_equal(s.tx_records[TLS_BY_CPU] + s.rx_records[TLS_BY_CPU] +
				 s.tx_records[TLS_BY_KERNEL] +
				 s.rx_records[TLS_BY_KERNEL],
			 records);
	assert_int_equal(s.connections_failed, 0);
	wire_free(&w);
	accel_restore();
}

static void a_full_queue_breaks_no_stream(void **state)
{
	static const int errnos[] = { EBUSY, ENOSPC };
	int i;

	(void)state;
	for (i = 0; i < 2; i++) {
		accel_set("full_errno", errnos[i]);
		goes_on(strerror(errnos[i]), transmit, "rejected",
			TLS_FAILOVER_FULL);
		accel_set("full_errno", errnos[i]);
		goes_on(strerror(errnos[i]), receive, "rejected",
			TLS_FAILOVER_FULL);
	}
}

static void a_failing_device_breaks_no_stream(void **state)
{
	static const struct {
		int error, reason;
	} fails[] = { { EIO, TLS_FAILOVER_ERROR },
		      { ENOMEM, TLS_FAILOVER_NO_MEMORY } };
	int i;

	(void)state;
	for (i = 0; i < 2; i++) {
		accel_set("fail_errno", fails[i].error);
		goes_on("fail_every", transmit, "failed", fails[i].reason);
		accel_set("fail_errno", fails[i].error);
		goes_on("fail_every", receive, "failed", fails[i].reason);
	}
}

static void a_wrong_ebadmsg_on_receive_is_put_right(void **state)
{
	(void)state;
	goes_on("tag_every", receive, "failed", TLS_FAILOVER_TAG);
}

/* ... and a right one counts. */
static void a_forged_record_ends_the_connection(void **state)
{
	uint8_t record[RECORD_WIRE_MAX], buf[100];
	struct wire w;
	size_t len;

	(void)state;
	accel_open(&w, accel_blocking(TLS_CONTEXT_WORKER));
	wire_send(&w, RECORD_DATA, "good", 4);
	len = wire_seal(&w, RECORD_DATA, "forged", 6, 0, record);
	record[len - 1] ^= 1;
	wire_send_raw(&w, record, len);
	assert_int_equal(tls_read(w.conn, buf, sizeof(buf)), 4);
	assert_int_equal(tls_read(w.conn, buf, sizeof(buf)), -EBADMSG);
	assert_int_equal(tls_conn_alert_sent(w.conn), ALERT_BAD_RECORD_MAC);
	wire_free(&w);
}

static void prepare_ctx(SSL_CTX *ctx)
{
	assert_int_equal(tls_handoff_prepare(ctx), 0);
}

/* Nobody on our side can know. */
static void a_wrong_tag_on_transmit_is_an_alert_from_the_peer(void **state)
{
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *ctx;
	struct tls_conn *conn;
	struct tls_pair pair;
	char buf[100];

	(void)state;
	config.driver = ACCEL_GCM;
	assert_int_equal(tls_context_new(&ctx, &config), 0);
	assert_int_equal(tls_pair_new(&pair, &(struct tls_pair_options){
						     .prepare_ctx =
							     prepare_ctx }),
			 0);
	if (tls_handoff(&conn, ctx, pair.server))
		fail_msg("%s", tls_last_error());
	accel_set("fail_ops", ACCEL_SEAL);
	accel_set("tag_every", 1);
	assert_int_equal(tls_write(conn, "spoilt", 6), 6);
	assert_int_equal(tls_flush(conn), 0);
	assert_int_equal(SSL_read(pair.client, buf, sizeof(buf)), -1);
	assert_int_equal(ERR_GET_REASON(ERR_get_error()),
			 SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC);
	assert_int_equal(tls_read(conn, buf, sizeof(buf)), -EPROTO);
	assert_int_equal(tls_conn_alert_received(conn), ALERT_BAD_RECORD_MAC);
	assert_int_equal(tls_close(conn, 1000), -EPROTO);
	tls_context_free(ctx);
	tls_pair_free(&pair);
}

/* ---- Requests that never complete -------------------------------------- */

enum { HELD = 8 };

static void hold(struct wire *w, int op)
{
	static uint8_t buf[HELD * RECORD];
	struct tls_stats s;

	pattern_fill(buf, 0, sizeof(buf));
	accel_set("fail_ops", op);
	accel_set("hold_every", 1);
	if (op == ACCEL_SEAL) {
		assert_int_equal(tls_write(w->conn, buf, sizeof(buf)),
				 sizeof(buf));
	} else {
		struct sender sender = { .w = w, .len = sizeof(buf) };

		send_stream(&sender);
		s = accel_stats(w);
		while (accel_get("held") < HELD && s.rx_in_flight_peak < HELD) {
			assert_int_equal(tls_context_process(w->ctx), 0);
			s = accel_stats(w);
		}
	}
	accel_wait_for("held", HELD);
	accel_set("hold_every", 0);
}

/*
 * Nothing is overdue, however slow the VM is: sealed again, what was held would
 * share the second connection's keys.
 */
static void close_with_held(enum tls_context_kind kind, int op)
{
	struct wire_options options = { .kind = kind, .deadline_ms = 20000 };
	struct sender s = { .len = STREAM };
	pthread_t thread;
	uint64_t start;
	struct wire w;
	ssize_t lost;

	accel_open(&w, options);
	hold(&w, op);
	start = now_ns();
	lost = tls_close(w.conn, 100);
	print_message("tls_close() returned %zd after %.0f ms\n", lost,
		      ms_since(start));
	assert_true(ms_since(start) < 2000);
	assert_int_equal(lost, op == ACCEL_SEAL ? HELD * RECORD : 0);
	w.conn = NULL;
	assert_int_equal(accel_get("held"), HELD);

	/* Let go in the middle of another connection's stream. */
	options.blocking = true;
	wire_reopen(&w, &options);
	s.w = &w;
	if (kind == TLS_CONTEXT_WORKER) {
		pthread_create(&thread, NULL, write_stream, &s);
		peer_receives(&w, 0, STREAM / 4);
		accel_set("release", 0);
		peer_receives(&w, STREAM / 4, STREAM - STREAM / 4);
	} else {
		pthread_create(&thread, NULL, send_stream, &s);
		we_receive(&w, 0, STREAM / 4);
		accel_set("release", 0);
		we_receive(&w, STREAM / 4, STREAM - STREAM / 4);
	}
	pthread_join(thread, NULL);
	accel_wait_idle();
	assert_int_equal(accel_get("held"), 0);
	wire_free(&w);
	accel_restore();
}

static void close_does_not_hang_on_a_held_request(void **state)
{
	(void)state;
	close_with_held(TLS_CONTEXT_WORKER, ACCEL_SEAL);
	close_with_held(TLS_CONTEXT_LOOP, ACCEL_SEAL);
	close_with_held(TLS_CONTEXT_WORKER, ACCEL_OPEN);
	close_with_held(TLS_CONTEXT_LOOP, ACCEL_OPEN);
}

static void a_context_with_held_requests_can_be_freed(void **state)
{
	int kind, descriptors = count_descriptors();
	uint64_t start;
	struct wire w;

	(void)state;
	for (kind = TLS_CONTEXT_WORKER; kind <= TLS_CONTEXT_LOOP; kind++) {
		accel_open(&w, (struct wire_options){ .kind = kind });
		hold(&w, ACCEL_SEAL);
		start = now_ns();
		wire_free(&w);
		print_message("freed in %.0f ms\n", ms_since(start));
		assert_true(ms_since(start) < 2000);
		assert_int_equal(accel_get("held"), HELD);
		accel_set("release", kind ? ESHUTDOWN : 0);
		accel_wait_idle();
		assert_int_equal(count_descriptors(), descriptors);
		accel_restore();
	}
}

/* Process until some of the context's memory is parked, or none. */
static void process_until_parked(struct wire *w, bool parked)
{
	const uint64_t end = now_ns() + 10000 * (uint64_t)NS_PER_MS;

	while ((accel_stats(w).memory_parked > 0) != parked) {
		assert_true(now_ns() < end);
		assert_int_equal(tls_context_process(w->ctx), 0);
		usleep(1000);
	}
}

static uint64_t worker_cpu_time(struct wire *w)
{
	struct timespec ts;
	clockid_t clock;

	assert_int_equal(pthread_getcpuclockid(w->ctx->worker, &clock), 0);
	assert_int_equal(clock_gettime(clock, &ts), 0);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/*
 * Once the sockets of keys are closed it comes back no more, every 100 ms, to
 * look at what may never complete.
 */
static void assert_worker_sleeps(struct wire *w)
{
	uint64_t before;
	int tries = 0;

	do {
		assert_true(tries++ < 20);
		before = worker_cpu_time(w);
		usleep(500 * 1000);
	} while (worker_cpu_time(w) != before);
}

/* Its time is up: the CPU engine has done it, in other memory. */
static void park_and_release(enum tls_context_kind kind, int op)
{
	struct tls_stats s;
	struct wire w;

	accel_open(&w, (struct wire_options){ .kind = kind,
					      .deadline_ms = 100 });
	hold(&w, op);
	process_until_parked(&w, true);
	set_blocking(w.conn_fd, true);
	if (op == ACCEL_SEAL) {
		assert_int_equal(tls_flush(w.conn), 0);
		peer_receives(&w, 0, HELD * RECORD);
	} else {
		we_receive(&w, 0, HELD * RECORD);
	}
	s = accel_stats(&w);
	print_message("%ju KiB parked for %ju records overdue\n",
		      s.memory_parked >> 10,
		      s.failovers_for[TLS_FAILOVER_DEADLINE]);
	assert_int_equal(s.failovers_for[TLS_FAILOVER_DEADLINE], HELD);
	assert_int_equal(s.op_sockets_now, HELD);
	assert_int_equal(accel_get("held"), HELD);
	if (kind == TLS_CONTEXT_WORKER)
		assert_worker_sleeps(&w);
	accel_set("release", 0);
	accel_wait_idle();
	process_until_parked(&w, false);
	s = accel_stats(&w);
	assert_int_equal(s.memory_now, 0);
	assert_int_equal(s.op_sockets_now, 0);
	wire_free(&w);
	accel_restore();
}

static void memory_of_held_requests_is_parked_until_they_are_released(
	void **state)
{
	(void)state;
	park_and_release(TLS_CONTEXT_WORKER, ACCEL_SEAL);
	park_and_release(TLS_CONTEXT_LOOP, ACCEL_SEAL);
	park_and_release(TLS_CONTEXT_WORKER, ACCEL_OPEN);
	park_and_release(TLS_CONTEXT_LOOP, ACCEL_OPEN);
}

/* ---- exec() ------------------------------------------------------------ */

/* Becomes true(1), with held requests of its own. */
static void hold_and_exec(void)
{
	char *const args[] = { "true", NULL };
	struct wire w;

	accel_open(&w, (struct wire_options){ .kind = TLS_CONTEXT_LOOP });
	hold(&w, ACCEL_SEAL);
	execv("/bin/true", args);
	_exit(1);
}

static bool ends_within(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) == 1;
}

static void exec_waits_until_the_driver_lets_go(void **state)
{
	int fd[2];
	pid_t pid;

	(void)state;
	assert_int_equal(pipe2(fd, O_CLOEXEC), 0); /* tells of the exec() */
	pid = fork();
	if (pid == 0)
		hold_and_exec();
	close(fd[1]);
	accel_wait_for("held", HELD);
	assert_false(ends_within(fd[0], 1000));
	accel_set("release", 0);
	assert_true(ends_within(fd[0], 10000));
	assert_exited(pid);
	close(fd[0]);
}

/* ... but not in a child of the process that made the requests. */
static void exec_in_a_child_does_not_wait(void **state)
{
	char *const args[] = { "true", NULL };
	struct wire w;
	pid_t pid;

	(void)state;
	accel_open(&w, (struct wire_options){ .kind = TLS_CONTEXT_LOOP });
	hold(&w, ACCEL_SEAL);
	pid = fork();
	if (pid == 0) {
		execv("/bin/true", args);
		_exit(1);
	}
	assert_exited(pid);
	assert_int_equal(accel_get("held"), HELD);
	wire_free(&w);
}

/* ---- What goes away ---------------------------------------------------- */

/* Until the kernel has records again: it is tried after a rest. */
static void transmit_until_by_kernel(struct wire *w)
{
	const uint64_t before = accel_stats(w).tx_records[TLS_BY_KERNEL];
	int i;

	for (i = 0; accel_stats(w).tx_records[TLS_BY_KERNEL] == before; i++) {
		assert_true(i < 20);
		usleep(500 * 1000);
		transmit(w, STREAM / 8);
	}
}

enum { ENOUGH = 64 };

/* Takes a request, and answers it with less than is due. */
static int short_of_bytes(int *other_end)
{
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	assert_int_equal(write(fd[1], "0123456789", 10), 10);
	*other_end = fd[1];
	return fd[0];
}

/* Takes nothing. */
static int dead(int *other_end)
{
	*other_end = -1;
	return open("/dev/null", O_RDWR | O_CLOEXEC);
}

/* Put something else in the place of each operation socket. */
static int replace_op_sockets(int (*by)(int *), int other_ends[ENOUGH])
{
	int fd, replaced = 0;

	for (fd = 3; fd < 1000 && replaced < ENOUGH; fd++) {
		socklen_t len = sizeof(int);
		int domain, other;

		if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) ||
		    domain != AF_ALG)
			continue;
		other = accept(fd, NULL, NULL);
		if (other >= 0) { /* that is a transform */
			close(other);
			continue;
		}
		other = by(&other_ends[replaced++]);
		assert_int_equal(dup2(other, fd), fd);
		close(other);
	}
	return replaced;
}

/* How many it broke. None is open any more if the VM was stopped meanwhile. */
static int break_sockets(struct wire *w, int (*by)(int *))
{
	int other_ends[ENOUGH], broken, left;

	transmit(w, STREAM);
	broken = left = replace_op_sockets(by, other_ends);
	transmit(w, STREAM);
	while (left--)
		close(other_ends[left]);
	return broken;
}

static void survives(int (*by)(int *))
{
	int broken = 0, tries = 0;
	struct tls_stats s;
	struct wire w;

	accel_open(&w, accel_blocking(TLS_CONTEXT_WORKER));
	accel_set("latency_us", 2000);
	accel_set("parallelism", 8);
	do {
		broken += break_sockets(&w, by);
		s = accel_stats(&w);
	} while (!s.failovers_for[TLS_FAILOVER_ERROR] && ++tries < 40);
	print_message("%d sockets broken, %ju records failed over\n", broken,
		      s.failovers_for[TLS_FAILOVER_ERROR]);
	assert_true(broken > 0);
	assert_true(s.failovers_for[TLS_FAILOVER_ERROR] > 0);
	assert_true(s.failovers_for[TLS_FAILOVER_ERROR] <= (unsigned)broken);
	transmit_until_by_kernel(&w);
	wire_free(&w);
}

static void a_socket_that_dies_breaks_no_stream(void **state)
{
	(void)state;
	survives(dead);
}

/* A driver cannot make one: AF_ALG does, where it is short of room. */
static void a_short_result_breaks_no_stream(void **state)
{
	(void)state;
	survives(short_of_bytes);
}

static const char module_file[] = "/vm/asynctls_accel.ko";

static void load_module(void)
{
	int fd = open(module_file, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(syscall(SYS_finit_module, fd, "", 0), 0);
	close(fd);
}

/* What was in use by a transform until a moment ago may be so for another. */
static void unload_module(void)
{
	int tries = 0;

	while (syscall(SYS_delete_module, "asynctls_accel", O_NONBLOCK)) {
		assert_true(errno == EAGAIN && ++tries < 5000);
		usleep(1000);
	}
}

static void a_driver_that_is_unloaded_breaks_no_stream(void **state)
{
	struct tls_stats s;
	struct wire w;

	(void)state;
	accel_open(&w, accel_blocking(TLS_CONTEXT_WORKER));
	unload_module();
	transmit(&w, STREAM);
	s = accel_stats(&w);
	load_module();
	print_message("without a driver: %ju records failed over, %ju rests\n",
		      s.failovers_for[TLS_FAILOVER_ERROR], s.pauses);
	assert_int_equal(s.tx_records[TLS_BY_CPU], STREAM / RECORD);
	assert_true(s.failovers_for[TLS_FAILOVER_ERROR] > 0);
	assert_true(s.pauses > 0);
	transmit_until_by_kernel(&w);
	wire_free(&w);
}

/* ---- fork() ------------------------------------------------------------ */

/* A child that finds out that nothing is its own, and lives a while. */
static pid_t spawn_child(struct wire *w)
{
	uint8_t buf[100] = { 0 };
	pid_t pid = fork();

	if (pid)
		return pid;
	if (tls_write(w->conn, buf, sizeof(buf)) != -EPERM ||
	    tls_read(w->conn, buf, sizeof(buf)) != -EPERM ||
	    tls_flush(w->conn) != -EPERM ||
	    tls_close(w->conn, 0) != -EPERM || !*tls_last_error())
		_exit(1);
	usleep(50 * 1000);
	_exit(0);
}

/* Small enough for a flush that nobody receives yet. */
enum { IN_FLIGHT = 16, SMALL = 4096, FORKS = 4 };

static void write_small_records(struct wire *w, size_t from)
{
	uint8_t buf[SMALL];
	size_t done;

	for (done = 0; done < IN_FLIGHT * SMALL; done += SMALL) {
		pattern_fill(buf, from + done, SMALL);
		assert_int_equal(tls_write(w->conn, buf, SMALL), SMALL);
		memset(buf, 0xee, SMALL);
	}
}

static void fork_while_sealing(enum tls_context_kind kind)
{
	const size_t len = IN_FLIGHT * SMALL;
	pid_t pids[FORKS];
	struct wire w;
	int i;

	accel_open(&w, accel_blocking(kind));
	accel_set("latency_us", 200 * 1000);
	accel_set("parallelism", IN_FLIGHT);
	for (i = 0; i < FORKS; i++) {
		write_small_records(&w, i * len);
		assert_true(accel_get("outstanding") > 0);
		pids[i] = spawn_child(&w);
		assert_int_equal(tls_flush(w.conn), 0);
		peer_receives(&w, i * len, len);
	}
	for (i = 0; i < FORKS; i++)
		assert_exited(pids[i]);
	assert_int_equal(accel_stats(&w).failovers, 0);
	wire_free(&w);
	accel_restore();
}

static void fork_while_opening(enum tls_context_kind kind)
{
	struct sender s = { .len = IN_FLIGHT * RECORD };
	pid_t pids[FORKS];
	struct wire w;
	int i;

	accel_open(&w, (struct wire_options){ .kind = kind });
	accel_set("latency_us", 200 * 1000);
	accel_set("parallelism", IN_FLIGHT);
	s.w = &w;
	for (i = 0; i < FORKS; i++, s.from += s.len) {
		send_stream(&s);
		while (!accel_get("outstanding"))
			assert_int_equal(tls_context_process(w.ctx), 0);
		pids[i] = spawn_child(&w);
		set_blocking(w.conn_fd, true);
		we_receive(&w, s.from, s.len);
		set_blocking(w.conn_fd, false);
	}
	for (i = 0; i < FORKS; i++)
		assert_exited(pids[i]);
	assert_int_equal(accel_stats(&w).failovers, 0);
	wire_free(&w);
	accel_restore();
}

static void fork_with_records_in_flight_corrupts_nothing(void **state)
{
	int kind;

	(void)state;
	for (kind = TLS_CONTEXT_WORKER; kind <= TLS_CONTEXT_LOOP; kind++) {
		fork_while_sealing(kind);
		fork_while_opening(kind);
	}
}

/* ---- ------------------------------------------------------------------- */

int main(void)
{
	const struct CMUnitTest tests[] = {
		ACCEL_TEST(a_full_queue_breaks_no_stream),
		ACCEL_TEST(a_failing_device_breaks_no_stream),
		ACCEL_TEST(a_wrong_ebadmsg_on_receive_is_put_right),
		ACCEL_TEST(a_forged_record_ends_the_connection),
		ACCEL_TEST(a_wrong_tag_on_transmit_is_an_alert_from_the_peer),
		ACCEL_TEST(close_does_not_hang_on_a_held_request),
		ACCEL_TEST(a_context_with_held_requests_can_be_freed),
		ACCEL_TEST(
			memory_of_held_requests_is_parked_until_they_are_released),
		ACCEL_TEST(exec_waits_until_the_driver_lets_go),
		ACCEL_TEST(exec_in_a_child_does_not_wait),
		ACCEL_TEST(a_socket_that_dies_breaks_no_stream),
		ACCEL_TEST(a_short_result_breaks_no_stream),
		ACCEL_TEST(a_driver_that_is_unloaded_breaks_no_stream),
		ACCEL_TEST(fork_with_records_in_flight_corrupts_nothing),
	};
	int failed;

	if (!accel_present()) {
		print_message("asynctls_accel is not loaded (tests/kmod)\n");
		return SKIPPED;
	}
	cmocka_set_test_filter(getenv("ASYNCTLS_TESTS"));
	failed = cmocka_run_group_tests_name("io_uring", tests, NULL, NULL);
	setenv("ASYNCTLS_IO", "poll", 1);
	return failed + cmocka_run_group_tests_name("epoll", tests, NULL, NULL);
}
