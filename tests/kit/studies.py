"""A study of seconds: tiny networks on small synthetic hearts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fewlabel.core.settings.value_syntax import merge
from fewlabel.data.phantom.scans import write_phantom
from fewlabel.pipelines.study import study_of
from fewlabel.pipelines.study.arms import arm_plans
from fewlabel.pipelines.study.grid import Grid, make_grid
from fewlabel.pipelines.study.spec import Study
from fewlabel.pipelines.study.stores import Stores

NETWORK = {"network": {"width": 4, "depth": 3}, "device": "cpu", "precision": "32", "batch": 4}
SPEC: dict[str, Any] = {
    "description": "Which of three ways to train is best on small hearts.",
    "recipe": "demo",
    "prepare": {"spacing": [6.0, 6.0], "size": [32, 32]},
    "pretrain": {**NETWORK, "steps": 2},
    "finetune": {**NETWORK, "steps": 2, "regime": "supervised"},
    "evaluate": {"device": "cpu", "surface": False, "grid": "prepared"},
    "arms": {"scratch": {}, "simclr": {"method": "simclr"}, "fixmatch": {"regime": "fixmatch"}},
    "budgets": [1],
    "draws": 2,
}


def scans(folder: Path, seed: int = 0) -> Path:
    """Small hearts: four patients with labels to train on, two to test on."""
    write_phantom(folder, patients=7, labelled=4, test=2, seed=seed)
    return folder


def study(data: Path, out: Path, **over: Any) -> Study:
    """The study, with settings over it; arms take the place of its own."""
    spec = {**SPEC, "arms": over.pop("arms", SPEC["arms"])}
    return study_of(spec, merge({"data": data, "out": out}, over))


def grid_of(asked: Study) -> Grid:
    """Its cells and jobs."""
    return make_grid(asked, arm_plans(asked), Stores(asked), {})
