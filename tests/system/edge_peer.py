#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Peers with OpenSSL that do what none should, for test_examples.sh.

edge_peer.py WHAT ARGUMENT...; exits 0 if the other end did as it should.
"""
import glob
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time

FORGED = b"\x17\x03\x03\x00\x40" + bytes(64)  # it will not open
JUNK = bytes(8000000)  # more than the sockets hold


class End:
    """A connection whose bytes on the wire are ours to see and to change."""

    def __init__(self, ctx, sock, server_side=False):
        self.rx, self.tx = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = ctx.wrap_bio(self.rx, self.tx, server_side)
        self.sock = sock
        self.sock.settimeout(30)

    def receive(self):
        more = self.sock.recv(65536)
        if more:
            self.rx.write(more)
        else:
            self.rx.write_eof()

    def call(self, what, *args):
        while True:
            try:
                return what(*args)
            except ssl.SSLWantReadError:
                self.sock.sendall(self.tx.read())
                self.receive()

    def read_all(self):
        while self.call(self.tls.read, 65536):
            pass

    def send(self, more):
        """What OpenSSL has to send, and this."""
        self.sock.sendall(self.tx.read() + more)

    def expect_alert(self, words, what, *args):
        """The other end's last word, and an end that loses nothing."""
        try:
            self.call(what, *args)
        except ssl.SSLError as error:
            assert words in str(error).lower().replace("_", " "), error
        else:
            raise AssertionError("no alert")
        assert self.sock.recv(1) == b"", "more than an alert"


def client(port):
    ctx = ssl.create_default_context()
    ctx.check_hostname = False
    ctx.verify_mode = ssl.CERT_NONE
    return End(ctx, socket.create_connection(("127.0.0.1", int(port))))


def forged_record(port):
    """A server gets a record that does not open, and much behind it."""
    end = client(port)
    end.call(end.tls.do_handshake)
    end.send(FORGED + JUNK)
    end.expect_alert("bad record mac", end.tls.read, 1)


def forged_hello(port):
    """The same with the handshake not begun."""
    end = client(port)
    end.send(b"\x16\x03\x01\x00\x08\x01\x00\x00\x04" + bytes(4) + JUNK)
    end.expect_alert("alert", end.tls.read, 1)


def stays(port):
    """It has seen the alert, and goes on for ever: the server does not."""
    end = client(port)
    end.call(end.tls.do_handshake)
    end.send(FORGED)
    end.expect_alert("bad record mac", end.tls.read, 1)
    try:
        for _ in range(200):
            end.sock.sendall(b"more")
            signal.sigtimedwait([], 0.1)
    except OSError:
        return
    raise AssertionError("the server reads for ever")


def stop(process):
    """SIGSTOP, and wait until all of its threads have stopped."""
    os.kill(process, signal.SIGSTOP)
    for task in glob.glob("/proc/%d/task/*/stat" % process):
        while True:
            with open(task) as stat:
                if stat.read().rpartition(")")[2].split()[0] == "T":
                    break
            time.sleep(0.001)


def vanishes(port, server):
    """Gone with its Finished: the server cannot send its tickets any more."""
    end, server = client(port), int(server)
    end.call(end.tls.do_handshake)
    stop(server)
    try:
        end.send(b"")
        end.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                            struct.pack("ii", 1, 0))
        end.sock.close()
    finally:
        os.kill(server, signal.SIGCONT)


def serve(cert, key, command):
    """Start a client, which is to fail, and accept it."""
    ctx = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ctx.load_cert_chain(cert, key)
    listener = socket.create_server(("127.0.0.1", 0))
    port = str(listener.getsockname()[1])
    process = subprocess.Popen([*command, "--port", port])
    return process, End(ctx, listener.accept()[0], server_side=True)


def unknown(cert, key, *command):
    """A client that does not trust us; much comes behind our certificate."""
    process, end = serve(cert, key, command)
    while not end.tx.pending:
        try:
            end.tls.do_handshake()
        except ssl.SSLWantReadError:
            if not end.tx.pending:
                end.receive()
    end.send(JUNK)
    end.expect_alert("unknown ca", end.tls.do_handshake)
    end.sock.close()
    assert process.wait(30) == 1


def forged_answer(cert, key, *command):
    """A client gets a record that does not open, and much behind it."""
    process, end = serve(cert, key, command)
    end.call(end.tls.do_handshake)
    end.send(FORGED + JUNK)
    end.expect_alert("bad record mac", end.read_all)
    end.sock.close()
    assert process.wait(30) == 1


globals()[sys.argv[1]](*sys.argv[2:])
