#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""PostgreSQL: a process for each client, and libpq; custom BIOs."""
import os
import pwd
import re
import subprocess

from trial import ADDRESS, Failure, Trial, environment, free_port, until

QUERIES = [
    "SELECT ssl, version, cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    "SELECT repeat('abcdefg', 2000000)",
    "SELECT n, repeat(chr(65 + n % 26), n % 70), md5(n::text) "
    "FROM generate_series(1, 20000) n",
    "CREATE TABLE t AS SELECT n, repeat('x', n * 100) AS b "
    "FROM generate_series(1, 1000) n",
    "SELECT count(*), sum(length(b)), md5(string_agg(b, '' ORDER BY n)) FROM t",
    "COPY t TO STDOUT",
    "SELECT * FROM nowhere",
]


def user():
    """PostgreSQL refuses to be root."""
    if os.geteuid() != 0:
        return None
    for name in ["postgres", "nobody"]:
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    return None


def prepare(trial):
    data = trial.dir / "data"
    data.mkdir()
    if user():
        os.chown(data, pwd.getpwnam(user()).pw_uid, -1)
    got = subprocess.run(
        [trial.paths["initdb"], "-D", data, "-U", "test", "-A", "trust",
         "--no-sync", "--no-locale", "-E", "UTF8"], env=environment(),
        user=user(), capture_output=True, text=True, cwd=data)
    if got.returncode:
        raise Failure(got.stdout + got.stderr)


class Scenario:
    def __init__(self, side):
        self.side = side
        self.port = free_port()
        data = side.dir / "data"
        subprocess.run(["cp", "-a", side.trial.dir / "data", data], check=True)
        for name in ["server.key", "server.crt"]:
            text = (side.trial.dir / name).read_bytes()
            (data / name).write_bytes(text)
            (data / name).chmod(0o600)
            if user():
                os.chown(data / name, pwd.getpwnam(user()).pw_uid, -1)
        self.server = side.start(
            [side.trial.paths["postgres"], "-D", data, "-p", self.port, "-h",
             ADDRESS, "-k", data, "-c", "ssl=on", "-F"], port=self.port,
            user=user())
        until("it can be asked", lambda: "ready to accept connections" in
              self.server.said())

    def target(self, version="TLSv1.3"):
        return (f"host={ADDRESS} port={self.port} user=test dbname=postgres "
                f"sslmode=verify-ca sslrootcert={self.side.trial.dir}/ca.crt "
                f"ssl_min_protocol_version={version} "
                f"ssl_max_protocol_version={version}")

    def query(self, text, version="TLSv1.3", **more):
        got = self.side.run([self.side.trial.paths["psql"], "-X", "-A", "-c",
                             text, self.target(version)], label="psql", **more)
        return got.returncode, got.stdout, got.stderr

    def copied(self):
        """Much from the client."""
        lines = b"".join(b"%d\t%b\n" % (n, b"y" * (n % 5000))
                         for n in range(3000))
        return (self.query("CREATE TABLE u (n int, b text)"),
                self.query("COPY u FROM STDIN", input=lines),
                self.query("SELECT sum(length(b)), md5(string_agg(b, '' "
                           "ORDER BY n)) FROM u"))

    def benchmark(self):
        bench = [self.side.trial.paths["pgbench"]]
        env = {"PGSSLMODE": "require"}
        target = ["-h", ADDRESS, "-p", self.port, "-U", "test", "postgres"]
        made = self.side.run([*bench, "-i", "-q", *target], env=env,
                             label="pgbench")
        run = self.side.run([*bench, "-c", 4, "-t", 100, "-S", *target],
                            env=env, label="pgbench")
        return (made.returncode, run.returncode, re.findall(
            "(?:actually|failed).*", run.stdout.decode()))


def scenario(side):
    it = Scenario(side)
    for number, text in enumerate(QUERIES):
        for version in ["TLSv1.2", "TLSv1.3"]:
            if not (version == "TLSv1.3" and text.startswith("CREATE")):
                side.check(f"query {number}, {version}", it.query, text,
                           version)
    side.check("rows from the client", it.copied)
    side.check("pgbench", it.benchmark)
    side.check("it ends", it.server.stop)


if __name__ == "__main__":
    trial = Trial(["postgres", "initdb", "psql", "pgbench", "openssl"],
                  scenario, prepare)
    trial.run()
    for label in ["server", "psql", "pgbench"]:
        trial.taken(label=label)
    trial.end()
