/* SPDX-License-Identifier: MIT */
/*
 * What the kernel engine refuses on a kernel that has AF_ALG, and in which
 * words; and where AF_ALG is restricted.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#include <cmocka.h>

#include "afalg_setup.h"
#include "engine/afalg_probe.h"
#include "record/record.h"

static const uint8_t test_key[CIPHER_KEY_MAX];

static void assert_refused(struct setup *s, enum cipher_id id,
			   const char *words)
{
	const char *why = setup_refusal(s, id);

	assert_non_null(why);
	if (!strstr(why, words))
		fail_msg("\"%s\" does not say \"%s\"", why, words);
}

/* ---- What is refused --------------------------------------------------- */

static void synchronous_refused(const char *driver, enum cipher_id id)
{
	struct setup s = setup_start(driver, false, SOCKETS);

	print_message("%s: %s\n", ciphers[id].name, setup_refusal(&s, id));
	assert_refused(&s, id, "completes inside submit (16 of 16)");
	assert_int_equal(setup_stats(&s).sockets_now, 0);
	setup_stop(&s);
}

/* By name, since gcm(aes) may already be a pcrypt() of an earlier test. */
static void test_synchronous_refused(void **state)
{
	(void)state;
	synchronous_refused(generic_driver, CIPHER_AES_128_GCM);
	synchronous_refused(generic_driver, CIPHER_AES_256_GCM);
	synchronous_refused(NULL, CIPHER_CHACHA20_POLY1305);
}

static void test_wrapper_refused(void **state)
{
	struct setup s = setup_start(parallel_driver, false, SOCKETS);

	(void)state;
	print_message("%s\n", setup_refusal(&s, CIPHER_AES_128_GCM));
	assert_refused(&s, CIPHER_AES_128_GCM, "software wrapper");
	assert_refused(&s, CIPHER_AES_256_GCM, parallel_driver);
	setup_stop(&s);
}

/* It could be a wrapper for all that is known, and here it is. */
static void test_hidden_driver_refused(void **state)
{
	struct setup s;

	(void)state;
	assert_int_equal(mount("/dev/null", "/proc/crypto", NULL, MS_BIND,
			       NULL), 0);
	s = setup_start(NULL, false, SOCKETS);
	assert_int_equal(umount("/proc/crypto"), 0);
	print_message("%s\n", setup_refusal(&s, CIPHER_AES_128_GCM));
	assert_refused(&s, CIPHER_AES_128_GCM, "ProcSubset=pid");
	assert_refused(&s, CIPHER_CHACHA20_POLY1305, "name it to use it");
	setup_stop(&s);
}

static void test_other_cipher_refused(void **state)
{
	struct setup s = setup_start(generic_driver, true, SOCKETS);

	(void)state;
	print_message("%s\n", setup_refusal(&s, CIPHER_CHACHA20_POLY1305));
	setup_assert_has(&s, CIPHER_AES_128_GCM);
	setup_assert_has(&s, CIPHER_AES_256_GCM);
	assert_refused(&s, CIPHER_CHACHA20_POLY1305, "does not implement");
	setup_stop(&s);

	s = setup_start("rfc7539(chacha20-generic,poly1305-generic)", true, SOCKETS);
	print_message("%s\n", setup_refusal(&s, CIPHER_AES_128_GCM));
	assert_refused(&s, CIPHER_AES_128_GCM, "does not implement");
	assert_refused(&s, CIPHER_AES_256_GCM, "does not implement");
	setup_assert_has(&s, CIPHER_CHACHA20_POLY1305);
	setup_stop(&s);
}

static void test_unknown_refused(void **state)
{
	struct setup s = setup_start("no-such-driver", true, SOCKETS);
	struct engine_key *key;
	unsigned id;

	(void)state;
	print_message("%s\n", setup_refusal(&s, CIPHER_AES_128_GCM));
	for (id = 0; id < CIPHER_COUNT; id++)
		assert_refused(&s, id, "AF_ALG has no no-such-driver");
	assert_int_equal(
		s.engine->ops->key_new(s.engine, &ciphers[0], test_key, &key),
		-EOPNOTSUPP);
	setup_stop(&s);
}

static void test_long_name_refused(void **state)
{
	char name[100];
	struct setup s;

	(void)state;
	memset(name, 'x', sizeof(name));
	name[99] = 0;
	s = setup_start(name, true, SOCKETS);
	assert_refused(&s, CIPHER_AES_128_GCM, "at most 63 characters");
	setup_stop(&s);
}

static unsigned count_in_proc_crypto(const char *words)
{
	FILE *file = fopen("/proc/crypto", "re");
	unsigned count = 0;
	char line[256];

	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		count += strstr(line, words) != NULL;
	fclose(file);
	return count;
}

/*
 * A name that binds to nothing may instantiate something all the same, on 6.12
 * several at once. Looking again must not add to it.
 */
