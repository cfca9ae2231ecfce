# SPDX-License-Identifier: MIT
"""nginx with a configuration of its own, for the tests of it."""
import os
import re
import signal

from trial import ADDRESS, free_port, until

CONF = """
daemon off;
worker_processes {workers};
{user}
pid {dir}/nginx.pid;
error_log {dir}/error.log info;
events {{ worker_connections 512; }}
http {{
    log_format seen '$server_port "$request" $status $bytes_sent '
        '$body_bytes_sent $content_length $ssl_protocol $ssl_cipher '
        '$ssl_session_reused $ssl_client_verify $upstream_status '
        '$upstream_bytes_received';
    access_log {dir}/access.log seen;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    client_max_body_size 200m;
    ssl_certificate {certs}/server.crt;
    ssl_certificate_key {certs}/server.key;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_ciphers ALL;
    ssl_conf_command Ciphersuites TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_CCM_SHA256:TLS_AES_128_CCM_8_SHA256;
    ssl_session_cache shared:cache:1m;
    root {files};
    {http}
    {servers}
}}
"""
SERVER = """
    server {{
        listen {address}:{port} ssl {options};
        server_name localhost;
        {text}
    }}
"""


class Nginx:
    """servers: name -> (options of listen, text); "@NAME@" in the text is the
    port of another one"""

    def __init__(self, side, servers, workers=2, http="", plain=False):
        self.side = side
        self.dir = side.dir
        self.port = {name: free_port() for name in servers}
        text = "".join(
            SERVER.format(address=ADDRESS, port=self.port[name],
                          options=options, text=self.filled(text))
            for name, (options, text) in servers.items())
        self.conf = side.dir / "nginx.conf"
        self.conf.write_text(CONF.format(
            workers=workers, dir=side.dir, certs=side.trial.dir,
            user="user nobody nogroup;" if os.geteuid() == 0 else "",
            files=side.trial.dir / "files", http=self.filled(http), servers=text))
        self.master = side.start(
            [side.trial.paths["nginx"], "-p", side.dir, "-e",
             side.dir / "error.log", "-c", self.conf],
            port=list(self.port.values())[-1], plain=plain,
            label="nginx" if plain else "server")
        until("both workers run", lambda: len(self.workers()) == workers)

    def filled(self, text):
        text = text.replace("@DIR@", str(self.side.trial.dir))
        text = text.replace("@ADDRESS@", ADDRESS)
        return re.sub("@([a-z0-9]+)@", lambda m: str(self.port[m[1]]), text)

    def workers(self):
        pid = self.master.pid
        path = f"/proc/{pid}/task/{pid}/children"
        return [int(word) for word in open(path).read().split()]

    def reload(self):
        """Workers of before may go on with what is under way."""
        before = self.workers()
        os.kill(self.master.pid, signal.SIGHUP)
        until("new workers",
              lambda: len(set(self.workers()) - set(before)) == len(before))
        # until these no longer accept
        until("a new generation", lambda: self.errors().count(
            "gracefully shutting down") >= len(before))
        return before

    def errors(self):
        return (self.dir / "error.log").read_text()

    def access_log(self):
        """Its lines in no order: there are several workers."""
        names = {str(port): name for name, port in self.port.items()}
        kept = []
        for line in (self.dir / "access.log").read_text().splitlines():
            line = re.sub(r"^\d+", lambda m: names[m[0]], line)
            # how many frames there are is a matter of time
            kept.append(re.sub(r'(HTTP/2.0" \d+) \d+', r"\1 -", line))
        return sorted(kept)

    def error_log(self, at_least="info"):
        """What can be compared of its error log"""
        levels = ["info", "warn", "error", "crit", "alert", "emerg"]
        levels = levels[levels.index(at_least):]
        kept = []
        for line in self.errors().splitlines():
            match = re.match(r"\S+ \S+ \[(\w+)\] \d+#\d+: (?:\*\d+ )?(.*)",
                             line)
            # what it buffers in a file is a matter of time
            if match and match[1] in levels and "is buffered" not in match[2]:
                kept.append(f"[{match[1]}] {plain(match[2], self.port)}")
        return sorted(kept)


def plain(text, ports):
    for name, port in ports.items():
        text = text.replace(f":{port}", f":<{name}>")
    text = re.sub(r"(client: \S+?)(:\d+)?,", r"\1,", text)
    return text

