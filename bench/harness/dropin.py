# SPDX-License-Identifier: MIT
"""Unmodified programs with the drop-in, and without."""

import dataclasses
import glob
import json
import os
import pwd
import shutil
import signal
import subprocess

from . import plan, servers, targets

K = plan.KIB
BIG = 64 * K * K
SIZES = (4 * K, 64 * K, K * K, BIG)
WITH = ", drop-in"
TLS = "TLS 1.3, " + plan.AES128

NGINX = """
daemon off;
worker_processes 1;
pid %(dir)s/nginx.pid;
error_log %(dir)s/nginx.log;
events { worker_connections 1024; }
http {
	access_log off;
	keepalive_requests 1000000000;
	sendfile %(sendfile)s;
	ssl_buffer_size %(buffer)s;
	client_body_temp_path %(dir)s/body;
	proxy_temp_path %(dir)s/proxy;
	fastcgi_temp_path %(dir)s/fastcgi;
	uwsgi_temp_path %(dir)s/uwsgi;
	scgi_temp_path %(dir)s/scgi;
	server {
		listen 127.0.0.1:%(port)d %(ssl)s;
		root %(work)s/files;
		ssl_certificate %(work)s/cert.pem;
		ssl_certificate_key %(work)s/key.pem;
		ssl_protocols TLSv1.3;
		ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
		ssl_session_tickets off;
	}
}
"""

LIGHTTPD = """
server.modules = ( "mod_openssl" )
server.bind = "127.0.0.1"
server.port = %(port)d
server.document-root = "%(work)s/files"
server.errorlog = "%(dir)s/log"
server.max-keep-alive-requests = 1000000000
ssl.engine = "enable"
ssl.pemfile = "%(work)s/both.pem"
ssl.openssl.ssl-conf-cmd = ( "Ciphersuites" => "TLS_AES_128_GCM_SHA256",
	"MinProtocol" => "TLSv1.3", "Options" => "-SessionTicket" )
"""

APACHE = """
ServerRoot %(dir)s
ServerName localhost
LoadModule mpm_event_module %(modules)s/mod_mpm_event.so
LoadModule authz_core_module %(modules)s/mod_authz_core.so
LoadModule ssl_module %(modules)s/mod_ssl.so
PidFile %(dir)s/pid
ErrorLog %(dir)s/log
Mutex default:%(dir)s
%(user)s
ServerLimit 1
StartServers 1
ThreadsPerChild 32
MaxRequestWorkers 32
MaxKeepAliveRequests 0
KeepAliveTimeout 600
Listen 127.0.0.1:%(port)d
DocumentRoot %(work)s/files
SSLEngine on
SSLCertificateFile %(work)s/cert.pem
SSLCertificateKeyFile %(work)s/key.pem
SSLProtocol TLSv1.3
SSLCipherSuite TLSv1.3 TLS_AES_128_GCM_SHA256
SSLSessionTickets off
"""

HAPROXY = """
global
	nbthread 1
	tune.ssl.cachesize 0
defaults
	mode http
	timeout connect 60s
	timeout client 600s
	timeout server 600s
frontend tls
	bind 127.0.0.1:%(port)d ssl crt %(work)s/both.pem ssl-min-ver TLSv1.3 ciphersuites TLS_AES_128_GCM_SHA256 no-tls-tickets
	default_backend files
backend files
	server plain 127.0.0.1:%(behind)d
"""


class Absent(Exception):
	"""A program that is not installed, or does not start."""


def of_ended(pid):
	"""CPU time of its children that have ended."""
	with open("/proc/%d/stat" % pid, encoding="utf-8") as stat:
		fields = stat.read().rpartition(")")[2].split()
	return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


class Tree(servers.Server):
	"""A server of several processes, which says at its end what it did."""

	def __init__(self, name, process, port, stats):
		super().__init__(name, process, port)
		self.stats = stats

	def pids(self):
		todo = [self.process.pid]
		while todo:
			pid = todo.pop()
			yield pid
			for task in os.listdir("/proc/%d/task" % pid):
				with open("/proc/%d/task/%s/children" % (pid, task),
						encoding="ascii") as children:
					todo += map(int, children.read().split())

	def cpu_seconds(self):
		return sum(servers.cpu_seconds(pid) + of_ended(pid)
			for pid in self.pids())

	def stop(self):
		self.process.send_signal(signal.SIGTERM)
		try:
			self.process.wait(10)
		except subprocess.TimeoutExpired:
			super().stop()

	def did(self):
		"""Connections that were taken over, and reasons why not."""
		last = {}
		if self.stats and os.path.exists(self.stats):
			with open(self.stats, encoding="utf-8") as lines:
				for line in map(json.loads, lines):
					last[line["pid"], line["started"]] = line
		declined = {}
		for line in last.values():
			for why, count in line["declined"].items():
				declined[why] = declined.get(why, 0) + count
		return {"taken": sum(line["taken"] for line in last.values()),
			"declined": declined}


