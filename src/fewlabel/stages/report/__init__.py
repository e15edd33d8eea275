"""``report``: one self-contained HTML file on a run: what was done, on what, and what came out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fewlabel import __version__
from fewlabel.core.artifact.artifact_folder import finish_artifact, is_artifact
from fewlabel.core.artifact.files import building, read_json
from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.output_paths import conflict_sentence, outside_of, path_conflict, round_folders
from fewlabel.core.progress import task
from fewlabel.reporting.blocks import Page, Section
from fewlabel.reporting.comparison import comparison_page
from fewlabel.reporting.formatting import arm_name
from fewlabel.reporting.inputs import ROLES, Inputs, find_folders, load_inputs
from fewlabel.reporting.page import write_report
from fewlabel.reporting.sections.basis import basis_section
from fewlabel.reporting.sections.data import data_section
from fewlabel.reporting.sections.embedding import embedding_section
from fewlabel.reporting.sections.gradient_conflicts import gradient_section
from fewlabel.reporting.sections.headline import headline
from fewlabel.reporting.sections.leave_one_out import expected_section
from fewlabel.reporting.sections.next_steps import next_section
from fewlabel.reporting.sections.provenance import provenance_section
from fewlabel.reporting.sections.quality_by_structure import structure_section
from fewlabel.reporting.sections.rounds import rounds_section
from fewlabel.reporting.sections.scores import score_section
from fewlabel.reporting.sections.training import finetuning_section, pretraining_section
from fewlabel.reporting.sections.volumes import stray_section, volume_section
from fewlabel.reporting.unseen_scores import unseen_scores
from fewlabel.stages._model_or_control import choice_of, round_in_use
from fewlabel.stages._scans_to_show import candidates
from fewlabel.stages.report.embedding_map import embedding_view
from fewlabel.stages.report.predicted_scans import scored_scans, unlabelled_scans
from fewlabel.stages.report.settings import ReportSettings

__all__ = ["SETTINGS", "ReportSettings", "candidates", "run"]

REPORT = "report.html"
NO_DEVICE = "For research; not a medical device."


SETTINGS = ReportSettings


def run(settings: ReportSettings) -> Path:
    """Make the report, of one run or of several side by side; an older one in the same place is replaced.

    Of a run with rounds of ``learn`` the network of the round in use is reported, and every round.

    Returns:
        The folder of the artifact of kind ``report``.

    Raises:
        SettingsError: If no place for the report is given, or ``out`` holds something else.
        ArtifactError: If there is no artifact, or one is unfinished, of another kind, or its parents changed.
    """
    started = time.monotonic()
    out = _place(settings)
    inputs = opened(settings.run, settings)
    if settings.run is not None and settings.beside:
        runs = {_called(place): opened(place) for place in (settings.run, *map(Path, settings.beside))}
        page = comparison_page(runs, f"Made by fewlabel {__version__}. {NO_DEVICE}")
        parents = [artifact for each in runs.values() for artifact in each.artifacts.values()]
    else:
        page = compose(inputs, settings, _rounds(settings.run))
        parents = list(inputs.artifacts.values())
    with building(out) as folder:
        write_report(folder / REPORT, page)
        finish_artifact(
            folder,
            "report",
            [REPORT],
            parents=parents,
            final_folder=out,
            settings=settings.record(out),
            seed=settings.seed,
            wall_seconds=time.monotonic() - started,
        )
    return out


def opened(run: Path | None, settings: ReportSettings | None = None) -> Inputs:
    """What there is to report of a run, or of the folders that the settings name.

    Raises:
        ArtifactError: As :func:`fewlabel.reporting.inputs.load_inputs`.
    """
    given = {name: getattr(settings, name, None) for name in ROLES}
    own = any(given[name] is not None for name in ("prepared", "segmenter", "control", "scores"))
    latest = None if run is None or own else round_in_use(run)[1]
    if latest is not None:
        # The scores and the control of the run are of what was before.
        return load_inputs({"prepared": latest.with_name("prepared"), "segmenter": latest})
    inputs = load_inputs(find_folders(run, given))
    return replace(inputs, use=choice_of(run)) if run is not None and not own else inputs


def _called(run: Path) -> str:
    """A run as the page names it: as it was given, without the folders that an absolute path begins with."""
    return run.name if run.is_absolute() and run.name else str(run)


def _rounds(run: Path | None) -> list[dict[str, Any]]:
    """Records of the finished rounds of ``learn``, in order."""
    folders = [] if run is None else round_folders(run)
    return [read_json(folder / "round.json") for folder in folders if is_artifact(folder, "round")]


def _place(settings: ReportSettings) -> Path:
    name = "comparison" if settings.beside else "report"
    out = settings.out or (settings.run / name if settings.run else None)
    if settings.beside and settings.run is None:
        fault = Fault("needs a first run", "beside", "Begin with fewlabel report RUN")
        raise SettingsError("These settings are not valid:", [fault])
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


def compose(inputs: Inputs, settings: ReportSettings, rounds: Sequence[Mapping[str, Any]] = ()) -> Page:
    """The page: what everybody is to know, and behind a fold how it came about.

    Args:
        inputs: What lies in the run.
        settings: Of the stage.
        rounds: Records of the finished rounds of ``learn``.
    """
    model, control = _arms(inputs)
    labelled = list(inputs.used.facts.get("labelled_subjects", [])) if inputs.used else []
    used = list(inputs.encoder.facts.get("meta_labels", [])) if inputs.encoder else []
    trained, names = {model: inputs.segmenter, control: inputs.control}, {"model": model, "control": control}
    expected, scores = expected_section(trained), unseen_scores(inputs)
    run = _called(settings.run) if settings.run else "RUN"
    clinical: list[Callable[[], Section | None]] = [
        lambda: basis_section(inputs.store, labelled, inputs.used),
        lambda: structure_section(scores),
        lambda: scored_scans(inputs, scores, names, settings) if scores else None,
        lambda: volume_section(scores) if scores else None,
        lambda: stray_section(scores) if scores else None,
        lambda: unlabelled_scans(inputs, names, settings),
        lambda: rounds_section(rounds),
        lambda: next_section(inputs, scores, run) if inputs.used else None,
    ]
    technical: list[Callable[[], Section | None]] = [
        lambda: score_section(inputs.scores, model=model, control=control) if inputs.scores else None,
        lambda: expected,
        lambda: data_section(inputs.store, labelled),
        *_of_pretraining(inputs, settings, used),
        lambda: finetuning_section(trained),
        lambda: provenance_section(inputs.manifests),
    ]
    made: dict[str, list[Section]] = {"clinical": [], "technical": []}
    with task("report", len(clinical) + len(technical)) as bar:
        for part, makers in (("clinical", clinical), ("technical", technical)):
            for make in makers:
                section = make()
                made[part] += [] if section is None else [section]
                bar.advance(note="" if section is None else section.title)
    data = str(inputs.store.plan.get("dataset", "")) if inputs.store else ""
    name = settings.run.resolve().name if settings.run else ""
    date = max((manifest.created for manifest in inputs.manifests.values()), default="")[:10]
    return Page(
        title=f"Segmentation of {data} from few labels" if data else "Segmentation from few labels",
        subtitle=", ".join(part for part in (f"run {name}" if name else "", date) if part),
        headline=headline(inputs),
        sections=made["clinical"],
        technical=made["technical"],
        footer=f"Made by fewlabel {__version__}. {NO_DEVICE}",
    )


def _of_pretraining(inputs: Inputs, settings: ReportSettings, used: list[str]) -> list[Callable[[], Section | None]]:
    """What there is to say of an encoder; nothing where the network was trained from scratch."""
    encoder = inputs.encoder
    if encoder is None:
        return []
    return [
        lambda: pretraining_section(encoder),
        lambda: gradient_section(encoder),
        lambda: embedding_section(embedding_view(inputs, settings), used=used),
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
