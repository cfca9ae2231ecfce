#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""memcached: threads, pipelines, values of MiBs."""
import os
import random

from trial import ADDRESS, Failure, Trial, free_port
from web import WRONG
from wire import TLS12, TLS13, Wire, digest


class Scenario:
    def __init__(self, side):
        self.port = free_port()
        self.random = random.Random(1)
        certs = side.trial.dir
        self.running = side.start(
            [side.trial.paths["memcached"], "-Z", "-o",
             f"ssl_chain_cert={certs}/server.crt,ssl_key={certs}/server.key,"
             "ssl_min_version=1", "-l", ADDRESS, "-p", self.port, "-U", 0,
             "-t", 3, "-I", "16m", "-m", 256,
             *(["-u", "root"] if os.geteuid() == 0 else [])], port=self.port)

    def wire(self, version=TLS13):
        return Wire(self.port, version)

    def pipelined(self, version, clients=6):
        """Clients of all threads, which ask before they are answered."""
        wires = [self.wire(version) for _ in range(clients)]
        data = self.random.randbytes(20000)
        for number, wire in enumerate(wires):
            for size in [0, 1, 1000, 16384, 16385]:
                key = b"%d:%d" % (number, size)
                wire.send(b"set %b 7 0 %d\r\n%b\r\nget %b\r\nincr n%d 1\r\n" %
                          (key, size, data[:size], key, number) * 20)
        answers = []
        for number, wire in enumerate(wires):
            wire.send(b"mn\r\n")
            answers.append(digest(until(wire, b"MN\r\n")))
            wire.close()
        return answers

    def large(self, version):
        """Sizes that do not fit a socket; and in many records, or small."""
        wire = self.wire(version)
        for size in [1 << 20, 5000000]:
            value = self.random.randbytes(size)
            wire.send(b"set large 0 0 %d\r\n%b\r\n" % (size, value))
            if wire.read_exactly(8) != b"STORED\r\n":
                raise Failure("not stored")
            want = b"VALUE large 0 %d\r\n%b\r\nEND\r\n" % (size, value)
            wire.send(b"get large\r\n" * 4)
            for _ in range(4):
                if wire.read_exactly(len(want)) != want:
                    raise Failure("wrong bytes")
        wire.close()

    def trickled(self):
        """Records of one byte, and a record byte by byte."""
        wire = self.wire()
        for byte in b"set a 0 0 5\r\nhello\r\nget a\r\n":
            wire.send(bytes([byte]))
        for byte in wire.sealed(b"get a\r\nmn\r\n"):
            wire.socket.sendall(bytes([byte]))
        return until(wire, b"MN\r\n")

    def ends(self, version, data=None):
        """quit, and what is no record."""
        wire = self.wire(version)
        wire.send(b"mn\r\n")
        wire.read_exactly(4)
        if data:
            wire.socket.sendall(data)
        else:
            wire.send(b"set a 0 0 5\r\nhello\r\nget a\r\nquit\r\n")
        return wire.how_it_ends()

    def crowd(self):
        """All there may be, each asked now and then."""
        wires = [self.wire([TLS12, TLS13][n % 2]) for n in range(60)]
        for turn in range(5):
            for number, wire in enumerate(wires):
                wire.send(b"set c%d 0 0 3\r\nabc\r\nget c%d\r\n" %
                          (number, number))
            for number, wire in enumerate(wires):
                got = until(wire, b"END\r\n")
                if got != b"STORED\r\nVALUE c%d 0 3\r\nabc\r\nEND\r\n" % number:
                    raise Failure(got)
        for wire in wires:
            wire.close()


def until(wire, end):
    data = b""
    while not data.endswith(end):
        if not (got := wire.read()):
            raise Failure(f"ended: {data[-100:]}")
        data += got
    return data


def scenario(side):
    it = Scenario(side)
    for name, version in [("1.2", TLS12), ("1.3", TLS13)]:
        side.check(f"pipelines, TLS {name}", it.pipelined, version)
        side.check(f"large values, TLS {name}", it.large, version)
        side.check(f"quit, TLS {name}", it.ends, version)
        for what, data in WRONG.items():
            side.check(f"{what}, TLS {name}", it.ends, version, data)
    side.check("small records, small segments", it.trickled)
    side.check("60 clients", it.crowd)
    side.check("it ends", it.running.stop)


if __name__ == "__main__":
    trial = Trial(["memcached", "openssl"], scenario)
    trial.run()
    trial.taken(at_least=80)
    trial.end()
