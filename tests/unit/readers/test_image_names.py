from pathlib import Path

import pytest

from fewlabel.readers.image_names import is_neither, part_of_folder, split_channel, understood


def of_folder(name):
    """Whether what lies in a folder is a mask, and whether it is an image, by the folder's name."""
    named = understood(Path(name, "x.nii.gz"))
    return named.mask, named.image_folder


@pytest.mark.parametrize(
    "name",
    [
        *("labels", "Labels", "labelsTr", "masks_train", "train_masks", "MASK", "GroundTruth", "Ground truth", "gt"),
        *("Masken", "masques", "máscaras", "Segmentierungen", "Kontur"),
    ],
)
def test_folders_of_masks(name):
    assert of_folder(name) == (True, False)


@pytest.mark.parametrize(
    "name", ["images", "imagesTs", "val_img", "JPEGImages", "Image", "ISIC_Training_Data", "Bilder", "imágenes"]
)
def test_folders_of_images(name):
    assert of_folder(name) == (False, True)


@pytest.mark.parametrize("name", ["labelled", "patient01", "unmasked", "s0001", "segmentation_study", "Bildung"])
def test_other_folders(name):
    assert of_folder(name) == (False, False)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train", ""),
        ("imagesTr", ""),
        ("imagesTs", "test"),
        ("ISIC2018_Task1-2_Validation_Input", "validation"),
        ("val", "validation"),
        ("ct_test", "test"),
        ("contrast", None),
        ("BraTS-GLI-00000-000", None),
        ("BraTS20_Validation_001", "validation"),
        ("labels_val", "validation"),
        ("ts", "test"),
        ("tsunami", None),
    ],
)
def test_parts_by_folder(name, part):
    assert part_of_folder(name) == part


@pytest.mark.parametrize(
    ("path", "home", "bare", "mask", "part"),
    [
        ("case_00000/imaging.nii.gz", ("case_00000",), "", False, ""),
        ("case_00000/segmentation.nii.gz", ("case_00000",), "", True, ""),
        ("volume-0.nii", (), "0", False, ""),
        ("segmentation-0.nii", (), "0", True, ""),
        ("mr_train/mr_train_1001_image.nii.gz", ("mr_train",), "mr_train_1001", False, ""),
        ("images/val/a.png", (), "a", False, "validation"),
        ("test/labels/a.png", (), "a", True, "test"),
        ("images/label_1.png", (), "1", True, ""),
        ("labels/training/a.nii.gz", (), "a", True, ""),
        ("labels/test/a.nii.gz", (), "a", True, "test"),
        ("images/01_test.tif", (), "01", False, ""),
        ("x/any.seg.nrrd", ("x",), "any", True, ""),
    ],
)
def test_what_a_name_says(path, home, bare, mask, part):
    named = understood(Path(path))
    assert (named.home, named.bare, named.mask, named.part) == (home, bare, mask, part)


def test_a_plain_mask_says_less_of_a_label_than_other_words():
    manual, label, mask = (
        understood(Path(path)).rank for path in ("1st_manual/21_manual1.tif", "labels/21.tif", "mask/21_mask.tif")
    )
    assert manual < label < mask


def test_channels_at_the_end_of_names():
    assert split_channel("BraTS_001_t1ce") == ("BraTS_001", "t1ce")
    assert split_channel("flair") == ("", "flair")
    assert split_channel("a_0001") == ("a", "0001")
    assert split_channel("a_1") is None
    assert split_channel("at1") is None


def test_maps_are_neither():
    assert is_neither(Path("a_probabilities.nii.gz"))
    assert is_neither(Path("ISIC_0000000_superpixels.png"))
    assert not is_neither(Path("a_mask.png"))
