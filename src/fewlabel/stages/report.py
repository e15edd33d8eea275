"""``report``: one self-contained HTML file on a run: what was done, on what, and what came out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewlabel import __version__
from fewlabel.core.artifact.artifact_folder import finish_artifact, is_artifact
from fewlabel.core.artifact.files import building
from fewlabel.core.errors import ArtifactError, Fault, SettingsError
from fewlabel.core.output_paths import conflict_sentence, outside_of, path_conflict
from fewlabel.core.progress import task
from fewlabel.core.rng import numpy_stream, stream_seed
from fewlabel.core.settings.base import PathSetting, Settings, setting
from fewlabel.data.store import PreparedCase, PreparedStore
from fewlabel.engine.runtime import Device, choose_device
from fewlabel.engine.weight_matching import read_tensors
from fewlabel.protocol.segmenter_store_compatibility import plan_differences
from fewlabel.reporting.blocks import Page, Section
from fewlabel.reporting.formatting import arm_name
from fewlabel.reporting.inputs import Inputs, find_folders, load_inputs
from fewlabel.reporting.page import write_report
from fewlabel.reporting.sections.best_and_worst_cases import ShownCase, case_section, pick_cases
from fewlabel.reporting.sections.data import data_section
from fewlabel.reporting.sections.embedding import EmbeddingView, LabelView, class_names, embedding_section
from fewlabel.reporting.sections.gradient_conflicts import gradient_section
from fewlabel.reporting.sections.headline import headline
from fewlabel.reporting.sections.leave_one_out import expected_section
from fewlabel.reporting.sections.provenance import provenance_section
from fewlabel.reporting.sections.scores import mean_dice, score_section
from fewlabel.reporting.sections.training import finetuning_section, pretraining_section
from fewlabel.reporting.sections.unlabelled_predictions import unlabelled_section
from fewlabel.scoring.component_rule import clean
from fewlabel.scoring.embedding import neighbour_purity, silhouette, tsne
from fewlabel.stages._cleaning_rule import prepared_voxel
from fewlabel.stages._model_or_control import choice_of
from fewlabel.stages._scans_to_show import candidates, shown_scans
from fewlabel.stages._segmenter import Segmenter

__all__ = ["SETTINGS", "ReportSettings", "candidates", "run"]

REPORT = "report.html"
EMBEDDINGS = "embeddings.safetensors"


class ReportSettings(Settings):
    """Settings of ``fewlabel report``: a run folder, or the artifact folders one by one."""

    run: PathSetting | None = setting(None, "run folder, as train or demo leaves it")
    out: PathSetting | None = setting(None, "folder of the report to make; null for RUN/report")
    prepared: PathSetting | None = setting(None, "prepared folder, if not that of the run")
    encoder: PathSetting | None = setting(None, "encoder folder, if not that of the run")
    segmenter: PathSetting | None = setting(None, "segmenter folder, if not that of the run")
    control: PathSetting | None = setting(None, "segmenter folder of the control, if not that of the run")
    scores: PathSetting | None = setting(None, "scores folder, if not that of the run")
    points: int = setting(1500, "slices on the map of embeddings, at most", unit="slices", ge=3, le=5000)
    perplexity: float = setting(30.0, "neighbours that count in t-SNE", ge=2, source="van der Maaten & Hinton 2008")
    neighbours: int = setting(10, "nearest neighbours that the purity of a slice is computed from", ge=1)
    unlabelled: int = setting(
        6,
        "unlabelled scans to show, from the least to the most confident, where no scan was scored",
        unit="scans",
        ge=0,
    )
    seed: int = setting(0, "seed of the map", ge=0)
    device: Device = setting("auto", "where to predict the scans that are shown")


SETTINGS = ReportSettings


def run(settings: ReportSettings) -> Path:
    """Make the report; an older one in the same place is replaced.

    Returns:
        The folder of the artifact of kind ``report``.

    Raises:
        SettingsError: If no place for the report is given, or ``out`` holds something else.
        ArtifactError: If there is no artifact, or one is unfinished, of another kind, or its parents changed.
    """
    started = time.monotonic()
    out = _place(settings)
    given = {name: getattr(settings, name) for name in ("prepared", "encoder", "segmenter", "control", "scores")}
    inputs = load_inputs(find_folders(settings.run, given))
    if settings.run is not None and settings.segmenter is None and settings.control is None:
        inputs = replace(inputs, use=choice_of(settings.run))
    page = compose(inputs, settings)
    with building(out) as folder:
        write_report(folder / REPORT, page)
        finish_artifact(
            folder,
            "report",
            [REPORT],
            parents=list(inputs.artifacts.values()),
            final_folder=out,
            settings=settings.record(),
            seed=settings.seed,
            wall_seconds=time.monotonic() - started,
        )
    return out


def _place(settings: ReportSettings) -> Path:
    out = settings.out or (settings.run / "report" if settings.run else None)
    if out is None:
        fault = Fault("is required without a run folder", "out", "Add --out DIR")
        raise SettingsError("These settings are not valid:", [fault])
    if settings.out is None and settings.run is not None and (place := outside_of(out / REPORT, settings.run)):
        fault = Fault(f"{out} would be written to {place}, outside of the run", remedy="Remove the link, or give --out")
        raise SettingsError("Nothing was written:", [fault])
    obstacle = path_conflict(out)
    if obstacle and not is_artifact(out, "report"):
        fault = Fault(conflict_sentence(out, obstacle), remedy="Give another --out")
        raise SettingsError("Nothing was written:", [fault])
    return out


def compose(inputs: Inputs, settings: ReportSettings) -> Page:
    """The page: the result first, then how it came about."""
    model, control = _arms(inputs)
    labelled = list(inputs.segmenter.facts.get("labelled_subjects", [])) if inputs.segmenter else []
    used = list(inputs.encoder.facts.get("meta_labels", [])) if inputs.encoder else []
    trained = {model: inputs.segmenter, control: inputs.control}
    expected = expected_section(trained)
    unlabelled = inputs.scores is None and None not in (inputs.used, inputs.store) and settings.unlabelled > 0
    sections: list[Section] = []
    makers: list[Callable[[], Section]] = [
        lambda: score_section(inputs.scores, model=model, control=control, left_out=expected is not None),
        *([] if expected is None else [lambda: expected]),
        *([lambda: _unlabelled(inputs, model, control, settings)] if unlabelled else []),
        lambda: _cases(inputs, {"model": model, "control": control}, settings),
        lambda: data_section(inputs.store, labelled),
        *_of_pretraining(inputs, settings, used),
        lambda: finetuning_section(trained),
        lambda: provenance_section(inputs.manifests),
    ]
    with task("report", len(makers)) as bar:
        for make in makers:
            sections.append(make())
            bar.advance(note=sections[-1].title)
    data = str(inputs.store.plan.get("dataset", "")) if inputs.store else ""
    name = settings.run.resolve().name if settings.run else ""
    made = max((manifest.created for manifest in inputs.manifests.values()), default="")[:10]
    return Page(
        title=f"Segmentation of {data} from few labels" if data else "Segmentation from few labels",
        subtitle=", ".join(part for part in (f"run {name}" if name else "", made) if part),
        headline=headline(inputs),
        sections=sections,
        footer=f"Made by fewlabel {__version__}. For research; not a medical device.",
    )


def _of_pretraining(inputs: Inputs, settings: ReportSettings, used: list[str]) -> list[Callable[[], Section]]:
    """What there is to say of an encoder; nothing where the network was trained from scratch."""
    encoder = inputs.encoder
    if encoder is None:
        return []
    return [
        lambda: pretraining_section(encoder),
        lambda: gradient_section(encoder),
        lambda: embedding_section(_embeddings(inputs, settings), used=used),
    ]


def _arms(inputs: Inputs) -> tuple[str, str]:
    """What the model and its control are called; never the same."""
    model = arm_name(str(inputs.segmenter.facts.get("initialisation", "")) if inputs.segmenter else "", inputs.method)
    control = arm_name(str(inputs.control.facts.get("initialisation", "")) if inputs.control else "scratch", "")
    if model != control:
        return model, control
    trained = (inputs.segmenter, inputs.control)
    ours, theirs = (str(training.facts.get("regime", "")) if training else "" for training in trained)
    if ours and theirs and ours != theirs:
        return f"{model}, {ours}", f"{control}, {theirs}"
    return f"{model} (model)", f"{control} (control)"


def _embeddings(inputs: Inputs, settings: ReportSettings) -> EmbeddingView | None:
    """The map of the encoder's embeddings and what its meta labels make of them."""
    if inputs.encoder is None or inputs.store is None:
        return None
    tensors = {
        name: array.numpy() for name, array in inputs.artifacts["encoder"].once(EMBEDDINGS, read_tensors).items()
    }
    if not tensors.keys() >= {"embeddings", "slices"}:
        path, held = inputs.encoder.folder / EMBEDDINGS, ", ".join(tensors) or "nothing"
        fault = Fault(f"{path} must hold embeddings and slices, not {held}", remedy="Make the encoder again")
        raise ArtifactError("An artifact is damaged:", [fault])
    embeddings, indices = tensors["embeddings"], tensors["slices"].astype(np.int64)
    available = len(indices)
    if available > settings.points:
        shown = np.sort(numpy_stream(settings.seed, "map").permutation(available)[: settings.points])
        embeddings, indices = embeddings[shown], indices[shown]
    if available < 3:
        return EmbeddingView(np.zeros((available, 2)), [], available)
    points = tsne(embeddings, seed=stream_seed(settings.seed, "t-SNE") % 2**32, perplexity=settings.perplexity)
    slices, store = inputs.store.slices.iloc[indices], inputs.store
    patients = slices["meta_patient"].to_numpy(np.int64)
    labels = []
    # Position first, as the guide that matters most; the patient, with the most classes, last.
    for name in sorted(store.meta_labels, key=lambda name: (name == "patient", name != "position")):
        codes = slices[f"meta_{name}"].to_numpy(np.int64)
        groups = None if name == "patient" else patients
        labels.append(
            LabelView(
                name=name,
                codes=codes,
                names=class_names(store, name),
                ordered=name == "position",
                purity=neighbour_purity(embeddings, codes, k=settings.neighbours, groups=groups),
                silhouette=silhouette(embeddings, codes),
            )
        )
    return EmbeddingView(points, labels, available)


