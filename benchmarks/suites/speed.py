"""Speed and memory as ratios within one run; prints ``name ratio goal ok|short`` lines and keeps them as a row.

All on synthetic slices of 128x128: 64 views, a network of width 16, the precision that ``auto`` chooses here.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

import fewlabel
from common import PeakMemory, facts, medians
from fewlabel.core.settings.value_syntax import nest
from fewlabel.data.batch_loading import PretrainLoader
from fewlabel.data.phantom.scans import write_phantom
from fewlabel.data.store import PreparedStore
from fewlabel.engine.inference import folded, predict_volume
from fewlabel.engine.runtime import fast_kernels, start
from fewlabel.engine.step import apply_gradients, total_norm
from fewlabel.methods.gcl.pixel_loss import anchor_losses, top_pool
from fewlabel.nets.unet import UNet, UNetConfig
from fewlabel.stages import finetune, pretrain

REPEATS = 9
WIDTH = 16


def run(results: Path) -> None:
    """Measure everything, print a line per figure, append a row to ``speed.jsonl``."""
    fast_kernels(start().device.type)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw = write_phantom(folder / "scans", patients=16, labelled=4, test=4)
        prepared = fewlabel.prepare(
            data=raw / "scans.csv", out=folder / "prepared", size=[128, 128], spacing=[1.0, 1.0]
        )
        figures = {**_pretraining(prepared, folder), **_finetuning(prepared, folder)}
    figures["pixel_memory_growth"] = (_memory_growth(), 1.1, "at most")
    figures["predict_seconds"] = (_prediction(), 0.5, "at most")
    row = {"suite": "speed", "figures": {}, **facts()}
    for figure, (ratio, goal, sense) in figures.items():
        met = ratio <= goal if sense == "at most" else ratio >= goal
        print(f"{figure} {ratio:.3f} {goal} {'ok' if met else 'short'}")
        row["figures"][figure] = {"ratio": round(ratio, 4), "goal": goal, "sense": sense, "met": met}
    results.mkdir(parents=True, exist_ok=True)
    with (results / "speed.jsonl").open("a") as stream:
        stream.write(json.dumps(row) + "\n")


def _pretraining(prepared: Path, folder: Path) -> dict[str, tuple[float, float, str]]:
    """GCL against SimCLR, and what the data cost."""
    steps: dict[str, Callable[[], object]] = {}
    loader: PretrainLoader | None = None
    for method in ("simclr", "gcl"):
        words = [f"network.width={WIDTH}", f"method={method}", "optimiser.name=adamw", "optimiser.lr=0.001"]
        settings = pretrain.PretrainSettings.parse({"data": prepared, "out": folder / method, **nest(words)})
        training = pretrain.PretrainingTrainer.begin(settings)
        training.model.train()
        # A third of the way GradFilter selects and GradMitigator's targets are set.
        steps[method] = update(training, settings.steps // 3)
        loader = training.loader
    counter = iter(range(10**9))
    if loader is not None:
        steps["data"] = lambda: loader.batch(next(counter))
    seconds = medians(steps, REPEATS)
    print({name: round(value, 4) for name, value in seconds.items()}, "seconds per step")
    return {
        "gcl_step_over_simclr_step": (seconds["gcl"] / seconds["simclr"], 2.6, "at most"),
        "data_share_of_simclr_step": (seconds["data"] / seconds["simclr"], 0.10, "at most"),
    }


def update(
    training: pretrain.PretrainingTrainer | finetune.SegmentationTrainer, first: int = 0
) -> Callable[[], object]:
    """One whole optimisation step per call; what a regime does after it is part of it."""
    counter = iter(range(first, 10**9))

    def step() -> None:
        number = next(counter)
        result = training.step(number)
        apply_gradients(training.parameters, result.gradients, total_norm(result.gradients), None)
        training.optimiser.step()
        training.optimiser.zero_grad(set_to_none=True)
        if isinstance(training, finetune.SegmentationTrainer):
            training.after_step(number)

    return step


def _finetuning(prepared: Path, folder: Path) -> dict[str, tuple[float, float, str]]:
    """Fine-tuning throughput against the plain loop with the same network, batch and loss, and weak to strong."""
    store = PreparedStore(prepared)
    # So long a run has its steps compiled where that pays.
    batch, steps = 10, 20_000
    words = [f"network.width={WIDTH}", f"batch={batch}", "labelled=4", f"steps={steps}", "validation=none"]

    def begun(*more: str) -> finetune.SegmentationTrainer:
        values = {"data": prepared, "out": folder / "segmenter", **nest([*words, *more])}
        fit = finetune.begin(finetune.FinetuneSettings.parse(values))
        fit.train_mode()
        return fit

    fit = begun("regime=supervised")
    # In its second phase, and without the guard, which gives up on networks that know nothing.
    later = begun("regime=fixmatch", "regime.guard=0")
    labelled = store.slices_of(store.split["parts"]["train"], labelled=True)
    arrays = folder / "labelled.npz"
    np.savez(
        arrays,
        images=np.asarray(store.images[labelled][:, 0], dtype=np.float32),
        labels=np.asarray(store.labels[labelled]),
        classes=len(store.label_names),
    )
    ours_step, taught = update(fit), update(later, 3 * steps // 4)
    ours, plain = [], []
    for _ in range(3):
        ours.append(medians({"ours": ours_step}, REPEATS)["ours"])
        plain.append(_plain_seconds(arrays, batch))
    seconds = {"ours": statistics.median(ours), "plain": statistics.median(plain)}
    print({name: round(batch / value, 1) for name, value in seconds.items()}, "slices per second")
    both = medians({"supervised": ours_step, "fixmatch": taught}, REPEATS)
    print({name: round(value, 4) for name, value in both.items()}, "seconds per step")
    return {
        "finetune_throughput_over_plain_loop": (seconds["plain"] / seconds["ours"], 3.0, "at least"),
        "weak_to_strong_step_over_supervised_step": (both["fixmatch"] / both["supervised"], 3.0, "at most"),
    }


def _plain_seconds(arrays: Path, batch: int) -> float:
    """Median seconds of the plain loop's step, in a process of its own that has none of our runtime settings."""
    words = [sys.executable, str(Path(__file__).parent / "plain_loop.py"), str(arrays), str(WIDTH), str(batch)]
    done = subprocess.run([*words, str(REPEATS)], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def _memory_growth() -> float:
    """Exponent of peak memory of the pixel contrast in the number of anchor pixels: 1 is linear, 2 quadratic."""
    pixels, dim, images = 1024, 128, 8
    keys = functional.normalize(torch.randn(images, pixels, dim), dim=-1)

    def peak(anchors: int) -> int:
        vectors = functional.normalize(torch.randn(images, anchors, dim), dim=-1).requires_grad_()
        with PeakMemory() as memory:
            logits = vectors @ keys.transpose(1, 2) / 0.1
            pool = top_pool(logits.detach(), 16)
            anchor_losses(logits, pool, None, "one_positive").mean().backward()
        return memory.peak

    return math.log(peak(1024) / peak(128)) / math.log(1024 / 128)


def _prediction() -> float:
    """Seconds for a volume of 10 slices of 256x216."""
    network = folded(UNet(UNetConfig(width=WIDTH), 4))
    volume = np.random.default_rng(0).random((1, 10, 256, 216), dtype=np.float32)
    return medians({"predict": lambda: predict_volume(network, volume)}, 5)["predict"]
