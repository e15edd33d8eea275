"""What counts as a scan, and what its mask is called."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fewlabel.core.errors import DataError, SettingsError
from fewlabel.stages.predict.inputs import find_scans
from kit.h5 import write_h5
from kit.scans import blob, noise, write_scan


def touch(root, *names):
    """Names are all that is looked at."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def outputs(place, channels=1, out=Path("elsewhere")):
    return {
        scan.output.as_posix(): [path.name for path in scan.images] for scan in find_scans(place, channels, out).scans
    }


def test_a_single_file(tmp_path):
    touch(tmp_path, "heart.v2.nii.gz", "other.nii.gz")
    assert outputs(tmp_path / "heart.v2.nii.gz") == {"heart.v2.nii.gz": ["heart.v2.nii.gz"]}


def test_a_single_file_is_taken_at_its_word(tmp_path):
    """Whoever names a file wants it, whatever it looks like."""
    touch(tmp_path, "x_gt.nii.gz")
    assert outputs(tmp_path / "x_gt.nii.gz") == {"x_gt.nii.gz": ["x_gt.nii.gz"]}


def test_a_folder_without_convention(tmp_path):
    touch(tmp_path, "a.nii.gz", "b.nrrd", "deep/er/c.mha", "notes.txt", "d.nii", "sheet.json")
    assert outputs(tmp_path) == {
        "a.nii.gz": ["a.nii.gz"],
        "b.nrrd": ["b.nrrd"],
        "c.mha": ["c.mha"],
        "d.nii": ["d.nii"],
    }


def test_masks_and_litter_are_left_out_and_said(tmp_path):
    touch(tmp_path, "a.nii.gz", "a_gt.nii.gz", "b-label.nrrd", "._a.nii.gz", ".DS_Store", ".cache/c.nii.gz")
    touch(tmp_path, "labelsTr/a.nii.gz", "masks/q.mha", "longt.nii.gz")
    found = find_scans(tmp_path, 1, tmp_path / "out")
    assert [scan.output.name for scan in found.scans] == ["a.nii.gz", "longt.nii.gz"]
    masks, litter = found.skipped
    assert masks.startswith("left out as masks by name (4): ")
    assert "a_gt.nii.gz" in masks
    assert litter.startswith("left out as hidden files (3): ")


def test_an_acdc_patient_folder_with_its_cine(tmp_path):
    home = touch(
        tmp_path / "patient007",
        "Info.cfg",
        "patient007_4d.nii.gz",
        "patient007_frame01.nii.gz",
        "patient007_frame01_gt.nii.gz",
        "patient007_frame07.nii.gz",
    )
    (home / "Info.cfg").write_text("ED: 1\nES: 7\nGroup: DCM\nHeight: 170\nWeight: 70\n")
    names = ["patient007_4d.nii.gz", "patient007_frame01.nii.gz", "patient007_frame07.nii.gz"]
    assert outputs(home) == {name: [name] for name in names}


def test_one_bad_patient_does_not_hide_the_others(tmp_path):
    """The reader refuses the data set; its files are still scans."""
    for number in (1, 2):
        touch(tmp_path, f"patient00{number}/patient00{number}_frame01.nii.gz")
    (tmp_path / "patient001/Info.cfg").write_text("ED: 9\n")
    assert list(outputs(tmp_path)) == ["patient001_frame01.nii.gz", "patient002_frame01.nii.gz"]


def test_nnunet_channels_are_grouped(tmp_path):
    touch(tmp_path, "a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz", "b_0001.nii.gz")
    assert outputs(tmp_path, channels=2) == {
        "a.nii.gz": ["a_0000.nii.gz", "a_0001.nii.gz"],
        "b.nii.gz": ["b_0000.nii.gz", "b_0001.nii.gz"],
    }
    assert outputs(tmp_path / "b_0001.nii.gz", channels=2) == {"b.nii.gz": ["b_0000.nii.gz", "b_0001.nii.gz"]}
    # For a model of one channel these are four scans.
    assert len(outputs(tmp_path, channels=1)) == 4


def test_nnunet_single_channel_suffix_is_dropped(tmp_path):
    touch(tmp_path, "a_0000.nii.gz", "b_0000.nii.gz")
    assert list(outputs(tmp_path)) == ["a.nii.gz", "b.nii.gz"]


@pytest.mark.parametrize(
    "names", [("s_0000.nii.gz", "s_0001.nii.gz"), ("s_0000.nii.gz", "t.nii.gz"), ("s_0003.nii.gz",)]
)
def test_plain_numbers_are_not_channels(tmp_path, names):
    touch(tmp_path, *names)
    assert list(outputs(tmp_path)) == sorted(names)


def test_a_whole_nnunet_data_set(tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "MR"}, "labels": {"background": 0}}))
    touch(tmp_path, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "imagesTs/b_0000.nii.gz")
    found = find_scans(tmp_path, 1, tmp_path / "out")
    assert [scan.output.as_posix() for scan in found.scans] == ["a.nii.gz", "b.nii.gz"]
    assert found.skipped == ("left out as masks by name (1): a.nii.gz",)


