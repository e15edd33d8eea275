"""A run folder with artifacts that are true to their schema, made without training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save

from fewlabel.core.artifact.artifact_folder import finish_artifact
from fewlabel.core.artifact.files import write_bytes, write_json
from fewlabel.core.rng import numpy_stream, torch_stream
from fewlabel.data.store import PreparedStore
from fewlabel.engine.weight_files import save_encoder, save_segmenter
from fewlabel.gradients.mitigator import GradMitigator
from fewlabel.nets.unet import UNet, UNetConfig, UNetEncoder
from fewlabel.scoring.summary import summarise
from fewlabel.scoring.thirds import COLUMNS as THIRDS
from kit.stores import make_store

NETWORK = UNetConfig(width=4, depth=3)


def make_encoder(
    folder: Path, prepared: Path, *, labels: tuple[str, ...] = ("patient", "position", "phase"), steps: int = 60
) -> Path:
    """An untrained encoder with the record of a run that might have been; with one label there is no mitigator."""
    store, rng = PreparedStore(prepared), numpy_stream(0, "run")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = UNetEncoder(NETWORK)
    folder.mkdir(parents=True)
    combiner = GradMitigator(labels) if len(labels) > 1 else None
    names = [f"encoder.{name}" for name, _ in encoder.named_parameters()]
    drift = {name: torch.randn(p.shape, generator=torch_stream(0, name)) for name, p in encoder.named_parameters()}
    rows = []
    for step in range(steps):
        share = step / steps
        values = {"step": step, "loss": 4.9 - 1.7 * (1 - np.exp(-4 * share)) + rng.normal(0, 0.06), "lr": 1e-3}
        values |= {"collapsed": 4.844, "lower_bound": 1.9 + 0.2 * share, "seconds": 0.3, "spread": 0.9}
        values |= {"effective_rank": 4 + 28 * share + rng.normal(0, 1), "embedding_std": 0.08}
        values |= {f"{half}/{name}": values["loss"] / 2 for half in ("image", "pixel") for name in labels}
        values |= {f"term/{name}": values["loss"] + 0.4 * index for index, name in enumerate(labels)}
        values |= {"pool_size": 4 + 12 * share, "pool_kept": 0.25 + 0.75 * share}
        if combiner is not None:
            generator = torch_stream(0, "gradients", step)
            pull = [1.2 - 0.8 * index for index in range(len(labels))]
            gradients = [
                [weight * drift[name.removeprefix("encoder.")] + torch.randn(
                    drift[name.removeprefix("encoder.")].shape, generator=generator
                ) for name in names]
                for weight in pull
            ]  # fmt: skip
            combiner.combine(names, gradients, generator)
            values |= combiner.scalars()
        rows.append(values)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_json(folder / "details.json", combiner.details() if combiner else {})
    chosen = store.slices_of(store.split["parts"]["pretrain"])
    table = store.slices.iloc[chosen]
    centres = torch.randn(64, 16, generator=torch_stream(0, "centres"))
    points = torch.randn(len(chosen), 16, generator=torch_stream(0, "points")) * 0.5
    points += centres[table["meta_position"].tolist()] + 0.7 * centres[8:][table["meta_patient"].tolist()]
    tensors = {"embeddings": torch.nn.functional.normalize(points, dim=1), "slices": torch.from_numpy(chosen)}
    write_bytes(folder / "embeddings.safetensors", save(tensors))
    facts = {
        "method": "gcl" if len(labels) > 1 else "simclr",
        "meta_labels": list(labels) if len(labels) > 1 else [],
        "channels": store.plan["channels"],
        "spacing": store.plan["spacing"],
        "image_size": store.plan["size"],
        "steps": steps,
        "parameters": sum(parameter.numel() for parameter in encoder.parameters()),
    }
    save_encoder(folder, encoder, facts)
    files = ["encoder.safetensors", "encoder.json", "embeddings.safetensors", "details.json", "metrics.jsonl"]
    settings = {"method": {"name": facts["method"], "temperature": 0.1}, "parts": ["pretrain"], "steps": steps}
    finish_artifact(folder, "encoder", files, parents=[prepared], settings=settings, seed=0, wall_seconds=187.2)
    return folder


def make_segmenter(
    folder: Path, prepared: Path, encoder: Path | None = None, *, validation: bool = False, steps: int = 50
) -> Path:
    """An untrained segmenter; from scratch without an encoder."""
    store, rng = PreparedStore(prepared), numpy_stream(1, str(encoder is None))
    torch.manual_seed(3)
    network = UNet(NETWORK, len(store.label_names))
    folder.mkdir(parents=True)
    rows = [{"step": step, "loss": 0.4 + 1.6 * np.exp(-step / 12) + rng.normal(0, 0.05)} for step in range(steps)]
    if validation:
        rows += [{"step": step, "validation_dice": 0.8 * step / steps} for step in range(9, steps, 10)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    labelled = store.split["parts"]["train"][:1]
    facts = {
        "label_names": {str(key): name for key, name in store.label_names.items()},
        "plan": store.plan,
        "labelled_subjects": labelled,
        "labelled_slices": len(store.slices_of(labelled, labelled=True)),
        "validation_subjects": store.split["parts"]["validation"] if validation else [],
        "selection": "held_out" if validation else "none",
        "regime": "supervised",
        "initialisation": "pretrained encoder" if encoder else "scratch",
        "steps": steps,
        "best_step": 40 if validation else None,
    }
    save_segmenter(folder, network, facts)
    files = ["segmenter.safetensors", "segmenter.json", "metrics.jsonl"]
    parents = [prepared, *([encoder] if encoder else [])]
    finish_artifact(folder, "segmenter", files, parents=parents, settings={"steps": steps}, seed=0, wall_seconds=61.0)
    return folder


def make_scores(folder: Path, prepared: Path, segmenter: Path, control: Path | None, *, gain: float = 0.08) -> Path:
    """Scores drawn around plausible values, one class of one scan missed."""
    store, rng = PreparedStore(prepared), numpy_stream(2, "scores")
    names = {index: name for index, name in store.label_names.items() if index}
    test = set(store.split["parts"]["test"])
    cases = [case for case in store.cases if case.subject in test]
    rows = []
    for case in cases:
        hard = rng.normal(0, 0.06)
        for index, name in names.items():
            for arm, lift in (("model", gain), *((("control", 0.0),) if control else ())):
                dice = float(np.clip(0.6 + 0.06 * index + lift + hard + rng.normal(0, 0.03), 0, 1))
                missed = case is cases[0] and index == 1 and arm == "control"
                far = 210.0 if missed else 25 * (1 - dice) + 2
                rows.append(
                    (arm, case.id, case.subject, index, name, 0.0 if missed else dice, far, far / 4, missed, False,
                     120.0, 0.0 if missed else 120.0 * dice, 2 if index == 1 else 0, 1.5 if index == 1 else 0.0,
                     1, 0.5, 0.0 if missed else dice - 0.01, dice - 0.2 if index == 1 else dice, dice, dice)
                )  # fmt: skip
    columns = [
        "arm",
        "case",
        "subject",
        "class",
        "class_name",
        "dice",
        "hd95_mm",
        "assd_mm",
        "missed",
        "invented",
        "reference_ml",
        "predicted_ml",
        "stray",
        "stray_ml",
        "removed",
        "removed_ml",
        "dice_before",
        *THIRDS,
    ]
    table = pd.DataFrame(rows, columns=columns)
    summary = {
        "part": "test",
        "grid": "original",
        "subjects": sorted(test),
        "cases": len(cases),
        "classes": {str(index): name for index, name in names.items()},
        **summarise(table, names),
        "protocol": {"empty_masks": "Both empty: Dice 1.", "distances": "In mm.", "confidence": 0.95},
    }
    folder.mkdir(parents=True)
    table.to_parquet(folder / "per_case.parquet", index=False)
    table.to_csv(folder / "per_case.csv", index=False)
    write_json(folder / "summary.json", summary)
    files = ["per_case.parquet", "per_case.csv", "summary.json"]
    parents = [prepared, segmenter, *([control] if control else [])]
    finish_artifact(folder, "scores", files, parents=parents, settings={"part": "test"}, seed=0, wall_seconds=4.0)
    return folder


def make_run(folder: Path, *, subjects: int = 12, size: tuple[int, int] = (64, 64), unlabelled: int = 4) -> Path:
    """A whole run: prepared, encoder, segmenter, its control and scores."""
    names = tuple(f"patient{number:03d}" for number in range(2, 2 + unlabelled))
    prepared = make_store(folder / "prepared", subjects=subjects, size=size, unlabelled=names)
    encoder = make_encoder(folder / "encoder", prepared)
    segmenter = make_segmenter(folder / "segmenter", prepared, encoder)
    control = make_segmenter(folder / "segmenter-control", prepared)
    make_scores(folder / "scores", prepared, segmenter, control)
    return folder
