"""Strong scaling of training: seconds of a step with 1, 2 and 4 processes, the joined batch being the same.

Each figure is the median of the last steps of runs that ``torchrun`` starts, one thread a process (on a GPU, one GPU a
process); numbers of processes take turns, ``ROUNDS`` times, and the median of these is told. ``efficiency`` is the
speed over that of one process, over the number of processes. Beside them, what an exchange of a few numbers takes by
two processes: each layer of batch normalisation needs one each way. ``--arms smoke`` takes 1 and 2 processes, few steps
and small slices: it shows that the suite works, not what a machine is worth.
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

PROCESSES, ROUNDS = (1, 2, 4), 3
#: Steps of a run, how many are not looked at: fine-tuning measures each labelled slice when it first meets it.
STEPS = {"pretrain": (12, 4), "finetune": (60, 40)}
STAGES = {
    "pretrain": ["method=gcl", "batch=32"],
    "finetune": ["regime=supervised", "batch=12", "validation=none"],
}
EXCHANGE = """
import json, statistics, sys, time
import torch
import torch.distributed as dist
dist.init_process_group("gloo")
taken, numbers = [], torch.zeros(2, 64)
for _ in range(300):
    started = time.perf_counter()
    dist.all_reduce(numbers)
    taken.append(time.perf_counter() - started)
if dist.get_rank() == 0:
    print(json.dumps(statistics.median(taken[50:])))
dist.destroy_process_group()
"""


def run(results: Path, arms: Sequence[str]) -> None:
    """Measure, print a line per stage and number of processes, append a row to ``scaling.jsonl``."""
    smoke = "smoke" in arms
    processes, rounds, side = ((1, 2), 1, 32) if smoke else (PROCESSES, ROUNDS, 128)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        exchange = _exchange(folder)
        print(f"an exchange of a few numbers by two processes {1000 * exchange:.2f} ms", flush=True)
        raw = write_phantom(folder / "scans", patients=8, labelled=4, test=2)
        grid = {"size": [side, side], "spacing": [128 / side, 128 / side]}
        store = fewlabel.prepare(data=raw / "scans.csv", out=folder / "prepared", **grid)
        for stage, words in STAGES.items():
            steps, warm_up = (8, 3) if smoke else STEPS[stage]
            settings = [*words, f"steps={steps}"]
            taken: dict[int, list[float]] = {count: [] for count in processes}
            for turn in range(rounds):
                for count, seconds in taken.items():
                    seconds.append(_seconds(stage, store, folder / f"{stage}-{count}-{turn}", settings, count, warm_up))
                    print(f"{stage} {count} processes {seconds[-1]:.3f} s a step", flush=True)
            for count, seconds in taken.items():
                step = statistics.median(seconds)
                efficiency = round(statistics.median(taken[1]) / step / count, 3)
                rows.append(
                    {"stage": stage, "processes": count, "step": step, "rounds": seconds, "efficiency": efficiency}
                )
    row = {"suite": "scaling", "smoke": smoke, "exchange": exchange, "rows": rows, **facts()}
    results.mkdir(parents=True, exist_ok=True)
    with (results / "scaling.jsonl").open("a") as stream:
        stream.write(json.dumps(row) + "\n")


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The latest row of each processor that is no smoke test, as a table for documents."""
    latest = {row["machine"]["processor"]: row for row in rows if not row["smoke"]}
    lines: list[str] = []
    for name, row in latest.items():
        machine = row["machine"]
        lines += [*([""] if lines else []), "| stage | processes | seconds of a step | speed over one | efficiency |"]
        lines += ["|---|---:|---:|---:|---:|"]
        for each in row["rows"]:
            speed = each["efficiency"] * each["processes"]
            figures = [each["processes"], f"{each['step']:.2f}", f"{speed:.2f}", f"{each['efficiency']:.2f}"]
            lines.append(f"| {each['stage']} | " + " | ".join(map(str, figures)) + " |")
        took = f"an exchange of a few numbers by two processes takes {1000 * row['exchange']:.2f} ms"
        lines += ["", f"{name}, {machine['cores']} cores, {row['date']}; {took}."]
    return lines


def _exchange(folder: Path) -> float:
    """Median seconds in which two processes add up 128 numbers."""
    script = folder / "exchange.py"
    script.write_text(EXCHANGE)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    words, environment = [sys.executable, *launch], {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.strip().splitlines()[-1]))


def _seconds(stage: str, store: Path, out: Path, words: Sequence[str], processes: int, warm_up: int) -> float:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    more = ["network.width=16", "log_every=1", "compile=false", "--out", str(out)]
    command = [sys.executable, *launch, "-m", "fewlabel", stage, str(store), *words, *more]
    subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True)
    lines = (out / "metrics.jsonl").read_text().splitlines()
    seconds = [row["seconds"] for row in map(json.loads, lines) if "seconds" in row]
    return round(statistics.median(seconds[warm_up:]), 4)
