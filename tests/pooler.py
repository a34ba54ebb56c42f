"""A real pgbouncer in front of the embedded PostgreSQL."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.stack import wait_for

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
CONFIG = """
[databases]
* = host={host} port={port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users.txt
pool_mode = {mode}
default_pool_size = {size}
max_client_conn = 200
"""


@contextmanager
def pooled(url: str, mode: str, size: int = 1, certificate: Path | None = None) -> Iterator[str]:
    """The URL of a pooler of *size* sessions per user in front of *url*: with one, clients get each other's.

    With a *certificate* (and its key, in one PEM file), it takes TLS only.
    """
    assert PROGRAM, "pgbouncer is not installed: scripts/servers does it"
    login = urlsplit(url)
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        config = Path(folder, "pgbouncer.ini")
        text = CONFIG.format(host=login.hostname, port=login.port, listen=port, folder=folder, mode=mode, size=size)
        if certificate is not None:
            shutil.copy(certificate, f"{folder}/pem")
            text += f"client_tls_sslmode = require\nclient_tls_cert_file = {folder}/pem\n"
            text += f"client_tls_key_file = {folder}/pem\n"
        config.write_text(text)
        Path(folder, "users.txt").write_text(f'"{login.username}" "{login.password}"\n')
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen([PROGRAM, str(config)], stdout=log, stderr=log, **_user(folder))
        try:
            wait_for(lambda: answers(port) or process.poll() is not None, "pgbouncer")
            assert process.poll() is None, Path(folder, "log").read_text()
            yield url.replace(f":{login.port}/", f":{port}/")
        finally:
            process.terminate()
            process.wait(20)


def _user(folder: str) -> dict[str, int]:
    """Pgbouncer refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    for path in (Path(folder), *Path(folder).iterdir()):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid}


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
