// SPDX-License-Identifier: MIT
#include "claim.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/util.h"

enum { PAGE = 4096, WORDS = PAGE / sizeof(uint64_t) };

struct claim_page {
	struct list node; /* of open or full ones; retired: none */
	_Atomic uint64_t *words; /* shared */
	unsigned used;
	bool retired;
	unsigned unused; /* so many in free */
	uint16_t free[WORDS];
};

_Atomic uint64_t claim_self;

static _Atomic uint64_t *numbers; /* the latest of all relatives; shared */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct list open_pages = { &open_pages, &open_pages };
static struct list full_pages = { &full_pages, &full_pages };

static void *map_shared(void)
{
	void *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static void new_number(void)
{
	if (numbers)
		atomic_store_explicit(&claim_self,
				      atomic_fetch_add(numbers, 1) + 1,
				      memory_order_relaxed);
}

/* ---- Pages ------------------------------------------------------------- */

static struct claim_page *page_new(void)
{
	struct claim_page *page = malloc(sizeof(*page));

	if (!page)
		return NULL;
	*page = (struct claim_page){ .words = map_shared(), .unused = WORDS };
	if (!page->words) {
		free(page);
		return NULL;
	}
	for (unsigned i = 0; i < WORDS; i++)
		page->free[i] = (uint16_t)(WORDS - 1 - i);
	list_init(&page->node);
	list_move_tail(&open_pages, &page->node);
	return page;
}

static void page_free(struct claim_page *page)
{
	list_remove(&page->node);
	munmap((void *)page->words, PAGE);
	free(page);
}

static struct claim_page *page_with_room(void)
{
	if (list_empty(&open_pages))
		return page_new();
	return container_of(open_pages.next, struct claim_page, node);
}

static _Atomic uint64_t *word_take(struct claim_page *page)
{
	_Atomic uint64_t *word = &page->words[page->free[--page->unused]];

	page->used++;
	if (!page->unused)
		list_move_tail(&full_pages, &page->node);
	return word;
}

static void word_free(struct claim_page *page, _Atomic uint64_t *word)
{
	page->used--;
	if (page->retired) {
		if (!page->used)
			page_free(page);
		return;
	}
	page->free[page->unused++] = (uint16_t)(word - page->words);
	list_remove(&page->node);
	if (!page->used && !list_empty(&open_pages))
		page_free(page);
	else
		list_move_tail(&open_pages, &page->node);
}

/* ---- fork() ------------------------------------------------------------ */

/* A relative knows the words that are in use: nobody uses those again. */
static void retire(struct list *from, bool child)
{
	struct list pages;
	struct list *node;

	list_take_all(&pages, from);
	while ((node = list_take(&pages))) {
		struct claim_page *page =
			container_of(node, struct claim_page, node);

		if (page->used)
			page->retired = true;
		else if (child) /* the parent goes on with it */
			page_free(page);
		else
			list_move_tail(&open_pages, node);
	}
}

static void go_on(bool child)
{
	retire(&open_pages, child);
	retire(&full_pages, child);
	new_number();
}

static void prepare(void)
{
	pthread_mutex_lock(&lock);
}

static void in_parent(void)
{
	go_on(false);
	pthread_mutex_unlock(&lock);
}

static void in_child(void)
{
	go_on(true);
	pthread_mutex_unlock(&lock);
}

/* ---- What is called ---------------------------------------------------- */

void claim_start(void)
{
	if (numbers)
		return;
	numbers = map_shared();
	if (numbers && pthread_atfork(prepare, in_parent, in_child)) {
		munmap((void *)numbers, PAGE);
		numbers = NULL;
	}
	new_number();
}

bool claim_new(struct claim *claim)
{
	struct claim_page *page;

	if (!numbers)
		return false;
	pthread_mutex_lock(&lock);
	page = page_with_room();
	if (page) {
		claim->page = page;
		claim->word = word_take(page);
		claim->owner = atomic_load(&claim_self);
		atomic_store(claim->word, claim->owner);
	}
	pthread_mutex_unlock(&lock);
	return page;
}

void claim_free(struct claim *claim)
{
	if (!claim->page)
		return;
	pthread_mutex_lock(&lock);
	word_free(claim->page, claim->word);
	pthread_mutex_unlock(&lock);
	*claim = (struct claim){ 0 };
}

bool claim_again(struct claim *claim)
{
	uint64_t owner = claim->owner, self = atomic_load(&claim_self);

	if (!claim->word ||
	    !atomic_compare_exchange_strong(claim->word, &owner, self))
		return false;
	claim->owner = self;
	return true;
}
