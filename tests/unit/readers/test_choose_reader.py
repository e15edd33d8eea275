import json
import shutil

import pytest

from fewlabel.core.errors import DataError, SettingsError
from fewlabel.readers.acdc import AcdcReader
from fewlabel.readers.base import Match, choose_reader, read_catalog
from kit.scans import blob, nnunet_folder, noise, write_scan


def test_the_best_match_is_taken_and_says_why(tmp_path):
    choice = choose_reader(nnunet_folder(tmp_path))
    assert choice.name == "nnunet"
    assert choice.match.score == 1
    assert "dataset.json" in choice.match.reasons


def test_a_reader_can_be_forced_by_id_or_with_settings(tmp_path):
    root = nnunet_folder(tmp_path)
    for reader in ("table", {"name": "table"}):
        choice = choose_reader(root, reader)
        assert choice.name == "table"
        assert choice.match.reasons[0] == "chosen by the user"
    with pytest.raises(SettingsError, match="Did you mean nnunet"):
        choose_reader(root, "nnunett")
    with pytest.raises(SettingsError, match="unknown setting"):
        choose_reader(root, {"name": "table", "colour": 1})


def test_no_match_says_what_was_seen_what_is_nearest_and_the_way_out(tmp_path):
    for number in range(3):
        write_scan(tmp_path / "x" / f"{number}.nii.gz", noise((2, 4, 4)))
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DataError) as error:
        choose_reader(tmp_path)
    (fault,) = error.value.faults
    assert fault.problem == (
        "Unknown layout: 3 NIfTI files, 1 TXT file, none of them a mask by name or folder. The nearest layout is that "
        "of folders: 0 of 3 images have a mask by name"
    )
    assert (
        fault.remedy == f"Write a table of it with `fewlabel table {tmp_path} > scans.csv`, complete it and give that"
    )
    with pytest.raises(DataError, match=r"gone does not exist\. Check the path"):
        choose_reader(tmp_path / "gone")


def test_what_was_seen_counts_masks_without_images(tmp_path):
    for number in range(3):
        write_scan(tmp_path / f"{number}_mask.nii.gz", noise((2, 4, 4)))
    write_scan(tmp_path / "a.png", blob((4, 5, 6))[1])
    with pytest.raises(
        DataError, match=r"3 NIfTI files, 1 PNG file, of which 3 are masks by name or folder \(3 by mask\)"
    ):
        choose_reader(tmp_path)


def test_masks_in_a_format_that_is_not_read_are_named(tmp_path):
    for number in (21, 22):
        write_scan(tmp_path / f"images/{number}_training.tif", blob((4, 5, 6))[1])
        (tmp_path / "1st_manual").mkdir(exist_ok=True)
        (tmp_path / f"1st_manual/{number}_manual1.npy").write_bytes(b"")
    told = r"2 masks by name or folder are NPY files, which are not read: save them in another format"
    with pytest.raises(DataError, match=told):
        choose_reader(tmp_path)


def test_a_folder_of_images_in_a_format_that_is_not_read_says_what_to_do(tmp_path):
    for number in (1, 2):
        (tmp_path / f"im{number:04d}.ppm").write_bytes(b"P6")
    with pytest.raises(DataError, match=r"2 PPM files\. Convert its images, since \.ppm is not read: pictures to PNG"):
        choose_reader(tmp_path)


def test_a_folder_without_scans_is_no_table(tmp_path):
    with pytest.raises(DataError, match=r"Unknown layout: no files\. Give the folder that holds the scans"):
        choose_reader(tmp_path)


def test_files_that_are_dicom_by_name_alone(tmp_path):
    (tmp_path / "series").mkdir()
    for number in range(2):
        (tmp_path / "series" / f"{number}.dcm").write_bytes(b"")
        (tmp_path / "series" / f"1.2.840.{number}").write_bytes(b"")
    with pytest.raises(DataError, match=r"2 DICOM files, 2 other files\. Its \.dcm files do not begin as DICOM does"):
        choose_reader(tmp_path)


def test_a_general_reader_counts_where_no_other_fits(tmp_path):
    root = nnunet_folder(tmp_path)
    assert choose_reader(root).name == "nnunet"
    (root / "imagesTr").rename(root / "images")
    (root / "labelsTr").rename(root / "labels")
    assert choose_reader(root).name == "folders"


def test_readers_that_read_the_same_are_no_question(tmp_path, monkeypatch):
    root = nnunet_folder(tmp_path)
    monkeypatch.setattr(AcdcReader, "match", classmethod(lambda cls, root: Match(0.95, ("looks like it",))))
    monkeypatch.setattr(AcdcReader, "collect", lambda self, root: choose_reader(root, "nnunet").reader.collect(root))
    assert choose_reader(root).name == "nnunet"


