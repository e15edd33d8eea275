"""Batches from a store that is larger than the memory there is, against one that fits: the loss is to be below 10 %.

A store of ``GIB`` GiB is written in full, of random numbers, so that it has no holes. One process draws pre-training
batches from it, its augmentation included, freely and in a control group that has memory for the program and half of
the store (pages of files count there). Linux, as root; where no control group can be made, nothing is measured.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common import facts

GIB, SMOKE_GIB = 4.0, 1.0
_GROUPS = Path("/sys/fs/cgroup")
SCRIPT = """
import json, sys, time
from pathlib import Path
from fewlabel.core.settings.value_syntax import nest
from fewlabel.data.batch_loading import PretrainLoader
from fewlabel.stages import pretrain
import tempfile
batches = int(sys.argv[2])
with tempfile.TemporaryDirectory() as out:
    values = {"data": sys.argv[1], "out": out, **nest(["method=simclr", "network.width=4", "batch=32", "device=cpu"])}
    training = pretrain.PretrainingTrainer.begin(pretrain.PretrainSettings.parse(values))
    for step in range(5): training.loader.batch(step)
    started = time.perf_counter(); used = time.process_time()
    for step in range(5, 5 + batches): training.loader.batch(step)
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
print(json.dumps({"batch": seconds / batches, "cpu": cpu / batches}))
"""


def run(results: Path, arms: Sequence[str]) -> None:
    """Write the store, measure both ways in turn, append a row to ``streaming.jsonl``."""
    size = SMOKE_GIB if "smoke" in arms else GIB
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as name:
        store = _store(Path(name), int(size * 2**30))
        bytes_there = (store / "images.npy").stat().st_size
        held = sum(512 * file.stat().st_blocks for file in store.glob("*.npy"))
        limit = int(bytes_there * 0.5) + (700 << 20)
        seconds: dict[str, list[float]] = {"free": [], "limited": []}
        for _ in range(3):
            for way, values in seconds.items():
                values.append(_batch(store, limit if way == "limited" else None, 40))
    middle = {way: sorted(values)[1] for way, values in seconds.items()}
    loss = middle["limited"] / middle["free"] - 1
    print(f"store {bytes_there / 2**30:.2f} GiB ({held / 2**30:.2f} on disk), limit {limit / 2**30:.2f} GiB: {middle}")
    print(f"loss {loss:.1%} {'ok' if loss < 0.1 else 'over'}")
    row: dict[str, Any] = {"suite": "streaming", "store": bytes_there, "on_disk": held, "limit": limit}
    row |= {"seconds": seconds, "loss": round(loss, 4), **facts()}
    results.mkdir(parents=True, exist_ok=True)
    with (results / "streaming.jsonl").open("a") as stream:
        stream.write(json.dumps(row) + "\n")


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The latest row of each processor, as a table for documents."""
    latest = {row["machine"]["processor"]: row for row in rows}
    lines = ["| store | memory allowed | ms of a batch, free | in that memory | loss | processor, date |"]
    lines += ["|---:|---:|---:|---:|---:|---|"]
    for name, row in latest.items():
        free, limited = (1000 * statistics.median(row["seconds"][way]) for way in ("free", "limited"))
        sizes = f"{row['store'] / 2**30:.1f} GiB | {row['limit'] / 2**30:.1f} GiB"
        lines.append(f"| {sizes} | {free:.0f} | {limited:.0f} | {row['loss']:.1%} | {name}, {row['date']} |")
    return lines


def _store(folder: Path, size: int) -> Path:
    """A prepared store whose images are of that size, its voxels random."""
    import fewlabel
    from fewlabel.core.artifact.artifact_folder import finish_artifact
    from fewlabel.data.phantom.scans import write_phantom
    from fewlabel.data.store import STORE_FILES

    raw = write_phantom(folder / "scans", patients=8, labelled=2, test=2)
    store = fewlabel.prepare(data=raw / "scans.csv", out=folder / "small", size=[256, 256], spacing=[0.5, 0.5])
    import pandas as pd

    table, cases = pd.read_parquet(store / "slices.parquet"), json.loads((store / "cases.json").read_text())
    each = 2 * 256 * 256
    times = max(1, size // (each * len(table)))
    large = folder / "large"
    large.mkdir()
    rows, more = [], []
    for turn in range(times):
        rows.append(table.assign(case=table["case"].astype(str) + f"_{turn}"))
        for case in cases:
            start, stop = (case[key] + turn * len(table) for key in ("start", "stop"))
            more.append({**case, "id": f"{case['id']}_{turn}", "start": start, "stop": stop})
    joined = pd.concat(rows, ignore_index=True)
    joined.to_parquet(large / "slices.parquet", index=False)
    (large / "cases.json").write_text(json.dumps(more))
    for file in ("catalog.parquet", "plan.json", "split.json", "qc.json"):
        (large / file).write_bytes((store / file).read_bytes())
    rng = np.random.default_rng(0)
    images = np.lib.format.open_memmap(large / "images.npy", "w+", np.float16, (len(joined), 1, 256, 256))
    labels = np.lib.format.open_memmap(large / "labels.npy", "w+", np.uint8, (len(joined), 256, 256))
    for at in range(len(joined)):
        images[at, 0] = rng.random((256, 256), dtype=np.float32)
        labels[at] = 255
    images.flush()
    labels.flush()
    finish_artifact(large, "prepared", STORE_FILES)
    return large


def _batch(store: Path, limit: int | None, batches: int) -> float:
    """Seconds of a batch, in a process of its own, within a control group of its own if there is a limit."""
    group = None if limit is None else _group(limit)
    enter = "" if group is None else f"echo $$ > {group}/cgroup.procs && "
    # What other processes read counts nowhere here.
    subprocess.run(["sync"], check=False)
    command = ["bash", "-c", f'{enter}exec "$@"', "bash", sys.executable, "-c", SCRIPT, str(store), str(batches)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    finally:
        if group is not None:
            time.sleep(0.5)
            group.rmdir()
    return float(json.loads(done.stdout.splitlines()[-1])["batch"])


def _group(limit: int) -> Path:
    """A new control group with this limit of memory in bytes, of the second version or of the first."""
    second = (_GROUPS / "cgroup.controllers").is_file()
    group = (_GROUPS if second else _GROUPS / "memory") / f"fewlabel-{os.getpid()}-{time.time_ns()}"
    try:
        group.mkdir()
        (group / ("memory.max" if second else "memory.limit_in_bytes")).write_text(str(limit))
    except OSError as error:
        raise SystemExit(f"no control group can be made here ({error}); nothing was measured") from error
    return group
