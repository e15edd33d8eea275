"""A prepared data set as nnU-Net's raw data: its documented format, the same voxels, and the same split."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk

import fewlabel
from fewlabel.core.errors import ArtifactError, DataError, SettingsError
from fewlabel.data.preprocess import Plan
from fewlabel.readers.base import choose_reader
from fewlabel.stages.export.nnunet_raw import _channel_names, _folds
from kit.segmenters import LABELS, nested_discs, prepared_discs, raw_folder

HOME = "Dataset501_discs"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Three patients to train on, one of them with voxels that nobody annotated, one unlabelled, one to test on."""
    home = tmp_path_factory.mktemp("discs")
    raw = raw_folder(home / "raw", ["s1", "s2", "s3", "s4", "s5"], unlabelled=["s4"])
    described = json.loads((raw / "dataset.json").read_text())
    described["labels"]["ignore"] = 99
    (raw / "dataset.json").write_text(json.dumps(described))
    path = raw / "labelsTr" / "s2.nii.gz"
    mask = sitk.ReadImage(str(path))
    mask[0:3, 0:2, 0] = 99
    sitk.WriteImage(mask, str(path))
    return prepared_discs(home, ["s1", "s2", "s3"], ["s5"], made=True)


@pytest.fixture(scope="module")
def exported(prepared, tmp_path_factory):
    out = tmp_path_factory.mktemp("nnunet")
    raw = fewlabel.export(source=prepared, to="nnunet_raw", out=out)
    assert raw == out / "nnUNet_raw" / HOME
    return raw


