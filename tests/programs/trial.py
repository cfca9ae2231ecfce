# SPDX-License-Identifier: MIT
"""A program without the drop-in, then with it, seen by the same clients.

A test has a scenario, a function of a Side: it starts programs, and each
side.check() does something as a client and keeps what came of it. The scenario
is run twice; all that was kept must be the same. Prints TAP.

The path of libasynctls-openssl.so is the first argument, or in the environment
as DROPIN; without, both runs are without it, which tests the test. KEEP=1
keeps the files, and says where.
"""
import atexit
import difflib
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What scripts/deps has unpacked there, where it is not installed.
UNPACKED = ROOT / "build" / "programs"
PLACES = ["usr/lib/postgresql/*/bin", "usr/sbin", "usr/bin", "sbin", "bin"]
PATIENCE = 30  # seconds; nothing here takes more than a few


def find(name):
    """The path of a program, or None."""
    roots = [pathlib.Path("/"), UNPACKED]
    for pattern in [f"{place}/{name}" for place in PLACES]:
        for root in roots:
            for path in sorted(root.glob(pattern)):
                if os.access(path, os.X_OK) and runs(path):
                    return str(path)
    return None


def runs(path):
    """Are its libraries there?"""
    got = subprocess.run(["ldd", path], env=environment(), text=True,
                         capture_output=True)
    return "not found" not in got.stdout


def environment():
    libs = [str(path) for path in UNPACKED.glob("usr/lib/*-linux-gnu")]
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C", "TZ": "UTC",
           "HOME": "/nonexistent"}
    if libs:
        env["LD_LIBRARY_PATH"] = ":".join(libs)
    return env


class Failure(Exception):
    """What a client found, in words."""


class Broken:
    """In the place of a value: the check did not get that far."""

    def __init__(self, text):
        self.text = text


def until(what, condition, seconds=PATIENCE):
    """Poll; returns what condition returns once it is true."""
    end = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        if time.monotonic() > end:
            raise Failure(f"not within {seconds} s: {what}")
        time.sleep(0.01)


def listens(port):
    want = f":{port:04X}"
    for name in ["tcp", "tcp6"]:
        with open(f"/proc/net/{name}") as table:
            for line in table:
                field = line.split()
                if field[1].endswith(want) and field[3] == "0A":
                    return True
    return False


class Running:
    """A program that was started."""

    def __init__(self, process, log):
        self.process, self.log = process, log
        self.pid = process.pid

    def gone(self):
        return self.process.poll() is not None

    def stop(self, number=signal.SIGTERM):
        """Its exit status, after that signal."""
        if not self.gone():
            os.kill(self.pid, number)
        return self.ended()

    def ended(self):
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failure(f"still running: {self.process.args}")

    def kill(self):
        # Workers too, of whichever process they are children.
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self.process.wait()

    def said(self):
        return self.log.read_text(errors="replace")


class Side:
    """One of the two runs."""

    def __init__(self, trial, name, library):
        self.trial, self.name, self.library = trial, name, library
        self.dir = trial.dir / name
        self.dir.mkdir()
        self.dir.chmod(0o777)
        self.values = {}
        self.running = []

    def env(self, label):
        """... of a program under test, whose counters have that label."""
        env = environment()
        if self.library:
            env["LD_PRELOAD"] = self.library
            env["ASYNCTLS_STATS"] = f"{self.dir}/stats.{label}.%p"
            env["ASYNCTLS_LOG"] = f"{self.dir}/reasons.{label}.%p"
        env.update((name, value) for name, value in os.environ.items()
                   if name in ["ASYNCTLS_CPU", "ASYNCTLS_GATHER"])
        return env

    def start(self, argv, port=None, label="server", plain=False, **more):
        """Start it, and wait until it listens; plain: never the drop-in."""
        log = self.dir / f"{label}.log"
        env = environment() if plain else self.env(label)
        env |= more.pop("env", {})
        with open(log, "ab") as out:
            process = subprocess.Popen(
                [str(word) for word in argv], stdin=subprocess.DEVNULL,
                stdout=out, stderr=out, env=env,
                start_new_session=True, **({"cwd": self.dir} | more))
        running = Running(process, log)
        self.running.append(running)
        if port:
            until(f"{argv[0]} listens on {port}",
                  lambda: listens(port) or running.gone())
            if running.gone():
                raise Failure(f"{argv[0]} ended: {running.said()[-2000:]}")
        return running

    def run(self, argv, label=None, **more):
        """Run it to its end; with the drop-in if it has a label."""
        env = self.env(label) if label else environment()
        env |= more.pop("env", {})
        more = {"timeout": PATIENCE, "cwd": self.dir} | more
        if "input" not in more and "stdin" not in more:
            more["stdin"] = subprocess.DEVNULL
        return subprocess.run([str(word) for word in argv], env=env,
                              capture_output=True, **more)

    def check(self, name, what, *args, **named):
        """Keep what it returns, to be compared."""
        if name in self.values:
            raise Failure(f"two checks: {name}")
        begin = time.monotonic()
        try:
            self.values[name] = what(*args, **named)
        except Exception:
            self.values[name] = Broken(traceback.format_exc())
        if (took := time.monotonic() - begin) > 1:
            print(f"# {self.name}: {name}: {took:.1f} s", flush=True)
        return self.values[name]

    def end(self):
        for running in self.running:
            running.kill()

    def stats(self, label="*"):
        """The counters of its processes, summed up."""
        total = {}
        for path in self.dir.glob(f"stats.{label}.*"):
            for line in path.read_text().splitlines():
                add_up(total, json.loads(line))
        return total


