"""``predict``: a mask for every scan, on the scan's own grid and with the data set's own label values."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.files import MANIFEST
from fewlabel.core.artifact.manifest import Artifact, is_artifact
from fewlabel.core.errors import ArtifactError, DataError, Fault, SettingsError
from fewlabel.core.output_paths import RUN_FILE, path_conflict, unwritable
from fewlabel.core.progress import say, task
from fewlabel.data.io.catalog_paths import files_behind
from fewlabel.data.io.itk_log import collected_warnings
from fewlabel.engine.runtime import choose_device
from fewlabel.stages._segmenter import Segmenter
from fewlabel.stages._segmenter_in_use import segmenter_in_use
from fewlabel.stages.predict.inputs import find_scans
from fewlabel.stages.predict.names import Scan
from fewlabel.stages.predict.outputs import Seconds, outputs, record_predictions
from fewlabel.stages.predict.segmentation import PARTS, segment_scan
from fewlabel.stages.predict.settings import PredictSettings

__all__ = ["SETTINGS", "PredictSettings", "find_model", "run"]

SETTINGS = PredictSettings


def run(settings: PredictSettings) -> Path:
    """Write masks, ``predictions.csv`` and ``run_report.json``.

    A mask has the name, format and geometry of its scan (formats that cannot hold a mask in one lossless file change:
    JPEG to PNG, MHD to MHA, NHDR to NRRD, HDR to NII, h5 to NIfTI). A 4D NIfTI is a cine: every frame is segmented and
    the mask is 4D. Masks that other calls left in ``out`` stay, in the folder and in the table.

    Raises:
        SettingsError: If ``out`` is a run folder, another artifact or no place to write in, or holds masks and
            ``overwrite`` is off (nothing is done then).
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
    listing = find_scans(settings.scans, channels, settings.out, reader=settings.reader, usual=usual)
    _check_out(settings, listing.scans)
    for line in (*listing.skipped, *map(str, listing.faults)):
        say(line)
    collected_warnings(clear=True)
    rows: list[dict[str, Any]] = []
    faults: list[Fault] = []
    parts = dict.fromkeys(PARTS, 0.0)
    try:
        with task("predict", len(listing.scans)) as bar:
            for scan in listing.scans:
                rows.extend(segment_scan(scan, model, settings, device, faults, parts))
                bar.advance(note=scan.output.name)
    finally:
        # Also when the user stops: what is written is recorded.
        if rows:
            seconds = Seconds(loaded, time.perf_counter() - started, parts)
            record_predictions(settings, model, rows, listing, seconds, device)
    for text, paths in collected_warnings().items():
        say(f"{len(paths)} files: {text}")
    done = len(listing.scans) - len(faults)
    say(f"{done} of {len(listing.scans)} scans segmented into {settings.out}")
    if faults:
        message = f"{len(faults)} of {len(listing.scans)} scans could not be segmented; the others are:"
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


def _check_out(settings: PredictSettings, scans: Sequence[Scan]) -> None:
    out = settings.out
    faults = []
    if obstacle := unwritable(out) if out.is_dir() else path_conflict(out):
        faults.append(Fault(f"cannot be written, because of {obstacle}", str(out), "Give another --out"))
    elif (out / RUN_FILE).is_file():
        remedy = f"Give masks a folder of their own, such as {out / 'masks'}"
        faults.append(Fault(f"--out {out} is a run folder", remedy=remedy))
    elif (out / MANIFEST).is_file() and not is_artifact(out, "predictions"):
        faults.append(Fault(f"--out {out} holds another artifact", remedy="Give a new folder"))
    top = out.resolve()
    inputs = {file.resolve() for scan in scans for path in scan.images for file in files_behind(path)}
    for scan in scans:
        targets = outputs(scan.output, probabilities=settings.probabilities, uncertainty=settings.uncertainty)
        for target in (out / target for target in targets):
            if not target.parent.resolve().is_relative_to(top):
                # A link in the output folder: what is written must not follow it.
                problem = f"{target} would be written to {target.parent.resolve()}, outside of --out"
                faults.append(Fault(problem, remedy="Remove the link, or give another --out"))
            elif target.resolve() in inputs:
                faults.append(Fault(f"{target} is a scan, which a mask would replace", remedy="Give another --out"))
            elif target.exists() and not settings.overwrite:
                remedy = "Give another --out, or overwrite=true"
                faults.append(Fault(f"{target} is there already", remedy=remedy))
    if faults:
        raise SettingsError("Nothing was written:", faults)
