import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fewlabel.core import progress
from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.errors import DataError, Fault, SettingsError
from fewlabel.data import store_writer
from fewlabel.data.back_to_scan_grid import restore_probabilities
from fewlabel.data.io.volume_reading import read_mask, read_volume
from fewlabel.data.phantom.scans import write_phantom
from fewlabel.data.preprocess import Plan, prepare_mask, prepare_volume
from fewlabel.data.store import PreparedStore
from fewlabel.stages.prepare import PrepareSettings, run
from kit.scans import TILTED, acdc_subset, blob, nnunet_folder, noise, write_scan
from kit.tiny import checked


def prepare(data, out, **values):
    return PreparedStore(run(PrepareSettings.parse({"data": data, "out": out, **values})))


class Listener:
    """Keeps what the user is told."""

    def __init__(self):
        self.said, self.tasks, self.advanced = [], [], 0

    def start(self, title, total, done):
        self.tasks.append((title, total))
        return self

    def advance(self, count=1, note=""):
        self.advanced += count

    def finish(self, bar):
        pass

    def say(self, text):
        self.said.append(text)


@pytest.fixture
def heard():
    before = progress._listener[0]
    listener = Listener()
    progress.listen(listener)
    yield listener
    progress.listen(before)


def test_acdc_store_end_to_end(tmp_path, shared_data, heard):
    data = acdc_subset(tmp_path / "data", shared_data, (2, 7, 11, 90))
    store = prepare(data, tmp_path / "p", split="chaitanya", size=[128, 128], spacing=[1.5, 1.5])
    assert len(store.cases) == 8
    depth = sum(case.stop - case.start for case in store.cases)
    assert store.images.shape == (depth, 1, 128, 128)
    assert store.images.dtype == np.float16
    assert store.labels.shape == (depth, 128, 128)
    assert set(np.unique(store.labels)) == {0, 1, 2, 3}
    assert 0 <= store.images.min() <= store.images.max() <= 1
    assert store.meta_labels == {"patient": 4, "position": 4, "phase": 2, "group": 2}
    assert store.label_names == {0: "background", 1: "RV", 2: "myocardium", 3: "LV"}
    assert store.split["parts"] == {
        "pretrain": ["patient002"],
        "train": ["patient002"],
        "validation": ["patient011"],
        "test": ["patient007", "patient090"],
    }
    rows = store.slices
    assert len(rows) == depth
    case = next(case for case in store.cases if case.id == "patient090_frame04")
    part = rows.iloc[case.start : case.stop]
    assert (part["case"] == case.id).all()
    assert part["meta_phase"].unique().tolist() == [0]
    assert part["meta_position"].tolist() == [min(3, 4 * i // len(part)) for i in range(len(part))]
    plan = Plan.load(store.plan)
    array, record = prepare_volume(read_volume(tuple(map(Path, case.images))), plan)
    assert record == case.record
    assert np.array_equal(store.images[case.start : case.stop], array.transpose(1, 0, 2, 3).astype(np.float16))
    mask = read_mask(Path(case.label))
    assert np.array_equal(store.labels[case.start : case.stop], prepare_mask(mask, record, plan))
    # Down to the grid and back: what a perfect network would score.
    back = restore_probabilities(np.eye(4)[store.labels[case.start : case.stop]].transpose(3, 0, 1, 2), record)
    found = back.argmax(0)
    for label in (1, 2, 3):
        both = ((found == label) & (mask == label)).sum()
        assert 2 * both / ((found == label).sum() + (mask == label).sum()) > 0.93
    catalog = pd.read_parquet(tmp_path / "p" / "catalog.parquet")
    assert catalog["weight"].dtype == float
    assert ("prepare", 8) in heard.tasks
    assert heard.advanced == 16
    assert any("MB on disk" in line and "of memory" in line for line in heard.said)
    assert [line for line in heard.said if "sform" in line] == ["16 files: the file has unexpected scales in sform"]
    quality = json.loads((tmp_path / "p" / "qc.json").read_text())
    assert [row["id"] for row in quality["cases"]] == [case.id for case in store.cases]
    millilitres = quality["cases"][-2]["label_ml"]["LV"]
    assert millilitres == pytest.approx(
        (read_mask(Path(store.cases[-2].label)) == 3).sum() * np.prod(quality["cases"][-2]["spacing"]) / 1000, rel=1e-3
    )


def test_second_run_does_nothing_until_something_changes(tmp_path, heard):
    data = nnunet_folder(tmp_path / "data", ("a", "b"), test=("t",))
    prepare(data, tmp_path / "p")
    hash_before = Artifact.open(tmp_path / "p").content_hash
    written = (tmp_path / "p" / "images.npy").stat().st_mtime_ns
    prepare(data, tmp_path / "p")
    prepare(data, tmp_path / "p", workers=1)
    (data / "imagesTr" / "a_0000.nii.gz").touch()
    prepare(data, tmp_path / "p")
    assert (tmp_path / "p" / "images.npy").stat().st_mtime_ns == written
    assert sum("up to date" in line for line in heard.said) == 3
    assert not any("is replaced" in line for line in heard.said)
    prepare(data, tmp_path / "p", position_parts=3)
    assert sum("is replaced" in line for line in heard.said) == 1
    assert PreparedStore(tmp_path / "p").meta_labels["position"] == 3
    write_scan(data / "imagesTr" / "a_0000.nii.gz", noise((4, 24, 20), 99), (1.0, 1.0, 5.0))
    prepare(data, tmp_path / "p")
    assert Artifact.open(tmp_path / "p").content_hash != hash_before
    (tmp_path / "p" / "images.npy").unlink()
    assert prepare(data, tmp_path / "p").images.shape[0] == 12


def test_number_of_workers_changes_no_bit(tmp_path):
    data = nnunet_folder(tmp_path / "data", tuple("abcdef"))
    one, three = prepare(data, tmp_path / "1", workers=1), prepare(data, tmp_path / "3", workers=3)
    assert one.manifest.files == three.manifest.files
    assert one.manifest.content_hash == three.manifest.content_hash


def test_unlabelled_scans_are_members(tmp_path):
    data = nnunet_folder(tmp_path / "data", ("a", "b", "c"), labelled=("a",))
    store = prepare(data, tmp_path / "p")
    assert store.slices["labelled"].tolist() == [True] * 4 + [False] * 8
    assert (store.labels[4:] == 255).all()
    assert store.split["parts"]["pretrain"] == ["a", "b", "c"]
    assert store.split["parts"]["train"] == ["a"]
    assert store.cases[1].label is None


def test_every_faulty_case_is_named_before_any_work(tmp_path):
    data = nnunet_folder(tmp_path / "data", tuple("abcd"))
    image = data / "imagesTr" / "a_0000.nii.gz"
    image.write_bytes(image.read_bytes()[:500])
    write_scan(data / "labelsTr" / "b.nii.gz", blob((4, 24, 21)), (1.0, 1.0, 5.0))
    write_scan(data / "labelsTr" / "c.nii.gz", noise((4, 24, 20)), (1.0, 1.0, 5.0))
    with pytest.raises(DataError) as error:
        prepare(data, tmp_path / "p")
    text = str(error.value)
    assert len(error.value.faults) == 3
    assert "case a, " in text
    shapes = f"has shape (4, 24, 21), but {data / 'imagesTr' / 'b_0000.nii.gz'} has (4, 24, 20)"
    assert f"case b, {data / 'labelsTr' / 'b.nii.gz'}: {shapes}" in text
    assert "case c, " in text
    assert not (tmp_path / "p").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
    report = checked(data)
    assert report.faults == error.value.faults


def test_faults_met_while_preparing_are_collected_too(tmp_path, monkeypatch):
    data = nnunet_folder(tmp_path / "data", tuple("abcd"))

    def gone(paths):
        if paths[0].name[0] in "bd":
            raise DataError("A file cannot be read:", [Fault("no such file", str(paths[0]))])
        return read_volume(paths)

    # Looked at while they were there.
    monkeypatch.setattr(store_writer, "read_volume", gone)
    with pytest.raises(DataError, match="2 scans cannot be prepared") as error:
        prepare(data, tmp_path / "p")
    assert ["case b" in str(error.value.faults[0]), "case d" in str(error.value.faults[1])] == [True, True]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_an_error_on_the_way_leaves_the_old_store_alone(tmp_path, monkeypatch):
    data = nnunet_folder(tmp_path / "data")
    before = prepare(data, tmp_path / "p").manifest.content_hash

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(store_writer, "prepare_mask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(data, tmp_path / "p", position_parts=2)
    assert PreparedStore(tmp_path / "p").manifest.content_hash == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "p"]


KILLED = """
import os, sys
from pathlib import Path
from fewlabel.data import store_writer
from fewlabel.stages.prepare import PrepareSettings, run
real, seen = store_writer.prepare_mask, []
def dying(*words):
    seen.append(1)
    if len(seen) == 2:
        os._exit(9)
    return real(*words)
if sys.argv[3] == "die":
    store_writer.prepare_mask = dying
# No guard of __main__: workers are threads, so a plain script may call this.
run(PrepareSettings.parse({"data": Path(sys.argv[1]), "out": Path(sys.argv[2])}))
"""


def test_a_killed_run_leaves_nothing_half_valid(tmp_path):
    data = nnunet_folder(tmp_path / "data", tuple("abcd"))
    script = tmp_path / "script.py"
    script.write_text(KILLED)
    words = [sys.executable, str(script), str(data), str(tmp_path / "out" / "p")]
    killed = subprocess.run([*words, "die"], capture_output=True, text=True, check=False)
    assert killed.returncode == 9, killed.stderr
    assert not (tmp_path / "out" / "p").exists()
    with pytest.raises(DataError, match="a finished artifact of kind prepared"):
        PreparedStore(tmp_path / "out" / "p")
    prepare(data, tmp_path / "out" / "p")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["p"]


def test_somebody_elses_folder_is_refused(tmp_path):
    data = nnunet_folder(tmp_path / "data")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    with pytest.raises(SettingsError, match="is neither empty nor a prepared folder"):
        prepare(data, tmp_path / "home")
    with pytest.raises(SettingsError, match=r"nor a prepared folder\. Give another --out\."):
        prepare(data, data)
    assert (tmp_path / "home" / "thesis.txt").is_file()


def test_contradictory_settings_are_all_named(tmp_path):
    data = nnunet_folder(tmp_path / "data")
    with pytest.raises(SettingsError) as error:
        prepare(
            data,
            tmp_path / "p",
            spacing=[1.0],
            size=[33, 32],
            low=60.0,
            high=50.0,
            test_fraction=0.6,
            validation_fraction=0.5,
        )
    assert len(error.value.faults) == 4


def test_scans_stored_in_other_directions_land_alike(tmp_path):
    """The same anatomy stored along other file axes gives the same slices."""
    mask = blob((6, 24, 20))
    image = noise((6, 24, 20)) + 90 * mask
    base = np.eye(3)
    write_scan(tmp_path / "d" / "imagesTr" / "a.nii.gz", image, (1.0, 1.0, 5.0), (0, 0, 0), base)
    write_scan(tmp_path / "d" / "labelsTr" / "a.nii.gz", mask, (1.0, 1.0, 5.0), (0, 0, 0), base)
    # Slices along file axis x, head to feet; rows along z, reversed.
    stored = [array.transpose(1, 2, 0)[::-1, :, ::-1] for array in (image, mask)]
    direction = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]])
    for folder, array in zip(("imagesTr", "labelsTr"), stored, strict=True):
        write_scan(
            tmp_path / "d" / folder / "b.nii.gz", np.ascontiguousarray(array), (5.0, 1.0, 1.0), (0, 23, 25), direction
        )
    store = prepare(tmp_path / "d", tmp_path / "p")
    a, b = store.cases
    assert np.array_equal(store.images[a.start : a.stop], store.images[b.start : b.stop])
    assert np.array_equal(store.labels[a.start : a.stop], store.labels[b.start : b.stop])
    assert store.labels[a.start : a.stop].any((1, 2)).tolist() == [False, True, True, True, True, False]