def _cases(inputs: Inputs, names: dict[str, str], settings: ReportSettings) -> Section:
    """Best, median and worst scan, predicted again from the prepared store."""
    if inputs.scores is None or inputs.store is None or inputs.segmenter is None:
        return case_section(None, [])
    store = inputs.store
    trained = {"model": inputs.artifacts.get("segmenter"), "control": inputs.artifacts.get("control")}
    known = {case.id: case for case in store.cases}
    dice = {str(case): float(value) for case, value in mean_dice(inputs.scores.per_case, "model").items()}
    classes = [name for _, name in sorted(store.label_names.items())]
    if plan_differences(inputs.segmenter.facts, store.plan) or not all(case in known for case in dice):
        why = "The scores belong to other prepared scans than those given, so no scan can be shown."
        return case_section(None, classes, why)
    device = choose_device(settings.device)
    arms = {name: Segmenter.load(artifact) for name, artifact in trained.items() if artifact is not None}
    # Shown as they were scored.
    cleaned = bool(inputs.manifests["scores"].settings.get("postprocess", False))
    scored = {name: mean_dice(inputs.scores.per_case, name) for name in arms}
    shown = []
    for rank, case in pick_cases(dice):
        predictions, values = {}, {}
        for name, arm in arms.items():
            if case in scored[name].index:
                predictions[names[name]] = _predict(arm, store, known[case], device, cleaned=cleaned)[0]
                values[names[name]] = float(scored[name][case])
        start, stop = known[case].start, known[case].stop
        images = np.asarray(store.images[start:stop, 0], np.float32)
        shown.append(ShownCase(rank, case, images, np.asarray(store.labels[start:stop]), predictions, values))
    return case_section(shown, classes)


