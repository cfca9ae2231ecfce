/* SPDX-License-Identifier: MIT */
#include "io/aio.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

/*
 * In flight at once; they count against fs.aio-max-nr, 65,536 by default for all
 * processes together.
 */
enum { MANY = 512, FEW = 8 };

int aio_start(struct aio *aio)
{
	int err = -EAGAIN, many;

	*aio = (struct aio){ 0 };
	aio->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (aio->event < 0)
		return -errno;
	for (many = MANY; many >= FEW && err == -EAGAIN; many /= 4)
		err = io_setup(many, &aio->context);
	if (!err)
		return 0;
	close(aio->event);
	aio->event = -1;
	return err;
}

void aio_end(struct aio *aio, bool ours)
{
	if (aio->event < 0)
		return;
	if (!aio->in_flight)
		io_destroy(aio->context);
	if (ours)
		close(aio->event);
	aio->event = -1;
}

int aio_submit(struct aio *aio, const struct aio_read *reads, int count)
{
	struct iocb blocks[AIO_BATCH], *all[AIO_BATCH];
	int i, n;

	/* the kernel copies them */
	for (i = 0; i < count; i++) {
		io_prep_pread(&blocks[i], reads[i].fd, reads[i].buf,
			      reads[i].len, 0);
		io_set_eventfd(&blocks[i], aio->event);
		blocks[i].data = reads[i].data;
		all[i] = &blocks[i];
	}
	n = io_submit(aio->context, count, all);
	if (n > 0)
		aio->in_flight += (unsigned)n;
	return n;
}

int aio_reap(struct aio *aio, struct io_event *events)
{
	struct timespec now = { 0 };
	int n;

	if (!aio->in_flight)
		return 0;
	n = io_getevents(aio->context, 0, AIO_BATCH, events, &now);
	if (n > 0)
		aio->in_flight -= (unsigned)n;
	return n > 0 ? n : 0;
}
