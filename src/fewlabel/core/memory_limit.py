"""How much memory this process may have: what a file may ask for before anything is allocated."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

#: Where control groups lie: of the second version, and of the first.
_GROUPS = Path("/sys/fs/cgroup")
_GIB = 2**30


def memory_limit() -> int | None:
    """Bytes that this process may have at most: of the machine, its control groups and its address space.

    Returns:
        The smallest of these; None where the system says nothing.
    """
    bounds = [_outer_limit(), _address_space()]
    return min((bound for bound in bounds if bound is not None), default=None)


def memory_left() -> int | None:
    """Bytes that it could have right now; None where the system does not say."""
    bounds = [_available(), _address_space(), *(limit - used for limit, used in _group_bounds())]
    known = [bound for bound in bounds if bound is not None]
    return max(0, min(known)) if known else None


def too_large(needed: int) -> str:
    """What is wrong with something that needs so many bytes; empty where it may have them."""
    there = memory_limit()
    if there is None or needed <= there:
        return ""
    return f"needs {needed / _GIB:.1f} GB of memory, and this process may have {there / _GIB:.1f} GB"


@cache
def _outer_limit() -> int | None:
    """What machine and control groups set; read once, for every file of a data set is held against it."""
    bounds = [_physical(), *(limit for limit, _ in _group_bounds())]
    return min((bound for bound in bounds if bound is not None), default=None)


def _physical() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _available() -> int | None:
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return _physical()


def _address_space() -> int | None:
    """What a limit of ``ulimit -v`` leaves; None without one."""
    try:
        import resource
    except ImportError:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        return None
    used = next((int(line.split()[0]) for line in _lines(Path("/proc/self/statm"))), 0)
    return max(0, soft - used * os.sysconf("SC_PAGE_SIZE"))


def _group_bounds() -> Iterator[tuple[int, int]]:
    """Limit and use in bytes of every control group that this process is in and that has a limit."""
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            home, names = _GROUPS, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            home, names = _GROUPS / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        place = home / path.lstrip("/")
        # Within a container only the root of the tree may be seen.
        for folder in (place, *place.parents):
            limit, used = (_number(folder / name) for name in names)
            # Without a limit, the first version says a number that no machine has.
            if limit is not None and limit < 1 << 60:
                yield limit, (used or 0) - _cached(folder)
            if folder == home:
                break


def _cached(folder: Path) -> int:
    """Bytes of a group that are copies of files and can be dropped."""
    facts = dict(line.split(" ", 1) for line in _lines(folder / "memory.stat") if " " in line)
    # The first version counts the groups below apart.
    return int(facts.get("total_inactive_file", facts.get("inactive_file", 0)))


def _number(file: Path) -> int | None:
    text = next(iter(_lines(file)), "")
    return int(text) if text.isdigit() else None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
