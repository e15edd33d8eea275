"""A copy of a run holds no name that was planted anywhere, and is a run of its own."""

import base64
import errno
import io
import json
import re
import shutil
import struct
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from fewlabel.cli.failures import report_failure
from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.artifact.run_record import read_run, write_run
from fewlabel.core.errors import ArtifactError, DataError, SettingsError
from fewlabel.core.output_paths import RUN_FILE
from fewlabel.data.store import PreparedStore
from fewlabel.engine.lock import free, take
from fewlabel.pipelines import learn, share, train
from fewlabel.pipelines.share import copied_artifacts
from fewlabel.pipelines.share.identifying_names import tells
from fewlabel.pipelines.share.search import found_in
from fewlabel.pipelines.stage_table import run_values

#: What is planted, each where its name says.
PLANTED = (
    "Foldermeier",
    "Scanhuber",
    "Masklechner",
    "Subjectwagner",
    "Columnbauer",
    "Headerpichler",
    "Descripsteiner",
    "Dbnamemoser",
    "Auxfilegruber",
    "Userleitner",
    "Hostfuchs",
    "Tableschwarz",
    "Drawnegger",
    "4711081599",
)


def go(run, out):
    return share.run(share.ShareSettings.parse({"run": run, "out": out}))


def plant(folder):
    """A table of seven patients with names in every place that a table and NIfTI files have."""
    folder.mkdir(parents=True)
    rows = ["image,label,subject,phase,Headerpichler,record"]
    for number in range(1, 8):
        noise = np.random.default_rng(number).random((32, 32, 5)) * 100
        mask = np.zeros((32, 32, 5), np.uint8)
        mask[8:24, 8 : 20 + number] = 1
        for name, array in ((f"Scanhuber_{number}", (noise + 80 * mask).astype("f4")), (f"Masklechner{number}", mask)):
            image = nib.Nifti1Image(array, np.diag([-1.5, -1.5, 8, 1.0]))
            image.header["descrip"] = b"Descripsteiner"
            image.header["db_name"] = b"Dbnamemoser"
            image.header["aux_file"] = b"Auxfilegruber"
            nib.save(image, folder / f"{name}.nii.gz")
        label = "" if number == 7 else f"Masklechner{number}.nii.gz"
        doctor = f"Columnbauer{number % 2}"
        rows.append(f"Scanhuber_{number}.nii.gz,{label},Subjectwagner-{number},ED,{doctor},471108159{8 + number % 2}")
    # Called as the folder is, and no name of anybody.
    (folder / "labels.json").write_text(json.dumps({"1": "Organum"}))
    table = folder / "Tableschwarz.csv"
    table.write_text("\n".join(rows) + "\n")
    return table


