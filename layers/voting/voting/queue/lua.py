"""The Lua scripts of the queue, each a file in `scripts/` whose header lists KEYS, ARGV and what it returns."""

from importlib.resources import files

_SCRIPTS = files("voting.queue") / "scripts"


def script(name: str, *shared: str) -> str:
    """Return the text of scripts/*name*.lua, preceded by the functions of scripts/shared/ that it calls."""
    parts = [shared_functions(part) for part in shared]
    return "\n".join([*parts, (_SCRIPTS / f"{name}.lua").read_text()])


def shared_functions(name: str) -> str:
    """Return the text of scripts/shared/*name*.lua."""
    return (_SCRIPTS / "shared" / f"{name}.lua").read_text()
