"""What an input must not do: write outside of its folder, or take far more memory than it declares."""

from __future__ import annotations

import os
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from fuzz.trees import remove_tree

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: Event → how many paths it has, and where the open folders stand that they may be relative to.
_CHANGING: dict[str, tuple[int, tuple[int, ...]]] = {
    "os.mkdir": (1, (2,)),
    "os.remove": (1, (1,)),
    "os.rmdir": (1, (1,)),
    "os.rename": (2, (2, 3)),
    "os.link": (2, (2, 3)),
    "os.symlink": (2, (2, 2)),
    "os.truncate": (1, ()),
    "os.chmod": (1, (2,)),
}
#: Memory that an input may take whatever it declares, in MiB: libraries are loaded and tables grow.
FREE_MIB = 64


class Writes:
    """Notes every change of a file outside of a folder, by Python's own audit events; there is one in a process."""

    def __init__(self) -> None:
        self.folder: str = ""
        #: What the product keeps for the user who runs it, such as names of patients by their pseudonyms.
        self.own = os.path.realpath(tempfile.mkdtemp(prefix="fewlabel-fuzz-own-"))
        os.environ["XDG_DATA_HOME"] = self.own
        #: Temporary files are allowed, as long as none is left.
        self.temporary = Path(self.own) / "tmp"
        self.temporary.mkdir()
        self.outside: list[str] = []
        sys.addaudithook(self._hear)

    def watch(self, folder: Path) -> None:
        """From now on, changes belong into this folder."""
        self.outside, self.folder = [], os.path.realpath(folder)
        tempfile.tempdir = str(self.temporary)

    def rest(self) -> list[str]:
        """Watch no longer; what was changed outside."""
        self.folder, tempfile.tempdir = "", None
        left = list(self.temporary.iterdir())
        for path in left:
            remove_tree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        return [*self.outside, *(f"left temporary {path.name}" for path in left)]

    def _hear(self, event: str, words: tuple[Any, ...]) -> None:
        if not self.folder:
            return
        if event == "open":
            path, mode, flags = words
            writes = isinstance(flags, int) and flags & _WRITING
            if writes or (isinstance(mode, str) and set(mode) & set("wax+")):
                self._note(event, path)
        elif event in _CHANGING:
            count, folders = _CHANGING[event]
            for at, path in enumerate(words[:count]):
                self._note(event, path, words[folders[at]] if folders else -1)

    def _note(self, event: str, path: Any, folder: int = -1) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        name = os.fsdecode(path)
        if isinstance(folder, int) and folder >= 0:
            name = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name)  # noqa: PTH115, PTH118
        place = os.path.join(os.path.realpath(os.path.dirname(name)), os.path.basename(name))  # noqa: PTH118, PTH119, PTH120
        homes = (self.folder, self.own)
        if place not in ("/dev/null", *homes) and not place.startswith(tuple(f"{home}{os.sep}" for home in homes)):
            self.outside.append(f"{event} {place}"[:300])


class Bait:
    """Files beside the folder of an input that nobody is to read; the system notes when they are.

    Args:
        place: Where they are laid.
    """

    NAMES = ("elsewhere.raw", "elsewhere.h5")

    def __init__(self, place: Path) -> None:
        self._contents = {place / "elsewhere.raw": bytes(1 << 14), place / "elsewhere.h5": _array_file()}
        for file in self._contents:
            self._lay(file)

    def _lay(self, file: Path) -> None:
        file.unlink(missing_ok=True)
        file.write_bytes(self._contents[file])
        os.utime(file, (0, file.stat().st_mtime))

    def taken(self) -> list[str]:
        """Which of them were read or taken away; they lie there as before."""
        found = []
        for file in self._contents:
            if not file.is_file() or file.stat().st_atime:
                found.append(f"read {file.name}")
                self._lay(file)
        return found


@cache
def _array_file() -> bytes:
    import io

    import h5py
    import numpy as np

    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["image"] = file["label"] = np.ones((3, 12, 10), np.uint8)
    return stream.getvalue()


class Memory:
    """The most memory that this process held since it was last asked."""

    def __init__(self) -> None:
        self._before = self._reset()

    def _reset(self) -> int:
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return 0
        return self._peak()

    @staticmethod
    def _peak() -> int:
        """In KiB; 0 where the system does not tell."""
        try:
            with open("/proc/self/status", "rb") as stream:  # noqa: PTH123
                for line in stream:
                    if line.startswith(b"VmHWM"):
                        return int(line.split()[1])
        except OSError:
            pass
        return 0

    def begin(self) -> None:
        """An input begins."""
        self._before = self._reset()

    def grown_mib(self) -> float:
        """How far memory rose above what it was when the input began."""
        return max(0, self._peak() - self._before) / 1024
