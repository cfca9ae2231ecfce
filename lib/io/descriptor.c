/* SPDX-License-Identifier: MIT */
#include "io/descriptor.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/error.h"

/*
 * A bit for each number that is held, in pages that come when they are needed
 * and that a fork() wipes. Beyond these, as many as a process can have unless
 * fs.nr_open was raised, none is looked after.
 */
enum { PAGE = 4096, BITS = 64, PER_PAGE = PAGE * 8, PAGES = 32 };

static _Atomic(_Atomic uint64_t *) pages[PAGES];

static _Atomic uint64_t *new_page(_Atomic(_Atomic uint64_t *) *place)
{
	_Atomic uint64_t *old = NULL, *page;
	void *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	madvise(p, PAGE, MADV_WIPEONFORK);
	page = p;
	if (atomic_compare_exchange_strong(place, &old, page))
		return page;
	munmap(p, PAGE);
	return old;
}

/* The word that has this number's bit; NULL: no memory, or not looked after. */
static _Atomic uint64_t *word_of(int fd)
{
	_Atomic uint64_t *page;

	if (fd < 0 || fd >= PER_PAGE * PAGES)
		return NULL;
	page = atomic_load(&pages[fd / PER_PAGE]);
	if (!page)
		page = new_page(&pages[fd / PER_PAGE]);
	return page ? page + fd % PER_PAGE / BITS : NULL;
}

static uint64_t bit_of(int fd)
{
	return (uint64_t)1 << fd % BITS;
}

/*
 * With more than 1 byte a poll would not tell of a short record, and it is poll
 * that the kernel waits by.
 */
static int lower_mark(int fd)
{
	const int one = 1;
	int mark = 0;
	socklen_t len = sizeof(mark);

	if (getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &mark, &len) || mark <= 1 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof(one)))
		return 0;
	return mark;
}

int descriptor_hold(struct descriptor *d, int fd)
{
	_Atomic uint64_t *word = word_of(fd);

	if (word && atomic_fetch_or(word, bit_of(fd)) & bit_of(fd))
		return error_set(-EALREADY, "descriptor %d is that of another "
				 "connection: tls_close() that one before its "
				 "descriptor is closed or handed over again",
				 fd);
	*d = (struct descriptor){ .fd = fd, .low_water = lower_mark(fd) };
	return 0;
}

void descriptor_release(struct descriptor *d)
{
	_Atomic uint64_t *word = word_of(d->fd);

	if (d->low_water)
		setsockopt(d->fd, SOL_SOCKET, SO_RCVLOWAT, &d->low_water,
			   sizeof(d->low_water));
	if (word)
		atomic_fetch_and(word, ~bit_of(d->fd));
	*d = (struct descriptor){ .fd = -1 };
}
