"""What the page is told and what it may change, on a run of tiny scans."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from starlette.testclient import TestClient

from fewlabel.core.artifact.files import write_json
from fewlabel.data.io.volume_reading import read_mask, read_volume
from fewlabel.service.learning_job import LearningJob
from fewlabel.service.view import classes_beside_scans
from fewlabel.service.view.page_routes import view_app
from fewlabel.service.view.page_state import Viewing
from fewlabel.service.view.predictions_on_demand import PredictionQueue
from fewlabel.service.view.viewed_scans import viewed_scans
from fewlabel.service.view.volumes_for_browser import nifti_bytes
from kit.dicom import write_slices
from kit.h5 import atrium_folder
from kit.pictures import write_picture
from kit.scans import noise, write_scan
from kit.segmenters import LABELS, make_segmenter, nested_discs
from kit.viewing import discs_run, wait_until

A, B, C, T = range(4)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return discs_run(tmp_path_factory.mktemp("made"))


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    # With its scans, which it finds from where it lies.
    return Path(shutil.copytree(made.parent, tmp_path / "made")) / "run"


def page(place: Path, code: str = "", **over: Any) -> TestClient:
    """The page's way to the server; ``learn`` runs this code."""
    learn = LearningJob(place, [sys.executable, "-c", code]) if code else None
    return TestClient(view_app(Viewing(viewed_scans(place, **over), PredictionQueue(), learn), "run"))


def voxels(answer: Any) -> np.ndarray:
    """(z, y, x) of what was sent."""
    assert answer.status_code == 200, answer.text
    return np.asarray(nibabel.Nifti1Image.from_bytes(answer.content).dataobj).transpose(2, 1, 0)


def predicted(browser: TestClient, place: int) -> np.ndarray:
    assert browser.post(f"/api/scans/{place}/prediction").status_code == 202
    state: Callable[[], str] = lambda: browser.get(f"/api/scans/{place}/prediction/state").json()["state"]  # noqa: E731
    wait_until(lambda: state() in {"done", "failed"}, "a prediction")
    assert state() == "done"
    return voxels(browser.get(f"/api/scans/{place}/prediction"))


def test_the_page_learns_what_there_is(run: Path) -> None:
    pd.DataFrame({"case": ["c", "b"], "disagreement": [0.25, None]}).to_csv(run / "suggestions.csv")
    state = page(run, "pass").get("/api/state").json()
    assert state["title"] == "run"
    assert [(each["name"], each["value"]) for each in state["classes"]] == [("core", 7), ("ring", 40)]
    assert state["classes"][0]["colour"] == [86, 180, 233]
    assert {key: state[key] for key in ("predicts", "saves", "learns")} == dict.fromkeys(
        ("predicts", "saves", "learns"), True
    )
    rows = {row["id"]: row for row in state["scans"]}
    assert list(rows) == ["a", "b", "c", "t"]
    assert [rows[name]["learnt"] for name in rows] == [True, True, False, False]
    assert [rows[name]["labelled"] for name in rows] == [True, True, False, True]
    assert [rows[name]["part"] for name in rows] == ["", "", "", "test"]
    assert [rows[name]["disagreement"] for name in rows] == [None, None, 0.25, None]


def test_scan_and_annotation_are_those_of_the_files(run: Path) -> None:
    browser = page(run)
    answer = browser.get(f"/api/scans/{A}/image?channel=0")
    scan = viewed_scans(run).scans[A]
    sent, source = nibabel.Nifti1Image.from_bytes(answer.content), nibabel.load(scan.images[0])
    np.testing.assert_allclose(sent.affine, source.affine, atol=1e-4)
    assert np.array_equal(sent.get_fdata(), source.get_fdata())
    mask = nested_discs(0)
    expected = 1 * (mask == LABELS["core"]) + 2 * (mask == LABELS["ring"])
    assert np.array_equal(voxels(browser.get(f"/api/scans/{A}/annotation")), expected)
    about = browser.get(f"/api/scans/{A}").json()
    assert about["shape"] == [22, 26, 6]
    # The slices lie along the last axis of the file, 8 mm apart.
    assert about["slice_axis"] == 2
    assert about["spacing"] == pytest.approx([1.5, 2, 8])
    assert (about["annotation"], about["prediction"], about["dice"]) == (True, False, None)
    assert browser.get(f"/api/scans/{C}/annotation").status_code == 404
    for path in ("4", "9/image", "0/image?channel=1", "0/image?channel=x", "0/prediction", "0/errors", "0/nothing"):
        assert browser.get(f"/api/scans/{path}").status_code == 404
    assert browser.get("/api/scans/x").status_code == 404