def test_an_awkward_data_set_prepares_and_says_what_is_odd(tmp_path):
    shape = (21, 7, 33)
    for case, value in (("a", 3), ("b", 9)):
        mask = np.zeros(shape, dtype=np.int16)
        mask[6:15, 2:5, 8:22] = value
        write_scan(
            tmp_path / "d" / "imagesTr" / f"{case}.nii.gz", noise(shape, value), (0.8, 6.0, 1.1), (5, 5, 5), TILTED
        )
        write_scan(tmp_path / "d" / "labelsTr" / f"{case}.nii.gz", mask, (0.8, 6.0, 1.1), (5, 5, 5), TILTED)
    store = prepare(tmp_path / "d", tmp_path / "p", size=[16, 8])
    assert store.plan["label_values"] == [0, 3, 9]
    assert store.label_names == {0: "background", 1: "label 3", 2: "label 9"}
    assert set(np.unique(store.labels[:7])) == {0, 1}
    assert set(np.unique(store.labels[7:])) == {0, 2}
    notes = json.loads((tmp_path / "p" / "qc.json").read_text())["notes"]
    assert any("of the labelled volume lies outside the crop" in note for note in notes)


def test_check_reports_what_was_understood(tmp_path, shared_data):
    data = acdc_subset(tmp_path / "data", shared_data, (2, 7, 90))
    report = checked(data, split="chaitanya")
    text = "\n".join(report.lines)
    assert report.faults == ()
    for words in (
        "reader: acdc, score 1.00",
        "scans: 6 of 3 subjects",
        "with a label: 6 scans of 3 subjects",
        "class 1: RV, label 1",
        "metadata phase: categorical, ED (3), ES (3); missing in 0 scans",
        "metadata weight: continuous",
        "split: chaitanya: subjects 1 pretrain, 1 train, 0 validation, 2 test",
        "would prepare: ",
        "field of view: ",
    ):
        assert words in text, text
    assert "12 files: the file has unexpected scales in sform" in report.odd
    assert report.plan is not None
    masks = sum((read_mask(case.label) == 2).sum() for case in report.catalog.cases)
    assert report.labels.voxels[2] == masks


