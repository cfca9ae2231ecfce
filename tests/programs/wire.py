# SPDX-License-Identifier: MIT
"""A TLS client that sees records, and does what no good client does."""
import hashlib
import socket
import ssl
import struct

from trial import ADDRESS, PATIENCE, Failure

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


class Wire:
    """A connection. records: (type, length) of what came after the handshake"""

    def __init__(self, port, version=TLS13, handshake=True, ciphers=None,
                 alpn=None, cert=None, window=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
        context.minimum_version = context.maximum_version = version
        if ciphers:
            context.set_ciphers(ciphers)
        if alpn:
            context.set_alpn_protocols(alpn)
        if cert:
            context.load_cert_chain(cert)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing)
        self.socket = socket.socket()
        if window:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.socket.settimeout(PATIENCE)
        self.socket.connect((ADDRESS, port))
        self.records, self.partial = [], b""
        self.up = False
        if handshake:
            self.handshake()

    def handshake(self, leave_finished=False):
        """leave_finished: in self.outgoing, to leave with what is sent next"""
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.flush()
                self.more()
        self.up = True
        if not leave_finished:
            self.flush()

    # ---- Bytes -------------------------------------------------------------

    def flush(self):
        if data := self.outgoing.read():
            self.socket.sendall(data)

    def more(self, size=65536):
        """Feed TLS with what comes; False at the end."""
        data = self.socket.recv(size)
        if self.up:
            self.note(data)
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()
        return bool(data)

    def note(self, data):
        self.partial += data
        while len(self.partial) >= 5:
            kind, _, length = struct.unpack("!BHH", self.partial[:5])
            if len(self.partial) < 5 + length:
                return
            self.records.append((kind, length))
            self.partial = self.partial[5 + length:]

    def read(self, size=16384):
        while True:
            try:
                return self.tls.read(size)
            except ssl.SSLWantReadError:
                self.flush()
                self.more()
            except ssl.SSLZeroReturnError:
                return b""

    def read_exactly(self, size):
        data = bytearray()
        while len(data) < size:
            if not (got := self.read(min(16384, size - len(data)))):
                raise Failure(f"ended after {len(data)} of {size} bytes")
            data += got
        return bytes(data)

    def read_all(self):
        data = bytearray()
        while got := self.read():
            data += got
        return bytes(data)

    def sealed(self, data):
        """Records for that, unsent; each write of TLS is one, 16 KiB at most"""
        self.tls.write(data)
        return self.outgoing.read()

    def send(self, data):
        """And what else there is to send, in one send."""
        view = memoryview(data)
        for begin in range(0, len(view), 16384):
            self.tls.write(view[begin:begin + 16384])
        self.flush()

    # ---- HTTP --------------------------------------------------------------

    def head(self):
        """The head of an answer, and its Content-Length."""
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            if not (got := self.read(1)):
                raise Failure(f"no head of an answer but {data!r}")
            data += got
        lines = data.decode().split("\r\n")[:-2]
        fields = dict(line.lower().split(": ", 1) for line in lines[1:])
        kept = [line for line in lines
                if not line.lower().startswith("date:")]
        return kept, int(fields.get("content-length", 0))

    def answer(self):
        """An answer: its head without the date, and its body's digest."""
        head, length = self.head()
        return head, digest(self.read_exactly(length))

    def get(self, path, more=""):
        self.send(request(path, more))
        return self.answer()

    # ---- Ends --------------------------------------------------------------

    def how_it_ends(self):
        """What comes, until no more does: bytes, and the kind of the end."""
        size = 0
        try:
            while got := self.read():
                size += len(got)
        except (ssl.SSLError, OSError) as error:
            return size, getattr(error, "reason", None) or type(error).__name__
        try:  # there are servers that wait for that
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        try:
            rest = self.socket.recv(1)
        except OSError as error:
            return size, "close_notify", type(error).__name__
        return size, "close_notify", rest

    def close_notify(self):
        try:
            self.tls.unwrap()
        except ssl.SSLError:  # theirs has not come
            pass
        self.flush()

    def close(self):
        """As good clients do, waiting for nothing."""
        self.close_notify()
        self.socket.close()

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                               struct.pack("ii", 1, 0))
        self.socket.close()


def request(path, more=""):
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode()


def digest(data):
    return len(data), hashlib.sha256(data).hexdigest()


def file_digest(path):
    return digest(path.read_bytes())


def plain_client(port, version=None, cert=None):
    """An ordinary TLS socket."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if version:
        context.minimum_version = context.maximum_version = version
    if cert:
        context.load_cert_chain(cert)
    sock = socket.create_connection((ADDRESS, port), PATIENCE)
    return context.wrap_socket(sock)