def test_predictions_are_made_once_and_kept_beside_the_run(run: Path) -> None:
    browser = page(run)
    mask = predicted(browser, T)
    (file,) = (run / "viewed").glob("*/t.nii.gz")
    values = read_mask(file)
    assert np.array_equal(values == LABELS["ring"], mask == 2)
    before = file.stat().st_mtime_ns
    predicted(browser, T)
    assert file.stat().st_mtime_ns == before
    annotation = voxels(browser.get(f"/api/scans/{T}/annotation"))
    errors = voxels(browser.get(f"/api/scans/{T}/errors"))
    assert np.array_equal(errors > 0, mask != annotation)
    dice = browser.get(f"/api/scans/{T}").json()["dice"]
    assert dice[1] == pytest.approx(
        2 * ((mask == 2) & (annotation == 2)).sum() / ((mask == 2).sum() + (annotation == 2).sum())
    )
    # A page that is opened anew finds it.
    assert page(run).get(f"/api/scans/{T}").json()["prediction"]


def test_a_scan_that_cannot_be_predicted_says_why(run: Path) -> None:
    browser = page(run)
    scan = viewed_scans(run).scans[C].images[0]
    content = scan.read_bytes()
    scan.write_bytes(content[:100])
    try:
        browser.post(f"/api/scans/{C}/prediction")
        state: Callable[[], Any] = lambda: browser.get(f"/api/scans/{C}/prediction/state").json()  # noqa: E731
        wait_until(lambda: state()["state"] == "failed", "a prediction that fails")
        assert "c_0000.nii.gz" in state()["problem"]
        answer = browser.get(f"/api/scans/{C}/image")
        assert answer.status_code == 422
        assert "c_0000.nii.gz" in answer.json()["detail"]
    finally:
        scan.write_bytes(content)
    predicted(browser, C)


def test_a_drawing_is_saved_shown_and_listed(run: Path) -> None:
    browser = page(run)
    geometry = read_volume(viewed_scans(run).scans[C].images).geometry
    drawing = np.zeros(geometry.shape, np.uint8)
    drawing[2, 5:9, 3] = 2
    answer = browser.post(f"/api/scans/{C}/annotation", content=nifti_bytes(drawing, geometry))
    assert answer.status_code == 201, answer.text
    assert answer.json()["file"] == "c.nii.gz"
    assert np.array_equal(read_mask(run / "annotations" / "c.nii.gz") == LABELS["ring"], drawing == 2)
    assert np.array_equal(voxels(browser.get(f"/api/scans/{C}/annotation")), drawing)
    row = browser.get("/api/state").json()["scans"][C]
    assert row["added"]
    assert row["saved"]["who"] == answer.json()["who"]


def test_slices_that_do_not_count_are_left_open(run: Path) -> None:
    browser = page(run)
    answer = browser.get(f"/api/scans/{A}/annotation")
    body = answer.content
    assert browser.post(f"/api/scans/{A}/annotation?slices=3,1", content=body).status_code == 201
    values = read_mask(run / "annotations" / "a.nii.gz")
    assert (values[[0, 2, 4, 5]] == 255).all()
    assert np.array_equal(values[[1, 3]], nested_discs(0)[[1, 3]])
    # Voxels that nobody looked at come back as the index after the last class.
    assert (voxels(browser.get(f"/api/scans/{A}/annotation"))[0] == 3).all()
    for words in ("slices=6", "slices="):
        assert browser.post(f"/api/scans/{A}/annotation?{words}", content=body).status_code == 422


def test_a_mask_that_cannot_be_used_keeps_nobody_from_looking(run: Path) -> None:
    write_scan(run / "annotations" / "c.nii.gz", np.ones((1, 2, 3), np.uint8))
    browser = page(run)
    about = browser.get(f"/api/scans/{C}").json()
    assert not about["annotation"]
    assert "c.nii.gz: has shape (1, 2, 3)" in about["problem"]
    assert browser.get(f"/api/scans/{C}/image").status_code == 200
    write_scan(run / "annotations" / "c_seg.nrrd", np.ones((1, 2, 3), np.uint8))
    state = browser.get("/api/state").json()
    assert [row["id"] for row in state["scans"]] == ["a", "b", "c", "t"]
    assert any("c: has 2 masks" in note for note in state["notes"])


