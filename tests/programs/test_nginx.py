#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""nginx: files, upstreams, uploads, HTTP/2, certificates, suites."""
from nginx import Nginx
from trial import Failure, Trial, write_files
from web import Web, curl
from wire import TLS12, TLS13, file_digest

SIZES = [0, 1, 4096, 16383, 16384, 16385, 1 << 20, 64 << 20]
LOCATIONS = """
        location /proxy/ {
            proxy_pass https://upstream/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_ssl_verify on;
            proxy_ssl_name localhost;
            proxy_ssl_trusted_certificate @DIR@/ca.crt;
        }
        location /unbuffered/ {
            proxy_pass https://upstream/;
            proxy_buffering off;
            proxy_request_buffering off;
            proxy_http_version 1.1;
        }
        location /put/ {
            dav_methods PUT;
            client_body_in_file_only clean;
            root @DIR@/side;
        }
        location /verified {
            default_type text/plain;
            return 200 "$ssl_client_verify $ssl_client_s_dn\\n";
        }
        location /proxy/put/ {
            proxy_pass https://upstream/put/;
        }
"""
SERVERS = {
    "upstream": ("", """
        location /put/ { dav_methods PUT; root @DIR@/side; }
        """),
    "main": ("http2", LOCATIONS),
    "small": ("", "sendfile off; ssl_buffer_size 4k;" + LOCATIONS),
    "sendfile": ("", "sendfile on; sendfile_max_chunk 1m;" + LOCATIONS),
    "optional": ("", "ssl_verify_client optional;" + LOCATIONS),
    "required": ("", "ssl_verify_client on;" + LOCATIONS),
}
HTTP = """
    ssl_client_certificate @DIR@/ca.crt;
    upstream upstream { server @ADDRESS@:@upstream@; keepalive 4; }
"""
SUITES = {
    "1.3": ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
            "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_CCM_SHA256",
            "TLS_AES_128_CCM_8_SHA256"],
    "1.2": ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-CCM",
            "ECDHE-ECDSA-AES256-CCM", "ECDHE-ECDSA-AES128-CCM8",
            "ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES128-SHA"],
}


class Scenario(Web):
    def __init__(self, side):
        place = side.trial.dir / "side"  # where uploads go
        if place.is_symlink():
            place.unlink()
        place.symlink_to(side.dir)
        (side.dir / "put").mkdir()
        (side.dir / "put").chmod(0o777)
        self.nginx = Nginx(side, SERVERS, http=HTTP)
        super().__init__(side, self.nginx.port)

    # ---- What is checked ---------------------------------------------------

    def suite(self, version, suite):
        words = ["--tlsv1.2", "--tls-max", version]
        words += ["--tls13-ciphers" if version == "1.3" else "--ciphers",
                  suite if version == "1.3" else f"{suite}:@SECLEVEL=0"]
        return self.fetched("main", ["16385", "1048576", "1"], *words)

    def refused(self):
        """A body to who wants none."""
        return curl(self.side, "--http1.1", "--data-binary",
                    f"@{self.files}/1048576",
                    self.url("main", "verified"))

    def certified(self, server, name, version, status=0):
        words = ["--tlsv1.2", "--tls-max", version, "-w", "%{http_code}"]
        if name:
            words += ["--cert", self.side.trial.dir / f"{name}.crt", "--key",
                      self.side.trial.dir / f"{name}.key"]
        return curl(self.side, *words, self.url(server, "verified"))


def scenario(side):
    it = Scenario(side)
    check = side.check
    files = [str(size) for size in SIZES]
    few = files[:-1] + files[:-1]
    for server in ["main", "small", "sendfile"]:
        for version in ["1.2", "1.3"]:
            words = ["--http1.1", "--tls-max", version]
            check(f"files of {server}, TLS {version}", it.fetched, server,
                  files if version == "1.3" else few, *words)
    it.by_http2("main", SIZES)
    for way in ["proxy/", "unbuffered/"]:
        check(f"files of an upstream, {way}", it.fetched, "main",
              [way + name for name in few + files[-1:]], "--http1.1")
    check("an upstream by HTTP/2", it.fetched, "main",
          ["proxy/" + name for name in few], "--http2")
    for version, suites in SUITES.items():
        for suite in suites:
            check(suite, it.suite, version, suite)
    for name, version in [("1.2", TLS12), ("1.3", TLS13)]:
        for server in ["main", "small", "sendfile"]:
            for path in ["/0", "/16385", "/1048576", "/proxy/16385"]:
                check(f"records of {path}, {server}, TLS {name}", it.records,
                      server, version, path)
        check(f"a request with Finished, TLS {name}", it.with_finished,
              "main", version)
    check("requests in a pipeline", it.pipelined, "main")
    check("and with small buffers", it.pipelined, "small")
    check("a request byte by byte", it.trickled, "main")
    check("an upload", it.uploaded, "main", "put/a", 1 << 20, "--http1.1")
    check("a large one", it.uploaded, "main", "put/b", 64 << 20, "--http1.1")
    check("an upload by HTTP/2", it.uploaded, "main", "put/c", 1 << 20)
    check("an upload to an upstream", it.uploaded, "main", "proxy/put/d",
          1 << 20)
    check("a body that nobody wants", it.refused)
    for words in ["0-0", "1000-20000", "-16385", "0-0,5-70000,1048000-",
                  "2000000-"]:
        check(f"range {words}", it.ranges, "main", "-r", words, "--http1.1")
    for version in ["1.2", "1.3"]:
        for server in ["optional", "required"]:
            for name in [None, "client", "stranger"]:
                check(f"certificate {name}, {server}, TLS {version}",
                      it.certified, server, name, version)
    check("it ends when told", it.nginx.master.stop)
    check("the access log", it.nginx.access_log)
    check("the error log", it.nginx.error_log, "warn")


if __name__ == "__main__":
    trial = Trial(["nginx", "curl", "openssl"], scenario,
                  lambda trial: write_files(trial.dir / "files", SIZES))
    trial.run()
    trial.taken(at_least=100, declined="cipher")
    trial.end()
