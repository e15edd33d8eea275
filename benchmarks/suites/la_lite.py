"""Volumes: regimes that work in 3D on the left atrium beside the supervised control, at equal numbers of steps.

Recipe ``la-lite``, two labelled volumes, one run of each arm; the other training volumes are unlabelled. A row per arm
in ``results/la-lite.jsonl`` has the mean Dice over the test volumes and, to show the learning, the soft Dice loss of
labelled patches in the first and the last tenth of the run. Stopped at any time, the suite goes on where it was.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import fewlabel
from fewlabel.core.plugin_discovery import load_plugin, plugin_names
from fewlabel.engine.record import read_record
from suites.acdc_lite import append, done, score

SUITE = "la-lite"
REGIMES = "fewlabel.regimes"
REFERENCE = "supervised"
#: What the recipe says of its own regime: noise is of standardised volumes.
OWN: dict[str, dict[str, Any]] = {"mean_teacher": {"noise": 0.1, "noise_limit": 0.2}}
#: Arm → the regime's settings: every regime there is that works on volumes.
ARMS: dict[str, dict[str, Any]] = {
    "scratch": {"name": REFERENCE},
    **{
        name: {"name": name, **OWN.get(name, {})}
        for name in plugin_names(REGIMES)
        if name != REFERENCE and load_plugin(REGIMES, name).supports_3d
    },
}
LABELLED = 2


def run(data: Path, work: Path, results: Path, chosen: list[str]) -> None:
    """Run what is missing and append a row per arm."""
    path = results / f"{SUITE}.jsonl"
    prepared = fewlabel.prepare(recipe=SUITE, data=data, out=work / "la" / "prepared")
    for arm in chosen or list(ARMS):
        if not done(path, arm, LABELLED, 0):
            append(path, _row(work / "la", prepared, arm))


def _row(work: Path, prepared: Path, arm: str) -> dict[str, Any]:
    """Fine-tune one arm, evaluate it on the test volumes, and describe both."""
    row = score(SUITE, work, prepared, None, arm, LABELLED, 0, recipe=SUITE, regime=ARMS[arm])
    record = read_record(work / f"segmenter-{arm}-m{LABELLED}-d0" / "metrics.jsonl")
    losses = [entry["term/dice"] for entry in record if "term/dice" in entry]
    tenth = max(len(losses) // 10, 1)
    return {
        **row,
        "regime": ARMS[arm],
        "dice_loss_first": round(statistics.mean(losses[:tenth]), 4),
        "dice_loss_last": round(statistics.mean(losses[-tenth:]), 4),
    }
