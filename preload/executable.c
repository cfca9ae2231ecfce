/* SPDX-License-Identifier: MIT */
#include "executable.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct image {
	const uint8_t *bytes;
	size_t len;
};

/* len bytes at offset; NULL: there are not so many. */
static const void *part(const struct image *i, uint64_t offset, uint64_t len)
{
	if (offset > i->len || len > i->len - offset)
		return NULL;
	return i->bytes + offset;
}

/* ---- Sections ----------------------------------------------------------- */

struct strings {
	const char *bytes;
	uint64_t len;
};

static const Elf64_Shdr *section(const struct image *i, unsigned n)
{
	const Elf64_Ehdr *h = (const void *)i->bytes;

	if (n >= h->e_shnum || h->e_shentsize != sizeof(Elf64_Shdr) ||
	    h->e_shoff % sizeof(uint64_t))
		return NULL;
	return part(i, h->e_shoff + (uint64_t)n * sizeof(Elf64_Shdr),
		    sizeof(Elf64_Shdr));
}

static struct strings strings_of(const struct image *i, const Elf64_Shdr *s)
{
	const Elf64_Shdr *linked = section(i, s->sh_link);
	struct strings none = { NULL, 0 }, found;

	if (!linked || !linked->sh_size)
		return none;
	found.bytes = part(i, linked->sh_offset, linked->sh_size);
	found.len = linked->sh_size;
	return found.bytes && !found.bytes[found.len - 1] ? found : none;
}

static const char *string(struct strings s, uint64_t at)
{
	return at < s.len ? s.bytes + at : "";
}

static void look_at_symbols(const struct image *i, const Elf64_Shdr *s,
			    struct executable_facts *facts)
{
	const Elf64_Sym *symbol = part(i, s->sh_offset, s->sh_size);
	struct strings names = strings_of(i, s);
	uint64_t n;

	for (n = 0; symbol && n < s->sh_size / sizeof(*symbol); n++) {
		const char *name = string(names, symbol[n].st_name);

		if (symbol[n].st_shndx != SHN_UNDEF &&
		    (!strcmp(name, "SSL_read") || !strcmp(name, "SSL_CTX_new")))
			facts->defines_ssl = true;
	}
}

static void look_at_needs(const struct image *i, const Elf64_Shdr *s,
			  struct executable_facts *facts)
{
	const Elf64_Dyn *d = part(i, s->sh_offset, s->sh_size);
	struct strings names = strings_of(i, s);
	uint64_t n;

	for (n = 0; d && n < s->sh_size / sizeof(*d); n++)
		if (d[n].d_tag == DT_NEEDED &&
		    !strncmp(string(names, d[n].d_un.d_val), "libssl.so", 9))
			facts->needs_libssl = true;
}

static void look_at_sections(const struct image *i, struct executable_facts *facts)
{
	const Elf64_Shdr *s;
	unsigned n;

	for (n = 0; (s = section(i, n)); n++) {
		if (s->sh_offset % sizeof(uint64_t))
			continue;
		if (s->sh_type == SHT_DYNSYM)
			look_at_symbols(i, s, facts);
		else if (s->sh_type == SHT_DYNAMIC)
			look_at_needs(i, s, facts);
	}
}

/* ---- The file ----------------------------------------------------------- */

static void look_for_loader(const struct image *i, struct executable_facts *facts)
{
	const Elf64_Ehdr *h = (const void *)i->bytes;
	unsigned n;

	for (n = 0; n < h->e_phnum; n++) {
		const Elf64_Phdr *p =
			part(i, h->e_phoff + (uint64_t)n * sizeof(*p),
			     sizeof(*p));
		const char *name;

		if (!p || h->e_phoff % sizeof(uint64_t) ||
		    p->p_type != PT_INTERP)
			continue;
		name = part(i, p->p_offset, p->p_filesz);
		if (name && p->p_filesz)
			snprintf(facts->loader, sizeof(facts->loader), "%.*s",
				 (int)(p->p_filesz - 1), name);
	}
}

