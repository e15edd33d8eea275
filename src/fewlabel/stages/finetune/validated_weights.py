"""Weights of the validations of one fit, kept while nobody knows yet which length will be chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from fewlabel.engine.tensor_file import read_tensors_of_run, write_tensors
from fewlabel.nets.unet import UNet

#: Folder of the weights, in that of a fit.
WEIGHTS = "validated"
#: Bytes that all fits of a run may have there, and how many validations of each are kept even so.
ROOM, FEWEST = 2**31, 4


@dataclass(frozen=True)
class ValidatedWeights:
    """The weights behind validations of one fit, as ``validated/STEPS.safetensors``.

    Where there is no room for all, those of the lengths stay that are likeliest to be chosen: by the curve of the fit
    so far, and by those of the fits before it.

    Attributes:
        folder: Of the fit.
        most: Validations whose weights are kept.
        before: Of each earlier fit, step → validation Dice.
    """

    folder: Path
    most: int
    before: Sequence[Mapping[int, float]] = ()

    @classmethod
    def with_room(
        cls, folder: Path, network: UNet, fits: int, before: Sequence[Mapping[int, float]]
    ) -> ValidatedWeights:
        """As many as one of ``fits`` fits of such a network may keep, in :data:`ROOM` bytes for all."""
        size = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
        return cls(folder, max(ROOM // (fits * size), FEWEST), tuple(before))

    def keep(self, step: int, network: UNet, curve: Mapping[int, float]) -> None:
        """Keep the weights of a validation, where there are many in place of an unlikelier one's; rank 0 only.

        Args:
            step: Steps so far.
            network: What was validated.
            curve: Step → validation Dice, this one among them.
        """
        total = {at: dice + sum(other[at] for other in self.before) for at, dice in curve.items()}
        # Of equal ones the shortest is chosen.
        likeliest = sorted(total, key=lambda at: (-total[at], at))[: self.most]
        for at in total.keys() - set(likeliest):
            _file(self.folder, at).unlink(missing_ok=True)
        if step in likeliest:
            (self.folder / WEIGHTS).mkdir(exist_ok=True)
            write_tensors(_file(self.folder, step), network.state_dict(), {"step": step})


def validated_weights(folder: Path, step: int) -> dict[str, Tensor] | None:
    """The weights of a fit after so many steps, on the CPU; None where they were not kept.

    Raises:
        ArtifactError: If their file is damaged.
    """
    path = _file(folder, step)
    if not path.is_file():
        return None
    return read_tensors_of_run(path, f"Delete {folder}, and that patient is left out again")[0]


def _file(folder: Path, step: int) -> Path:
    return folder / WEIGHTS / f"{step}.safetensors"
