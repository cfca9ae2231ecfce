# SPDX-License-Identifier: MIT
"""What a client asks of any web server that has the trial's files."""
import socket

from trial import ADDRESS, Failure
from wire import TLS12, TLS13, Wire, digest, file_digest, request


def curl(side, *words, status=0):
    """curl, which must end so; what it says with -w"""
    got = side.run([side.trial.paths["curl"], "-sS", "--cacert",
                    side.trial.dir / "ca.crt", "--max-time", 25, *words])
    if got.returncode != status:
        raise Failure(f"curl's status {got.returncode}, not {status}: "
                      f"{got.stderr.decode()}")
    return got.stdout.decode()


class Web:
    """port: name of a server -> its port"""

    def __init__(self, side, port):
        self.side, self.port = side, port
        self.files = side.trial.dir / "files"

    def url(self, server, path=""):
        return f"https://{ADDRESS}:{self.port[server]}/{path}"

    def wire(self, server, *args, **named):
        return Wire(self.port[server], *args, **named)

    def fetched(self, server, paths, *words):
        """Those paths on one connection: their heads, and that bodies are
        right."""
        head = self.side.dir / "head"
        args = ["-D", head]
        for number, path in enumerate(paths):
            args += ["-o", self.side.dir / f"body.{number}",
                     self.url(server, path)]
        made = curl(self.side, *args, "-w", "%{num_connects} ", *words)
        for number, path in enumerate(paths):
            body = self.side.dir / f"body.{number}"
            want = self.files / path.split("/")[-1]
            if not body.exists():  # curl makes none for nothing
                body.touch()
            if file_digest(body) != file_digest(want):
                raise Failure(f"{path}: wrong bytes")
            body.unlink()
        lines = head.read_text().splitlines()
        return [made] + [line for line in lines
                         if not line.lower().startswith("date:")]

    def records(self, server, version, path):
        """The records that come, and how their connection ends."""
        wire = self.wire(server, version)
        wire.send(request(path, "Connection: close\r\n"))
        head, got = wire.answer()
        if got != file_digest(self.files / path.split("/")[-1]):
            raise Failure(f"{path}: wrong bytes")
        end = wire.how_it_ends()
        return head + wire.records + [end]

    def pipelined(self, server, prefix="", count=60):
        """Requests in few records, cut anywhere."""
        wire = self.wire(server)
        paths = [f"/{prefix}{name}" for name in [1, 4096, 16385, "none", 0]]
        data = b"".join(request(path) for path in paths) * count
        sealed = b""
        for begin in range(0, len(data), 1000):
            sealed += wire.sealed(data[begin:begin + 1000])
        wire.socket.sendall(sealed)
        answers = [wire.answer() for _ in range(count * len(paths))]
        wire.close()
        return answers

    def with_finished(self, server, version, prefix=""):
        """A request in one segment with the client's Finished."""
        wire = self.wire(server, version, handshake=False)
        wire.handshake(leave_finished=version == TLS13)
        wire.send(request(f"/{prefix}16385") * 2)
        return wire.answer(), wire.answer(), wire.close()

    def trickled(self, server, prefix=""):
        """A record byte by byte."""
        wire = self.wire(server)
        for byte in wire.sealed(request(f"/{prefix}4096")):
            wire.socket.sendall(bytes([byte]))
        return wire.answer(), wire.close()

    def ranges(self, server, *words):
        out = self.side.dir / "range"
        said = curl(self.side, "-o", out, "-w", "%{http_code}", *words,
                    self.url(server, "1048576"))
        data = out.read_bytes()
        if data.startswith(b"\r\n--"):  # the boundary is a number of the server's
            data = data.replace(data[4:24], b"boundary")
        return said, digest(data)

    def half_closed(self, server, version, path):
        """A request, and close_notify with it."""
        wire = self.wire(server, version)
        wire.tls.write(request(path))
        wire.close_notify()
        return wire.how_it_ends()

    def finished_writing(self, server, version, path, notify):
        """... and FIN; or FIN alone."""
        wire = self.wire(server, version)
        wire.get(path)
        if notify:
            wire.close_notify()
        wire.socket.shutdown(socket.SHUT_WR)
        return wire.how_it_ends()

    def truncated(self, server, version, path):
        """Half a record, and FIN."""
        wire = self.wire(server, version)
        wire.get(path)
        sealed = wire.sealed(request(path))
        wire.socket.sendall(sealed[:len(sealed) // 2])
        wire.socket.shutdown(socket.SHUT_WR)
        return wire.how_it_ends()

    def tampered(self, server, version, path, begin=-1):
        wire = self.wire(server, version)
        wire.get(path)
        sealed = bytearray(wire.sealed(request(path)))
        sealed[begin] ^= 1
        wire.socket.sendall(sealed)
        return wire.how_it_ends()

    def raw(self, server, version, path, data):
        """Bytes that are no record of ours."""
        wire = self.wire(server, version)
        wire.get(path)
        wire.socket.sendall(data)
        return wire.how_it_ends()

    def posted(self, server, path, size, *words):
        """A body, and the same one back."""
        name, out = self.files / str(size), self.side.dir / "posted"
        said = curl(self.side, "--data-binary", f"@{name}", "-o", out, "-w",
                    "%{http_code} %{size_upload} %{http_version}",
                    self.url(server, path), *words)
        if file_digest(out) != file_digest(name):
            raise Failure("wrong bytes came back")
        return said

    def uploaded(self, server, path, size, *words):
        """Up, and the file that came of it."""
        name = self.files / str(size)
        said = curl(self.side, "-T", name, self.url(server, path), "-w",
                    "%{http_code} %{size_upload}\n", *words)
        stored = self.side.dir / "put" / path.split("/")[-1]
        if file_digest(stored) != file_digest(name):
            raise Failure("wrong bytes arrived")
        stored.unlink()
        return said

    def by_http2(self, server, sizes, prefix=""):
        check = self.side.check
        files = [f"{prefix}{size}" for size in sizes]
        check(f"files by HTTP/2, {server}", self.fetched, server, files,
              "--http2")
        check(f"at once, {server}", self.parallel, server, files[:-1])

    def parallel(self, server, paths):
        """Streams of HTTP/2 at once, on one connection."""
        words = ["--http2", "-Z", "--parallel-max", 20, "-w",
                 "%{http_version} %{http_code} %{size_download}\n"]
        paths = paths * 4
        for number, path in enumerate(paths):
            words += ["-o", self.side.dir / f"stream.{number}",
                      self.url(server, path)]
        said = curl(self.side, *words)
        for number, path in enumerate(paths):
            stream = self.side.dir / f"stream.{number}"
            stream.touch()
            if file_digest(stream) != file_digest(
                    self.files / path.split("/")[-1]):
                raise Failure(f"stream {number}: wrong bytes")
            stream.unlink()
        return sorted(said.splitlines())

    # ---- In one go -----------------------------------------------------------

    def all(self, server, sizes, prefix="", records=True):
        """... that every web server can, on connections of both versions.
        records: which there are does not depend on when what comes"""
        check = self.side.check
        files = [f"{prefix}{size}" for size in sizes]
        for name, version in [("1.2", TLS12), ("1.3", TLS13)]:
            check(f"files, {server}, TLS {name}", self.fetched, server,
                  files + files[:4], "--http1.1", "--tls-max", name)
            for path in files[:-1] if records else []:
                check(f"records of {path}, {server}, TLS {name}", self.records,
                      server, version, "/" + path)
            check(f"a request with Finished, {server}, TLS {name}",
                  self.with_finished, server, version, prefix)
            self.all_ends(server, name, version, "/" + files[2])
        check(f"requests in a pipeline, {server}", self.pipelined, server, prefix)
        check(f"a request byte by byte, {server}", self.trickled, server, prefix)

    def all_ends(self, server, name, version, path):
        check = self.side.check
        name = f"{server}, TLS {name}"
        check(f"half-closed, {name}", self.half_closed, server, version, path)
        check(f"close_notify and FIN, {name}", self.finished_writing, server,
              version, path, True)
        check(f"FIN, {name}", self.finished_writing, server, version, path,
              False)
        check(f"half a record, {name}", self.truncated, server, version, path)
        check(f"a tag that is wrong, {name}", self.tampered, server, version,
              path)
        for what, data in WRONG.items():
            check(f"{what}, {name}", self.raw, server, version, path, data)


# No record that may come after a handshake
WRONG = {
    "a record that is too long": b"\x17\x03\x03\x48\x01" + bytes(18433),
    "one of 0 bytes": b"\x17\x03\x03\x00\x00",
    "one too short for a tag": b"\x17\x03\x03\x00\x07" + bytes(7),
    "a plaintext alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "change_cipher_spec": b"\x14\x03\x03\x00\x01\x01",
    "another version": b"\x17\x02\x03\x00\x20" + bytes(32),
    "another type": b"\x63\x03\x03\x00\x20" + bytes(32),
    "no TLS at all": b"GET / HTTP/1.1\r\n\r\n",
}

# A CGI that sends back what it is given.
ECHO = """#!/bin/sh
printf 'Content-Type: application/octet-stream\\r\\n'
printf "Content-Length: $CONTENT_LENGTH\\r\\n\\r\\n"
exec cat
"""


def write_echo(directory):
    script = directory / "echo.sh"
    script.write_text(ECHO)
    script.chmod(0o755)
