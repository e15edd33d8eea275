"""Checkpoints: one safetensors file with weights, optimiser and extra state; atomic, with a checksum, never pickled."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fewlabel.core.collective import any_rank, barrier, rank
from fewlabel.core.errors import ArtifactError, Fault, SettingsError, reason
from fewlabel.core.unfinished_files import sweep_partials
from fewlabel.engine.tensor_file import read_tensors_of_run, write_tensors

CHECKPOINT = "checkpoint.safetensors"
_REPEAT = "Repeat the old setting, or give another --out"
#: Of a setting that the version which began the run did not have, no value is the old one.
_AS_BEGUN = "Give another --out, or go on with the version that began it"
#: Settings that came later → what a run does that is older than they are.
_BEFORE_THE_SETTING = {"class_prior": False, "shuffled_metadata": False}


def as_begun(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """What a run began with, and for settings that came later what it does without them.

    Args:
        before: Settings as the run recorded them.
        now: Settings there are now, which say what a run of this kind has.

    Example:
        >>> as_begun({"steps": 5}, {"steps": 5, "class_prior": True})
        {'class_prior': False, 'steps': 5}
    """
    return {**{key: value for key, value in _BEFORE_THE_SETTING.items() if key in now}, **before}


def identity_faults(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Fault]:
    """A fault per fact in which a run and its resumption differ."""
    before = as_begun(before, now)
    return [
        Fault(f"was {before[key]!r} when the run began and is {now.get(key)!r} now", key, _REPEAT)
        if key in before
        else Fault(f"was not there when the run began and is {now[key]!r} now", key, _AS_BEGUN)
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]


class Stateful(Protocol):
    """Anything with tensors to keep, such as a gradient combiner."""

    def state(self) -> dict[str, Tensor]:
        """Tensors to keep."""

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore them."""


class Checkpointer:
    """Saves and restores the whole state of a run.

    All randomness is a function of (seed, purpose, step), so the step number stands for sampler, augmentation and
    generator state; what is kept as tensors is weights, buffers, optimiser moments and the combiner's targets.

    Args:
        folder: The run's folder.
        identity: Settings that must be equal for a checkpoint to be resumed.
        module: The module that holds every trained tensor and buffer.
        optimiser: Its optimiser.
        extra: Further state, e.g. GradMitigator's targets.
        seconds: Time between two checkpoints; 0 saves after every step.
    """

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        module: nn.Module,
        optimiser: Optimizer,
        extra: Stateful | None = None,
        seconds: float = 300.0,
    ) -> None:
        self.path = folder / CHECKPOINT
        self._identity = json.loads(json.dumps(identity))
        self._module = module
        self._optimiser = optimiser
        self._extra = extra
        self._seconds = seconds
        self._last = time.monotonic()
        self._saved: int | None = None
        named = {parameter: name for name, parameter in module.named_parameters()}
        self._names = {parameter: named[parameter] for group in optimiser.param_groups for parameter in group["params"]}

    @property
    def saved(self) -> tuple[int, Path] | None:
        """The step that the last checkpoint stands before, and its file; None before the first."""
        return None if self._saved is None else (self._saved, self.path)

    def due(self) -> bool:
        """Whether it is time to save; the same answer on all ranks."""
        return any_rank(rank() == 0 and time.monotonic() - self._last >= self._seconds)

    def save(self, step: int, facts: Mapping[str, Any] | None = None) -> None:
        """Save the state before ``step``; ``facts`` are JSON values to get back on resume."""
        if rank() == 0:
            header = {"step": step, "identity": self._identity, "facts": dict(facts or {})}
            sweep_partials(self.path.parent, self.path.name)
            write_tensors(self.path, self._tensors(), header)
        barrier()
        self._saved = step
        self._last = time.monotonic()

    def load(self) -> tuple[int, dict[str, Any]]:
        """Restore the last checkpoint: its step and facts; (0, {}) if there is none.

        Raises:
            ArtifactError: If a bit of the file is another, or its tensors do not fit.
            SettingsError: If it belongs to a run with other settings; each difference is named.
        """
        if not self.path.is_file():
            return 0, {}
        tensors, header = read_tensors_of_run(self.path, "Delete it to start over")
        self._compare(header["identity"])
        try:
            self._restore(tensors)
        except (RuntimeError, ValueError, KeyError) as error:
            problem = f"{self.path} does not fit the network as this version builds it: {reason(error)}"
            fault = Fault(problem, remedy="Resume it with the version that began it, or delete it to start over")
            raise ArtifactError("The run cannot be resumed:", [fault]) from error
        self._saved = int(header["step"])
        return int(header["step"]), dict(header["facts"])

    def remove(self) -> None:
        """Delete the checkpoint of a finished run, and what kills left half written in its folder."""
        barrier()
        if rank() == 0:
            self.path.unlink(missing_ok=True)
            sweep_partials(self.path.parent)

    def _compare(self, identity: Mapping[str, Any]) -> None:
        faults = identity_faults(identity, self._identity)
        if faults:
            raise SettingsError("The run cannot be resumed:", faults)

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"module/{key}": value for key, value in self._module.state_dict().items()}
        for parameter, name in self._names.items():
            for key, value in self._optimiser.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    tensors[f"optimiser/{name}/{key}"] = value
        for key, value in (self._extra.state() if self._extra else {}).items():
            tensors[f"extra/{key}"] = value
        return tensors

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        def part(prefix: str) -> dict[str, Tensor]:
            return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}

        self._module.load_state_dict(part("module/"), strict=True)
        for parameter, name in self._names.items():
            state = part(f"optimiser/{name}/")
            if state:
                self._optimiser.state[parameter] = {
                    # Step counters stay on the CPU, moments take the parameter's device and memory layout.
                    key: value if value.dim() == 0 else torch.empty_like(parameter, dtype=value.dtype).copy_(value)
                    for key, value in state.items()
                }
        if self._extra:
            self._extra.load_state(part("extra/"))