def read(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def test_the_format_is_the_documented_one(exported):
    """What nnU-Net's own check asks for, in the words of its documentation/dataset_format.md."""
    described = json.loads((exported / "dataset.json").read_text())
    assert described["channel_names"] == {"0": "MR"}
    # Consecutive, the background 0, and the label to ignore the highest of all.
    assert described["labels"] == {"background": 0, "core": 1, "ring": 2, "ignore": 3}
    assert (described["numTraining"], described["file_ending"]) == (3, ".nii.gz")
    names = {
        folder.name: sorted(path.name for path in folder.iterdir()) for folder in exported.iterdir() if folder.is_dir()
    }
    assert names == {
        "imagesTr": ["s1_0000.nii.gz", "s2_0000.nii.gz", "s3_0000.nii.gz"],
        "labelsTr": ["s1.nii.gz", "s2.nii.gz", "s3.nii.gz"],
        "imagesTs": ["s5_0000.nii.gz"],
        "labelsTs": ["s5.nii.gz"],
        "imagesUn": ["s4_0000.nii.gz"],
    }
    for path in sorted((exported / "labelsTr").iterdir()):
        image, mask = (
            sitk.ReadImage(str(exported / "imagesTr" / path.name.replace(".", "_0000.", 1))),
            sitk.ReadImage(str(path)),
        )
        for fact in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(mask, fact)() == pytest.approx(getattr(image, fact)(), abs=1e-6)
        assert set(np.unique(sitk.GetArrayFromImage(mask))) <= set(described["labels"].values())


def test_voxels_are_those_of_the_data_set(exported, prepared):
    raw = prepared.parent / "raw"
    for number, (name, part) in enumerate((("s1", "Tr"), ("s2", "Tr"), ("s3", "Tr"), ("s4", "Un"), ("s5", "Ts"))):
        before = sitk.ReadImage(str(raw / f"imagesTr/{name}_0000.nii.gz"))
        after = sitk.ReadImage(str(exported / f"images{part}/{name}_0000.nii.gz"))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(after), sitk.GetArrayFromImage(before))
        for fact in ("GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(after, fact)() == pytest.approx(getattr(before, fact)(), abs=1e-6)
        if part == "Un":
            continue
        mask = nested_discs(number)
        wanted = np.select([mask == LABELS["core"], mask == LABELS["ring"]], [1, 2])
        if name == "s2":
            wanted[0, 0:2, 0:3] = 3
        np.testing.assert_array_equal(read(exported / f"labels{part}" / f"{name}.nii.gz"), wanted)


def test_the_split_parts_subjects_and_the_reader_knows_them(exported):
    splits = json.loads((exported.parents[1] / "nnUNet_preprocessed" / HOME / "splits_final.json").read_text())
    cases = {"s1", "s2", "s3"}
    assert [set(fold["val"]) for fold in splits] == [{"s1"}, {"s2"}, {"s3"}]
    assert all(set(fold["train"]) == cases - set(fold["val"]) for fold in splits)
    catalog = choose_reader(exported).reader.collect(exported)
    assert catalog.faults == ()
    assert {case.id: (case.subject, case.part) for case in catalog.cases} == {
        **{name: (name, "") for name in cases},
        "s5": ("s5", "test"),
    }


def test_what_is_ct_is_called_so_for_nnunet_normalises_by_it():
    plan = Plan(spacing=(1.0, 1.0), size=(8, 8), channels=("image", "mr"), windows=((-100.0, 200.0), None))
    assert _channel_names(plan, given=False) == ["CT", "mr"]
    assert _channel_names(plan, given=True) == ["image", "mr"]


_BY_NNUNET = """
import sys
if __name__ == "__main__":
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess
    from nnunetv2.run.run_training import get_trainer_from_args
    extract_fingerprints([501], check_dataset_integrity=True, num_processes=1)
    plans = plan_experiments([501])
    preprocess([501], plans_identifier=plans, configurations=["2d"], num_processes=[1])
    for fold in range(3):
        trainer = get_trainer_from_args("501", "2d", fold, device=__import__("torch").device("cpu"))
        train, validation = trainer.do_split()
        print("fold", fold, *sorted(train), "|", *sorted(validation))
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("nnunetv2") is None, reason="nnU-Net is not installed")
def test_nnunet_itself_takes_data_and_split(exported, tmp_path):
    (tmp_path / "use.py").write_text(_BY_NNUNET)
    home = exported.parents[1]
    places = {f"nnUNet_{name}": str(home / f"nnUNet_{name}") for name in ("raw", "preprocessed", "results")}
    done = subprocess.run(
        [sys.executable, tmp_path / "use.py"], env={**os.environ, **places}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    folds = [line for line in done.stdout.splitlines() if line.startswith("fold ")]
    assert folds == ["fold 0 s2 s3 | s1", "fold 1 s1 s3 | s2", "fold 2 s1 s2 | s3"]


def rows(*subjects, validate=()):
    return [
        SimpleNamespace(name=f"{subject}_{phase}", case=SimpleNamespace(subject=subject), validates=subject in validate)
        for subject in subjects
        for phase in ("ED", "ES")
    ]


def test_folds():
    assert _folds(rows("a")) == []
    assert _folds(rows("a", validate=["a"])) == []
    (fold,) = _folds(rows("a", "b", "c", validate=["c"]))
    assert fold == {"train": ["a_ED", "a_ES", "b_ED", "b_ES"], "val": ["c_ED", "c_ES"]}
    folds = _folds(rows(*"abcdefg"))
    assert len(folds) == 5
    assert sorted(case for fold in folds for case in fold["val"]) == sorted(row.name for row in rows(*"abcdefg"))
    for fold in folds:
        assert not {case[0] for case in fold["train"]} & {case[0] for case in fold["val"]}


def test_nothing_is_written_over_or_half(prepared, tmp_path):
    raw = fewlabel.export(source=prepared, to="nnunet_raw", out=tmp_path, name="My discs!", number=7)
    assert raw.name == "Dataset007_My_discs"
    with pytest.raises(SettingsError, match="overwrite=true"):
        fewlabel.export(source=prepared, to="nnunet_raw", out=tmp_path, name="My discs!", number=7)
    moved = [prepared.parent / "raw" / name for name in ("imagesTr/s1_0000.nii.gz", "labelsTr/s3.nii.gz")]
    for path in moved:
        path.rename(f"{path}.away")
    try:
        with pytest.raises(DataError) as caught:
            fewlabel.export(source=prepared, to="nnunet_raw", out=tmp_path / "other")
    finally:
        for path in moved:
            path.with_name(f"{path.name}.away").rename(path)
    assert [fault.where for fault in caught.value.faults] == list(map(str, moved))
    assert not list((tmp_path / "other").rglob("*.nii.gz"))
    with pytest.raises(ArtifactError, match="neither a prepared folder nor a run folder"):
        fewlabel.export(source=tmp_path, to="nnunet_raw", out=tmp_path / "other")
    with pytest.raises(SettingsError, match="number: is for to=nnunet_raw"):
        fewlabel.export(source=prepared, to="onnx", out=tmp_path / "m.onnx", number=3)
