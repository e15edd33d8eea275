"""Which names are those of masks."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewlabel.data.mask_names import is_mask_name

MASKS = """segmentation.nii.gz segmentation-0.nii segmentation-131.nii x_segmentation.mhd x_Segmentation.png
x_manual1.png 21_manual1.tif x-label.nrrd x_label.nii.gz x_gt.nii.gz x_seg.nii x.seg.nrrd x-seg.nii x_mask.png
x_dseg.nii.gz mask.nii.gz label.nii label0001.nii.gz seg_004.nii.gz mask_patient1.nii.gz p1_seg_liver.nii.gz
LungMask.mha
x_ground_truth.png x_GroundTruth.png GT.nii.gz truth.nii.gz x_labels.nii.gz x_seg_v2.nii.gz x_mask_reader2.nii.gz
x_segmentation_final.nii.gz x_mask_left.nii.gz x_manual_corrected.nii x_gtFine_labelIds.png x_msk.nii.gz
sub-01_T2w_seg-manual.nii.gz sub-01_T2w_lesion-manual.nii.gz sub-1_space-T1w_desc-brain_mask.nii.gz x_roi.nii.gz
sub-1_ses-2_dseg.nii.gz sub-1_probseg.nii.gz aparc+aseg.nii.gz x_annotation.tif x-labelmap.nrrd Segmentation.seg.nrrd
x_pred.nii.gz x_probabilities.nii.gz x_uncertainty.nii.gz x_frame01_gt.nii.gz X_SEG.NII.GZ LVSeg.nii.gz"""

SCANS = """x.nii.gz longt.nii.gz segment.nii.gz unmasked.nii.gz x_masked.nii.gz scan_0001.png imaging.nii.gz
volume-0.nii sub-1_label-L_T1w.nii.gz sub-01_desc-masked_T1w.nii.gz sub-01_ses-2_T2w.nii.gz patient001_4d.nii.gz
img0001.nii.gz manual_scan.nii.gz roi_study_12.nii.gz truthful.nii gtx.nii.gz bigt.nii.gz case_final.nii.gz
001.nii.gz left.nii.gz labelled.nii.gz x_image.nii.gz mr_train_1001_image.nii.gz"""


@pytest.mark.parametrize("name", MASKS.split())
def test_masks(name):
    assert is_mask_name(Path(name))


@pytest.mark.parametrize("name", SCANS.split())
def test_scans(name):
    assert not is_mask_name(Path("masks") / name)


FOLDERS = """labels labelsTr labelsTs labelsVal labelstr masks mask Masks segmentations segmentation seg gt GT
ground_truth Ground groundTruth
annotations 1st_manual 2nd_manual SegmentationClass SegmentationClassAug gtFine train_masks
training_labels masks_png lung_masks ISIC_Training_Part1_GroundTruth labels_test masks/patient1"""
OTHER_FOLDERS = "images imagesTr labels/images seg_challenge JPEGImages manual_scans scans/masks/img patient1"


@pytest.mark.parametrize("folder", FOLDERS.split())
def test_folders_of_masks(folder):
    root = Path("/data/labels")
    assert is_mask_name(root / folder / "a.png", root)
    assert not is_mask_name(root / folder / "a.png")
    assert not is_mask_name(root / "a.png", root)


@pytest.mark.parametrize("folder", OTHER_FOLDERS.split())
def test_other_folders(folder):
    root = Path("/data/masks")
    assert not is_mask_name(root / folder / "a.nii.gz", root)


def test_a_file_elsewhere_goes_by_its_name():
    assert not is_mask_name(Path("/other/masks/a.png"), Path("/data"))
