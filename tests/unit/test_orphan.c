/* SPDX-License-Identifier: MIT */
/* Loop contexts whose owner has ended. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "context/ctx_gate.h"
#include "ends.h"
#include "fake_engine.h"
#include "wire.h"

enum { LEAST_MEMORY = 1 << 20, HOLDERS = 64 };

static struct wire w;
static uint8_t buf[RECORD_PLAIN_MAX + 256];
static struct tls_conn *stuck; /* a send of its is in flight */
static int fd[2];
static struct fake_engine *fake;
static size_t max_memory;
static struct end holders[HOLDERS]; /* of the context's memory */
static int holders_peer[HOLDERS];
static int held_by;

static void *own(void *before)
{
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP,
					     .fake = fake,
					     .max_memory = max_memory });
	if (before)
		((void (*)(void))before)();
	return NULL;
}

/* A thread makes w, does something with it, and ends. */
static void orphan(void (*before)(void))
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, own, before), 0);
	pthread_join(thread, NULL);
}

/* Until it has room for a thread_t that is the first one's. */
static void *call(void *result)
{
	*(ssize_t *)result = tls_read(w.conn, buf, 10);
	return NULL;
}

static void a_later_thread_is_not_taken_for_the_owner(void **state)
{
	pthread_t thread;
	ssize_t result;
	int i;

	(void)state;
	orphan(NULL);
	for (i = 0; i < 20; i++) { /* its stack, and so its pthread_t, is used */
		pthread_create(&thread, NULL, call, &result);
		pthread_join(thread, NULL);
		assert_int_equal(result, -EPERM);
	}
	assert_int_equal(tls_context_adopt(w.ctx), 0);
	wire_free(&w);
}

static void await_data(void)
{
	tls_context_process(w.ctx); /* now a receive waits */
}

static void what_comes_after_the_owners_end_is_received(void **state)
{
	struct tls_event event;
	struct pollfd p;
	uint8_t type;

	(void)state;
	orphan(await_data);
	wire_send(&w, RECORD_DATA, "data", 4);
	assert_int_equal(tls_context_adopt(w.ctx), 0);
	assert_int_equal(tls_context_adopt(w.ctx), 0); /* is ours already */
	assert_int_equal(tls_context_wait(w.ctx, &event, 1, 10000), 1);
	assert_int_equal(tls_read(w.conn, buf, 10), 4);
	assert_memory_equal(buf, "data", 4);
	assert_int_equal(tls_write(w.conn, "answer", 6), 6);
	assert_int_equal(tls_flush(w.conn), 0);
	assert_int_equal(wire_receive(&w, &type, buf), 6);
	/* and its descriptor tells */
	assert_int_equal(tls_context_wait(w.ctx, &event, 1, 0), 0);
	p = (struct pollfd){ tls_context_fd(w.ctx), POLLIN, 0 };
	assert_int_equal(poll(&p, 1, 0), 0);
	wire_send(&w, RECORD_DATA, "more", 4);
	assert_int_equal(poll(&p, 1, 10000), 1);
	assert_int_equal(tls_context_wait(w.ctx, &event, 1, 0), 1);
	assert_int_equal(tls_read(w.conn, buf, 10), 4);
	assert_int_equal(tls_close(w.conn, 0), 0);
	w.conn = NULL;
	wire_free(&w);
}

static void leave_queued(void)
{
	/* queued, and the loop's next wait would have submitted it */
	assert_int_equal(tls_write(w.conn, "queued", 6), 6);
	assert_int_equal(ctx_enter(w.ctx), 0);
	ctx_flush_held(w.ctx);
	assert_true(ring_unsubmitted(w.ctx->core.ring));
	ctx_leave(w.ctx);
}

static void what_was_written_and_not_submitted_is_sent(void **state)
{
	uint8_t type;

	(void)state;
	orphan(leave_queued);
	assert_int_equal(tls_context_adopt(w.ctx), 0);
	assert_int_equal(tls_flush_timeout(w.conn, 10000), 0);
	assert_int_equal(wire_receive(&w, &type, buf), 6);
	assert_memory_equal(buf, "queued", 6);
	assert_int_equal(tls_close(w.conn, 0), 0);
	w.conn = NULL;
	wire_free(&w);
}

static void fill_a_socket(void)
{
	static uint8_t much[8 << 20];

	socket_pair(fd, false);
	set_blocking(fd[0], false);
	assert_null(end_take(&stuck, w.ctx, fd[0], 0, 0));
	assert_true(tls_write(stuck, much, sizeof(much)) > 0);
	tls_flush(stuck);
	assert_true(stuck->tx.sending);
}

static void a_send_in_flight_is_an_error_and_others_go_on(void **state)
{
	uint8_t type;

	(void)state;
	orphan(fill_a_socket);
	assert_int_equal(tls_context_adopt(w.ctx), 0);
	assert_int_equal(tls_write(stuck, "a", 1), -EOWNERDEAD);
	assert_non_null(strstr(tls_conn_error(stuck), "send under way"));
	assert_int_equal(tls_close(stuck, 1000), -EOWNERDEAD);
	assert_int_equal(tls_write(w.conn, "fine", 4), 4);
	assert_int_equal(tls_flush(w.conn), 0);
	assert_int_equal(wire_receive(&w, &type, buf), 4);
	close(fd[0]);
	close(fd[1]);
	wire_free(&w);
}

static void it_may_just_be_freed(void **state)
{
	int before = count_descriptors();

	(void)state;
	orphan(fill_a_socket);
	assert_int_equal(tls_context_adopt(w.ctx), 0);
	wire_free(&w);
	close(fd[0]);
	close(fd[1]);
	assert_int_equal(count_descriptors(), before);
}

