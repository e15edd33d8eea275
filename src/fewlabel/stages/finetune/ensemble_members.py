"""The members of an ensemble while it is trained: their seeds, their folders, and which of them are finished.

They are trained one after the other, and each has a folder with a checkpoint and a record of its own: the first the
run's own, as a network alone has, the others ``member-1`` and so on inside of it. A finished member says so in
``member.json``, which an unfinished run goes by when it is continued; the finished run does without.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.files import file_hash
from fewlabel.core.artifact.sealed import read_sealed, write_sealed
from fewlabel.core.errors import ArtifactError, Fault
from fewlabel.core.rng import stream_seed
from fewlabel.engine.weight_files import member_file, save_member
from fewlabel.nets.unet import UNet
from fewlabel.stages.finetune.trainer import clear

_MARK = "member.json"
_REMEDY = "Delete it, and that network is trained again"


def member_seed(seed: int, member: int) -> int:
    """The seed of a member's weights, batches and augmentation; the first has that of the run.

    The others' are no small numbers, so that ensembles of neighbouring seeds share no member.
    """
    return seed if member == 0 else stream_seed(seed, "member", member)


@dataclass(frozen=True)
class Members:
    """The members of one run.

    Attributes:
        out: Folder of the run.
        count: How many there are.
        same: Identity of the run: what another one has left is not taken for its own.
    """

    out: Path
    count: int
    same: Mapping[str, Any]

    def folder(self, member: int) -> Path:
        """Where a member's checkpoint, record and weights lie."""
        return (self.out / member_file(member)).parent

    def title(self, title: str, member: int) -> str:
        """What is shown beside the progress bar of a member."""
        return title if self.count == 1 else f"{title}, network {member + 1} of {self.count}"

    def finished(self, member: int) -> bool:
        """Whether this very run has finished a member before.

        Raises:
            ArtifactError: If what it left is damaged.
        """
        if not (self.folder(member) / _MARK).is_file():
            return False
        mark, weights = self._mark(member), self.out / member_file(member)
        if mark.get("identity") != json.loads(json.dumps(dict(self.same))) or not weights.is_file():
            return False
        if mark["weights"] != file_hash(weights):
            fault = Fault(f"{weights} is damaged: it is not as it was written", remedy=_REMEDY)
            raise ArtifactError("The run cannot be resumed:", [fault])
        return True

    def finish(
        self,
        member: int,
        network: UNet,
        best_step: int | None,
        dice: float | None = None,
        outcome: Mapping[str, Any] | None = None,
        *,
        before: float | None = None,
    ) -> None:
        """Keep a trained member; rank 0 only.

        Args:
            member: Which one.
            network: It.
            best_step: Number of steps that its weights have seen, where a selection chose them.
            dice: Mean validation Dice of these weights, where it is known.
            outcome: What its regime says of the run.
            before: Mean validation Dice of the weights that it went on from.
        """
        save_member(self.out, member, network)
        mark = {"identity": self.same, "best_step": best_step, "dice": dice, "outcome": dict(outcome or {})}
        mark["before"] = before
        weights = file_hash(self.out / member_file(member))
        write_sealed(self.folder(member) / _MARK, {**mark, "weights": weights})

    def best_steps(self) -> list[int | None]:
        """What :meth:`finish` was told of each member."""
        return [self._mark(member)["best_step"] for member in range(self.count)]

    def outcomes(self) -> list[dict[str, Any]]:
        """What the regime said of the run of each member."""
        return [self._mark(member)["outcome"] for member in range(self.count)]

    def mean_dice(self) -> float | None:
        """Mean validation Dice of the members; None where it is not known of each."""
        return self._mean("dice")

    def mean_before(self) -> float | None:
        """As :meth:`mean_dice`, of the weights that they went on from."""
        return self._mean("before")

    def _mean(self, key: str) -> float | None:
        scores = [self._mark(member)[key] for member in range(self.count)]
        return None if None in scores else sum(scores) / len(scores)

    def _mark(self, member: int) -> dict[str, Any]:
        return read_sealed(self.folder(member) / _MARK, _REMEDY)

    def files(self) -> list[str]:
        """Weights and records of all members, relative to the run's folder."""
        weights = [Path(member_file(member)) for member in range(self.count)]
        return [name.as_posix() for file in weights for name in (file, file.with_name("metrics.jsonl"))]

    def clean(self) -> None:
        """Take away what a finished run does without; rank 0 only."""
        for member in range(self.count):
            clear(self.folder(member))
            (self.folder(member) / _MARK).unlink(missing_ok=True)
