"""A small prepared store made of synthetic beating hearts, for tests of everything that reads one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewlabel.core.artifact.artifact_folder import finish_artifact
from fewlabel.core.artifact.files import building, file_hash, write_json
from fewlabel.core.artifact.sealed import write_sealed
from fewlabel.core.rng import numpy_stream

FILES = (
    "images.npy",
    "labels.npy",
    "slices.parquet",
    "catalog.parquet",
    "cases.json",
    "plan.json",
    "split.json",
    "qc.json",
)
CLASS_NAMES = ("background", "right ventricle", "myocardium", "left ventricle")
UNLABELLED = 255


def heart_slice(
    generator: np.random.Generator, shape: dict[str, float], height: float, phase: int, size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """One short-axis slice and its mask: a ring of muscle around a cavity, a crescent beside it.

    Args:
        generator: Source of the noise.
        shape: What makes the subject: centre, radius, roundness, angle, gain, bias.
        height: 0 at the base, 1 at the apex; the heart narrows towards the apex.
        phase: 0 relaxed, 1 contracted: smaller cavity, thicker wall.
        size: (height, width) in pixels.

    Returns:
        Image (height, width) in [0, 1] and mask of the classes in ``CLASS_NAMES``.
    """
    rows, columns = np.meshgrid(np.linspace(-1, 1, size[0]), np.linspace(-1, 1, size[1]), indexing="ij")
    y, x = rows - shape["y"], columns - shape["x"]
    cosine, sine = np.cos(shape["angle"]), np.sin(shape["angle"])
    along, across = cosine * x + sine * y, (-sine * x + cosine * y) * shape["round"]
    distance = np.hypot(along, across)
    taper = np.sqrt(max(0.08, 1.0 - 0.85 * height**1.5))
    outer = shape["radius"] * taper * (0.94 if phase else 1.0)
    inner = outer * (0.48 if phase else 0.68)
    right = np.hypot(along + 0.85 * outer, across * 0.8) < outer * (0.85 if phase else 1.0)
    mask = np.zeros(size, np.uint8)
    mask[right & (distance >= outer)] = 1
    mask[distance < outer] = 2
    mask[distance < inner] = 3
    if height > 0.9:
        mask[mask == 1] = 0
    body = np.hypot(rows * 0.9, columns) < 0.95
    image = np.where(body, 0.3, 0.04)
    image[np.hypot(rows + 0.2, columns - 0.75) < 0.25] = 0.08
    image = np.choose(mask, [image, np.full(size, 0.78), np.full(size, 0.22), np.full(size, 0.82)])
    image = image * shape["gain"] * (1 + shape["bias"] * columns) + generator.normal(0, 0.03, size)
    return np.clip(image, 0, 1).astype(np.float32), mask


def make_store(
    folder: Path,
    subjects: int = 6,
    depth: int = 8,
    size: tuple[int, int] = (64, 64),
    phases: int = 2,
    seed: int = 0,
    classes: int = 4,
    *,
    channels: int = 1,
    parts: int = 4,
    unlabelled: Sequence[str] = (),
    without_phase: Sequence[str] = (),
) -> Path:
    """Write a finished prepared folder of synthetic hearts.

    Subjects are named ``patient001`` and so on. The last quarter (at least one) is the test part, the one before
    it the validation part, the others are both ``pretrain`` and ``train``. Slices run base to apex.

    Args:
        folder: Where to write it.
        subjects: Number of subjects, 3 or more.
        depth: Mean number of slices per volume; subjects differ by up to two.
        size: (height, width) in pixels.
        phases: 1 or 2 volumes per subject; with 1 there is no meta label ``phase``.
        seed: Other seeds give other hearts.
        classes: 2 to 4, background included; dropped classes merge into the last one kept.
        channels: Image channels; the second and later are inverted copies.
        parts: Number of position classes.
        unlabelled: Subjects whose scans have no mask.
        without_phase: Subjects whose phase is missing.

    Returns:
        The folder.
    """
    if subjects < 3 or phases not in (1, 2) or not 2 <= classes <= 4:
        raise ValueError("make_store needs 3 or more subjects, 1 or 2 phases and 2 to 4 classes")
    names = [f"patient{number:03d}" for number in range(1, subjects + 1)]
    images, labels, rows, cases, catalog = [], [], [], [], []
    for number, subject in enumerate(names):
        generator = numpy_stream(seed, "heart", subject)
        shape = {
            "x": generator.uniform(-0.15, 0.15),
            "y": generator.uniform(-0.15, 0.15),
            "radius": generator.uniform(0.38, 0.52),
            "round": generator.uniform(0.85, 1.15),
            "angle": generator.uniform(-0.5, 0.5),
            "gain": generator.uniform(0.8, 1.1),
            "bias": generator.uniform(-0.25, 0.25),
        }
        slices = max(2, depth + int(generator.integers(-1, 2)))
        for phase in range(phases):
            case = f"{subject}_phase{phase}"
            start = len(rows)
            for z in range(slices):
                image, mask = heart_slice(generator, shape, z / (slices - 1), phase, size)
                images.append([image if channel == 0 else 1 - image for channel in range(channels)])
                labels.append(
                    np.full(size, UNLABELLED, np.uint8) if subject in unlabelled else np.minimum(mask, classes - 1)
                )
                row = {
                    "case": case,
                    "subject": subject,
                    "z": z,
                    "depth": slices,
                    "height_fraction": (z + 0.5) / slices,
                    "labelled": subject not in unlabelled,
                    "meta_patient": number,
                    "meta_position": min(parts - 1, parts * z // slices),
                }
                if phases > 1:
                    row["meta_phase"] = -1 if subject in without_phase else phase
                rows.append(row)
            label = None if subject in unlabelled else f"{case}_mask.nii.gz"
            cases.append(
                {
                    "id": case,
                    "subject": subject,
                    "start": start,
                    "stop": len(rows),
                    "images": [f"{case}.nii.gz"],
                    "label": label,
                    "record": {},
                }
            )
            catalog.append({"case": case, "subject": subject, "image": f"{case}.nii.gz", "label": label})
    meta_labels = {"patient": subjects, "position": parts} | ({"phase": phases} if phases > 1 else {})
    tests = max(1, subjects // 4)
    train = names[: subjects - tests - 1] or names[:1]
    held = names[len(train) : subjects - tests]
    with building(Path(folder)) as partial:
        np.save(partial / "images.npy", np.asarray(images, np.float16))
        np.save(partial / "labels.npy", np.asarray(labels, np.uint8))
        pd.DataFrame(rows).to_parquet(partial / "slices.parquet")
        pd.DataFrame(catalog).to_parquet(partial / "catalog.parquet")
        write_json(partial / "cases.json", cases)
        write_json(
            partial / "plan.json",
            {
                "ndim_slices": 2,
                "spacing": [1.5, 1.5],
                "size": list(size),
                "channels": [f"image{channel}" if channel else "image" for channel in range(channels)],
                "normalise": {"low": 1.0, "high": 99.0},
                "orient": None,
                "label_values": list(range(classes)),
                "label_names": {str(index): CLASS_NAMES[index] for index in range(classes)},
                "meta_labels": meta_labels,
                "columns": [{"name": "phase", "kind": "categorical", "source": "synthetic"}] if phases > 1 else [],
                "dataset": "synthetic hearts",
                "reader": "kit",
                "position_parts": parts,
            },
        )
        write_json(
            partial / "split.json",
            {
                "name": "kit",
                "parts": {"pretrain": train, "train": train, "validation": held, "test": names[subjects - tests :]},
                "draws": {"1": [{"labelled": [name], "validation": held} for name in train]},
                "seed": seed,
            },
        )
        write_json(partial / "qc.json", {"warnings": [], "cases": {}})
        finish_artifact(partial, "prepared", FILES, final_folder=Path(folder), seed=seed)
    return Path(folder)


def resealed(folder: Path) -> Path:
    """The manifest of an artifact whose files a test has rewritten vouches for them again."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] = {name: file_hash(folder / name) for name in manifest["files"]}
    content = json.dumps([manifest["kind"], manifest["files"]], sort_keys=True)
    manifest["content_hash"] = hashlib.sha256(content.encode()).hexdigest()
    write_sealed(path, manifest)
    return folder