def test_a_drawing_that_is_none_is_refused_with_the_reason(run: Path) -> None:
    browser = page(run)
    geometry = read_volume(viewed_scans(run).scans[C].images).geometry
    wrong = np.full(geometry.shape, 4, np.uint8)
    for body, reason in ((b"no", "is no NIfTI file"), (nifti_bytes(wrong, geometry), "holds 4; classes are 0 to 2")):
        answer = browser.post(f"/api/scans/{C}/annotation", content=body)
        assert answer.status_code == 422
        assert reason in answer.json()["detail"]
    assert not (run / "annotations").exists()


def test_numbers_of_thousands_of_digits_are_those_of_nothing(run: Path) -> None:
    browser, huge = page(run), "9" * 5000
    for place in (huge, "x", "-1", "1_0"):
        assert browser.get(f"/api/scans/{place}/image").status_code == 404
    assert browser.get(f"/api/scans/{A}/image?channel={huge}").status_code == 404
    content = browser.get(f"/api/scans/{A}/annotation").content
    refused = browser.post(f"/api/scans/{C}/annotation?slices=1,{huge}", content=content)
    assert refused.status_code == 422
    assert "There is no slice '999999999'" in refused.json()["detail"]


def test_a_full_disk_is_said(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*words: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "c.nii.gz")

    monkeypatch.setattr("fewlabel.data.annotation_saving.write_mask", full)
    browser = page(run)
    answer = browser.post(f"/api/scans/{C}/annotation", content=browser.get(f"/api/scans/{A}/annotation").content)
    assert answer.status_code == 507
    assert answer.json()["detail"] == "c.nii.gz: No space left on device."


def test_a_round_is_begun_once_and_its_result_is_shown(run: Path) -> None:
    write_json(run / "round.json", {"round": 1, "taken": True, "reason": "it is better"})
    wait = run / "go"
    code = f"import pathlib, time\nwhile not pathlib.Path({str(wait)!r}).exists(): time.sleep(.02)\nprint({str(run)!r})"
    browser = page(run, code)
    assert browser.get("/api/learn").json() == {"status": "", "lines": [], "round": None}
    assert browser.post("/api/learn").json()["status"] == "RUNNING"
    assert browser.post("/api/learn").status_code == 409
    wait.touch()
    wait_until(lambda: browser.get("/api/learn").json()["status"] != "RUNNING", "the round")
    state = browser.get("/api/learn").json()
    assert (state["status"], state["lines"]) == ("DONE", [str(run)])
    assert state["round"] == {"number": 1, "taken": True, "reason": "it is better"}


def test_what_another_program_changed_in_the_run_is_shown(run: Path) -> None:
    browser = page(run)
    assert browser.get("/api/state").json()["scans"][A]["learnt"]
    plan = viewed_scans(run).store.plan  # type: ignore[union-attr]
    shutil.rmtree(run / "segmenter")
    make_segmenter(run / "segmenter", plan, [run / "prepared"], labelled_subjects=["b"])
    assert browser.get("/api/state").json()["scans"][A]["learnt"]
    write_json(run / "run.json", {"kind": "run", "stages": {"finetune": {}}, "use": None, "round": None})
    assert not browser.get("/api/state").json()["scans"][A]["learnt"]


def test_scans_alone_are_shown_but_neither_predicted_nor_learnt_from(tmp_path: Path) -> None:
    write_picture(tmp_path / "scans" / "leaf.png", noise()[0].clip(0, 255).astype(np.uint8))
    write_scan(tmp_path / "scans" / "b.nrrd", noise())
    browser = page(tmp_path / "scans")
    state = browser.get("/api/state").json()
    assert [row["id"] for row in state["scans"]] == ["b", "leaf"]
    assert [state[key] for key in ("predicts", "saves", "learns")] == [False] * 3
    assert voxels(browser.get("/api/scans/1/image")).shape == (1, 21, 17)
    about = [browser.get(f"/api/scans/{place}").json() for place in range(2)]
    assert about[1]["slice_axis"] == 2
    assert [each["placed"] for each in about] == [True, False]
    assert browser.post("/api/scans/0/prediction").status_code == 404
    assert browser.post("/api/learn").status_code == 404
    assert page(tmp_path / "scans", annotations=tmp_path / "m", classes=("x",)).get("/api/state").json()["saves"]


