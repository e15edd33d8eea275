"""A call of predict that was stopped goes on: masks that are done stay, and nothing else is kept, lost or left over."""

from __future__ import annotations

import json
import subprocess
import sys

import nibabel
import numpy as np
import pandas as pd
import pytest

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.artifact.files import read_json
from fewlabel.core.errors import SettingsError
from fewlabel.core.unfinished_files import partial_beside
from fewlabel.engine.lock import sole_run
from fewlabel.stages import predict
from fewlabel.stages.predict.resuming import Earlier
from kit.scans import noise, write_scan
from kit.segmenters import disc_plan, make_segmenter
from kit.tiny import run_predict as run

NAMES = ("a.nii", "b.nii", "c.nii")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_segmenter(tmp_path_factory.mktemp("model") / "segmenter", disc_plan())


@pytest.fixture
def scans(tmp_path):
    for number, name in enumerate(NAMES):
        write_scan(tmp_path / "in" / name, noise((3, 20, 22), number))
    return tmp_path / "in"


class Killed(BaseException):
    """What the rest of a killed process does not see."""


def killed_at(monkeypatch, name, point, *words, **over):
    """A call that ends where it would note that a mask is begun or finished; nothing tidies up after it."""
    original = getattr(Earlier, point)

    def end(self, scan, *rest):
        if scan.output.name == name:
            raise Killed
        original(self, scan, *rest)

    def nothing(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Earlier, point, end)
        patch.setattr(predict, "record_predictions", nothing)
        with pytest.raises(Killed):
            run(*words, **over)


def times(out):
    return {path.name: path.stat().st_mtime_ns for path in sorted(out.glob("*.nii"))}


@pytest.mark.parametrize(("point", "there"), [("begin", ["a.nii"]), ("finish", ["a.nii", "b.nii"])])
def test_masks_that_are_done_stay_and_the_table_has_a_row_for_each(
    model, scans, tmp_path, monkeypatch, said, point, there
):
    whole = run(model, scans, tmp_path / "whole")
    out = tmp_path / "out"
    killed_at(monkeypatch, "b.nii", point, model, scans, out)
    before = times(out)
    assert list(before) == there
    # A line that the kill cut short, and a mask half written by a process that is gone.
    with (out / "unfinished.jsonl").open("a") as stream:
        stream.write('{"output": "c.n')
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    partial = partial_beside(out / "deep/c.nii")
    host, _, _ = partial.name.split(".")[-3].rpartition("-")
    partial = partial.with_name(f".c.nii.{host}-{gone.pid}.0badf00d.partial")
    partial.mkdir(parents=True)
    (partial / "c.nii").write_bytes(b"half")
    said.clear()
    run(model, scans, out)
    assert "1 of 3 masks are there already, made as they would be now: they stay" in said
    assert times(out)["a.nii"] == before["a.nii"]
    assert sorted(path.name for path in out.rglob("*") if path.is_file()) == sorted(
        [*NAMES, "labels.txt", "predictions.csv", "run_report.json", "manifest.json"]
    )
    tables = [pd.read_csv(folder / "predictions.csv").drop(columns="seconds") for folder in (out, whole)]
    pd.testing.assert_frame_equal(*tables)
    assert set(Artifact.open(out, "predictions").manifest.files) == set(
        Artifact.open(whole, "predictions").manifest.files
    )
    # Once more nothing is left to do.
    before = times(out)
    run(model, scans, out)
    assert times(out) == before
    assert len(pd.read_csv(out / "predictions.csv")) == 3


def test_notes_and_records_of_names_that_no_file_can_have_say_nothing(model, scans, tmp_path, monkeypatch):
    out = tmp_path / "out"
    killed_at(monkeypatch, "b.nii", "finish", model, scans, out)
    lines = (out / "unfinished.jsonl").read_text().splitlines()
    note = next(json.loads(line) for line in lines if '"output"' in line)
    halves = {**note, "output": "c.nii", "rows": [{**row, "input": "\udc80"} for row in note["rows"]]}
    too_long = {**note, "files": {**note["files"], f"{300 * 'x'}.nii": "0"}}
    with (out / "unfinished.jsonl").open("a") as stream:
        stream.writelines(f"{json.dumps(each)}\n" for each in (halves, {"begun": "\ud800"}, too_long))
    before = times(out)
    run(model, scans, out)
    assert len(pd.read_csv(out / "predictions.csv")) == 3
    # Of a mask whose record names a file that cannot be, not all is there: it is made again.
    assert times(out)["a.nii"] != before["a.nii"]


def test_only_what_is_as_it_would_be_made_now_stays(model, scans, tmp_path):
    out = run(model, scans, tmp_path / "out")
    other = make_segmenter(tmp_path / "other", disc_plan(spacing=(2.5, 2.5)))
    before = times(out)
    edited = nibabel.load(out / "b.nii")
    corrected = np.asarray(edited.dataobj).copy()
    corrected[:5] = 7
    nibabel.save(nibabel.Nifti1Image(corrected, None, edited.header), out / "b.nii")
    write_scan(scans / "c.nii", noise((3, 20, 22), 9))
    expected = {
        "b.nii": "has changed since it was written",
        "c.nii": "was made before its scan changed",
    }
    for words, a_why in (
        ({}, None),
        ({"model": other}, f"was made by another model, {Artifact.open(model).content_hash[:12]}"),
        ({"flip": True}, "was made with another flip"),
        ({"postprocess": False, "precision": "32"}, "postprocess"),
    ):
        with pytest.raises(SettingsError, match="overwrite=true") as caught:
            run(**{"model": model, "scans": scans, "out": out, **words})
        told = str(caught.value)
        assert all(f"{out / name} {why}" in told for name, why in expected.items())
        assert (str(out / "a.nii") in told) == (a_why is not None)
        assert a_why is None or a_why in told
    assert times(out)["a.nii"] == before["a.nii"]
    np.testing.assert_array_equal(np.asarray(nibabel.load(out / "b.nii").dataobj), corrected)
    run(model, scans, out, overwrite=True)
    assert all(times(out)[name] > before[name] for name in NAMES)


