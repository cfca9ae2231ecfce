/* SPDX-License-Identifier: MIT */
/*
 * sandbox PROFILE RULE... -- COMMAND...: runs COMMAND as a container runtime
 * would with a seccomp profile. PROFILE is a file of the system calls' names
 * that are allowed; all others fail with EPERM, but for rules that depend on
 * arguments, which are moby's, below.
 *
 * A RULE changes that: NAME=allow, or NAME=ERRNO for another error, of those
 * below. NAME is a system call or AF_ALG, for sockets of that family.
 */
#include <errno.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TROUBLE = 99 };

/* What a container without CAP_SYS_ADMIN cannot have: CLONE_NEW... */
enum { NAMESPACES = 0x7e020000 };

static scmp_filter_ctx filter;

static void die(const char *what, int err)
{
	fprintf(stderr, "sandbox: %s: %s\n", what, strerror(err));
	exit(TROUBLE);
}

static void rule(uint32_t action, const char *name, unsigned count,
		 struct scmp_arg_cmp arg)
{
	int call = seccomp_syscall_resolve_name(name);
	int ret;

	if (call == __NR_SCMP_ERROR) /* is newer than libseccomp */
		return;
	ret = seccomp_rule_add_array(filter, action, call, count, &arg);
	if (ret)
		die(name, -ret);
}

static void rule_for_all(uint32_t action, const char *name)
{
	rule(action, name, 0, (struct scmp_arg_cmp){ 0 });
}

/* ---- As moby does ------------------------------------------------------ */

static void allow_profile(const char *path)
{
	FILE *file = fopen(path, "re");
	char line[200], *word, *rest;

	if (!file)
		die(path, errno);
	while (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "#")] = 0;
		for (word = strtok_r(line, " \n", &rest); word;
		     word = strtok_r(NULL, " \n", &rest))
			rule_for_all(SCMP_ACT_ALLOW, word);
	}
	fclose(file);
}

static void allow_threads(void)
{
#ifdef __s390x__
	const unsigned flags = 1;
#else
	const unsigned flags = 0;
#endif

	rule(SCMP_ACT_ALLOW, "clone", 1,
	     SCMP_CMP(flags, SCMP_CMP_MASKED_EQ, NAMESPACES, 0));
	/* no filter sees its flags: whoever is told so uses clone() */
	rule_for_all(SCMP_ACT_ERRNO(ENOSYS), "clone3");
}

static void allow_personalities(void)
{
	static const unsigned harmless[] = { 0, 0x8, 0x20000, 0x20008,
					     0xffffffff };
	size_t i;

	for (i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++)
		rule(SCMP_ACT_ALLOW, "personality", 1,
		     SCMP_A0(SCMP_CMP_EQ, harmless[i]));
}

static bool family_is_refused(int family)
{
	switch (family) {
	case AF_DECnet: /* these are gone from newer kernels */
	case AF_ECONET:
	case AF_ATMSVC:
	case AF_IRDA:
	case AF_WANPIPE:
	case AF_ISDN:
	case AF_CAIF:
	case AF_ALG: /* these lead to where containers are not to go */
	case AF_VSOCK:
		return true;
	}
	return family > AF_MCTP;
}

static void allow_families(void)
{
	int family;

	for (family = 0; family < AF_MAX; family++)
		if (!family_is_refused(family))
			rule(SCMP_ACT_ALLOW, "socket", 1,
			     SCMP_A0(SCMP_CMP_EQ, (unsigned)family));
}

/* ---- As the caller says ------------------------------------------------ */

static uint32_t action(const char *name)
{
	static const struct {
		const char *name;
		int number;
	} known[] = {
		{ "ENOSYS", ENOSYS },
		{ "EOPNOTSUPP", EOPNOTSUPP },
		{ "EACCES", EACCES },
		{ "EAFNOSUPPORT", EAFNOSUPPORT },
	};
	size_t i;

	if (!strcmp(name, "allow"))
		return SCMP_ACT_ALLOW;
	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (!strcmp(known[i].name, name))
			return SCMP_ACT_ERRNO(known[i].number);
	die(name, EINVAL);
	return 0;
}

static void change(char *text)
{
	char *value = strchr(text, '=');

	if (!value)
		die(text, EINVAL);
	*value++ = 0;
	if (!strcmp(text, "AF_ALG"))
		rule(action(value), "socket", 1, SCMP_A0(SCMP_CMP_EQ, AF_ALG));
	else
		rule_for_all(action(value), text);
}

int main(int argc, char **argv)
{
	int i, ret;

	if (argc < 4) {
		fprintf(stderr, "usage: sandbox PROFILE RULE... -- COMMAND\n");
		return TROUBLE;
	}
	filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	if (!filter)
		die("a filter", ENOMEM);
	allow_profile(argv[1]);
	allow_threads();
	allow_personalities();
	allow_families();
	for (i = 2; i < argc - 1 && strcmp(argv[i], "--") != 0; i++)
		change(argv[i]);
	ret = seccomp_load(filter);
	if (ret)
		die("loading a filter", -ret);
	seccomp_release(filter);
	execvp(argv[i + 1], argv + i + 1);
	die(argv[i + 1], errno);
}
