"""What lies among the annotations of a run and is none, keeps neither viewer from the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewlabel.core.errors import DataError
from fewlabel.core.progress import passing_through
from fewlabel.data.added_mask_reading import AnnotationMask
from fewlabel.data.masks_added_later import FOLDER
from fewlabel.data.store import PreparedStore
from fewlabel.pipelines import learn
from fewlabel.service.monai_label import answers
from fewlabel.service.monai_label.run_scans import FINAL, RunScans
from fewlabel.service.view.page_state import Viewing, page_state, scan_state
from fewlabel.service.view.predictions_on_demand import PredictionQueue
from fewlabel.service.view.viewed_scans import viewed_scans
from fewlabel.stages import relabel
from fewlabel.stages.suggest.evidence import Evidence
from kit.segmenters import nested_discs
from kit.viewing import discs_run


class Lines:
    """Keeps what is said."""

    def __init__(self, usual: object) -> None:
        self.usual, self.said = usual, list[str]()

    def __getattr__(self, name: str) -> object:
        return getattr(self.usual, name)

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with a mask of ``c``, and four files that are of no use."""
    from fewlabel.data.added_mask_reading import plan_with_ignored
    from fewlabel.data.annotation_saving import save_annotation
    from fewlabel.data.preprocess import Plan

    made = discs_run(tmp_path)
    store = PreparedStore(made / "prepared")
    case = next(case for case in store.cases if case.id == "c")
    folder = made / FOLDER
    save_annotation(folder, store.cases, case, plan_with_ignored(Plan.load(store.plan)), nested_discs(2))
    (folder / "stray.nii.gz").write_bytes(b"of nobody")
    (folder / "a.nii.gz").write_bytes(b"no image")
    for name in ("b.nii.gz", "b_seg.nii.gz"):
        (folder / name).write_bytes((folder / "c.nii.gz").read_bytes())
    return made


def test_serve_answers_and_says_once_what_it_leaves_out(run: Path) -> None:
    with passing_through(Lines) as heard:
        scans = RunScans(run)
        for _ in range(2):
            assert answers.info(scans, "5min")["datastore"]["label_tags"][FINAL] == 1
    assert [name for name, masks in scans.masks().items() if FINAL in masks] == ["c"]
    assert len(heard.said) == 3
    for words in ("stray.nii.gz: belongs to no prepared scan", "a.nii.gz", "b: has 2 masks"):
        assert sum(words in line for line in heard.said) == 1


def test_view_shows_the_masks_that_are_some(run: Path) -> None:
    viewing = Viewing(viewed_scans(run), PredictionQueue())
    told = page_state(viewing, "run")
    assert {scan["id"]: scan["added"] for scan in told["scans"]} == {"a": True, "b": False, "c": True, "t": False}
    assert any("stray.nii.gz" in note for note in told["notes"])
    assert any("b: has 2 masks" in note for note in told["notes"])
    by_id = {scan.case.id: scan_state(viewing, scan) for scan in viewing.scans.scans}
    assert by_id["c"]["annotation"]
    assert "has 2 masks" in by_id["b"]["problem"]
    assert "a.nii.gz" in by_id["a"]["problem"]


def test_suggest_counts_what_is_annotated_and_says_the_rest(run: Path) -> None:
    with passing_through(Lines) as heard:
        evidence = Evidence.of(run)
    assert "c" in evidence.annotated
    assert any("stray.nii.gz" in line for line in heard.said)


def test_learn_leaves_out_strays_of_the_run_and_refuses_those_of_a_folder_that_is_named(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.nii.gz", "b.nii.gz", "b_seg.nii.gz"):
        (run / FOLDER / name).unlink()
    taken: list[list[str]] = []

    def no_further(_: PreparedStore, masks: list[AnnotationMask], *__: object) -> None:
        taken.append([mask.case.id for mask in masks])
        raise KeyboardInterrupt

    monkeypatch.setattr(relabel, "write_relabelled", no_further)
    with passing_through(Lines) as heard, pytest.raises(KeyboardInterrupt):
        learn.run(learn.learn_settings({"run": run}))
    assert taken == [["c"]]
    left_out = [line for line in heard.said if "stray.nii.gz: belongs to no prepared scan" in line]
    assert len(left_out) == 1
    assert left_out[0].startswith("Left out of the masks: ")
    with pytest.raises(DataError, match=r"stray\.nii\.gz: belongs to no prepared scan"):
        learn.run(learn.learn_settings({"run": run, "masks": run / FOLDER}))
    assert len(taken) == 1