def find(program):
	"""Debian has PostgreSQL's in a directory for each version."""
	more = ["/usr/sbin", *glob.glob("/usr/lib/postgresql/*/bin")]
	found = shutil.which(program, path=":".join([os.environ["PATH"], *more]))
	if not found:
		raise Absent("%s is not installed" % program)
	return found


class Place:
	"""Where servers find what they need, and are started."""

	def __init__(self, root, build, work):
		self.root, self.work = root, work
		self.preload = [os.path.join(build, "preload/asynctls-run")]
		self.running, self.behind = [], None
		os.chmod(work, 0o755)	# servers become other users
		both = work + "/both.pem"
		with open(both, "w", encoding="ascii") as out:
			for name in ("cert.pem", "key.pem"):
				with open("%s/%s" % (work, name), encoding="ascii") as part:
					out.write(part.read())

	def start(self, name, dropin, command, config=None, cpu=0, **values):
		"""In a directory of its own; command has {dir} and {port}."""
		name += WITH if dropin else ""
		place = "%s/%d" % (self.work, len(self.running))
		os.mkdir(place)
		values.update(dir=place, port=servers.free_port(), work=self.work)
		if config:
			with open(place + "/conf", "w", encoding="utf-8") as out:
				out.write(config % values)
		stats = place + "/stats" if dropin else None
		prefix = [*self.preload, "--stats", stats] if dropin else []
		try:
			server = servers.launch(name, prefix + [word.format(**values)
				for word in command], values["port"], place, cpu)
		except RuntimeError as why:
			raise Absent(str(why)) from None
		self.running.append(Tree(name, server.process, server.port, stats))
		return self.running[-1]

	def stop(self):
		for server in reversed(self.running):
			server.stop()
		return {server.name: server.did() for server in self.running
			if server.stats}


# ---- Programs ----------------------------------------------------------------

def nginx_program(place):
	done = subprocess.run([os.path.join(place.root, "bench/fetch"), "nginx"],
		capture_output=True, text=True, check=False)
	if done.returncode:
		raise Absent("no nginx: " + done.stderr.strip()[-200:])
	return done.stdout.strip()


def nginx(place, name, dropin, sendfile="on", buffer="16k", ssl="ssl", cpu=0,
		loader=()):
	return place.start(name, dropin, [*loader, nginx_program(place), "-c",
		"{dir}/conf", "-e", "{dir}/nginx.log"], NGINX, cpu,
		sendfile=sendfile, buffer=buffer, ssl=ssl)


def newer(place, name, dropin, loader):
	"""nginx with Debian 13's OpenSSL, other libraries being this Debian's."""
	if not loader:
		raise Absent("there is no OpenSSL 3.5")
	ours = [os.path.dirname(line.split()[2]) for line in subprocess.run(
		["ldd", nginx_program(place)], capture_output=True, text=True,
		check=False).stdout.splitlines() if "libssl" in line]
	return nginx(place, name, dropin, loader=[*loader[:-1],
		":".join([loader[-1], *ours])])


def lighttpd(place, name, dropin):
	return place.start(name, dropin, [find("lighttpd"), "-D", "-f",
		"{dir}/conf"], LIGHTTPD)


def apache(place, name, dropin):
	user = ""
	if os.getuid() == 0:
		try:
			user = "User www-data\nGroup www-data"
			pwd.getpwnam("www-data")
		except KeyError:
			user = "User nobody\nGroup nogroup"
	return place.start(name, dropin, [find("apache2"), "-DFOREGROUND", "-f",
		"{dir}/conf"], APACHE, user=user, modules="/usr/lib/apache2/modules")


def haproxy(place, name, dropin):
	if not place.behind:
		place.behind = nginx(place, "nginx without TLS", False, ssl="", cpu=1)
	return place.start(name, dropin, [find("haproxy"), "-db", "-q", "-f",
		"{dir}/conf"], HAPROXY, behind=place.behind.port)


