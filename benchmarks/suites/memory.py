"""Peak memory of ``check``, ``prepare`` and ``predict`` over the float32 volume of one scan.

Every cell is a process of its own: what it holds after a tiny data set is its baseline, and what it holds at most above
that, over the bytes of the large scan as float32, is the figure. One thread reads and prepares (``workers=1``), so that
one scan is in memory at a time. The network of ``predict`` has random weights, width 8 and four classes, and a grid of
the scan's own size. ``slope`` is what one more byte of volume costs, from the two sizes of a format: it is free of what
does not grow with the volume, such as the maps of a network.

``--arms`` takes ``smoke``, or words that are in the names of the cells to be run: ``predict-2d``, ``h5``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common import facts
from suites.memory_scans import write_data_set

SIZES = {"large": (384, 320, 320), "middle": (192, 256, 256)}
TINY = (3, 32, 32)
GOALS = {"check": 2.0, "prepare": 3.0, "predict-2d": 3.0, "predict-3d": 3.0}
STORED = (
    ("nii.gz", "int16"), ("nii", "float32"), ("nii.gz", "uint8"), ("nii", "float64"), ("nrrd", "int16"),
    ("h5", "float32"), ("npz", "float32"), ("dicom", "int16"), ("png", "uint8"),
)  # fmt: skip
CLASSES, WIDTH = 4, 8


@dataclass(frozen=True)
class Cell:
    """One measurement."""

    stage: str
    form: str
    dtype: str
    size: str

    @property
    def name(self) -> str:
        """As it is chosen and shown."""
        return f"{self.stage} {self.form} {self.dtype} {self.size}"

    @property
    def volume(self) -> int:
        """Bytes of the scan as float32."""
        depth, height, width = SIZES[self.size]
        return 4 * depth * height * width


def cells(arms: Sequence[str]) -> list[Cell]:
    """The cells that are asked for, those of one data set one after the other."""
    every = [
        Cell(stage, form, dtype, size)
        for form, dtype in STORED
        for size in SIZES
        for stage in GOALS
        # A 3D network takes minutes; what it is given is what the 2D one is given.
        if stage != "predict-3d" or (form, dtype) == ("nii.gz", "int16")
    ]
    if "smoke" in arms:
        return [cell for cell in every if (cell.form, cell.dtype, cell.size) == ("nii.gz", "int16", "middle")]
    return [cell for cell in every if not arms or any(arm in cell.name for arm in arms)]


def run(results: Path, arms: Sequence[str]) -> None:
    """Measure, print a line per cell, append a row to ``memory.jsonl``."""
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder, written = Path(name), dict[tuple[str, str, str], Path]()
        for cell in cells(arms):
            key = (cell.form, cell.dtype, cell.size)
            if key not in written:
                # One large data set at a time.
                _remove(folder / "scans")
                written = {key: write_data_set(folder / "scans", cell.form, cell.dtype, SIZES[cell.size])}
                _remove(folder / "tiny")
                small = write_data_set(folder / "tiny", cell.form, cell.dtype, TINY)
            rows[cell.name] = measured = _measure(cell, folder, written[key], small)
            goal = GOALS[cell.stage]
            print(f"{cell.name} {measured['ratio']:.2f} {goal:g} {'ok' if measured['ratio'] <= goal else 'over'}")
    for name, slope in _slopes(rows).items():
        print(f"{name} slope {slope:.2f}")
        rows[f"{name} large"]["slope"] = slope
    results.mkdir(parents=True, exist_ok=True)
    with (results / "memory.jsonl").open("a") as stream:
        stream.write(json.dumps({"suite": "memory", "goals": GOALS, "cells": rows, **facts()}) + "\n")


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _measure(cell: Cell, folder: Path, scan: Path, small: Path) -> dict[str, Any]:
    stage = cell.stage.partition("-")[0]
    words = {"stage": stage, "threads": 1 if stage == "predict" else 0}
    if stage == "predict":
        model = _model(folder, cell)
        common = {"model": str(model), "overwrite": True, "device": "cpu"}
        words["warm"] = {**common, "scans": str(small), "out": str(folder / "masks-tiny")}
        words["settings"] = {**common, "scans": str(scan), "out": str(folder / "masks")}
    else:
        for key, place, side in (("warm", small, TINY), ("settings", scan, SIZES[cell.size])):
            data = place.parent if cell.form == "dicom" else place.with_name("scans.csv")
            words[key] = {"data": str(data), "workers": 1, "size": list(side[1:]), "spacing": [1.0, 1.0]}
            words[key] |= {"out": str(folder / f"prepared-{key}")} if stage == "prepare" else {}
    _remove(folder / "prepared-settings")
    command = [sys.executable, str(Path(__file__).with_name("memory_cell.py")), json.dumps(words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{cell.name}: {done.stderr[-3000:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    above = told["peak"] - told["baseline"]
    row = {"ratio": round(above / cell.volume, 3), "bytes": above, "volume": cell.volume, "seconds": told["seconds"]}
    if forecast := _forecast(told["said"]):
        row |= {"forecast": forecast, "forecast_over_peak": round(forecast / above, 3)}
    return row


def _forecast(said: Sequence[str]) -> int:
    """Bytes that a stage said it would take; 0 where it said nothing."""
    found = [match for line in said if (match := re.search(r"([\d.]+) (MB|GB) of memory", line))]
    if not found:
        return 0
    return int(float(found[-1][1]) * 2 ** (20 if found[-1][2] == "MB" else 30))


def _slopes(rows: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Bytes of memory that each further byte of volume takes."""
    slopes = {}
    for name, large in rows.items():
        if name.endswith(" large") and (middle := rows.get(f"{name.removesuffix(' large')} middle")):
            more = large["bytes"] - middle["bytes"]
            slopes[name.removesuffix(" large")] = round(more / (large["volume"] - middle["volume"]), 3)
    return slopes


def _model(folder: Path, cell: Cell) -> Path:
    """An untrained segmenter for the grid of the scans."""
    from fewlabel.core.artifact.artifact_folder import finish_artifact
    from fewlabel.data.preprocess import Plan
    from fewlabel.engine.weight_files import member_file, save_member, save_segmenter_facts
    from fewlabel.nets.unet import UNet, UNetConfig

    ndim = 3 if cell.stage.endswith("3d") else 2
    place = folder / f"model-{ndim}d-{cell.size}"
    if place.is_dir():
        return place
    torch.manual_seed(0)
    network = UNet(UNetConfig(ndim=ndim, width=WIDTH), CLASSES)
    names = ("background", "one", "two", "three")
    plan = Plan(spacing=(1.0, 1.0), size=SIZES[cell.size][1:], label_values=tuple(range(CLASSES)), label_names=names)
    save_member(place, 0, network)
    save_segmenter_facts(place, network.config, CLASSES, {"plan": plan.record(), "labelled_subjects": []})
    finish_artifact(place, "segmenter", ["segmenter.json", member_file(0)], parents=[])
    return place
