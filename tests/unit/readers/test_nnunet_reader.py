import json
import shutil

import pytest

from fewlabel.core.errors import DataError
from fewlabel.readers.nnunet import NnunetReader
from kit.scans import blob, nnunet_folder, noise, write_scan
from kit.tiny import checked


def read(root):
    return NnunetReader(NnunetReader.Config()).read(root)


def test_version_2_folder(tmp_path):
    root = nnunet_folder(tmp_path, ("a", "b"), labelled=("a", "t"), test=("t", "u"))
    catalog = read(root)
    found = {case.id: (case.part, case.label is not None, case.images[0].name) for case in catalog.cases}
    assert found == {
        "a": ("", True, "a_0000.nii.gz"),
        "b": ("", False, "b_0000.nii.gz"),
        "t": ("test", True, "t_0000.nii.gz"),
        "u": ("test", False, "u_0000.nii.gz"),
    }
    assert catalog.name == "toy"
    assert catalog.channels == ("MR",)
    assert catalog.label_names == {0: "background", 1: "organ"}


def test_hippocampus_as_distributed(shared_data):
    """MSD layout with macOS litter: ._*, .DS_Store."""
    catalog = read(shared_data / "hippocampus")
    assert len(catalog.cases) == 390
    assert sum(case.label is not None for case in catalog.cases) == 260
    assert sum(case.part == "test" for case in catalog.cases) == 130
    assert catalog.label_names == {0: "background", 1: "Anterior", 2: "Posterior"}
    assert catalog.channels == ("MRI",)
    assert catalog.subjects[0] == "person_001"
    assert len(catalog.subjects) == 195


@pytest.mark.parametrize("channel_key", ["channel_names", "modality"])
def test_channels_are_grouped_in_order(tmp_path, channel_key):
    (tmp_path / "dataset.json").write_text(json.dumps({channel_key: {"1": "T2", "0": "T1"}, "labels": {"0": "bg"}}))
    for channel in (1, 0):
        write_scan(tmp_path / "imagesTr" / f"c_{channel:04d}.nii.gz", noise((2, 4, 4)))
    write_scan(tmp_path / "labelsTr" / "c.nii.gz", noise((2, 4, 4)))
    (case,) = read(tmp_path).cases
    assert [path.name for path in case.images] == ["c_0000.nii.gz", "c_0001.nii.gz"]
    assert case.label is not None
    assert read(tmp_path).channels == ("T1", "T2")


def test_four_digits_of_a_case_name_are_not_a_channel(tmp_path):
    for name in ("case_0000", "case_0001"):
        write_scan(tmp_path / "imagesTr" / f"{name}.nii.gz", noise((2, 4, 4)))
        write_scan(tmp_path / "labelsTr" / f"{name}.nii.gz", noise((2, 4, 4)))
    assert [case.id for case in read(tmp_path).cases] == ["case_0000", "case_0001"]


def test_siblings_share_a_subject_and_tell_their_phase(tmp_path):
    root = nnunet_folder(tmp_path, ("p1_ED", "p1_ES", "p2_ED"))
    catalog = read(root)
    assert [case.subject for case in catalog.cases] == ["p1", "p1", "p2"]
    assert [case.metadata["phase"] for case in catalog.cases] == ["ED", "ES", "ED"]


def test_metadata_table_is_joined_by_case(tmp_path):
    root = nnunet_folder(tmp_path, ("a", "b", "c"))
    (root / "metadata.csv").write_text("case,subject,sex,age,part\nb,two,f,41.5,test\na,one,,30,\n")
    catalog = read(root)
    assert [case.subject for case in catalog.cases] == ["one", "two", "c"]
    assert [case.metadata["sex"] for case in catalog.cases] == [None, "f", None]
    assert [case.metadata["age"] for case in catalog.cases] == [30.0, 41.5, None]
    assert [case.part for case in catalog.cases] == ["", "test", ""]
    assert {column.name: column.kind for column in catalog.columns} == {"sex": "categorical", "age": "continuous"}


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ({"background": 0, "lv": 1, "ignore": 2}, {0: "background", 1: "lv", 2: "ignore"}),
        ({"0": "background", "5": "rv"}, {0: "background", 5: "rv"}),
        ({"background": 0, "whole": [1, 2], "core": [2]}, {0: "background", 1: "whole without core", 2: "core"}),
    ],
)
def test_label_names_either_way_round(tmp_path, labels, names):
    assert read(nnunet_folder(tmp_path, labels=labels)).label_names == names


def test_a_case_without_one_of_its_channels_is_one_fault(tmp_path):
    root = nnunet_folder(tmp_path, ("a", "b", "c"))
    described = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(described | {"channel_names": {"0": "T1", "1": "T2"}}))
    for case in "ab":
        shutil.copy(root / "imagesTr" / f"{case}_0000.nii.gz", root / "imagesTr" / f"{case}_0001.nii.gz")
    report = checked(root, workers=1)
    [fault] = report.faults
    assert "c has no file for channel 0001" in fault.problem
    assert [case.id for case in report.catalog.cases] == ["a", "b"]


def test_every_fault_is_named_at_once(tmp_path):
    root = nnunet_folder(tmp_path, ("a", "b"), labels={"background": 0, "x": "one"})
    described = json.loads((root / "dataset.json").read_text())
    described |= {"channel_names": {"0": "T1", "1": "T2"}, "training": [{"image": "./imagesTr/gone.nii.gz"}]}
    (root / "dataset.json").write_text(json.dumps(described))
    write_scan(root / "labelsTr" / "orphan.nii.gz", noise((2, 4, 4)))
    (root / "metadata.csv").write_text("name,sex\na,f\n")
    with pytest.raises(DataError) as error:
        read(root)
    text = str(error.value)
    for words in (
        "no file for channel 0001",
        "none named orphan",
        "there is no image gone",
        "must have a column case, but has name, sex",
        '"x": "one"',
    ):
        assert words in text


