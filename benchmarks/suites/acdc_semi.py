"""Semi-supervised regimes on ACDC beside the supervised control, at equal numbers of optimisation steps.

Recipe ``acdc-lite`` on two of the literature's splits: ``chaitanya`` with 1 and 2 labelled patients, ``ssl4mis`` with
1 and 3. Unlabelled slices are those of the parts ``train`` and ``pretrain`` but the labelled patients' own. Every
regime there is has an arm, and some have variants; four arms start from an encoder that ``gcl`` pre-trained on the same
split. Every fine-tuning appends a row with its wall time to ``results/acdc-semi-SPLIT.jsonl``; stopped at any time, the
suite goes on where it was.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fewlabel
from fewlabel.core.artifact.files import MANIFEST
from fewlabel.core.plugin_discovery import plugin_names
from fewlabel.core.settings.base import resolve_plugin
from fewlabel.engine.record import read_record
from suites.acdc_lite import RECIPE, append, done, score

SUITE = "acdc-semi"
REGIMES = "fewlabel.regimes"
REFERENCE = {"name": "supervised"}
#: Arms of more than a regime's defaults: its settings, and whether it starts from GCL's encoder.
VARIANTS: dict[str, tuple[dict[str, Any], bool]] = {
    # Statistics of batch normalisation shared with the unlabelled slices, as in public codes (decision 0008).
    "mean_teacher-joint": ({"name": "mean_teacher", "joint": True}, False),
    "arco-ns": ({"name": "arco", "sampling": "ns"}, False),
    "arco-sg": ({"name": "arco", "sampling": "sg"}, False),
    "arco-sag": ({"name": "arco", "sampling": "sag"}, False),
    # ARCO without its first stage, and without its loss on pseudo-labels.
    "arco-sg-stage-2": ({"name": "arco", "sampling": "sg", "pretrain_share": 0.0}, False),
    "arco-sg-no-unsup": ({"name": "arco", "sampling": "sg", "unsup_weight": 0.0}, False),
    "gcl": ({"name": "supervised"}, True),
    "gcl+mean_teacher": ({"name": "mean_teacher"}, True),
    "gcl+mixup": ({"name": "mixup"}, True),
    "gcl+arco-sg": ({"name": "arco", "sampling": "sg"}, True),
}


def _defaults() -> dict[str, tuple[dict[str, Any], bool]]:
    """An arm for each regime with its defaults, but those that are another arm already under another name."""
    asked = [REFERENCE, *(settings for settings, warm in VARIANTS.values() if not warm)]
    there = [resolve_plugin(REGIMES, settings) for settings in asked]
    found = [name for name in plugin_names(REGIMES) if resolve_plugin(REGIMES, name) not in there]
    return {name: ({"name": name}, False) for name in found}


#: Arm → the regime's settings and whether it starts from GCL's encoder.
ARMS: dict[str, tuple[dict[str, Any], bool]] = {"scratch": (REFERENCE, False), **_defaults(), **VARIANTS}
#: Split → numbers of labelled patients. ``chaitanya`` has draws of them; ``ssl4mis`` has one, run with three seeds.
BUDGETS: dict[str, tuple[int, ...]] = {"chaitanya": (1, 2), "ssl4mis": (1, 3)}
REPEATS = (0, 1, 2)


def run(data: Path, work: Path, results: Path, chosen: list[str]) -> None:
    """Run what is missing and append a row per fine-tuning."""
    # All arms of one repeat before the next: a table that was stopped compares whole repeats.
    for repeat in REPEATS:
        for split, counts in BUDGETS.items():
            for labelled in counts:
                for arm in chosen or list(ARMS):
                    _row(data, work, results / f"{SUITE}-{split}.jsonl", split, labelled, repeat, arm)


def _row(data: Path, work: Path, path: Path, split: str, labelled: int, repeat: int, arm: str) -> None:
    if done(path, arm, labelled, repeat):
        return
    folder = work / split
    prepared = fewlabel.prepare(recipe=RECIPE, data=data, out=folder / "prepared", split=split)
    regime, warm = ARMS[arm]
    encoder = _encoder(folder, prepared) if warm else None
    own = {} if split == "chaitanya" else {"draw": 0, "seed": repeat}
    row = score(SUITE, folder, prepared, encoder, arm, labelled, repeat, regime=regime, **own)
    record = read_record(folder / f"segmenter-{arm}-m{labelled}-d{repeat}" / "metrics.jsonl")
    append(path, {**row, "split": split, "regime": regime, **variances(record)})


def variances(record: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Medians over the run of the contrastive gradient's variance under each sampling, where a regime measures it."""
    names = sorted({key for row in record for key in row if key.startswith("variance/")})
    if not names:
        return {}
    found = {name: statistics.median(row[name] for row in record if name in row) for name in names}
    return {"variance": {name.removeprefix("variance/"): round(value, 7) for name, value in found.items()}}


def _encoder(folder: Path, prepared: Path) -> Path:
    """GCL's encoder on this split."""
    out = folder / "encoder-gcl"
    if not (out / MANIFEST).is_file():
        fewlabel.pretrain(recipe=RECIPE, data=prepared, out=out, resume=True)
    return out
