"""One input from its mutation to its outcome, in this process."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewlabel.cli.failures import _closed_path
from fewlabel.core.artifact.sealed import SEAL
from fewlabel.core.errors import FewlabelError
from fuzz.declared import declared_mib
from fuzz.laid import LaidTree
from fuzz.mutations import mutated
from fuzz.outcomes import ERROR, FOREIGN, MEMORY, OUTSIDE, SILENT, SOUND, Outcome, where_from
from fuzz.targets.base import NOT_THERE, Target
from fuzz.trees import Entry, Tree, remove_tree
from fuzz.watching import FREE_MIB, Bait, Memory, Writes

#: Memory that reading may take over what an input declares.
TIMES = 4
_PLACE = "/dev/shm" if Path("/dev/shm").is_dir() else None


def of_before_seals(tree: Mapping[str, Entry]) -> bool:
    """Whether a manifest or a record of a run has no seal, as those of versions that had none: these are taken."""
    for name, entry in tree.items():
        if name.endswith(("manifest.json", "run.json")) and isinstance(entry, bytes):
            try:
                values = json.loads(entry)
            except (ValueError, RecursionError):
                continue
            if isinstance(values, dict) and SEAL not in values:
                return True
    return False


class Bench:
    """Lets the product meet inputs of one target, one after the other in one folder.

    Args:
        target: The target.
        writes: Notes what is written outside.
        place: Where the folder is made; None for memory, where the system has such a place.
    """

    def __init__(self, target: Target, writes: Writes, place: Path | None = None) -> None:
        self.target = target
        self._writes, self._memory = writes, Memory()
        self._home = Path(tempfile.mkdtemp(prefix="fewlabel-fuzz-", dir=place or _PLACE))
        self.base: Tree = target.base()
        self._laid = LaidTree(self._home / "x" / "case", self.base)
        self._bait = Bait(self._home / "x") if target.confined else None
        self._sound_result: Any = None
        # What is loaded once, and takes memory once, is loaded by the first two.
        for index in (0, 1, 0):
            sound, self._sound_result = self._met(self.base, index)
        if sound.verdict != SOUND:
            raise RuntimeError(f"{target.name}: the sound input does not hold: {sound}")

    def try_one(self, seed: int, index: int) -> Outcome:
        """What becomes of the input with this seed and number."""
        tree, done = mutated(self.base, self.target.name, seed, index, self.target.spare)
        outcome, result = self._met(tree, index)
        if outcome.verdict == SOUND and self.target.sealed and result not in (NOT_THERE, self._sound_result):
            outcome = Outcome(SOUND if of_before_seals(tree) else SILENT, "taken although it is another")
        return Outcome(outcome.verdict, outcome.why, done) if outcome.failed else Outcome(outcome.verdict)

    def close(self) -> None:
        """Take the folder away."""
        remove_tree(self._home)

    def _met(self, tree: Mapping[str, Entry], index: int) -> tuple[Outcome, Any]:
        folder = self._laid.folder
        result, verdict, why = None, SOUND, ""
        try:
            self._laid.become(tree)
            _forget()
            self._memory.begin()
            self._writes.watch(folder)
            result = self.target.meet(folder, index)
        except FewlabelError as error:
            verdict = ERROR
            if not str(error).strip():
                verdict, why = FOREIGN, f"an empty message of {type(error).__name__}"
        except Exception as error:  # noqa: BLE001  # that is what is looked for
            verdict, why = FOREIGN, where_from(error)
            if isinstance(error, OSError) and _closed_path(error) is not None:
                # The command line has words for it.
                verdict, why = ERROR, ""
        grown = self._memory.grown_mib()
        outside = self._writes.rest()
        # What libraries read and write by themselves raises no event, but leaves its mark beside the folder.
        outside += [] if self._bait is None else self._bait.taken()
        outside += self._left_beside()
        self._laid.put_back()
        if outside:
            verdict, why = OUTSIDE, "; ".join(outside[:3])
        if grown > FREE_MIB and grown > TIMES * declared_mib(dict(tree)):
            verdict, why = MEMORY, f"{grown:.0f} MiB for {declared_mib(dict(tree)):.2f} MiB declared"
        return Outcome(verdict, why), result

    def _left_beside(self) -> list[str]:
        """What lies beside the folder and is not ours; it is taken away."""
        ours = {self._laid.folder.name, *(() if self._bait is None else Bait.NAMES)}
        left = [path for path in self._laid.folder.parent.iterdir() if path.name not in ours]
        for path in left:
            remove_tree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        return [f"left {path.name}" for path in left]


def _forget() -> None:
    """Headers of DICOM are read once in the life of a process, but every input is to be read."""
    index = sys.modules.get("fewlabel.data.io.dicom.data_set_index")
    if index is not None:
        index._OPEN.clear()
