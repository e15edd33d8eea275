"""What all rivals of :mod:`suites.versus` share: the same labelled scans, the same test scans, the same scorer."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import SimpleITK

import fewlabel
from fewlabel.core.output_paths import as_file_name
from fewlabel.data.io.volume_reading import read_mask
from fewlabel.data.store import PreparedStore
from fewlabel.protocol.training_eligibility import drawn_labels
from fewlabel.scoring.metrics import score_case

#: Numbers of nnU-Net data sets: of all scans, and of M labelled patients (NUMBER + M).
NUMBER = 600


@dataclass(frozen=True)
class Scene:
    """Scans as files of nnU-Net's layout.

    Attributes:
        home: Folder that holds ``nnUNet_raw``.
        raw: The data set of M labelled patients, below it.
        number: Its number.
        subjects: The labelled patients.
        classes: Class index → name, without background.
    """

    home: Path
    raw: Path
    number: int
    subjects: tuple[str, ...]
    classes: dict[int, str]

    @property
    def test(self) -> Path:
        """Folder of test scans."""
        return self.raw / "imagesTs"


def scene(prepared: Path, work: Path, labelled: int, draw: int, most: int = 0) -> Scene:
    """Write the scans of a draw and the test scans, once.

    Args:
        prepared: Prepared data with a split.
        work: Folder of the suite.
        labelled: M.
        draw: Number of the draw.
        most: Test scans at most, for a rehearsal; 0 for all.
    """
    store, whole = PreparedStore(prepared), work / "exported"
    if not whole.is_dir():
        fewlabel.export(source=prepared, to="nnunet_raw", out=whole, number=NUMBER)
    (everything,) = (whole / "nnUNet_raw").iterdir()
    subjects = tuple(drawn_labels(store, labelled, draw).labelled)
    number, home = NUMBER + labelled, work / f"m{labelled}-d{draw}"
    raw = home / "nnUNet_raw" / f"Dataset{number:03d}_M{labelled}"
    content = json.loads((everything / "dataset.json").read_text())
    if not (raw / "dataset.json").is_file():
        names = [as_file_name(case.id) for case in store.cases if case.subject in subjects]
        for folder, endings in (("imagesTr", ["_0000.nii.gz"]), ("labelsTr", [".nii.gz"])):
            (raw / folder).mkdir(parents=True, exist_ok=True)
            for name in names:
                for ending in endings:
                    if (everything / folder / f"{name}{ending}").is_file():
                        shutil.copyfile(everything / folder / f"{name}{ending}", raw / folder / f"{name}{ending}")
        for folder in ("imagesTs", "labelsTs"):
            (raw / folder).mkdir(parents=True, exist_ok=True)
            files = sorted((everything / folder).iterdir())
            for path in files[: most or len(files)]:
                shutil.copyfile(path, raw / folder / path.name)
        there = {**content, "numTraining": len(list((raw / "labelsTr").iterdir()))}
        (raw / "dataset.json").write_text(json.dumps(there))
    classes = {index: name for name, index in content["labels"].items() if isinstance(index, int) and index > 0}
    return Scene(home, raw, number, subjects, {index: name for index, name in classes.items() if name != "ignore"})


def scored(found: Scene, masks: Path) -> dict[str, Any]:
    """Dice, HD95 and misses of the masks of all test scans, by the rules of ``evaluate``.

    Raises:
        FileNotFoundError: If a mask is missing.
    """
    rows = []
    for path in sorted((found.raw / "labelsTs").glob("*.nii.gz")):
        spacing = SimpleITK.ReadImage(str(path)).GetSpacing()[::-1]
        scores = score_case(read_mask(_mask_of(path, masks)), read_mask(path), spacing, list(found.classes))
        rows += [(path.name, score) for score in scores]

    def mean(values: Sequence[float | None]) -> float:
        return round(statistics.fmean(value for value in values if value is not None), 5)

    return {
        "dice": mean([score.dice for _, score in rows]),
        "hd95_mm": mean([score.hd95_mm for _, score in rows]),
        "missed": sum(score.missed for _, score in rows),
        "dice_by_class": {
            name: mean([score.dice for _, score in rows if score.index == index])
            for index, name in found.classes.items()
        },
        "test_scans": len({name for name, _ in rows}),
    }


def _mask_of(reference: Path, masks: Path) -> Path:
    """The mask of a test scan; ``predict`` names it by the file of the scan, nnU-Net without the channel."""
    name = reference.name.removesuffix(".nii.gz")
    for candidate in (f"{name}.nii.gz", f"{name}_0000.nii.gz"):
        if (masks / candidate).is_file():
            return masks / candidate
    raise FileNotFoundError(f"{masks} has no mask of {name}")
