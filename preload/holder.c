// SPDX-License-Identifier: MIT
#include "hold_inside.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>

struct holder holder_of_all = { .lock = PTHREAD_MUTEX_INITIALIZER,
				.next = &hold_orphanage };
struct holder hold_orphanage = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* For who makes a holder, or takes one that a thread has left. */
static pthread_mutex_t registry = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(struct holder *) first = &holder_of_all;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static bool have_key;
static pthread_key_t main_key;
static bool have_main_key;

enum {
	/* the last but one, as the program's own destructors may write */
	ROUNDS = PTHREAD_DESTRUCTOR_ITERATIONS - 1,
	WAIT_FIRST = 4, /* ticks until a stuck one is tried again, */
	WAIT_MAX = 128, /* twice as many each time */
};

struct holder *holders(void)
{
	return atomic_load(&first);
}

void holder_init(struct holder *holder)
{
	list_init(&holder->fresh);
	list_init(&holder->stuck);
}

static void free_buffers(struct holder *holder);

/* ---- A thread's -------------------------------------------------------- */

static void thread_ends(void *arg)
{
	struct holder *holder = arg;
	bool was = section_enter();

	hold_flush_mine();
	if (++holder->rounds >= ROUNDS ||
	    pthread_setspecific(key, holder)) {
		pthread_mutex_lock(&holder->lock);
		free_buffers(holder);
		pthread_mutex_unlock(&holder->lock);
		hold_here = (struct hold_here){ 0 };
		pthread_mutex_lock(&registry);
		holder->used = false;
		pthread_mutex_unlock(&registry);
	}
	section_leave(was);
}

static void main_ends(void *arg)
{
	(void)arg;
	if (hold_is_mine())
		pusher_end();
}

void holder_main(void)
{
	if (!have_main_key)
		have_main_key = pthread_key_create(&main_key, main_ends) == 0;
	if (have_main_key)
		pthread_setspecific(main_key, &main_key);
}

static void make_key(void)
{
	have_key = pthread_key_create(&key, thread_ends) == 0;
}

static struct holder *holder_new(void)
{
	struct holder *holder = aligned_alloc(64, sizeof(*holder));

	if (!holder)
		return NULL;
	*holder = (struct holder){ .used = true };
	pthread_mutex_init(&holder->lock, NULL);
	holder_init(holder);
	atomic_store(&holder->next, atomic_load(&first));
	atomic_store(&first, holder);
	return holder;
}

static struct holder *holder_adopt(void)
{
	struct holder *found = NULL;

	pthread_mutex_lock(&registry);
	for each_holder(holder)
		if (!holder->used && holder != &holder_of_all &&
		    holder != &hold_orphanage) {
			found = holder;
			found->used = true;
			found->rounds = 0;
			break;
		}
	if (!found)
		found = holder_new();
	pthread_mutex_unlock(&registry);
	return found;
}

static struct holder *make_mine(void)
{
	struct holder *holder;

	pthread_once(&once, make_key);
	if (!have_key)
		return NULL;
	holder = holder_adopt();
	if (!holder)
		return NULL;
	if (pthread_setspecific(key, holder)) {
		pthread_mutex_lock(&registry);
		holder->used = false;
		pthread_mutex_unlock(&registry);
		return NULL;
	}
	hold_here = (struct hold_here){ holder, &holder->held };
	return holder;
}

struct holder *holder_mine(void)
{
	return hold_here.mine ? hold_here.mine : make_mine();
}

/* ---- Buffers ----------------------------------------------------------- */

