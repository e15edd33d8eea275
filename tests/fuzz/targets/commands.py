"""Whole commands: what ``check`` passes is prepared, and ``predict`` segments what it can of any folder or table."""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path

from fewlabel.core.errors import FewlabelError
from fuzz.targets import files, readers
from fuzz.targets.base import Target


class PassedAndFailedError(Exception):
    """``check`` found no fault, and ``prepare`` did."""


def prepare_what_check_passes(folder: Path, index: int) -> None:
    """``check``, and if it finds nothing ``prepare``, which then finds nothing either."""
    from fewlabel.stages import prepare

    _once()
    settings = prepare.PrepareSettings.parse({"data": folder, "out": folder / "out", "workers": 1, "split": "random"})
    readers.named(prepare.check(settings).faults)
    try:
        prepare.run(settings)
    except FewlabelError as error:
        raise PassedAndFailedError(str(error)) from error


@cache
def _model() -> Path:
    """A tiny segmenter, made once for a process; not among the temporary files, which are those of an input."""
    from kit.segmenters import disc_plan, make_segmenter

    home = Path(tempfile.mkdtemp(dir=os.environ.get("XDG_DATA_HOME")))
    return make_segmenter(home / "segmenter", disc_plan(size=(16, 16), spacing=(1.0, 1.0)))


@cache
def _once() -> None:
    """The model is no part of an input, nor is the commit of the sources: both are asked for once in a process."""
    from fewlabel.core import provenance
    from fewlabel.core.artifact import artifact_folder
    from fewlabel.stages._segmenter import Segmenter

    model, revision = Segmenter.load(_model()), provenance.git_revision()
    Segmenter.load = lambda *_, **__: model  # type: ignore[method-assign]
    artifact_folder.git_revision = lambda: revision


def predict(place: str):
    """Segment what lies at a place into a folder of its own."""

    def meet(folder: Path, index: int) -> None:
        from kit.tiny import run_predict

        _once()
        run_predict(_model(), folder / place, folder / "out", overwrite=True)

    return meet


def scans() -> None:
    """A folder of scans in several formats."""
    for name in ("a.nii.gz", "b.nii", "c.nrrd", "d.mha"):
        readers.image(f"in/{name}")
    files.pictures(".png", ".png")()
    Path("image.png").rename("in/e.png")
    Path("mask.png").unlink()


def table() -> None:
    """A table that names scans and what they are called."""
    for number, name in enumerate("ab"):
        readers.image(f"in/{name}.nii.gz", number)
    Path("in/scans.csv").write_text("image,case,subject\na.nii.gz,first,s1\nb.nii.gz,second,s2\n")


def cases() -> None:
    """A folder of nnU-Net of four cases, one without a label."""
    from kit.scans import nnunet_folder

    nnunet_folder(Path(), ("a", "b", "c", "d"), labelled=("a", "b", "c"), shape=readers.SHAPE)


COMMANDS = [
    Target("command-predict-folder", "command", scans, predict("in")),
    Target("command-predict-table", "command", table, predict("in/scans.csv")),
    Target("command-check-prepare", "command", cases, prepare_what_check_passes),
]