def test_masks_beside_scans_are_their_annotations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = nested_discs(0)
    for name in ("a", "b"):
        write_scan(tmp_path / "scans" / f"{name}.nii.gz", mask.astype(np.float32))
    write_scan(tmp_path / "scans" / "a_seg.nii.gz", mask)
    browser = page(tmp_path / "scans")
    state = browser.get("/api/state").json()
    assert [(row["id"], row["labelled"]) for row in state["scans"]] == [("a", True), ("b", False)]
    assert [(each["name"], each["value"]) for each in state["classes"]] == [("label 7", 7), ("label 40", 40)]
    assert (state["saves"], state["notes"]) == (False, [])
    indices = np.select([mask == 7, mask == 40], [1, 2])
    assert np.array_equal(voxels(browser.get("/api/scans/0/annotation")), indices)
    assert not browser.get("/api/scans/1").json()["annotation"]
    # Names that the user gives count, and what is none of them is told.
    other = page(tmp_path / "scans", classes=("core",))
    assert [each["name"] for each in other.get("/api/state").json()["classes"]] == ["core"]
    assert "0 (background), 1 (core)" in other.get("/api/scans/0").json()["problem"]
    # What the data set names need not be read before the page is there.
    monkeypatch.setattr(classes_beside_scans, "read_mask", None)
    (tmp_path / "scans" / "labels.json").write_text('{"core": 7, "ring": 40, "void": 3}')
    named = page(tmp_path / "scans", annotations=tmp_path / "saved")
    state = named.get("/api/state").json()
    assert [(each["name"], each["value"]) for each in state["classes"]] == [("core", 7), ("ring", 40)]
    assert state["saves"]
    assert np.array_equal(voxels(named.get("/api/scans/0/annotation")), indices)


def test_a_reader_with_settings_reads_scans_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_scan(tmp_path / f"{name}.nii.gz", nested_discs(0).astype(np.float32))
        write_scan(tmp_path / f"{name}_seg_first.nii.gz", (nested_discs(0) > 0).astype(np.uint8))
        write_scan(tmp_path / f"{name}_seg_second.nii.gz", nested_discs(0))
    taken = [
        [each["value"] for each in page(tmp_path, **over).get("/api/state").json()["classes"]]
        for over in ({}, {"reader": {"name": "folders", "mask": "second"}})
    ]
    # By itself it takes them for a mask of each structure.
    assert taken == [[1, 2], [7, 40]]


def test_slices_of_a_series_are_those_that_were_acquired(tmp_path: Path) -> None:
    values = np.ones((4, 9, 7), np.uint16)
    write_slices(tmp_path / "ct", values, spacing=(2.0, 3.0), distance=0.5)
    assert page(tmp_path).get("/api/scans/0").json()["slice_axis"] == 2


def test_series_and_arrays_are_sent_on_their_own_grid(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 900, (4, 9, 7)).astype(np.uint16)
    write_slices(tmp_path / "dicom" / "ct", values, PatientName="Zyx^Abc", spacing=(2.0, 1.5), distance=6.0)
    atrium_folder(tmp_path / "h5", ("a",), ())
    for place in ("dicom", "h5"):
        browser = page(tmp_path / place)
        scan = viewed_scans(tmp_path / place).scans[0]
        volume = read_volume(scan.images)
        answer = browser.get("/api/scans/0/image")
        assert np.array_equal(voxels(answer), volume.array[0])
        lies = np.asarray(volume.geometry.origin) * (-1, -1, 1)
        np.testing.assert_allclose(nibabel.Nifti1Image.from_bytes(answer.content).affine[:3, 3], lies, atol=1e-5)
        assert "Zyx" not in browser.get("/api/state").text + str(answer.content[:400])
    assert np.array_equal(
        np.sort(voxels(page(tmp_path / "dicom").get("/api/scans/0/image")), None), np.sort(values, None)
    )


def test_the_page_itself_is_there(run: Path) -> None:
    browser = page(run)
    for path, kind, content in (
        ("/", "text/html", "<!doctype html>"),
        ("/page.js", "text/javascript", ""),
        ("/page.css", "text/css", ""),
        ("/licences.txt", "text/plain", "@niivue/niivue"),
    ):
        answer = browser.get(path)
        assert answer.headers["content-type"].startswith(kind)
        assert content in answer.text
    assert "<script>" not in browser.get("/").text
    assert "style=" not in browser.get("/").text
