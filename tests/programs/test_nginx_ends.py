#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""nginx: reload, ends of all kinds, sessions, KeyUpdates, wrong records."""
import os
import signal
import time

from nginx import Nginx
from s_client import s_client
from trial import Failure, Trial, until, write_files
from web import Web
from wire import TLS12, TLS13, digest, file_digest, request

SIZES = [0, 4096, 16385, 1 << 20, 16 << 20]
BIG = str(16 << 20)
SERVERS = {
    "main": ("", ""),
    "sessions": ("", "ssl_session_tickets off;"),
    "early": ("", "ssl_early_data on;"),
    "hasty": ("", "send_timeout 1s; client_header_timeout 1s; "
                  "keepalive_timeout 1s;"),
}


class Scenario(Web):
    def __init__(self, side):
        self.nginx = Nginx(side, SERVERS)
        super().__init__(side, self.nginx.port)

    def right(self, name, got):
        if got != file_digest(self.files / name):
            raise Failure(f"{name}: wrong bytes")

    def works(self):
        """A new connection does."""
        wire = self.wire("main")
        head, got = wire.get("/16385")
        self.right("16385", got)
        wire.close()
        return head

    def downloads(self, count):
        """Slow ones, under way."""
        wires = []
        for number in range(count):
            wire = self.wire("main", [TLS12, TLS13][number % 2], window=65536)
            wire.send(request(f"/{BIG}"))
            wire.begun = wire.read_exactly(100000)
            wires.append(wire)
        return wires

    def completed(self, wires):
        ends = []
        for wire in wires:
            data = wire.begun + wire.read_all()
            head, body = data.split(b"\r\n\r\n", 1)
            self.right(BIG, digest(body))
            ends.append(wire.how_it_ends())
        return ends

    # ---- Signals -----------------------------------------------------------

    def reloaded(self):
        wires = self.downloads(4)
        before = self.nginx.reload()
        head = self.works()
        ends = self.completed(wires)
        until("workers of before end", lambda: not set(
            self.nginx.workers()) & set(before))
        return head, ends

    def quit(self):
        idle = self.wire("main")
        idle.get("/4096")
        wires = self.downloads(4)
        os.kill(self.nginx.master.pid, signal.SIGQUIT)
        return (idle.how_it_ends(), self.completed(wires),
                self.nginx.master.ended())

    # ---- How clients end ---------------------------------------------------

    def resets(self, count=20):
        """In the midst of answers; others never notice."""
        for number in range(count):
            wire = self.wire("main", [TLS12, TLS13][number % 2], window=16384)
            wire.send(request(f"/{BIG}") * 2)
            if number % 3:
                wire.read_exactly(50000)
            wire.reset()
        self.works()
        until("connections are gone", lambda: not self.established())

    def established(self):
        end = f":{self.nginx.port['main']:04X}"
        with open("/proc/net/tcp") as table:
            return [line for line in table if line.split()[1].endswith(end)
                    and line.split()[3] not in ["0A", "06"]]

    def timed_out(self, version):
        """It waits for a request in vain; between two; and for the client to
        read."""
        said = "timed out) while sending response to client"
        before = self.nginx.errors().count(said)
        silent = self.wire("hasty", version)
        between = self.wire("hasty", version)
        between.get("/4096")
        stuck = self.wire("hasty", version, window=16384)
        stuck.send(request(f"/{BIG}"))
        started = time.monotonic()
        ends = [silent.how_it_ends(), between.how_it_ends()]
        until("a client timed out",
              lambda: self.nginx.errors().count(said) > before)
        if time.monotonic() - started > 15:
            raise Failure("it waited for too long")
        size, *kind = stuck.how_it_ends()
        if size >= SIZES[-1]:
            raise Failure("it got all")
        return ends, kind

    # ---- Sessions and messages ---------------------------------------------

    def resumed(self, server, version):
        """Twice the same session; what nginx answers."""
        answers = []
        for option in ["-sess_out", "-sess_in"]:
            talk = s_client(self.side, self.nginx.port[server], version, option,
                            f"session.{server}{version}")
            talk.say(request("/4096", "Connection: close\r\n"))
            talk.process.wait(20)
            said = talk.expect(b"\r\n\r\n").split(b"HTTP/1.1 200")
            answers.append((b"Reused" in said[0], digest(
                said[1].split(b"\r\n\r\n", 1)[1][:4096])))
            talk.kill()
        if not answers[1][0]:
            raise Failure("the session was not resumed")
        return answers

    def early(self):
        """A request in early data."""
        name = self.side.dir / "early"
        name.write_bytes(request("/16385"))
        port = self.nginx.port["early"]
        talk = s_client(self.side, port, "-tls1_3", "-sess_out", "early.session")
        session = self.side.dir / "early.session"
        until("a ticket", lambda: session.exists() and session.stat().st_size)
        talk.end()
        talk = s_client(self.side, port, "-tls1_3", "-sess_in", "early.session",
                        "-early_data", name)
        talk.expect(b"Early data was accepted")
        got = [self.heard(talk, "16385", 1)]
        talk.say(request("/4096"))
        got.append(self.heard(talk, "4096", 2))
        talk.end()
        return got

    def heard(self, talk, name, times):
        """The file, among what s_client says; how often a head."""
        talk.expect(b"HTTP/1.1 200", times)
        talk.expect((self.files / name).read_bytes())
        return talk.said.count(b"HTTP/1.1")

    def updated(self, *words):
        """KeyUpdates, asked for or not, between requests and with them."""
        talk = s_client(self.side, self.nginx.port["main"], "-tls1_3", *words)
        got = []
        for number, command in enumerate([b"k\n", b"K\n", b"K\n", b"k\n"]):
            talk.say(command)
            talk.expect(b"KEYUPDATE", number + 1)
            talk.say(request("/4096" if number % 2 else "/16385"))
            got.append(self.heard(talk, "4096" if number % 2 else "16385",
                                  number + 1))
        return got, talk.end()

    def renegotiated(self):
        """nginx allows none."""
        talk = s_client(self.side, self.nginx.port["main"], "-tls1_2",
                        "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256")
        talk.say(request("/4096"))
        self.heard(talk, "4096", 1)
        talk.say(b"R\n")
        talk.expect(b"RENEGOTIATING")
        status = talk.process.wait(20)
        lines = talk.expect(b"RENEGOTIATING").split(b"RENEGOTIATING")[1]
        return status, [line.split(b":", 1)[1] for line in lines.splitlines()
                        if b":error:" in line]

    def shaped(self, *words):
        """Requests in records of another shape."""
        talk = s_client(self.side, self.nginx.port["main"], *words)
        more = "X-Long: " + "x" * 3000 + "\r\n"
        talk.say(request("/16385", more))
        got = self.heard(talk, "16385", 1)
        talk.say(request("/4096", more))
        return got, self.heard(talk, "4096", 2), talk.end()


