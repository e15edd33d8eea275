"""What each pre-training method costs on the recipe acdc-lite: time of a step over SimCLR's, and memory.

All methods take turns, one step each in a round, and a step's time is divided by SimCLR's of the same round: a machine
that drifts touches both alike. A method that trains in stages is timed in the middle of each; its cost is their mean,
weighted by their steps. Shares of batch assembly with augmentation (the loader's) and of bookkeeping (``after_step``)
are of the same steps. What a method does to images inside its loss, such as cutting tiles, counts as the method's.

Writes ``results/method-costs.json``, and the figures that ``fewlabel methods`` shows into the package.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

import fewlabel
from common import PeakMemory, compact, facts, write
from fewlabel.core.plugin_discovery import plugin_names
from fewlabel.engine.runtime import fast_kernels, start
from fewlabel.engine.step import apply_gradients, total_norm
from fewlabel.methods.base import PretrainMethod
from fewlabel.pipelines.methods_and_regimes import COSTS
from fewlabel.pipelines.stage_table import stage_settings
from fewlabel.stages.pretrain import PretrainingTrainer

SUITE = "method-costs"
RECIPE = "acdc-lite"
REFERENCE = "simclr"
#: Timed steps of each method, and those before them.
STEPS, WARM_UP = 24, 4
#: No method should spend more of its step on either.
SHARE_GOAL = 0.10
PACKAGED = Path(fewlabel.__file__).parent / "methods" / COSTS


@dataclass
class Stage:
    """One stage of one method, stepped on demand.

    Attributes:
        training: The run it belongs to.
        steps: The steps of the schedule that it covers.
        total: Seconds of each timed step.
        data: Seconds of it spent on the batch.
        after: Seconds of it spent in ``after_step``.
        peak_bytes: Most bytes in live tensors made during a step.
    """

    training: PretrainingTrainer
    steps: range
    total: list[float] = field(default_factory=list)
    data: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    peak_bytes: int = 0

    def __post_init__(self) -> None:
        self._schedule = middle(self.steps)

    def __call__(self) -> None:
        """One optimisation step as the loop does it, timed."""
        training = self.training
        step = next(self._schedule)
        loader, spent = training.loader, []

        def batch(*words: Any, **settings: Any) -> Any:
            began = clock()
            made = type(loader).batch(loader, *words, **settings)
            spent.append(clock() - began)
            return made

        loader.batch = batch  # type: ignore[method-assign]
        began = clock()
        result = training.step(step)
        apply_gradients(training.parameters, result.gradients, total_norm(result.gradients), None)
        training.optimiser.step()
        training.optimiser.zero_grad(set_to_none=True)
        stepped = clock()
        training.model.after_step(step, training.settings.steps)
        ended = clock()
        del loader.batch
        self.total.append(ended - began)
        self.data.append(sum(spent))
        self.after.append(ended - stepped)

    def warm_up(self, count: int) -> None:
        """Steps that are not counted, the last of them for the peak of memory."""
        for _ in range(count - 1):
            self()
        with PeakMemory() as memory:
            self()
        self.peak_bytes = memory.peak
        self.total, self.data, self.after = [], [], []


def run(
    data: Path, work: Path, results: Path, chosen: list[str], rounds: int = STEPS, package: Path | None = None
) -> None:
    """Measure, print a line per method, write the results.

    Args:
        data: Folder of ACDC scans.
        work: Where prepared data are kept.
        results: Folder of ``method-costs.json``.
        chosen: Methods to measure; all if empty. The package's figures are written for all only.
        rounds: Timed steps of each stage of each method.
        package: File of the figures that ``fewlabel methods`` shows; None leaves them as they are.
    """
    prepared = fewlabel.prepare(recipe=RECIPE, data=data, out=work / "prepared")
    fast_kernels(start().device.type)
    names = list(dict.fromkeys([REFERENCE, *(chosen or plugin_names("fewlabel.methods"))]))
    stages = {name: stages_of(begin(prepared, work, name)) for name in names}
    for stage in every(stages):
        stage.warm_up(WARM_UP)
    for _ in range(rounds):
        for stage in every(stages):
            stage()
    reference = stages[REFERENCE][0].total
    methods = {name: figures(parts, reference) for name, parts in stages.items()}
    for name, row in methods.items():
        print(line(name, row))
    known = facts()
    content = {"suite": SUITE, "recipe": RECIPE, "reference": REFERENCE, "steps": rounds, "methods": methods, **known}
    write(results / f"{SUITE}.json", content)
    if package is not None and not chosen:
        write(package, compact(methods, RECIPE, REFERENCE, known))


def begin(prepared: Path, work: Path, name: str) -> PretrainingTrainer:
    """A run of the recipe with this method, with its own defaults, about to start."""
    values = {"data": prepared, "out": work / "costs" / name, "method": {"name": name}, "labelled": 1, "draw": 0}
    settings: Any = stage_settings("pretrain", values, RECIPE)
    training = PretrainingTrainer.begin(settings)
    training.model.train()
    return training


def stages_of(training: PretrainingTrainer) -> list[Stage]:
    """The stages of a method: runs of steps with the same plan."""
    total = training.settings.steps
    starts: list[int] = []
    before: Any = None
    for step in range(total):
        plan = training.model.plan(step, total)
        if not starts or plan != before:
            starts.append(step)
        before = plan
    return [Stage(training, range(a, b)) for a, b in zip(starts, [*starts[1:], total], strict=True)]


def middle(steps: range) -> Iterator[int]:
    """Steps from the middle of a stage on, and over again within its second half."""
    half = list(steps)[len(steps) // 2 :]
    while True:
        yield from half


def every(stages: dict[str, list[Stage]]) -> list[Stage]:
    """The stages of all methods in turn."""
    return [stage for parts in stages.values() for stage in parts]


def figures(parts: list[Stage], reference: list[float]) -> dict[str, Any]:
    """What one method costs: per stage, and as means weighted by the stages' steps."""
    rows = [stage_figures(stage, reference) for stage in parts]
    weights = [len(stage.steps) for stage in parts]

    def mean(key: str) -> float:
        return sum(weight * row[key] for weight, row in zip(weights, rows, strict=True)) / sum(weights)

    return {
        **{key: round(mean(key), 4) for key in ("step", "step_seconds", "data_share", "after_share")},
        "extra_bytes": extra_bytes(parts[0].training.model),
        "peak_bytes": max(stage.peak_bytes for stage in parts),
        "stages": rows if len(rows) > 1 else [],
    }


