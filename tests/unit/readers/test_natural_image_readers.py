"""Cityscapes, PASCAL VOC and SUN RGB-D, on stand-ins."""

import numpy as np
import pytest

from fewlabel.core.errors import DataError
from fewlabel.data.io.volume_reading import read_mask
from fewlabel.readers.base import choose_reader, collect_catalog, read_catalog
from kit.pictures import classes, photo, write_picture


def read(root, **settings):
    reader = choose_reader(root).name
    _, catalog = read_catalog(root, {"name": reader, **settings} if settings else "auto")
    return {case.id: case for case in catalog.cases}, catalog


def streets(root, kinds=("labelIds",), values=(7, 26, 24, 0)):
    scenes = [("train", "aachen", n) for n in range(3)] + [("val", "bonn", 3), ("test", "berlin", 4)]
    for part, city, number in scenes:
        scene = f"{city}_{number:06d}_000019"
        mask = classes(values)
        write_picture(root / f"leftImg8bit/{part}/{city}/{scene}_leftImg8bit.png", photo(mask, number))
        for kind in kinds:
            array = mask
            if kind == "color":
                table = np.zeros((34, 3), np.uint8)
                table[[7, 26, 24]] = [(128, 64, 128), (0, 0, 142), (220, 20, 60)]
                array = table[mask]
            elif kind == "labelTrainIds":
                table = np.full(34, 255, np.uint8)
                table[[7, 26, 24]] = [0, 13, 11]
                array = table[mask]
            write_picture(root / f"gtFine/{part}/{city}/{scene}_gtFine_{kind}.png", array)
    return root


@pytest.mark.parametrize("kinds", [("labelTrainIds", "labelIds", "color"), ("color", "labelIds")])
def test_cityscapes_by_classes_of_training_or_colours(tmp_path, kinds):
    found, catalog = read(streets(tmp_path, kinds))
    assert catalog.reader == "cityscapes"
    assert {name: (case.part, case.metadata["city"]) for name, case in found.items()} == {
        "aachen_000000_000019": ("", "aachen"),
        "aachen_000001_000019": ("", "aachen"),
        "aachen_000002_000019": ("", "aachen"),
        "bonn_000003_000019": ("validation", "bonn"),
        "berlin_000004_000019": ("test", "berlin"),
    }
    assert found["berlin_000004_000019"].label is None
    assert set(np.unique(read_mask(found["bonn_000003_000019"].label))) == {0, 11, 13, 255}
    assert catalog.label_names[13] == "car"
    assert catalog.label_names[255] == "ignore"
    assert len(catalog.channels) == 3


def test_cityscapes_with_all_classes(tmp_path):
    found, catalog = read(streets(tmp_path))
    assert set(np.unique(read_mask(found["bonn_000003_000019"].label))) == {0, 7, 24, 26}
    assert catalog.label_names[26] == "car"
    assert "labelIds hold void classes too" in catalog.notes[0]


def voc(root, masks="SegmentationClass"):
    for number in range(6):
        mask = classes((0, 15, 255)) if number < 5 else classes((0,))
        write_picture(root / f"JPEGImages/2007_{number:06d}.jpg", photo(mask, number))
        if number < 4:
            write_picture(root / masks / f"2007_{number:06d}.png", mask)
    lists = root / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000000\n2007_000001\n2007_000002\n")
    (lists / "val.txt").write_text("2007_000003\n")
    return root


@pytest.mark.parametrize("below", ["", "VOC2012", "VOCdevkit/VOC2012"])
def test_voc(tmp_path, below):
    voc(tmp_path / below)
    found, catalog = read(tmp_path)
    assert catalog.reader == "voc"
    assert [case.part for case in found.values()] == ["", "", "", "validation"]
    assert all(case.label is not None for case in found.values())
    assert catalog.label_names[15] == "person"
    assert catalog.label_names[255] == "ignore"
    assert catalog.notes[0].startswith("2 images are on no list: left out")
    found, _ = read(tmp_path, unlisted=True)
    assert [case.label is None for case in found.values()] == [False] * 4 + [True] * 2


def test_voc_with_the_lists_of_its_augmentation(tmp_path):
    root = voc(tmp_path, "SegmentationClassAug")
    path = "/JPEGImages/2007_{0}.jpg /SegmentationClassAug/2007_{0}.png"
    (root / "ImageSets/Segmentation/trainaug.txt").write_text(
        "\n".join(path.format(f"{number:06d}") for number in (0, 1, 2, 4))
    )
    _, catalog = collect_catalog(root)
    assert [case.id for case in catalog.cases if not case.part] == [f"2007_{number:06d}" for number in (0, 1, 2, 4)]
    assert [str(fault) for fault in catalog.faults] == [
        f"{root}/SegmentationClassAug has no 2007_000004.png, which is on a list. Restore it."
    ]


def test_voc_names_what_is_on_two_lists_or_missing(tmp_path):
    root = voc(tmp_path)
    (root / "ImageSets/Segmentation/val.txt").write_text("2007_000000\n2007_000009\n")
    with pytest.raises(DataError) as error:
        read_catalog(root)
    told = str(error.value)
    assert "2007_000000 is on the list train too" in told
    assert "2007_000009.jpg is on the list validation, but does not exist" in told


@pytest.mark.parametrize(
    ("labels", "name"),
    [("img-{}.png", "cabinet"), ("img37labels-{}.png", "cabinet"), ("img13labels-{}.png", "ceiling")],
)
def test_sun_rgbd(tmp_path, labels, name):
    for number in (1, 2, 5051, 5052):
        mask = classes((0, 3, 5))
        part = "test" if number < 5051 else "train"
        write_picture(tmp_path / f"SUNRGBD-{part}_images/img-{number:06d}.jpg", photo(mask, number))
        write_picture(tmp_path / "labels" / labels.format(f"{number:06d}"), mask)
    found, catalog = read(tmp_path)
    assert catalog.reader == "sunrgbd"
    assert [case.part for case in found.values()] == ["test", "test", "", ""]
    assert found["img-005051"].label == tmp_path / "labels" / labels.format("005051")
    assert catalog.label_names[3] == name


def test_labels_of_sun_rgbd_in_matlab_files_are_named(tmp_path):
    (tmp_path / "kv1/NYUdata/NYU0001").mkdir(parents=True)
    (tmp_path / "kv1/NYUdata/NYU0001/seg.mat").write_text("")
    with pytest.raises(DataError, match=r"labels are in seg\.mat, which is not read: get them as pictures"):
        choose_reader(tmp_path)
