/* SPDX-License-Identifier: MIT */
/*
 * The BIOs of an SSL. A BIO of ours stands in their place (shadow.h), of which the
 * program is to see nothing.
 */
#include <openssl/bio.h>
#include <openssl/ssl.h>

#include "guest.h"
#include "next.h"
#include "stream.h"

/* Also one that has been returned. */
static struct stream *any_stream(const SSL *ssl)
{
	const struct guest *guest = guest_of(ssl);

	return guest ? guest->stream : NULL;
}

/* ---- What there is ----------------------------------------------------- */

INTERPOSED BIO *SSL_get_rbio(const SSL *ssl)
{
	struct stream *s = any_stream(ssl);

	return s ? stream_rbio(s) : NEXT(SSL_get_rbio)(ssl);
}

INTERPOSED BIO *SSL_get_wbio(const SSL *ssl)
{
	struct stream *s = any_stream(ssl);

	return s ? stream_wbio(s) : NEXT(SSL_get_wbio)(ssl);
}

static int descriptor_of(BIO *bio)
{
	BIO *with = BIO_find_type(bio, BIO_TYPE_DESCRIPTOR);
	int fd = -1;

	if (with)
		BIO_get_fd(with, &fd);
	return fd;
}

INTERPOSED int SSL_get_fd(const SSL *ssl)
{
	struct stream *s = any_stream(ssl);

	return s ? descriptor_of(stream_rbio(s)) : NEXT(SSL_get_fd)(ssl);
}

INTERPOSED int SSL_get_rfd(const SSL *ssl)
{
	struct stream *s = any_stream(ssl);

	return s ? descriptor_of(stream_rbio(s)) : NEXT(SSL_get_rfd)(ssl);
}

INTERPOSED int SSL_get_wfd(const SSL *ssl)
{
	struct stream *s = any_stream(ssl);

	return s ? descriptor_of(stream_wbio(s)) : NEXT(SSL_get_wfd)(ssl);
}

/* ---- What is set ------------------------------------------------------- */

/* Some of these call others of them. */
static struct stream *begin(const SSL *ssl)
{
	struct stream *s = any_stream(ssl);

	return s && stream_moves(s) ? s : NULL;
}

static void end(struct stream *moving)
{
	if (moving)
		stream_moved(moving);
}

INTERPOSED void SSL_set_bio(SSL *ssl, BIO *rbio, BIO *wbio)
{
	struct stream *moving = begin(ssl);

	NEXT(SSL_set_bio)(ssl, rbio, wbio);
	end(moving);
}

INTERPOSED void SSL_set0_rbio(SSL *ssl, BIO *rbio)
{
	struct stream *moving = begin(ssl);

	NEXT(SSL_set0_rbio)(ssl, rbio);
	end(moving);
}

INTERPOSED void SSL_set0_wbio(SSL *ssl, BIO *wbio)
{
	struct stream *moving = begin(ssl);

	NEXT(SSL_set0_wbio)(ssl, wbio);
	end(moving);
}

#define SETS_DESCRIPTOR(name)                      \
	INTERPOSED int name(SSL *ssl, int fd)      \
	{                                          \
		struct stream *moving = begin(ssl); \
		int ret = NEXT(name)(ssl, fd);     \
						   \
		end(moving);                       \
		return ret;                        \
	}

SETS_DESCRIPTOR(SSL_set_fd)
SETS_DESCRIPTOR(SSL_set_rfd)
SETS_DESCRIPTOR(SSL_set_wfd)
