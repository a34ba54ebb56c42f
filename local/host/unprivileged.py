"""Start a program that ends with its parent: `unprivileged.py PARENT SIGNAL UID GID REACH PROGRAM ARGUMENTS…`.

A program of its own, and not a preexec_fn: running Python between fork and exec of a process with threads can
deadlock. It imports nothing of the package, so that it starts in a few milliseconds under `python -I -S`.

UID and GID of -1 keep the user. REACH 1 lets the new user pass folders that are closed to it, such as a clone under
/root: it keeps the one capability to search and read, as an ambient one (capabilities(7)).
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_SECUREBITS = 28
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _check(result: int, what: str) -> None:
    if result != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{what}: {os.strerror(errno)}")


def _drop(libc: ctypes.CDLL, uid: int, gid: int, *, keep: bool) -> None:
    if keep:
        # setuid, and access(2), by which PostgreSQL finds its own programs, must not drop capabilities.
        _check(libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0), "PR_SET_SECUREBITS")
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def _reach(libc: ctypes.CDLL) -> None:
    """Keep the capability to pass closed folders, also over the exec; containers may have only the larger one."""
    header = _Header(_CAPABILITY_VERSION_3, 0)
    sets = (_Sets * 2)()
    _check(libc.capget(ctypes.byref(header), sets), "capget")
    permitted = sets[0].permitted
    capability = _CAP_DAC_READ_SEARCH if permitted & (1 << _CAP_DAC_READ_SEARCH) else _CAP_DAC_OVERRIDE
    bit = 1 << capability
    sets[0].effective = sets[0].permitted = sets[0].inheritable = bit & permitted
    sets[1].effective = sets[1].permitted = sets[1].inheritable = 0
    _check(libc.capset(ctypes.byref(header), sets), "capset")
    _check(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0), "PR_CAP_AMBIENT_RAISE")


def main(arguments: list[str]) -> None:
    parent, signal, uid, gid, reach = (int(word) for word in arguments[:5])
    program = arguments[5:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if uid >= 0:
            _drop(libc, uid, gid, keep=bool(reach))
        if reach:
            _reach(libc)
        # After setuid, which clears it.
        _check(libc.prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0), "PR_SET_PDEATHSIG")
        if os.getppid() != parent:  # it died before the signal was requested
            sys.exit(1)
    elif uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    os.execvp(program[0], program)  # noqa: S606 - the runner names the program


if __name__ == "__main__":
    main(sys.argv[1:])
