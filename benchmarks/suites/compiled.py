"""What compiling the steps of fine-tuning is worth on this machine, and what it takes.

Slices of 128x128, ten labelled and for ``fixmatch`` ten unlabelled, a network of width 16, the precision that ``auto``
chooses here. A step is a whole one, batch and optimiser included. Plain and compiled ones take turns; a ratio above 1
speaks for compiling. The cache of compiled code is an empty one.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import fewlabel
from common import facts, timed
from fewlabel.core.settings.value_syntax import nest
from fewlabel.data.phantom.scans import write_phantom
from fewlabel.engine.runtime import fast_kernels, start
from fewlabel.stages import finetune
from suites.speed import WIDTH, update

ROUNDS = 9
STEPS = 1000
REGIMES = {"supervised": ("regime=supervised",), "fixmatch": ("regime=fixmatch", "regime.guard=0")}


def run(results: Path) -> None:
    """Print a line per regime, append a row to ``compiled.jsonl``."""
    fast_kernels(start().device.type)
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "cache")
        raw = write_phantom(folder / "scans", patients=16, labelled=4, test=4)
        prepared = fewlabel.prepare(
            data=raw / "scans.csv", out=folder / "prepared", size=[128, 128], spacing=[1.0, 1.0]
        )
        for regime, words in REGIMES.items():
            figures[regime] = _both(prepared, folder / "segmenter", words)
            print(f"{regime}: {figures[regime]}")
    results.mkdir(parents=True, exist_ok=True)
    with (results / "compiled.jsonl").open("a") as stream:
        stream.write(json.dumps({"suite": "compiled", "rounds": ROUNDS, "figures": figures, **facts()}) + "\n")


def _both(prepared: Path, out: Path, words: tuple[str, ...]) -> dict[str, float]:
    """Seconds of a plain and of a compiled step, plain over compiled, and seconds until the first one is compiled."""
    common = [f"network.width={WIDTH}", "batch=10", "labelled=4", f"steps={STEPS}", "validation=none", *words]
    steps = {}
    for name, value in (("plain", "false"), ("compiled", "true")):
        asked = {"data": prepared, "out": out, **nest([*common, f"compile={value}"])}
        fit = finetune.begin(finetune.FinetuneSettings.parse(asked))
        fit.train_mode()
        # Late in the run, where all of a regime takes part.
        steps[name] = update(fit, 3 * STEPS // 4)
    started = time.perf_counter()
    steps["compiled"]()
    compiling = time.perf_counter() - started
    times = timed(steps, ROUNDS, 2)
    ratios = [plain / ours for plain, ours in zip(times["plain"], times["compiled"], strict=True)]
    medians = {f"{name}_seconds": round(statistics.median(taken), 4) for name, taken in times.items()}
    return {"ratio": round(statistics.median(ratios), 3), **medians, "compiling_seconds": round(compiling, 1)}