def stage_figures(stage: Stage, reference: list[float]) -> dict[str, Any]:
    """Medians over the timed steps of a stage; ``step`` is over the reference's of the same round."""
    ratios = [ours / theirs for ours, theirs in zip(stage.total, reference, strict=True)]
    return {
        "steps": [stage.steps.start, stage.steps.stop],
        "step": round(statistics.median(ratios), 4),
        "step_seconds": round(statistics.median(stage.total), 5),
        "data_share": round(median_share(stage.data, stage.total), 4),
        "after_share": round(median_share(stage.after, stage.total), 4),
    }


def median_share(part: list[float], whole: list[float]) -> float:
    """Median over steps of what a part takes of the whole."""
    return statistics.median(one / all_of_it for one, all_of_it in zip(part, whole, strict=True))


def extra_bytes(method: PretrainMethod) -> int:
    """Bytes of the parameters and buffers that a method has beside the encoder."""
    own = _tensors(method.encoder)
    return sum(size for place, size in _tensors(method).items() if place not in own)


def _tensors(module: nn.Module) -> dict[int, int]:
    found = [*module.parameters(), *module.buffers()]
    return {id(tensor): tensor.numel() * tensor.element_size() for tensor in found}


def line(name: str, row: dict[str, Any]) -> str:
    """A line of the printed table; shares above the goal are marked."""
    shares = {"data": row["data_share"], "after_step": row["after_share"]}
    above = "".join(f"  {what} above {SHARE_GOAL:.0%}" for what, share in shares.items() if share > SHARE_GOAL)
    told = " ".join(f"{what} {share:.1%}" for what, share in shares.items())
    memory = f"beside the encoder {row['extra_bytes'] / 1e6:.2f} MB, peak {row['peak_bytes'] / 1e6:.0f} MB"
    return f"{name} {row['step']:.2f} x ({row['step_seconds']:.3f} s) {told} {memory}{above}"


def clock() -> float:
    """Seconds, once the device has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
