/* SPDX-License-Identifier: MIT */
#include "stream.h"

#include <sys/socket.h>

#include <openssl/bio.h>
#include <openssl/ssl.h>

#include "next.h"
#include "openssl/follow.h"

/* A socket of which both directions are ours to use; -1: through the BIOs. */
static int socket_of(BIO *rbio, BIO *wbio)
{
	int fd, type;
	socklen_t len = sizeof(type);

	if (!rbio || !wbio || !follow_has_descriptor(rbio) ||
	    !follow_has_descriptor(wbio))
		return -1;
	fd = (int)BIO_get_fd(rbio, NULL);
	if (fd < 0 || fd != (int)BIO_get_fd(wbio, NULL) ||
	    BIO_get_ktls_send(wbio) || BIO_get_ktls_recv(rbio) ||
	    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) ||
	    type != SOCK_STREAM)
		return -1;
	return fd;
}

bool stream_moves(struct stream *s)
{
	bool stood = s->shadow.standing;

	shadow_step_aside(s);
	return stood;
}

void stream_moved(struct stream *s)
{
	int fd = socket_of(NEXT(SSL_get_rbio)(s->ssl),
			   NEXT(SSL_get_wbio)(s->ssl));

	if (fd != s->fd) {
		inbox_move(&s->in, fd);
		/* the record in it would never be whole: as if it failed */
		if (outbox_move(&s->out, fd))
			SSL_set_shutdown(s->ssl, SSL_SENT_SHUTDOWN);
		s->fd = fd;
		s->budget = 0;
	}
	shadow_stand(s);
}
