"""The Lua scripts of the registry: one file each in `scripts/`, whose header lists KEYS, ARGV and what it returns."""

from importlib.resources import files

_SCRIPTS = files("voting.broadcast") / "scripts"


def script(name: str) -> str:
    """Return the text of scripts/*name*.lua."""
    return (_SCRIPTS / f"{name}.lua").read_text()
