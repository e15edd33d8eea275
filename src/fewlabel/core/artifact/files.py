"""Files of artifacts: written atomically, read with a clear error, hashed; and folders built beside their place."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fewlabel.core.artifact import folder_replacement
from fewlabel.core.artifact.folder_replacement import replace_folder, restore_replaced
from fewlabel.core.errors import ArtifactError, Fault, reason
from fewlabel.core.unfinished_files import abandoned, naming, partial_beside, partials_of

MANIFEST = folder_replacement.MANIFEST
ANEW = "Make the artifact again"


def write_text(path: Path, text: str) -> None:
    r"""Write a text file so that readers get the old or the new content, never a part.

    Names of files that are not UTF-8 are written by escapes, ``\udcff``, which JSON reads as what they were.
    """
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically and flush it to disk; of a write that fails nothing is left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_beside(path)
    try:
        # A fresh file: no link is followed.
        with naming(path, partial):
            with partial.open("xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def append_line(path: Path, line: str, *, sync: bool = False) -> None:
    """Add a line to a text file; a link in its place is not followed.

    Args:
        path: The file; made if it is not there.
        line: Without its end.
        sync: Whether to wait until it is on the disk.

    Raises:
        OSError: If that is so, or the line cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    with naming(path), os.fdopen(os.open(path, flags, 0o666), "ab") as stream:
        stream.write(f"{line}\n".encode(errors="backslashreplace"))
        if sync:
            stream.flush()
            os.fsync(stream.fileno())


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, indented."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file of an artifact.

    Raises:
        ArtifactError: If it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable_json(path, error) from error


def unreadable_json(path: Path, error: Exception) -> ArtifactError:
    """The error of a JSON file that cannot be read."""
    return ArtifactError("An artifact is damaged:", [Fault(f"{path} cannot be read ({reason(error)})", remedy=ANEW)])


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_once(path: Path) -> str:
    """As :func:`file_hash`; a file that the file system says is the same is read once by a process."""
    number, stamp = _state(path)
    if number not in _hashes or _hashes[number][0] != stamp:
        return hash_now(path)
    return _hashes[number][1]


def hash_now(path: Path) -> str:
    """As :func:`file_hash`, of the file as it is, whatever was read of it before; :func:`hash_once` knows it then."""
    number, stamp = _state(path)
    digest = file_hash(path)
    _hashes[number] = stamp, digest
    return digest


def _state(path: Path) -> tuple[tuple[int, int], tuple[int, ...]]:
    """Which file it is, wherever it is moved to, and what the file system would say otherwise had it changed."""
    state = path.stat()
    return (state.st_dev, state.st_ino), (state.st_size, state.st_mtime_ns, state.st_ctime_ns)


#: File → its state, and its hash.
_hashes: dict[tuple[int, int], tuple[tuple[int, ...], str]] = {}


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """A fresh folder beside ``folder`` that replaces it on success and vanishes on failure.

    What killed processes of this machine left behind is removed, and a finished folder that one of them had moved aside
    is put back. Another one that is building the same folder is not disturbed, and the last to finish wins. The current
    folder, or one that it lies in, gets new content and stays itself.
    """
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    restore_replaced(folder)
    for stale in partials_of(folder):
        if abandoned(stale):
            shutil.rmtree(stale, ignore_errors=True)
    partial = partial_beside(folder)
    with naming(folder, partial):
        partial.mkdir()
    try:
        with naming(folder, partial):
            yield partial
        if folder.exists():
            replace_folder(folder, partial)
        else:
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
