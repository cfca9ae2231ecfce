# SPDX-License-Identifier: MIT
"""Servers of files: nginx and examples/https-files, on the first processor."""

import os
import re
import socket
import subprocess
import time

NGINX = """
daemon off;
master_process off;
pid %(work)s/nginx.pid;
error_log %(work)s/nginx.log;
events { worker_connections 4096; }
http {
	access_log off;
	sendfile on;
	keepalive_requests 1000000000;
	client_body_temp_path %(work)s/body;
	proxy_temp_path %(work)s/proxy;
	fastcgi_temp_path %(work)s/fastcgi;
	uwsgi_temp_path %(work)s/uwsgi;
	scgi_temp_path %(work)s/scgi;
	server {
		listen 127.0.0.1:%(port)d ssl;
		root %(files)s;
		ssl_certificate %(work)s/cert.pem;
		ssl_certificate_key %(work)s/key.pem;
		ssl_protocols TLSv1.3;
		ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
		ssl_session_tickets off;
	}
}
"""


def cpu_seconds(pid):
	"""Of all its threads, in nanoseconds' precision."""
	tasks = "/proc/%d/task" % pid
	total = 0
	for task in os.listdir(tasks):
		with open("%s/%s/schedstat" % (tasks, task),
				encoding="ascii") as stat:
			total += int(stat.read().split()[0])
	return total / 1e9


class Server:
	def __init__(self, name, process, port):
		self.name, self.process, self.port = name, process, port

	def cpu_seconds(self):
		return cpu_seconds(self.process.pid)

	def stop(self):
		self.process.kill()
		self.process.wait()


def make_more_files(work, sizes):
	for size in sizes:
		with open("%s/files/%d" % (work, size), "wb") as out:
			out.write(os.urandom(size))


def make_files(work, sizes):
	os.mkdir(work + "/files")
	make_more_files(work, sizes)
	subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
		"ec_paramgen_curve:P-256", "-nodes", "-keyout", work + "/key.pem",
		"-out", work + "/cert.pem", "-days", "1", "-subj",
		"/CN=localhost"], check=True, capture_output=True)


def launch(name, command, port, work, cpu=0):
	log = open("%s/%s.out" % (work, name), "w", encoding="utf-8")
	process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
		stderr=log, preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))
	for _ in range(100):
		if process.poll() is not None:
			break
		try:
			socket.create_connection(("127.0.0.1", port), 1).close()
			return Server(name, process, port)
		except OSError:
			time.sleep(0.05)
	process.kill()
	with open(log.name, encoding="utf-8") as said:
		raise RuntimeError("%s did not start: %s" % (name,
			said.read().strip() or "it said nothing"))


def free_port():
	with socket.create_server(("127.0.0.1", 0)) as probe:
		return probe.getsockname()[1]


def nginx(root, work):
	found = subprocess.run([os.path.join(root, "bench/fetch"), "nginx"],
		capture_output=True, text=True, check=False)
	if found.returncode:
		raise RuntimeError("no nginx: " + found.stderr.strip()[-200:])
	port = free_port()
	config = work + "/nginx.conf"
	with open(config, "w", encoding="utf-8") as out:
		out.write(NGINX % {"work": work, "files": work + "/files",
			"port": port})
	return launch("nginx", [found.stdout.strip(), "-c", config, "-e",
		work + "/nginx.log"], port, work)


def https_files(build, work):
	port = free_port()
	return launch("libasynctls", [
		os.path.join(build, "examples/https-files"), "--root",
		work + "/files", "--cert", work + "/cert.pem", "--key",
		work + "/key.pem", "--port", str(port), "--engine", "cpu"],
		port, work)


def version(server):
	"""What it is, as nginx says of itself."""
	if server.name != "nginx":
		return "https-files"
	words = subprocess.run(["/proc/%d/exe" % server.process.pid, "-v"],
		capture_output=True, text=True, check=False).stderr
	return re.sub(r".*nginx/", "nginx ", words.strip())