def test_broken_json_and_wrong_table_are_faults(tmp_path):
    root = nnunet_folder(tmp_path)
    (root / "dataset.json").write_text("{")
    (root / "metadata.csv").write_text("case,sex\nzz,f\nzz,m\n")
    with pytest.raises(DataError) as error:
        read(root)
    assert "cannot be read as JSON" in str(error.value)
    assert "line 3: zz has a row already, in line 2" in str(error.value)
    assert "must name cases of this folder, such as a, not zz" in str(error.value)


def test_score(tmp_path):
    assert NnunetReader.match(tmp_path).score == 0
    inner = nnunet_folder(tmp_path / "Dataset001_Toy")
    assert NnunetReader.match(inner).score == 1
    assert NnunetReader.match(tmp_path).score < 0.5
    (inner / "dataset.json").unlink()
    assert NnunetReader.match(inner).score == pytest.approx(0.7)


def test_a_part_is_one_of_four_words(tmp_path):
    root = nnunet_folder(tmp_path, ("a", "b", "c", "d"), test=("t",))
    table = root / "metadata.csv"
    table.write_text("case,part\na,Validation\nb,test\nc,train\nd,NA\nt,\n")
    assert [case.part for case in read(root).cases] == ["validation", "test", "", "", "test"]
    table.write_text("case,part\na,testing\nb,val\n")
    with pytest.raises(DataError) as error:
        read(root)
    text = str(error.value)
    assert 'line 2: part must be train, validation, test or empty, not "testing"' in text
    assert "Did you mean test?" in text
    assert 'line 3: part must be train, validation, test or empty, not "val"' in text


def test_a_row_that_names_no_case_is_a_fault(tmp_path):
    root = nnunet_folder(tmp_path, ("c1", "c2"))
    table = root / "metadata.csv"
    table.write_text("case,part\nc1,\nC2,test\nother,test\n,\n")
    with pytest.raises(DataError) as error:
        read(root)
    text = str(error.value)
    assert "line 3: C2 is no case of this folder. Did you mean c2?" in text
    assert "line 4: other is no case of this folder. Correct the name or take the row out." in text
    table.write_text("Case,Part,Subject,Sex\nc1,,NA,f\nc2,test,p,m\n")
    catalog = read(root)
    assert [(case.subject, case.part) for case in catalog.cases] == [("c1", ""), ("p", "test")]
    assert [column.name for column in catalog.columns] == ["Sex"]


def test_a_table_is_read_in_the_encoding_and_with_the_separator_that_it_has(tmp_path):
    root = nnunet_folder(tmp_path)
    (root / "metadata.csv").write_bytes("Case;Patient_ID;town\r\na;7;Bonn\r\n;;\r\nb;7;K\xf6ln\r\n".encode("latin-1"))
    catalog = read(root)
    assert [case.subject for case in catalog.cases] == ["7", "7"]
    assert catalog.cases[1].metadata["town"] == "Köln"
    assert set(catalog.notes) == {
        "metadata.csv is not UTF-8 text: it is read as Windows-1252",
        "metadata.csv: columns are separated by semicolons",
        "column Patient_ID is read as the subject",
    }


def test_the_case_column_of_a_table_has_several_names(tmp_path):
    root = nnunet_folder(tmp_path)
    for name in ("case_id", "filename"):
        (root / "metadata.csv").write_text(f"{name},slice,z\na.nii.gz,1,2\nb.nii.gz,1,3\n")
        catalog = read(root)
        assert [case.subject for case in catalog.cases] == ["a", "b"]
        assert dict(catalog.cases[1].metadata) == {"slice": 1, "z": 3}
    (root / "metadata.csv").write_text("case,age,age\na,1,2\n")
    with pytest.raises(DataError, match=r"line 1: column age is there 2 times, as columns 2, 3"):
        read(root)


@pytest.mark.parametrize("labels", [["background", "x"], "x", 3])
def test_labels_that_are_no_mapping_are_a_fault(tmp_path, labels):
    root = nnunet_folder(tmp_path)
    described = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**described, "labels": labels}))
    with pytest.raises(DataError, match=r"dataset\.json: labels must map names to whole numbers") as error:
        read(root)
    assert json.dumps(labels) in str(error.value)


def test_segmentations_of_slicer_are_labels(tmp_path):
    root = nnunet_folder(tmp_path)
    for path in sorted((root / "labelsTr").iterdir()):
        write_scan(root / "labelsTr" / f"{path.name.split('.')[0]}.seg.nrrd", blob((4, 24, 20)), (1, 1, 5))
        path.unlink()
    catalog = read(root)
    assert [case.label.name for case in catalog.cases] == ["a.seg.nrrd", "b.seg.nrrd"]


def test_labels_of_regions_are_named_by_the_smallest_that_has_them(tmp_path):
    labels = {"background": 0, "whole": [1, 2, 3, 4], "core": [2, 3], "enhancing": [3], "cyst": 5}
    root = nnunet_folder(tmp_path, labels=labels)
    catalog = read(root)
    assert catalog.label_names == {
        0: "background",
        1: "whole without core, label 1",
        2: "core without enhancing",
        3: "enhancing",
        4: "whole without core, label 4",
        5: "cyst",
    }
    assert catalog.notes[0].startswith("dataset.json has regions (whole = 1 + 2 + 3 + 4; core = 2 + 3): their labels")
    assert read(nnunet_folder(tmp_path / "plain")).notes == ()
