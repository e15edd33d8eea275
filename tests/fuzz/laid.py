"""A sound folder that lies on the disk once: of each input only what differs from it is written, and put back after."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from fuzz.trees import Entry, Tree, remove_tree, write_tree

#: Kind, node, size in bytes, and the times in ns at which content and node changed.
_Stamp = tuple[int, ...]


class LaidTree:
    """A tree on the disk that becomes one input after the other.

    What an input leaves as it is keeps its node and its times, so that the product may remember what it read there, as
    it does within one call. What an input changes is a file of its own, with a time that no other had.

    Args:
        folder: Where it lies; made here.
        base: The sound tree.
    """

    def __init__(self, folder: Path, base: Tree) -> None:
        self.folder, self._base = folder, base
        self._stamps: dict[str, _Stamp] = {}
        self._clock = 0
        self._lay_all()

    def become(self, tree: Mapping[str, Entry]) -> None:
        """Write what differs from the sound tree, and take away what it lacks."""
        other = {name: entry for name, entry in tree.items() if self._base.get(name) is not entry}
        for name in self._base:
            if name in other or name not in tree:
                self._take_away(name)
        write_tree(self.folder, other)
        for name in other:
            self._stamped(name)

    def put_back(self) -> None:
        """Make it the sound tree again, whatever became of it."""
        if not self.folder.is_dir() or self.folder.is_symlink():
            self._lay_all()
            return
        there = dict(_look(self.folder))
        for name, stamp in there.items():
            if self._stamps.get(name) != stamp:
                path = self.folder / name
                if stat.S_ISDIR(stamp[0]):
                    remove_tree(path)
                else:
                    path.unlink(missing_ok=True)
        gone = [name for name, stamp in self._stamps.items() if there.get(name) != stamp]
        if any(name not in self._base for name in gone):
            # A folder of it, with what lay there.
            self._lay_all()
            return
        write_tree(self.folder, {name: self._base[name] for name in gone})
        for name in gone:
            self._stamped(name)
            self._stamps[name] = _stamp(self.folder / name)

    def _lay_all(self) -> None:
        if self.folder.is_symlink():
            self.folder.unlink()
        remove_tree(self.folder)
        write_tree(self.folder, self._base)
        for name in self._base:
            self._stamped(name)
        self._stamps = dict(_look(self.folder))

    def _take_away(self, name: str) -> None:
        path = self.folder / name
        path.unlink()
        for above in path.parents:
            if above == self.folder or any(above.iterdir()):
                break
            above.rmdir()

    def _stamped(self, name: str) -> None:
        """A time of its own: two files of one size, written one after the other, are told apart by it."""
        path = os.path.normpath(self.folder / name)
        self._clock += 1
        try:
            if path.startswith(f"{self.folder}{os.sep}") and stat.S_ISREG(os.lstat(path).st_mode):
                now = os.stat(path)  # noqa: PTH116
                os.utime(path, ns=(now.st_atime_ns, now.st_mtime_ns + self._clock))
        except (OSError, ValueError):
            return


def _look(folder: Path, above: str = "") -> Iterator[tuple[str, _Stamp]]:
    """All below a folder, outer before inner; of folders only that they are."""
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{above}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield name, (stat.S_IFDIR,)
                yield from _look(Path(entry.path), f"{name}/")
            else:
                yield name, _stamp(entry.path)


def _stamp(path: str | Path) -> _Stamp:
    facts = os.lstat(path)
    return facts.st_mode, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