def redis(place, name, dropin):
	find("redis-benchmark")
	return place.start(name, dropin, [find("redis-server"), "--port", "0",
		"--tls-port", "{port}", "--bind", "127.0.0.1", "--save", "",
		"--tls-cert-file", "{work}/cert.pem", "--tls-key-file",
		"{work}/key.pem", "--tls-auth-clients", "no", "--tls-protocols",
		"TLSv1.3", "--tls-ciphersuites", "TLS_AES_128_GCM_SHA256",
		"--dir", "{dir}"])


def database(place, name, dropin):
	"""Not for root, and it wants to own what it reads."""
	for tool in ("postgres", "pgbench", "initdb", "setpriv"):
		find(tool)
	data = "%s/data-%d" % (place.work, len(place.running))
	become = []
	if os.getuid() == 0:
		user = pwd.getpwnam("postgres")
		become = ["setpriv", "--reuid", str(user.pw_uid), "--regid",
			str(user.pw_gid), "--clear-groups"]
	os.mkdir(data)
	for name_of in ("cert.pem", "key.pem"):
		copy = shutil.copy("%s/%s" % (place.work, name_of), place.work +
			"/pg-" + name_of)
		os.chmod(copy, 0o600)
		if become:
			os.chown(copy, user.pw_uid, user.pw_gid)
			os.chown(data, user.pw_uid, user.pw_gid)
	done = subprocess.run([*become, find("initdb"), "-D", data, "-A", "trust",
		"-U", "bench", "-N"], capture_output=True, text=True, check=False,
		cwd="/")
	if done.returncode:
		raise Absent("initdb: " + done.stderr.strip()[-200:])
	settings = {"port": "{port}", "listen_addresses": "127.0.0.1",
		"unix_socket_directories": "", "ssl": "on", "fsync": "off",
		"ssl_cert_file": place.work + "/pg-cert.pem",
		"ssl_key_file": place.work + "/pg-key.pem",
		"ssl_min_protocol_version": "TLSv1.3"}
	return place.start(name, dropin, [*become, find("postgres"), "-D", data,
		*("--%s=%s" % setting for setting in settings.items())])


def program(place, name, start, about, **options):
	"""Both of it; none if one does not start."""
	try:
		return [start(place, name, dropin, **options)
			for dropin in (False, True)]
	except Absent as why:
		about["unavailable"]["drop-in: " + name] = str(why)
		print("without %s: %s" % (name, why))
		return []


# ---- Cases -------------------------------------------------------------------

def fetch(c, server, table, size, connections, ms):
	return plan.Case("drop-in", table, dataclasses.replace(c.client,
		name=server.name, server=server), ("fetch", "--wait", "--cpu",
		"1", "--conns", str(connections), "--nodelay", "--ms", str(ms),
		"--port", str(server.port), "--path", "/%d" % size), plan.words(size), size,
		connections)


def files(place, c, effort, about):
	ms = effort.ms
	loader = c.new_openssl[0].prefix if c.new_openssl else ()
	for name, start, sizes, options in (
			("nginx", nginx, SIZES, {}),
			("nginx, sendfile off", nginx, SIZES[1:3], {"sendfile": "off"}),
			("nginx, ssl_buffer_size 4k", nginx, SIZES[1:],
				{"buffer": "4k"}),
			("nginx, OpenSSL 3.5", newer, SIZES[1:3],
				{"loader": loader}),
			("lighttpd", lighttpd, SIZES[:3], {}),
			("HAProxy", haproxy, SIZES[:3], {}),
			("Apache", apache, SIZES[:3], {})):
		if effort.quick:
			if name not in ("nginx", "lighttpd"):
				continue
			sizes = SIZES[1:2]
		both = program(place, name, start, about, **options)
		for size in sizes:
			for server in both:
				few = 4 if size == BIG else 16
				yield fetch(c, server, "Drop-in: files over HTTPS, "
					"16 connections (64 MiB: 4), " + TLS, size,
					few, 2 * ms if size == BIG else ms)
				if name == "nginx" and size == 4 * K:
					yield fetch(c, server, "Drop-in: files of 4 KiB "
						"over HTTPS, 100 connections, " + TLS,
						size, 100, ms)


