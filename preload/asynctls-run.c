/* SPDX-License-Identifier: MIT */
/*
 * asynctls-run PROGRAM: run it with libasynctls-openssl.so in front of its
 * OpenSSL; or say at once why that would do nothing. See man/asynctls-run.1.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "explain.h"
#include "program.h"

#define LIBRARY "libasynctls-openssl.so"

/* Exit statuses, 126 and 127 as shells and env have them. */
enum { NOTHING_TO_DO = 2, FAILED = 125, NOT_EXECUTABLE = 126, NOT_FOUND = 127 };

static void die(int status, const char *format, ...)
	__attribute__((format(printf, 2, 3), noreturn));
static void die(int status, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("asynctls-run: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(status);
}

static const char usage[] =
	"usage: asynctls-run [OPTION]... [--] PROGRAM [ARGUMENT]...\n"
	"Run PROGRAM with libasynctls's record layer in place of OpenSSL's.\n"
	"\n"
	"  --explain      say at the end which connections were taken over, which\n"
	"                 were not, and why\n"
	"  --stats FILE   append counters of each process to FILE, as JSON\n"
	"  --log FILE     append a line for each reason why a connection was left\n"
	"                 to OpenSSL; \"stderr\" is the program's standard error\n"
	"  --no-gather    send each record at once\n"
	"  --engine NAME  encrypt with this one: ipsec-mb or gcrypt\n"
	"  --off          leave all connections to OpenSSL, to compare\n"
	"  --help, --version\n";

/* ---- Options ------------------------------------------------------------ */

struct wishes {
	bool explain;
	char *stats;
};

static void set(const char *variable, const char *value)
{
	if (setenv(variable, value, 1))
		die(FAILED, "no memory");
}

/* Programs change their directory before they start others. */
static char *absolute(const char *file)
{
	char *cwd, *path;

	if (*file == '/')
		return strdup(file);
	cwd = getcwd(NULL, 0);
	if (!cwd)
		die(FAILED, "%s: the directory it is meant to be in has gone: "
		    "name it from the root on", file);
	if (asprintf(&path, "%s/%s", cwd, file) < 0)
		die(FAILED, "no memory");
	free(cwd);
	return path;
}

static void choose_engine(const char *name)
{
	if (strcmp(name, "ipsec-mb") && strcmp(name, "gcrypt"))
		die(NOTHING_TO_DO, "--engine %s: there is ipsec-mb and gcrypt",
		    name);
	set("ASYNCTLS_CPU", name);
}

static void take_file(const char *option, const char *variable,
		      const char *file)
{
	if (!*file)
		die(NOTHING_TO_DO, "%s wants the name of a file", option);
	set(variable, strcmp(file, "stderr") ? absolute(file) : file);
}

static void take_option(int option, struct wishes *w)
{
	switch (option) {
	case 'e':
		w->explain = true;
		break;
	case 's':
		take_file("--stats", "ASYNCTLS_STATS", optarg);
		w->stats = absolute(optarg);
		break;
	case 'l':
		take_file("--log", "ASYNCTLS_LOG", optarg);
		break;
	case 'g':
		set("ASYNCTLS_GATHER", "off");
		break;
	case 'c':
		choose_engine(optarg);
		break;
	case 'o':
		set("ASYNCTLS_DROPIN", "off");
		break;
	case 'h':
		fputs(usage, stdout);
		exit(0);
	case 'v':
		puts("asynctls-run " VERSION);
		exit(0);
	default:
		fputs("asynctls-run --help tells what there is\n", stderr);
		exit(NOTHING_TO_DO);
	}
}

static struct wishes options(int argc, char **argv)
{
	static const struct option known[] = {
		{ "explain", no_argument, NULL, 'e' },
		{ "stats", required_argument, NULL, 's' },
		{ "log", required_argument, NULL, 'l' },
		{ "no-gather", no_argument, NULL, 'g' },
		{ "engine", required_argument, NULL, 'c' },
		{ "off", no_argument, NULL, 'o' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	struct wishes w = { false, NULL };
	int option;

	while ((option = getopt_long(argc, argv, "+", known, NULL)) != -1)
		take_option(option, &w);
	if (w.explain && w.stats && strstr(w.stats, "%p"))
		die(NOTHING_TO_DO, "--explain reads what --stats writes: give "
		    "it one file, without %%p");
	if (optind == argc)
		die(NOTHING_TO_DO, "which program? asynctls-run --help tells "
		    "how to name it");
	return w;
}

/* ---- The library -------------------------------------------------------- */

static bool is_there(const char *dir, const char *below, char path[PATH_MAX])
{
	char name[PATH_MAX];
	int len = snprintf(name, sizeof(name), "%s%s/" LIBRARY, dir, below);

	return len < (int)sizeof(name) && realpath(name, path) &&
	       access(path, R_OK) == 0;
}

/* Beside this program where both were built; where both were put; and where both
 * were to be put. */
static void find_library(char path[PATH_MAX])
{
	char self[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

	self[len > 0 ? len : 0] = '\0';
	if (strrchr(self, '/'))
		*strrchr(self, '/') = '\0';
	if (!is_there(self, "", path) &&
	    !is_there(self, "/../" LIBDIR, path) &&
	    !is_there(PREFIX, "/" LIBDIR, path))
		die(FAILED, LIBRARY " is neither in %s/../" LIBDIR " nor in "
		    PREFIX "/" LIBDIR ": install it there", self);
	if (strpbrk(path, ": "))
		die(FAILED, "%s: the loader takes no file with a blank or a "
		    "colon in its name: move it elsewhere", path);
}

static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (; *list; list += strspn(list, ": ")) {
		size_t n = strcspn(list, ": ");

		if (n == len && !memcmp(list, word, len))
			return true;
		list += n;
	}
	return false;
}

/*
 * Behind those that are to be preloaded already: what watches or changes the
 * program's calls has them first, and ours has what is left for OpenSSL.
 */
static void preload(const char *library)
{
	const char *before = getenv("LD_PRELOAD");
	char *all;

	if (before && has_word(before, library))
		return;
	if (!before || !*before)
		set("LD_PRELOAD", library);
	else if (asprintf(&all, "%s:%s", before, library) < 0)
		die(FAILED, "no memory");
	else
		set("LD_PRELOAD", all);
}

/* ------------------------------------------------------------------------- */

static void find_program(const char *name, char path[PATH_MAX])
{
	int err = program_find(name, path);

	if (err == -ENOENT)
		die(NOT_FOUND, "%s: not found%s", name, strchr(name, '/') ?
		    "" : " in PATH; root's programs are in /usr/sbin");
	if (err)
		die(NOT_EXECUTABLE, "%s: %s", name, strerror(-err));
}

int main(int argc, char **argv)
{
	char path[PATH_MAX], library[PATH_MAX];
	struct wishes w = options(argc, argv);
	const char *why;

	find_program(argv[optind], path);
	why = program_objection(path);
	if (why)
		die(NOTHING_TO_DO, "%s", why);
	find_library(library);
	preload(library);
	if (w.explain)
		return explain(path, argv + optind, w.stats);
	execvp(path, argv + optind);
	die(NOT_EXECUTABLE, "%s: %s", path, strerror(errno));
}
