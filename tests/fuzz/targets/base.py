"""A target: sound inputs, and how the product meets them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fuzz.trees import Tree, read_tree

Kind = Literal["reader", "file", "artifact", "command"]

#: What is met in place of a sealed artifact that the product says is not there, or none of its own.
NOT_THERE = "not there"


@dataclass(frozen=True)
class Target:
    """One thing that is fuzzed.

    Attributes:
        name: Such as ``reader-bids``.
        kind: Of what.
        build: Writes the sound input into the current folder, the same whenever it is called.
        meet: Lets the product meet an input in a folder; a number tells inputs apart, for what only some undergo.
        sealed: Whether another result than that of the sound input is a failure: each bit has a checksum.
        spare: Files that are not changed.
        confined: Whether a file elsewhere that an input names must not be read; a table may name scans anywhere.
    """

    name: str
    kind: Kind
    build: Callable[[], None]
    meet: Callable[[Path, int], Any]
    sealed: bool = False
    spare: frozenset[str] = frozenset()
    confined: bool = False

    def base(self) -> Tree:
        """The sound input."""
        with tempfile.TemporaryDirectory() as folder, inside(Path(folder)):
            self.build()
            return read_tree(Path(folder))


@contextmanager
def inside(folder: Path):
    """Work in a folder: what is made of relative paths, such as identifiers of DICOM, is the same everywhere."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
