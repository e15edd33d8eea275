"""Weights that travel: what of a set of tensors fits a network, and loading that accepts a whole fit only."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from fewlabel.core.errors import ArtifactError, Fault

#: Where training codes keep the weights in a checkpoint; the first that is there counts.
CHECKPOINT_KEYS = ("network_weights", "state_dict", "model_state_dict", "model")
#: Rows of the table that an error shows.
SHOWN = 12

Shape = tuple[int, ...]


@dataclass(frozen=True)
class WeightMatch:
    """Which tensors of a file fit a network: name and shape must agree.

    Attributes:
        matched: Name → shape.
        missing: Name → shape that the network needs and the file lacks.
        reshaped: Name → (shape that the network needs, shape in the file).
        unexpected: Name → shape in the file of what the network does not have.
    """

    matched: Mapping[str, Shape]
    missing: Mapping[str, Shape]
    reshaped: Mapping[str, tuple[Shape, Shape]]
    unexpected: Mapping[str, Shape]

    @property
    def complete(self) -> bool:
        """Whether every tensor of the network is in the file, and nothing else."""
        return not (self.missing or self.reshaped or self.unexpected)

    @property
    def summary(self) -> str:
        """Counts: how many of the network's tensors match, and what is wrong with the others."""
        wanted = len(self.matched) + len(self.missing) + len(self.reshaped)
        return (
            f"{len(self.matched)} of {wanted} tensors match, {len(self.missing)} missing, "
            f"{len(self.reshaped)} reshaped, {len(self.unexpected)} left over"
        )

    def faults(self) -> list[Fault]:
        """A fault per tensor that does not match: missing ones first, then reshaped, then left over."""
        return [
            *(Fault(f"is missing, and must have shape {shape}", name) for name, shape in self.missing.items()),
            *(Fault(f"must have shape {wanted}, not {given}", name) for name, (wanted, given) in self.reshaped.items()),
            *(Fault(f"of shape {shape} is not in the network", name) for name, shape in self.unexpected.items()),
        ]

    def table(self, *, matched: bool = False) -> list[str]:
        """Lines of a table: what each tensor is, its name, its shape in the network and in the file.

        Args:
            matched: Whether tensors that match get a row too.
        """
        rows = [("", "tensor", "network", "file")]
        rows += [("matched", name, _sides(s), _sides(s)) for name, s in self.matched.items() if matched]
        rows += [("missing", name, _sides(shape), "-") for name, shape in self.missing.items()]
        rows += [("reshaped", name, _sides(wanted), _sides(given)) for name, (wanted, given) in self.reshaped.items()]
        rows += [("left over", name, "-", _sides(shape)) for name, shape in self.unexpected.items()]
        if len(rows) == 1:
            return []
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]

    def __str__(self) -> str:
        return "\n".join([self.summary, *self.table()])


def match_weights(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> WeightMatch:
    """Compare the tensors of a file with those a network needs.

    Args:
        wanted: State of the network.
        given: Tensors of the file, under the network's names.
    """
    ours = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    theirs = {name: tuple(tensor.shape) for name, tensor in given.items()}
    return WeightMatch(
        matched={name: shape for name, shape in ours.items() if theirs.get(name) == shape},
        missing={name: shape for name, shape in ours.items() if name not in theirs},
        reshaped={name: (shape, theirs[name]) for name, shape in ours.items() if theirs.get(name, shape) != shape},
        unexpected={name: shape for name, shape in theirs.items() if name not in ours},
    )


def load_strictly(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    where: str,
    rename: Callable[[str], str | None] | None = None,
) -> WeightMatch:
    """Load a state that must fit in full.

    Args:
        module: Receives the state; untouched if it does not fit.
        tensors: Name to tensor.
        where: File, for the message.
        rename: Gives the module's name for a tensor of the file, or None for one that is to be left out on purpose
            (such as a foreign decoder); by default names are the module's.

    Returns:
        What matched; never with anything missing, reshaped or left over.

    Raises:
        ArtifactError: With a line per tensor that is missing, reshaped or left over, and how many match; also if two
            tensors of the file get the same name.
    """
    named = dict(tensors) if rename is None else _renamed(tensors, rename, where)
    match = match_weights(module.state_dict(), named)
    if match.complete:
        module.load_state_dict(named)
        return match
    faults = match.faults()
    shown = "" if len(faults) <= SHOWN else f" The first {SHOWN}:"
    raise ArtifactError(
        f"The weights of {where} do not fit the network: {match.summary}; "
        f"use the architecture they were made with.{shown}",
        faults[:SHOWN],
    )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The weights in a file, on the CPU: safetensors, or a checkpoint of ``torch.save`` that holds tensors only.

    In a checkpoint they may lie under one of ``CHECKPOINT_KEYS``. No code of the file is run.

    Raises:
        ArtifactError: If the file cannot be read, holds objects other than tensors and plain values, or no tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(safetensors.torch.load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        pickled = isinstance(error, pickle.UnpicklingError)
        remedy = "Save its weights alone, as safetensors" if pickled else "Make the file again"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        fault = Fault(f"{path} cannot be read: {reason}", remedy=remedy)
        raise ArtifactError("Weights cannot be loaded:", [fault]) from error
    tensors = _tensors_in(content)
    if not tensors:
        content_kind = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
        remedy = f"Save the tensors by name, at the top or under {', '.join(CHECKPOINT_KEYS)}"
        fault = Fault(f"{path} holds no tensors, but {content_kind or 'nothing'}", remedy=remedy)
        raise ArtifactError("Weights cannot be loaded:", [fault])
    return tensors


def _tensors_in(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    inner = next((content[key] for key in CHECKPOINT_KEYS if isinstance(content.get(key), Mapping)), content)
    return {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}


def _renamed(tensors: Mapping[str, Tensor], rename: Callable[[str], str | None], where: str) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    faults = []
    for name, tensor in tensors.items():
        own = rename(name)
        if own is None:
            continue
        if own in named:
            faults.append(Fault(f"comes from two tensors, {origin[own]} and {name}", own))
        named[own], origin[own] = tensor, name
    if faults:
        raise ArtifactError(f"The weights of {where} do not fit the network:", faults)
    return named


def _sides(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"
