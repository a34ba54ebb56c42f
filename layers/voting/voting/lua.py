"""The Lua scripts: files in the `scripts/` of a room, whose headers list KEYS, ARGV and what they return.

A script that has to run while the memory of Redis is full begins with a write that changes nothing. With `noeviction`,
Redis refuses a script's commands that may take memory, but only before its first write. Redis 6.2: `lua_write_dirty` in
src/scripting.c, luaRedisGenericCommand; from 7.0 on, and Valkey: SCRIPT_WRITE_DIRTY in src/script.c, scriptVerifyOOM.
Such a write is neither replicated nor appended to a file, and takes less than a microsecond.
"""

from pathlib import Path  # importlib.resources would import zipfile, tempfile and shutil

_ROOMS = Path(__file__).parent
_SHARED = _ROOMS / "queue" / "scripts" / "shared"


def script(room: str, name: str, *shared: str) -> str:
    """Return the text of *room*/scripts/*name*.lua, after the functions of queue/scripts/shared/ that it calls."""
    parts = [_SHARED / f"{part}.lua" for part in shared]
    return "\n".join(path.read_text() for path in [*parts, _ROOMS / room / "scripts" / f"{name}.lua"])