static void test_no_stacking(void **state)
{
	struct setup s = setup_start("pcrypt(gcm(aes))", true, SOCKETS);
	unsigned before, after;

	(void)state;
	before = count_in_proc_crypto("pcrypt(");
	setup_stop(&s);
	s = setup_start(NULL, true, SOCKETS);
	setup_stop(&s);
	after = count_in_proc_crypto("pcrypt(");
	print_message("pcrypt instances: %u, later %u\n", before, after);
	assert_int_equal(after, before);
}

/* Leave the wrapper out of it, and pcrypt does count as asynchronous. */
static void test_pcrypt_is_asynchronous(void **state)
{
	struct afalg_options options = { parallel_driver, false, SOCKETS };
	struct afalg_choice choice = { 0 };
	struct setup s = setup_start(parallel_driver, true, SOCKETS);

	(void)state;
	strcpy(choice.driver, parallel_driver);
	afalg_probe_check(&choice, s.engine, s.ring, CIPHER_AES_128_GCM,
			  &options);
	assert_string_equal(choice.refusal, "");
	setup_stop(&s);
}

/* An engine whose driver never answers. */
static unsigned abandoned;

static int stalled_key_new(struct engine *engine, const struct cipher *cipher,
			   const uint8_t *key, struct engine_key **out)
{
	(void)cipher;
	(void)key;
	*out = (struct engine_key *)engine;
	return 0;
}

static void stalled_key_free(struct engine *engine, struct engine_key *key)
{
	(void)engine;
	(void)key;
}

static int stalled_submit(struct engine *engine, struct aead_op *op)
{
	(void)engine;
	(void)op;
	return ENGINE_PENDING;
}

static bool stalled_abandon(struct engine *engine, struct aead_op *op,
			    void (*released)(void *memory), void *memory)
{
	(void)engine;
	(void)op;
	(void)released;
	(void)memory;
	abandoned++;
	return false;
}

static void test_stalled_driver(void **state)
{
	static const struct engine_ops ops = {
		.key_new = stalled_key_new,
		.key_free = stalled_key_free,
		.submit = stalled_submit,
		.abandon = stalled_abandon,
	};
	struct afalg_options options = { generic_driver, true, SOCKETS };
	struct afalg_choice choice = { 0 };
	struct engine engine = { &ops };
	const char *why;
	struct ring *ring;

	(void)state;
	assert_int_equal(ring_new(&ring, setup_kind, setup_io, &why), 0);
	strcpy(choice.driver, generic_driver);
	abandoned = 0;
	afalg_probe_check(&choice, &engine, ring, CIPHER_AES_128_GCM, &options);
	print_message("%s\n", choice.refusal);
	assert_non_null(strstr(choice.refusal, "did not complete a request"));
	assert_int_equal(abandoned, 1);
	ring_free(ring);
}

/* Where AF_ALG is restricted: nothing, and once it is allowed, the same. */
static void test_restricted(void **state)
{
	struct setup s = setup_start(NULL, true, SOCKETS);
	unsigned id;

	(void)state;
	for (id = 0; id < CIPHER_COUNT; id++)
		assert_refused(&s, id, "sysctl crypto.af_alg_restrict=0");
	setup_stop(&s);
}

/* ---- ------------------------------------------------------------------- */

static const struct CMUnitTest restricted_tests[] = {
	cmocka_unit_test(test_restricted),
};

/* Once it is allowed: the same, but for what is asynchronous. */
static const struct CMUnitTest allowed_tests[] = {
	cmocka_unit_test(test_synchronous_refused),
	cmocka_unit_test(test_unknown_refused),
	cmocka_unit_test(test_long_name_refused),
};

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_synchronous_refused),
	cmocka_unit_test(test_other_cipher_refused),
	cmocka_unit_test(test_unknown_refused),
	cmocka_unit_test(test_long_name_refused),
	cmocka_unit_test(test_stalled_driver),
	cmocka_unit_test(test_wrapper_refused),
	cmocka_unit_test(test_hidden_driver_refused),
	cmocka_unit_test(test_pcrypt_is_asynchronous),
};

static const struct CMUnitTest shared_tests[] = {
	cmocka_unit_test(test_synchronous_refused),
	cmocka_unit_test(test_other_cipher_refused),
	cmocka_unit_test(test_pcrypt_is_asynchronous),
	/* the last: it leaves pcrypt(pcrypt(...)) behind */
	cmocka_unit_test(test_no_stacking),
};

/* A kernel from 7.3 on, as it comes and then with AF_ALG allowed. */
static int main_restricted(void)
{
	int failed = cmocka_run_group_tests_name("restricted", restricted_tests,
						 NULL, NULL);

	if (!afalg_allow())
		return failed + 1;
	return failed + cmocka_run_group_tests_name("allowed", allowed_tests,
						    find_drivers, NULL);
}

int main(void)
{
	int failed;

	setup_kind = RING_OWNED;
	if (afalg_restricted())
		return main_restricted();
	failed = cmocka_run_group_tests_name("owned ring", tests, find_drivers,
					     NULL);
	setup_kind = RING_SHARED;
	failed += cmocka_run_group_tests_name("shared ring", shared_tests, NULL,
					      NULL);
	setup_io = RING_POLL;
	failed += cmocka_run_group_tests_name("shared epoll", shared_tests,
					      NULL, NULL);
	return failed;
}
