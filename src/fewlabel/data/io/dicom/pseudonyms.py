"""Pseudonyms of patients and series, by a random key that stays with the DICOM files.

The key lies in the folder ``.fewlabel-dicom`` of the data, or of a folder above it, where whoever can read it can read
the files as well; and where the data cannot be written to, in a folder of the user. With the key, one patient has one
pseudonym in every run; without it, nobody finds the patient to a pseudonym. A table beside it does: it is the way back.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewlabel.core.artifact.files import write_text
from fewlabel.core.errors import DataError, Fault, reason
from fewlabel.core.unfinished_files import partial_beside

#: Of the key and the tables, in the folder of the data.
FOLDER = ".fewlabel-dicom"
#: Tables: what each pseudonym stands for, and which files cannot be read.
SCANS, UNREADABLE = "scans.csv", "unreadable.csv"
_KEY = "key"
_BYTES = 32
_COLUMNS = ("scan", "subject", "used", "patient", "study", "series", "folder", "description")


@dataclass(frozen=True)
class Pseudonyms:
    """Names for what may not be named.

    Attributes:
        key: Random bytes.
        home: Folder of the key and the tables.
        root: Folder of the data.
    """

    key: bytes
    home: Path
    root: Path

    def code(self, kind: str, *words: str, digits: int = 10) -> str:
        """A pseudonym, as hexadecimal digits: the HMAC-SHA256 of words, begun by their kind.

        Example:
            >>> Pseudonyms(b"key", Path(), Path()).code("patient", "", "4711", digits=6)
            '18ae93'
        """
        text = "\0".join((kind, *words))
        return hmac.new(self.key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:digits]

    def write_tables(self, scans: Sequence[Mapping[str, str]], unreadable: Sequence[tuple[Path, str]]) -> Path | None:
        """Write which patient, series and folder each pseudonym stands for, and which files cannot be read.

        Rows of other data with the same key stay.

        Args:
            scans: A value for each column: ``scan``, ``subject``, ``used``, ``patient``, ``study``, ``series``,
                ``folder`` and ``description``.
            unreadable: Files that cannot be read, and why.

        Returns:
            Their folder; None where they cannot be written, which does no harm but that nobody finds the way back.
        """
        for home in dict.fromkeys((self.home, _own_folder(self.root))):
            try:
                before = _rows(home / SCANS)
                rows = {row["scan"]: row for row in (*before, *scans)}
                _write_changed(home / SCANS, _COLUMNS, [rows[scan] for scan in sorted(rows)])
                lost = [{"file": str(path), "problem": problem} for path, problem in unreadable]
                if lost:
                    _write_changed(home / UNREADABLE, ("file", "problem"), lost)
                else:
                    (home / UNREADABLE).unlink(missing_ok=True)
            except OSError:
                continue
            return home
        return None


def load_pseudonyms(root: Path) -> Pseudonyms:
    """The pseudonyms of data: by the key in its folder or one above it, or by a new one.

    Args:
        root: The data: an absolute path of a folder or a file.

    Raises:
        DataError: If there is a key that cannot be read, or no place for a new one.
    """
    folder = root if root.is_dir() else root.parent
    above = (folder, *folder.parents)
    for home in (*(place / FOLDER for place in above), *map(_own_folder, above)):
        if (home / _KEY).exists():
            return Pseudonyms(_read(home / _KEY), home, folder)
    beside, own = folder / FOLDER, _own_folder(folder)
    for home in (beside, own):
        try:
            return Pseudonyms(_created(home / _KEY), home, folder)
        except OSError as error:
            problem = f"cannot be written ({reason(error)}), so there is no place for the key of pseudonyms"
    remedy = f"Allow writing to {folder}, or to your own folder"
    raise DataError("DICOM cannot be read:", [Fault(problem, str(own), remedy)])


def _own_folder(folder: Path) -> Path:
    """Folder of the user for a folder of data that cannot be written to; its name does not say which."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "fewlabel" / f"dicom-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"


def _read(path: Path) -> bytes:
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except OSError as error:
        fault = Fault(f"the key of pseudonyms cannot be read ({reason(error)})", str(path), "Allow reading it")
        raise DataError("DICOM cannot be read:", [fault]) from error
    except ValueError:
        key = b""
    if len(key) < _BYTES:
        problem, remedy = "is no key of pseudonyms", "Put the old one back, or remove it: all pseudonyms change then"
        raise DataError("DICOM cannot be read:", [Fault(problem, str(path), remedy)])
    return key


def _created(path: Path) -> bytes:
    """A new key, or that of another process which was faster."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_beside(path)
    try:
        with partial.open("x", encoding="ascii") as stream:
            stream.write(secrets.token_hex(_BYTES) + "\n")
        try:
            os.link(partial, path)
        except FileExistsError:
            pass
        except OSError:
            # A file system without links.
            if not path.exists():
                partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return _read(path)


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return [{name: row.get(name) or "" for name in _COLUMNS} for row in csv.DictReader(stream) if row.get("scan")]


def _write_changed(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    if not path.is_file() or path.read_bytes() != text.getvalue().encode():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text.getvalue())
