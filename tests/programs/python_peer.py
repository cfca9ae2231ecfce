#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Programs that use Python's ssl, to be run with and without the drop-in.

python_peer.py HOW ADDRESS PORT CERTIFICATE [VERSION]

As a server it answers lines, as its functions do_...() below; as a client it
prints what it sees.
"""
import asyncio
import http.client
import http.server
import os
import random
import selectors
import signal
import socket
import socketserver
import ssl
import subprocess
import sys
import threading


def pattern(size):
    return random.Random(size).randbytes(size)


# ---- What servers do with a line ---------------------------------------------

def do_size(conn, reader, size):
    """So many bytes."""
    conn.sendall(pattern(int(size)))


def do_pieces(conn, reader, size):
    for piece in range(int(size)):
        conn.sendall(pattern(piece))


def do_echo(conn, reader, size):
    conn.sendall(reader.read(int(size)))


def do_plain(conn, reader, size):
    """No TLS any more, on this socket."""
    raw = conn.unwrap()
    raw.sendall(pattern(int(size)))
    raw.sendall(raw.recv(100))
    raw.close()


def do_unwrap(conn, reader, size):
    conn.sendall(pattern(int(size)))
    conn.unwrap()
    conn.close()


def do_drop(conn, reader, size):
    conn.sendall(pattern(int(size)))
    conn.close()


def do_shut(conn, reader, size):
    """shutdown() beneath TLS"""
    conn.sendall(pattern(int(size)))
    conn.shutdown(socket.SHUT_WR)
    conn.recv(1)


def do_detach(conn, reader, size):
    """Its descriptor is closed by number, and by who knows no TLS."""
    conn.sendall(pattern(int(size)))
    os.close(conn.detach())


def do_exit(conn, reader, size):
    conn.sendall(pattern(int(size)))
    sys.exit(0)


def do_now(conn, reader, size):
    conn.sendall(pattern(int(size)))
    os._exit(0)


def do_term(conn, reader, size):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    conn.sendall(pattern(int(size)))
    os.kill(os.getpid(), signal.SIGTERM)


def do_segv(conn, reader, size):
    conn.sendall(pattern(int(size)))
    os.kill(os.getpid(), signal.SIGSEGV)


def do_abort(conn, reader, size):
    conn.sendall(pattern(int(size)))
    os.abort()


def do_execute(conn, reader, size):
    conn.sendall(pattern(int(size)))
    os.execv("/bin/true", ["true"])


def do_spawn(conn, reader, size):
    """Another program, for which it waits."""
    conn.sendall(pattern(int(size)))
    subprocess.run(["/bin/true"], check=True)
    conn.sendall(pattern(int(size)))


def do_child(conn, reader, size):
    """A child goes on with it, and ends; the parent does nothing."""
    conn.sendall(pattern(int(size)))
    if not os.fork():
        conn.sendall(pattern(int(size) + 1))
        os._exit(0)
    os.wait()
    os._exit(0)


def do_parent(conn, reader, size):
    """A child that does nothing with it, and the parent goes on."""
    conn.sendall(pattern(int(size)))
    if not os.fork():
        os._exit(0)
    os.wait()
    conn.sendall(pattern(int(size) + 1))


def do_thread(conn, reader, size):
    """Each in a thread of its own, one after the other."""
    for more in range(3):
        thread = threading.Thread(target=do_size,
                                  args=(conn, reader, int(size) + more))
        thread.start()
        thread.join()


def do_timeout(conn, reader, size):
    """Nothing comes; then it does."""
    conn.settimeout(0.2)
    try:
        conn.recv(1)
    except TimeoutError as error:
        conn.settimeout(30)
        conn.sendall(str(error).encode())
    conn.sendall(conn.recv(int(size)))


def do_pending(conn, reader, size):
    """How much there is to be read of a record."""
    seen = []
    while not seen or seen[-1][1]:
        got = conn.recv(7)
        seen.append((len(got), conn.pending()))
    conn.sendall(repr(seen).encode())


class Reader:
    """Of bytes no more than asked for: none may be kept from do_timeout()."""

    def __init__(self, conn):
        self.conn = conn

    def line(self):
        data = b""
        while not data.endswith(b"\n"):
            if not (got := self.conn.recv(1)):
                return data
            data += got
        return data

    def read(self, size):
        data = bytearray(size)
        view, got = memoryview(data), 0
        while got < size:
            more = self.conn.recv_into(view[got:])
            if not more:
                raise EOFError
            got += more
        return data


def serve(conn):
    reader = Reader(conn)
    while line := reader.line():
        what, size = line.decode().split()
        globals()["do_" + what](conn, reader, size)
        if conn.fileno() < 0:
            return  # its number may be another's by now
    conn.unwrap()


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        if isinstance(self.request, ssl.SSLSocket):
            serve(self.request)
        else:
            serve(server_context().wrap_socket(self.request, server_side=True))


def server_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    if VERSION:
        context.minimum_version = context.maximum_version = VERSION
    return context


def socket_server(base, handshake_first):
    """handshake_first: by who accepts, before there is a thread or process"""
    class Server(base):
        allow_reuse_address = True
        daemon_threads = True
        block_on_close = False

        def get_request(self):
            conn, peer = super().get_request()
            if handshake_first:
                conn = server_context().wrap_socket(conn, server_side=True)
            return conn, peer

    with Server((ADDRESS, PORT), Handler) as server:
        server.serve_forever()


def threads():
    socket_server(socketserver.ThreadingTCPServer, True)


def forking():
    """The child goes on with what the parent has begun."""
    socket_server(socketserver.ForkingTCPServer, True)


def forking_before():
    socket_server(socketserver.ForkingTCPServer, False)


def nonblocking():
    """Echoes, in a loop of its own."""
    selector = selectors.DefaultSelector()
    listener = socket.create_server((ADDRESS, PORT))
    selector.register(listener, selectors.EVENT_READ)
    context, queues, wanting = server_context(), {}, {}
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                conn = context.wrap_socket(listener.accept()[0],
                                           server_side=True)
                conn.setblocking(False)
                queues[conn] = bytearray()
                selector.register(conn, selectors.EVENT_READ)
                continue
            conn = key.fileobj
            if not echo_some(conn, queues[conn], wanting):
                selector.unregister(conn)
                conn.close()
                continue
            events = selectors.EVENT_READ
            if queues[conn]:
                events |= selectors.EVENT_WRITE
            selector.modify(conn, events)


def echo_some(conn, queue, wanting):
    """False at the end. A write that has to be repeated is, as it was."""
    while True:
        try:
            got = conn.recv(5000)
        except ssl.SSLWantReadError:
            break
        if not got:
            return False
        queue += got
        if len(queue) > 300000:
            break
    while queue:
        piece = wanting.pop(conn, None) or bytes(queue[:40000])
        try:
            sent = conn.send(piece)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            wanting[conn] = piece
            break
        del queue[:sent]
    return True


def asynchronous():
    """Echoes; what asyncio uses is a BIO in memory."""
    async def echo(reader, writer):
        while data := await reader.read(5000):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def main():
        server = await asyncio.start_server(echo, ADDRESS, PORT,
                                            ssl=server_context())
        await server.serve_forever()

    asyncio.run(main())


def files():
    """http.server, as it is."""
    class Quiet(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

    server = http.server.ThreadingHTTPServer((ADDRESS, PORT), Quiet)
    server.socket = server_context().wrap_socket(server.socket,
                                                 server_side=True)
    server.serve_forever()


# ---- Clients -----------------------------------------------------------------

def client_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(CERTIFICATE)
    if VERSION:
        context.minimum_version = context.maximum_version = VERSION
    return context


def connected(**more):
    sock = socket.create_connection((ADDRESS, PORT), 30)
    return client_context().wrap_socket(sock, server_hostname="localhost",
                                        **more)


def client():
    """Of a server `threads`."""
    conn = connected()
    print(conn.version(), conn.cipher(), conn.getpeercert()["subject"])
    reader = Reader(conn)
    for size in [0, 1, 16383, 16384, 16385, 1000000]:
        conn.sendall(b"size %d\n" % size)
        print(size, reader.read(size) == pattern(size), conn.pending())
        conn.sendall(b"echo %d\n" % size + pattern(size))
        print(size, reader.read(size) == pattern(size), conn.pending())
    conn.settimeout(0.1)
    for _ in range(2):
        try:
            print(conn.recv(1))
        except TimeoutError as error:
            print(error)
    conn.setblocking(False)
    try:
        print(conn.recv(1))
    except ssl.SSLWantReadError as error:
        print(error)
    conn.setblocking(True)
    conn.sendall(b"unwrap 5\n")
    print(reader.read(5) == pattern(5), conn.recv(1), type(conn.unwrap()))
    for ending in [b"plain 9\n", b"drop 70000\n", b"shut 20000\n"]:
        client_end(ending)
    client_forks()


def client_end(line):
    conn = connected()
    conn.sendall(line)
    what, size = line.split()
    reader = Reader(conn)
    if what == b"plain":
        raw = conn.unwrap()
        raw.sendall(b"no secret")
        print(raw.makefile("rb").read() == pattern(int(size)) + b"no secret")
        return
    print(what, reader.read(int(size)) == pattern(int(size)))
    try:
        print(conn.recv(1))
    except OSError as error:
        print(error)


def client_forks():
    conn = connected()
    reader = Reader(conn)
    conn.sendall(b"size 100\n")
    print(reader.read(100) == pattern(100))
    if not os.fork():
        conn.sendall(b"size 100\n")
        good = reader.read(100) == pattern(100)
        os._exit(0 if good else 1)
    print(os.wait()[1])


def fetcher():
    """Of a server `files`."""
    for name in sys.argv[6:]:
        got = http.client.HTTPSConnection("localhost", PORT,
                                          context=client_context())
        got.sock = connected()
        for _ in range(2):
            got.request("GET", f"/{name}")
            answer = got.getresponse()
            print(answer.status, answer.read() == open(name, "rb").read())


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
HOW, ADDRESS, PORT, CERTIFICATE = sys.argv[1:5]
PORT = int(PORT)
VERSION = None
if len(sys.argv) > 5 and sys.argv[5] != "any":
    VERSION = ssl.TLSVersion[sys.argv[5]]
globals()[HOW]()
