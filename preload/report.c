/* SPDX-License-Identifier: MIT */
#include "report.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { REASONS = 100, REASON = 512 };

struct reason {
	char why[REASON];
	uint64_t count;
};

struct report {
	uint64_t processes, taken, returned, failed, refused_fork;
	uint64_t tx_records, tx_bytes, rx_records, rx_bytes, receives, sends;
	uint64_t declined;
	struct reason reasons[REASONS];
	int count;
};

/* ---- Reading what tally.c has written ----------------------------------- */

/* A name between quotes: in a string the quotes have backslashes. */
static uint64_t number(const char *line, const char *name)
{
	char key[64];
	const char *found;

	snprintf(key, sizeof(key), "\"%s\":", name);
	found = strstr(line, key);
	return found ? strtoull(found + strlen(key), NULL, 10) : 0;
}

/* Behind the opening quote of a string; returns what is behind the closing one.
 * Others may write to the file: nothing but ASCII gets to the terminal. */
static const char *text(const char *p, char why[REASON])
{
	size_t n = 0;

	while (*p && *p != '"') {
		char c = *p++;

		if (c == '\\' && *p == 'u') {
			p += strnlen(p, 5);
			c = '?';
		} else if (c == '\\' && *p) {
			c = *p++;
		}
		if (n < REASON - 1)
			why[n++] = isprint((unsigned char)c) ? c : '?';
	}
	why[n] = '\0';
	return *p ? p + 1 : p;
}

static void add_reason(struct report *r, const char *why, uint64_t count)
{
	int i;

	r->declined += count;
	for (i = 0; i < r->count; i++)
		if (!strcmp(r->reasons[i].why, why))
			break;
	if (i == REASONS)
		i--;
	if (i == r->count) {
		r->count++;
		strcpy(r->reasons[i].why, why);
	}
	r->reasons[i].count += count;
}

static void add_reasons(struct report *r, const char *line)
{
	const char *p = strstr(line, "\"declined\":{");
	char why[REASON], *end;

	p = p ? p + strlen("\"declined\":{") : "";
	while (*p == '"' || *p == ',') {
		if (*p++ == ',')
			continue;
		p = text(p, why);
		if (*p != ':')
			return;
		add_reason(r, why, strtoull(p + 1, &end, 10));
		p = end;
	}
}

static void add_line(struct report *r, const char *line)
{
	const char *held = strstr(line, "\"held\":{");

	r->processes += number(line, "taken") > 0;
	r->taken += number(line, "taken");
	r->returned += number(line, "returned");
	r->failed += number(line, "failed");
	r->refused_fork += number(line, "refused_fork");
	r->tx_records += number(line, "tx_records");
	r->tx_bytes += number(line, "tx_bytes");
	r->rx_records += number(line, "rx_records");
	r->rx_bytes += number(line, "rx_bytes");
	r->receives += number(line, "receives");
	r->sends += held ? number(held, "sends") : 0;
	add_reasons(r, line);
}

/* ---- The last line of each process -------------------------------------- */

struct lines {
	char **line;
	size_t count, size;
};

static size_t key_len(const char *line)
{
	const char *end = strstr(line, ",\"program\"");

	return end ? (size_t)(end - line) : strlen(line);
}

static bool same_process(const char *a, const char *b)
{
	return key_len(a) == key_len(b) && !memcmp(a, b, key_len(a));
}

static struct lines read_lines(const char *file, off_t from)
{
	struct lines l = { NULL, 0, 0 };
	FILE *f = fopen(file, "re");
	char *line = NULL;
	size_t room = 0;

	if (!f)
		return l;
	fseeko(f, from, SEEK_SET);
	while (getline(&line, &room, f) > 0) {
		if (strncmp(line, "{\"pid\":", 7))
			continue;
		if (l.count == l.size) {
			l.size = 2 * l.size + 64;
			l.line = realloc(l.line, l.size * sizeof(*l.line));
			if (!l.line)
				abort();
		}
		l.line[l.count] = strdup(line);
		if (l.line[l.count])
			l.count++;
	}
	free(line);
	fclose(f);
	return l;
}

/* By process, and in the order in which they came. */
static int compare(const void *a, const void *b, void *arg)
{
	char **lines = arg;
	size_t i = *(const size_t *)a, j = *(const size_t *)b;
	size_t m = key_len(lines[i]), n = key_len(lines[j]);
	int order = memcmp(lines[i], lines[j], m < n ? m : n);

	if (!order && m != n)
		order = m < n ? -1 : 1;
	return order ? order : (i > j) - (i < j);
}

