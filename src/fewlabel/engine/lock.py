"""One run per folder: a lock that a run holds for as long as it lives, and that the kernel frees however it ends."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout, lock_descriptor

from fewlabel.core.collective import any_rank, rank, world_size
from fewlabel.core.errors import Fault, FewlabelError, SettingsError

#: Lies in a run's folder while a run is at work there. By its name it counts as half written, so as nothing in the way.
LOCK = ".run.lock.partial"
#: What to do where another run is at work.
OTHER_OUT = "Wait until it has ended, or give another --out"
#: Seconds to wait for a lock: a process that only looks whether there is one holds it for a moment.
PATIENCE = 0.3
#: What file systems without locks answer.
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.EIO})


def take(out: Path, remedy: str = OTHER_OUT) -> FileLock | None:
    """Lock a folder, which is made if need be; the lock lasts until :func:`free`, or until this process ends.

    Returns:
        The lock; None where the system or the file system has no locks.

    Raises:
        SettingsError: If another run is at work there, or a symbolic link lies where the lock goes.
    """
    if sys.platform == "win32":
        return None
    path = out / LOCK
    lock = FileLock(path, PATIENCE, poll_interval=0.02, fallback_to_soft=False, on_acquired=_sign)
    while True:
        try:
            lock.acquire()
        except FileNotFoundError:
            # The run before took its empty folder away just now.
            continue
        except Timeout as error:
            raise SettingsError("Nothing was written:", [at_work(out, holder(out) or "another run", remedy)]) from error
        except OSError as error:
            if path.is_symlink():
                fault = Fault(f"{path} is a symbolic link where the lock of a run must lie", remedy="Remove the link")
                raise SettingsError("Nothing was written:", [fault]) from error
            if error.errno not in _NO_LOCKS:
                raise
            path.unlink(missing_ok=True)
            return None
        return lock


def _sign(stream: int) -> None:
    # Whose it is is a courtesy: on a full disk the lock holds without.
    with suppress(OSError):
        os.ftruncate(stream, 0)
        os.write(stream, f"process {os.getpid()} on {socket.gethostname()}".encode())


def free(out: Path, lock: FileLock | None) -> None:
    """Give a folder back; the lock file goes while it is still held."""
    if lock is not None:
        (out / LOCK).unlink(missing_ok=True)
        lock.release()


def holder(out: Path) -> str:
    """Which process is at work in a folder, in words; empty if none is, or if that is not known."""
    if sys.platform == "win32":
        return ""
    with (
        suppress(OSError),
        os.fdopen(os.open(out / LOCK, os.O_RDONLY | os.O_NOFOLLOW), encoding="utf-8", errors="replace") as stream,
    ):
        # A lock that was got goes with the stream.
        if not lock_descriptor(stream.fileno(), blocking=False):
            return stream.read().strip() or "another run"
    return ""


def at_work(out: Path, who: str, remedy: str = OTHER_OUT) -> Fault:
    """The fault of a folder in which another run is at work."""
    return Fault(f"{out} is in use by {who}", remedy=remedy)


def holder_for_all(out: Path) -> str:
    """As :func:`holder`, with one answer for all processes of a run; all of them ask."""
    if world_size() == 1:
        # Also before the processes have met: none of them has a lock by then.
        return holder(out)
    who = holder(out) if rank() == 0 else ""
    return (who or "another run") if any_rank(bool(who)) else ""


@contextmanager
def sole_run(out: Path, check: Callable[[], object], remedy: str = OTHER_OUT) -> Iterator[None]:
    """Keep a folder to this run; the processes of a run enter together, or fail together.

    Args:
        out: The run's folder.
        check: Looks at the folder once it is locked, and raises if it may not be written after all.
        remedy: What to do where another run is at work.

    Raises:
        SettingsError: As :func:`take`, or what ``check`` raises.
    """
    first, problem = rank() == 0, None
    made = [folder for folder in (out, *out.absolute().parents) if first and not folder.exists()]
    lock = None
    try:
        if first:
            try:
                lock = take(out, remedy)
                check()
            except (FewlabelError, OSError) as error:
                problem = error
        if any_rank(problem is not None):
            raise problem or SettingsError(
                "Nothing was written:", [at_work(out, "another run, as the first process found", remedy)]
            )
        yield
    finally:
        if first:
            free(out, lock)
            with suppress(OSError):
                # Only what is empty goes: a run that left nothing leaves no folder either.
                for folder in made:
                    folder.rmdir()
