import json

import pytest

from fewlabel.core.errors import DataError
from fewlabel.readers.base import choose_reader, collect_catalog, read_catalog
from kit.scans import blob, nnunet_folder, noise, write_scan

SHAPE = (3, 8, 6)


def datalist(root, name="datalist.json", **changes):
    for number in range(4):
        write_scan(root / f"img/s{number}.nii.gz", noise(SHAPE, number))
        write_scan(root / f"lab/s{number}.nii.gz", blob(SHAPE))
    entry = {f"s{number}": {"image": f"img/s{number}.nii.gz", "label": f"lab/s{number}.nii.gz"} for number in range(4)}
    content = {
        "training": [{**entry["s0"], "fold": 0, "site": "A"}, {**entry["s1"], "fold": 1, "site": "B"}],
        "validation": [entry["s2"]],
        "testing": ["img/s3.nii.gz"],
        **changes,
    }
    (root / name).write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("file", [True, False])
def test_lists_of_training_validation_and_testing(tmp_path, file):
    root = datalist(tmp_path)
    place = root / "datalist.json" if file else root
    assert choose_reader(place).name == "monai"
    _, catalog = read_catalog(place)
    assert {case.id: (case.part, case.label is not None) for case in catalog.cases} == {
        "s0": ("", True),
        "s1": ("", True),
        "s2": ("validation", True),
        "s3": ("test", False),
    }
    assert catalog.cases[0].images == (root / "img/s0.nii.gz",)
    assert [case.metadata["site"] for case in catalog.cases] == ["A", "B", None, None]
    assert "folds 0, 1 are not used" in catalog.notes[0]


def test_a_fold_validates(tmp_path):
    root = datalist(tmp_path)
    _, catalog = read_catalog(root, {"name": "monai", "fold": 1})
    assert [case.part for case in catalog.cases] == ["", "validation", "validation", "test"]
    with pytest.raises(DataError, match="there is no fold 7: folds are 0, 1"):
        read_catalog(root, {"name": "monai", "fold": 7})


def test_channels_names_and_subjects(tmp_path):
    root = datalist(
        tmp_path,
        training=[
            {"image": ["img/s0.nii.gz", "img/s1.nii.gz"], "label": "lab/s0.nii.gz", "subject": "x"},
            {"image": ["img/s2.nii.gz", "img/s3.nii.gz"], "label": "lab/s2.nii.gz", "subject": "x"},
        ],
        validation=[],
        testing=[],
        labels={"0": "background", "1": "box"},
        modality={"0": "T1", "1": "T2"},
    )
    _, catalog = read_catalog(root)
    assert catalog.channels == ("T1", "T2")
    assert catalog.label_names == {0: "background", 1: "box"}
    assert catalog.subjects == ("x",)
    assert len(catalog.cases[0].images) == 2


@pytest.mark.parametrize("name", [f"{300 * 'x'}.nii.gz", "a\0b.nii.gz", "\ud800.nii.gz"])
def test_a_name_that_no_file_can_have_is_one_fault_of_several(tmp_path, name):
    root = datalist(tmp_path, testing=[name, "img/gone.nii.gz"])
    _, catalog = collect_catalog(root / "datalist.json")
    assert [fault.problem for fault in catalog.faults] == [
        f"{root}/{name} does not exist",
        f"{root}/img/gone.nii.gz does not exist",
    ]


def test_files_that_are_not_there_are_all_named(tmp_path):
    root = datalist(tmp_path)
    (root / "img/s1.nii.gz").unlink()
    (root / "lab/s2.nii.gz").unlink()
    _, catalog = collect_catalog(root / "datalist.json")
    assert [str(fault) for fault in catalog.faults] == [
        f"{root}/datalist.json, training[1]: {root}/img/s1.nii.gz does not exist. Restore it, or set reader.base.",
        f"{root}/datalist.json, validation[0]: {root}/lab/s2.nii.gz does not exist. Restore it, or set reader.base.",
    ]
    assert [case.id for case in catalog.cases] == ["s0", "s2", "s3"]


def test_paths_from_another_folder(tmp_path):
    root = datalist(tmp_path / "data")
    (tmp_path / "lists").mkdir()
    (root / "datalist.json").rename(tmp_path / "lists/a.json")
    _, catalog = read_catalog(tmp_path / "lists/a.json", {"name": "monai", "base": str(root)})
    assert catalog.cases[0].images == (root / "img/s0.nii.gz",)


def test_lists_of_other_readers_stay_theirs(tmp_path):
    assert choose_reader(nnunet_folder(tmp_path / "n")).name == "nnunet"
    assert choose_reader(datalist(tmp_path / "m", "dataset.json", validation=[], testing=[])).name == "msd"
