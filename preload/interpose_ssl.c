/* SPDX-License-Identifier: MIT */
/*
 * The data path of OpenSSL's SSL: for a connection that was taken over it is
 * ours, for any other the call goes on to libssl.
 */
#include <limits.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "guest.h"
#include "next.h"
#include "stream.h"

/* As SSL_read() and SSL_write() have it, where lengths are ints. */
static int bad_length(void)
{
	ERR_raise(ERR_LIB_SSL, SSL_R_BAD_LENGTH);
	return -1;
}

static int as_int(int ret, size_t count)
{
	return ret > 0 ? (int)count : ret;
}

/* ---- Reading ----------------------------------------------------------- */

static int read_as_int(SSL *ssl, void *buf, int num, bool peek,
		       int (*openssl)(SSL *ssl, void *buf, int num))
{
	struct stream *s = guest_stream(ssl);
	size_t got;
	int ret;

	if (!s) {
		ret = openssl(ssl, buf, num);
		guest_try(ssl);
		return ret;
	}
	if (num < 0)
		return bad_length();
	ret = stream_read(s, buf, (size_t)num, &got, peek);
	return as_int(ret, got);
}

static int read_ex(SSL *ssl, void *buf, size_t num, size_t *got, bool peek,
		   int (*openssl)(SSL *ssl, void *buf, size_t num, size_t *got))
{
	struct stream *s = guest_stream(ssl);
	int ret;

	if (s)
		return stream_read(s, buf, num, got, peek) > 0;
	ret = openssl(ssl, buf, num, got);
	guest_try(ssl);
	return ret;
}

INTERPOSED int SSL_read(SSL *ssl, void *buf, int num)
{
	return read_as_int(ssl, buf, num, false, NEXT(SSL_read));
}

INTERPOSED int SSL_read_ex(SSL *ssl, void *buf, size_t num, size_t *got)
{
	return read_ex(ssl, buf, num, got, false, NEXT(SSL_read_ex));
}

INTERPOSED int SSL_peek(SSL *ssl, void *buf, int num)
{
	return read_as_int(ssl, buf, num, true, NEXT(SSL_peek));
}

INTERPOSED int SSL_peek_ex(SSL *ssl, void *buf, size_t num, size_t *got)
{
	return read_ex(ssl, buf, num, got, true, NEXT(SSL_peek_ex));
}

static size_t left_of(const SSL *ssl)
{
	const struct guest *guest = guest_of(ssl);

	return guest && guest->stream ? stream_pending(guest->stream) : 0;
}

INTERPOSED int SSL_pending(const SSL *ssl)
{
	struct stream *s = guest_taken(ssl);
	int pending = s ? 0 : NEXT(SSL_pending)(ssl);

	/* or it has been returned, and OpenSSL reads what is left next */
	return pending ? pending : (int)left_of(ssl);
}

INTERPOSED int SSL_has_pending(const SSL *ssl)
{
	struct stream *s = guest_taken(ssl);

	if (s && stream_has_pending(s))
		return 1;
	/* later releases count a close_notify that they have read */
	if (s && !(SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN))
		return 0;
	return NEXT(SSL_has_pending)(ssl) || left_of(ssl);
}

/* ---- Writing ----------------------------------------------------------- */

INTERPOSED int SSL_write(SSL *ssl, const void *buf, int num)
{
	struct stream *s = guest_stream(ssl);
	size_t done;
	int ret;

	if (!s) {
		ret = NEXT(SSL_write)(ssl, buf, num);
		guest_try(ssl);
		return ret;
	}
	if (num < 0)
		return bad_length();
	ret = stream_write(s, buf, (size_t)num, &done);
	return as_int(ret, done);
}

INTERPOSED int SSL_write_ex(SSL *ssl, const void *buf, size_t num,
			    size_t *done)
{
	struct stream *s = guest_stream(ssl);
	int ret;

	if (s)
		return stream_write(s, buf, num, done) > 0;
	ret = NEXT(SSL_write_ex)(ssl, buf, num, done);
	guest_try(ssl);
	return ret;
}

/* OpenSSL 3.3 and later; its flags concern QUIC. */
int SSL_write_ex2(SSL *ssl, const void *buf, size_t num, uint64_t flags,
		  size_t *done);

INTERPOSED int SSL_write_ex2(SSL *ssl, const void *buf, size_t num,
			     uint64_t flags, size_t *done)
{
	struct stream *s = flags ? NULL : guest_stream(ssl);

	if (s)
		return stream_write(s, buf, num, done) > 0;
	return NEXT(SSL_write_ex2)(ssl, buf, num, flags, done);
}

/* Without kTLS, which is not taken over, it is an error. */
INTERPOSED ossl_ssize_t SSL_sendfile(SSL *ssl, int fd, off_t offset,
				     size_t size, int flags)
{
	return NEXT(SSL_sendfile)(ssl, fd, offset, size, flags);
}

/* ---- The handshake, and after it --------------------------------------- */

INTERPOSED int SSL_do_handshake(SSL *ssl)
{
	struct stream *s = guest_taken(ssl);
	int ret;

	if (s)
		return stream_handshake(s);
	ret = NEXT(SSL_do_handshake)(ssl);
	guest_try(ssl);
	return ret;
}