/* This program's own header tells what this machine's programs have. */
static bool same_machine(const Elf64_Ehdr *h)
{
	Elf64_Ehdr self;
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	bool got = fd >= 0 && read(fd, &self, sizeof(self)) == sizeof(self);

	if (fd >= 0)
		close(fd);
	return !got || (h->e_machine == self.e_machine &&
			h->e_ident[EI_CLASS] == self.e_ident[EI_CLASS] &&
			h->e_ident[EI_DATA] == self.e_ident[EI_DATA]);
}

static void look_at_script(const struct image *i, struct executable_facts *facts)
{
	const char *end;
	size_t len;

	if (i->len < 2 || memcmp(i->bytes, "#!", 2))
		return;
	len = i->len < sizeof(facts->first) ? i->len : sizeof(facts->first) - 1;
	end = memchr(i->bytes, '\n', len);
	if (end)
		len = (size_t)(end - (const char *)i->bytes);
	memcpy(facts->first, i->bytes, len);
	facts->first[len] = '\0';
}

static void look_at(const struct image *i, struct executable_facts *facts)
{
	const Elf64_Ehdr *h = (const void *)i->bytes;

	if (i->len < sizeof(*h) || memcmp(h->e_ident, ELFMAG, SELFMAG)) {
		look_at_script(i, facts);
		return;
	}
	facts->elf = true;
	facts->machine = h->e_machine;
	facts->bits = h->e_ident[EI_CLASS] == ELFCLASS32 ? 32 : 64;
	facts->ours = same_machine(h);
	if (!facts->ours)
		return;
	look_for_loader(i, facts);
	look_at_sections(i, facts);
}

int executable_look(const char *path, struct executable_facts *facts)
{
	struct image i = { MAP_FAILED, 0 };
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int err;

	memset(facts, 0, sizeof(*facts));
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) {
		i.len = (size_t)st.st_size;
		i.bytes = mmap(NULL, i.len, PROT_READ, MAP_PRIVATE, fd, 0);
	}
	err = errno;
	close(fd);
	if (i.bytes == MAP_FAILED)
		return i.len ? -err : 0;
	look_at(&i, facts);
	munmap((void *)(uintptr_t)i.bytes, i.len);
	return 0;
}

/* ---- The loader --------------------------------------------------------- */

/* As ldd does. Others than the GNU C library's would run the program. */
static bool can_trace(const char *loader)
{
	const char *name = strrchr(loader, '/');

	return name && (!strncmp(name, "/ld-linux", 9) ||
			!strncmp(name, "/ld64.so", 8) ||
			!strcmp(name, "/ld.so.1"));
}

static void trace(const char *loader, const char *path, int to)
{
	int null = open("/dev/null", O_RDWR);

	dup2(null, STDIN_FILENO);
	dup2(to, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	setenv("LD_TRACE_LOADED_OBJECTS", "1", 1);
	unsetenv("LD_PRELOAD");
	unsetenv("LD_DEBUG");
	unsetenv("LD_VERBOSE");
	execl(loader, loader, path, (char *)NULL);
	_exit(1);
}

/* A line is "\tlibssl.so.3 => /usr/lib/libssl.so.3 (0x...)". */
static bool is_library(const char *line, const char *begin, const char *but,
		       char name[NAME_MAX])
{
	const char *slash;

	if (sscanf(line, " %254s", name) != 1)
		return false;
	slash = strrchr(name, '/');
	if (slash)
		memmove(name, slash + 1, strlen(slash));
	return !strncmp(name, begin, strlen(begin)) && strcmp(name, but) != 0;
}

bool executable_loads(const char *loader, const char *path, const char *begin,
		      const char *but, char name[NAME_MAX])
{
	char line[PATH_MAX + NAME_MAX];
	bool found = false;
	int pipes[2];
	pid_t child;
	FILE *f;

	if (!can_trace(loader) || pipe2(pipes, O_CLOEXEC))
		return false;
	child = fork();
	if (child == 0)
		trace(loader, path, pipes[1]);
	close(pipes[1]);
	f = fdopen(pipes[0], "r");
	while (f && !found && fgets(line, sizeof(line), f))
		found = is_library(line, begin, but, name);
	if (f)
		fclose(f);
	if (child > 0)
		waitpid(child, NULL, 0);
	return found;
}
