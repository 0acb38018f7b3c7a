"""How much memory this process may still take."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["free_memory"]

_GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
    ),
)


def free_memory() -> int:
    """Bytes that can be had without swapping: the machine's, or what a container's limit leaves, if that is less."""
    return max(0, min([_machine(), *(left for files in _GROUPS if (left := _group(*files)) is not None)]))


def _machine() -> int:
    for line in _text("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2  # no Linux: half of all there is


def _group(limit: str, used: str, stat: str) -> int | None:
    """What a control group leaves; files in the page cache count as used there, but give way."""
    allowed, taken = _text(limit).strip(), _text(used).strip()
    if not (allowed.isdigit() and taken.isdigit()):
        return None
    cached = dict(line.split(maxsplit=1) for line in _text(stat).splitlines() if " " in line)
    return int(allowed) - int(taken) + int(cached.get("inactive_file", 0))


def _text(path: str) -> str:
    try:
        return Path(path).read_text("ascii")
    except (OSError, UnicodeDecodeError):
        return ""
