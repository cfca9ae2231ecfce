#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""mosquitto: a broker, publishers and subscribers; BIOs of sockets."""
import os
import random
import subprocess

from trial import ADDRESS, Failure, Trial, free_port, until
from wire import digest

CONF = """
listener {port} {address}
cafile {certs}/ca.crt
certfile {certs}/server.crt
keyfile {certs}/server.key
allow_anonymous true
persistence false
# it drops messages of a fast publisher otherwise
max_queued_messages 0
log_dest stderr
log_type error
log_type warning
log_type subscribe
{user}
"""
SIZES = [1, 1000, 16384, 16385, 1 << 20]


class Scenario:
    def __init__(self, side):
        self.side = side
        self.port = free_port()
        (side.dir / "conf").write_text(CONF.format(
            port=self.port, address=ADDRESS, certs=side.trial.dir,
            user="user root" if os.geteuid() == 0 else ""))
        self.broker = side.start(
            [side.trial.paths["mosquitto"], "-c", side.dir / "conf"],
            port=self.port, label="broker")

    def words(self, name, version, *words):
        return [self.side.trial.paths[name], "-h", ADDRESS, "-p", self.port,
                "--cafile", self.side.trial.dir / "ca.crt", "--tls-version",
                version, *words]

    def subscribe(self, version, topic, count, quality):
        """In the background; what it gets is in the file out"""
        out = open(self.side.dir / f"out.{topic}", "w+b")
        before = self.broker.said().count(topic)
        process = subprocess.Popen(
            [str(word) for word in self.words(
                "mosquitto_sub", version, "-t", topic, "-C", count, "-q",
                quality, "-N")],
            env=self.side.env("subscriber"), stdout=out,
            stderr=subprocess.STDOUT)
        until("it has subscribed",
              lambda: self.broker.said().count(topic) > before)
        return process, out

    def messages(self, version, quality):
        """In order, and whole."""
        topic = f"t{version}{quality}"
        process, out = self.subscribe("tlsv1.2" if quality else version, topic,
                                      len(SIZES), quality)
        want = b""
        for size in SIZES:
            name = self.side.dir / "message"
            name.write_bytes(random.Random(size).randbytes(size))
            want += name.read_bytes()
            got = self.side.run(
                self.words("mosquitto_pub", version, "-t", topic, "-f", name,
                           "-q", quality), label="publisher")
            if got.returncode:
                raise Failure(got.stderr.decode())
        if process.wait(20):
            raise Failure("the subscriber failed")
        out.seek(0)
        if digest(out.read()) != digest(want):
            raise Failure("wrong bytes")

    def lines(self, count=3000):
        """One connection, a message a line."""
        process, out = self.subscribe("tlsv1.3", "lines", count, 1)
        lines = b"".join(b"line %d\n" % n for n in range(count))
        got = self.side.run(self.words("mosquitto_pub", "tlsv1.3", "-t",
                                       "lines", "-l", "-q", 1), input=lines,
                            label="publisher")
        if process.wait(20) or got.returncode:
            raise Failure(got.stderr.decode())
        out.seek(0)
        if out.read().replace(b"\n", b"") != lines.replace(b"\n", b""):
            raise Failure("wrong bytes")
        return digest(lines)


def scenario(side):
    it = Scenario(side)
    for version in ["tlsv1.2", "tlsv1.3"]:
        for quality in [0, 1, 2]:
            side.check(f"messages, {version}, quality {quality}", it.messages,
                       version, quality)
    side.check("lines", it.lines)
    side.check("it ends", it.broker.stop)


if __name__ == "__main__":
    trial = Trial(["mosquitto", "mosquitto_pub", "mosquitto_sub", "openssl"],
                  scenario)
    trial.run()
    for label in ["broker", "publisher", "subscriber"]:
        trial.taken(label=label)
    trial.end()
