#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""nginx, and 64 clients of all kinds at once: soak_client.

SOAK_SECONDS is how long, 10 if it is not set. The path of soak_client is the
second argument, or in the environment as SOAK_CLIENT.
"""
import json
import os
import re
import subprocess
import sys
import threading
import time

from nginx import Nginx
from trial import ADDRESS, ROOT, Failure, Trial, until

SIZES = [0, 1, 137, 4096, 16383, 16384, 16385, 40000, 1 << 20, 16 << 20]
SECONDS = float(os.environ.get("SOAK_SECONDS") or 10)
CLIENT = (sys.argv[2:] + [os.environ.get("SOAK_CLIENT") or
                          ROOT / "build/tests/programs/soak_client"])[0]
CLIENTS = 64
# Lines in the log that there are or are not, as time has it. Upstream is nginx
# itself, whose workers of before a reload end what is kept.
CHANCE = ("is buffered|closed (keepalive )?connection|Broken pipe|"
          "Connection reset by peer|endpoint is not connected|"
          "upstream prematurely closed")
PUT = "location /put/ { dav_methods PUT; root @DIR@/@SIDE@; }"
SERVERS = {
    "upstream": PUT,
    "main": PUT + """
        keepalive_requests 500;
        location /proxy/ {
            proxy_pass https://upstream/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }
        location /proxy/put/ {
            proxy_pass https://@ADDRESS@:@upstream@/put/;
            proxy_request_buffering off;
            proxy_http_version 1.1;
        }
    """,
}
HTTP = """
    upstream upstream {
        server @ADDRESS@:@upstream@ max_fails=0;
        keepalive 4;
        keepalive_timeout 1s;
    }
"""


def of_process(pid, what):
    """rss, in bytes, or how many descriptors; None: it is gone"""
    try:
        if what == "rss":
            with open(f"/proc/{pid}/statm") as statm:
                return int(statm.read().split()[1]) * 4096
        return len(os.listdir(f"/proc/{pid}/fd"))
    except (FileNotFoundError, ProcessLookupError):
        return None


class Watch(threading.Thread):
    """What each worker takes, as time goes on."""

    def __init__(self, nginx):
        super().__init__(daemon=True)
        self.nginx, self.over = nginx, threading.Event()
        self.seen = {}  # pid -> [rss]

    def run(self):
        while not self.over.wait(0.2):
            for pid in self.nginx.workers():
                if rss := of_process(pid, "rss"):
                    self.seen.setdefault(pid, []).append(rss)

    def end(self):
        self.over.set()
        self.join()

    def grown(self):
        """What is wrong with it, in words"""
        bad = []
        for pid, seen in self.seen.items():
            if len(seen) < 8:
                continue
            quarter = len(seen) // 4
            early, late = max(seen[:quarter]), seen[-1]
            print(f"#   rss of worker {pid}, KiB: {early >> 10} in the first "
                  f"quarter, {max(seen) >> 10} at most, {late >> 10} at the "
                  f"end, {len(seen)} samples")
            if late > early * 1.3 + (8 << 20):
                bad.append(f"worker {pid}: {seen}")
        return "\n".join(bad)


class Scenario:
    def __init__(self, side):
        self.side = side
        (side.dir / "put").mkdir()
        (side.dir / "put").chmod(0o777)
        self.nginx = Nginx(side, {
            name: ("", text.replace("@SIDE@", side.name))
            for name, text in SERVERS.items()}, http=HTTP)
        self.watch = Watch(self.nginx)

    def descriptors(self):
        return [of_process(pid, "fd") for pid in self.nginx.workers()]

    def soak(self, seconds):
        """... with a reload in the middle; which behaviours did something"""
        before = self.descriptors()
        self.watch.start()
        client = subprocess.Popen(
            [CLIENT, ADDRESS, str(self.nginx.port["main"]), str(seconds)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            time.sleep(seconds / 3)
            retiring = self.nginx.reload()
            out, err = client.communicate(timeout=seconds + 60)
        finally:
            client.kill()
            client.wait()
            self.watch.end()
        if client.returncode:
            raise Failure(f"soak_client's status {client.returncode}: {err}")
        until("workers of before end",
              lambda: not set(self.nginx.workers()) & set(retiring))
        self.closed(max(before) + 2)
        self.counts = json.loads(out)
        return self.summary()

    def closed(self, at_most):
        """The clients are gone, and so are their descriptors."""
        try:
            until("", lambda: max(self.descriptors()) <= at_most)
        except Failure:
            raise Failure(f"{self.descriptors()} descriptors, not {at_most}")

    def summary(self):
        total = {}
        for name, counts in self.counts.items():
            print(f"#   {name}: {counts}")
            for kind, count in counts.items():
                total[kind] = total.get(kind, 0) + count
        print(f"#   all: {total}")
        if total["retired"] > CLIENTS:
            raise Failure(f"{total['retired']} connections ended by themselves")
        if not self.counts["key-update"]["updates"] or not total["resumed"]:
            raise Failure("no KeyUpdates, or no session was resumed")
        return {name: "works" if counts["answers"] and counts["connections"]
                else counts for name, counts in self.counts.items()}

    def kinds(self):
        """Of lines in the log, without numbers and names"""
        kinds = set()
        for line in self.nginx.error_log():
            line = re.sub(", client: .*", "", line)
            line = re.sub(r"\d+", "N", line)
            if not re.search(CHANCE, line):
                kinds.add(line)
        return kinds


def scenario(side):
    it = side.soaked = Scenario(side)
    # the one without is for what it writes into the log
    seconds = SECONDS if side.library else min(SECONDS, 30)
    side.check("each byte is right, and nothing stalls", it.soak, seconds)
    begin = time.monotonic()
    side.check("it ends when told", it.nginx.master.stop, 3)
    side.took = time.monotonic() - begin


def judge(trial):
    without, with_it = (side.soaked for side in trial.sides)
    new = with_it.kinds() - without.kinds()
    trial.ok("the log has no lines of other kinds", "\n".join(sorted(new)))
    trial.ok("memory does not grow", with_it.watch.grown())
    took = trial.sides[1].took
    trial.ok("it ended soon", None if took < 5 else f"after {took:.1f} s")
    counts = getattr(with_it, "counts", None)
    if counts:
        made = sum(counts[name]["connections"] for name in counts
                   if name != "cbc")
        trial.taken(at_least=max(made, 10 * int(SECONDS)), declined="CBC")


def prepare(trial):
    (trial.dir / "files").mkdir()
    subprocess.run([CLIENT, "--write", trial.dir / "files", *map(str, SIZES)],
                   check=True)
    (trial.dir / "files").chmod(0o755)


if __name__ == "__main__":
    soak = Trial(["nginx", "openssl"], scenario, prepare)
    soak.run()
    judge(soak)
    soak.end()
