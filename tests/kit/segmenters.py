"""Segmenter folders and the prepared scans they belong to, without any training."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from fewlabel.core.artifact.artifact_folder import finish_artifact
from fewlabel.data.preprocess import Plan
from fewlabel.data.store import PreparedStore
from fewlabel.engine.weight_files import member_file, save_member, save_segmenter_facts
from fewlabel.nets.unet import UNet, UNetConfig
from fewlabel.stages import prepare
from kit.scans import TILTED, write_scan

#: Raw values on disk are not class indices.
LABELS = {"background": 0, "core": 7, "ring": 40}
#: (x, y, z) in mm; each subject's scan is 6 slices of 26 rows and 22 columns, tilted in the scanner.
SPACING = (1.5, 2.0, 8.0)
SHAPE = (6, 26, 22)


def nested_discs(number: int) -> np.ndarray:
    """Mask (z, y, x) in raw values: a core inside a ring, elsewhere for each number; the last slice is empty."""
    z, y, x = np.meshgrid(*[np.arange(size) for size in SHAPE], indexing="ij")
    radius = np.hypot(y - 10 - number % 4, x - 9 - number % 3)
    mask = np.where(radius < 6, LABELS["ring"], 0)
    mask[radius < 3] = LABELS["core"]
    mask[z == SHAPE[0] - 1] = 0
    return mask.astype(np.uint8)


def raw_folder(root: Path, subjects: Sequence[str], unlabelled: Sequence[str] = (), empty: Sequence[str] = ()) -> Path:
    """An nnU-Net folder with one oblique scan per subject, brightness following the mask, empty for some."""
    root.mkdir(parents=True, exist_ok=True)
    described = {"channel_names": {"0": "MR"}, "labels": LABELS, "name": "discs"}
    (root / "dataset.json").write_text(json.dumps(described))
    (root / "metadata.csv").write_text("case,subject\n" + "".join(f"{name},{name}\n" for name in subjects))
    for number, name in enumerate(subjects):
        mask = nested_discs(number) * np.uint8(name not in empty)
        noise = np.random.default_rng(number).normal(0, 3, SHAPE)
        image = (100 + noise + 60 * (mask == LABELS["ring"]) + 120 * (mask == LABELS["core"])).astype(np.float32)
        geometry: dict[str, Any] = {"spacing": SPACING, "origin": (5, -7, 11), "direction": TILTED}
        write_scan(root / "imagesTr" / f"{name}_0000.nii.gz", image, **geometry)
        if name not in unlabelled:
            write_scan(root / "labelsTr" / f"{name}.nii.gz", mask, **geometry)
    return root


def prepared_discs(
    folder: Path,
    train: Sequence[str] = ("s1", "s2"),
    test: Sequence[str] = ("s3", "s4", "s5"),
    *,
    unlabelled: Sequence[str] = (),
    made: bool = False,
    **over: Any,
) -> Path:
    """Prepare ``folder/raw`` into ``folder/prepared`` at the scans' own spacing, padded: the way back is exact.

    With ``made`` the raw folder is there already.
    """
    raw = folder / "raw" if made else raw_folder(folder / "raw", [*train, *test], unlabelled)
    split = folder / "split.json"
    named = [name for name in test if name not in unlabelled]
    split.write_text(json.dumps({"parts": {"train": list(train), "validation": [], "test": named}}))
    values = {"data": raw, "out": folder / "prepared", "reader": "nnunet", "split": str(split), "workers": 1}
    native = {"spacing": [SPACING[1], SPACING[0]], "size": [32, 32]}
    return prepare.run(prepare.PrepareSettings.parse({**values, **native, **over}))


def make_segmenter(
    folder: Path,
    plan: dict[str, Any],
    parents: Sequence[Path] = (),
    network: UNet | None = None,
    *,
    members: int = 1,
    **facts: Any,
) -> Path:
    """A finished segmenter folder with a random tiny network, or several."""
    for member in range(members):
        if network is None or member > 0:
            with torch.random.fork_rng():
                torch.manual_seed(member)
                usual = UNetConfig(width=4, depth=3, in_channels=len(plan["channels"]))
                config = usual if network is None else network.config
                network = UNet(config, len(plan["label_values"]))
                if members > 1:
                    # Sure enough to find several classes, each its own.
                    torch.nn.init.normal_(network.classifier.weight, std=30.0)
        save_member(folder, member, network)
    known = {"plan": plan, "labelled_subjects": facts.pop("labelled_subjects", []), **facts}
    # One network says nothing of members, as older segmenters do not.
    known |= {"members": members} if members > 1 else {}
    save_segmenter_facts(folder, network.config, network.classes, known)
    files = ["segmenter.json", *(member_file(member) for member in range(members))]
    finish_artifact(folder, "segmenter", files, parents=parents)
    return folder


def disc_plan(**over: Any) -> dict[str, Any]:
    """A plan for scans of any grid with the raw values of :data:`LABELS`."""
    values: dict[str, Any] = {
        "spacing": (2.0, 2.0),
        "size": (32, 32),
        "label_values": tuple(LABELS.values()),
        "label_names": tuple(LABELS),
    }
    return Plan(**{**values, **over}).record()


def as_slabs(predict: Callable[..., np.ndarray]) -> Callable[..., Iterator[np.ndarray]]:
    """Stands in for ``ensemble.predict_slabs``: a function of whole volumes, whose answer is one slab."""

    def slabs(network: UNet, array: Any, **named: Any) -> Iterator[np.ndarray]:
        yield predict(network, array if isinstance(array, np.ndarray) else array.slab(0, array.shape[1]), **named)

    return slabs


def bright_is_core(network: UNet, array: np.ndarray, **_: Any) -> np.ndarray:
    """Stands in for a network: dark is background, the brightest fifth of the range is core, between is ring."""
    level = array[0]
    core, ring = level > 0.8, (level > 0.3) & (level <= 0.8)
    return np.stack([~core & ~ring, core, ring]).astype(np.float32)


def trained_run(folder: Path, *, annotated: Sequence[str] = ("a", "b"), **over: Any) -> Path:
    """A run as train leaves it, on scans a to e, a and b of them annotated, with a network of a few steps.

    ``over`` are settings of finetune that replace those of a few steps.
    """
    from fewlabel.core.artifact.files import write_json
    from fewlabel.stages import finetune
    from kit.tiny import finetune_settings

    scans = ("a", "b", "c", "d", "e")
    raw_folder(folder / "raw", scans, unlabelled=[scan for scan in scans if scan not in annotated])
    run = folder / "run"
    prepared_discs(folder, train=annotated, test=(), made=True, out=run / "prepared")
    usual = {"recalibrate": "auto", "steps": 30}
    finetune.run(finetune_settings(run / "prepared", run / "segmenter", **{**usual, **over}))
    write_json(run / "run.json", {"kind": "run", "stages": {"finetune": {}}, "use": None})
    return run


def annotate(run: Path, scan: str, array: np.ndarray) -> None:
    """Put a mask of a scan, in raw values, where people put theirs."""
    raw = next(case for case in PreparedStore(run / "prepared").cases if case.id == scan).images[0]
    image = sitk.GetImageFromArray(array.astype(np.uint8))
    image.CopyInformation(sitk.ReadImage(raw))
    (run / "annotations").mkdir(exist_ok=True)
    sitk.WriteImage(image, str(run / "annotations" / f"{scan}.nii.gz"))