@pytest.mark.parametrize(("score", "ambiguous"), [(0.95, True), (0.91, True), (0.9, False), (0.5, False)])
def test_two_matches_within_a_tenth_are_ambiguous(tmp_path, monkeypatch, score, ambiguous):
    root = nnunet_folder(tmp_path)
    monkeypatch.setattr(AcdcReader, "match", classmethod(lambda cls, root: Match(score, ("looks like it",))))
    if ambiguous:
        with pytest.raises(DataError, match=rf"nnunet \(score 1\.00: .*\), acdc \(score {score:.2f}: looks like it\)"):
            choose_reader(root)
        assert choose_reader(root, "nnunet").name == "nnunet"
    else:
        assert choose_reader(root).name == "nnunet"


def test_just_below_the_threshold_is_no_match(tmp_path, monkeypatch):
    monkeypatch.setattr(AcdcReader, "match", classmethod(lambda cls, root: Match(0.49, ("nearly",))))
    with pytest.raises(DataError, match="The nearest layout is that of acdc: nearly"):
        choose_reader(tmp_path)


def test_catalog_paths_are_absolute(tmp_path, monkeypatch):
    nnunet_folder(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    _, catalog = read_catalog(Path("data"))
    assert all(path.is_absolute() for case in catalog.cases for path in case.images)


def bids_folder(root):
    for name in ("sub-1", "sub-2"):
        write_scan(root / f"{name}/anat/{name}_T1w.nii.gz", noise((2, 4, 4)))
    (root / "dataset_description.json").write_text("{}")
    (root / "participants.tsv").write_text("participant_id\tage\nsub-1\t20\nsub-2\t30\n")


def decathlon_folder(root):
    nnunet_folder(root)
    for path in (root / "imagesTr").iterdir():
        path.rename(path.with_name(path.name.replace("_0000", "")))
    rows = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in "ab"]
    (root / "dataset.json").write_text(json.dumps({"training": rows, "labels": {"0": "background", "1": "organ"}}))


def acdc_folder(root):
    for number in (1, 2):
        write_scan(root / f"training/patient00{number}/patient00{number}_frame01.nii.gz", noise((2, 4, 4)))


@pytest.mark.parametrize(
    ("write", "inside", "reader"),
    [
        (nnunet_folder, "Dataset001_X", "nnunet"),
        (nnunet_folder, "nnUNet_raw/Dataset001_X", "nnunet"),
        (decathlon_folder, "Task04_X", "msd"),
        (bids_folder, "ds000001", "bids"),
        (acdc_folder, "ACDC", "acdc"),
        (acdc_folder, "x/ACDC", "acdc"),
    ],
)
def test_the_one_data_set_inside_of_a_folder_is_taken(tmp_path, write, inside, reader):
    write(tmp_path / inside)
    for asked in ("auto", reader):
        choice, catalog = read_catalog(tmp_path, asked)
        assert (choice.name, choice.place, catalog.root) == (reader, tmp_path / inside, tmp_path / inside)
        assert f"in its folder {inside}" in choice.match.reasons
        assert len(catalog.subjects) == 2
    if reader == "bids":
        assert [case.metadata["age"] for case in catalog.cases] == [20, 30]


def test_of_several_data_sets_inside_one_is_asked_for(tmp_path):
    for name in ("Dataset001_X", "Dataset002_Y"):
        nnunet_folder(tmp_path / name)
    with pytest.raises(DataError) as error:
        choose_reader(tmp_path)
    assert str(error.value.faults[0]) == (
        f"{tmp_path}: holds 2 data sets: Dataset001_X (nnunet), Dataset002_Y (nnunet). "
        f"Give one of them, such as {tmp_path}/Dataset001_X."
    )
    shutil.rmtree(tmp_path / "Dataset002_Y")
    write_scan(tmp_path / "more/x.nii.gz", noise((2, 4, 4)))
    with pytest.raises(DataError, match=r"other images beside it \(1\), such as more/x.nii.gz. Give .*Dataset001_X"):
        choose_reader(tmp_path)
    assert choose_reader(tmp_path, "folders").place == tmp_path


def test_parts_of_a_set_like_bids_are_one_set(tmp_path):
    for part, name in (("train", "sub-1"), ("test", "sub-2")):
        write_scan(tmp_path / f"{part}/{name}/{name}_T1w.nii.gz", noise((2, 4, 4)))
        (tmp_path / part / "dataset_description.json").write_text("{}")
    choice, catalog = read_catalog(tmp_path)
    assert (choice.name, choice.place) == ("bids", tmp_path)
    assert [case.part for case in catalog.cases] == ["", "test"]
