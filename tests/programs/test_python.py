#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Python's ssl: servers with threads and children, clients, asyncio."""
import pathlib
import random
import selectors
import ssl

from trial import ADDRESS, Failure, Trial, free_port, write_files
from web import curl
from wire import TLS12, TLS13, Wire, digest, file_digest

PEER = pathlib.Path(__file__).with_name("python_peer.py")
SIZES = [0, 1, 16384, 16385, 1 << 20]
VERSIONS = [TLS12, TLS13]


def pattern(size):
    return random.Random(size).randbytes(size)


class Scenario:
    def __init__(self, side):
        self.side = side
        self.ports = {}

    def start(self, how, plain=False, **more):
        port = self.ports[how] = free_port()
        return self.side.start(
            [self.side.trial.paths["python3"], PEER, how, ADDRESS, port,
             self.side.trial.dir / "server.pem"],
            port=port, label="plain" if plain else how, plain=plain, **more)

    def wire(self, how, version=TLS13):
        return Wire(self.ports[how], version)

    def data(self, how, version):
        """Down and up, of many sizes; the records of all that."""
        wire = self.wire(how, version)
        for size in [1, 16383, 16384, 16385, 300000]:
            wire.send(b"size %d\n" % size)
            same(wire.read_exactly(size), pattern(size))
            wire.send(b"echo %d\n" % size + pattern(size))
            same(wire.read_exactly(size), pattern(size))
        wire.send(b"pieces 60\n")
        want = b"".join(pattern(size) for size in range(60))
        same(wire.read_exactly(len(want)), want)
        wire.send(b"spawn 20000\nthread 5000\n")
        want = pattern(20000) * 2
        want += b"".join(pattern(5000 + more) for more in range(3))
        same(wire.read_exactly(len(want)), want)
        wire.close_notify()
        end = wire.how_it_ends()
        return wire.records, end

    def waits(self, how, version):
        """Time-outs and what is pending."""
        wire = self.wire(how, version)
        wire.send(b"timeout 50\n")
        said = wire.read()
        wire.send(b"x" * 50)
        said += wire.read_exactly(50)
        wire.send(b"pending 0\n")
        wire.send(b"y" * 30)
        return said, wire.read(), wire.close()

    def ends(self, how, what, size, version):
        """All bytes have to come, whatever it does then."""
        wire = self.wire(how, version)
        wire.send(b"%b %d\n" % (what, size))
        want = pattern(size)
        if what in [b"child", b"parent"]:
            want += pattern(size + 1)
        same(wire.read_exactly(len(want)), want)
        if what in [b"unwrap", b"shut", b"parent"]:
            wire.close_notify()
        end = wire.how_it_ends()
        return wire.records, end

    def unwrapped(self, how, version):
        """What follows is no TLS."""
        wire = self.wire(how, version)
        wire.send(b"plain 5000\n")
        while wire.read():
            pass
        wire.close_notify()
        rest = wire.incoming.read()
        wire.socket.sendall(b"no secret")
        while got := wire.socket.recv(9000):
            rest += got
        same(rest, pattern(5000) + b"no secret")

    def echoes(self, how, version, total=3000000):
        """Much in both directions, of several clients at once."""
        wires = [self.wire(how, version) for _ in range(3)]
        want = pattern(total)
        with selectors.DefaultSelector() as selector:
            for wire in wires:
                wire.begin, wire.got = 0, bytearray()
                wire.out = b""
                wire.socket.setblocking(False)
                selector.register(wire.socket, selectors.EVENT_READ |
                                  selectors.EVENT_WRITE, wire)
            while any(len(wire.got) < total for wire in wires):
                events = selector.select(30)
                if not events:
                    raise Failure(f"stalled: {[len(w.got) for w in wires]}")
                for key, event in events:
                    pump(key.data, event, want, selector)
        for wire in wires:
            same(bytes(wire.got), want)
            wire.socket.setblocking(True)
            wire.close()

    def client(self, how, *words, version="any"):
        got = self.side.run(
            [self.side.trial.paths["python3"], PEER, how, ADDRESS,
             self.ports["threads" if how == "client" else "files"],
             self.side.trial.dir / "ca.crt", version, *words],
            label="client", cwd=self.side.trial.dir / "files")
        if got.returncode or b"False" in got.stdout:
            raise Failure(f"{got.stdout.decode()}{got.stderr.decode()}")
        return got.stdout.decode()

    def fetched(self):
        for size in SIZES:
            out = self.side.dir / "got"
            curl(self.side, "-o", out, f"https://{ADDRESS}:"
                 f"{self.ports['files']}/{size}")
            if file_digest(out) != file_digest(
                    self.side.trial.dir / "files" / str(size)):
                raise Failure(f"{size}: wrong bytes")


def pump(wire, event, want, selector):
    if event & selectors.EVENT_READ:
        try:
            if not wire.more():
                raise Failure(f"ended after {len(wire.got)} bytes")
            while True:
                wire.got += wire.tls.read(16384)
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
    if event & selectors.EVENT_WRITE:
        if not wire.out and wire.begin < len(want):
            piece = want[wire.begin:wire.begin + 16384]
            wire.begin += len(piece)
            wire.out = wire.sealed(piece)
        if wire.out:
            wire.out = wire.out[wire.socket.send(wire.out):]
        elif wire.begin == len(want):
            selector.modify(wire.socket, selectors.EVENT_READ, wire)


def same(got, want):
    if got != want:
        raise Failure(f"wrong bytes: {digest(got)}, not {digest(want)}")


def scenario(side):
    it = Scenario(side)
    check = side.check
    for how in ["threads", "forking", "forking_before"]:
        it.start(how)
        for version in VERSIONS:
            check(f"data, {how}, {version.name}", it.data, how, version)
            check(f"waits, {how}, {version.name}", it.waits, how, version)
            for what in ["unwrap", "drop", "shut", "detach"]:
                check(f"{what}, {how}, {version.name}", it.ends, how,
                      what.encode(), 30000, version)
            check(f"no TLS any more, {how}, {version.name}", it.unwrapped, how,
                  version)
    for how in ["forking", "forking_before"]:
        for what in ["exit", "now", "term", "segv", "abort", "execute", "child",
                     "parent"]:
            for size in [1, 200000]:
                check(f"{what} after {size} bytes, {how}", it.ends, how,
                      what.encode(), size, TLS13)
    for how in ["nonblocking", "asynchronous"]:
        it.start(how)
        for version in VERSIONS:
            check(f"echoes, {how}, {version.name}", it.echoes, how, version)
    it.start("files", cwd=side.trial.dir / "files")
    check("files", it.fetched)
    it.start("threads", plain=True)
    it.start("files", plain=True, cwd=side.trial.dir / "files")
    for version in VERSIONS:
        check(f"a client, {version.name}", it.client, "client",
              version=version.name)
        check(f"a client of files, {version.name}", it.client, "fetcher",
              *map(str, SIZES), version=version.name)
    for running in side.running:
        running.stop()


if __name__ == "__main__":
    trial = Trial(["python3", "curl", "openssl"], scenario,
                  lambda trial: write_files(trial.dir / "files", SIZES))
    trial.run()
    for label in ["threads", "forking", "forking_before", "nonblocking",
                  "files", "client"]:
        trial.taken(label=label)
    trial.taken(label="asynchronous")
    trial.end()
