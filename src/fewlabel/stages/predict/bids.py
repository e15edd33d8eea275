"""Masks as a derivative data set of BIDS: what its files are called, and what describes them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from fewlabel.core.provenance import library_versions
from fewlabel.stages.predict.mask_names import Group, Scan, distinct

BIDS_VERSION = "1.10.0"
#: What is known of each mask, beside it.
SIDECAR = {"Description": "Segmentation by fewlabel", "Manual": False, "SpatialReference": "orig"}
_NAME = re.compile(r"(?P<entities>sub-(?P<subject>[A-Za-z0-9]+)(?:_[a-z]+-[A-Za-z0-9]+)*)_(?P<suffix>[A-Za-z0-9]+)")
_SESSION = re.compile(r"_(ses-[A-Za-z0-9]+)")
#: Folders of BIDS in which segmentations may lie.
_DATA_TYPES = ("anat", "func", "dwi", "perf", "pet", "fmap", "micr")
#: What ``predict`` writes that BIDS has no place for.
_OURS = (
    "/manifest.json",
    "/predictions.csv",
    "/run_report.json",
    "*_probabilities.nii.gz",
    "*_uncertainty.nii.gz",
)


def named_by_bids(groups: Iterable[Group], root: Path) -> tuple[Scan, ...]:  # noqa: ARG001
    """``sub-01/ses-1/anat/sub-01_ses-1_dseg.nii.gz`` for ``sub-01_ses-1_T1w.nii.gz``.

    Scans that differ in their suffix alone, such as T1w and T2w, have it as their entity ``seg``. A scan whose name is
    not one of BIDS is a subject: ``a_1.nii.gz`` → ``sub-a1/anat/sub-a1_dseg.nii.gz``.

    Args:
        groups: The scans.
        root: Folder that they are expected in, which counts for nothing here.

    Raises:
        DataError: If two scans would have one name.
    """
    named = [(images, _entities(stem), _data_type(images[0])) for images, stem in groups]
    often = Counter((entities, folder) for _, (entities, _), folder in named)
    scans = []
    for images, (entities, suffix), data_type in named:
        apart = f"_seg-{suffix}" if suffix and often[entities, data_type] > 1 else ""
        session = _SESSION.search(entities)
        home = Path(entities.partition("_")[0], session[1] if session else "", data_type)
        scans.append(Scan(images, home / f"{entities}{apart}_dseg.nii.gz"))
    return distinct(scans)


def dataset_files() -> dict[str, str]:
    """``dataset_description.json``, and which other files at the top are not meant for readers of BIDS."""
    description = {
        "Name": "Segmentations by fewlabel",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "fewlabel", "Version": library_versions()["fewlabel"]}],
    }
    return {
        "dataset_description.json": json.dumps(description, indent=2) + "\n",
        ".bidsignore": "\n".join(_OURS) + "\n",
    }


def _entities(stem: str) -> tuple[str, str]:
    """The entities of a scan, ``sub-01_ses-1``, and its suffix; of a name that is not of BIDS a subject alone."""
    match = _NAME.fullmatch(stem)
    if match is not None:
        return match["entities"], match["suffix"]
    return f"sub-{re.sub(r'[^A-Za-z0-9]', '', stem) or 'scan'}", ""


def _data_type(image: Path) -> str:
    return image.parent.name if image.parent.name in _DATA_TYPES else "anat"
