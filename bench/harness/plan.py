# SPDX-License-Identifier: MIT
"""What is measured: contenders, and the cases of each workload."""

import dataclasses
import os

KIB = 1024
AES128, AES256 = "aes-128-gcm", "aes-256-gcm"
CHACHA = "chacha20-poly1305"


@dataclasses.dataclass(frozen=True)
class Contender:
	"""A library, as one of the programs runs it."""
	name: str
	program: str
	flags: tuple = ()
	prefix: tuple = ()	# what the program is started with
	server: object = None	# that it is a client of


@dataclasses.dataclass(frozen=True)
class Case:
	"""One number to be measured: a cell of a table."""
	workload: str		# what --only names
	table: str		# what they are shown under
	contender: Contender
	arguments: tuple
	column: str
	size: int = 0
	connections: int = 1
	cipher: str = AES128
	version: str = "1.3"
	often: int = 1		# runs for one of others

	def key(self):
		return (self.workload, self.contender.name, self.cipher,
			self.version, self.size, self.connections, self.column)


@dataclasses.dataclass(frozen=True)
class Effort:
	"""How long and how often."""
	quick: bool
	runs: int
	ms: int			# of a run in bulk, or of requests
	stream: str		# sealed beforehand, to be received
	connections: int	# of the memory workload


FULL = Effort(False, 5, 400, "512M", 1000)
QUICK = Effort(True, 2, 150, "192M", 300)


