#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""stunnel: through two of them, one as TLS's client and one as its server."""
import random
import socket
import threading

from trial import ADDRESS, PATIENCE, Failure, Trial, free_port
from web import WRONG
from wire import TLS12, TLS13, Wire, digest

CONF = """
foreground = yes
pid =
debug = err
socket = l:TCP_NODELAY=1
TIMEOUTclose = 2
[there]
{role}
accept = {address}:{accept}
connect = {address}:{connect}
sslVersion = {version}
"""


class Echo(threading.Thread):
    """What is at the far end: sends all back, then ends as its peer does."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server((ADDRESS, 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(conn,),
                             daemon=True).start()

    def serve(self, conn):
        with conn:
            try:
                while data := conn.recv(30000):
                    conn.sendall(data)
            except OSError:
                pass


class Scenario:
    def __init__(self, side):
        self.side = side
        self.echo = Echo()
        self.running, self.ports = {}, {}
        certs = side.trial.dir
        for version in ["TLSv1.2", "TLSv1.3"]:
            server, client = free_port(), free_port()
            self.begin("server", version, server, self.echo.port,
                       f"cert = {certs}/server.pem")
            self.begin("client", version, client, server,
                       f"client = yes\nCAfile = {certs}/ca.crt\n"
                       "verifyChain = yes")
            self.ports[version] = server, client

    def begin(self, name, version, accept, connect, role):
        conf = self.side.dir / f"{name}{version}"
        conf.write_text(CONF.format(role=role, address=ADDRESS, accept=accept,
                                    connect=connect, version=version))
        self.running[name, version] = self.side.start(
            [self.side.trial.paths["stunnel4"], conf], port=accept, label=name)

    def through(self, version, size, piece):
        """There and back, written while it is read; then half a close.

        Not before all is back: stunnel may drop what is under way then.
        """
        data = random.Random(size).randbytes(size)
        with socket.create_connection((ADDRESS, self.ports[version][1]),
                                      PATIENCE) as sock:
            def write():
                for begin in range(0, size, piece):
                    sock.sendall(data[begin:begin + piece])

            writer = threading.Thread(target=write)
            writer.start()
            got = bytearray()
            while len(got) < size and (more := sock.recv(65536)):
                got += more
            writer.join()
            sock.shutdown(socket.SHUT_WR)
            while more := sock.recv(65536):
                got += more
        if got != data:
            raise Failure(f"{digest(got)}, not {digest(data)}")

    def crowd(self, version):
        problems = []

        def one(number):
            try:
                self.through(version, 100000 + number, 3000)
            except (Failure, OSError) as error:
                problems.append(error)

        threads = [threading.Thread(target=one, args=(n,)) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if problems:
            raise Failure(problems)

    def direct(self, version, data=None):
        """Without the client: records that come back, how it ends."""
        wire = Wire(self.ports[version][0],
                    TLS13 if version == "TLSv1.3" else TLS12)
        for size in [1, 5000, 16384]:
            wire.send(bytes(size))
            wire.read_exactly(size)
        if data:
            wire.socket.sendall(data)
        else:
            wire.close_notify()
        return wire.how_it_ends()


def scenario(side):
    it = Scenario(side)
    for version in it.ports:
        for size, piece in [(1, 1), (16384, 16384), (16385, 16385),
                            (300, 1), (8 << 20, 65536), (1 << 20, 1000)]:
            side.check(f"{size} bytes by {piece}, {version}", it.through,
                       version, size, piece)
        side.check(f"20 clients, {version}", it.crowd, version)
        side.check(f"close_notify, {version}", it.direct, version)
        for what, data in WRONG.items():
            side.check(f"{what}, {version}", it.direct, version, data)
    for name, running in it.running.items():
        side.check(f"{name} ends", running.stop)
    it.echo.listener.close()


if __name__ == "__main__":
    trial = Trial(["stunnel4", "openssl"], scenario)
    trial.run()
    for label in ["server", "client"]:
        trial.taken(at_least=50, label=label)
    trial.end()
