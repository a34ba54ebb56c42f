"""What a run says of itself once it is up."""

from collections.abc import Iterable, Mapping
from pathlib import Path


def summary(took_s: float, pages: Iterable[str], urls: Mapping[str, str], run_file: Path) -> str:
    """Say that the run is up after *took_s*, and at which addresses: *urls*, of the HTTP API with each of *pages*."""
    lines = [f"\nUp after {took_s:.1f} s. Ctrl-C stops it."]
    lines += [f"  HTTP        {urls['http']}{path}" for path in pages]
    lines += [f"  WebSocket   {urls['websocket']}"] if "websocket" in urls else []
    lines += [f"  Lambda      {urls['lambda']}"]
    lines += [f"  Stores      their addresses with passwords are in {_relative(run_file)}\n"]
    return "\n".join(lines)


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
