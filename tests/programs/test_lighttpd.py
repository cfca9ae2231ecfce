#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""lighttpd: files, CGI, HTTP/2, a graceful end; OpenSSL is in a module."""
import os
import re
import signal

from trial import (ADDRESS, UNPACKED, Failure, Trial, free_port, listens,
                   until, write_files)
from web import Web, write_echo
from wire import TLS12, TLS13, digest, file_digest, request

SIZES = [0, 1, 4096, 16383, 16384, 16385, 1 << 20, 16 << 20]
CONF = """
server.modules = ("mod_openssl", "mod_cgi", "mod_accesslog")
server.document-root = "{files}"
server.bind = "{address}"
server.port = {port}
server.max-keep-alive-requests = 1000
server.errorlog = "{dir}/error.log"
accesslog.filename = "{dir}/access.log"
accesslog.format = "%r %s %b %O"
server.upload-dirs = ("{dir}")
ssl.engine = "enable"
ssl.pemfile = "{certs}/server.crt"
ssl.privkey = "{certs}/server.key"
ssl.openssl.ssl-conf-cmd = ("MinProtocol" => "TLSv1.2")
cgi.assign = (".sh" => "/bin/sh")
{more}
"""


class Scenario(Web):
    def __init__(self, side):
        super().__init__(side, {"main": free_port(), "other": free_port()})
        modules = [UNPACKED / "usr/lib/lighttpd", "/usr/lib/lighttpd"]
        modules = [path for path in modules if os.path.isdir(path)][0]
        self.running = {}
        for name, more in [
                ("main", 'server.network-backend = "sendfile"'),
                ("other", 'server.network-backend = "writev"\n'
                          "server.stream-response-body = 2\n"
                          "server.stream-request-body = 2")]:
            place = side.dir / name
            place.mkdir()
            (place / "conf").write_text(CONF.format(
                files=self.files, address=ADDRESS, port=self.port[name],
                dir=place, certs=side.trial.dir, more=more))
            self.running[name] = side.start(
                [side.trial.paths["lighttpd"], "-D", "-m", modules, "-f",
                 place / "conf"], port=self.port[name], label=name)

    def graceful(self):
        """It ends with downloads under way, which come to their end."""
        wires = []
        for version in [TLS12, TLS13, TLS13]:
            wire = self.wire("main", version, window=65536)
            wire.send(request(f"/{SIZES[-1]}", "Connection: close\r\n"))
            wire.begun = wire.read_exactly(100000)
            wires.append(wire)
        os.kill(self.running["main"].pid, signal.SIGINT)
        until("it listens no more", lambda: not listens(self.port["main"]))
        ends = []
        for wire in wires:
            body = (wire.begun + wire.read_all()).split(b"\r\n\r\n", 1)[1]
            if digest(body) != file_digest(self.files / str(SIZES[-1])):
                raise Failure("wrong bytes")
            ends.append(wire.how_it_ends())
        return ends, self.running["main"].ended()

    def log(self, name):
        lines = (self.side.dir / "main" / name).read_text().splitlines()
        # what a connection of HTTP/2 had in all, in frames of any size
        return sorted(line for line in lines if "PRI *" not in line)

    def errors(self):
        """Without times, and who the client is."""
        return sorted(re.sub(r"^.*?: \(|\[?127[.\d]+\]?(:\d+)?", "", line)
                      for line in self.log("error.log")
                      if "server started" not in line)


def scenario(side):
    it = Scenario(side)
    for server in ["main", "other"]:
        it.all(server, SIZES)
        it.by_http2(server, SIZES)
        for size in [1, 16384, 1 << 20, 16 << 20]:
            side.check(f"a CGI with {size} bytes, {server}", it.posted, server,
                       "echo.sh", size, "--http1.1")
        side.check(f"a CGI by HTTP/2, {server}", it.posted, server, "echo.sh",
                   1 << 20)
    side.check("a range", it.ranges, "main", "-r", "1000-50000")
    side.check("a graceful end", it.graceful)
    side.check("the other ends", it.running["other"].stop)
    side.check("the access log", it.log, "access.log")
    side.check("the error log", it.errors)


def prepare(trial):
    write_files(trial.dir / "files", SIZES)
    write_echo(trial.dir / "files")


if __name__ == "__main__":
    trial = Trial(["lighttpd", "curl", "openssl"], scenario, prepare)
    trial.run()
    for label in ["main", "other"]:
        trial.taken(at_least=40, label=label)
    trial.end()