def add_up(total, counters):
    for name, value in counters.items():
        if isinstance(value, dict):
            add_up(total.setdefault(name, {}), value)
        elif isinstance(value, int) and not isinstance(value, bool):
            total[name] = total.get(name, 0) + value


class Trial:
    def __init__(self, programs, scenario, prepare=lambda trial: None):
        """programs: names that must be there; prepare(trial) once, before
        scenario(side) twice."""
        self.paths = {name: find(name) for name in programs}
        self.scenario, self.prepare = scenario, prepare
        self.count = self.failed = 0
        library = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("DROPIN")
        self.library = str(pathlib.Path(library).resolve()) if library else None
        missing = [name for name, path in self.paths.items() if not path]
        if missing:
            print(f"1..0 # SKIP not found: {' '.join(missing)}")
            sys.exit(0)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="asynctls-"))
        atexit.register(self.clean)
        self.dir.chmod(0o755)  # for programs that give up being root

    def run(self):
        self.sides = []
        certificates(self.dir)
        self.prepare(self)
        for name, library in [("without", None), ("with", self.library)]:
            self.sides.append(Side(self, name, library))
            self.run_side(self.sides[-1])
        self.compare()

    def clean(self):
        if os.environ.get("KEEP"):
            print(f"# {self.dir}")
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    def run_side(self, side):
        begin = time.monotonic()
        try:
            self.scenario(side)
        except Exception:
            side.values["the scenario"] = Broken(traceback.format_exc())
        finally:
            side.end()
        print(f"# {side.name}: {time.monotonic() - begin:.1f} s", flush=True)

    def compare(self):
        without, with_it = (side.values for side in self.sides)
        for name in list(without) + [n for n in with_it if n not in without]:
            self.ok(name, difference(without.get(name), with_it.get(name)))

    def ok(self, name, problem=None):
        self.count += 1
        print(f"{'not ok' if problem else 'ok'} {self.count} - {name}")
        if problem:
            self.failed += 1
            lines = str(problem).splitlines()
            for line in lines[:60]:
                print(f"#   {line[:500]}")
            if len(lines) > 60:
                print(f"#   ... and {len(lines) - 60} lines more")
        sys.stdout.flush()

    # What the drop-in says of itself; nothing is asked where it was not there.

    def taken(self, at_least=1, label="*", declined=None):
        """So many connections were taken over, and others for no reasons but
        such."""
        if not self.library:
            return
        stats = self.sides[1].stats(label)
        taken, left = stats.get("taken", 0), stats.get("declined", {})
        print(f"# {label}: taken {taken}, {left}")
        bad = [reason for reason in left
               if not (declined and re.search(declined, reason))]
        problem = None
        if not stats:
            problem = "no counters were written"
        elif taken < at_least or bad:
            problem = f"{bad}\n{stats}"
        self.ok(f"connections of {label} were taken over", problem)

    def end(self):
        print(f"1..{self.count}")
        sys.exit(1 if self.failed else 0)


def difference(without, with_it):
    """Words, or None if there is none."""
    for name, value in [("without", without), ("with", with_it)]:
        if isinstance(value, Broken):
            return f"{name} the drop-in:\n{value.text}"
    if without == with_it:
        return None
    lines = [shown(value) for value in (without, with_it)]
    return "\n".join(difflib.unified_diff(*lines, "without", "with",
                                          lineterm="", n=1))


def shown(value):
    if isinstance(value, str):
        return value.splitlines()
    if isinstance(value, (list, tuple)):
        return [repr(item) for item in value]
    if isinstance(value, dict):
        return [f"{key!r}: {item!r}" for key, item in value.items()]
    return [repr(value)]


# ---- For all of them ---------------------------------------------------------

# An address of this process's own: no port of it is taken by somebody else.
ADDRESS = "127.{}.{}.{}".format(1 + os.getpid() // 62500 % 250,
                                1 + os.getpid() // 250 % 250,
                                1 + os.getpid() % 250)


def free_port():
    with socket.socket() as sock:
        sock.bind((ADDRESS, 0))
        return sock.getsockname()[1]


def certificates(directory):
    """ca, server, client, and stranger (of another CA): NAME.crt and .key"""
    def openssl(*words):
        subprocess.run(["openssl", *map(str, words)], check=True, cwd=directory,
                       capture_output=True, env=environment())

    def authority(name):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt",
                "ec_paramgen_curve:prime256v1", "-nodes", "-days", 2, "-keyout",
                f"{name}.key", "-out", f"{name}.crt", "-subj", f"/CN={name}")

    def signed(name, ca):
        (directory / f"{name}.ext").write_text(
            f"subjectAltName=DNS:localhost,IP:{ADDRESS},IP:127.0.0.1\n")
        openssl("req", "-newkey", "ec", "-pkeyopt",
                "ec_paramgen_curve:prime256v1", "-nodes", "-keyout",
                f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.crt",
                "-CAkey", f"{ca}.key", "-CAcreateserial", "-days", 2, "-out",
                f"{name}.crt", "-extfile", f"{name}.ext")

    authority("ca")
    signed("server", "ca")
    signed("client", "ca")
    authority("other")
    signed("stranger", "other")
    for name in ["server", "client"]:
        both = (directory / f"{name}.key").read_bytes()
        both += (directory / f"{name}.crt").read_bytes()
        (directory / f"{name}.pem").write_bytes(both)
    for path in directory.glob("*.*"):
        path.chmod(0o644)


def write_files(directory, sizes):
    """Files of those sizes, named by them: no two have a byte in common."""
    directory.mkdir(exist_ok=True)
    directory.chmod(0o755)
    for size in sizes:
        path = directory / str(size)
        path.write_bytes(os.urandom(size))
        # Apache says otherwise of files that have just changed.
        os.utime(path, (1700000000, 1700000000))
