#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""HAProxy in front of nginx, TLS on both sides: custom BIOs."""
import os
import signal

from nginx import Nginx
from trial import ADDRESS, Trial, free_port, write_files
from web import Web

SIZES = [0, 1, 4096, 16383, 16384, 16385, 1 << 20, 16 << 20]
CONF = """
global
    stats socket {dir}/admin
    nbthread 2
    ssl-server-verify required
defaults
    mode http
    timeout client 10s
    timeout server 10s
    timeout connect 10s
frontend http
    bind {address}:{main} ssl crt {certs}/server.pem alpn h2,http/1.1
    default_backend nginx
backend nginx
    server nginx {address}:{nginx} ssl ca-file {certs}/ca.crt
frontend tcp
    mode tcp
    bind {address}:{tcp} ssl crt {certs}/server.pem
    default_backend nginx-tcp
backend nginx-tcp
    mode tcp
    server nginx {address}:{nginx} ssl ca-file {certs}/ca.crt
"""


def scenario(side):
    (side.dir / "put").mkdir()
    (side.dir / "put").chmod(0o777)
    nginx = Nginx(side, {"nginx": ("", f"""
        location /put/ {{ dav_methods PUT; root {side.dir}; }}
        """)}, plain=True)
    port = {"main": free_port(), "tcp": free_port()}
    (side.dir / "conf").write_text(CONF.format(
        dir=side.dir, address=ADDRESS, certs=side.trial.dir,
        nginx=nginx.port["nginx"], **port))
    haproxy = side.start(
        [side.trial.paths["haproxy"], "-db", "-f", side.dir / "conf"],
        port=port["tcp"])
    it = Web(side, port)
    for server in port:
        it.all(server, SIZES, records=False)
        side.check(f"an upload, {server}", it.uploaded, server, "put/a",
                   16 << 20, "--http1.1")
    it.by_http2("main", SIZES)
    side.check("a range", it.ranges, "tcp", "-r", "1000-50000")
    os.kill(haproxy.pid, signal.SIGUSR1)
    side.check("it ends softly", haproxy.ended)


if __name__ == "__main__":
    trial = Trial(["haproxy", "nginx", "curl", "openssl"], scenario,
                  lambda trial: write_files(trial.dir / "files", SIZES))
    trial.run()
    trial.taken(at_least=60, declined="callback for messages")
    trial.end()
