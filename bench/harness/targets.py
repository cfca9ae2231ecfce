# SPDX-License-Identifier: MIT
"""What libasynctls wants to reach, and whether these results do."""

import dataclasses
import statistics

from . import plan

K16 = 16 * plan.KIB
K256 = 256 * plan.KIB
OURS = "libasynctls"
POLL = "libasynctls, poll"	# without io_uring


@dataclasses.dataclass
class Target:
	what: str
	goal: float
	least: bool		# the ratio has to reach the goal, or not exceed it
	ours: float = None
	theirs: float = None
	unit: str = ""
	pairs: list = None	# ratios of runs that followed each other

	@property
	def ratio(self):
		if self.pairs:
			return statistics.median(self.pairs)
		if self.ours is None or not self.theirs:
			return None
		return self.ours / self.theirs

	@property
	def met(self):
		if self.ratio is None:
			return None
		shown = round(self.ratio, 2)
		return shown >= self.goal if self.least else shown <= self.goal

	def line(self):
		sign = "≥" if self.least else "≤"
		verdict = {True: "met", False: "missed", None: "not measured"}
		text = "%-13s %s: goal %s %g ×" % (verdict[self.met], self.what,
			sign, self.goal)
		if self.ratio is None:
			return text
		return "%s, is %.2f × (%.4g against %.4g %s)" % (
			text, self.ratio, self.ours, self.theirs, self.unit)

	def record(self):
		return {**dataclasses.asdict(self), "ratio": self.ratio,
			"met": self.met}


def median(results, workload, contender, what, **wanted):
	case = results.find(workload, contender, **wanted)
	return results.median(case, what) if case else None


def pairs(results, workload, contender, other, what, **wanted):
	"""What a round has of both was measured within a second or two."""
	found = [results.find(workload, name, **wanted)
		for name in (contender, other)]
	if not all(found):
		return None
	return [a / b for a, b in zip(*(results.values(case, what)
		for case in found))]


def throughput(results):
	def compare(what, goal, workload, other, size, cipher=plan.AES128,
			ours=OURS):
		wanted = {"size": size, "cipher": cipher, "version": "1.3"}
		other_wanted = dict(wanted, cipher=plan.AES128) if (
			other == "plain") else wanted
		return Target(what, goal, True,
			median(results, workload, ours, "gb_per_s", **wanted),
			median(results, workload, other, "gb_per_s",
				**other_wanted), "GB/s")

	bulk = "bulk send, %s writes, against %s"
	yield compare(bulk % ("16 KiB", "OpenSSL 3.0"), 2.0, "send", "OpenSSL", K16)
	yield compare(bulk % ("16 KiB", "OpenSSL 3.5"), 1.5, "send",
		"OpenSSL 3.5", K16)
	yield compare(bulk % ("16 KiB", "plain send()"), 0.85, "send", "plain", K16)
	yield compare(bulk % ("1 KiB", "OpenSSL 3.0"), 4.0, "send", "OpenSSL",
		plan.KIB)
	yield compare(bulk % ("1 KiB", "plain send()"), 1.5, "send", "plain",
		plan.KIB)
	yield compare(bulk % ("256 KiB", "plain send()"), 0.70, "send", "plain",
		K256)
	for size in (plan.KIB, K16, K256):
		yield compare("bulk send, %s writes, without io_uring against "
			"with" % plan.words(size), 0.9, "send", OURS, size,
			ours=POLL)
	yield compare("both ends, 16 KiB, against OpenSSL 3.0", 2.0, "both",
		"OpenSSL", K16)
	yield compare("both ends, 16 KiB, against OpenSSL 3.5", 1.4, "both",
		"OpenSSL 3.5", K16)
	yield compare("ChaCha20-Poly1305, 16 KiB, against OpenSSL 3.0", 1.3,
		"send", "OpenSSL", K16, plan.CHACHA)


def processor_time(results):
	"""Less CPU than every TLS contender, where throughput has a goal."""
	for workload, size in (("send", plan.KIB), ("send", K16), ("send", K256),
			("both", K16)):
		wanted = {"size": size, "cipher": plan.AES128, "version": "1.3"}
		others = {}
		for case in results.cases.values():
			name = case.contender.name
			if (case.workload == workload and name != "plain" and
					not name.startswith(OURS) and all(
					getattr(case, k) == v
					for k, v in wanted.items())):
				others[name] = results.median(case, "cpu_s_per_gb")
		best = min(others, key=others.get, default=None)
		yield Target("CPU time, %s %s, against the best other, %s" % (
			workload, plan.words(size), best), 1.0, False,
			median(results, workload, OURS, "cpu_s_per_gb", **wanted),
			others.get(best), "s/GB")


def requests(results):
	def compare(what, goal, least, quantity, unit, connections, ours=OURS):
		wanted = {"size": plan.KIB, "connections": connections}
		return Target(what + ", run by run", goal, least,
			median(results, "request", ours, quantity, **wanted),
			median(results, "request", "OpenSSL", quantity, **wanted),
			unit, pairs(results, "request", ours, "OpenSSL",
				quantity, **wanted))

	one = "request, 1 KiB, 1 connection, %s, against OpenSSL"
	yield compare(one % "p50", 1.0, False, "p50_us", "µs", 1)
	yield compare(one % "p99", 1.0, False, "p99_us", "µs", 1)
	yield compare("requests, 1 KiB, 1,000 connections, against OpenSSL and "
		"epoll", 1.5, True, "requests_per_s", "/s", 1000)
	for n in (100, 1000):
		yield compare("requests, 1 KiB, %d connections, without io_uring, "
			"against OpenSSL and epoll" % n, 1.5, True,
			"requests_per_s", "/s", n, POLL)


def all_targets(results):
	yield from throughput(results)
	yield from processor_time(results)
	yield from requests(results)
	yield Target("two contexts on two processors, against one on one", 1.8,
		True, median(results, "cores", OURS, "gb_per_s", connections=2),
		median(results, "cores", OURS, "gb_per_s", connections=1), "GB/s")
	yield Target("memory of an idle connection, against OpenSSL with "
		"SSL_MODE_RELEASE_BUFFERS", 1.0, False,
		median(results, "memory", OURS, "idle_bytes"),
		median(results, "memory", "OpenSSL", "idle_bytes"), "bytes")
