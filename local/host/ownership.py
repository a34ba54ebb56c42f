"""Checks that only we can have created a file or folder: nothing that another user has prepared is used.

Others who can write to the state directory, or could when it was made, choose our cookie keys and passwords, or have us
write where a link points. So each file is opened first, without following a link or waiting for a FIFO's other end, and
looked at then.
"""

import errno
import os
import stat
from pathlib import Path

_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW_MODE = 0o600
_OTHERS_READ, _OTHERS_WRITE = stat.S_IRGRP | stat.S_IROTH, stat.S_IWGRP | stat.S_IWOTH
_ELSEWHERE = "name a folder of your own with --state-dir"


class Foreign(Exception):
    """Another user created it, or may have changed it; the message says what it is and what to do."""


def open_own(path: Path, flags: int, *, is_secret: bool = False) -> int:
    """Open a plain file of ours, or with O_CREAT a new one; return its descriptor.

    Raises:
        Foreign: it is not such a file, others can write to it, or they can read it although it *is_secret*.
        OSError: it cannot be opened.
    """
    try:
        descriptor = os.open(path, flags | _FLAGS, _NEW_MODE)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Foreign(f"{path} is a symbolic link; delete it, or {_ELSEWHERE}") from error
        if error.errno == errno.ENXIO:
            raise Foreign(f"{path} is not a plain file; delete it, or {_ELSEWHERE}") from error
        raise
    try:
        _require_own_file(path, os.fstat(descriptor), is_secret=is_secret)
    except Foreign:
        os.close(descriptor)
        raise
    return descriptor


def require_own_folder(path: Path) -> None:
    """Return if *path* is a folder of ours that no other user can write to or replace.

    Raises:
        Foreign: it belongs to another user, or others can write to it or to a folder above it that has no sticky bit.
        OSError: there is none.
    """
    found = path.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    _require_owner(path, found)
    if path.is_symlink() and path.lstat().st_uid not in {0, os.geteuid()}:
        raise Foreign(f"{path} is a symbolic link of another user (uid {path.lstat().st_uid}); {_ELSEWHERE}")
    _require_no_writers(path, found)
    for folder in path.resolve().parents:
        mode = folder.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise Foreign(f"every user can replace what is in {folder}: `chmod o-w` it, or {_ELSEWHERE}")


def _require_own_file(path: Path, found: os.stat_result, *, is_secret: bool) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise Foreign(f"{path} is not a plain file; delete it, or {_ELSEWHERE}")
    _require_owner(path, found)
    if found.st_nlink > 1:
        raise Foreign(f"{path} has a second name elsewhere (a hard link); delete it, or {_ELSEWHERE}")
    _require_no_writers(path, found)
    if is_secret and found.st_mode & _OTHERS_READ:
        raise Foreign(
            f"other users can read {path}; --reset deletes it with the folder, and the next run generates new secrets"
        )


def _require_owner(path: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise Foreign(f"{path} belongs to another user (uid {found.st_uid}); {_ELSEWHERE}")


def _require_no_writers(path: Path, found: os.stat_result) -> None:
    if found.st_mode & _OTHERS_WRITE:
        raise Foreign(f"other users can write to {path}; `chmod go-w` it if none has, or {_ELSEWHERE}")