def test_a_mask_that_lacks_something_is_made_again(model, scans, tmp_path):
    out = run(model, scans, tmp_path / "out")
    (out / "b.nii").unlink()
    before = times(out)
    run(model, scans, out)
    assert set(times(out)) == set(NAMES)
    assert {name: times(out)[name] for name in before} == before
    # Probabilities were not asked for then; a table without the row of a mask is no table of it.
    run(model, scans / "a.nii", out, probabilities=True)
    assert (out / "a_probabilities.nii").is_file()
    table = pd.read_csv(out / "predictions.csv")
    table[table["output"] != "c.nii"].to_csv(out / "predictions.csv", index=False)
    run(model, scans, out)
    assert pd.read_csv(out / "predictions.csv")["output"].tolist() == list(NAMES)
    # Probabilities of an earlier call stay with a mask for which nobody asks for them now.
    assert set(read_json(out / "run_report.json")["masks"]["a.nii"]["files"]) == {"a.nii", "a_probabilities.nii"}


def test_a_killed_call_that_replaced_masks_goes_on_without_being_asked_again(model, scans, tmp_path, monkeypatch):
    out = run(model, scans, tmp_path / "out")
    killed_at(monkeypatch, "b.nii", "finish", model, scans, out, flip=True, overwrite=True)
    # The mask of b is the new one and nobody noted it; that of c is the old one, and only it is in the way.
    with pytest.raises(SettingsError) as caught:
        run(model, scans, out, flip=True)
    assert [fault.problem for fault in caught.value.faults] == [f"{out / 'c.nii'} was made with another flip"]


def test_a_folder_of_masks_is_of_one_call_at_a_time(model, scans, tmp_path):
    out = tmp_path / "out"
    with sole_run(out, lambda: None), pytest.raises(SettingsError, match="in use"):
        run(model, scans, out)
    run(model, scans, out)


def test_damaged_notes_of_earlier_calls_are_no_notes(model, scans, tmp_path):
    out = run(model, scans / "a.nii", tmp_path / "out")
    for content in ("[1", json.dumps({"masks": [1]}), json.dumps({"masks": {"a.nii": {"x": 1}}}), "[]", "1"):
        (out / "run_report.json").write_text(content)
        (out / "unfinished.jsonl").write_text(f"{content}\n{{}}\n")
        with pytest.raises(SettingsError, match=r"a\.nii is there already"):
            run(model, scans / "a.nii", out)


@pytest.mark.parametrize(
    "values",
    [
        {"settings": 5},
        {"settings": []},
        {"beside": True},
        {"beside": [3]},
        {"files": ["a.nii"]},
        {"files": {"a.nii": None}},
        {"files": {"../a.nii": "0"}},
        {"files": {"/a.nii": "0"}},
        {"model": None},
        {"scan": {}},
    ],
)
def test_a_record_of_another_shape_is_none(model, scans, tmp_path, values):
    out = run(model, scans / "a.nii", tmp_path / "out")
    path = out / "run_report.json"
    record = json.loads(path.read_text())
    record["masks"]["a.nii"].update(values)
    path.write_text(json.dumps(record))
    with pytest.raises(SettingsError, match=r"a\.nii is there already"):
        run(model, scans / "a.nii", out)


def test_notes_of_another_shape_are_none(model, scans, tmp_path):
    out = run(model, scans / "a.nii", tmp_path / "out")
    rows = [3, {"output": "a.nii", "status": "ok"}, {"input": "a.nii", "output": {"a": 1}, "status": "ok"}]
    notes = [
        {"begun": True},
        {"begun": {"a": 1}},
        {"output": 3, "rows": []},
        *({"output": "b", "rows": [row]} for row in rows),
    ]
    (out / "unfinished.jsonl").write_text("".join(f"{json.dumps(note)}\n" for note in notes))
    run(model, scans / "a.nii", out)


def test_a_single_mask_stays_too(model, scans, tmp_path):
    mask = tmp_path / "out/heart.nii"
    run(model, scans / "a.nii", mask)
    before = mask.stat().st_mtime_ns
    run(model, scans / "a.nii", mask)
    assert mask.stat().st_mtime_ns == before
    with pytest.raises(SettingsError, match=r"heart\.nii was made before its scan changed"):
        run(model, scans / "b.nii", mask)
    assert sorted(path.name for path in mask.parent.iterdir()) == [
        "heart.nii",
        "heart_labels.txt",
        "heart_predictions.csv",
        "heart_run_report.json",
    ]
    # It is no scan, either.
    write_scan(mask.parent / "z.nii", noise())
    out = run(model, mask.parent, tmp_path / "more")
    assert times(out).keys() == {"z.nii"}
