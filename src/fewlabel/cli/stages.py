"""The commands of single stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from fewlabel.cli.overrides import Device, Out, Reader, Recipe, Resume, Run, Words, collect, is_assignment
from fewlabel.cli.pipelines import PANEL as WHOLE_WAY
from fewlabel.cli.terminal_output import rank, stdout

PANEL = "Stage by stage"

Prepared = Annotated[str, typer.Argument(metavar="PREPARED", help="Folder made by prepare.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(rich_help_panel=WHOLE_WAY)(predict)
    app.command(rich_help_panel=WHOLE_WAY)(suggest)
    for command in (prepare, merge, relabel, pretrain, finetune, evaluate, export, report):
        app.command(rich_help_panel=PANEL)(command)


def _run(
    stage: str,
    main: Mapping[str, str | None],
    words: Sequence[str] | None,
    recipe: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> None:
    values = collect(main, words, options)
    from fewlabel.pipelines.stage_table import run_values

    folder = run_values(stage, values, recipe)
    if rank() == 0:
        stdout().print(str(folder), soft_wrap=True)


def prepare(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Folder or table of scans.")],
    words: Words = None,
    *,
    out: Out = None,
    recipe: Recipe = None,
    reader: Reader = None,
) -> None:
    """Bring scans onto one grid, with their metadata and a split."""
    _run("prepare", {"data": data}, words, recipe, {"out": out, "reader": reader})


def merge(
    data: Prepared,
    others: Annotated[list[str], typer.Argument(metavar="PREPARED...", help="Further folders made by prepare.")],
    *,
    out: Out = None,
) -> None:
    """Join prepared folders into one, to pre-train on all of them."""
    folders = [word for word in others if not is_assignment(word)]
    words = [word for word in others if is_assignment(word)]
    _run("merge", {"data": data}, words, None, {"others": folders or None, "out": out})


def relabel(
    data: Prepared,
    masks: Annotated[str, typer.Argument(metavar="MASKS", help="Folder of masks, each named by its scan.")],
    words: Words = None,
    *,
    out: Out = None,
) -> None:
    """Take new and corrected masks into prepared scans."""
    _run("relabel", {"data": data, "masks": masks}, words, None, {"out": out})


def pretrain(
    data: Prepared,
    words: Words = None,
    *,
    out: Out = None,
    recipe: Recipe = None,
    resume: Resume = False,
    device: Device = None,
) -> None:
    """Train an encoder on slices without labels."""
    _run("pretrain", {"data": data}, words, recipe, {"out": out, "resume": resume, "device": device})


def finetune(
    data: Prepared,
    words: Words = None,
    *,
    out: Out = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", metavar="DIR", help="Folder made by pretrain; none is from scratch.")
    ] = None,
    recipe: Recipe = None,
    resume: Resume = False,
    device: Device = None,
) -> None:
    """Train a segmentation network on the few labels."""
    options = {"out": out, "encoder": encoder, "resume": resume, "device": device}
    _run("finetune", {"data": data}, words, recipe, options)


def evaluate(
    data: Prepared,
    words: Words = None,
    *,
    out: Out = None,
    segmenter: Annotated[
        str | None, typer.Option("--segmenter", metavar="DIR", help="Folder made by finetune (required).")
    ] = None,
    control: Annotated[
        str | None, typer.Option("--control", metavar="DIR", help="Folder of the network to compare with.")
    ] = None,
    recipe: Recipe = None,
    device: Device = None,
) -> None:
    """Score a network on test patients, against a control."""
    options = {"out": out, "segmenter": segmenter, "control": control, "device": device}
    _run("evaluate", {"data": data}, words, recipe, options)


def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Folder made by finetune, train or demo.")],
    scans: Annotated[str, typer.Argument(metavar="SCANS", help="A scan or a folder of scans.")],
    words: Words = None,
    *,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="DIR|FILE", help="Folder of the masks, or file for one scan's (required)."),
    ] = None,
    flip: Annotated[bool, typer.Option("--flip", help="Average over mirrored copies.")] = False,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Write probability maps too.")] = False,
    reader: Reader = None,
    device: Device = None,
) -> None:
    """Write a mask for each scan, on the scan's own grid."""
    options = {"out": out, "flip": flip, "probabilities": probabilities, "reader": reader, "device": device}
    _run("predict", {"model": model, "scans": scans}, words, None, options)


def suggest(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Folder made by train or demo, or by prepare.")],
    words: Words = None,
    *,
    count: Annotated[int | None, typer.Option("--count", metavar="K", help="Scans to suggest; 5 by default.")] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="The table; RUN/suggestions.csv by default.")
    ] = None,
    device: Device = None,
) -> None:
    """Say which scans to annotate next, and why; beside a choice at random."""
    _run("suggest", {"run": run}, words, None, {"count": count, "out": out, "device": device})


def export(
    source: Annotated[str, typer.Argument(metavar="RUN", help="Run folder, or the folder of a stage.")],
    words: Words = None,
    *,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="TARGET", help="Required: onnx, monai_bundle, nnunet_raw, nnunet or monai."),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="FILE|DIR", help="The file or folder (required)."),
    ] = None,
) -> None:
    """Write what was trained for other programs."""
    _run("export", {"source": source}, words, None, {"to": to, "out": out})


def report(
    run: Run,
    others: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN...]", help="Further runs to put beside it, and settings.")
    ] = None,
    *,
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="Where the page goes; RUN/report by default.")
    ] = None,
) -> None:
    """Write one HTML page about a run, or about several side by side."""
    beside = [word for word in others or [] if not is_assignment(word)]
    words = [word for word in others or [] if is_assignment(word)]
    _run("report", {"run": run}, words, None, {"out": out, "beside": beside or None})
