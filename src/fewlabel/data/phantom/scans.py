"""Synthetic cardiac MR: short-axis stacks of beating hearts with patients, phases and scanners that differ.

The shapes are closed formulas (:mod:`fewlabel.data.phantom.hearts`); texture, bias field, blur and Rician noise are
drawn per scan. What makes the task hard is in the images on purpose: papillary muscles, fat, atria above the valve
plane, an aorta that looks like a small left ventricle, lung vessels, two scanners of other contrast, and slices that
slipped between breath-holds.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from scipy import ndimage

from fewlabel.core.artifact.files import write_json, write_text
from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.rng import numpy_stream
from fewlabel.data.phantom.hearts import (
    LABEL_NAMES,
    LV,
    MYOCARDIUM,
    RV,
    Chest,
    Grid,
    Heart,
    Phase,
    chest_shape,
    heart_shape,
    sample_chest,
    sample_heart,
)

PHASES: tuple[Phase, ...] = get_args(Phase)


@dataclass(frozen=True)
class Scanner:
    """How a scanner renders tissue: mean signal of each in [0, 1], gain to stored units, noise and bias strength.

    ``blur`` is the width of the point spread in pixels, ``noise`` the standard deviation against the signal range,
    ``bias`` the peak exponent of the receive field.
    """

    name: str
    signal: dict[str, float]
    gain: float
    noise: float
    bias: float
    blur: float


SCANNERS = (
    Scanner(
        "A",
        {
            "air": 0.01, "lung": 0.07, "muscle": 0.28, "mediastinum": 0.34, "fat": 0.78, "liver": 0.42, "spine": 0.38,
            "stomach": 0.66, "vessel": 0.62, "blood": 0.76, "myocardium": 0.30,
        },
        gain=420.0, noise=0.03, bias=0.30, blur=0.6,
    ),
    Scanner(
        "B",
        {
            "air": 0.02, "lung": 0.12, "muscle": 0.36, "mediastinum": 0.42, "fat": 0.60, "liver": 0.32, "spine": 0.30,
            "stomach": 0.46, "vessel": 0.60, "blood": 0.62, "myocardium": 0.35,
        },
        gain=1900.0, noise=0.04, bias=0.5, blur=0.8,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Stack:
    """Geometry of one patient's stack, shared by both phases.

    Attributes:
        shape: (slices, rows, columns).
        spacing: mm (between slices, between rows, between columns).
        centre: mm (x, y) of the heart's base from the image centre.
        above: mm of the first slice above the end-diastolic valve plane.
        slips: (slices, 2) mm that each slice slipped in x and y.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    centre: tuple[float, float]
    above: float
    slips: NDArray[np.float64]


@dataclass(frozen=True)
class Patient:
    """One synthetic patient."""

    id: str
    seed: int
    heart: Heart
    chest: Chest
    stack: Stack
    scanner: Scanner


def sample_patient(number: int, seed: int) -> Patient:
    """Draw patient ``number`` (from 1); patients of one seed do not depend on how many there are."""
    rng = numpy_stream(seed, "phantom", "patient", number)
    heart = sample_heart(rng)
    chest = sample_chest(rng)
    slices = int(rng.integers(8, 10))
    rows, columns = (int(value) for value in rng.integers(96, 113, 2))
    pixel = round(float(rng.uniform(1.5, 2.0)), 4)
    stack = Stack(
        shape=(slices, rows, columns),
        spacing=(round(float(rng.uniform(8.0, 10.0)), 2), pixel, pixel),
        centre=(float(rng.normal(8.0, 7.0)), float(rng.normal(-4.0, 7.0))),
        above=float(rng.uniform(-4.0, 9.0)),
        slips=rng.normal(0.0, 1.2, (slices, 2)),
    )
    # Alternating with a random start keeps both scanners in every part of a small data set.
    start = int(numpy_stream(seed, "phantom", "scanner").integers(2))
    return Patient(f"patient{number:02d}", seed, heart, chest, stack, SCANNERS[(number + start) % 2])


def render(patient: Patient, phase: Phase) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """One scan and its mask, both (slices, rows, columns).

    Args:
        patient: Who is scanned.
        phase: ``ED`` or ``ES``.
    """
    rng = numpy_stream(patient.seed, "phantom", "scan", patient.id, phase)
    still = numpy_stream(patient.seed, "phantom", "contrast", patient.id)
    grid = _grid(patient.stack)
    heart = heart_shape(patient.heart, phase, grid)
    tissue = {name: value * still.uniform(0.9, 1.1) for name, value in patient.scanner.signal.items()}
    # Blood that flows in from outside the slice is brighter, so its signal changes along the stack.
    first, last = still.uniform(-0.12, 0.12, 2)
    inflow = 1 + np.linspace(float(first), float(last), patient.stack.shape[0])
    inflow = inflow[:, None, None]

    image = np.full(patient.stack.shape, tissue["air"])
    for name, mask in chest_shape(patient.chest, grid, length=patient.heart.length).items():
        image[mask] = tissue[{"aorta": "vessel", "aorta wall": "myocardium"}.get(name, name)]
    image[heart.fat] = tissue["fat"]
    image[heart.rv_wall] = tissue["myocardium"]
    image = np.where(heart.atria, tissue["blood"] * inflow, image)
    right = tissue["blood"] * inflow * still.uniform(0.85, 1.05)
    image = np.where(heart.labels == RV, right, image)
    image = np.where(heart.labels == MYOCARDIUM, tissue["myocardium"], image)
    image = np.where(heart.labels == LV, tissue["blood"] * inflow, image)
    image[heart.papillary] = tissue["myocardium"] * 1.1

    textured = image * _texture(rng, image.shape, heart.labels)
    image = np.asarray(ndimage.gaussian_filter(textured, (0, patient.scanner.blur, patient.scanner.blur)))
    image = image * _bias(still, image.shape, patient.scanner.bias)
    sigma = patient.scanner.noise * still.uniform(0.8, 1.5)
    image = np.hypot(image + rng.normal(0, sigma, image.shape), rng.normal(0, sigma, image.shape))
    gain = patient.scanner.gain * still.uniform(0.6, 1.6)
    return np.clip(np.rint(image * gain), 0, 32767).astype(np.int16), heart.labels


