# SPDX-License-Identifier: MIT
"""Tables: on the terminal, as JSON, and as Markdown for README."""

import rich.box
import rich.table

# What a cell of each workload shows: attribute, format; the first has min-max.
CELLS = {
	"vm": (("gb_per_s", "%.4f"), ("cpu_s_per_gb", "%.1f")),
	"bulk": (("gb_per_s", "%.2f"), ("cpu_s_per_gb", "%.2f")),
	"drop-in": (("gb_per_s", "%.2f"), ("cpu_s_per_gb", "%.3f"),
		("p99_us", "%.0f")),
	"request": (("requests_per_s", "%.0f"), ("p50_us", "%.0f"),
		("p99_us", "%.0f"), ("p99_9_us", "%.0f")),
	"memory": (("idle_bytes", "%.0f"), ("active_bytes", "%.0f"),
		("takeovers_per_s", "%.0f")),
}
LEGEND = {
	"vm": "GB/s (least–most) · CPU s/GB",
	"bulk": "GB/s (least–most) · CPU s/GB",
	"drop-in": "GB/s (least–most) · CPU s/GB · p99 µs",
	"request": "requests/s (least–most) · p50 · p99 · p99.9 µs",
	"memory": "idle bytes · active bytes · taken over/s",
}


SOCKETS = ("Loopback TCP, congestion control reno (servers of files: the "
	"system's), Nagle on in bulk and off for requests and files, SO_SNDBUF "
	"and SO_RCVBUF untouched; sender or server on processor 0, its peer on "
	"processor 1; medians.")


def style(workload):
	return workload if workload in CELLS else "bulk"


def cell(results, case, spread=True):
	parts = []
	for i, (what, form) in enumerate(CELLS[style(case.workload)]):
		values = results.values(case, what)
		if not values:
			continue
		text = form % results.median(case, what)
		if i == 0 and spread and len(values) > 1:
			text += " (%s–%s)" % (form % min(values), form % max(values))
		parts.append(text)
	return " · ".join(parts)


def tables(results):
	"""For each: title, workload, columns, {contender: {column: case}}."""
	grouped = {}
	for case in results.cases.values():
		grouped.setdefault((case.table, case.workload), []).append(case)
	for (title, workload), cases in grouped.items():
		columns = list(dict.fromkeys(
			c.column for c in sorted(cases, key=lambda c: c.size)))
		rows = {}
		for case in cases:
			rows.setdefault(case.contender.name, {})[case.column] = case
		# The limit first, ours last.
		names = sorted(rows, key=lambda n: (n.startswith("libasynctls"),
			n != "plain"))
		yield title, workload, columns, {n: rows[n] for n in names}


def on_terminal(results, console):
	console.print(SOCKETS + "\n", markup=False, highlight=False)
	for title, workload, columns, rows in tables(results):
		console.print("%s\n%s" % (title, LEGEND[style(workload)]),
			style="bold", markup=False, highlight=False)
		table = rich.table.Table(box=rich.box.SIMPLE)
		table.add_column("")
		for column in columns:
			table.add_column(column, no_wrap=True)
		for name, row in rows.items():
			table.add_row(name, *(cell(results, row[c]) if c in row
				else "–" for c in columns))
		console.print(table)


def failures(results, console):
	for case, why in results.failures.values():
		console.print("left out: %s, %s, %s: %s" % (case.contender.name,
			case.workload, case.column, why), markup=False,
			highlight=False)


def versions(results):
	return sorted({run["library"] for runs in results.runs.values()
		for run in runs if not run["contender"] == "plain"})


def markdown(results, goals, about):
	machine = about["machine"]
	yield SOCKETS + "\n"
	yield "Measured %s: %s, %d processors, %s; %s; commit %s.\n" % (
		about["date"], machine["processor"], machine["processors"],
		machine["kernel"], ", ".join(versions(results)),
		machine["commit"])
	for title, workload, columns, rows in tables(results):
		yield "%s; %s.\n" % (title, LEGEND[style(workload)].replace(
			" (least–most)", ""))
		yield "| | %s |" % " | ".join(columns)
		yield "|---|%s" % ("---|" * len(columns))
		for name, row in rows.items():
			yield "| %s | %s |" % (name, " | ".join(
				cell(results, row[c], False) if c in row else "–"
				for c in columns))
		yield ""
	yield from targets_markdown(goals)


def targets_markdown(goals):
	yield "| what | goal | measured | |"
	yield "|---|---|---|---|"
	for goal in goals:
		if goal.ratio is not None:
			yield "| %s | %s %g × | %.2f × (%.4g against %.4g %s) | %s |" % (
				goal.what, "≥" if goal.least else "≤", goal.goal,
				goal.ratio, goal.ours, goal.theirs, goal.unit,
				"met" if goal.met else "**missed**")
	yield ""


def record(results):
	"""What results.json says of each case."""
	for case in results.cases.values():
		runs = results.runs[case.key()]
		medians = {}
		for what, _ in CELLS[style(case.workload)]:
			values = results.values(case, what)
			if values:
				medians[what] = {"median": results.median(case, what),
					"min": min(values), "max": max(values)}
		yield {
			"workload": case.workload,
			"table": case.table,
			"contender": case.contender.name,
			"column": case.column,
			"size": case.size,
			"connections": case.connections,
			"cipher": case.cipher,
			"version": case.version,
			"measured": medians,
			"runs": runs,
		}
