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
#include <unistd.h>

#include <cmocka.h>

#include "context/ctx_gate.h"
#include "ends.h"
#include "fake_engine.h"
#include "wire.h"

static struct wire w;
static uint8_t buf[RECORD_PLAIN_MAX + 256];
static struct tls_conn *stuck; /* a send of its is in flight */
static int fd[2];
static struct fake_engine *fake;

static void *own(void *before)
{
	wire_new(&w, &(struct wire_options){ .kind = TLS_CONTEXT_LOOP,
					     .fake = fake });
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
		cmocka_unit_test(nobody_adopts_what_has_an_owner),
		cmocka_unit_test(who_has_a_loop_adopts_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
