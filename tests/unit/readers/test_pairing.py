from pathlib import Path

import pytest

from fewlabel.readers.pairing import pair_files


def pairs(*names):
    """Image of each scan → its masks, best first."""
    pairing = pair_files(sorted(map(Path, names)))
    found = {
        "+".join(str(image.path) for image in scan.images.values()): [str(mask.path) for mask in scan.masks]
        for scan in pairing.scans
    }
    return found, [str(mask.path) for mask in pairing.strays]


@pytest.mark.parametrize("ending", ["_mask", "_seg", "_label", "-label", "_gt", "_segmentation", "_manual1", ".seg"])
def test_flat_folders_by_ending(ending):
    found, strays = pairs("a.nii.gz", f"a{ending}.nii.gz", "b.nii.gz", f"b{ending}.nii.gz", "c.nii.gz")
    assert found == {"a.nii.gz": [f"a{ending}.nii.gz"], "b.nii.gz": [f"b{ending}.nii.gz"], "c.nii.gz": []}
    assert strays == []


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/{}.nii.gz", "labels/{}.nii.gz"),
        ("Images/{}.jpg", "Masks/{}.png"),
        ("img/{}.png", "gt/{}.png"),
        ("imagesTr/{}.nii.gz", "labelsTr/{}.nii.gz"),
        ("images/train/{}.png", "labels/train/{}.png"),
        ("train/images/{}.png", "train/masks/{}.png"),
        ("train_images/{}.png", "train_masks/{}_mask.png"),
        ("images/image_{}.png", "labels/label_{}.png"),
        ("images/label_{}.png", "labels/label_{}.png"),
        ("ISIC_Training_Data/{}.jpg", "ISIC_Training_Part1_GroundTruth/{}_segmentation.png"),
        ("images/{}.png", "masks/{}_mask.png"),
        ("{}/imaging.nii.gz", "{}/segmentation.nii.gz"),
        ("data/volume-{}.nii", "labels/segmentation-{}.nii"),
        ("Case{}.mhd", "Case{}_segmentation.mhd"),
        ("{}/{}_sa.nii.gz", "{}/{}_sa_gt.nii.gz"),
        ("ct_train/ct_train_{}_image.nii.gz", "ct_train/ct_train_{}_label.nii.gz"),
        ("img/img{}.nii.gz", "label/label{}.nii.gz"),
        ("{}/T2.nii.gz", "{}/prostate_mask.nii.gz"),
        ("{}/image/scan.mha", "{}/mask/lesion.mha"),
        ("{}_t1.nii.gz", "{}_seg.nii.gz"),
        ("Axial/pat{}.nii.gz", "Ground truth/pat{}-label.nii.gz"),
        ("images/F22_Tr_{}_0000.nii.gz", "labels/F22_Tr_{}.nii.gz"),
        ("p/slice_{}.png", "p/mask_{}.png"),
        ("test/images/{}_test.tif", "test/1st_manual/{}_manual1.tif"),
    ],
)
def test_images_and_masks_of_the_usual_folders(image, mask):
    names = ["0001", "0002", "0003"]
    files = {image.format(name, name): mask.format(name, name) for name in names}
    found, strays = pairs(*files, *files.values())
    assert found == {key: [value] for key, value in files.items()}
    assert strays == []


def test_channels_share_one_mask():
    files = [f"P{p}/P{p}_{c}.nii.gz" for p in "123" for c in ("flair", "t1", "t1ce", "t2", "seg")]
    pairing = pair_files(map(Path, files))
    assert pairing.channels == ("flair", "t1", "t1ce", "t2")
    assert [scan.name for scan in pairing.scans] == ["P1", "P2", "P3"]
    assert [str(scan.masks[0].path) for scan in pairing.scans] == [f"P{p}/P{p}_seg.nii.gz" for p in "123"]
    assert pairing.strays == ()


def test_sequences_with_masks_of_their_own_are_scans():
    found, _ = pairs("a_t1.nii", "a_t1_seg.nii", "a_t2.nii", "a_t2_seg.nii")
    assert found == {"a_t1.nii": ["a_t1_seg.nii"], "a_t2.nii": ["a_t2_seg.nii"]}


def test_four_digits_are_channels_only_where_masks_say_so():
    found, _ = pairs("images/a_0000.nii", "images/a_0001.nii", "labels/a.nii")
    assert found == {"images/a_0000.nii+images/a_0001.nii": ["labels/a.nii"]}
    found, _ = pairs("images/a_0000.nii", "images/a_0001.nii", "labels/a_0000.nii", "labels/a_0001.nii")
    assert len(found) == 2
    found, _ = pairs("images/a_0000.nii", "images/a_0001.nii")
    assert len(found) == 2


def test_of_several_masks_the_one_that_says_label_is_first():
    found, _ = pairs("images/21_training.tif", "1st_manual/21_manual1.tif", "mask/21_training_mask.tif")
    assert found == {"images/21_training.tif": ["1st_manual/21_manual1.tif", "mask/21_training_mask.tif"]}
    found, _ = pairs("p_cropped.nii.gz", "p_cropped_seg.nii.gz", "p_cropped_seg_endpoints.nii.gz")
    assert found == {"p_cropped.nii.gz": ["p_cropped_seg.nii.gz", "p_cropped_seg_endpoints.nii.gz"]}


def test_names_of_masks_in_a_folder_of_data_stay_masks():
    found, strays = pairs("data/c1/imaging.nii.gz", "data/c1/segmentation.nii.gz", "x/labels/c9.nii.gz")
    assert found == {"data/c1/imaging.nii.gz": ["data/c1/segmentation.nii.gz"]}
    assert strays == ["x/labels/c9.nii.gz"]


def test_a_mask_without_an_image_is_a_stray():
    found, strays = pairs("images/a.png", "masks/a.png", "masks/b.png")
    assert found == {"images/a.png": ["masks/a.png"]}
    assert strays == ["masks/b.png"]


def test_one_name_in_two_parts_is_two_scans():
    files = [f"{part}/{kind}/1.png" for part in ("train", "test") for kind in ("images", "masks")]
    found, strays = pairs(*files)
    assert found == {f"{part}/images/1.png": [f"{part}/masks/1.png"] for part in ("train", "test")}
    assert strays == []


def test_masks_of_frames_belong_to_the_image_of_all():
    found, _ = pairs("p1/p1_4d.nii.gz", "p1/p1_frame01_gt.nii.gz", "p1/p1_frame12_gt.nii.gz")
    assert found == {"p1/p1_4d.nii.gz": ["p1/p1_frame01_gt.nii.gz", "p1/p1_frame12_gt.nii.gz"]}


def test_maps_are_left_out():
    assert pairs("a.jpg", "a_segmentation.png", "a_superpixels.png") == ({"a.jpg": ["a_segmentation.png"]}, [])
