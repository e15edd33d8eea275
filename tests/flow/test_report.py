"""From artifact folders to one HTML file, whole and with every part missing in turn."""

from __future__ import annotations

import re
import shutil

import pytest

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.errors import ArtifactError, SettingsError
from fewlabel.stages.report import ReportSettings, run
from kit.runs import make_encoder, make_run, make_scores, make_segmenter
from kit.stores import make_store


def report(**values):
    folder = run(ReportSettings.parse({key: str(value) for key, value in values.items()}))
    return folder, (folder / "report.html").read_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("whole") / "run", subjects=8, size=(32, 32), unlabelled=2)


@pytest.fixture(scope="module")
def page(whole):
    return report(run=whole)


def test_report_is_an_artifact_of_its_parents(whole, page):
    folder, html = page
    manifest = Artifact.open(folder, "report").manifest
    assert folder == whole / "report"
    assert manifest.files.keys() == {"report.html"}
    assert [parent.kind for parent in manifest.parents] == ["prepared", "encoder", "segmenter", "segmenter", "scores"]
    assert [parent.path for parent in manifest.parents][:2] == ["../prepared", "../encoder"]
    assert len(html) < 4_000_000


def test_whole_run_shows_everything(page):
    _, html = page
    for words in (
        "No verdict: ", "gain in Dice over the control", "Dice by class", "Best: ", "Median: ", "Worst: ",
        "pre-trained with gcl, mean Dice", "from scratch, mean Dice", "Metadata of the slices", "collapse value",
        "Effective rank", "Cosine between gradients", "Conflict rate by level", "How pure are neighbourhoods?",
        "Fine-tuning loss", "content hash", "Settings of encoder", "What it was trained on", "first third",
        "Volumes against the annotation", "limits of agreement", "Stray objects", "Predictions on unlabelled scans",
        "What to do next", "fewlabel suggest",
    ):  # fmt: skip
        assert words in html, words
    assert html.count('class="missing"') == 1  # no validation with one patient
    assert not re.search("https?:", re.sub(r'(src|href)="data:[^"]*"', "", html))


def test_what_explains_comes_after_what_everybody_is_to_know_and_is_folded(page):
    _, html = page
    before, fold, after = html.partition('<details class="technical"')
    assert fold
    for words in ("What it was trained on", "How good it is", "What to do next"):
        assert words in before.partition("</nav>")[2]
    for words in ("Effective rank", "Cosine between gradients", "t-SNE", "content hash"):
        assert words in after
        assert words not in before


def test_runs_stand_side_by_side(whole, tmp_path):
    other = make_run(tmp_path / "other", subjects=8, size=(32, 32), unlabelled=3)
    folder = run(ReportSettings.parse({"run": str(whole), "beside": [str(other)]}))
    html = (folder / "report.html").read_text()
    assert folder == whole / "comparison"
    for words in ("2 runs side by side", "Dice by structure", "Differences on the same scans", "Settings that differ"):
        assert words in html, words
    parents = Artifact.open(folder, "report").manifest.parents
    assert sum(parent.kind == "scores" for parent in parents) == 2


def test_same_run_gives_the_same_page_and_replaces_it(whole, page):
    before = Artifact.open(page[0], "report").content_hash
    folder, _ = report(run=whole)
    assert Artifact.open(folder, "report").content_hash == before


def test_scratch_only_run_degrades_in_words(tmp_path):
    prepared = make_store(tmp_path / "prepared", subjects=4, depth=4, size=(16, 16))
    segmenter = make_segmenter(tmp_path / "segmenter", prepared, validation=True)
    make_scores(tmp_path / "scores", prepared, segmenter, None)
    _, html = report(run=tmp_path)
    for words in ("No control was scored", "no control, so"):
        assert words in html, words
    # Nothing is said of a pre-training where there was none.
    for words in ("Pre-training", "encoder has learnt", "contradict"):
        assert words not in html, words
    assert "No validation curve" not in html
    assert "Validation Dice" in html
    assert "Best: " in html


def test_run_without_labels_reports_its_encoder(tmp_path):
    prepared = make_store(tmp_path / "data", subjects=3, depth=4, size=(16, 16), unlabelled=["patient001"])
    encoder = make_encoder(tmp_path / "enc", prepared, labels=("views",), steps=5)
    folder, html = report(prepared=prepared, encoder=encoder, out=tmp_path / "out")
    assert folder == tmp_path / "out"
    for words in ("Nothing was scored", "No fine-tuning", "simclr used no meta labels"):
        assert words in html, words
    # What cannot be said has no section.
    for words in ("Best, median and worst", "Volumes against", "What to do next", "Segmentation quality"):
        assert words not in html, words
    alone = tmp_path / "alone"
    assert "not given, so they cannot be described" in report(encoder=encoder, out=alone)[1]


def test_faults_are_told(tmp_path, whole):
    with pytest.raises(ArtifactError, match="holds no finished artifact"):
        report(run=tmp_path)
    with pytest.raises(SettingsError, match="out: is required without a run folder"):
        report(prepared=whole / "prepared")
    busy = tmp_path / "busy"
    busy.mkdir()
    (busy / "notes.txt").write_text("mine")
    with pytest.raises(SettingsError, match="is not empty"):
        report(run=whole, out=busy)
    assert (busy / "notes.txt").read_text() == "mine"
    with pytest.raises(ArtifactError, match=r"is an artifact of kind .*, not scores"):
        report(run=whole, scores=whole / "encoder", out=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_changed_parent_is_refused(tmp_path):
    prepared = make_store(tmp_path / "prepared", subjects=3, depth=3, size=(16, 16))
    make_segmenter(tmp_path / "segmenter", prepared)
    shutil.rmtree(prepared)
    make_store(prepared, subjects=3, depth=3, size=(16, 16), seed=1)
    with pytest.raises(ArtifactError, match="has changed since"):
        report(run=tmp_path)
