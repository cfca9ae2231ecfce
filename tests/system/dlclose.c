/* SPDX-License-Identifier: MIT */
/*
 * usage: dlclose LIBRARY
 * A program that prepares an SSL_CTX with the library (a plugin of it does) and
 * lets go of the library: the SSL_CTX works on, and can be freed.
 */
#include <dlfcn.h>
#include <stdio.h>

#include <openssl/ssl.h>

static SSL_CTX *make_ctx(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());

	/* no certificate is needed for this */
	SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_cipher_list(ctx, "AECDH-AES256-SHA:@SECLEVEL=0");
	return ctx;
}

static int handshake(SSL_CTX *ctx)
{
	SSL *server = SSL_new(ctx), *client = SSL_new(ctx);
	BIO *a, *b;
	int i;

	BIO_new_bio_pair(&a, 0, &b, 0);
	SSL_set_bio(server, a, a);
	SSL_set_bio(client, b, b);
	SSL_set_accept_state(server);
	SSL_set_connect_state(client);
	for (i = 0; i < 10; i++) {
		SSL_do_handshake(client);
		SSL_do_handshake(server);
	}
	i = SSL_is_init_finished(client) && SSL_is_init_finished(server);
	SSL_free(server);
	SSL_free(client);
	return i;
}

int main(int argc, char *argv[])
{
	void *library = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) :
				    NULL;
	int (*prepare)(SSL_CTX *ctx);
	SSL_CTX *ctx = make_ctx();

	if (!library) {
		fprintf(stderr, "%s\n", dlerror());
		return 1;
	}
	*(void **)&prepare = dlsym(library, "asynctls_handoff_prepare");
	if (!prepare || prepare(ctx))
		return 2;
	dlclose(library);
	if (!handshake(ctx))
		return 3;
	SSL_CTX_free(ctx);
	return 0;
}
