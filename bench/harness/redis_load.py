#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""redis-benchmark on the second processor: prints one line of JSON as the other
programs of the benchmark do."""

import argparse
import csv
import json
import os
import subprocess


def benchmark(args, test, connections, requests):
	done = subprocess.run(["redis-benchmark", "--tls", "--insecure", "-p",
		str(args.port), "-c", str(connections), "-d", str(args.size), "-P",
		str(args.pipeline), "-n", str(requests), "-t", test, "--csv"],
		capture_output=True, text=True, check=False)
	rows = list(csv.DictReader(done.stdout.splitlines()))
	if done.returncode or not rows:
		raise SystemExit("redis-benchmark: " + (done.stderr or done.stdout
			or "it said nothing").strip().splitlines()[-1])
	return rows[-1]


def main():
	parser = argparse.ArgumentParser(description=__doc__)
	for name in ("port", "size", "pipeline", "requests"):
		parser.add_argument("--" + name, type=int, required=True)
	args = parser.parse_args()
	os.sched_setaffinity(0, {1})
	benchmark(args, "set", 1, 1)	# what is got then
	n = args.requests
	row = benchmark(args, "get", 16, n)
	rate = float(row["rps"])
	print(json.dumps({
		"contender": "redis-benchmark",
		"library": subprocess.run(["redis-benchmark", "--version"],
			capture_output=True, text=True, check=False).stdout.strip(),
		"requests": n,
		"bytes": n * args.size,
		"wall_ns": n / rate * 1e9,
		"requests_per_s": rate,
		"p50_us": 1000 * float(row["p50_latency_ms"]),
		"p99_us": 1000 * float(row["p99_latency_ms"]),
	}))


main()
