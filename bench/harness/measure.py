# SPDX-License-Identifier: MIT
"""Run cases, in turn and several times, and keep what they print."""

import json
import statistics
import subprocess

PATIENCE = 60	# seconds for a single run


class Failed(Exception):
	pass


def run_process(process, server, waits):
	"""Returns what it printed, and the server's CPU time when it began."""
	before = server.cpu_seconds() if server else 0
	if waits and process.stdout.readline() == "ready\n":
		before = server.cpu_seconds()	# without handshakes
		process.stdin.write("\n")
	out, err = process.communicate(timeout=PATIENCE)
	if process.returncode:
		lines = err.strip().splitlines() or ["exit status %d" %
			process.returncode]
		raise Failed(lines[0])
	return out, before


def run_once(case):
	command = [*case.contender.prefix, case.contender.program,
		*case.arguments, *case.contender.flags]
	server = case.contender.server
	try:
		with subprocess.Popen(command, stdin=subprocess.PIPE,
				stdout=subprocess.PIPE, stderr=subprocess.PIPE,
				text=True) as process:
			try:
				out, before = run_process(process, server,
					"--wait" in case.arguments)
			except BaseException:
				process.kill()
				raise
	except subprocess.TimeoutExpired:
		raise Failed("no result within %d s" % PATIENCE) from None
	except OSError as error:
		raise Failed(str(error)) from None
	result = json.loads(out)
	if server:
		used = server.cpu_seconds() - before
		result.update(gb_per_s=result["bytes"] / result["wall_ns"],
			cpu_s_per_gb=used * 1e9 / result["bytes"])
	return result


class Results:
	"""Runs of each case. A case that fails once is run no more."""

	def __init__(self):
		self.runs = {}		# key -> list of results
		self.cases = {}		# key -> case, in order
		self.failures = {}	# key -> words

	def add(self, case, result):
		self.cases[case.key()] = case
		self.runs.setdefault(case.key(), []).append(result)

	def fail(self, case, why):
		self.failures[case.key()] = (case, why)
		self.cases.pop(case.key(), None)
		self.runs.pop(case.key(), None)

	def values(self, case, what):
		return [run[what] for run in self.runs[case.key()] if what in run]

	def median(self, case, what):
		values = self.values(case, what)
		return statistics.median(values) if values else None

	def find(self, workload, contender, **wanted):
		"""The case of a contender's name, with these attributes."""
		for case in self.cases.values():
			if (case.workload == workload and
					case.contender.name == contender and all(
					getattr(case, k) == v
					for k, v in wanted.items())):
				return case
		return None


def rounds(cases, runs):
	"""Each table's cases in turn, as many rounds as there are runs."""
	tables = {}
	for case in cases:
		tables.setdefault((case.workload, case.table), []).append(case)
	for table in tables.values():
		once = table[0].workload == "memory"
		for _ in range(1 if once else runs * table[0].often):
			yield from table


def run_all(cases, runs, results, step):
	for case in rounds(cases, runs):
		step(case)
		if case.key() in results.failures:
			continue
		try:
			results.add(case, run_once(case))
		except Failed as why:
			results.fail(case, str(why))