def test_check_of_something_unreadable_is_a_report_too(tmp_path):
    report = checked(tmp_path)
    assert [fault.problem for fault in report.faults] == ["Unknown layout: no files"]
    assert report.catalog is None
    bad_split = checked(nnunet_folder(tmp_path / "d"), split="chaitanya")
    assert any("in its test part" in str(fault) for fault in bad_split.faults)
    assert bad_split.catalog is not None


@pytest.mark.slow
def test_the_whole_of_acdc_in_under_20_seconds_on_two_cores(tmp_path, shared_data):
    # Processor time of all threads: neighbours on the machine do not count.
    started = time.process_time()
    store = prepare(shared_data / "acdc", tmp_path / "p", split="chaitanya", size=[128, 128], spacing=[1.5, 1.5])
    assert time.process_time() - started < 2 * 20
    assert len(store.slices) == 1902
    started = time.process_time()
    prepare(shared_data / "acdc", tmp_path / "p", split="chaitanya", size=[128, 128], spacing=[1.5, 1.5])
    assert time.process_time() - started < 1


def test_faults_of_a_table_hide_no_faults_of_its_files(tmp_path):
    """One pass names what a reader finds and what the files hold."""
    data = write_phantom(tmp_path / "raw", patients=5, labelled=4, test=1)
    table = data / "scans.csv"
    lines = table.read_text().splitlines()
    columns = lines[0].split(",")
    rows = [line.split(",") for line in lines[1:]]
    gone, cut = (row[columns.index("image")] for row in rows[:2])
    (data / gone).unlink()
    (data / cut).write_bytes((data / cut).read_bytes()[:200])
    report = checked(table)
    texts = [f"{fault.where} {fault.problem}" for fault in report.faults]
    assert len(texts) == 2
    assert gone in texts[0]
    assert "line 2" in texts[0]
    assert cut in texts[1]
    assert "damaged" in texts[1]
    with pytest.raises(DataError, match="does not exist"):
        prepare(table, tmp_path / "store")