def test_a_table_lists_exactly_its_rows(tmp_path):
    write_scan(tmp_path / "x/one.nii.gz", noise())
    write_scan(tmp_path / "x/one_other.nii.gz", noise())
    write_scan(tmp_path / "y/two.nii.gz", noise())
    write_scan(tmp_path / "y/truth.nii.gz", blob())
    table = tmp_path / "scans.csv"
    table.write_text("image,label\nx/one.nii.gz,\ny/two.nii.gz,y/truth.nii.gz\n")
    wanted = {"one.nii.gz": ["one.nii.gz"], "two.nii.gz": ["two.nii.gz"]}
    assert outputs(table) == wanted
    assert outputs(tmp_path) == wanted


def test_colliding_names_keep_their_folders(tmp_path):
    touch(tmp_path, "p1/scan.nii.gz", "p2/scan.nii.gz", "p2/alone.nii.gz")
    assert list(outputs(tmp_path)) == ["alone.nii.gz", "p1/scan.nii.gz", "p2/scan.nii.gz"]


def test_names_that_still_collide_are_an_error(tmp_path):
    touch(tmp_path, "scan.jpg", "scan.png")
    with pytest.raises(DataError, match="one folder at a time") as caught:
        find_scans(tmp_path, 1, tmp_path / "out")
    assert "scan.jpg" in str(caught.value)


def test_formats_that_cannot_hold_a_mask_change(tmp_path):
    touch(tmp_path, "a.jpg", "b.mhd", "c.nhdr", "D.NII.GZ")
    assert list(outputs(tmp_path)) == ["D.nii.gz", "a.png", "b.mha", "c.nrrd"]


def test_rows_of_a_table_that_lie_elsewhere_keep_the_folders_that_tell_them_apart(tmp_path):
    for name in ("home/sub/a.nii.gz", "outside/a.nii.gz", "outside/b.nii.gz"):
        write_scan(tmp_path / name, noise())
    (tmp_path / "home/t.csv").write_text("image\nsub/a.nii.gz\n../outside/a.nii.gz\n../outside/b.nii.gz\n")
    assert list(outputs(tmp_path / "home/t.csv")) == ["b.nii.gz", "home/sub/a.nii.gz", "outside/a.nii.gz"]


def test_earlier_output_below_the_folder_is_not_read_again(tmp_path):
    touch(tmp_path, "a.nii.gz", "masks_out/a.nii.gz")
    found = find_scans(tmp_path, 1, tmp_path / "masks_out")
    assert [scan.output.as_posix() for scan in found.scans] == ["a.nii.gz"]


@pytest.mark.parametrize("name", ["nowhere", "readme.txt", "empty"])
def test_nothing_to_segment(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "readme.txt").touch()
    with pytest.raises(DataError, match="nothing to segment") as caught:
        find_scans(tmp_path / name, 1, tmp_path / "out")
    assert str(tmp_path / name) in str(caught.value)


def test_only_masks_says_so(tmp_path):
    touch(tmp_path, "a_gt.nii.gz")
    with pytest.raises(DataError, match="masks by name"):
        find_scans(tmp_path, 1, tmp_path / "out")


def test_the_reader_may_be_named_and_is_then_not_overruled(tmp_path):
    """Files that only look like ACDC; by themselves they would be scans without convention."""
    touch(tmp_path, "patient001/patient001_frame01.nii.gz")
    (tmp_path / "patient001/Info.cfg").write_text("ED: 9\n")
    assert list(outputs(tmp_path)) == ["patient001_frame01.nii.gz"]
    named = find_scans(tmp_path, 1, tmp_path / "out", reader="acdc")
    assert [scan.output.name for scan in named.scans] == ["patient001_frame01.nii.gz"]
    assert "ED must be a frame that exists" in str(named.faults[0])
    with pytest.raises(SettingsError, match="acdc"):
        find_scans(tmp_path, 1, tmp_path / "out", reader="acdd")
    touch(tmp_path, "a.nii.gz")
    with pytest.raises(DataError, match="imagesTr"):
        find_scans(tmp_path / "a.nii.gz", 1, tmp_path / "out", reader="nnunet")


def test_settings_of_another_reader_and_of_labels_are_left_aside(tmp_path):
    write_h5(tmp_path / "h5" / "a.h5", image=np.zeros((3, 4, 5), np.float32))
    usual = {"name": "ssl4mis", "slices": "last", "label": "scribble", "unmarked": 3}
    found = find_scans(tmp_path / "h5", 1, tmp_path / "out", usual=usual)
    assert [str(path.name) for path in found.scans[0].images] == ["a.h5#image,xyz,1.0x1.0x1.0"]
    assert found.skipped[0] == "reader ssl4mis as for the model's own scans: slices=last"
    assert not any("scribble" in note for note in found.skipped)
    touch(tmp_path / "plain", "a.nii.gz")
    assert find_scans(tmp_path / "plain", 1, tmp_path / "out", usual=usual).skipped == ()
