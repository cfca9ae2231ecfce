# SPDX-License-Identifier: MIT
"""Cases that need a kernel with AF_ALG and kTLS, in tests/vm/run's VM."""

import json
import os
import re
import shlex
import subprocess
import tempfile

NAME = "bench-vm"


def finish(command):
	"""Run a command; when interrupted, let it stop its VM."""
	process = subprocess.Popen(command, text=True, stdin=subprocess.DEVNULL,
		stdout=subprocess.PIPE, stderr=subprocess.PIPE)
	try:
		return process.communicate()
	except KeyboardInterrupt:
		process.terminate()
		process.wait(20)
		raise


def libraries(program):
	"""What the loader wants, all by its path on the host."""
	found = subprocess.run(["ldd", program], capture_output=True, text=True,
		check=False).stdout
	return re.findall(r"(?:=> )?(/\S+)", found)


def script(cases, runs):
	"""What /init runs: all cases in turn. @case marks what follows."""
	yield "#!/bin/sh"
	for _ in range(runs):
		for i, case in enumerate(cases):
			yield "echo; echo @case %d" % i
			yield shlex.join([*case.contender.prefix,
				case.contender.program, *case.arguments,
				*case.contender.flags]) + " 2>&1"
	yield "exit 0"


def parse(lines, cases, results):
	case, said = None, {}
	for line in lines:
		line = line.strip()
		mark = re.match(r"@case (\d+)$", line)
		if mark:
			case = cases[int(mark.group(1))]
		elif case and line.startswith("{"):
			results.add(case, json.loads(line))
		elif case and line:
			said.setdefault(case.key(), line)
	for case in cases:
		if case.key() not in results.runs:
			results.fail(case, said.get(case.key(), "no result in the VM"))


def run_all(root, cases, runs, results):
	with tempfile.TemporaryDirectory(prefix="asynctls-bench.") as work:
		program = os.path.join(work, NAME)
		with open(program, "w", encoding="utf-8") as out:
			out.write("\n".join(script(cases, runs)) + "\n")
		os.chmod(program, 0o755)
		files = set()
		for case in cases:
			files.update([case.contender.program,
				*libraries(case.contender.program)])
		_, said = finish([os.path.join(root, "tests/vm/run"),
			"--log-dir", work, "--timeout", "400", "--each", "360",
			*(word for f in sorted(files)
				for word in ("--file", "%s:%s" % (f, f))),
			program])
		log = os.path.join(work, NAME + ".log")
		if not os.path.exists(log):
			why = said.strip().splitlines() or ["it said nothing"]
			for case in cases:
				results.fail(case, "the VM did not run: " + why[-1])
			return
		with open(log, encoding="utf-8") as lines:
			parse(lines, cases, results)


def depth(root, build):
	"""Throughput against depth, as vm_bulk prints it; None if it failed."""
	made = subprocess.run([os.path.join(root, "tests/kmod/build")],
		capture_output=True, text=True, check=False)
	if made.returncode:
		return None
	said, _ = finish([os.path.join(root, "tests/vm/run"),
		"--module", made.stdout.strip(), "--env",
		"ASYNCTLS_TESTS=throughput*",
		os.path.join(build, "tests/vm_bulk")])
	rows = [line for line in said.splitlines() if re.search(
		r"\(parallelism \d+\)|^\s*depth +\d+ ms|^\s*\d+(\s+\d+\s+\d+ %)+",
		line)]
	return "\n".join(rows) + "\n" if rows else None