def values(place, c, effort, about):
	"""redis-benchmark, as it comes."""
	both = program(place, "redis", redis, about)
	load = os.path.join(os.path.dirname(os.path.abspath(__file__)),
		"redis_load.py")
	for pipeline, size, per_ms in ((1, K, 40), (1, 16 * K, 25), (16, K, 150),
			(16, 16 * K, 50)):
		if not (effort.quick and pipeline == 1):
			for server in both:
				yield plan.Case("drop-in", "Drop-in: redis-benchmark "
					"GET, 16 connections, " + TLS,
					dataclasses.replace(c.client, name=server.name,
					server=server, program=load),
					("--port", str(server.port), "--size", str(size),
					"--pipeline", str(pipeline),
					"--requests", str(2 * effort.ms * per_ms)), "%s, pipeline %d" % (
					plan.words(size), pipeline), size, pipeline)


def rows(place, c, effort, about):
	"""pgbench, each transaction being a row of this size."""
	load = os.path.join(os.path.dirname(os.path.abspath(__file__)),
		"pg_load.py")
	both = [] if effort.quick else program(place, "PostgreSQL", database, about)
	for size, per_ms in ((K, 12), (16 * K, 10), (K * K, 1)):
		for server in both:
			yield plan.Case("drop-in", "Drop-in: pgbench, a row at a time, "
				"4 connections, " + TLS, dataclasses.replace(c.client,
				name=server.name, server=server, program=load),
				("--port", str(server.port), "--size", str(size),
				"--requests", str(effort.ms * per_ms)),
				plan.words(size), size, 4)


def cases(place, c, effort, about):
	servers.make_more_files(place.work, SIZES)
	yield from files(place, c, effort, about)
	yield from values(place, c, effort, about)
	yield from rows(place, c, effort, about)


# ---- Goals -------------------------------------------------------------------

SLOWEST = 1.02
GOALS = {	# CPU time per GB: program, connections or pipeline, size
	("nginx", 16, 4 * K): .75,
	("nginx", 16, 64 * K): .45,
	("nginx", 16, K * K): .45,
	("nginx", 4, BIG): .45,
	("nginx, sendfile off", 16, 64 * K): .45,
	("nginx, sendfile off", 16, K * K): .45,
	("nginx, OpenSSL 3.5", 16, 64 * K): .45,
	("nginx, OpenSSL 3.5", 16, K * K): .45,
	("nginx, ssl_buffer_size 4k", 16, 64 * K): .25,
	("nginx, ssl_buffer_size 4k", 16, K * K): .25,
	("nginx, ssl_buffer_size 4k", 4, BIG): .25,
	("redis", 16, K): .75,
	("redis", 16, 16 * K): .6,
	("redis", 1, K): 1.0,
	("redis", 1, 16 * K): 1.0,
	("lighttpd", 16, 4 * K): .7,
	("lighttpd", 16, 64 * K): .7,
	("lighttpd", 16, K * K): .7,
}


def pair(results, case, what):
	"""Of the two programs, and run by run; None without both."""
	name = case.contender.name
	wanted = {"size": case.size, "connections": case.connections}
	return [*(targets.median(results, "drop-in", each, what, **wanted)
		for each in (name + WITH, name)),
		targets.pairs(results, "drop-in", name + WITH, name, what, **wanted)]


def compare(results, case, what, words, goal, unit):
	ours, theirs, pairs = pair(results, case, what)
	return targets.Target("drop-in: %s, %s, %s, run by run" % (
		case.contender.name, case.column, words), goal, False, ours, theirs,
		unit, pairs)


def slowest(results, without):
	"""Of all cases, in bytes per second."""
	found = [targets.Target("drop-in: the slowest of all cases in time: %s, %s, "
		"run by run" % (case.contender.name, case.column), SLOWEST, False,
		1 / ours, 1 / theirs, "s/GB", [1 / p for p in pairs])
		for case in without
		for ours, theirs, pairs in [pair(results, case, "gb_per_s")] if pairs]
	return max(found, key=lambda t: t.ratio, default=targets.Target(
		"drop-in: the slowest of all cases in time", SLOWEST, False))


def goals(results):
	without = [case for case in results.cases.values()
		if case.workload == "drop-in" and
		not case.contender.name.endswith(WITH)]
	for case in without:
		key = (case.contender.name, case.connections, case.size)
		words = "CPU time per GB"
		if case.connections == 100:
			yield compare(results, case, "p99_us",
				"p99 at 100 connections", 1.0, "µs")
			words += " at 100 connections"
		yield compare(results, case, "cpu_s_per_gb", words,
			GOALS.get(key, SLOWEST), "s/GB")
	yield slowest(results, without)
