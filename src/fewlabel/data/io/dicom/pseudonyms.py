"""Pseudonyms of patients and series, by a random key that stays with the DICOM files.

The key lies in the folder ``.fewlabel-dicom`` of the data, or of a folder above it, where whoever can read it can read
the files as well. ``prepare`` writes it there, see :meth:`Pseudonyms.beside_the_data`; until then, and where the data
are read-only, it lies in a folder of the user. With the key, one patient has one pseudonym in every run; without it,
nobody finds the patient to a pseudonym. A table beside it does (:mod:`fewlabel.data.io.dicom.pseudonym_tables`).
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import os
import secrets
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from fewlabel.core.errors import DataError, Fault, reason
from fewlabel.core.unfinished_files import partial_beside
from fewlabel.data.io.dicom.pseudonym_tables import SCANS, merge_scans

#: Of the key and the table, in the folder of the data.
FOLDER = ".fewlabel-dicom"
_KEY = "key"
_BYTES = 32


@dataclass(frozen=True)
class Pseudonyms:
    """Names for what may not be named.

    Attributes:
        key: Random bytes.
        base: Folder that the key is of: that of the data, or one above it.
        home: Folder that the key lies in.
    """

    key: bytes
    base: Path
    home: Path

    @property
    def user_folder(self) -> Path:
        """Folder of the user for what belongs to the data, and may not be written there."""
        return _user_folder(self.base)

    def code(self, kind: str, *words: str, digits: int = 10) -> str:
        """A pseudonym, as hexadecimal digits: the HMAC-SHA256 of words, begun by their kind.

        Example:
            >>> Pseudonyms(b"key", Path(), Path()).code("patient", "", "4711", digits=6)
            '18ae93'
        """
        text = "\0".join((kind, *words))
        return hmac.new(self.key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:digits]

    def beside_the_data(self) -> Pseudonyms:
        """The same, with the key and the table of scans moved from the folder of the user to that of the data.

        They stay where they are if the data cannot be written to. A folder without the permission to write counts as
        read-only for the administrator, too.

        Raises:
            DataError: If there is another key beside the data by now.
        """
        home = self.base / FOLDER
        place = home if home.is_dir() else self.base
        try:
            if not place.stat().st_mode & 0o222:
                return self
            if _created(home / _KEY, self.key) != self.key:
                problem = "holds another key of pseudonyms, which was made in the meantime"
                raise DataError("DICOM cannot be read:", [Fault(problem, str(home), "Start again")])
            if (self.user_folder / SCANS).is_file():
                merge_scans(self.user_folder / SCANS, home / SCANS)
                (self.user_folder / SCANS).unlink()
            (self.user_folder / _KEY).unlink(missing_ok=True)
        except (OSError, csv.Error):
            return self
        return replace(self, home=home)


def load_pseudonyms(root: Path) -> Pseudonyms:
    """The pseudonyms of data: by the key in its folder or one above it, or by a new one, in a folder of the user.

    Args:
        root: The data: an absolute path of a folder or a file.

    Raises:
        DataError: If there is a key that cannot be read, or no place for a new one.
    """
    folder = root if root.is_dir() else root.parent
    above = (folder, *folder.parents)
    for base, home in (*((base, base / FOLDER) for base in above), *((base, _user_folder(base)) for base in above)):
        if (home / _KEY).exists():
            return Pseudonyms(_read(home / _KEY), base, home)
    home = _user_folder(folder)
    try:
        return Pseudonyms(_created(home / _KEY, secrets.token_bytes(_BYTES)), folder, home)
    except OSError as error:
        problem = f"cannot be written ({reason(error)}), so there is no place for the key of pseudonyms"
        remedy = "Allow writing to it, or name another folder in XDG_DATA_HOME"
        raise DataError("DICOM cannot be read:", [Fault(problem, str(home), remedy)]) from error


def _user_folder(folder: Path) -> Path:
    """Folder of the user for a folder of data; its name does not say which."""
    if given := os.environ.get("XDG_DATA_HOME"):
        base = Path(given)
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path.home() / ".local" / "share"
    name = str(folder).encode("utf-8", "surrogatepass")
    return base / "fewlabel" / f"dicom-{hashlib.sha256(name).hexdigest()[:12]}"


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


def _created(path: Path, key: bytes) -> bytes:
    """A key that is written, or the one that is there already, as of another process which was faster."""
    if path.exists():
        return _read(path)
    # A folder of the user is nobody else's; that of the data is open to those who may read them.
    path.parent.mkdir(mode=0o777 if path.parent.name == FOLDER else 0o700, parents=True, exist_ok=True)
    partial = partial_beside(path)
    try:
        with partial.open("x", encoding="ascii") as stream:
            stream.write(key.hex() + "\n")
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
