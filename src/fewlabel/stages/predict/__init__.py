"""``predict``: a mask for every scan, on the scan's own grid and with the data set's own label values."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.files import MANIFEST
from fewlabel.core.artifact.manifest import Artifact
from fewlabel.core.errors import ArtifactError, DataError, Fault
from fewlabel.core.progress import say, task
from fewlabel.data.io.itk_log import collected_warnings
from fewlabel.engine.runtime import choose_device
from fewlabel.stages._segmenter import Segmenter
from fewlabel.stages._segmenter_in_use import segmenter_in_use
from fewlabel.stages.predict.inputs import find_scans
from fewlabel.stages.predict.outputs import REPORT, TABLE, Seconds, outputs, record_predictions, sizes
from fewlabel.stages.predict.places import Destination, check_places
from fewlabel.stages.predict.segmentation import PARTS, segment_scan
from fewlabel.stages.predict.settings import PredictSettings

__all__ = ["SETTINGS", "PredictSettings", "find_model", "run"]

SETTINGS = PredictSettings


def run(settings: PredictSettings) -> Path:
    """Write masks, ``predictions.csv`` and ``run_report.json``; or one mask, as the file that ``out`` names.

    A mask has the name, format and geometry of its scan (formats that cannot hold a mask in one lossless file change:
    JPEG to PNG, MHD to MHA, NHDR to NRRD, HDR to NII, h5 to NIfTI). A 4D NIfTI is a cine: every frame is segmented and
    the mask is 4D. Masks that other calls left in ``out`` stay, in the folder and in the table. Where ``out`` is a file
    ``mask.nii.gz``, table and report are ``mask_predictions.csv`` and ``mask_run_report.json`` beside it.

    Raises:
        SettingsError: If ``out`` is a run folder, another artifact or no place to write in, holds masks and
            ``overwrite`` is off, or is a file and there are several scans (nothing is done then).
        ArtifactError: If ``model`` is no segmenter.
        DataError: If there is nothing to segment; or, after all others are written, naming every scan that failed and,
            by reason, all that could not be read.
    """
    started = time.perf_counter()
    model = _load(settings.model)
    loaded = time.perf_counter() - started
    device = choose_device(settings.device)
    usual = model.facts.get("reader", "auto")
    channels = len(model.plan.channels)
    destination = Destination.of(settings.out)
    listing = find_scans(settings.scans, channels, settings.out, reader=settings.reader, usual=usual)
    scans = listing.scans
    if destination.mask and len(scans) == 1:
        scans = (replace(scans[0], output=Path(destination.mask)),)
    files = [
        destination.folder / name
        for scan in scans
        for name in outputs(scan.output, probabilities=settings.probabilities, uncertainty=settings.uncertainty)
    ]
    tables = [destination.beside(name) for name in (TABLE, REPORT)]
    check_places(destination, scans, files, tables, overwrite=settings.overwrite)
    for line in (*listing.skipped, *map(str, listing.faults)):
        say(line)
    collected_warnings(clear=True)
    rows: list[dict[str, Any]] = []
    faults: list[Fault] = []
    parts = dict.fromkeys(PARTS, 0.0)
    try:
        with task("predict", len(scans)) as bar:
            for scan in scans:
                rows.extend(segment_scan(scan, model, settings, destination, device, faults, parts))
                bar.advance(note=scan.output.name)
    finally:
        # Also when the user stops: what is written is recorded.
        if rows and not (destination.mask and faults):
            seconds = Seconds(loaded, time.perf_counter() - started, parts)
            record_predictions(settings, destination, model, rows, listing, seconds, device)
    for text, paths in collected_warnings().items():
        say(f"{len(paths)} files: {text}")
    if destination.mask:
        for line in sizes(rows):
            say(line)
    done = len(scans) - len(faults)
    say(f"{done} of {len(scans)} scans segmented into {settings.out}")
    if faults:
        message = f"{len(faults)} of {len(scans)} scans could not be segmented; the others are:"
        raise DataError(message, [*faults, *listing.faults])
    if listing.faults:
        raise DataError(f"All {done} scans that can be read are segmented, but there is more:", listing.faults)
    return settings.out


def find_model(place: Path) -> Artifact:
    """The segmenter that ``place`` is or, as a run folder, holds and uses; which of two is said.

    Raises:
        ArtifactError: If there is none.
    """
    opened: dict[Path, Artifact] = {}
    if (segmenter := Artifact.find(place, "segmenter")) is not None:
        segmenter.check_parents()
        return segmenter
    inside, why = segmenter_in_use(place, opened)
    if why:
        say(why)
    if (segmenter := opened.get(inside) or Artifact.find(inside, "segmenter")) is not None:
        segmenter.check_parents()
        return segmenter
    for folder in (place, inside):
        if (folder / MANIFEST).is_file():
            # Of several, none of the kind, the first says what is wrong.
            return Artifact.open(folder, "segmenter")
    problem = "is neither a segmenter nor a run folder with one" if place.exists() else "does not exist"
    fault = Fault(f"{place} {problem}", remedy="Give the folder that finetune or train made")
    raise ArtifactError("There is no model:", [fault])


def _load(place: Path) -> Segmenter:
    segmenter = Segmenter.load(find_model(place))
    if "plan" not in segmenter.facts:
        where = segmenter.folder / "segmenter.json"
        raise ArtifactError("There is no model:", [Fault(f"{where} does not say how its pixels were prepared")])
    return segmenter
