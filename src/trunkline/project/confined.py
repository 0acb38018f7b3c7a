"""Keeps this process, and all it will start, from files it must not see. There is no way back.

On Linux from 5.19 by Landlock (Documentation/userspace-api/landlock.rst of the kernel): the kernel refuses, whoever
asks and however, and it refuses a look into processes outside (`/proc/PID/environ`, `mem`, `root`, ptrace) too.
Elsewhere by an audit hook of Python (PEP 578): that stops Python's own `open`, `os`, `shutil`, `subprocess` and
`ctypes`, but not a library that opens files by itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import re
import signal
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

Means = Literal["landlock", "audit hook"]

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # system calls, the same numbers on every architecture but alpha
_WRITE_FILE, _READ_FILE, _REFER, _TRUNCATE = 1 << 1, 1 << 2, 1 << 13, 1 << 14
_CHANGE_FOLDER = sum(1 << bit for bit in range(4, 13))  # remove and make entries of every kind
_OF_FILES = _WRITE_FILE | _READ_FILE | _TRUNCATE
_NETWORK, _TCP = 4, 3  # the first version that knows it; to bind and to connect
_OLDEST = 2  # version 1 refuses every move between two folders
_PR_SET_NO_NEW_PRIVS, _PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 38, 1, 4
# CAP_SYS_MODULE, _RAWIO, _PTRACE, _ADMIN, _BOOT, CAP_MKNOD, CAP_PERFMON, CAP_BPF (linux/capability.h)
_ARMS = (16, 17, 19, 21, 22, 27, 38, 39)
_OTHERS = re.compile(r"/proc/(?!self/)\d+/(task/\d+/)?(environ|mem|maps|root|cwd|fd|map_files)\b")
_HOOKED = ("open", "os.", "shutil.", "subprocess.", "ctypes.dlopen", "glob.", "pathlib.", "sqlite3.connect", "pty.")


def means() -> Means:
    """What `confine` works by on this machine."""
    return "landlock" if _version() >= _OLDEST else "audit hook"


def confine(hidden: Iterable[Path], by: Means | None = None, *, only: Path | None = None) -> None:
    """Refuse `hidden`: files, and folders with all in them, whether they are there yet or not.

    Folders above a hidden one can be listed, but nothing can be made, moved or removed right in them, and what appears
    there later is refused too. With `only`, nothing at all is written but in that folder, and no TCP connection is made
    (by Landlock from Linux 6.7): what this process reads stays in it. To be called before there is a second thread.
    Raises `OSError` where the kernel refuses to refuse.
    """
    paths = _outermost(hidden)
    if (by or means()) == "landlock":
        _landlock(paths, only)
        return
    sys.addaudithook(_hook(paths))
    if only is not None:
        sys.addaudithook(_writing_hook(only))


def beside(hidden: Iterable[Path]) -> Iterator[Path]:
    """What is not hidden: everything beside a hidden path, or beside a folder above one. Links are left out: what they
    lead to is judged where it is."""
    refused = _outermost(hidden)
    above = {folder for path in refused for folder in path.parents}
    for folder in above:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                path = folder / entry.name
                if path not in refused and path not in above and not entry.is_symlink():
                    yield path


def _outermost(hidden: Iterable[Path]) -> frozenset[Path]:
    paths = {Path(os.path.realpath(path)) for path in hidden}
    return frozenset(path for path in paths if paths.isdisjoint(path.parents))


# -- Landlock


def _landlock(hidden: frozenset[Path], only: Path | None) -> None:
    handled = _OF_FILES | _CHANGE_FOLDER | _REFER
    if _version() < 3:
        handled &= ~_TRUNCATE
    quiet = only is not None and _version() >= _NETWORK
    attributes = struct.pack("=QQ", handled, _TCP) if quiet else struct.pack("=Q", handled)
    rules = _system_call(_CREATE, attributes, len(attributes), 0)
    try:
        for path in beside(hidden):
            with contextlib.suppress(FileNotFoundError, PermissionError):  # it has gone, or was never ours to open
                _allow(rules, path, handled if only is None else _READ_FILE)
        for path in () if only is None else (only, Path(os.devnull)):
            _allow(rules, path, handled)
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _disarm()
        _system_call(_RESTRICT, rules, 0)
    finally:
        os.close(rules)


def _allow(rules: int, path: Path, handled: int) -> None:
    handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        access = handled if path.is_dir() else handled & _OF_FILES
        _system_call(_ADD, rules, 1, struct.pack("=Qi", access, handle), 0)
    finally:
        os.close(handle)


def _disarm() -> None:
    """Without what lets root read other processes and raw devices all the same."""
    head, sets = struct.pack("=Ii", 0x20080522, 0), ctypes.create_string_buffer(24)
    _checked(int(_libc().capget(head, sets)))
    words = list(struct.unpack("=6I", sets.raw))  # effective, permitted and inheritable: the low words, then the high
    for capability in _ARMS:
        for kind in range(3):
            words[capability // 32 * 3 + kind] &= ~(1 << capability % 32)
    _checked(int(_libc().capset(head, struct.pack("=6I", *words))))


def _version() -> int:
    """Landlock's version; 0 where there is none."""
    if not sys.platform.startswith("linux"):
        return 0
    try:
        return _system_call(_CREATE, None, 0, 1)
    except OSError:
        return 0


def _system_call(number: int, *arguments: int | bytes | None) -> int:
    values = [ctypes.c_long(value) if isinstance(value, int) else ctypes.c_char_p(value) for value in arguments]
    return _checked(int(_libc().syscall(ctypes.c_long(number), *values)))


def _prctl(option: int, value: int) -> None:
    _checked(int(_libc().prctl(option, ctypes.c_ulong(value), 0, 0, 0)))


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


# -- the process itself


def die_with(parent: int) -> None:
    """End this process at once when `parent` ends, however it ends. For Linux; elsewhere nothing happens."""
    if sys.platform.startswith("linux"):
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


@contextlib.contextmanager
def unreadable() -> Iterator[None]:
    """Where Landlock does not do it: other processes of this user cannot read the memory and environment of this one
    meanwhile (`PR_SET_DUMPABLE`)."""
    if means() == "landlock" or not sys.platform.startswith("linux"):
        yield
        return
    _prctl(_PR_SET_DUMPABLE, 0)
    try:
        yield
    finally:
        _prctl(_PR_SET_DUMPABLE, 1)


# -- the audit hook


def _hook(hidden: frozenset[Path]) -> Any:
    texts = tuple(map(str, hidden))

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if not event.startswith(_HOOKED):
            return
        whole = event.startswith("subprocess.")
        for text in _texts(arguments):
            inside = any(path in text for path in texts) if whole else _is_in(text, hidden)
            if inside or _OTHERS.match(text):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), text)

    return refuse


def _writing_hook(only: Path) -> Any:
    folder = frozenset({Path(os.path.realpath(only))})

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _STARTS:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES
        if not (opened or event in _CHANGES):
            return
        for text in _texts(arguments[: 1 if opened else 2]):
            if text != os.devnull and not _is_in(text, folder):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), text)

    return refuse


_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "sqlite3.connect")
_STARTS = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "socket.connect")  # what no hook would follow


def _is_in(text: str, hidden: frozenset[Path]) -> bool:
    with contextlib.suppress(OSError, ValueError):
        path = Path(os.path.realpath(text))
        return path in hidden or not hidden.isdisjoint(path.parents)
    return False


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes | os.PathLike):
        yield os.fsdecode(value)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
