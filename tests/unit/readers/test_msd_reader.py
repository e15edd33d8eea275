"""Decathlon folders: the list in dataset.json decides."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations

import nibabel
import numpy as np
import pytest

from fewlabel.core.errors import DataError
from fewlabel.data.scan_inspection import inspect
from fewlabel.protocol.splits import make_split
from fewlabel.readers.base import choose_reader
from fewlabel.readers.dataset_json import read_description
from fewlabel.readers.msd import MsdReader
from fewlabel.readers.nnunet import NnunetReader
from kit.scans import blob, nnunet_folder, noise, write_scan

SHAPE = (4, 12, 10)


def read(root):
    return MsdReader(MsdReader.Config()).read(root)


def task(root, training=("toy_007", "toy_001"), test=("toy_003",), **over):
    """A task as the Decathlon archives hold it, macOS litter included."""
    described = {
        "name": "Toy",
        "tensorImageSize": "3D",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior"},
        "numTraining": len(training),
        "numTest": len(test),
        "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in training],
        "test": [f"./imagesTs/{n}.nii.gz" for n in test],
    }
    for number, name in enumerate([*training, *test]):
        folder = "imagesTs" if name in test else "imagesTr"
        write_scan(root / folder / f"{name}.nii.gz", noise(SHAPE, number))
        (root / folder / f"._{name}.nii.gz").write_bytes(b"\x00\x05\x16\x07")
        if name in training:
            write_scan(root / "labelsTr" / f"{name}.nii.gz", blob(SHAPE))
    for litter in (".DS_Store", "._dataset.json", "imagesTr/.DS_Store"):
        (root / litter).write_bytes(b"\x00")
    (root / "dataset.json").write_text(json.dumps({**described, **over}))
    return root


def described(root):
    return json.loads((root / "dataset.json").read_text())


def test_the_list_pairs_images_with_labels(tmp_path):
    catalog = read(task(tmp_path))
    found = {case.id: (case.part, case.label and case.label.name, case.images[0].name) for case in catalog.cases}
    assert found == {
        "toy_001": ("", "toy_001.nii.gz", "toy_001.nii.gz"),
        "toy_003": ("test", None, "toy_003.nii.gz"),
        "toy_007": ("", "toy_007.nii.gz", "toy_007.nii.gz"),
    }
    assert [case.id for case in catalog.cases] == sorted(found)
    assert (catalog.name, catalog.reader, catalog.channels) == ("Toy", "msd", ("MRI",))
    assert catalog.label_names == {0: "background", 1: "Anterior"}
    assert not [fault for facts in inspect(catalog, 1) for fault in facts.faults]


def test_a_label_may_have_any_name_and_may_be_missing_from_the_list(tmp_path):
    root = task(tmp_path, test=())
    rows = [{"image": "imagesTr/toy_001.nii.gz", "label": "labelsTr/toy_007.nii.gz"}, "imagesTr/toy_007.nii.gz"]
    (root / "dataset.json").write_text(json.dumps({**described(root), "training": rows}))
    one, seven = read(root).cases
    assert one.label is not None
    assert one.label.name == "toy_007.nii.gz"
    assert seven.label is None


def test_channels_of_one_file(tmp_path):
    """As in the tasks on brain tumours and the prostate: modalities along the fourth axis."""
    root = task(tmp_path, training=("p_00",), test=(), modality={"0": "T2", "1": "ADC"}, tensorImageSize="4D")
    array = np.stack([noise(SHAPE, seed).transpose(2, 1, 0) for seed in (1, 2)], axis=-1)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), root / "imagesTr" / "p_00.nii.gz")
    nibabel.save(nibabel.Nifti1Image(blob(SHAPE).transpose(2, 1, 0), np.eye(4)), root / "labelsTr" / "p_00.nii.gz")
    catalog = read(root)
    assert catalog.channels == ("T2", "ADC")
    (facts,) = inspect(catalog, 1)
    assert facts.faults == ()
    assert facts.geometry is not None
    assert facts.geometry.components == 2


def test_every_case_is_a_subject_unless_the_table_says_otherwise(tmp_path):
    root = task(tmp_path, training=("a_ED", "a_ES", "b_ED"), test=())
    assert [case.subject for case in read(root).cases] == ["a_ED", "a_ES", "b_ED"]
    assert read(root).columns == ()
    (root / "metadata.csv").write_text("case,subject,sex\na_ED,a,f\na_ES,a,f\n")
    catalog = read(root)
    assert [case.subject for case in catalog.cases] == ["a", "a", "b_ED"]
    assert [case.metadata["sex"] for case in catalog.cases] == ["f", "f", None]


def test_every_fault_is_named_at_once(tmp_path):
    root = task(tmp_path, training=("a", "b", "c", "d"), labels={"background": 0, "x": "one"})
    rows = described(root)["training"]
    rows[1]["label"] = "./labelsTr/gone.nii.gz"
    rows += [rows[0], {"image": "./imagesTr/lost.nii.gz"}, {"label": "x"}, "./imagesTr/._a.nii.gz"]
    (root / "dataset.json").write_text(json.dumps({**described(root), "training": rows}))
    write_scan(root / "imagesTr" / "extra.nii.gz", noise(SHAPE))
    with pytest.raises(DataError) as error:
        read(root)
    text = str(error.value)
    for words in (
        "./labelsTr/gone.nii.gz does not exist",
        "./imagesTr/a.nii.gz is listed twice, the second time in training",
        "./imagesTr/lost.nii.gz does not exist",
        'training must list images, not ""',
        'training must list images, not "./imagesTr/._a.nii.gz"',
        "extra.nii.gz of imagesTr is not listed",
        '"x": "one"',
    ):
        assert words in text
    assert "toy_003" not in text


@pytest.mark.parametrize("name", [f"{300 * 'x'}.nii.gz", "a\0b.nii.gz", "\ud800.nii.gz"])
def test_a_name_that_no_file_can_have_is_one_fault_of_several(tmp_path, name):
    root = task(tmp_path)
    rows = [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"}, {"image": "./imagesTr/gone.nii.gz"}]
    (root / "dataset.json").write_text(json.dumps({**described(root), "training": rows}))
    with pytest.raises(DataError) as error:
        read(root)
    problems = [fault.problem for fault in error.value.faults]
    assert problems[:3] == [
        f"./imagesTr/{name} does not exist",
        f"./labelsTr/{name} does not exist",
        "./imagesTr/gone.nii.gz does not exist",
    ]
    assert MsdReader.match(root).score < 1


@pytest.mark.parametrize("content", ["{", "[]", '{"training": {}}'])
def test_a_folder_without_the_list_is_refused(tmp_path, content):
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(DataError, match="lists no training images"):
        read(tmp_path)
    assert MsdReader.match(tmp_path).score < 0.5


def test_each_convention_goes_to_its_own_reader(tmp_path):
    msd, nnunet = task(tmp_path / "msd"), nnunet_folder(tmp_path / "nnunet", ("a", "b"))
    assert choose_reader(msd).name == "msd"
    assert choose_reader(nnunet).name == "nnunet"
    # nnU-Net 1 lists cases by the name without the channel's number.
    rows = [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]
    (nnunet / "dataset.json").write_text(json.dumps({**described(nnunet), "training": rows}))
    assert choose_reader(nnunet).name == "nnunet"
    assert MsdReader.match(nnunet).score == pytest.approx(0.3)
    # Forced, either reads a Decathlon folder, with the same cases.
    forced = NnunetReader(NnunetReader.Config()).read(msd)
    assert [(case.id, case.images, case.label, case.part) for case in forced.cases] == [
        (case.id, case.images, case.label, case.part) for case in read(msd).cases
    ]
    assert "(reader msd)" in " ".join(NnunetReader.match(msd).reasons)


def test_score(tmp_path):
    assert MsdReader.match(tmp_path).score == 0
    assert MsdReader.match(task(tmp_path / "Task04_Toy")).score == 1
    assert MsdReader.match(tmp_path).score == 0
    assert choose_reader(tmp_path).place == tmp_path / "Task04_Toy"
    assert MsdReader.match(tmp_path / "Task04_Toy" / "dataset.json").score == 0


def test_hippocampus_as_distributed(shared_data):
    choice = choose_reader(shared_data / "hippocampus")
    assert choice.name == "msd"
    catalog = choice.reader.read(shared_data / "hippocampus")
    assert len(catalog.cases) == 390
    assert len(catalog.subjects) == 195
    assert sorted(Counter(case.subject for case in catalog.cases).values()) == [2] * 195
    assert any("both hippocampi of a person" in note for note in catalog.notes)
    assert sum(case.label is not None for case in catalog.cases) == 260
    assert sum(case.part == "test" for case in catalog.cases) == 130
    assert catalog.label_names == {0: "background", 1: "Anterior", 2: "Posterior"}
    assert catalog.channels == ("MRI",)


def test_no_person_of_the_hippocampus_task_is_in_two_parts(shared_data):
    catalog = read(shared_data / "hippocampus")
    scans = {case.id: case for case in catalog.cases}
    for wanted in (False, True):
        parts = make_split(catalog, pretrain_on_test_scans=wanted)["parts"]
        assert (len(parts["test"]), len(parts["validation"])) == (34, 17)
        for first, second in combinations(("train", "validation", "test"), 2):
            assert not set(parts[first]) & set(parts[second])
        assert not set(parts["pretrain"]) & {*parts["validation"], *parts["test"]}
        home = {subject: part for part in ("train", "validation", "test") for subject in parts[part]}
        for odd in range(1, 395, 2):
            pair = [scans[name] for name in (f"hippocampus_{odd:03d}", f"hippocampus_{odd + 1:03d}") if name in scans]
            assert len({home.get(case.subject) for case in pair}) <= 1
        met = {case.id for case in catalog.cases if case.subject in {*parts["train"], *parts["pretrain"]}}
        reserved = {case.id for case in catalog.cases if case.part == "test"}
        assert bool(met & reserved) == wanted
        assert len(parts["train"]) == (119 if wanted else 90)


@pytest.mark.parametrize("kind", ["msd", "nnunet"])
def test_both_hippocampi_of_a_person_are_one_subject(tmp_path, kind):
    names = [f"hippocampus_{number:03d}" for number in (1, 2, 4, 23, 24)]
    root = task(tmp_path, training=names[:3], test=names[3:])
    reader = MsdReader(MsdReader.Config()) if kind == "msd" else NnunetReader(NnunetReader.Config())
    catalog = reader.read(root)
    assert [case.subject for case in catalog.cases] == ["person_001", "person_001", "person_002", *["person_012"] * 2]
    (note,) = catalog.notes
    assert "both hippocampi of a person" in note
    assert "5 scans of 3 subjects" in note
    (root / "metadata.csv").write_text("case,subject\n" + "".join(f"{name},{name[-1]}\n" for name in names))
    assert [case.subject for case in reader.read(root).cases] == ["1", "2", "4", "3", "4"]
    assert reader.read(root).notes == ()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_description_with_a_mark_of_its_encoding_is_read(tmp_path, encoding):
    root = task(tmp_path, labels={"0": "background", "1": "Länge"})
    text = json.dumps(json.loads((root / "dataset.json").read_text()), ensure_ascii=False)
    (root / "dataset.json").write_text(text, encoding=encoding)
    assert read(root).label_names[1] == "Länge"


def test_a_description_is_read_as_utf_8_whatever_the_locale_says(tmp_path, monkeypatch):
    root = task(tmp_path, labels={"0": "background", "1": "Länge"})
    text = json.dumps(json.loads((root / "dataset.json").read_text()), ensure_ascii=False)
    (root / "dataset.json").write_text(text, encoding="utf-8")
    monkeypatch.setattr("io.text_encoding", lambda encoding, stacklevel=2: encoding or "ascii")
    assert read(root).label_names[1] == "Länge"
    (root / "dataset.json").write_text(text, encoding="latin-1")
    faults = []
    assert read_description(root, faults) == {}
    (fault,) = faults
    assert "must be UTF-8 text, but has the byte 0xe4" in str(fault)
