"""What a look at a run found: which part of it, whether it held, and in what way."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.errors import FewlabelError, MemoryLimitError, RunStoppedError, SettingsError
from fewlabel.engine.runtime import Precision

Verdict = Literal["held", "differs", "not checked"]


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
        part: What was looked at, such as ``segmenter: files``.
        verdict: Whether it is what it claims to be; ``not checked`` where that cannot be known here.
        detail: How exactly it agrees, what differs, or why it was not checked.
    """

    part: str
    verdict: Verdict
    detail: str


def held(part: str, detail: str = "") -> Finding:
    """It is what it claims to be."""
    return Finding(part, "held", detail)


def differs(part: str, detail: str) -> Finding:
    """It is something else."""
    return Finding(part, "differs", detail)


def not_checked(part: str, why: str) -> Finding:
    """Nobody can tell here."""
    return Finding(part, "not checked", why)


def refused(part: str, error: FewlabelError) -> Finding:
    """What was to be repeated cannot be: for what an artifact says of itself, or what this version or machine lacks.

    Raises:
        RunStoppedError: If it was the user who stopped it.
    """
    if isinstance(error, RunStoppedError):
        raise error
    faults = "; ".join(str(fault) for fault in error.faults[:2]) or error.message
    if isinstance(error, SettingsError | MemoryLimitError):
        return not_checked(part, f"cannot be repeated by this version or machine: {faults}")
    return differs(part, f"cannot be repeated: {faults}")


@dataclass(frozen=True)
class Agreement:
    """How near numbers came that were made again.

    Attributes:
        largest: Relative difference of those farthest apart; 0 if all are identical.
        where: Which these are.
    """

    largest: float
    where: str

    def finding(self, part: str, what: str, tolerance: float) -> Finding:
        """In words; more than the tolerance apart is something else.

        Args:
            part: Of the finding.
            what: What was made again.
            tolerance: Relative.
        """
        if self.largest == 0:
            return held(part, f"{what}: identical")
        told = f"{what}: {self.where} off by {self.largest:.1g} of its value"
        near = self.largest <= tolerance
        return (
            held(part, f"{told}, within {tolerance:g}") if near else differs(part, f"{told}, more than {tolerance:g}")
        )


def agreement(pairs: Mapping[str, tuple[Any, Any]]) -> Agreement:
    """Hold numbers against numbers; one that is missing on one side only is as far off as can be.

    Args:
        pairs: Name → recorded and repeated number, of any kind, or None or NaN for none.
    """
    apart = {name: _apart(*pair) for name, pair in pairs.items()}
    where = max(apart, key=apart.__getitem__, default="")
    return Agreement(apart.get(where, 0.0), where)


def _apart(recorded: Any, repeated: Any) -> float:
    one, two = (math.nan if value is None else float(value) for value in (recorded, repeated))
    if one == two or (math.isnan(one) and math.isnan(two)):
        return 0.0
    if not (math.isfinite(one) and math.isfinite(two)):
        return math.inf
    return abs(one - two) / max(abs(one), abs(two), 1e-3)


def recorded_precision(artifact: Artifact) -> Precision:
    """What networks were computed in, whatever this machine would choose."""
    return "bf16" if artifact.manifest.precision.startswith("bf16") else "32"


@contextmanager
def threads(count: Any) -> Iterator[None]:
    """Compute with as many threads as an artifact was made with, for sums are rounded by how they are shared out."""
    before = torch.get_num_threads()
    if isinstance(count, int) and count > 0:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
