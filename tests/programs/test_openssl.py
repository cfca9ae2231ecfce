#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""openssl s_server, s_client and s_time, talking to each other."""
from s_client import s_client, s_server
from trial import ADDRESS, Failure, Trial, free_port, write_files
from web import WRONG, curl
from wire import TLS12, TLS13, Wire, file_digest

SIZES = [0, 1, 16384, 16385, 1 << 20, 8 << 20]
# Who of a pair has the drop-in
PAIRS = {"server": ("server", None), "client": (None, "client"),
         "both": ("server", "client")}
VERSIONS = ["-tls1_2", "-tls1_3"]


class Scenario:
    def __init__(self, side):
        self.side = side
        self.files = side.trial.dir / "files"

    def env(self, label):
        return self.side.env(label) if label else None

    def pair(self, who, version, *words):
        server, client = PAIRS[who]
        port = free_port()
        theirs = s_server(self.side, port, "-naccept", "1", version, *words,
                          env=self.env(server))
        words = [word for word in words if word != "-client_renegotiation"]
        ours = s_client(self.side, port, version, *words, env=self.env(client))
        return theirs, ours

    def lines(self, who, version, *words):
        """Both ways, and the end; what the client says of it"""
        theirs, ours = self.pair(who, version, *words)
        for number in range(20):
            line = b"line %d %b\n" % (number, b"-" * 300 * number)
            ours.say(line)
            theirs.expect(line)
            theirs.say(b"back: " + line)
            ours.expect(b"back: " + line)
        return ours.end(), theirs.process.wait(20)

    def updates(self, who):
        """KeyUpdates of both, with and without an answer."""
        theirs, ours = self.pair(who, "-tls1_3")
        for number, (talk, other, command) in enumerate([
                (ours, theirs, b"k\n"), (ours, theirs, b"K\n"),
                (theirs, ours, b"k\n"), (theirs, ours, b"K\n"),
                (ours, theirs, b"K\n"), (theirs, ours, b"K\n")]):
            talk.say(command)
            talk.say(b"after %d\n" % number)
            other.expect(b"after %d\n" % number)
            other.say(b"answer %d\n" % number)
            talk.expect(b"answer %d\n" % number)
        return ours.end(), theirs.process.wait(20)

    def renegotiations(self, who):
        """TLS 1.2 has them, if both want."""
        theirs, ours = self.pair(who, "-tls1_2", "-client_renegotiation")
        for number in range(3):
            ours.say(b"R\n")
            ours.expect(b"RENEGOTIATING", number + 1)
            ours.say(b"after %d\n" % number)
            theirs.expect(b"after %d\n" % number)
            theirs.say(b"answer %d\n" % number)
            ours.expect(b"answer %d\n" % number)
        return ours.end(), theirs.process.wait(20)

    def files_of(self, mode, version):
        """s_server's own HTTP: to curl, and to clients that end otherwise."""
        port = free_port()
        server = s_server(self.side, port, mode, env=self.env("server"),
                          cwd=self.files)
        got = []
        try:
            if mode == "-www":
                wire = Wire(port, version)
                wire.send(b"GET / HTTP/1.0\r\n\r\n")
                return wire.read_all().count(b"\n") > 30
            for size in SIZES:
                out = self.side.dir / "got"
                curl(self.side, "--http0.9", "-o", out,
                     f"https://{ADDRESS}:{port}/{size}", "--tls-max",
                     "1.2" if version == TLS12 else "1.3")
                if size:
                    got.append(file_digest(out))
                if size and got[-1] != file_digest(self.files / str(size)):
                    raise Failure(f"{size}: wrong bytes")
            return got
        finally:
            server.kill()

    def reversed(self, version):
        """-rev: a line, backwards."""
        port = free_port()
        server = s_server(self.side, port, "-rev", env=self.env("server"))
        try:
            got = []
            for data in [None, WRONG["one of 0 bytes"]]:
                wire = Wire(port, version)
                wire.send(b"abc\ndefghi\n")
                got.append(wire.read_exactly(11))
                if data:
                    wire.socket.sendall(data)
                else:
                    wire.close_notify()
                got.append(wire.how_it_ends())
            return got
        finally:
            server.kill()

    def timed(self, version, reuse):
        """s_time: figures that differ, but no error."""
        port = free_port()
        server = s_server(self.side, port, "-WWW", cwd=self.files)
        got = self.side.run(
            [self.side.trial.paths["openssl"], "s_time", "-connect",
             f"{ADDRESS}:{port}", "-www", "/16385", "-time", "1", version,
             reuse], label="s_time")
        server.kill()
        if got.returncode or b"0 bytes read" in got.stdout.split()[:3]:
            raise Failure(got.stdout + got.stderr)
        return got.stdout.count(b"connections")


def scenario(side):
    it = Scenario(side)
    check = side.check
    for who in PAIRS:
        for version in VERSIONS:
            check(f"lines, {who}, {version}", it.lines, who, version)
        check(f"lines, not waiting, {who}", it.lines, who, "-tls1_3", "-nbio")
        check(f"lines, padded, {who}", it.lines, who, "-tls1_3",
              "-record_padding", "1000")
        check(f"lines, split, {who}", it.lines, who, "-tls1_3",
              "-max_send_frag", "600")
        check(f"lines, read ahead, {who}", it.lines, who, "-tls1_3",
              "-read_buf", "40000")
        check(f"KeyUpdates, {who}", it.updates, who)
        check(f"renegotiation, {who}", it.renegotiations, who)
    for version in [TLS12, TLS13]:
        for mode in ["-www", "-WWW"]:
            check(f"{mode}, {version.name}", it.files_of, mode, version)
        check(f"-rev, {version.name}", it.reversed, version)
    for version in VERSIONS:
        check(f"s_time, {version}", it.timed, version, "-new")
    check("s_time, sessions", it.timed, "-tls1_2", "-reuse")


if __name__ == "__main__":
    trial = Trial(["openssl", "curl"], scenario,
                  lambda trial: write_files(trial.dir / "files", SIZES))
    trial.run()
    for label in ["server", "client", "s_time"]:
        trial.taken(label=label, declined="records padded")
    trial.end()