uint8_t *buffer_new(struct holder *mine)
{
	uint8_t *buffer = NULL;

	if (mine) {
		pthread_mutex_lock(&mine->lock);
		if (mine->buffered)
			buffer = mine->buffers[--mine->buffered];
		pthread_mutex_unlock(&mine->lock);
	}
	if (buffer)
		return buffer;
	buffer = mmap(NULL, BUFFER, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return buffer == MAP_FAILED ? NULL : buffer;
}

static bool keep_buffer(struct holder *holder, uint8_t *buffer)
{
	if (holder->buffered == BUFFERS)
		return false;
	holder->buffers[holder->buffered++] = buffer;
	return true;
}

static bool give_back(struct holder *holder, uint8_t *buffer, bool locked)
{
	bool kept;

	if (locked)
		return keep_buffer(holder, buffer);
	pthread_mutex_lock(&holder->lock);
	kept = keep_buffer(holder, buffer);
	pthread_mutex_unlock(&holder->lock);
	return kept;
}

/* An empty one's. */
void held_release(struct held *h, struct holder *holder, bool locked)
{
	uint8_t *bytes = h->bytes;

	if (hold_len(h) || !bytes)
		return;
	h->bytes = NULL;
	h->start = h->end = 0;
	if (h->size != BUFFER)
		free(bytes);
	else if (!holder || !give_back(holder, bytes, locked))
		munmap(bytes, BUFFER);
	h->size = 0;
}

/* With the lock. */
static void free_buffers(struct holder *holder)
{
	while (holder->buffered)
		munmap(holder->buffers[--holder->buffered], BUFFER);
}

/* ---- The lists --------------------------------------------------------- */

static void add(_Atomic unsigned *counter, unsigned n)
{
	/* seen by who falls asleep, before this thread asks whether it sleeps */
	atomic_fetch_add(counter, n);
}

void holder_list(struct holder *holder, struct held *h, bool stuck)
{
	unsigned tick = pusher_tick();

	if (stuck) {
		if (!h->stuck) {
			h->wait = WAIT_FIRST;
			atomic_fetch_add_explicit(&holder->stuck_so_far, 1,
						  memory_order_relaxed);
		}
		h->stuck = true;
		h->due = tick + h->wait;
		if (h->wait < WAIT_MAX)
			h->wait *= 2;
	} else if (!h->due) {
		h->due = tick + 2 ? tick + 2 : 1;
	}
	list_move_tail(stuck ? &holder->stuck : &holder->fresh, &h->node);
	atomic_store_explicit(&h->holder, holder, memory_order_relaxed);
	add(stuck ? &holder->owing : &holder->held, 1);
	atomic_store_explicit(
		&holder->listed,
		atomic_load_explicit(&holder->listed, memory_order_relaxed) + 1,
		memory_order_relaxed);
}

/* From either list: stuck tells which, and is what it was on. */
void holder_unlist(struct holder *holder, struct held *h)
{
	list_remove(&h->node);
	add(h->stuck ? &holder->owing : &holder->held, -1u);
	if (!h->owed) {
		h->due = 0;
		h->stuck = false;
	}
	atomic_store_explicit(&h->holder, NULL, memory_order_release);
}

void holder_count(struct holder *holder, enum why why, size_t n)
{
	atomic_fetch_add_explicit(&holder->sends[why], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&holder->bytes, n, memory_order_relaxed);
}

bool holder_push(struct holder *holder, struct held *h, enum why why)
{
	while (h->owed) {
		ssize_t n = send(h->fd, h->bytes + h->start, h->owed,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n >= 0) {
			holder_count(holder, why, (size_t)n);
			h->start += (size_t)n;
			h->owed -= (size_t)n;
		} else if (errno == EAGAIN || errno == ENOBUFS ||
			   errno == ENOMEM) {
			return false;
		} else if (errno != EINTR) {
			h->error = -errno;
			h->start = h->end;
			h->owed = 0;
		}
	}
	return true;
}

void holder_send(struct holder *holder, struct held *h, enum why why)
{
	if (!holder_push(holder, h, why)) {
		add(h->stuck ? &holder->owing : &holder->held, -1u);
		holder_list(holder, h, true);
	} else if (holder == &hold_orphanage) {
		holder_unlist(holder, h);
		orphan_end(container_of(h, struct orphan, held));
	} else {
		held_release(h, holder, true);
		holder_unlist(holder, h);
	}
}

void holder_flush(struct holder *holder, enum why why)
{
	pthread_mutex_lock(&holder->lock);
	while (!list_empty(&holder->fresh))
		holder_send(holder,
			    container_of(holder->fresh.next, struct held, node),
			    why);
	pthread_mutex_unlock(&holder->lock);
}

/* ---- fork() ------------------------------------------------------------ */

/*
 * Nobody is in the middle of a list. (Unless it is the caller, in the handler of
 * a signal that came there; not to be waited for.)
 */
static bool lock_for_fork(struct holder *holder)
{
	if (!hold_section.fork_was)
		return pthread_mutex_lock(&holder->lock) == 0;
	return pthread_mutex_trylock(&holder->lock) == 0;
}

void holders_prepare_fork(void)
{
	enum { PATIENCE_MS = 100 };
	bool was = section_enter();

	hold_section.fork_was = was;
	hold_drain_process(PATIENCE_MS);
	pthread_mutex_lock(&registry);
	for each_holder(holder)
		holder->forking = lock_for_fork(holder);
}

void holders_forked_parent(void)
{
	for each_holder(holder)
		if (holder->forking) {
			holder->forking = false;
			pthread_mutex_unlock(&holder->lock);
		}
	pthread_mutex_unlock(&registry);
	section_leave(hold_section.fork_was);
}

/* The parent sends it, not we; who goes on here has lost bytes. */
static void forget(struct holder *holder, struct list *list)
{
	while (!list_empty(list)) {
		struct held *h = container_of(list->next, struct held, node);

		if (h->owed)
			h->error = -EPIPE;
		h->owed = 0;
		h->start = h->end;
		holder_unlist(holder, h);
		if (holder == &hold_orphanage)
			orphan_end(container_of(h, struct orphan, held));
		else
			held_release(h, holder, true);
	}
}

void holders_forked_child(void)
{
	hold_pid_is_mine();
	pusher_forked();
	holder_main();
	pthread_mutex_unlock(&registry);
	for each_holder(holder) {
		if (holder->forking) {
			forget(holder, &holder->fresh);
			forget(holder, &holder->stuck);
			if (holder != hold_here.mine)
				free_buffers(holder);
			pthread_mutex_unlock(&holder->lock);
		} else {
			holder_init(holder);
			pthread_mutex_init(&holder->lock, NULL);
		}
		holder->forking = false;
		if (holder == hold_here.mine)
			continue;
		holder->used = false;
		atomic_store(&holder->current, NULL);
		atomic_store(&holder->promised, 0);
	}
	section_leave(hold_section.fork_was);
}
