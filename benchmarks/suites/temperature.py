"""Loss of an ideal embedding beside that of collapse, by temperature: which optimum do several meta labels have?

The ideal embedding adds up one direction per class of each label; the greedy one has a direction per patient only.
No network is trained: batches are drawn by the sampler from the pre-training part, and losses are those of GCL.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import fewlabel
from common import write
from fewlabel.data.sampling import MetaSampler
from fewlabel.data.store import PreparedStore
from fewlabel.objectives.contrastive import info_nce, similarity_logits
from fewlabel.objectives.positives import guided_positives, others

TEMPERATURES = (0.07, 0.1, 0.2, 0.3, 0.5, 1.0)
LABELS = ("patient", "position", "phase")
SLICES, BATCHES = 32, 20


def run(data: Path, work: Path, results: Path) -> None:
    """Write ``results/temperature.json`` and print a line per temperature."""
    store = PreparedStore(fewlabel.prepare(recipe="acdc-lite", data=data, out=work / "prepared"))
    part = store.slices.iloc[store.slices_of(store.split["parts"]["pretrain"])]
    sampler = MetaSampler(part, SLICES, seed=0)
    rows: list[dict[str, Any]] = []
    for temperature in TEMPERATURES:
        values = [losses(store, torch.from_numpy(sampler.batch(step)), temperature) for step in range(BATCHES)]
        mean = {name: sum(value[name] for value in values) / BATCHES for name in values[0]}
        rows.append({"temperature": temperature, "collapsed": math.log(2 * SLICES - 1), **mean})
        print(" ".join(f"{name} {value:.2f}" for name, value in rows[-1].items()))
    results.mkdir(parents=True, exist_ok=True)
    write(results / "temperature.json", rows)


def losses(store: PreparedStore, slices: Tensor, temperature: float) -> dict[str, float]:
    """Mean image-wise loss over the labels of the ideal and the greedy embedding of one batch."""
    ids = {name: torch.from_numpy(store.slices[f"meta_{name}"].to_numpy(dtype="int64"))[slices] for name in LABELS}
    directions = [functional.one_hot(torch.unique(label, return_inverse=True)[1]).double() for label in ids.values()]
    return {
        "ideal": mean_loss(torch.cat(directions, dim=1), slices, ids, temperature),
        "patient_only": mean_loss(directions[0], slices, ids, temperature),
    }


def mean_loss(rows: Tensor, slices: Tensor, ids: dict[str, Tensor], temperature: float) -> float:
    """Mean over the labels of Eq. 1 of GCL, both views of a slice at the same place."""
    views = functional.normalize(rows, dim=1).repeat(2, 1)
    every = torch.arange(len(views))
    logits = similarity_logits(views, views, temperature)
    candidates = others(every, len(views))
    parts = [info_nce(logits, guided_positives(slices, label, every), candidates) for label in ids.values()]
    return float(torch.stack(parts).mean())
