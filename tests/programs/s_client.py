# SPDX-License-Identifier: MIT
"""openssl s_client and s_server, talked to by pipes."""
import fcntl
import os
import signal
import struct
import subprocess
import termios
import threading
import time

from trial import (ADDRESS, PATIENCE, Failure, environment, listens, until)


class Talk:
    """A program with pipes; what it says is gathered."""

    def __init__(self, argv, env=None, cwd=None):
        self.process = subprocess.Popen(
            [str(word) for word in argv], env=env or environment(), cwd=cwd,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True)
        self.said = b""
        self.over = False
        self.changed = threading.Condition()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while data := os.read(self.process.stdout.fileno(), 65536):
            with self.changed:
                self.said += data
                self.changed.notify_all()
        with self.changed:
            self.over = True
            self.changed.notify_all()

    def say(self, data):
        """It is read by itself: a command is one only so."""
        fd = self.process.stdin.fileno()
        os.write(fd, data)
        until("it reads", lambda: self.over or not struct.unpack(
            "i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0])

    def expect(self, text, times=1):
        """Wait until it has said that; returns all it has."""
        end = time.monotonic() + PATIENCE
        with self.changed:
            while self.said.count(text) < times:
                left = end - time.monotonic()
                if self.over or left < 0:
                    raise Failure(f"no {text!r} in {self.said[-3000:]!r}")
                self.changed.wait(left)
            return self.said

    def end(self, number=None):
        """Its input ends, or with a signal; returns its exit status."""
        if number:
            self.process.send_signal(number)
        else:
            self.process.stdin.close()
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure(f"does not end: {self.said[-3000:]!r}")
        with self.changed:
            self.changed.wait_for(lambda: self.over, PATIENCE)
        return status

    def kill(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def s_client(side, port, *words, env=None):
    """Connected, or it raises."""
    talk = Talk([side.trial.paths["openssl"], "s_client", "-connect",
                 f"{ADDRESS}:{port}", "-servername", "localhost", "-CAfile",
                 side.trial.dir / "ca.crt", *words], env=env, cwd=side.dir)
    talk.expect(b"Verify return code: 0")
    return talk


def s_server(side, port, *words, env=None, cwd=None):
    """Listening."""
    talk = Talk([side.trial.paths["openssl"], "s_server", "-accept",
                 f"{ADDRESS}:{port}", "-cert", side.trial.dir / "server.crt",
                 "-key", side.trial.dir / "server.key", *words], env=env,
                cwd=cwd or side.dir)
    until("s_server listens", lambda: listens(port) or talk.over)
    return talk
