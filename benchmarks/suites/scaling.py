"""Strong scaling of training: seconds of a step with 1, 2 and 4 processes, the joined batch being the same.

Each figure is the median of the last steps of a run of its own that ``torchrun`` starts, one thread a process (on a
GPU, one GPU a process). ``efficiency`` is the speed over that of one process, over the number of processes.
``--arms smoke`` takes 1 and 2 processes, few steps and small slices: it shows that the suite works, not what a machine
is worth.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fewlabel
from common import facts
from fewlabel.data.phantom.scans import write_phantom

PROCESSES, STEPS, WARM_UP = (1, 2, 4), 30, 10
STAGES = {
    "pretrain": ["method=gcl", "batch=32"],
    "finetune": ["regime=supervised", "batch=12", "validation=none"],
}


def run(results: Path, arms: Sequence[str]) -> None:
    """Measure, print a line per stage and number of processes, append a row to ``scaling.jsonl``."""
    smoke = "smoke" in arms
    processes, steps, warm_up, side = ((1, 2), 8, 3, 32) if smoke else (PROCESSES, STEPS, WARM_UP, 128)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw = write_phantom(folder / "scans", patients=8, labelled=4, test=2)
        grid = {"size": [side, side], "spacing": [128 / side, 128 / side]}
        store = fewlabel.prepare(data=raw / "scans.csv", out=folder / "prepared", **grid)
        for stage, words in STAGES.items():
            alone = 0.0
            for count in processes:
                seconds = _seconds(
                    stage, store, folder / f"{stage}-{count}", [*words, f"steps={steps}"], count, warm_up
                )
                alone = alone or seconds
                efficiency = alone / seconds / count
                rows.append({"stage": stage, "processes": count, "step": seconds, "efficiency": round(efficiency, 3)})
                print(f"{stage} {count} processes {seconds:.3f} s a step, efficiency {efficiency:.2f}", flush=True)
    results.mkdir(parents=True, exist_ok=True)
    with (results / "scaling.jsonl").open("a") as stream:
        stream.write(json.dumps({"suite": "scaling", "smoke": smoke, "steps": steps, "rows": rows, **facts()}) + "\n")


def _seconds(stage: str, store: Path, out: Path, words: Sequence[str], processes: int, warm_up: int) -> float:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    more = ["network.width=16", "log_every=1", "compile=false", "--out", str(out)]
    command = [sys.executable, *launch, "-m", "fewlabel", stage, str(store), *words, *more]
    subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True)
    lines = (out / "metrics.jsonl").read_text().splitlines()
    seconds = [row["seconds"] for row in map(json.loads, lines) if "seconds" in row]
    return round(statistics.median(seconds[warm_up:]), 4)
