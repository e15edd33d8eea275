"""What all suites share: interleaved timing, peak tensor memory, facts of the machine."""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from fewlabel.core.provenance import git_revision, library_versions, machine_facts
from fewlabel.pipelines.recipes import load_recipe


def medians(calls: Mapping[str, Callable[[], object]], repeats: int = 7, warm_up: int = 2) -> dict[str, float]:
    """Median seconds of each call, as :func:`timed` takes them."""
    return {name: statistics.median(values) for name, values in timed(calls, repeats, warm_up).items()}


def timed(
    calls: Mapping[str, Callable[[], object]],
    repeats: int,
    warm_up: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each call in each round; calls take turns, so that a drifting machine touches all alike."""
    for call in calls.values():
        for _ in range(warm_up):
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            started = clock()
            call()
            times[name].append(clock() - started)
    return times


class PeakMemory(TorchDispatchMode):
    """Largest number of bytes in live tensors that were made inside the block."""

    def __enter__(self) -> PeakMemory:
        self.live = self.peak = 0
        self._seen: set[int] = set()
        super().__enter__()
        return self

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for item in tree_iter(result):
            if isinstance(item, torch.Tensor):
                self._count(item.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.live -= size


def recipe_hash(name: str) -> str:
    """What a shipped recipe says, in 12 digits: rows of one table must agree in it. Comments do not count."""
    values = json.dumps(dict(load_recipe(name).values), sort_keys=True)
    return hashlib.sha256(values.encode()).hexdigest()[:12]


def settings_hash(settings: Mapping[str, Any]) -> str:
    """What a run was told, in 12 digits: rows that are compared over time must agree in it."""
    return hashlib.sha256(json.dumps(dict(settings), sort_keys=True, default=str).encode()).hexdigest()[:12]


def facts() -> dict[str, Any]:
    """Hardware, load, threads, versions and commit of a measurement."""
    return {
        "machine": machine_facts(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "versions": library_versions(),
        "revision": git_revision(),
        "date": time.strftime("%Y-%m-%d"),
    }


def compact(rows: dict[str, dict[str, Any]], recipe: str, reference: str, known: dict[str, Any]) -> dict[str, Any]:
    """The figures of costs that the package carries.

    Args:
        rows: Name → ``step`` (over the reference's) and ``extra_bytes``, among others.
        recipe: The recipe, or one of the same size.
        reference: The name whose step is 1.
        known: What :func:`facts` gives.
    """
    return {
        "recipe": recipe,
        "reference": reference,
        "date": known["date"],
        "processor": known["machine"]["processor"],
        "cores": known["machine"]["cores"],
        "threads": known["threads"],
        "cuda": known["cuda"],
        "rows": {
            name: {"step": round(rows[name]["step"], 2), "extra_bytes": rows[name]["extra_bytes"]}
            for name in sorted(rows)
        },
    }


def write(path: Path, content: Any) -> None:
    """JSON, indented."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Add a row of a training to a results file and print it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        stream.write(json.dumps(row) + "\n")
    print(
        f"{row['arm']} M={row['labelled']} draw {row['draw']}: Dice {row['dice']:.3f} ({row['seconds']} s)", flush=True
    )
