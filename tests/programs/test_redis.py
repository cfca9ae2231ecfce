#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""redis: pipelines, large values, replicas, snapshots, its own tools."""
import hashlib
import random
import re

from trial import ADDRESS, Failure, Trial, free_port, until
from wire import TLS12, TLS13, plain_client

MIB = 1 << 20


def command(*words):
    data = b"*%d\r\n" % len(words)
    for word in words:
        word = word if isinstance(word, bytes) else str(word).encode()
        data += b"$%d\r\n%b\r\n" % (len(word), word)
    return data


class Client:
    def __init__(self, port, version=None):
        self.socket = plain_client(port, version)
        self.file = self.socket.makefile("rb")

    def reply(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"$" and int(rest) >= 0:
            return self.file.read(int(rest) + 2)[:-2]
        if kind == b"*" and int(rest) >= 0:
            return [self.reply() for _ in range(int(rest))]
        if kind in b"+-:$*" and line.endswith(b"\r\n"):
            return line[:-2]
        raise Failure(f"no reply but {line!r}")

    def ask(self, *words):
        self.socket.sendall(command(*words))
        return self.reply()

    def pipeline(self, commands):
        """All sent before a reply is read: redis keeps them for us."""
        self.socket.sendall(b"".join(commands))
        return [self.reply() for _ in commands]

    def info(self, section, name):
        for line in self.ask("INFO", section).decode().splitlines():
            if line.startswith(name + ":"):
                return line.split(":")[1]
        raise Failure(f"no {name} in INFO {section}")


def digest(replies):
    seen = hashlib.sha256()
    for reply in replies:
        seen.update(repr(reply).encode())
    return len(replies), seen.hexdigest()


class Server:
    def __init__(self, side, label, *words):
        self.port = free_port()
        place = side.dir / label
        place.mkdir()
        certs = side.trial.dir
        # Debian's redis-server is a link to redis-check-rdb, which goes by name.
        program = place / "redis-server"
        program.symlink_to(side.trial.paths["redis-check-rdb"])
        self.running = side.start([
            program, "--port", 0, "--tls-port", self.port, "--bind", ADDRESS,
            "--tls-cert-file", certs / "server.crt", "--tls-key-file",
            certs / "server.key", "--tls-ca-cert-file", certs / "ca.crt",
            "--tls-auth-clients", "no", "--tls-replication", "yes", "--dir",
            place, "--save", "", "--enable-debug-command", "yes", "--loglevel", "debug",
            "--repl-diskless-sync-delay", "0", *words],
            port=self.port, label=label)

    def client(self, version=None):
        return Client(self.port, version)


class Scenario:
    def __init__(self, side):
        self.side = side
        self.random = random.Random(1)
        self.primary = Server(side, "primary")
        self.threaded = Server(side, "threaded", "--io-threads", "3",
                               "--io-threads-do-reads", "yes")

    def tool(self, name, server, *words, **more):
        """One of redis's own, with the drop-in too."""
        certs = self.side.trial.dir
        return self.side.run(
            [self.side.trial.paths[name], "-h", ADDRESS, "-p", server.port,
             "--tls", "--cacert", certs / "ca.crt", *words],
            label=name, **more)

    def pipelined(self, server, version, count=2000):
        client = server.client(version)
        values = self.random.randbytes(20000)
        commands = []
        for number in range(count):
            key = f"key:{version.name}:{number % 700}"
            size = [3, 1000, 16384, 16385][number % 4]
            commands += [command("SET", key, values[:size]),
                         command("GET", key), command("STRLEN", key)]
        return digest(client.pipeline(commands))

    def large(self, server, version):
        client = server.client(version)
        values = [self.random.randbytes(size) for size in
                  [MIB, MIB - 1, MIB + 1, 8 * MIB, 1]]
        for number, value in enumerate(values):
            if client.ask("SET", f"large:{number}", value) != b"+OK":
                raise Failure("not set")
        for number, value in enumerate(values):
            if client.ask("GET", f"large:{number}") != value:
                raise Failure("wrong bytes")
        commands = [command("GET", f"large:{n % 5}") for n in range(15)]
        return digest(client.pipeline(commands))

    def cli(self):
        said = []
        for words in [["PING"], ["SET", "a", "b"], ["GET", "large:0"],
                      ["KEYS", "large:*"], ["WRONG"], ["-r", "200", "INCR", "n"],
                      ["--scan", "--pattern", "large:[0-3]"],
                      ["EVAL", "return {1,2,{3,'x'}}", "0"]]:
            got = self.tool("redis-cli", self.primary, *words)
            said.append((words, got.returncode, digest(sorted(
                got.stdout.splitlines())), got.stderr))
        return said

    def inserted(self):
        """redis-cli --pipe: 20,000 commands."""
        data = b"".join(command("SET", f"many:{n}", f"value {n * n}")
                        for n in range(20000))
        got = self.tool("redis-cli", self.primary, "--pipe", input=data)
        client = self.primary.client()
        return got.stdout, got.returncode, client.ask("DBSIZE")

    def benchmark(self, server, *words):
        """Its figures are another each time; what it has done is not."""
        client = server.client()
        client.ask("FLUSHALL")
        client.ask("CONFIG", "RESETSTAT")
        got = self.tool("redis-benchmark", server, "-q", *words)
        if got.returncode:
            raise Failure(got.stderr.decode())
        said = client.ask("INFO", "commandstats").decode()
        calls = sorted(re.findall("(?:set|get|lpush|mset):calls=[0-9]+", said))
        kinds = [line.split(":")[0] for line in
                 got.stdout.decode().replace("\r", "\n").splitlines()
                 if "per second" in line]
        return calls, kinds

    def subscribed(self):
        """A message of 1 MiB for each of 5, small ones between."""
        clients = [self.primary.client([TLS12, TLS13][n % 2]) for n in range(5)]
        for client in clients:
            client.ask("SUBSCRIBE", "news")
        sender = self.primary.client()
        value = self.random.randbytes(MIB)
        for message in [b"x", value, b"y", value + b"z"]:
            sender.ask("PUBLISH", "news", message)
        return [digest([client.reply() for _ in range(4)])
                for client in clients]

    def blocked(self):
        """An answer to who waits; no request is under way then."""
        waiting, other = self.primary.client(), self.primary.client()
        waiting.socket.sendall(command("BLPOP", "list", 0))
        until("a client is blocked", lambda: other.info(
            "clients", "blocked_clients") == "1")
        other.ask("RPUSH", "list", b"v" * 50000)
        return waiting.reply()

    def snapshot(self):
        """BGSAVE forks; the parent's connections go on meanwhile."""
        client, other = self.primary.client(), self.primary.client(TLS12)
        forks = int(client.info("stats", "total_forks"))
        answers = []
        for _ in range(3):
            answers.append(client.ask("BGSAVE"))
            for number in range(10):
                answers.append(other.ask("GET", f"large:{number % 5}"))
            until("the snapshot is there", lambda: client.info(
                "persistence", "rdb_bgsave_in_progress") == "0")
            answers.append(client.info("persistence", "rdb_last_bgsave_status"))
        got = self.side.run([self.side.trial.paths["redis-check-rdb"],
                             self.side.dir / "primary" / "dump.rdb"])
        return (digest(answers), got.returncode,
                int(client.info("stats", "total_forks")) - forks)

    def replicated(self, label, *words):
        """A replica gets all there is, and what comes afterwards."""
        primary = self.primary.client()
        for number in range(0, len(words), 2):
            primary.ask("CONFIG", "SET", *words[number:number + 2])
        replica = Server(self.side, label, "--replicaof",
                         f"{ADDRESS} {self.primary.port}")
        client = replica.client()
        until("the link is up", lambda: client.info(
            "replication", "master_link_status") == "up")
        primary.pipeline([command("SET", f"{label}:{n}", str(n) * 5000)
                          for n in range(500)])
        primary.ask("WAIT", 1, 10000)
        seen = [c.ask("DEBUG", "DIGEST") for c in (primary, client)]
        if seen[0] != seen[1]:
            raise Failure(f"another digest: {seen}")
        return seen, client.ask("DBSIZE"), replica.running.stop()

    def killed(self):
        """CLIENT KILL, QUIT, and a protocol error: how they end"""
        ends = []
        for data in [command("QUIT"), b"*1\r\n$-7\r\n",
                     command("CLIENT", "KILL", "TYPE", "normal", "SKIPME",
                             "no")]:
            client = self.primary.client()
            client.socket.sendall(command("PING") + data)
            try:
                ends.append(client.file.read())
            except OSError as error:
                ends.append(getattr(error, "reason", repr(error)))
        return ends


def scenario(side):
    it = Scenario(side)
    check = side.check
    for server in ["primary", "threaded"]:
        for version in [TLS12, TLS13]:
            check(f"a pipeline, {server}, {version.name}", it.pipelined,
                  getattr(it, server), version)
            check(f"large values, {server}, {version.name}", it.large,
                  getattr(it, server), version)
    check("redis-cli", it.cli)
    check("mass insertion", it.inserted)
    check("messages to subscribers", it.subscribed)
    check("a blocked client", it.blocked)
    check("snapshots", it.snapshot)
    check("a replica", it.replicated, "replica", "repl-diskless-sync", "yes")
    check("a replica by a file", it.replicated, "replica2",
          "repl-diskless-sync", "no")
    check("how connections end", it.killed)
    for server in ["primary", "threaded"]:
        check(f"redis-benchmark, {server}", it.benchmark, getattr(it, server),
              "-n", "4000", "-P", "16", "-d", "1024", "-t", "set,get,lpush,mset")
        check(f"without a pipeline, {server}", it.benchmark,
              getattr(it, server), "-n", "1000", "-d", "16384", "-t", "set,get")
        check(f"{server} ends", getattr(it, server).running.stop)


if __name__ == "__main__":
    trial = Trial(["redis-check-rdb", "redis-cli", "redis-benchmark",
                   "openssl"], scenario)
    trial.run()
    for label in ["primary", "threaded", "replica", "replica2", "redis-cli",
                  "redis-benchmark"]:
        trial.taken(label=label)
    trial.end()
