#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Clients that curl cannot be, for test_https_files.sh.

https_client.py PORT WHAT ...; exits 0 if the server did as it should.
"""
import socket
import ssl
import struct
import sys
import time


def connect(port):
    ctx = ssl.create_default_context()
    ctx.check_hostname = False
    ctx.verify_mode = ssl.CERT_NONE
    # An end without close_notify is to be an error.
    ctx.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    sock = socket.create_connection(("127.0.0.1", port))
    sock.settimeout(30)
    return ctx.wrap_socket(sock, suppress_ragged_eofs=False)


def request(path, more=""):
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode()


def read_all(conn):
    data = bytearray()
    while more := conn.recv(65536):
        data += more
    return data


class Answers:
    """The answers on a connection, one after the other."""

    def __init__(self, conn):
        self.conn, self.data = conn, bytearray()

    def more(self):
        got = self.conn.recv(65536)
        assert got, "the server ended the connection"
        self.data += got

    def next(self):
        while b"\r\n\r\n" not in self.data:
            self.more()
        head, self.data = self.data.split(b"\r\n\r\n", 1)
        lines = head.decode().split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines[1:])
        length = int(fields["content-length"])
        while len(self.data) < length:
            self.more()
        body, self.data = self.data[:length], self.data[length:]
        return int(lines[0].split()[1]), body


def pipeline(port, path, count, file):
    """Send many requests before reading an answer."""
    want, count = open(file, "rb").read(), int(count)
    conn = connect(port)
    pairs = request(path) + request("/none")
    conn.sendall(pairs * count + request(path, "Connection: close\r\n"))
    answers = Answers(conn)
    for _ in range(count):
        assert answers.next() == (200, want)
        assert answers.next() == (404, b"404 Not Found\n")
    assert answers.next() == (200, want)
    assert not answers.data and not read_all(conn)


def head(port, path):
    """HEAD has the fields of GET, and no body in front of the next answer."""
    conn = connect(port)
    conn.sendall(request(path).replace(b"GET", b"HEAD") + request(path))
    data = b""
    while data.count(b"\r\n\r\n") < 2:
        data += conn.recv(65536)
    first, second, _ = data.split(b"\r\n\r\n", 2)
    assert first == second, f"{first} {second}"


def trickle(port, path, file):
    conn = connect(port)
    for byte in b"\r\n" + request(path) + request(path):
        conn.sendall(bytes([byte]))
    want, answers = open(file, "rb").read(), Answers(conn)
    assert answers.next() == (200, want)
    assert answers.next() == (200, want)


def wrong(port):
    """Each gets its status, and the end of the connection."""
    host = "Host: x\r\n"
    cases = {
        "GET / HTTP/1.1\r\n\r\n": 400,  # no Host
        f"GET / HTTP/1.1\r\n{host}{host}\r\n": 400,
        f"GET / HTTP/1.1\n{host}\r\n": 400,
        "GET / HTTP/1.1\r\nHost: x\n\r\n\r\n": 400,
        f"GET  / HTTP/1.1\r\n{host}\r\n": 400,
        f"GET /\r\n{host}\r\n": 400,
        f"GET / HTTP/1.1 \r\n{host}\r\n": 400,
        f"GE(T / HTTP/1.1\r\n{host}\r\n": 400,
        f"GET / HTTP/1.1\r\n{host}A : b\r\n\r\n": 400,
        f"GET / HTTP/1.1\r\n{host}A: b\r\n c\r\n\r\n": 400,
        f"GET / HTTP/1.1\r\n{host}A: b\x01c\r\n\r\n": 400,
        f"GET / HTTP/1.1\r\n{host}: b\r\n\r\n": 400,
        f"GET / HTTP/1.1\r\n{host}no colon\r\n\r\n": 400,
        f"GET / HTTP/1.1\r\n{host}Content-Length: -1\r\n\r\n": 400,
        f"GET / HTTP/1.1\r\n{host}Content-Length: 1 \r\n\r\nx": 413,
        f"GET / HTTP/1.1\r\n{host}Range: bytes=0-1\r\nRange: a\r\n\r\n": 400,
        f"GET / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n": 413,
        f"GET / HTTP/1.1\r\n{host}Transfer-Encoding: gzip\r\n\r\n": 501,
        f"GET / HTTP/2.0\r\n{host}\r\n": 505,
        f"GET / HTTQ/1.1\r\n{host}\r\n": 400,
        f"GET * HTTP/1.1\r\n{host}Connection: close\r\n\r\n": 400,
        f"GET /{'a' * 9000} HTTP/1.1\r\n{host}\r\n": 414,
        f"GET / HTTP/1.1\r\n{host}A: {'b' * 9000}\r\n\r\n": 431,
        f"GET http://x/none HTTP/1.1\r\n{host}Connection: close\r\n\r\n": 404,
        f"GET /none HTTP/1.1\r\n{host}Connection: a, close\r\n\r\n": 404,
        "GET /none HTTP/1.0\r\n\r\n": 404,
    }
    for text, status in cases.items():
        conn = connect(port)
        conn.sendall(text.encode("latin-1"))
        answers = Answers(conn)
        got, _ = answers.next()
        assert got == status, f"{got}, expected {status}: {text[:60]!r}"
        assert not read_all(conn), f"more than one answer: {text[:60]!r}"


def sleepy(port, path, seconds):
    """Ask, sleep, then take all of it."""
    conn = connect(port)
    conn.sendall(request(path, "Connection: close\r\n"))
    time.sleep(float(seconds))
    head, body = read_all(conn).split(b"\r\n\r\n", 1)
    assert f"Content-Length: {len(body)}\r\n".encode() in head + b"\r\n"


def half_close(port, path, file):
    """Ask, and send close_notify at once. The answer must come all the same."""
    ctx = ssl.create_default_context()
    ctx.check_hostname = False
    ctx.verify_mode = ssl.CERT_NONE
    rx, tx = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ctx.wrap_bio(rx, tx)
    sock = socket.create_connection(("127.0.0.1", port))
    sock.settimeout(30)

    def call(what, *args):
        while True:
            try:
                return what(*args)
            except ssl.SSLWantReadError:
                sock.sendall(tx.read())
                more = sock.recv(65536)
                assert more, "no close_notify"
                rx.write(more)

    call(tls.do_handshake)
    tls.write(request(path))
    try:
        tls.unwrap()
    except ssl.SSLWantReadError:
        pass
    data = bytearray()
    try:
        while more := call(tls.read, 65536):
            data += more
    except ssl.SSLZeroReturnError:
        pass
    assert data.split(b"\r\n\r\n", 1)[1] == open(file, "rb").read()


def abrupt(port, path, count):
    for i in range(int(count)):
        conn = connect(port)
        conn.sendall(request(path))
        if i % 2:
            conn.recv(65536)
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                        struct.pack("ii", 1, 0))
        conn.close()


def ends_soon(conn):
    start = time.monotonic()
    assert read_all(conn) == b""
    assert time.monotonic() - start < 20


def idle(port):
    conn = connect(port)
    ends_soon(conn)
    conn = connect(port)
    conn.sendall(request("/none"))
    Answers(conn).next()
    ends_soon(conn)


def half(port):
    """Half a request, and a little more of it from time to time."""
    conn = connect(port)
    conn.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nA: ")
    try:
        for _ in range(300):
            conn.sendall(b"b")
            time.sleep(0.1)
    except OSError:
        return
    raise AssertionError("the server waits for ever")


def stuck(port, path, log):
    """Take nothing. The server must end it, and say that it is no end."""
    conn = connect(port)
    conn.sendall(request(path))
    for _ in range(400):
        if "takes no more, with " in open(log).read():
            break
        time.sleep(0.1)
    try:
        read_all(conn)
    except OSError:
        return
    raise AssertionError("a clean end, or everything")


globals()[sys.argv[2]](int(sys.argv[1]), *sys.argv[3:])
