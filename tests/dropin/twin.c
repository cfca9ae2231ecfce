/* SPDX-License-Identifier: MIT */
/*
 * One end of a connection says everything that a program can see of OpenSSL's
 * calls: what they return, SSL_get_error(), what is pending, what was called
 * back, and what the other end sees of it, record by record. Run with the
 * drop-in and without (twin.sh): the words must be the same.
 *
 * The other end calls libssl's own functions, so that it is never taken over.
 */
#include "twin.h"

#include "certificate.h"

static const struct way ways[] = {
	{ "server 1.3", true, TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256" },
	{ "client 1.3", false, TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256" },
	{ "server 1.2", true, TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384" },
	{ "client 1.2", false, TLS1_2_VERSION,
	  "ECDHE-ECDSA-CHACHA20-POLY1305" },
	{ "server 1.3 ccm", true, TLS1_3_VERSION, "TLS_AES_128_CCM_SHA256" },
	{ "server 1.2 cbc", true, TLS1_2_VERSION, "ECDHE-ECDSA-AES128-SHA" },
};

static const struct {
	const char *name;
	void (*look)(const struct way *way);
} looks[] = {
	{ "sizes", sizes },
	{ "handshake within a read", within_a_read },
	{ "pieces", pieces },
	{ "with _ex", with_ex },
	{ "peer closes", peer_closes },
	{ "we close", we_close },
	{ "without TLS any more", without_tls },
	{ "close with data unread", close_with_data },
	{ "plain bytes behind the end", plain_behind },
	{ "ends without close_notify", ends_without },
	{ "reset", reset },
	{ "nonsense", nonsense },
	{ "peer alerts", peer_alerts },
	{ "key updates", updates },
	{ "key update in a write", update_in_write },
	{ "without auto retry", without_retry },
	{ "full socket", full_socket },
	{ "another retry", other_retry },
	{ "wrong retry", wrong_retry },
	{ "partial writes", partial },
	{ "short records", fragments },
	{ "short records of an SSL_CTX", fragments_of_all },
	{ "info callbacks", told_of_it },
	{ "an SSL doubled", doubled },
	{ "renegotiation", renegotiation },
	{ "tickets", tickets },
	{ "session", session_kept },
	{ "post-handshake authentication", post_handshake },
	{ "asked behind close_notify", asked_at_end },
	{ "read ahead", ahead },
	{ "clear and dup", again },
	{ "unix socket", over_unix },
	{ "memory BIOs", over_memory },
	{ "a BIO of the program's", over_own },
	{ "the end of a BIO of the program's", own_ends },
	{ "broken pipe", broken_pipe },
	{ "calls that pass us by", past_us },
	{ "a BIO with the SSL", bio_with_ssl },
	{ "other BIOs", moves },
	{ "another descriptor within a record", moves_within },
	{ "no BIOs", without_bios },
	{ "fork", forks },
};

/* As a configuration with RecordPadding does, for an SSL_CTX of a library
 * context of the program's; before anything else, as OpenSSL counts for each.
 */
static void other_library(void)
{
	OSSL_LIB_CTX *library = OSSL_LIB_CTX_new(), *before;
	SSL_CTX *ctx = SSL_CTX_new_ex(library, NULL, TLS_server_method());

	before = OSSL_LIB_CTX_set0_default(library);
	SSL_CTX_set_block_padding(ctx, 64);
	OSSL_LIB_CTX_set0_default(before);
	SSL_CTX_free(ctx);
	OSSL_LIB_CTX_free(library);
}

int main(int argc, char **argv)
{
	find_libssl();
	signal(SIGPIPE, SIG_IGN);
	other_library();
	key = EVP_EC_gen("P-256");
	certificate = certificate_new(key);
	if (!certificate)
		DIE("no certificate\n");
	for (size_t i = 0; i < sizeof(looks) / sizeof(*looks); i++) {
		if (argc > 1 && strcmp(argv[1], looks[i].name) != 0)
			continue;
		for (size_t j = 0; j < sizeof(ways) / sizeof(*ways); j++) {
			printf("%s, %s\n", looks[i].name, ways[j].name);
			looks[i].look(&ways[j]);
		}
	}
	EVP_PKEY_free(key);
	X509_free(certificate);
	return 0;
}