SMALL = {
    "prepare": {"size": [32, 32]},
    "pretrain": {"steps": 2, "batch": 4, "network": {"width": 4, "depth": 3}, "method": "gcl"},
    "finetune": {"steps": 2, "batch": 2, "network": {"width": 4, "depth": 3}, "expect": "always"},
    "pretraining": True,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run with a round of learning, and its copy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("socket.gethostname", lambda: "Hostfuchs")
        patch.setenv("USER", "Userleitner")
        patch.setenv("LOGNAME", "Userleitner")
        top = tmp_path_factory.mktemp("top")
        home = top / "Foldermeier" / "Userleitner"
        run = home / "run"
        train.run(train.train_settings({"data": plant(home / "Organum"), "out": run, **SMALL}))
        drawn = nib.load(home / "Organum" / "Masklechner1.nii.gz")
        (run / "annotations").mkdir()
        drawn.header["descrip"] = b"Drawnegger"
        nib.save(drawn, run / "annotations" / "Scanhuber_7.nii.gz")
        learn.run(learn.learn_settings({"run": run, "budget": "2s", "device": "cpu"}))
        copy = go(run, top / "copy")
        yield SimpleNamespace(run=run, copy=copy, top=top)


def contents(folder):
    """Every file as it lies there, and what is packed in it."""
    for path in sorted(folder.rglob("*")):
        yield path, path.relative_to(folder).as_posix().encode()
        if not path.is_file():
            continue
        raw = path.read_bytes()
        yield path, raw
        if path.suffix == ".html":
            for part in re.findall(rb"base64,([A-Za-z0-9+/=]+)", raw):
                yield path, base64.b64decode(part)
        if path.suffix == ".parquet":
            table = pd.read_parquet(io.BytesIO(raw))
            yield path, table.to_json().encode() + " ".join(map(str, table.columns)).encode()
        if path.suffix == ".safetensors":
            (length,) = struct.unpack("<Q", raw[:8])
            assert "__metadata__" not in json.loads(raw[8 : 8 + length])


def test_the_original_holds_what_was_planted(made):
    """Else the copy would prove nothing."""
    every = b"".join(content for _, content in contents(made.run)).lower()
    for name in ("Scanhuber", "Subjectwagner", "Columnbauer", "Headerpichler", "Masklechner", "Tableschwarz"):
        assert name.lower().encode() in every, name


def test_no_byte_of_the_copy_holds_a_planted_name(made):
    for path, content in contents(made.copy):
        for name in (*PLANTED, str(made.top)):
            assert name.lower().encode() not in content.lower(), (path, name)


def test_the_copy_is_whole_and_sealed(made):
    kinds = {}
    for manifest in made.copy.rglob("manifest.json"):
        artifact = Artifact.open(manifest.parent)
        for name in artifact.manifest.files:
            artifact.verified(name)
        kinds.setdefault(artifact.kind, []).append(manifest.parent.relative_to(made.copy).as_posix())
    assert sorted(kinds["segmenter"]) == ["rounds/1/segmenter", "segmenter", "segmenter-control"]
    assert sorted(kinds["prepared"]) == ["prepared", "rounds/1/prepared"]
    assert sorted(kinds) == ["encoder", "prepared", "report", "round", "scores", "segmenter"]
    record = read_run(made.copy)
    assert record["use"]["content"]["model"] == Artifact.open(made.copy / "segmenter").content_hash


def test_numbers_stand_for_the_same_everywhere(made):
    key = pd.read_csv(made.run / share.KEY, dtype=str)
    assert not list(made.copy.rglob("*key*"))
    assert (made.run / share.KEY).stat().st_mode & 0o077 == 0
    names = dict(zip(key["in the copy"], key["original"], strict=True))
    copy, original = PreparedStore(made.copy / "prepared"), PreparedStore(made.run / "prepared")
    for case, before in zip(copy.cases, original.cases, strict=True):
        assert (names[case.id], names[case.subject]) == (before.id, before.subject)
        assert (case.label is None) == (before.label is None)
    np.testing.assert_array_equal(copy.images, original.images)
    assert copy.label_names == original.label_names == {0: "background", 1: "Organum"}
    parts = {part: [names[one] for one in subjects] for part, subjects in copy.split["parts"].items()}
    assert parts == original.split["parts"]
    facts, known = (Artifact.open(run / "segmenter").json("segmenter.json") for run in (made.copy, made.run))
    assert [names[one] for one in facts["labelled_subjects"]] == known["labelled_subjects"]
    scores = pd.read_parquet(made.copy / "scores" / "per_case.parquet")
    before = pd.read_parquet(made.run / "scores" / "per_case.parquet")
    assert [names[one] for one in scores["case"]] == list(before["case"])
    np.testing.assert_array_equal(scores["dice"], before["dice"])


def test_the_copy_predicts_and_reports(made, tmp_path):
    scan = made.top / "Foldermeier" / "Userleitner" / "Organum" / "Scanhuber_2.nii.gz"
    for run, out in ((made.run, "a"), (made.copy, "b")):
        run_values("predict", {"model": run / "segmenter", "scans": scan, "out": tmp_path / out, "device": "cpu"})
    one, two = (nib.load(tmp_path / out / scan.name).get_fdata() for out in "ab")
    np.testing.assert_array_equal(one, two)
    run_values("report", {"run": made.copy, "out": tmp_path / "report", "unlabelled": 0})
    assert "subject-001" in (tmp_path / "report" / "report.html").read_text()
    with pytest.raises(DataError, match="is gone"):
        run_values("predict", {"model": made.copy, "scans": made.copy / "prepared", "out": tmp_path / "c"})


def test_a_copy_can_be_copied(made, tmp_path):
    again = go(made.copy, tmp_path / "again")
    for name in ("prepared/cases.json", "segmenter/segmenter.json", "scores/per_case.csv"):
        assert (again / name).read_bytes() == (made.copy / name).read_bytes()


def test_the_key_of_an_earlier_copy_is_kept(made, tmp_path, monkeypatch):
    first, own = made.run / share.KEY, (made.run / share.KEY).read_bytes()
    go(made.run, tmp_path / "same")
    assert not (made.run / "share-key-2.csv").exists()
    try:
        first.write_text("kind,in the copy,original\ncase,case-001,earlier\n")
        told = []
        monkeypatch.setattr(share, "say", told.append)
        go(made.run, tmp_path / "other")
        assert first.read_text().endswith("earlier\n")
        assert (made.run / "share-key-2.csv").read_bytes() == own
        assert told[-2].endswith("share-key-2.csv.")
        assert told[-1].startswith("share-key.csv is of an earlier copy")
        assert not any("share-key" in line for line in told[:-2])
    finally:
        (made.run / "share-key-2.csv").unlink(missing_ok=True)
        first.write_bytes(own)


def test_what_is_refused(made, tmp_path):
    with pytest.raises(SettingsError, match="lies in the run itself"):
        go(made.run, made.run / "copy")
    with pytest.raises(SettingsError, match="is not empty"):
        go(made.run, made.copy)
    with pytest.raises(ArtifactError, match=f"has no {RUN_FILE}"):
        go(tmp_path, tmp_path / "x")


def test_a_name_that_slips_through_leaves_no_copy(made, tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"would hold [Ss]canhuber"):
        go(made.run, tmp_path / "of-scanhuber")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(share.Rewriter, "text", lambda self, value: value)
    monkeypatch.setattr(share.Rewriter, "_column", lambda self, column: column)
    with pytest.raises(DataError, match=r"prepared/plan.json: would hold .*Columnbauer"):
        go(made.run, tmp_path / "copy")
    assert not list(tmp_path.iterdir())


def test_words_that_can_be_looked_for():
    assert tells("Subjectwagner-1")
    assert tells("4711081599")
    assert tells("scan_0042")
    assert not tells("Organum_1", {"organum"})
    for word in ("scans", "prepared", "p1", "0001", "2026", "2026-11-29", "image_0"):
        assert not tells(word), word


def test_search_looks_into_what_is_packed(tmp_path):
    picture = base64.b64encode(b"<svg>Scanhuber</svg>").decode()
    (tmp_path / "a.html").write_text(f'<img src="data:image/svg+xml;base64,{picture}">')
    pd.DataFrame({"case": ["a"] * 99 + ["Scanhuber"]}).to_parquet(tmp_path / "a.parquet")
    pd.DataFrame({"Scanhuber": [1]}).to_parquet(tmp_path / "b.parquet")
    (tmp_path / "Scanhuber.txt").write_text("x")
    (tmp_path / "c.txt").write_text("0.14711081599 14711081599")
    assert set(found_in(tmp_path, ["scanhuber", "4711081599"])) == {"a.html", "a.parquet", "b.parquet", "Scanhuber.txt"}
    (tmp_path / "c.txt").write_text("4711081599")
    assert found_in(tmp_path, ["4711081599"]) == {"c.txt": ["4711081599"]}
    assert found_in(tmp_path, []) == {}
    (tmp_path / "empty.json").touch()
    assert found_in(tmp_path, ["4711081599"]) == {"c.txt": ["4711081599"]}


def test_halves_of_rounds_are_left_out_and_what_is_unfinished_is_said(made, tmp_path, said):
    run = tmp_path / "run"
    shutil.copytree(made.run, run)
    shutil.copytree(run / "prepared", run / "rounds" / "2" / "prepared")
    write_run(run, {**read_run(run), "finished": False})
    lock = take(run / "rounds")
    try:
        copy = go(run, tmp_path / "copy")
    finally:
        free(run / "rounds", lock)
    assert (copy / "rounds" / "1" / "segmenter").is_dir()
    assert not (copy / "rounds" / "2").exists()
    assert f"{run / 'rounds' / '2'} is unfinished, and not in the copy." in said
    assert any(line.endswith(f"fewlabel train --out {run} --resume") for line in said)
    assert any(line.startswith("The run is in use by process") for line in said)


def test_no_copy_is_left_without_its_key(made, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(share, "unwritable", lambda folder: "no permission" if folder == made.run else "")
        with pytest.raises(SettingsError, match=r"cannot take share-key\.csv: no permission\. Give .*key="):
            go(made.run, tmp_path / "copy")
        values = {"run": made.run, "out": tmp_path / "copy", "key": tmp_path / "keys"}
        share.run(share.ShareSettings.parse(values))
    assert (pd.read_csv(tmp_path / "keys" / "share-key.csv")["kind"] == "case").sum() == 7
    with pytest.raises(SettingsError, match="lies in the copy"):
        share.run(share.ShareSettings.parse({**values, "out": tmp_path / "other", "key": tmp_path / "other" / "keys"}))

    def full(*_):
        raise OSError(errno.EROFS, "Read-only file system", "key")

    monkeypatch.setattr(share, "write_key", full)
    with pytest.raises(OSError, match="Read-only"):
        go(made.run, tmp_path / "third")
    assert not (tmp_path / "third").exists()


def test_a_full_disk_is_told_as_one(made, tmp_path, monkeypatch):
    real = copied_artifacts.save_array

    def on_a_full_disk(path, array):
        # A device that takes nothing, written to in place of the file.
        real(Path("/dev/full") if path.name == "images.npy" else path, array)

    monkeypatch.setattr(copied_artifacts, "save_array", on_a_full_disk)
    with pytest.raises(OSError, match="/dev/full") as told:
        go(made.run, tmp_path / "copy")
    assert report_failure(told.value) == 6
    assert not (tmp_path / "copy").exists()
