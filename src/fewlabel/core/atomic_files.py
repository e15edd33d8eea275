"""Files and folders while they are written: hidden names that say who writes them, and what to make of old ones."""

from __future__ import annotations

import glob
import os
import socket
import time
import uuid
from pathlib import Path

#: A file of another machine that was not written to for so long is left over.
STALE_SECONDS = 3600.0


def partial_beside(path: Path) -> Path:
    """A name beside ``path`` for what becomes it, or was it: that of this machine and process is part of it."""
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}.{uuid.uuid4().hex[:8]}.partial")


def is_partial(path: Path) -> bool:
    """Whether a file or folder has the name of one that is, or was, being written."""
    return path.name.startswith(".") and path.suffix == ".partial"


def partials_of(path: Path) -> list[Path]:
    """What is being written, beside ``path``, to become it."""
    return list(path.parent.glob(f".{glob.escape(path.name)}.*.partial"))


def abandoned(partial: Path) -> bool:
    """Whether nobody on this machine is writing it any more; of other machines nothing is known."""
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


def sweep_partials(folder: Path, name: str = "") -> None:
    """Remove the files that killed processes left half written in a folder.

    A file whose writer lives on this machine stays, and one of another machine until it is an hour old.

    Args:
        folder: Where to look; need not be there.
        name: The file whose parts are meant; those of all files if empty.
    """
    for stale in partials_of(folder / name) if name else list(folder.glob(".*.partial")):
        elsewhere = _writer(stale)[0] != _host()
        if stale.is_file() and (
            abandoned(stale) or (elsewhere and time.time() - stale.stat().st_mtime > STALE_SECONDS)
        ):
            stale.unlink(missing_ok=True)


def _host() -> str:
    return socket.gethostname().replace(".", "-")


def _writer(partial: Path) -> tuple[str, str]:
    """Machine and process in the name; empty if it has none."""
    host, _, process = ".".join(partial.name.rsplit(".", 3)[-3:-2]).rpartition("-")
    return host, process