def _grid(stack: Stack) -> Grid:
    slices, rows, columns = stack.shape
    x = (np.arange(columns) - (columns - 1) / 2) * stack.spacing[2] - stack.centre[0]
    y = (np.arange(rows) - (rows - 1) / 2) * stack.spacing[1] - stack.centre[1]
    return Grid(
        x=x[None, None, :] - stack.slips[:, 0, None, None],
        y=y[None, :, None] - stack.slips[:, 1, None, None],
        depth=np.asarray(np.arange(slices) * stack.spacing[0] - stack.above, np.float64)[:, None, None],
        centre=stack.centre,
    )


def _texture(rng: np.random.Generator, shape: tuple[int, ...], labels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """A factor around 1: coarse mottle everywhere, and a finer one in the cavities (trabeculae, flow)."""
    coarse = ndimage.gaussian_filter(rng.normal(size=shape), (0, 3.0, 3.0)) * 10.6
    fine = ndimage.gaussian_filter(rng.normal(size=shape), (0, 1.2, 1.2)) * 4.3
    cavities = (labels == RV) | (labels == LV)
    return np.asarray(np.clip(1 + 0.08 * coarse + np.where(cavities, 0.10, 0.04) * fine, 0.3, 1.8))


def _bias(rng: np.random.Generator, shape: tuple[int, ...], strength: float) -> NDArray[np.float64]:
    """The receive coil's field: exp of a random plane and saddle over the image."""
    y = np.linspace(-1, 1, shape[1])[:, None]
    x = np.linspace(-1, 1, shape[2])[None, :]
    a, b, c, d, e = rng.uniform(-1, 1, 5)
    field = 0.6 * (a * x + b * y) + 0.3 * (c * x * y + d * x**2 + e * y**2)
    return np.asarray(np.exp(strength * field)[None])


def write_phantom(folder: Path | str, *, patients: int = 16, labelled: int = 1, test: int = 6, seed: int = 0) -> Path:
    """Write a synthetic data set that the ``table`` reader reads.

    ``images/`` holds a NIfTI per patient and phase, ``labels/`` the masks of the annotated ones, ``scans.csv`` a row
    per scan with columns image, label, subject, phase, scanner and part; ``labels.json`` names the classes.

    Args:
        folder: Where to write; made if absent.
        patients: All patients, each scanned in two phases.
        labelled: Annotated training patients, the first ones.
        test: Annotated patients kept for testing, the last ones; those between are not annotated.
        seed: Everything follows from it.

    Returns:
        The folder.

    Raises:
        SettingsError: If the counts do not fit together.
    """
    if labelled < 0 or test < 0 or patients < max(1, labelled + test):
        fault = Fault(f"labelled={labelled} and test={test} patients do not fit into patients={patients}", "phantom")
        raise SettingsError("These settings are not valid:", [fault])
    folder = Path(folder)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(1, patients + 1):
        patient = sample_patient(number, seed)
        part = "test" if number > patients - test else ""
        for phase in PHASES:
            image, mask = render(patient, phase)
            name = f"{patient.id}_{phase}.nii.gz"
            _write(folder / "images" / name, image, patient.stack)
            annotated = number <= labelled or part == "test"
            if annotated:
                _write(folder / "labels" / name, mask, patient.stack)
            label = f"labels/{name}" if annotated else ""
            rows.append([f"images/{name}", label, patient.id, phase, patient.scanner.name, part])
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["image", "label", "subject", "phase", "scanner", "part"])
    writer.writerows(rows)
    write_json(folder / "labels.json", {str(index): name for index, name in LABEL_NAMES.items()})
    write_text(folder / "scans.csv", table.getvalue())
    return folder


def _write(path: Path, array: NDArray[np.int16] | NDArray[np.uint8], stack: Stack) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(stack.spacing[::-1])
    origin = (-(stack.shape[2] - 1) / 2 * stack.spacing[2], -(stack.shape[1] - 1) / 2 * stack.spacing[1], -stack.above)
    image.SetOrigin(origin)
    sitk.WriteImage(image, str(path), True)
