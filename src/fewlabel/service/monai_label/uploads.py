"""Files that a viewer sends: kept below one folder, whatever they are called, and read only if they are whole."""

from __future__ import annotations

import re
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO

from fewlabel.core.errors import DataError, Fault, SettingsError
from fewlabel.core.unfinished_files import written_beside
from fewlabel.data.io.file_names import SCAN_SUFFIXES
from fewlabel.data.io.nrrd_header import read_nrrd_header

#: Formats that are taken: those of the plug-ins, whose headers tell for sure whether they point at other files.
VOLUMES = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd")
#: Sessions that are kept at once; the oldest go first.
SESSIONS = 16
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,119}")


class Uploads:
    """Scans that were sent, by name, in a folder of the run; and those of sessions, which end with the server.

    Args:
        folder: Of the scans; made with the first of them.
        temporary: For what does not outlive the server.
    """

    def __init__(self, folder: Path, temporary: Path) -> None:
        self.folder, self.temporary = folder, temporary
        self._sessions: dict[str, Path] = {}

    def add(self, name: str, file: Path) -> str:
        """Keep a scan under a name; its suffix is that of the file. One of the same name goes when this one is whole.

        Raises:
            SettingsError: If it is no name.
            OSError: If it cannot be written.
        """
        checked = file_name(name)
        target = self.folder / f"{checked}{volume_suffix(file.name)}"
        with written_beside(target) as partial:
            shutil.move(file, partial)
        for there in self._named(checked):
            if there != target:
                there.unlink(missing_ok=True)
        return checked

    def find(self, name: str) -> Path | None:
        """The scan of a name."""
        return next(iter(self._named(name)), None)

    def names(self) -> list[str]:
        """All of them, sorted."""
        files = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted(path.name.removesuffix(volume_suffix(path.name)) for path in files if path.name.endswith(VOLUMES))

    def begin_session(self, file: Path) -> str:
        """Keep a scan for a while, and say by what it is asked for."""
        session = secrets.token_urlsafe(16)
        self._sessions[session] = file
        while len(self._sessions) > SESSIONS:
            self.end_session(next(iter(self._sessions)))
        return session

    def session(self, session: str) -> Path | None:
        """The scan of a session."""
        return self._sessions.get(session)

    def end_session(self, session: str) -> bool:
        """Forget a scan; whether there was one."""
        file = self._sessions.pop(session, None)
        if file is not None:
            shutil.rmtree(file.parent, ignore_errors=True)
        return file is not None

    def receive(self, stream: BinaryIO, name: str | None, kinds: tuple[str, ...] = VOLUMES) -> Path:
        """A file in a folder of its own, which whoever asked for it removes; of its name, the suffix alone counts.

        Raises:
            DataError: If its format is unknown, or it points at other files.
        """
        suffix = volume_suffix(name or "", kinds)
        home = Path(tempfile.mkdtemp(dir=self.temporary))
        path = home / f"sent{suffix}"
        try:
            with path.open("wb") as file:
                shutil.copyfileobj(stream, file)
            _whole(path)
        except BaseException:
            shutil.rmtree(home)
            raise
        return path

    def _named(self, name: str) -> list[Path]:
        files = [self.folder / f"{name}{suffix}" for suffix in VOLUMES] if _NAME.fullmatch(name) else []
        return [path for path in files if path.is_file()]


def file_name(name: str) -> str:
    """A name that leads nowhere else.

    Raises:
        SettingsError: If it holds anything but letters, digits, dots, dashes, underscores and spaces.
    """
    if _NAME.fullmatch(name) is None:
        problem = f"{name[:120]!r} must begin with a letter or digit, and hold letters, digits, dots, dashes and spaces"
        raise SettingsError("The scan cannot be kept:", [Fault(problem, "image", "Choose another name")])
    return name


def volume_suffix(name: str, kinds: tuple[str, ...] = VOLUMES) -> str:
    """The suffix of a file, of those that hold a volume; without a name that of NIfTI, which viewers send.

    Raises:
        DataError: If it is another.
    """
    if not name:
        return ".nii.gz"
    suffix = next((each for each in (*kinds, *SCAN_SUFFIXES) if name.lower().endswith(each)), "")
    if suffix not in kinds:
        fault = Fault(f"{Path(name).name[-40:]!r} is of no format that is taken", "file", f"Send {', '.join(kinds)}")
        raise DataError("A file cannot be taken:", [fault])
    return suffix


def _whole(path: Path) -> None:
    """Refuse a header whose voxels lie in another file, which may be any file of this machine."""
    header = read_nrrd_header(path)
    if header is not None and header.fields.keys() & {"data file", "datafile"}:
        fault = Fault("its voxels lie in another file", "file", "Send one file that holds everything")
        raise DataError("A file cannot be taken:", [fault])
