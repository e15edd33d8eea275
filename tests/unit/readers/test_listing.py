"""The files below a folder, whatever leads where."""

from pathlib import Path

from fewlabel.readers.listing import files_below


def test_links_that_lead_back_are_not_followed(tmp_path):
    (tmp_path / "a" / "images").mkdir(parents=True)
    (tmp_path / "a" / "images" / "x.nii.gz").write_bytes(b"1")
    for number in range(5):
        (tmp_path / f"top{number}").symlink_to(tmp_path, target_is_directory=True)
        (tmp_path / "a" / "images" / f"up{number}").symlink_to(tmp_path / "a", target_is_directory=True)
    assert files_below(tmp_path) == (Path("a/images/x.nii.gz"),)


def test_other_links_are_followed_each(tmp_path):
    elsewhere, root = tmp_path / "elsewhere", tmp_path / "root"
    elsewhere.mkdir()
    root.mkdir()
    (elsewhere / "x.nii.gz").write_bytes(b"1")
    for name in ("imagesTr", "imagesTs"):
        (root / name).symlink_to(elsewhere, target_is_directory=True)
    assert files_below(root) == (Path("imagesTr/x.nii.gz"), Path("imagesTs/x.nii.gz"))
