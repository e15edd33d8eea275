"""One run per folder: a lock that a run holds for as long as it lives, and that the kernel frees however it ends."""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fewlabel.core.collective import any_rank, rank, world_size
from fewlabel.core.errors import Fault, FewlabelError, SettingsError

if sys.platform != "win32":
    import fcntl

#: Lies in a run's folder while a run is at work there. By its name it counts as half written, so as nothing in the way.
LOCK = ".run.lock.partial"
#: For so long, in seconds, a lock is asked for: who only looks whether there is one holds it for a moment.
PATIENCE = 0.3
_TAKEN = frozenset({errno.EAGAIN, errno.EACCES})


def take(out: Path) -> int | None:
    """Lock a folder, which is made if need be; the lock lasts until :func:`free`, or until this process ends.

    Returns:
        The open lock file; None where the system or the file system has no locks.

    Raises:
        SettingsError: If another run is at work there.
    """
    if sys.platform == "win32":
        return None
    path, end = out / LOCK, time.monotonic() + PATIENCE
    while True:
        out.mkdir(parents=True, exist_ok=True)
        try:
            stream = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            # The run before took its empty folder away just now.
            continue
        try:
            taken = _lock(stream, fcntl.LOCK_EX)
        except OSError:
            # A file system without locks.
            os.close(stream)
            path.unlink(missing_ok=True)
            return None
        if taken and _same(stream, path):
            os.ftruncate(stream, 0)
            os.write(stream, f"process {os.getpid()} on {socket.gethostname()}".encode())
            return stream
        os.close(stream)
        if not taken:
            if time.monotonic() > end:
                raise SettingsError("Nothing was written:", [at_work(out, _text(path))])
            time.sleep(0.02)


def free(out: Path, stream: int | None) -> None:
    """Give a folder back; the lock file goes while it is still held."""
    if stream is not None:
        (out / LOCK).unlink(missing_ok=True)
        os.close(stream)


def holder(out: Path) -> str:
    """Which process is at work in a folder, in words; empty if none is, or if that cannot be told."""
    path = out / LOCK
    if sys.platform == "win32":
        return ""
    try:
        stream = os.open(path, os.O_RDONLY)
    except OSError:
        return ""
    try:
        return "" if _lock(stream, fcntl.LOCK_SH) else _text(path)
    except OSError:
        return ""
    finally:
        os.close(stream)


def at_work(out: Path, who: str) -> Fault:
    """What a run is told that finds another one in its folder."""
    return Fault(
        "only one run may be at work in a folder", f"{who} at work", str(out), "wait for its end, or give another --out"
    )


def holder_for_all(out: Path) -> str:
    """As :func:`holder`, with one answer for all processes of a run; all of them ask."""
    if world_size() == 1:
        # Also before the processes have met: none of them has a lock by then.
        return holder(out)
    who = holder(out) if rank() == 0 else ""
    return (who or "another run") if any_rank(bool(who)) else ""


@contextmanager
def sole_run(out: Path, check: Callable[[], object]) -> Iterator[None]:
    """Keep a folder to this run; the processes of a run enter together, or fail together.

    Args:
        out: The run's folder.
        check: Looks at the folder once it is locked, and raises if it may not be written after all.

    Raises:
        SettingsError: If another run is at work there.
    """
    first, problem = rank() == 0, None
    made = [folder for folder in (out, *out.absolute().parents) if first and not folder.exists()]
    stream = None
    try:
        if first:
            try:
                stream = take(out)
                check()
            except (FewlabelError, OSError) as error:
                problem = error
        if any_rank(problem is not None):
            raise problem or SettingsError("Nothing was written:", [at_work(out, "by the first process, another run")])
        yield
    finally:
        if first:
            free(out, stream)
            with suppress(OSError):
                # Only what is empty goes: a run that left nothing leaves no folder either.
                for folder in made:
                    folder.rmdir()


def _lock(stream: int, how: int) -> bool:
    """Whether the lock was got at once.

    Raises:
        OSError: If there are no locks here.
    """
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(stream, how | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise
    return True


def _same(stream: int, path: Path) -> bool:
    """Whether the file that was locked still lies there: the run before may have taken it away in between."""
    try:
        return os.path.samestat(os.fstat(stream), path.stat())
    except FileNotFoundError:
        return False


def _text(path: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8").strip() or "another run"
    return "another run"
