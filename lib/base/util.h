/* SPDX-License-Identifier: MIT */
/*
 * Small things every part needs: container_of, time, an intrusive list.
 *
 * This folder knows nothing of TLS: the words of the last error, threads, memory
 * for keys, descriptors of our own, structs with a size, counters.
 */
#ifndef ASYNCTLS_UTIL_H
#define ASYNCTLS_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define container_of(ptr, type, member) \
	((type *)((char *)(ptr) - offsetof(type, member)))

#define NS_PER_MS 1000000

/* Monotonic nanoseconds; no system call where the vDSO has the clock. */
static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline struct timespec timespec_of(uint64_t ns)
{
	return (struct timespec){
		.tv_sec = (time_t)(ns / 1000000000u),
		.tv_nsec = (long)(ns % 1000000000u),
	};
}

static inline size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

/*
 * How much of what is free has not been needed lately: the least that was free
 * in a period, in which twice as many are given back as there are, free or
 * lent. A load that comes and goes needs it all in each period; one that has
 * gone does not.
 */
struct spare {
	size_t low;    /* least that was free in this period */
	size_t left;   /* to be given back until it ends */
	size_t excess; /* of the last one, less what was let go of since */
};

static inline void spare_taken(struct spare *s, size_t free)
{
	if (free < s->low)
		s->low = free;
}

static inline void spare_given_back(struct spare *s, size_t free, size_t lent)
{
	if (s->left--)
		return;
	s->excess = s->low;
	s->low = free;
	s->left = 2 * (free + lent);
}

/* May one of those that are free be let go of, where so many are kept? */
static inline bool spare_let_go(struct spare *s, size_t kept)
{
	if (s->excess <= kept)
		return false;
	s->excess--;
	return true;
}

/* A ring of nodes through its head; a node on no list points at itself. */
struct list {
	struct list *prev, *next;
};

static inline void list_init(struct list *l)
{
	l->prev = l->next = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

static inline void list_remove(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}

/* To the end of head's list, from whatever list it was on. */
static inline void list_move_tail(struct list *head, struct list *node)
{
	list_remove(node);
	node->prev = head->prev;
	node->next = head;
	head->prev->next = node;
	head->prev = node;
}

/* As list_move_tail(), but a node that is on a list keeps its place. */
static inline void list_add_once(struct list *head, struct list *node)
{
	if (list_empty(node))
		list_move_tail(head, node);
}

/* The first node, taken off; NULL if there is none. */
static inline struct list *list_take(struct list *head)
{
	struct list *node = head->next;

	if (node == head)
		return NULL;
	list_remove(node);
	return node;
}

/* All nodes of from to the empty list to. */
static inline void list_take_all(struct list *to, struct list *from)
{
	list_init(to);
	if (list_empty(from))
		return;
	to->next = from->next;
	to->prev = from->prev;
	to->next->prev = to;
	to->prev->next = to;
	list_init(from);
}

#endif
