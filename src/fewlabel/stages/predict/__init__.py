"""``predict``: a mask for every scan, on the scan's own grid and with the data set's own label values."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.artifact_folder import is_artifact
from fewlabel.core.artifact.own_files import PREDICT_JOURNAL, PREDICT_REPORT
from fewlabel.core.errors import ArtifactError, DataError, Fault
from fewlabel.core.progress import say, task
from fewlabel.core.unfinished_files import sweep_partials
from fewlabel.data.io.itk_log import collected_warnings
from fewlabel.engine.fitting_batch import fitting_batch
from fewlabel.engine.inference import usual_batch
from fewlabel.engine.lock import sole_run
from fewlabel.engine.runtime import choose_device, use_threads
from fewlabel.stages._model_or_control import find_segmenter
from fewlabel.stages._segmenter import Segmenter
from fewlabel.stages.predict.formats import MaskFormat, mask_format
from fewlabel.stages.predict.inputs import find_scans
from fewlabel.stages.predict.mask_names import Scan, named_scans
from fewlabel.stages.predict.output_destination import Destination, check_destination, check_files
from fewlabel.stages.predict.outputs import Seconds, outputs, record_predictions, sizes, standing
from fewlabel.stages.predict.resuming import TABLE, Earlier
from fewlabel.stages.predict.segmentation import PARTS, how_made, segment_scan
from fewlabel.stages.predict.settings import PredictSettings

__all__ = ["SETTINGS", "PredictSettings", "find_scans", "find_segmenter", "mask_path", "run"]

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
    use_threads(settings.threads)
    usual = model.facts.get("reader", "auto")
    channels = len(model.plan.channels)
    settings = _fitting(settings, model, device)
    destination = Destination.of(settings.out)
    form = mask_format(settings.format, destination.mask)
    listing = find_scans(
        settings.scans,
        channels,
        settings.out,
        reader=settings.reader,
        usual=usual,
        named=form.named,
        cases=settings.cases,
    )
    if destination.mask and len(listing.scans) == 1:
        listing = replace(listing, scans=(replace(listing.scans[0], output=Path(destination.mask)),))
    scans = listing.scans
    check_destination(destination, scans)
    rows: list[dict[str, Any]] = []
    faults: list[Fault] = []
    parts = dict.fromkeys(PARTS, 0.0)
    with _alone(destination):
        earlier = Earlier(destination, of_store=is_artifact(settings.scans, "prepared"))
        missing = _missing(settings, destination, model, form, device, earlier, scans)
        for line in (*listing.skipped, *map(str, listing.faults)):
            say(line)
        if kept := len(scans) - len(missing):
            say(f"{kept} of {len(scans)} masks are there already, made as they would be now: they stay")
        collected_warnings(clear=True)
        try:
            with task("predict", len(scans), kept) as bar:
                for scan in missing:
                    rows.extend(segment_scan(scan, model, settings, earlier, form, device, faults, parts))
                    bar.advance(note=scan.output.name)
        finally:
            # Also when the user stops: what is written is recorded.
            if (rows or kept) and not (destination.mask and faults):
                seconds = Seconds(loaded, time.perf_counter() - started, parts)
                record_predictions(settings, destination, model, form, rows, earlier, listing, seconds, device)
                earlier.close()
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


def mask_path(images: Sequence[Path], case: str) -> Path:
    """Where, below the output, the mask of a scan of a prepared folder goes.

    Args:
        images: One path per channel.
        case: The id of the scan.
    """
    return named_scans([(tuple(images), case)], images[0].parent)[0].output


@contextmanager
def _alone(destination: Destination) -> Iterator[None]:
    """Keep a folder of masks to this call, and clear away what killed ones left half written."""
    if destination.mask:
        sweep_partials(destination.folder, destination.mask)
        yield
        return
    with sole_run(destination.folder, lambda: check_destination(destination, ())):
        sweep_partials(destination.folder, below=True)
        yield


def _missing(
    settings: PredictSettings,
    destination: Destination,
    model: Segmenter,
    form: MaskFormat,
    device: str,
    earlier: Earlier,
    scans: Sequence[Scan],
) -> list[Scan]:
    """The scans whose masks are to be made: all but those that an earlier call made in the same way.

    Raises:
        SettingsError: If something else would be lost, or written elsewhere.
    """
    folder, in_the_way, missing = destination.folder, dict[Path, str](), []
    for scan in scans:
        output = scan.output.as_posix()
        there = standing(folder / output, form, settings.beside)
        known = not settings.overwrite and (there or output in earlier.records)
        if not known or not earlier.kept(output, how_made(scan, model, settings, form, device), there, in_the_way):
            missing.append(scan)
    files = [path for scan in missing for path in outputs(folder / scan.output, form, settings.beside)]
    tables = [destination.beside(name) for name in (TABLE, PREDICT_REPORT)]
    described = [destination.beside(name) for name in form.tables(model.plan, [scan.output for scan in scans])]
    if not (earlier.records or earlier.begun):
        others = (*described, *(tables if destination.mask else ()))
        in_the_way.update({path: "is there already" for path in others if path.exists()})
    journal = destination.beside(PREDICT_JOURNAL)
    check_files(destination, scans, [*files, *tables, *described, journal], in_the_way, overwrite=settings.overwrite)
    return missing


def _fitting(settings: PredictSettings, model: Segmenter, device: str) -> PredictSettings:
    """The settings, with the batch that memory has room for where that is less than what was asked for or is usual."""
    height, width = model.plan.size
    network = model.networks[0]
    wanted = settings.batch or usual_batch(network, device)
    fits = fitting_batch(network, (height, width), device, batch=settings.batch, window=model.window)
    if fits == wanted:
        return settings
    say(f"batch: {fits} instead of {wanted}, for which there is not enough memory")
    return settings.model_copy(update={"batch": fits})


def _load(place: Path) -> Segmenter:
    segmenter = Segmenter.load(find_segmenter(place))
    if "plan" not in segmenter.facts:
        where = segmenter.folder / "segmenter.json"
        raise ArtifactError("There is no model:", [Fault(f"{where} does not say how its pixels were prepared")])
    return segmenter
