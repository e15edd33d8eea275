"""One scan or mask in two formats."""

import numpy as np
import pytest

from fewlabel.readers.base import collect_catalog, read_catalog
from kit.pictures import write_picture
from kit.scans import blob, noise, write_scan

SHAPE = (3, 12, 10)


def layout(root, image, masks):
    for number in (1, 2, 3):
        write_scan(root / f"{image.format(number)}.nii.gz", noise(SHAPE, number))
        for mask in masks:
            write_scan(root / f"{mask.format(number)}.nii.gz", blob(SHAPE))
    return root


@pytest.mark.parametrize(
    ("reader", "image", "masks"),
    [
        ("folders", "p{}", ("p{}_mask",)),
        ("folders", "images/p{}", ("labels/p{}",)),
        ("folders", "p{}/scan", ("p{}/mask",)),
        ("mask_per_structure", "p{}/ct", ("p{}/segmentations/liver", "p{}/segmentations/spleen")),
        ("bids", "sub-{0}/anat/sub-{0}_T1w", ("sub-{0}/anat/sub-{0}_dseg",)),
        ("acdc", "patient00{0}/patient00{0}_frame01", ("patient00{0}/patient00{0}_frame01_gt",)),
    ],
)
@pytest.mark.parametrize("suffix", ["nrrd", "nii"])
def test_a_file_in_two_formats_is_named_and_read_once(tmp_path, reader, image, masks, suffix):
    layout(tmp_path, image, masks)
    before = read_catalog(tmp_path)[1].cases
    write_scan(tmp_path / f"{image.format(2)}.{suffix}", noise(SHAPE, 2))
    write_scan(tmp_path / f"{masks[0].format(3)}.{suffix}", blob(SHAPE))
    choice, catalog = collect_catalog(tmp_path)
    assert choice.name == reader
    assert catalog.cases == before
    names = [image.format(2), masks[0].format(3)]
    wanted = [
        f"{name}.nii.gz is there in another format, too, under the same name: {name.rpartition('/')[2]}.{suffix}"
        for name in names
    ]
    assert sorted(map(str, catalog.faults)) == sorted(f"{tmp_path}/{text}. Keep one of each." for text in wanted)


def test_a_whole_set_in_two_formats_is_one_fault(tmp_path):
    for number in range(1, 6):
        for suffix in ("nii.gz", "nrrd"):
            write_scan(tmp_path / f"p{number}.{suffix}", noise(SHAPE, number))
            write_scan(tmp_path / f"p{number}_mask.{suffix}", blob(SHAPE))
    (fault,) = collect_catalog(tmp_path)[1].faults
    assert "p1.nrrd; so are 9 more files" in fault.problem


def test_an_image_and_its_mask_may_have_one_name(tmp_path):
    for number in range(1, 4):
        write_picture(tmp_path / f"a/{number}.jpg", np.uint8(noise((1, 40, 32), number)[0]))
        write_picture(tmp_path / f"a/{number}.png", np.uint8(np.arange(40)[:, None] // 20 + np.zeros((1, 32))))
        write_scan(tmp_path / f"b/{number}.nrrd", noise(SHAPE, number))
        write_scan(tmp_path / f"b/{number}.seg.nrrd", blob(SHAPE))
    for folder, suffix in (("a", ".png"), ("b", ".seg.nrrd")):
        catalog = read_catalog(tmp_path / folder)[1]
        assert [case.label.name for case in catalog.cases] == [f"{number}{suffix}" for number in (1, 2, 3)]