def scenario(side):
    it = Scenario(side)
    check = side.check
    for name, version in [("1.2", TLS12), ("1.3", TLS13)]:
        it.all_ends("main", name, version, "/1048576")
        check(f"time-outs, TLS {name}", it.timed_out, version)
    for server in ["main", "sessions"]:
        for version in ["-tls1_2", "-tls1_3"]:
            check(f"a session of {server} goes on, {version}", it.resumed,
                  server, version)
    check("early data", it.early)
    check("KeyUpdates", it.updated)
    check("KeyUpdates with padding", it.updated, "-record_padding", "4096")
    check("renegotiation", it.renegotiated)
    check("padded records", it.shaped, "-tls1_3", "-record_padding", "8192")
    check("small records", it.shaped, "-max_send_frag", "512")
    check("the error log so far", it.nginx.error_log)
    check("resets", it.resets)
    check("reload during downloads", it.reloaded)
    check("again", it.reloaded)
    check("quit during downloads", it.quit)
    check("nothing worse in the log", it.nginx.error_log, "warn")


if __name__ == "__main__":
    trial = Trial(["nginx", "openssl"], scenario,
                  lambda trial: write_files(trial.dir / "files", SIZES))
    trial.run()
    trial.taken(at_least=60, declined="the peer has closed")
    trial.end()
