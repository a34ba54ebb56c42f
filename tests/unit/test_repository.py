"""What is kept in the repository: text, pictures of the docs, and nothing large."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_BYTES = 1024 * 1024
PICTURES = "docs/images/"
IGNORED = {line.strip().rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines()} | {".venv"}


def tracked(root: Path) -> list[str]:
    """The files that git has or is about to have; all that are not ignored where this is an archive and no clone."""
    if not (root / ".git").exists():
        return [str(path.relative_to(root)) for path in root.rglob("*") if not IGNORED & set(path.parts)]
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    return [name for name in listing.split("\0") if name]


def is_binary(path: Path) -> bool:
    """As git takes it: there is a NUL among the first bytes."""
    with path.open("rb") as file:
        return b"\0" in file.read(8000)


def faults(root: Path) -> list[str]:
    files = [name for name in tracked(root) if (root / name).is_file()]
    large = [f"{name} is larger than 1 MB" for name in files if (root / name).stat().st_size > MOST_BYTES]
    binary = [f"{name} is binary" for name in files if is_binary(root / name) and not name.startswith(PICTURES)]
    return large + binary


def test_no_file_is_large_and_no_binary_stands_outside_of_the_pictures() -> None:
    assert faults(ROOT) == []


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("notes.txt", b"x" * (MOST_BYTES + 1), "larger than 1 MB"),
        (f"{PICTURES}hall.png", b"\x89PNG\0" + b"x" * MOST_BYTES, "larger than 1 MB"),
        ("browser.deb", b"!<arch>\n\0", "binary"),
    ],
)
def test_a_file_that_does_not_belong_is_found(tmp_path: Path, name: str, content: bytes, fault: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    for command in (["git", "init", "-q"], ["git", "add", "-f", "."]):
        subprocess.run(command, cwd=tmp_path, check=True)
    assert [found for found in faults(tmp_path) if fault in found] == [f"{name} is {fault}"]


def test_a_picture_of_the_docs_may_be_binary(tmp_path: Path) -> None:
    path = tmp_path / PICTURES / "hall.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\x89PNG\0")
    for command in (["git", "init", "-q"], ["git", "add", "-f", "."]):
        subprocess.run(command, cwd=tmp_path, check=True)
    assert faults(tmp_path) == []
