#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""MariaDB: a server of threads; large rows, many rows, several clients."""
import os
import pathlib
import pwd
import subprocess

from trial import (ADDRESS, UNPACKED, Failure, Trial, environment, free_port,
                   until)

QUERIES = [
    "SHOW STATUS LIKE 'Ssl_cipher'; SHOW STATUS LIKE 'Ssl_version';",
    "SELECT MD5(REPEAT('a', 15000000)), LENGTH(REPEAT('a', 15000000));",
    "SELECT REPEAT('abcdefg', 2000000);",
    "SELECT seq, REPEAT(CHAR(65 + seq % 26), seq % 70), SHA2(seq, 256) "
    "FROM seq_1_to_20000;",
    "CREATE TABLE t (n INT PRIMARY KEY, b LONGBLOB); "
    "INSERT INTO t SELECT seq, REPEAT(CHAR(65 + seq % 26), seq * 100) "
    "FROM seq_1_to_1000; SELECT COUNT(*), SUM(LENGTH(b)) FROM t;",
    "SELECT n, HEX(b) FROM t WHERE n % 100 = 0 OR n < 5;",
    "SELECT * FROM nowhere;",
    "SELECT 1; SELECT SLEEP(0.1); SELECT 2; SELECT 3;",
]


def user():
    """Who the server runs as: never root."""
    if os.geteuid() != 0:
        return None
    for name in ["mysql", "nobody"]:
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    return None


def prepare(trial):
    """An empty data directory, which each side has a copy of."""
    data = trial.dir / "data"
    data.mkdir()
    share = [path for path in [UNPACKED / "usr/share/mysql",
                               pathlib.Path("/usr/share/mysql")]
             if path.is_dir()][0]
    trial.base = share.parents[1]
    got = subprocess.run(
        [trial.paths["mariadb-install-db"], "--no-defaults",
         f"--datadir={data}", f"--basedir={trial.base}", "--skip-test-db",
         "--auth-root-authentication-method=normal", "--skip-name-resolve",
         *([f"--user={user()}"] if user() else [])],
        env=environment(), capture_output=True, text=True)
    if got.returncode:
        raise Failure(got.stdout + got.stderr)


class Scenario:
    def __init__(self, side):
        self.side = side
        self.port = free_port()
        data = side.dir / "data"
        subprocess.run(["cp", "-a", side.trial.dir / "data", data], check=True)
        certs = side.trial.dir
        self.server = side.start(
            [side.trial.paths["mariadbd"], "--no-defaults",
             f"--basedir={side.trial.base}", f"--datadir={data}",
             f"--port={self.port}", f"--bind-address={ADDRESS}",
             f"--socket={side.dir}/socket", f"--pid-file={side.dir}/pid",
             "--skip-grant-tables", "--skip-networking=0",
             "--max-allowed-packet=32M", "--innodb-flush-method=fsync",
             "--innodb-flush-log-at-trx-commit=0", "--skip-name-resolve",
             f"--ssl-cert={certs}/server.crt", f"--ssl-key={certs}/server.key",
             f"--ssl-ca={certs}/ca.crt",
             *([f"--user={user()}"] if user() else [])], port=self.port)
        until("it can be asked", lambda: "ready for connections" in
              self.server.said())
        self.query("CREATE DATABASE d;", database="")

    def query(self, text, *words, database="d"):
        got = self.side.run(
            [self.side.trial.paths["mariadb"], "--no-defaults", "-h", ADDRESS,
             "-P", self.port, "--ssl", f"--ssl-ca={self.side.trial.dir}/ca.crt",
             "--max-allowed-packet=64M", *words, database],
            input=text.encode())
        return got.returncode, got.stdout, got.stderr

    def inserted(self):
        """Much from the client."""
        text = "CREATE TABLE u (n INT, b LONGBLOB);"
        for number, size in enumerate([1, 16384, 1 << 20, 8 << 20]):
            text += f"INSERT INTO u VALUES ({number}, '{'xyz' * (size // 3)}');"
        text += "SELECT n, LENGTH(b), MD5(b) FROM u;"
        return self.query(text)

    def crowd(self):
        text = ("SELECT seq, REPEAT('q', seq % 3000) FROM seq_1_to_3000;"
                "SELECT SHA2(REPEAT('r', 500000), 256);")
        clients = [subprocess.Popen(
            [self.side.trial.paths["mariadb"], "--no-defaults", "-h", ADDRESS,
             "-P", str(self.port), "--ssl", "-e", text, "d"],
            env=environment(), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT) for _ in range(8)]
        said = {client.communicate()[0] for client in clients}
        if len(said) != 1:
            raise Failure("they were told different things")
        return said, {client.returncode for client in clients}


def scenario(side):
    it = Scenario(side)
    for number, text in enumerate(QUERIES):
        for version in ["TLSv1.2", "TLSv1.3"]:
            if "CREATE" in text:
                text = text.replace("TABLE t", "OR REPLACE TABLE t")
            side.check(f"query {number}, {version}", it.query, text,
                       f"--tls-version={version}", "--force", "--comments")
    side.check("rows from the client", it.inserted)
    side.check("8 clients", it.crowd)
    side.check("it ends", it.server.stop)


if __name__ == "__main__":
    trial = Trial(["mariadbd", "mariadb", "mariadb-install-db", "openssl"],
                  scenario, prepare)
    trial.run()
    trial.taken(at_least=20)
    trial.end()
