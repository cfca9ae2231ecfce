/* SPDX-License-Identifier: MIT */
/*
 * How an SSL comes to be, and what is set on it: so that handshakes are
 * prepared, that the program finds what it has set, and that what cannot be
 * asked for is known.
 */
#include <openssl/ssl.h>

#include "guest.h"
#include "next.h"
#include "openssl/follow.h"

INTERPOSED SSL_CTX *SSL_CTX_new(const SSL_METHOD *method)
{
	guest_expect();
	return NEXT(SSL_CTX_new)(method);
}

INTERPOSED SSL_CTX *SSL_CTX_new_ex(OSSL_LIB_CTX *library,
				   const char *properties,
				   const SSL_METHOD *method)
{
	guest_expect();
	return NEXT(SSL_CTX_new_ex)(library, properties, method);
}

INTERPOSED SSL *SSL_new(SSL_CTX *ctx)
{
	SSL *ssl;

	/* before, since the SSL copies what is set */
	guest_prepare_ctx(ctx);
	ssl = NEXT(SSL_new)(ctx);
	guest_prepare(ssl);
	return ssl;
}

/* Of the servers that a client can name, each has one. */
INTERPOSED SSL_CTX *SSL_set_SSL_CTX(SSL *ssl, SSL_CTX *ctx)
{
	guest_prepare_ctx(ctx);
	return NEXT(SSL_set_SSL_CTX)(ssl, ctx);
}

/* ---- Callbacks --------------------------------------------------------- */

INTERPOSED void SSL_set_info_callback(SSL *ssl, guest_info info)
{
	struct guest *guest = guest_of(ssl);

	if (!guest) {
		NEXT(SSL_set_info_callback)(ssl, info);
		return;
	}
	guest->info = info;
	NEXT(SSL_set_info_callback)(ssl, info ? guest_call_info : NULL);
}

INTERPOSED guest_info SSL_get_info_callback(const SSL *ssl)
{
	struct guest *guest = guest_of(ssl);
	guest_info set = NEXT(SSL_get_info_callback)(ssl);

	if (guest && set == guest_call_info)
		return guest->info;
	return guest ? follow_info_of(SSL_get_SSL_CTX(ssl), set) : set;
}

INTERPOSED guest_info SSL_CTX_get_info_callback(SSL_CTX *ctx)
{
	guest_info set = NEXT(SSL_CTX_get_info_callback)(ctx);

	return guest_is_on() ? follow_info_of(ctx, set) : set;
}

INTERPOSED SSL_CTX_keylog_cb_func
SSL_CTX_get_keylog_callback(const SSL_CTX *ctx)
{
	SSL_CTX_keylog_cb_func set = NEXT(SSL_CTX_get_keylog_callback)(ctx);

	return guest_is_on() ? follow_keylog_of(ctx, set) : set;
}

/* ---- Reading ahead ----------------------------------------------------- */

INTERPOSED void SSL_set_read_ahead(SSL *ssl, int yes)
{
	struct guest *guest = guest_of(ssl);

	if (!guest || guest->state == GUEST_LEFT) {
		NEXT(SSL_set_read_ahead)(ssl, yes);
		return;
	}
	guest->read_ahead = yes;
	if (guest->stream)
		inbox_ahead(&guest->stream->in, yes);
}

INTERPOSED int SSL_get_read_ahead(const SSL *ssl)
{
	const struct guest *guest = guest_of(ssl);

	if (guest && guest->state != GUEST_LEFT)
		return guest->read_ahead;
	return NEXT(SSL_get_read_ahead)(ssl);
}

/* ---- What no call tells ------------------------------------------------ */

static const char watched[] =
	"the program has a callback for messages, which sees every record";
static const char padded[] = "the program has records padded";

static void stand_against(SSL *ssl, const char *why)
{
	struct guest *guest = guest_of(ssl);

	if (!guest)
		return;
	guest->against = why;
	if (guest->stream && !guest->stream->shadow.stays)
		stream_return(guest->stream);
}

static void stand_against_all(SSL_CTX *ctx, const char *why)
{
	struct guest_house *house = guest_is_on() ? guest_house(ctx) : NULL;

	if (house)
		house->against = why;
}

typedef void (*message_fn)(int, int, int, const void *, size_t, SSL *, void *);
typedef size_t (*padding_fn)(SSL *, int, size_t, void *);

INTERPOSED void SSL_set_msg_callback(SSL *ssl, message_fn callback)
{
	if (callback)
		stand_against(ssl, watched);
	NEXT(SSL_set_msg_callback)(ssl, callback);
}

INTERPOSED void SSL_CTX_set_msg_callback(SSL_CTX *ctx, message_fn callback)
{
	if (callback)
		stand_against_all(ctx, watched);
	NEXT(SSL_CTX_set_msg_callback)(ctx, callback);
}

INTERPOSED int SSL_set_record_padding_callback(SSL *ssl, padding_fn callback)
{
	if (callback)
		stand_against(ssl, padded);
	return NEXT(SSL_set_record_padding_callback)(ssl, callback);
}

INTERPOSED void SSL_CTX_set_record_padding_callback(SSL_CTX *ctx,
						    padding_fn callback)
{
	if (callback)
		stand_against_all(ctx, padded);
	NEXT(SSL_CTX_set_record_padding_callback)(ctx, callback);
}

INTERPOSED int SSL_set_block_padding(SSL *ssl, size_t block)
{
	if (block > 1)
		stand_against(ssl, padded);
	return NEXT(SSL_set_block_padding)(ssl, block);
}

INTERPOSED int SSL_CTX_set_block_padding(SSL_CTX *ctx, size_t block)
{
	if (block > 1)
		stand_against_all(ctx, padded);
	return NEXT(SSL_CTX_set_block_padding)(ctx, block);
}

/* How long records are at most, as SSL_set_max_send_fragment() sets it. */
static void note_sizes(size_t *max_send, size_t *split_send, int command,
		       long number)
{
	const size_t len = (size_t)number;

	if (command == SSL_CTRL_SET_MAX_SEND_FRAGMENT)
		*max_send = len;
	/* which shortens the other, and that stays so when this grows again */
	if (command == SSL_CTRL_SET_SPLIT_SEND_FRAGMENT ||
	    (command == SSL_CTRL_SET_MAX_SEND_FRAGMENT &&
	     (!*split_send || *split_send > len)))
		*split_send = len;
}

INTERPOSED long SSL_ctrl(SSL *ssl, int command, long number, void *where)
{
	struct guest *guest = guest_of(ssl);
	long ret = NEXT(SSL_ctrl)(ssl, command, number, where);

	if (!guest || ret <= 0)
		return ret;
	note_sizes(&guest->max_send, &guest->split_send, command, number);
	if (guest->stream)
		stream_limit(guest->stream, guest->max_send,
			     guest->split_send);
	return ret;
}

INTERPOSED long SSL_CTX_ctrl(SSL_CTX *ctx, int command, long number,
			     void *where)
{
	long ret = NEXT(SSL_CTX_ctrl)(ctx, command, number, where);
	struct guest_house *house;

	if ((command != SSL_CTRL_SET_MAX_SEND_FRAGMENT &&
	     command != SSL_CTRL_SET_SPLIT_SEND_FRAGMENT) ||
	    ret <= 0 || !guest_is_on())
		return ret;
	house = guest_house(ctx);
	if (house)
		note_sizes(&house->max_send, &house->split_send, command,
			   number);
	return ret;
}