INTERPOSED int SSL_accept(SSL *ssl)
{
	struct stream *s = guest_taken(ssl);
	int ret;

	if (s)
		return stream_handshake(s);
	ret = NEXT(SSL_accept)(ssl);
	guest_try(ssl);
	return ret;
}

INTERPOSED int SSL_connect(SSL *ssl)
{
	struct stream *s = guest_taken(ssl);
	int ret;

	if (s)
		return stream_handshake(s);
	ret = NEXT(SSL_connect)(ssl);
	guest_try(ssl);
	return ret;
}

INTERPOSED int SSL_shutdown(SSL *ssl)
{
	struct stream *s = guest_stream(ssl);

	return s ? stream_shutdown(s) : NEXT(SSL_shutdown)(ssl);
}

static void return_it(SSL *ssl)
{
	struct stream *s = guest_taken(ssl);

	if (s)
		stream_return(s);
}

INTERPOSED int SSL_renegotiate(SSL *ssl)
{
	return_it(ssl);
	return NEXT(SSL_renegotiate)(ssl);
}

INTERPOSED int SSL_renegotiate_abbreviated(SSL *ssl)
{
	return_it(ssl);
	return NEXT(SSL_renegotiate_abbreviated)(ssl);
}

/* Not while a write is to be repeated: OpenSSL knows of none. */
INTERPOSED int SSL_key_update(SSL *ssl, int type)
{
	const struct stream *s = guest_taken(ssl);

	if (!s || !s->repeat || SSL_version(ssl) != TLS1_3_VERSION ||
	    (type != SSL_KEY_UPDATE_REQUESTED &&
	     type != SSL_KEY_UPDATE_NOT_REQUESTED) ||
	    !SSL_is_init_finished(ssl))
		return NEXT(SSL_key_update)(ssl, type);
	ERR_raise(ERR_LIB_SSL, SSL_R_BAD_WRITE_RETRY);
	return 0;
}

/* What is left of that OpenSSL keeps to itself, and looks at before data. */
INTERPOSED int SSL_new_session_ticket(SSL *ssl)
{
	struct stream *s = guest_taken(ssl);

	if (s)
		s->tickets = true;
	return NEXT(SSL_new_session_ticket)(ssl);
}

INTERPOSED int SSL_verify_client_post_handshake(SSL *ssl)
{
	return_it(ssl);
	return NEXT(SSL_verify_client_post_handshake)(ssl);
}

INTERPOSED int SSL_clear(SSL *ssl)
{
	guest_forget(ssl);
	return NEXT(SSL_clear)(ssl);
}

/* ---- What came of a call ----------------------------------------------- */

INTERPOSED int SSL_want(const SSL *ssl)
{
	struct stream *s = guest_taken(ssl);

	if (!s || s->last == LAST_OPENSSL)
		return NEXT(SSL_want)(ssl);
	switch (s->last) {
	case LAST_WANT_READ:
	case LAST_READ_FAILED:
		return SSL_READING;
	case LAST_WANT_WRITE:
	case LAST_WRITE_FAILED:
		return SSL_WRITING;
	default:
		return SSL_NOTHING;
	}
}

/* A BIO of the program's may want the one to do the other; or leave both set. */
static int wanted_of(BIO *bio, bool writing)
{
	if (writing && BIO_should_write(bio))
		return SSL_ERROR_WANT_WRITE;
	if (BIO_should_read(bio))
		return SSL_ERROR_WANT_READ;
	if (BIO_should_write(bio))
		return SSL_ERROR_WANT_WRITE;
	if (!BIO_should_io_special(bio))
		return SSL_ERROR_SYSCALL;
	switch (BIO_get_retry_reason(bio)) {
	case BIO_RR_CONNECT:
		return SSL_ERROR_WANT_CONNECT;
	case BIO_RR_ACCEPT:
		return SSL_ERROR_WANT_ACCEPT;
	default:
		return SSL_ERROR_SYSCALL;
	}
}

INTERPOSED int SSL_get_error(const SSL *ssl, int ret)
{
	struct stream *s = guest_taken(ssl);
	unsigned long error;

	if (!s || s->last == LAST_OPENSSL)
		return NEXT(SSL_get_error)(ssl, ret);
	if (ret > 0)
		return SSL_ERROR_NONE;
	error = ERR_peek_error();
	if (error)
		return ERR_GET_LIB(error) == ERR_LIB_SYS ? SSL_ERROR_SYSCALL :
							   SSL_ERROR_SSL;
	if (s->last == LAST_WANT_READ)
		return wanted_of(stream_rbio(s), false);
	if (s->last == LAST_WANT_WRITE)
		return wanted_of(stream_wbio(s), true);
	/* behind the peer's close_notify it is that, whatever failed */
	BIO_clear_retry_flags(stream_rbio(s));
	BIO_clear_retry_flags(stream_wbio(s));
	BIO_clear_retry_flags(s->shadow.bio);
	return NEXT(SSL_get_error)(ssl, ret);
}