/* Bytes that are no record, until the socket takes none. */
static size_t stuff(int to)
{
	static const uint8_t junk[4096];
	size_t len = 0;
	ssize_t n;

	while ((n = send(to, junk, sizeof(junk), MSG_DONTWAIT)) > 0)
		len += (size_t)n;
	return len;
}

static void drain(int from, size_t len)
{
	ssize_t n;

	for (; len; len -= (size_t)n) {
		n = recv(from, buf, len < sizeof(buf) ? len : sizeof(buf), 0);
		assert_true(n > 0);
	}
}

/* Peers that read nothing, until no memory is left. */
static void hold_all_memory(void)
{
	static uint8_t much[LEAST_MEMORY];
	int pair[2];

	while (pool_may_take(&w.conn->tx.memory, POOL_RECORD)) {
		struct end *end = &holders[held_by];

		assert_true(held_by < HOLDERS);
		socket_pair(pair, false);
		set_blocking(pair[0], false);
		end->fd = pair[0];
		holders_peer[held_by++] = pair[1];
		assert_null(end_take(&end->conn, w.ctx, end->fd, 0, 0));
		assert_true(tls_write(end->conn, much, sizeof(much)) > 0);
		tls_flush(end->conn);
	}
}

static void let_go(void)
{
	while (held_by) {
		struct end *end = &holders[--held_by];

		assert_int_equal(tls_close(end->conn, 0), -EOWNERDEAD);
		close(end->fd);
		close(holders_peer[held_by]);
	}
}

static size_t stuffed;

static void wait_for_room(void)
{
	stuffed = stuff(w.conn_fd);
	hold_all_memory();
	assert_int_equal(tls_write(w.conn, "a", 1), -EAGAIN);
	assert_true(tx_polls(&w.conn->tx));
	assert_int_equal(ring_submit(w.ctx->core.ring), 0);
}

/* That others have failed is told of them at once, and again and again. */
static void ignore_holders(void)
{
	int i;

	for (i = 0; i < held_by; i++)
		assert_int_equal(tls_conn_want(holders[i].conn, 0), 0);
}

/* That is no send: nothing of it is lost, and nothing unknown. */
static void who_only_waits_for_room_goes_on(bool others_end)
{
	struct tls_event event;
	uint8_t type;

	max_memory = LEAST_MEMORY;
	orphan(wait_for_room);
	max_memory = 0;
	assert_int_equal(tls_context_adopt(w.ctx), 0);
	ignore_holders();
	if (others_end)
		let_go();
	drain(w.fd, stuffed);
	assert_int_equal(tls_context_wait(w.ctx, &event, 1, 10000), 1);
	assert_ptr_equal(event.conn, w.conn);
	assert_int_equal(event.events, TLS_WRITABLE);
	assert_int_equal(tls_write(w.conn, "fine", 4), 4);
	assert_int_equal(tls_flush_timeout(w.conn, 10000), 0);
	assert_int_equal(wire_receive(&w, &type, buf), 4);
	assert_memory_equal(buf, "fine", 4);
	let_go();
	assert_int_equal(tls_close(w.conn, 1000), 0);
	w.conn = NULL;
	wire_free(&w);
}

static void who_waits_for_room_is_no_send_in_flight(void **state)
{
	(void)state;
	who_only_waits_for_room_goes_on(true);
	/* or of what is set aside for that */
	who_only_waits_for_room_goes_on(false);
}

static void *adopt(void *result)
{
	*(int *)result = tls_context_adopt(w.ctx);
	return NULL;
}

static void nobody_adopts_what_has_an_owner(void **state)
{
	pthread_t thread;
	int result;

	(void)state;
	own(NULL);
	pthread_create(&thread, NULL, adopt, &result);
	pthread_join(thread, NULL);
	assert_int_equal(result, -EBUSY);
	assert_int_equal(tls_write(w.conn, "mine", 4), 4);
	wire_free(&w);
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_WORKER });
	assert_int_equal(tls_context_adopt(w.ctx), -EINVAL);
	wire_free(&w);
}

/* Two contexts of a thread: its registrations are not mixed up. */
static void who_has_a_loop_adopts_another(void **state)
{
	struct tls_config config = TLS_CONFIG_INIT;
	struct tls_context *mine;
	struct tls_event event;

	(void)state;
	config.kind = TLS_CONTEXT_LOOP;
	config.engine = TLS_ENGINE_CPU;
	assert_int_equal(tls_context_new(&mine, &config), 0);
	orphan(await_data);
	assert_int_equal(tls_context_adopt(w.ctx), 0);
	wire_send(&w, RECORD_DATA, "data", 4);
	assert_int_equal(tls_context_wait(mine, &event, 1, 0), 0);
	assert_int_equal(tls_context_wait(w.ctx, &event, 1, 10000), 1);
	wire_free(&w);
	tls_context_wake(mine);
	assert_int_equal(tls_context_wait(mine, &event, 1, -1), 0);
	tls_context_free(mine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_later_thread_is_not_taken_for_the_owner),
		cmocka_unit_test(what_comes_after_the_owners_end_is_received),
		cmocka_unit_test(what_was_written_and_not_submitted_is_sent),
		cmocka_unit_test(a_send_in_flight_is_an_error_and_others_go_on),
		cmocka_unit_test(it_may_just_be_freed),
		cmocka_unit_test(who_waits_for_room_is_no_send_in_flight),
		cmocka_unit_test(nobody_adopts_what_has_an_owner),
		cmocka_unit_test(who_has_a_loop_adopts_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
