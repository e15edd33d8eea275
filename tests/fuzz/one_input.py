"""One input from its mutation to its outcome, in this process."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from fewlabel.cli.failures import _closed_path
from fewlabel.core.artifact.sealed import SEAL
from fewlabel.core.errors import FewlabelError
from fuzz.declared import declared_mib
from fuzz.mutations import mutated
from fuzz.outcomes import ERROR, FOREIGN, MEMORY, OUTSIDE, SILENT, SOUND, Outcome, where_from
from fuzz.targets.base import NOT_THERE, Target
from fuzz.trees import Entry, Tree, remove_tree, write_tree
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
    """Lets the product meet inputs of one target, each in a folder of its own.

    Args:
        target: The target.
        writes: Notes what is written outside.
        place: Where folders are made; None for memory, where the system has such a place.
    """

    def __init__(self, target: Target, writes: Writes, place: Path | None = None) -> None:
        self.target = target
        self._writes, self._memory = writes, Memory()
        self._home = Path(tempfile.mkdtemp(prefix="fewlabel-fuzz-", dir=place or _PLACE))
        self.base: Tree = target.base()
        # What is loaded once, and takes memory once, is loaded by the first two.
        _, _, sound = (self._met(self.base, index) for index in (0, 1, 0))
        if sound.failed or (target.sealed and sound.verdict != SOUND):
            raise RuntimeError(f"{target.name}: the sound input does not hold: {sound}")

    @cached_property
    def _sound_result(self) -> Any:
        return self._meet(self.base, 0)

    def try_one(self, seed: int, index: int) -> Outcome:
        """What becomes of the input with this seed and number."""
        tree, done = mutated(self.base, self.target.name, seed, index, self.target.spare)
        outcome = self._met(tree, index)
        return Outcome(outcome.verdict, outcome.why, done) if outcome.failed else outcome

    def close(self) -> None:
        """Take all folders away."""
        remove_tree(self._home)

    def _met(self, tree: Mapping[str, Entry], index: int) -> Outcome:
        self._memory.begin()
        folder = self._home / f"x{index}" / "case"
        result, verdict, why, bait = None, SOUND, "", None
        try:
            folder.parent.mkdir()
            bait = Bait(folder.parent) if self.target.confined else None
            write_tree(folder, tree)
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
        outside = self._writes.rest()
        # What libraries read and write by themselves raises no event, but leaves its mark beside the folder.
        outside += [] if bait is None else bait.taken()
        outside += [f"left {path.name}" for path in folder.parent.iterdir() if path != folder]
        grown = self._memory.grown_mib()
        remove_tree(folder.parent)
        if verdict == SOUND and self.target.sealed and result not in (NOT_THERE, self._sound_result):
            verdict, why = (SOUND, "") if of_before_seals(tree) else (SILENT, "taken although it is another")
        if outside:
            verdict, why = OUTSIDE, "; ".join(outside[:3])
        if grown > FREE_MIB and grown > TIMES * declared_mib(dict(tree)):
            verdict, why = MEMORY, f"{grown:.0f} MiB for {declared_mib(dict(tree)):.2f} MiB declared"
        return Outcome(verdict, why)

    def _meet(self, tree: Mapping[str, Entry], index: int) -> Any:
        folder = self._home / "sound" / "case"
        write_tree(folder, tree)
        try:
            return self.target.meet(folder, index)
        finally:
            remove_tree(folder.parent)
