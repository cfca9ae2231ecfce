#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Apache httpd, with threads (event) and processes (prefork): custom BIOs."""
import os
import pathlib
import re

from trial import ADDRESS, UNPACKED, Failure, Trial, free_port, write_files
from web import Web, write_echo

SIZES = [0, 1, 4096, 16383, 16384, 16385, 1 << 20, 16 << 20]
CONF = """
ServerRoot {dir}
ServerName localhost
PidFile {dir}/pid
DefaultRuntimeDir {dir}
Listen {address}:{port} https
LoadModule mpm_{mpm}_module {modules}/mod_mpm_{mpm}.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule mime_module {modules}/mod_mime.so
LoadModule ssl_module {modules}/mod_ssl.so
LoadModule {cgi}_module {modules}/mod_{cgi}.so
LoadModule http2_module {modules}/mod_http2.so
{user}
ErrorLog {dir}/error.log
LogFormat "%r %>s %B" seen
CustomLog {dir}/access.log seen
MaxKeepAliveRequests 0
KeepAliveTimeout 2
AcceptFilter https none
{more}
DocumentRoot {files}
<Directory {files}>
    Require all granted
    Options ExecCGI
</Directory>
TypesConfig /dev/null
AddHandler cgi-script .sh
SSLEngine on
SSLCertificateFile {certs}/server.crt
SSLCertificateKeyFile {certs}/server.key
SSLProtocol -all +TLSv1.2 +TLSv1.3
"""
MPMS = {
    "event": ("cgid", "ScriptSock {dir}/cgisock\nProtocols h2 http/1.1\n"
                      "StartServers 1\nThreadsPerChild 8\nServerLimit 2\n"
                      "MaxRequestWorkers 16\nMinSpareThreads 1\n"
                      "MaxSpareThreads 16"),
    "prefork": ("cgi", "StartServers 3\nMinSpareServers 3\nMaxSpareServers 8\n"
                       "MaxRequestWorkers 8"),
}


class Scenario(Web):
    def __init__(self, side):
        super().__init__(side, {mpm: free_port() for mpm in MPMS})
        self.running = {}
        places = [UNPACKED / "usr/lib/apache2/modules",
                  pathlib.Path("/usr/lib/apache2/modules")]
        modules = [path for path in places if path.is_dir()][0]
        user = "User nobody\nGroup nogroup"
        for mpm, (cgi, more) in MPMS.items():
            place = side.dir / mpm
            place.mkdir()
            (place / "conf").write_text(CONF.format(
                dir=place, address=ADDRESS, port=self.port[mpm], mpm=mpm,
                cgi=cgi, modules=modules, certs=side.trial.dir,
                user=user if os.geteuid() == 0 else "", files=self.files,
                more=more.format(dir=place)))
            self.running[mpm] = side.start(
                [side.trial.paths["apache2"], "-DFOREGROUND", "-f",
                 place / "conf"], port=self.port[mpm], label=mpm)

    def benchmark(self, mpm, *words):
        """ab: what it counts, but no times."""
        got = self.side.run([self.side.trial.paths["ab"], *words,
                             self.url(mpm, "16385")])
        if got.returncode:
            raise Failure(got.stderr.decode())
        return re.findall("(?:Complete|Failed|Non-2xx|Keep-Alive|Document|HTML).*",
                          got.stdout.decode())


def scenario(side):
    it = Scenario(side)
    check = side.check
    for mpm in MPMS:
        it.all(mpm, SIZES)
        for size in [1, 16384]:
            check(f"a CGI with {size} bytes, {mpm}", it.posted, mpm, "echo.sh",
                  size, "--http1.1")
        check(f"ab, {mpm}", it.benchmark, mpm, "-n", 300, "-c", 4)
        check(f"ab, keep-alive, {mpm}", it.benchmark, mpm, "-n", 1000, "-c", 4,
              "-k")
    it.by_http2("event", SIZES)
    for mpm in MPMS:
        check(f"{mpm} ends", it.running[mpm].stop)


def prepare(trial):
    write_files(trial.dir / "files", SIZES)
    write_echo(trial.dir / "files")


if __name__ == "__main__":
    trial = Trial(["apache2", "ab", "curl", "openssl"], scenario, prepare)
    trial.run()
    for label in MPMS:
        trial.taken(label=label)
    trial.end()
