"""Where a result may go: what stands in the way at a place, and what a folder is called."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path, PurePosixPath

from fewlabel.core.errors import reason
from fewlabel.core.unfinished_files import is_partial

#: What names of files may not hold, and the sign that is put in its place.
_NOT_IN_NAMES = re.compile(r"[/\\%\x00-\x1f\x7f\ud800-\udfff]")
#: Bytes of a name that leave room for what is put before and behind it.
_LONGEST = 120
#: The file by which a run folder, as ``train`` and ``demo`` make them, is known.
RUN_FILE = "run.json"
#: Folder of a run that holds the rounds of ``learn``, each by its number.
ROUNDS = "rounds"


def round_folders(run: Path) -> list[Path]:
    """Folders of the rounds of ``learn`` in a run, by number; unfinished ones too, and what is no number left out."""
    folder = run / ROUNDS
    numbered = [path for path in folder.iterdir() if path.name.isdecimal()] if folder.is_dir() else []
    return sorted(numbered, key=lambda path: int(path.name))


def path_conflict(out: Path) -> str:
    """What keeps a folder from being made at a place, as a phrase; empty if it is new or an empty folder.

    Args:
        out: Where the folder is to be. What a killed process left half written counts as nothing.
    """
    if _nearest(out) == out.absolute() and out.exists():
        if not out.is_dir():
            return "a file"
        if any(not is_partial(path) for path in out.iterdir()):
            return "other files"
    return unwritable(out)


def conflict_sentence(out: Path, obstacle: str) -> str:
    """What :func:`path_conflict` found at a place, as the sentence of a fault."""
    if obstacle == "a file":
        return f"{out} is a file, not a folder"
    if obstacle == "other files":
        return f"{out} is not empty"
    if obstacle.startswith("the link "):
        return f"{out} cannot be made because of {obstacle}"
    if obstacle.startswith("the file "):
        return f"{out} cannot be made below {obstacle}"
    return f"{out} cannot be made: {obstacle}"


def unwritable(folder: Path) -> str:
    """What keeps files from being written into a folder, as a phrase; empty if nothing does.

    Args:
        folder: Where they are to be; need not be there yet.
    """
    # A name may be taken further up, as in --out notes.txt/run.
    above = _nearest(folder)
    if not above.exists():
        return f"the link {above}, which leads to nothing"
    if not above.is_dir():
        return f"the file {above}"
    if not os.access(above, os.W_OK | os.X_OK):
        return f"no permission to write in {above}"
    try:
        # Some disks let themselves be asked and refuse all the same; the file has no name where the system can.
        with tempfile.TemporaryFile(dir=above):
            return ""
    except OSError as error:
        return f"{reason(error).lower()}: no file can be made in {above}"


def outside_of(target: Path, top: Path) -> str:
    """Where a file would be written instead of below a folder, because of a link or a name; empty if it stays below."""
    home = target.parent.resolve()
    return "" if home.is_relative_to(top.resolve()) else str(home)


def leads_out(name: str) -> bool:
    """Whether a name of a file that a record has, relative to the folder of that record, may lead to another folder."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or "\0" in name


def as_file_name(text: str) -> str:
    """A name for a file or folder from a name that people gave: of a subject, a scan.

    The usual ones stay as they are, and different ones stay different. What would lead to another folder, hide the
    file, or is no text, as bytes of names in other encodings, is written as ``%`` and its number.

    Example:
        >>> as_file_name("patient 01"), as_file_name("../../x")
        ('patient 01', '%2e.%2f..%2fx')
    """
    name = _NOT_IN_NAMES.sub(lambda match: f"%{ord(match[0]):02x}", text)
    name = f"%2e{name[1:]}" if name.startswith(".") else name
    if len(name.encode()) > _LONGEST:
        digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
        name = f"{name.encode()[:_LONGEST].decode(errors='ignore')}%{digest}"
    return name or "%"


def _nearest(place: Path) -> Path:
    """The place itself or the nearest folder above it that is there; links count, wherever they lead."""
    absolute = place.absolute()
    return next((path for path in (absolute, *absolute.parents) if os.path.lexists(path)), absolute)


def with_a_name(folder: Path) -> Path:
    """The folder as it was given, or its absolute path where that has no name of its own, as ``.`` and ``..``."""
    return folder if folder.name not in {"", ".."} else folder.resolve()
