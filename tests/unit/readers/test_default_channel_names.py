"""Channels that nobody named are those of most scans, so that the odd one out is what is named."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

from fewlabel.data.catalog import Case
from fewlabel.readers.default_channel_names import channel_names
from kit.pictures import classes, photo, write_picture
from kit.scans import noise, write_scan
from kit.tiny import checked


def cases(*paths: Path) -> list[Case]:
    return [Case(path.name, path.name, (path,), None) for path in paths]


def test_most_scans_decide(tmp_path: Path) -> None:
    grey = [write_scan(tmp_path / f"{at}.nii.gz", noise((3, 5, 4))) for at in range(3)]
    four = tmp_path / "four.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 3, 2), np.float32), np.eye(4)), four)
    photos = [write_picture(tmp_path / f"{at}.jpg", photo(classes(), at)) for at in range(3)]
    assert channel_names(cases(four, *grey)) == ("image",)
    assert channel_names(cases(four, four, grey[0])) == ("channel 0", "channel 1")
    assert channel_names(cases(grey[0], *photos), "CT") == ("red", "green", "blue")
    assert channel_names(cases(tmp_path / "gone.nii.gz"), "CT") == ("CT",)
    assert channel_names([]) == ("image",)


def test_check_names_the_one_scan_in_colours_not_all_others(tmp_path: Path) -> None:
    colours = np.zeros((4, 5, 3), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colours, np.eye(4)), tmp_path / "ax.nii.gz")
    for name in ("bx", "cx", "dx"):
        write_scan(tmp_path / f"{name}.nii.gz", noise((3, 5, 4)))
    for name in ("ax", "bx", "cx", "dx"):
        mask = np.zeros((3, 5, 4), np.uint8)
        mask[:, 1:3, 1:3] = 1
        nibabel.save(nibabel.Nifti1Image(mask.T, np.eye(4)), tmp_path / f"{name}_seg.nii.gz")
    (fault,) = [str(fault) for fault in checked(tmp_path).faults if "channel" in fault.problem]
    assert "ax.nii.gz: must have 1 channel, not 3" in fault
