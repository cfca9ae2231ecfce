#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""pgbench on the second processor: prints one line of JSON as the other programs
of the benchmark do."""

import argparse
import glob
import json
import os
import re
import shutil
import subprocess

CONNECTIONS = 4


def pgbench(*arguments):
	path = ":".join([os.environ["PATH"],
		*glob.glob("/usr/lib/postgresql/*/bin")])
	done = subprocess.run([shutil.which("pgbench", path=path), *arguments],
		capture_output=True, text=True, check=False, close_fds=False,
		env={**os.environ, "PGSSLMODE": "require"})
	if done.returncode:
		raise SystemExit("pgbench: " + done.stderr.strip()[-200:])
	return done.stdout


def main():
	parser = argparse.ArgumentParser(description=__doc__)
	for name in ("port", "size", "requests"):
		parser.add_argument("--" + name, type=int, required=True)
	args = parser.parse_args()
	os.sched_setaffinity(0, {1})
	script = "/dev/fd/%d" % os.memfd_create("script", 0)
	with open(script, "w", encoding="ascii") as out:
		out.write("select repeat('x', %d);\n" % args.size)
	os.set_inheritable(int(script.rpartition("/")[2]), True)
	n = args.requests // CONNECTIONS * CONNECTIONS
	said = pgbench("-h", "127.0.0.1", "-p", str(args.port), "-U", "bench",
		"-n", "-f", script, "-c", str(CONNECTIONS), "-t",
		str(n // CONNECTIONS), "postgres")
	rate = float(re.search(r"^tps = ([0-9.]+)", said, re.M).group(1))
	print(json.dumps({
		"contender": "pgbench",
		"library": pgbench("--version").strip(),
		"requests": n,
		"bytes": n * args.size,
		"wall_ns": n / rate * 1e9,
		"requests_per_s": rate,
	}))


main()
