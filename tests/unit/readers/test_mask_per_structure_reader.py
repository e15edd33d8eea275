import numpy as np
import pytest

from fewlabel.data.io.volume_reading import read_mask
from fewlabel.readers.base import choose_reader, collect_catalog, read_catalog
from kit.scans import noise, write_scan
from kit.tiny import checked

SHAPE = (3, 8, 6)


def structure(row):
    mask = np.zeros(SHAPE, np.uint8)
    mask[1, row] = 255
    return mask


def write(root, image, mask, patients=("p1", "p2", "p3"), names=("liver", "spleen", "aorta")):
    for patient in patients:
        write_scan(root / image.format(patient), noise(SHAPE, int(patient[1:])), (1, 1, 4))
        for row, name in enumerate(names):
            write_scan(root / mask.format(patient, name), structure(row), (1, 1, 4))
    return root


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("{}/ct.nii.gz", "{}/segmentations/{}.nii.gz"),
        ("{}/{}.nii.gz".replace("/{}", "/mri"), "{}/{}_mask.nii.gz"),
        ("images/{}.nii.gz", "masks/{}/{}.nii.gz"),
        ("images/{}.nii.gz", "masks/{1}/{0}.nii.gz"),
        ("images/{}.nii.gz", "labels/{}_{}.nii.gz"),
        ("{}.nii.gz", "{}_{}_seg.nii.gz"),
    ],
)
def test_one_class_for_each_structure(tmp_path, image, mask):
    root = write(tmp_path, image, mask)
    assert choose_reader(root).name == "mask_per_structure"
    _, catalog = read_catalog(root)
    assert catalog.label_names == {0: "background", 1: "aorta", 2: "liver", 3: "spleen"}
    assert [case.id for case in catalog.cases] == ["p1", "p2", "p3"]
    assert catalog.subjects == ("p1", "p2", "p3")
    joined = read_mask(catalog.cases[1].label)
    assert joined[1, :3, 0].tolist() == [2, 3, 1]
    assert set(np.unique(joined)) == {0, 1, 2, 3}
    assert catalog.notes == ()


def test_classes_are_the_same_where_a_scan_lacks_some(tmp_path):
    root = write(tmp_path, "{}/ct.nii.gz", "{}/segmentations/{}.nii.gz")
    (root / "p2/segmentations/liver.nii.gz").unlink()
    for path in (root / "p3/segmentations").iterdir():
        path.unlink()
    _, catalog = read_catalog(root)
    assert [case.label is None for case in catalog.cases] == [False, False, True]
    assert set(np.unique(read_mask(catalog.cases[1].label))) == {0, 1, 3}
    assert catalog.notes == ("1 labelled scans have no file of liver and are taken not to have it: p2",)


def test_overlaps_and_classes_are_shown_by_check(tmp_path):
    root = write(tmp_path, "{}/ct.nii.gz", "{}/segmentations/{}.nii.gz")
    write_scan(root / "p1/segmentations/spleen.nii.gz", structure(0), (1, 1, 4))
    report = checked(root)
    assert report.faults == ()
    assert report.labels.names == ("background", "aorta", "liver", "spleen")
    assert any(
        "p1: 6 voxels lie in liver.nii.gz and in spleen.nii.gz: the latter has them" in text for text in report.odd
    )


def test_masks_of_no_image_are_named(tmp_path):
    root = write(tmp_path, "images/{}.nii.gz", "masks/{}/{}.nii.gz")
    write_scan(root / "masks/p9/liver.nii.gz", structure(0))
    _, catalog = collect_catalog(root)
    assert str(catalog.faults[0]).startswith(f"{root}/masks/p9/liver.nii.gz is the mask of no image")


def test_two_raters_of_one_structure_are_not_structures(tmp_path):
    for name in ("21", "22"):
        write_scan(tmp_path / f"images/{name}_training.nii.gz", noise(SHAPE))
        write_scan(tmp_path / f"1st_manual/{name}_manual1.nii.gz", structure(0))
        write_scan(tmp_path / f"mask/{name}_training_mask.nii.gz", structure(0))
    assert choose_reader(tmp_path).name == "folders"


@pytest.mark.parametrize("names", [("final", "old"), ("v1", "v2", "v3"), ("neu", "alt"), ("auto", "corrected")])
def test_versions_of_one_mask_are_not_structures(tmp_path, names):
    root = write(tmp_path, "{}/mri.nii.gz", "{}/Segmentation_{}.nii.gz", names=names)
    choice, catalog = collect_catalog(root)
    assert choice.name == "folders"
    assert any("3 images have several masks" in note for note in catalog.notes)
