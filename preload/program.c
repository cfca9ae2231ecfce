/* SPDX-License-Identifier: MIT */
#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "executable.h"

static char words[2 * PATH_MAX];

static const char *say(const char *format, ...)
	__attribute__((format(printf, 1, 2)));
static const char *say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(words, sizeof(words), format, args);
	va_end(args);
	return words;
}

/* ---- Finding it --------------------------------------------------------- */

static int try(const char *path)
{
	struct stat st;

	if (stat(path, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EACCES;
	return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) ? -errno : 0;
}

static int in_directory(const char *dir, size_t len, const char *name,
			char path[PATH_MAX])
{
	int n = snprintf(path, PATH_MAX, "%.*s%s%s", (int)len, dir,
			 len ? "/" : "./", name);

	return n < PATH_MAX ? try(path) : -ENAMETOOLONG;
}

int program_find(const char *name, char path[PATH_MAX])
{
	const char *dir = getenv("PATH");
	int err, result = -ENOENT;

	if (strchr(name, '/') || !*name) {
		if (snprintf(path, PATH_MAX, "%s", name) >= PATH_MAX)
			return -ENAMETOOLONG;
		return try(path);
	}
	if (!dir)
		dir = "/bin:/usr/bin";
	for (;;) {
		size_t len = strcspn(dir, ":");

		err = in_directory(dir, len, name, path);
		if (!err)
			return 0;
		if (err == -EACCES)
			result = err;
		if (!dir[len])
			return result;
		dir += len + 1;
	}
}

/* ---- Privileges --------------------------------------------------------- */

/* Does the kernel heed what the file says of them? */
static bool gives_privileges(const char *path)
{
	struct statvfs fs;

	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)
		return false;
	return statvfs(path, &fs) || !(fs.f_flag & ST_NOSUID);
}

/* Does the file bring capabilities that a user's process has not? */
static bool has_capabilities(const char *path)
{
	struct vfs_ns_cap_data caps;
	ssize_t n = getxattr(path, "security.capability", &caps, sizeof(caps));
	const size_t two = sizeof(struct vfs_cap_data);

	if (n < (ssize_t)sizeof(caps.magic_etc))
		return false;
	return (caps.magic_etc & VFS_CAP_FLAGS_EFFECTIVE) ||
	       (n >= (ssize_t)two &&
		(caps.data[0].permitted || caps.data[1].permitted));
}

/*
 * The kernel's rule (cap_bprm_creds_from_file()): the user after the execution is
 * another than the real one before it, and the same for the group; or a user who
 * is not root gains capabilities. So root may run a program that is setuid root.
 */
static const char *privileged(const char *path)
{
	const char *do_this = "there the loader ignores LD_PRELOAD. Start it "
			      "as that user, from a copy without that bit";
	uid_t uid = geteuid();
	gid_t gid = getegid();
	bool gives = gives_privileges(path);
	struct stat st;

	if (stat(path, &st))
		return NULL;
	if (gives && (st.st_mode & S_ISUID))
		uid = st.st_uid;
	if (gives && (st.st_mode & S_ISGID) && (st.st_mode & S_IXGRP))
		gid = st.st_gid;
	if (uid != getuid())
		return say("%s would run as user %u, not %u (setuid): %s", path,
			   uid, getuid(), do_this);
	if (gid != getgid())
		return say("%s would run as group %u, not %u (setgid): %s",
			   path, gid, getgid(), do_this);
	if (gives && getuid() != 0 && has_capabilities(path))
		return say("%s has capabilities of its own (setcap), and the "
			   "loader ignores LD_PRELOAD then. Remove them and "
			   "start it by root, or give them to who starts it",
			   path);
	return NULL;
}

/* ---- Programs ----------------------------------------------------------- */

static bool is_loader(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && (!strncmp(slash, "/ld-linux", 9) ||
			 !strncmp(slash, "/ld64.so.", 9) ||
			 !strcmp(slash, "/ld.so"));
}

static const char *object_to_program(const char *path,
				     const struct executable_facts *elf)
{
	const char *why = privileged(path);
	char library[NAME_MAX];

	if (why)
		return why;
	if (!elf->ours)
		return say("%s is a program of %u bits for another machine "
			   "(number %u in its ELF header). Install libasynctls "
			   "for that machine, or the program for this one",
			   path, elf->bits, elf->machine);
	if (!*elf->loader && is_loader(path))
		return NULL; /* of whatever its arguments name */
	if (!*elf->loader)
		return say("%s is linked statically: nothing can stand in front "
			   "of what is inside. Use a build that is linked with "
			   "libssl.so.3", path);
	if (strstr(elf->loader, "musl"))
		return say("%s is linked with musl (%s), and libasynctls with "
			   "the GNU C library. Use a build for that one", path,
			   elf->loader);
	if (elf->defines_ssl && !elf->needs_libssl)
		return say("%s has an OpenSSL inside: its own calls reach no "
			   "library. Use a build that is linked with "
			   "libssl.so.3", path);
	if (executable_loads(elf->loader, path, "libssl.so.", "libssl.so.3",
			     library))
		return say("%s uses %s, and only OpenSSL 3 is known here. Use a "
			   "build that is linked with libssl.so.3 alone", path,
			   library);
	return NULL;
}

/* ---- Scripts ------------------------------------------------------------ */

/* What env runs: past its options, and past variables. */
static const char *behind_env(char **rest)
{
	char *word;

	while ((word = strtok_r(NULL, " \t", rest))) {
		if (!strcmp(word, "-u") || !strcmp(word, "-C"))
			strtok_r(NULL, " \t", rest);
		else if (*word != '-' && !strchr(word, '='))
			return word;
		else if (!strncmp(word, "-S", 2) && word[2])
			return word + 2;
	}
	return NULL;
}

/* "#!/usr/bin/env python3" and its kind: into path. false: it is not found. */
static bool find_interpreter(const char *first, char path[PATH_MAX])
{
	char line[256], *rest;
	const char *name, *base, *program;

	snprintf(line, sizeof(line), "%s", first + 2);
	name = strtok_r(line, " \t\r", &rest);
	if (!name)
		return false;
	base = strrchr(name, '/');
	if (base && !strcmp(base, "/env")) {
		program = behind_env(&rest);
		if (program)
			return program_find(program, path) == 0;
	}
	return snprintf(path, PATH_MAX, "%s", name) < PATH_MAX;
}

enum { DEPTH = 5 }; /* the kernel follows no more of them */

static const char *object(const char *path, int depth)
{
	char interpreter[PATH_MAX];
	struct executable_facts elf;

	if (executable_look(path, &elf) || depth == DEPTH)
		return privileged(path); /* not to be read, but to be run */
	if (elf.elf)
		return object_to_program(path, &elf);
	if (!*elf.first)
		return object("/bin/sh", depth + 1); /* as execvp() does */
	if (!find_interpreter(elf.first, interpreter))
		return NULL; /* whoever runs it hears of that */
	return object(interpreter, depth + 1);
}

const char *program_objection(const char *path)
{
	return object(path, 0);
}
