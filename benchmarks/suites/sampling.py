"""What stratified draws cost against naive ones, and the contrastive part of ARCO's step against the whole.

Prints ``name ratio goal ok|short`` lines and keeps them as a row. Labels are rings of four classes in 20 slices of
128x128, the batch of ``acdc-lite`` with as many unlabelled slices. Three things are timed for each sampling:

* ``sampling``: as a step does it at stride 4: strata, draws of queries and of keys, and their embeddings fetched, those
  of the queries with gradient. This has a goal.
* ``draw``: a draw alone, strata included, on the same map of 32x32 places. A naive one takes a tenth of a millisecond,
  and strata cannot be looked up in a fifth of that; shown in milliseconds.
* ``draw_full``: the same at full resolution (128x128, stride 1, as in the paper).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from common import facts, medians
from fewlabel.engine.runtime import fast_kernels, start
from fewlabel.objectives.stratified_sampling import Sampling, draw_pixels, pixel_strata
from suites.regime_steps import CLASSES, SIDE, build, rings, stepper

STRIDE, DIM, DRAWN = 4, 128, 256
SAMPLINGS: tuple[Sampling, ...] = ("ns", "sg", "sag")
REPEATS = 200
STEPS = 5


def run(results: Path) -> None:
    """Measure everything, print a line per figure, append a row to ``sampling.jsonl``."""
    fast_kernels(start().device.type)
    figures: dict[str, tuple[float, float]] = {}
    seconds = {}
    coarse, full = rings(SIDE // STRIDE), rings(SIDE)
    kinds: dict[str, Callable[[Sampling], object]] = {
        "sampling": _sampler(coarse),
        "draw": lambda sampling: _draw(coarse, sampling),
        "draw_full": lambda sampling: _draw(full, sampling),
    }
    for kind, call in kinds.items():
        calls = {name: lambda name=name, call=call: call(name) for name in SAMPLINGS}  # type: ignore[misc]
        took = medians(calls, REPEATS if kind != "draw_full" else REPEATS // 10, warm_up=5)
        seconds[kind] = took
        if kind == "sampling":
            figures |= {f"{name}_sampling_over_ns": (took[name] / took["ns"], 1.2) for name in ("sg", "sag")}
    share, memory = _contrast_share()
    figures["arco_contrast_share_of_step"] = (share, 0.25)
    print({kind: {k: round(1e3 * v, 3) for k, v in took.items()} for kind, took in seconds.items()}, "ms")
    print(f"banks of arco {memory / 2**20:.1f} MiB, and no more")
    row = {"suite": "sampling", "figures": {}, "seconds": seconds, "bank_bytes": memory, **facts()}
    for figure, (ratio, goal) in figures.items():
        print(f"{figure} {ratio:.3f} {goal} {'ok' if ratio <= goal else 'short'}")
        row["figures"][figure] = {"ratio": round(ratio, 4), "goal": goal, "sense": "at most", "met": ratio <= goal}
    results.mkdir(parents=True, exist_ok=True)
    with (results / "sampling.jsonl").open("a") as stream:
        stream.write(json.dumps(row) + "\n")


def _draw(labels: Tensor, sampling: Sampling, draws: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    strata = pixel_strata(labels, CLASSES, None if sampling == "ns" else 4)
    return [*draw_pixels(strata, DRAWN, sampling, generator, draws).flatten(1)]


def _sampler(labels: Tensor) -> Callable[[Sampling], None]:
    student = torch.randn(labels.numel(), DIM, requires_grad=True)
    teacher = torch.randn(labels.numel(), DIM)

    def sample(sampling: Sampling) -> None:
        first, second = _draw(labels, sampling, draws=2)
        queries, keys = student.index_select(0, first), teacher.index_select(0, second)
        rows = functional.normalize(queries, dim=1) * functional.normalize(keys, dim=1)
        torch.autograd.grad(rows.sum(), student)

    return sample


def _contrast_share() -> tuple[float, int]:
    """The contrast's part (draws, banks, loss, its way back to the map) of a step of stage 2, and bytes of banks."""
    regime = build("arco", diagnose_every=0)
    step = stepper(regime, at=90)
    caught: list[tuple[object, ...]] = []
    contrast = regime.embedding.contrast  # type: ignore[union-attr]
    inner = contrast.loss

    def alone() -> None:
        student, *rest = caught[-1]
        output = student.output.detach().requires_grad_()  # type: ignore[attr-defined]
        loss, _ = inner(replace(student, output=output), *rest)  # type: ignore[type-var]
        torch.autograd.grad(loss, output)
        contrast.push()

    contrast.loss = lambda *given: caught.append(given) or inner(*given)
    seconds = medians({"step": step, "contrast": alone}, STEPS, warm_up=1)
    return seconds["contrast"] / seconds["step"], regime.bank_bytes  # type: ignore[return-value]