def _unlabelled(inputs: Inputs, model: str, control: str, settings: ReportSettings) -> Section:
    """Scans without labels as the segmenter in use predicts them."""
    if inputs.store is None or inputs.used is None:
        raise ValueError("scans are shown of a store by a segmenter")
    store, name = inputs.store, control if inputs.used is inputs.control else model
    classes = [label for _, label in sorted(store.label_names.items())]
    if plan_differences(inputs.used.facts, store.plan):
        why = "The segmentation network was made for other pixels than the prepared scans, so no scan can be shown."
        return unlabelled_section([], 0, classes, name, why)
    role = "control" if inputs.used is inputs.control else "segmenter"
    arm, device = Segmenter.load(inputs.artifacts[role]), choose_device(settings.device)
    learnt = {*arm.facts.get("labelled_subjects", ()), *arm.facts.get("validation_subjects", ())}
    cases = candidates(store, learnt)
    shown = shown_scans(store, cases, lambda case: _predict(arm, store, case, device), settings.unlabelled)
    return unlabelled_section(shown, len(cases), classes, name)


def _predict(
    arm: Segmenter, store: PreparedStore, case: PreparedCase, device: str, *, cleaned: bool = True
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """(depth, height, width) classes of a prepared scan, and their probabilities before they are cleaned."""
    images = np.asarray(store.images[case.start : case.stop], np.float32).swapaxes(0, 1)
    probabilities = arm.predict(images, device=device).probabilities
    whole = probabilities.argmax(axis=0).astype(np.uint8)
    return clean(whole, arm.rule if cleaned else None, prepared_voxel(store, case))[0], probabilities.max(axis=0)
