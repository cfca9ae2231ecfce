/* SPDX-License-Identifier: MIT */
#include "openssl/reread.h"

#include <pthread.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "base/util.h"

/*
 * Has OpenSSL read them all? What it had decrypted before the hand-over comes
 * first, and was handed over.
 */
static bool read_all(SSL *ssl)
{
	uint8_t scratch[512];
	int n;

	do {
		n = SSL_read(ssl, scratch, sizeof(scratch));
	} while (n > 0 || (SSL_get_error(ssl, n) == SSL_ERROR_WANT_READ &&
			   BIO_pending(SSL_get_rbio(ssl)) > 0));
	OPENSSL_cleanse(scratch, sizeof(scratch));
	return SSL_get_error(ssl, n) == SSL_ERROR_WANT_READ;
}

/* ---- The BIO ----------------------------------------------------------- */

/*
 * Reads the records; what is written, an alert if OpenSSL has one to send, must
 * not go to the socket. The application may ask it for the descriptor.
 */
struct records {
	const uint8_t *at;
	size_t left;
	int fd;
};

static BIO_METHOD *method;

static int records_read(BIO *bio, char *out, int len)
{
	struct records *from = BIO_get_data(bio);
	size_t n = min_size((size_t)len, from->left);

	BIO_clear_retry_flags(bio);
	if (!n) {
		BIO_set_retry_read(bio);
		return -1;
	}
	memcpy(out, from->at, n);
	from->at += n;
	from->left -= n;
	return (int)n;
}

static int records_write(BIO *bio, const char *in, int len)
{
	(void)bio, (void)in;
	return len;
}

static long records_ctrl(BIO *bio, int command, long number, void *where)
{
	const struct records *from = BIO_get_data(bio);

	(void)number;
	switch (command) {
	case BIO_C_GET_FD:
		if (where)
			*(int *)where = from->fd;
		return from->fd;
	case BIO_CTRL_PENDING:
		return (long)from->left;
	case BIO_CTRL_FLUSH:
		return 1;
	default:
		return 0;
	}
}

static int records_create(BIO *bio)
{
	BIO_set_init(bio, 1);
	return 1;
}

static void make_method(void)
{
	int type = BIO_get_new_index();

	if (type < 0)
		return;
	type |= BIO_TYPE_DESCRIPTOR | BIO_TYPE_SOURCE_SINK;
	method = BIO_meth_new(type, "records");
	if (!method)
		return;
	BIO_meth_set_read(method, records_read);
	BIO_meth_set_write(method, records_write);
	BIO_meth_set_ctrl(method, records_ctrl);
	BIO_meth_set_create(method, records_create);
}

static BIO *bio_of(struct records *from)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	BIO *bio;

	pthread_once(&once, make_method);
	bio = method ? BIO_new(method) : NULL;
	if (bio)
		BIO_set_data(bio, from);
	return bio;
}

/* ---- Reading from it --------------------------------------------------- */

static bool read_from(SSL *ssl, BIO *records)
{
	BIO *rbio = SSL_get_rbio(ssl), *wbio = SSL_get_wbio(ssl);
	const int shutdown = SSL_get_shutdown(ssl);
	bool done;

	if (rbio)
		BIO_up_ref(rbio);
	if (wbio)
		BIO_up_ref(wbio);
	BIO_up_ref(records);
	BIO_up_ref(records);
	SSL_set0_rbio(ssl, records);
	SSL_set0_wbio(ssl, records);
	SSL_set_shutdown(ssl, 0);
	done = read_all(ssl);
	SSL_set_shutdown(ssl, shutdown);
	SSL_set0_rbio(ssl, rbio);
	SSL_set0_wbio(ssl, wbio);
	return done;
}

static void ignore_info(const SSL *ssl, int where, int ret)
{
	(void)ssl, (void)where, (void)ret;
}

/* What the callback for messages was, nobody can ask. */
static bool read_quietly(SSL *ssl, BIO *records)
{
	void (*info)(const SSL *, int, int) = SSL_get_info_callback(ssl);
	bool done;

	SSL_set_msg_callback(ssl, NULL);
	SSL_set_info_callback(ssl, ignore_info);
	done = read_from(ssl, records);
	SSL_set_info_callback(ssl, info);
	return done;
}

bool reread(SSL *ssl, const uint8_t *bytes, size_t len, int fd, bool quietly)
{
	struct records from = { bytes, len, fd };
	bool done = false;
	BIO *records;

	/* What this leaves in the error queue, SSL_get_error() would read. */
	ERR_set_mark();
	records = bio_of(&from);
	if (records && quietly)
		done = read_quietly(ssl, records);
	else if (records)
		done = read_from(ssl, records);
	BIO_free(records);
	ERR_pop_to_mark();
	return done;
}
