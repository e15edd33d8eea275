"""Files that the cells of a table name, however their paths were written."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from fewlabel.core.errors import Fault, reason
from fewlabel.data.io.catalog_paths import is_there
from fewlabel.data.io.dicom_faults import folder_fault
from fewlabel.data.io.itk_image import file_stem, is_scan

#: Letters of a name that cannot be that of a file which are shown.
_MOST_SHOWN = 60
_DRIVE = re.compile(r"^[A-Za-z]:[\\/]|^\\\\|^file:", re.IGNORECASE)


class CellFiles:
    """Finds the files that a table names.

    A path is relative to the table. Backslashes of Windows are understood, and a path that begins somewhere else, as on
    the computer where the table was written, is looked for by its last folders beside the table; both are noted once.

    Args:
        table: The table.
        faults: Takes files that are not there.
        notes: Takes how paths were understood, when :meth:`say` is called.
    """

    def __init__(self, table: Path, faults: list[Fault], notes: list[str]) -> None:
        self.table = table
        self.faults = faults
        self.notes = notes
        self._backslashes = 0
        self._elsewhere: dict[str, int] = {}

    def is_file(self, text: str) -> bool:
        """Whether a cell names a file that is there."""
        return self._locate(text)[0] is not None

    def parts(self, text: str) -> list[str]:
        """The paths in a cell, separated by semicolons; a file may have one in its name."""
        if ";" in text and self._here(text) is not None:
            return [text]
        return [part.strip() for part in text.split(";") if part.strip()]

    def read(self, text: str, line: int, column: str) -> Path | None:
        """The file that a cell names; None if there is none, which is a fault."""
        path, start = self._locate(text)
        if path is None:
            self.faults.append(self._missing(text, line, column))
            return None
        self._backslashes += "\\" in text and "\\" not in path.name
        if start:
            self._elsewhere[start] = self._elsewhere.get(start, 0) + 1
        return path

    def say(self) -> None:
        """Note how paths were understood."""
        if self._backslashes:
            self.notes.append(f"{self.table.name}: backslashes in {self._backslashes} paths are read as slashes")
        for start, count in self._elsewhere.items():
            self.notes.append(
                f"{self.table.name}: {count} paths begin with {start}, which is not here: the files were found beside "
                "the table"
            )

    def _locate(self, text: str) -> tuple[Path | None, str]:
        """The file, and what its path begins with where that was left out."""
        try:
            path = self._here(text)
            if path is not None:
                return path, ""
            plain = text.strip("\"'").replace("\\", "/")
            if not (_DRIVE.match(text) or plain.startswith("/")):
                return None, ""
            parts = [part for part in plain.split("/") if part]
            for at in range(1, len(parts)):
                path = self.table.parent.joinpath(*parts[at:])
                if path.is_file():
                    return path, ("/" if plain.startswith("/") else "") + "/".join(parts[:at])
        except (OSError, ValueError):
            # A name that is too long, or holds a zero byte, names no file.
            return None, ""
        return None, ""

    def _here(self, text: str) -> Path | None:
        """The file of a path as it stands, or as it is spelled here."""
        try:
            paths = (self.table.parent / plain for plain in dict.fromkeys(_spellings(text)))
            return next((path for path in paths if is_there(path)), None)
        except (OSError, ValueError):
            return None

    def _missing(self, text: str, line: int, column: str) -> Fault:
        where = f"{self.table}, line {line}"
        plain = text.strip("\"'").replace("\\", "/")
        path = self.table.parent / plain
        try:
            if path.is_symlink():
                problem = f"the {column} {path} is a link to {path.readlink()}, which does not exist"
                return Fault(problem, where, "Restore what it leads to")
            if path.is_dir():
                return replace(folder_fault(path), where=f"{where}, {column} {path}")
            beside = sorted(other.name for other in path.parent.iterdir()) if path.parent.is_dir() else []
        except (OSError, ValueError) as error:
            # Such as a name that is too long for a file, and for a message.
            shown = plain if len(plain) <= _MOST_SHOWN else f"{plain[:_MOST_SHOWN]}…"
            return Fault(f"the {column} {shown} cannot be a file ({reason(error)})", where, "Correct the name")
        return Fault(f"the {column} {path} does not exist", where, self._remedy(text, plain, beside))

    def _remedy(self, text: str, plain: str, beside: list[str]) -> str:
        """What may have been meant by a path, of the files in its folder."""
        name = Path(plain).name
        other = _in_other_case(self.table.parent, plain)
        same = [other] if other else [file for file in beside if _stem_of(file).lower() == name.lower()]
        if same:
            return f"Did you mean {' or '.join(same[:3])}?"
        if beside:
            stems = {_stem_of(file): file for file in beside if is_scan(Path(file))}
            near = get_close_matches(file_stem(Path(name)), stems, n=1, cutoff=0.75)
            return f"Did you mean {stems[near[0]]}?" if near else "Check the path"
        return "Write paths relative to the table" if _DRIVE.match(text) or plain.startswith("/") else "Check the path"


def _spellings(text: str) -> Iterator[str]:
    """A path as it stands, and with what differs between computers put right."""
    yield text
    bare = text.strip("\"'").strip()
    yield bare
    yield bare.replace("\\", "/")
    yield re.sub(r"^file:/*(?=/)", "", bare)
    for form in ("NFC", "NFD"):
        yield unicodedata.normalize(form, bare.replace("\\", "/"))


def _in_other_case(home: Path, plain: str) -> str:
    """A file whose path differs in case alone; empty if there is none."""
    place, parts = home, []
    try:
        for part in PurePosixPath(plain).parts:
            names = {other.name.lower(): other.name for other in place.iterdir()} if place.is_dir() else {}
            parts.append(part if (place / part).exists() else names.get(part.lower(), part))
            place = place / parts[-1]
        return "/".join(parts) if place.is_file() else ""
    except (OSError, ValueError):
        return ""


def _stem_of(name: str) -> str:
    return file_stem(Path(name)) if is_scan(Path(name)) else ""
