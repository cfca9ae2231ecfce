#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""curl as the client that has the drop-in."""
from nginx import Nginx
from trial import Failure, Trial, write_files
from web import Web
from wire import file_digest

SIZES = [0, 1, 4096, 16383, 16384, 16385, 1 << 20, 16 << 20]


class Client(Web):
    def curl(self, *words):
        got = self.side.run(
            [self.side.trial.paths["curl"], "-sS", "--no-progress-meter",
             "--cacert",
             self.side.trial.dir / "ca.crt", *words], label="curl")
        return got.returncode, got.stdout, got.stderr

    def got(self, *words):
        """Each file twice, one after the other or at once."""
        args = ["-w", "%{http_code} %{http_version} %{size_download}\n"]
        for number, size in enumerate(SIZES * 2):
            args += ["-o", self.side.dir / f"got.{number}",
                     self.url("nginx", str(size))]
        said = self.curl(*args, *words)
        for number, size in enumerate(SIZES * 2):
            out = self.side.dir / f"got.{number}"
            out.touch()
            if file_digest(out) != file_digest(self.files / str(size)):
                raise Failure(f"{size}: wrong bytes")
            out.unlink()
        return said[0], sorted(said[1].splitlines()), said[2]

    def put(self, size, *words):
        said = self.curl("-T", self.files / str(size),
                         self.url("nginx", f"put/{size}"), *words)
        if file_digest(self.side.dir / "put" / str(size)) != file_digest(
                self.files / str(size)):
            raise Failure("wrong bytes arrived")
        return said


def scenario(side):
    (side.dir / "put").mkdir()
    (side.dir / "put").chmod(0o777)
    nginx = Nginx(side, {"nginx": ("http2", f"""
        location /put/ {{ dav_methods PUT; root {side.dir}; }}
        location /short {{ proxy_pass http://127.0.0.1:1; }}
        """)}, plain=True)
    it = Client(side, nginx.port)
    for version in ["1.2", "1.3"]:
        for words in [["--http1.1"], ["--http2"], ["--http2", "-Z"],
                      ["--http1.1", "-Z"], ["--http1.1", "--http1.0"]]:
            side.check(f"{' '.join(words)}, TLS {version}", it.got, "--tls-max",
                       version, *words)
        for size in [1, 1 << 20, 16 << 20]:
            side.check(f"an upload of {size}, TLS {version}", it.put, size,
                       "--tls-max", version, "--http1.1")
    side.check("an upload by HTTP/2", it.put, 1 << 20)
    side.check("slowly", it.curl, "--limit-rate", "2M", "-o", "/dev/null",
               it.url("nginx", str(1 << 20)))
    side.check("a time-out", lambda: it.curl(
        "--limit-rate", "1M", "-m", "0.5", "-o", "/dev/null", "-w",
        "%{http_code}", it.url("nginx", str(16 << 20)))[:2])
    side.check("no such file", it.curl, it.url("nginx", "none"))
    side.check("a bad gateway", it.curl, it.url("nginx", "short"))


if __name__ == "__main__":
    trial = Trial(["nginx", "curl", "openssl"], scenario,
                  lambda trial: write_files(trial.dir / "files", SIZES))
    trial.run()
    trial.taken(label="curl")
    trial.end()
