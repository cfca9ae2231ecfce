/* SPDX-License-Identifier: MIT */
/*
 * sandbox IO ERRNO ALG ERRNO COMMAND...: runs COMMAND where system calls are
 * refused, as the default profiles of container runtimes do. IO is what of
 * io_uring: all, enter, register or none; ALG is alg for sockets of AF_ALG, or
 * none. An ERRNO is one of the names below.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ARGUMENT_0 (offsetof(struct seccomp_data, args) +                   \
		    (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0))

static struct sock_filter code[32];
static unsigned short len;

static void add(unsigned short op, unsigned k, unsigned char jt,
		unsigned char jf)
{
	code[len++] = (struct sock_filter){ op, jt, jf, k };
}

static int number(const char *name)
{
	static const struct {
		const char *name;
		int number;
	} known[] = {
		{ "EPERM", EPERM },	      { "ENOSYS", ENOSYS },
		{ "EOPNOTSUPP", EOPNOTSUPP }, { "EACCES", EACCES },
		{ "EAFNOSUPPORT", EAFNOSUPPORT },
	};
	size_t i;

	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (!strcmp(known[i].name, name))
			return known[i].number;
	fprintf(stderr, "sandbox: no errno %s\n", name);
	exit(99);
}

static void refuse(int err)
{
	add(BPF_RET | BPF_K,
	    SECCOMP_RET_ERRNO | ((unsigned)err & SECCOMP_RET_DATA), 0, 0);
}

static void refuse_call(long nr, int err)
{
	add(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)nr, 0, 1);
	refuse(err);
}

static void refuse_io_uring(const char *what, int err)
{
	bool all = !strcmp(what, "all");

	if (all)
		refuse_call(SYS_io_uring_setup, err);
	if (all || !strcmp(what, "enter"))
		refuse_call(SYS_io_uring_enter, err);
	if (all || !strcmp(what, "register"))
		refuse_call(SYS_io_uring_register, err);
}

static void refuse_af_alg(int err)
{
	add(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3);
	add(BPF_LD | BPF_W | BPF_ABS, ARGUMENT_0, 0, 0);
	add(BPF_JMP | BPF_JEQ | BPF_K, AF_ALG, 0, 1);
	refuse(err);
}

int main(int argc, char **argv)
{
	struct sock_fprog program = { .filter = code };

	if (argc < 6) {
		fprintf(stderr, "usage: sandbox IO ERRNO ALG ERRNO COMMAND\n");
		return 99;
	}
	add(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
	refuse_io_uring(argv[1], number(argv[2]));
	if (!strcmp(argv[3], "alg"))
		refuse_af_alg(number(argv[4]));
	add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
	program.len = len;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
		perror("sandbox");
		return 99;
	}
	execvp(argv[5], argv + 5);
	perror(argv[5]);
	return 99;
}
