"""Folders in memory: what a mutation changes, and what is laid on the disk for the product to meet."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    to: str


@dataclass(frozen=True)
class Folder:
    """A folder where a file is expected."""


Entry = bytes | Link | Folder
#: Path below the folder → what lies there.
Tree = dict[str, Entry]


def read_tree(folder: Path) -> Tree:
    """All files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def tree_digest(tree: Mapping[str, Entry]) -> str:
    """In short what a tree is; of two that are equal it is the same."""
    return hashlib.sha256(repr(sorted(tree.items(), key=lambda item: item[0])).encode()).hexdigest()[:12]


def write_tree(folder: Path, tree: Mapping[str, Entry]) -> None:
    """Lay a tree out; a name that the file system refuses is passed over, as nobody can have it on a disk."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, entry in tree.items():
        # What is laid out stays inside: names that lead elsewhere are for tables and lists.
        path = os.path.normpath(os.path.join(folder, name))  # noqa: PTH118
        if not path.startswith(f"{folder}{os.sep}"):
            continue
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
            if isinstance(entry, Link):
                os.symlink(entry.to, path)  # noqa: PTH211
            elif isinstance(entry, Folder):
                os.mkdir(path)  # noqa: PTH102
            else:
                with open(path, "wb") as stream:  # noqa: PTH123
                    stream.write(entry)
        except (OSError, ValueError):
            continue


def remove_tree(folder: Path) -> None:
    """Take it away again, whatever was made of it."""
    shutil.rmtree(folder, ignore_errors=True)
