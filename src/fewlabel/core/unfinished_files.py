"""Files and folders while they are written: hidden names that say who writes them, and what to make of old ones."""

from __future__ import annotations

import errno
import glob
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: A file of another machine that was not written to for so long is left over.
STALE_SECONDS = 3600.0
#: Of the name of what is written, so much goes into the hidden one: names of files have at most 255 bytes.
_MOST_BYTES = 120
#: Bytes of a disk on which nothing can be written any more.
_NO_ROOM = 2**16
#: What :func:`partial_beside` makes, and made before it named the writer; the lock of a run is not among them.
_PARTIAL = re.compile(r"\..+?(\.(?P<host>[^.]+)-(?P<process>\d+))?\.[0-9a-f]{8}\.partial")


def partial_beside(path: Path) -> Path:
    """A name beside ``path`` for what becomes it, or was it: that of this machine and process is part of it."""
    return path.with_name(f".{_short(path)}.{_host()}-{os.getpid()}.{uuid.uuid4().hex[:8]}.partial")


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Where to write a file under its own name, for libraries that go by the suffix; then it becomes ``path``.

    It lies in a fresh hidden folder beside ``path``, so that no link is followed and no file of anybody else is opened.
    A link in place of ``path`` is replaced. Of a write that fails nothing is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_beside(path)
    with naming(path, partial):
        partial.mkdir()
    try:
        with naming(path, partial):
            yield partial / path.name
            with (partial / path.name).open("r+b") as stream:
                os.fsync(stream.fileno())
        (partial / path.name).replace(path)
    except Exception as error:
        # Libraries in C++ do not say that the disk is full.
        if not isinstance(error, OSError) and shutil.disk_usage(path.parent).free < _NO_ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def naming(path: Path, partial: Path | None = None) -> Iterator[None]:
    """Errors of the system that name no file, as those of a full disk, name this one; and so those that name a partial.

    Args:
        path: What is written.
        partial: What becomes it, or the folder in which that lies; gone when somebody reads the error.
    """
    try:
        yield
    except OSError as error:
        named = Path(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes, os.PathLike)) else None
        if error.errno is not None and (named is None or (partial is not None and named.is_relative_to(partial))):
            error.filename = str(path)
        raise


def is_partial(path: Path) -> bool:
    """Whether a file or folder has the name of one that is, or was, being written."""
    return path.name.startswith(".") and path.suffix == ".partial"


def partials_of(path: Path) -> list[Path]:
    """What is being written, beside ``path``, to become it."""
    return list(path.parent.glob(f".{glob.escape(_short(path))}.*.partial"))


def abandoned(partial: Path) -> bool:
    """Whether nobody on this machine is writing it any more; of other machines nothing is known."""
    if not _PARTIAL.fullmatch(partial.name):
        # Somebody's own.
        return False
    host, process = _writer(partial)
    if not host:
        return True
    # On Windows signal 0 is not a question but a kill.
    if host != _host() or os.name == "nt":
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, ValueError):
        return False
    return False


def sweep_partials(folder: Path, name: str = "", *, below: bool = False) -> None:
    """Remove what killed processes left half written in a folder.

    What is written by a process that lives on this machine stays, and that of another machine until it is an hour old.

    Args:
        folder: Where to look; need not be there.
        name: The file whose parts are meant; those of all files if empty.
        below: Whether to look into the folders below it, too; links are not followed.
    """
    partials = partials_of(folder / name) if name else list((folder.rglob if below else folder.glob)(".*.partial"))
    for stale in partials:
        if not _PARTIAL.fullmatch(stale.name) or stale.is_symlink():
            continue
        elsewhere = _writer(stale)[0] != _host()
        if abandoned(stale) or (elsewhere and time.time() - stale.stat().st_mtime > STALE_SECONDS):
            if stale.is_dir():
                shutil.rmtree(stale, ignore_errors=True)
            else:
                stale.unlink(missing_ok=True)


def _short(path: Path) -> str:
    return path.name.encode(errors="replace")[:_MOST_BYTES].decode(errors="ignore")


def _host() -> str:
    return socket.gethostname().replace(".", "-")


def _writer(partial: Path) -> tuple[str, str]:
    """Machine and process in the name; empty if it has none."""
    match = _PARTIAL.fullmatch(partial.name)
    return (match["host"] or "", match["process"] or "") if match else ("", "")