static void add_lines(struct report *r, struct lines *l)
{
	size_t *order = calloc(l->count + 1, sizeof(*order)), i;

	if (!order)
		return;
	for (i = 0; i < l->count; i++)
		order[i] = i;
	qsort_r(order, l->count, sizeof(*order), compare, l->line);
	for (i = 0; i < l->count; i++) {
		char *line = l->line[order[i]];

		if (i + 1 == l->count ||
		    !same_process(line, l->line[order[i + 1]]))
			add_line(r, line);
	}
	free(order);
}

/* ---- In words ----------------------------------------------------------- */

/* What whoever runs the program can do, by a part of the reason. */
static const char *advice(const char *why)
{
	static const struct {
		const char *part, *advice;
	} known[] = {
		{ "SSL_set_fd()", "the program moves the bytes itself, as "
				  "HAProxy, Apache, curl and asyncio do: "
				  "nothing to set" },
		{ "BIO", "the program moves the bytes itself, as HAProxy, "
			 "Apache, curl and asyncio do: nothing to set" },
		{ "cipher suite", "have it choose AES-GCM or ChaCha20-Poly1305, "
				  "by its own settings or CipherString in "
				  "OpenSSL's" },
		{ "kTLS", "turn kTLS off: no Options = KTLS" },
		{ "only TLS 1.2 and 1.3", "allow TLS 1.2 or 1.3 at both ends" },
		{ "compression", "turn TLS compression off" },
	};
	size_t i;

	for (i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (strstr(why, known[i].part))
			return known[i].advice;
	return NULL;
}

static const char *plural(uint64_t n)
{
	return n == 1 ? "" : "s";
}

static void print_amount(FILE *to, const char *verb, uint64_t bytes,
			 uint64_t records, uint64_t calls, const char *call)
{
	static const char *const units[] = { "B", "kB", "MB", "GB", "TB" };
	double amount = (double)bytes;
	int unit = 0;

	for (; amount >= 1000 && unit < 4; unit++)
		amount /= 1000;
	fprintf(to, "  %s %.*f %s in %" PRIu64 " record%s, with %" PRIu64
		" %s%s\n", verb, unit ? 1 : 0, amount, units[unit], records,
		plural(records), calls, call, plural(calls));
}

static void print_trouble(FILE *to, const struct report *r)
{
	if (r->returned)
		fprintf(to, "  %" PRIu64 " of them went back to OpenSSL later\n",
			r->returned);
	if (r->failed)
		fprintf(to, "  %" PRIu64 " of them ended with an error\n",
			r->failed);
	if (r->refused_fork)
		fprintf(to, "  %" PRIu64 " of them were refused to a process: "
			"after a fork() another one had gone on with them\n",
			r->refused_fork);
}

static void print_nothing(FILE *to)
{
	const char *switched = getenv("ASYNCTLS_DROPIN");

	if (switched && !strcmp(switched, "off"))
		fputs("asynctls-run: ASYNCTLS_DROPIN is off: all connections "
		      "stayed with OpenSSL\n", to);
	else
		fputs("asynctls-run: no TLS connection of OpenSSL 3 was seen: does the "
		      "program use another library,\n  or start its work with "
		      "another environment (LD_PRELOAD unset), or by setuid?\n",
		      to);
}

static void print(FILE *to, const struct report *r)
{
	int i;

	if (!r->taken && !r->declined) {
		print_nothing(to);
		return;
	}
	fprintf(to, "asynctls-run: %" PRIu64 " connection%s taken over by %" PRIu64
		" process%s, %" PRIu64 " not%s\n", r->taken, plural(r->taken),
		r->processes, r->processes == 1 ? "" : "es", r->declined,
		r->declined ? ":" : "");
	for (i = 0; i < r->count; i++) {
		const char *do_this = advice(r->reasons[i].why);

		fprintf(to, "  %" PRIu64 ": %s\n", r->reasons[i].count,
			r->reasons[i].why);
		if (do_this)
			fprintf(to, "     (%s)\n", do_this);
	}
	if (!r->taken)
		return;
	print_amount(to, "sent", r->tx_bytes, r->tx_records, r->sends, "send");
	print_amount(to, "received", r->rx_bytes, r->rx_records, r->receives,
		     "receive");
	print_trouble(to, r);
}

void report_print(FILE *to, const char *file, off_t from)
{
	struct report *r = calloc(1, sizeof(*r));
	struct lines l = read_lines(file, from);
	size_t i;

	if (!r)
		abort();
	add_lines(r, &l);
	print(to, r);
	for (i = 0; i < l.count; i++)
		free(l.line[i]);
	free(l.line);
	free(r);
}