def words(size):
	if size >= KIB * KIB:
		return "%d MiB" % (size // KIB // KIB)
	return "%d KiB" % (size // KIB) if size >= KIB else "%d B" % size


class Contenders:
	"""All that can take part; new_openssl is None or a command prefix."""

	def __init__(self, programs, new_openssl, afalg):
		def there(name):
			return os.path.exists(os.path.join(programs, name))

		def make(name, program, *flags, prefix=()):
			path = os.path.join(programs, program)
			return Contender(name, path, flags, tuple(prefix))

		self.plain = make("plain", "bench-plain")
		self.openssl = make("OpenSSL", "bench-openssl")
		self.epoll = make("OpenSSL, epoll", "bench-openssl", "--epoll")
		self.asynctls = make("libasynctls", "bench-asynctls")
		self.worker = make("libasynctls, worker", "bench-asynctls",
			"--context", "worker")
		self.poll = make("libasynctls, poll", "bench-asynctls",
			prefix=("env", "ASYNCTLS_IO=poll"))
		self.new_openssl = [make("OpenSSL 3.5", "bench-openssl",
			prefix=new_openssl)] if new_openssl else []
		self.gnutls = [make("GnuTLS", "bench-gnutls")] if there(
			"bench-gnutls") else []
		self.in_vm = [
			self.plain,
			self.openssl,
			make("OpenSSL, kTLS", "bench-openssl", "--ktls"),
			make("libkcapi", "bench-kcapi"),
			self.asynctls,
			make("libasynctls, afalg", "bench-asynctls",
				"--engine", "afalg"),
			make("libasynctls, afalg, pcrypt", "bench-asynctls",
				"--engine", "afalg", prefix=("env", "ASYNCTLS_DRIVER="
				"pcrypt(generic-gcm-aesni)")),
		]
		self.client = make("", "bench-openssl")
		self.afalg = [make("libasynctls, afalg", "bench-asynctls",
			"--engine", "afalg")] if afalg else []

	def tls(self):
		return [self.openssl, *self.new_openssl, *self.gnutls,
			self.asynctls]

	def kinds(self):
		return [self.worker, self.poll, *self.afalg]


def bulk(workload, contenders, sizes, effort, cipher=AES128, version="1.3"):
	title = {
		"send": "Bulk send to a sink",
		"both": "Bulk, the same library at both ends",
		"receive": "Bulk receive of a stream sealed beforehand",
	}[workload]
	length = ("--bytes", effort.stream) if workload == "receive" else (
		"--ms", str(effort.ms))
	for size in sizes:
		for c in contenders:
			yield Case(workload,
				"%s: %s, TLS %s" % (title, cipher, version), c,
				(workload, "--size", str(size), "--cipher", cipher,
				 "--version", version) + length,
				words(size), size, 1, cipher, version)


def send(c, effort):
	sizes = [1, 16, 256] if effort.quick else [1, 4, 16, 64, 256]
	sizes = [s * KIB for s in sizes]
	yield from bulk("send", [c.plain, c.openssl, c.epoll, *c.new_openssl,
		*c.gnutls, c.asynctls, *c.kinds()], sizes, effort)
	few = [16 * KIB] if effort.quick else [KIB, 16 * KIB, 256 * KIB]
	yield from bulk("send", c.tls(), few, effort, CHACHA)
	if not effort.quick:
		yield from bulk("send", c.tls(), few, effort, AES256)
		yield from bulk("send", c.tls(), few, effort, AES128, "1.2")


def receive(c, effort):
	sizes = [16 * KIB]
	yield from bulk("receive", [c.plain, *c.tls(), *c.kinds()], sizes, effort)
	if not effort.quick:
		for cipher in (AES256, CHACHA):
			yield from bulk("receive", c.tls(), sizes, effort, cipher)


def both(c, effort):
	sizes = [16 * KIB] if effort.quick else [KIB, 16 * KIB, 256 * KIB]
	yield from bulk("both", [c.plain, *c.tls(), *c.kinds()], sizes, effort)


def request(c, effort):
	"""What wake-ups cost comes and goes: often, where there is a goal."""
	for n in (1, 1000) if effort.quick else (1, 100, 1000):
		often = {1: 3, 1000: 2}.get(n, 1)
		ms = effort.ms // 3 if n == 1 else effort.ms
		for size in (KIB,) if effort.quick else (64, KIB, 16 * KIB):
			some = [c.plain, c.openssl, c.asynctls]
			if size == KIB:
				some = [c.plain, *c.tls(), c.poll]
			for contender in some:
				yield Case("request", "Requests of 64 bytes on %d "
					"connection%s: %s, TLS 1.3" % (
					n, "" if n == 1 else "s", AES128),
					contender, ("request", "--size", str(size),
					"--conns", str(n), "--ms",
					str(ms), "--nodelay"), words(size), size,
					n, often=often)


def cores(c, effort):
	for contender in (c.plain, c.openssl, c.asynctls):
		for n in (1, 2):
			yield Case("cores", "Contexts, each with its sink on a "
				"processor of its own: %s, TLS 1.3" % AES128,
				contender, ("send", "--pairs", str(n), "--cpu", "0",
				"--peer-cpu", "0", "--ms", str(effort.ms)),
				"%d context%s" % (n, "" if n == 1 else "s"),
				16 * KIB, n)


def memory(c, effort):
	for contender in c.tls():
		yield Case("memory", "Memory of each of %d connections: %s, "
			"TLS 1.3" % (effort.connections, AES128), contender,
			("memory", "--conns", str(effort.connections)), "each",
			0, effort.connections)


FILES = (4 * KIB, 64 * KIB, KIB * KIB)


def files(c, effort, servers):
	"""The load comes from bench-openssl, on the second processor."""
	for size in FILES[1:2] if effort.quick else FILES:
		for server in servers:
			yield Case("files", "Files over HTTPS, 16 connections: %s, "
				"TLS 1.3" % AES128, dataclasses.replace(c.client,
				name=server.name, server=server), ("fetch", "--cpu",
				"1", "--conns", "16", "--nodelay", "--ms",
				str(effort.ms), "--port", str(server.port),
				"--path", "/%d" % size), words(size), size, 16)


def vm(c, effort):
	for contender in c.in_vm:
		yield Case("vm", "In a VM without KVM, Debian's kernel, bulk send "
			"of 16 KiB writes to a sink: %s, TLS 1.3 (only ratios "
			"mean something)" % AES128, contender,
			("send", "--ms", "800"), "16 KiB", 16 * KIB)


WORKLOADS = {
	"send": send,
	"receive": receive,
	"both": both,
	"request": request,
	"cores": cores,
	"memory": memory,
}


def cases(names, contenders, effort):
	for name, workload in WORKLOADS.items():
		if name in names:
			yield from workload(contenders, effort)
