# SPDX-License-Identifier: MIT
"""SVG plots of the results."""

import os

import matplotlib
matplotlib.use("svg")
import matplotlib.pyplot as pyplot	# noqa: E402, after use()

from . import plan

COLOURS = {
	"plain": "#888888",
	"OpenSSL": "#c1440e",
	"OpenSSL, epoll": "#e39a6f",
	"OpenSSL 3.5": "#7b4b94",
	"GnuTLS": "#3a7d44",
	"libasynctls": "#1b6ca8",
	"libasynctls, worker": "#6fb1e3",
	"libasynctls, poll": "#3f8fc4",
	"libasynctls, afalg": "#0b2f4a",
}


def axes(title, ylabel):
	figure, ax = pyplot.subplots(figsize=(7.2, 4.4))
	ax.set_title(title, fontsize=11)
	ax.set_ylabel(ylabel)
	ax.grid(color="#dddddd")
	return figure, ax


def save(figure, ax, path):
	ax.legend(frameon=False, fontsize=9)
	figure.tight_layout()
	figure.savefig(path, format="svg", metadata={"Date": None})
	pyplot.close(figure)
	return path


def curves(results, workload, **wanted):
	"""{contender: cases by size}"""
	found = {}
	for case in results.cases.values():
		if case.workload == workload and all(
				getattr(case, k) == v for k, v in wanted.items()):
			found.setdefault(case.contender.name, []).append(case)
	return {name: sorted(cases, key=lambda c: c.size)
		for name, cases in found.items()}


def by_size(results, what, title, ylabel, path):
	lines = curves(results, "send", cipher=plan.AES128, version="1.3")
	if not lines:
		return None
	figure, ax = axes(title, ylabel)
	for name, cases in lines.items():
		sizes = [c.size for c in cases]
		ax.plot(sizes, [results.median(c, what) for c in cases],
			marker="o", color=COLOURS.get(name), label=name)
		ax.fill_between(sizes,
			[min(results.values(c, what)) for c in cases],
			[max(results.values(c, what)) for c in cases],
			color=COLOURS.get(name), alpha=.12, linewidth=0)
	ticks = sorted({c.size for cases in lines.values() for c in cases})
	ax.set_xscale("log", base=2)
	ax.set_xticks(ticks, [plan.words(t) for t in ticks])
	ax.set_xlabel("application write")
	ax.set_ylim(bottom=0)
	return save(figure, ax, path)


def latency(results, path):
	parts = ("p50_us", "p99_us", "p99_9_us")
	lines = curves(results, "request", size=plan.KIB)
	if not lines:
		return None
	figure, ax = axes("Latency of requests answered by 1 KiB",
		"µs")
	counts = sorted({c.connections for cases in lines.values()
		for c in cases})
	for name, cases in lines.items():
		xs, ys = [], []
		for case in sorted(cases, key=lambda c: c.connections):
			at = 4 * counts.index(case.connections)
			xs += [at, at + 1, at + 2, at + 2]
			ys += [results.median(case, p) for p in parts]
			ys += [float("nan")]	# a gap between the counts
		ax.plot(xs, ys, marker="o", color=COLOURS.get(name), label=name)
	ax.set_yscale("log")
	ax.set_xticks([4 * i + j for i in range(len(counts)) for j in range(3)],
		["%s%s" % (part, "\n%d connection%s" % (n, "" if n == 1 else "s")
			if part == "p99" else "")
		for n in counts for part in ("p50", "p99", "p99.9")])
	return save(figure, ax, path)


def all_plots(results, directory):
	"""Draw what there are results for; yields the paths."""
	def path(name):
		return os.path.join(directory, name + ".svg")

	title = "Bulk send to a sink, %s, TLS 1.3" % plan.AES128.upper()
	for made in (
			by_size(results, "gb_per_s", title, "GB/s",
				path("bench-throughput")),
			by_size(results, "cpu_s_per_gb", title,
				"sender's CPU seconds per GB", path("bench-cpu")),
			latency(results, path("bench-latency"))):
		if made:
			yield made
